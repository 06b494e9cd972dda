//! Who is measured at what, and in which order.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use crate::{echo::SIZES, load::Time};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A tonic server as it comes out of the box, which answers the same bytes.
    Echo,
    /// The same handler in sessiond's server shape.
    Tuned,
    /// The same calls as bb8-redis's README shows them.
    Textbook,
    /// sessiond on Redis.
    Redis,
    /// sessiond on a Redis that it speaks to over TLS.
    Tls,
    /// sessiond on a Redis that keeps an append-only file.
    Aof,
    /// Another build of sessiond on the same Redis, for what a change bought.
    Other,
    /// sessiond on its memory store.
    Memory,
    /// An application that asks Redis by itself.
    Direct,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Open of a session that is there.
    Open,
    /// Open of one that is not.
    Miss,
    /// Open of what is no id.
    Malformed,
    /// Save that makes a session.
    Create,
    /// Save of the whole map.
    Replace,
    /// Save of one key of ten, by `changed_keys`.
    Change,
    /// Destroy of a session that is there.
    Destroy,
    /// Nine Opens to one Save of one key.
    Mix,
}

/// Connections, and calls under way on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape(pub usize, pub usize);

/// One figure of the table: who, at what, how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cell {
    /// Who is measured.
    pub who: Who,
    /// At what.
    pub what: What,
    /// By how many callers.
    pub shape: Shape,
    /// Bytes of a session's data.
    pub size: usize,
    /// From how many processes, which share connections and calls evenly; one is the bench itself.
    pub generators: usize,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Whether it works at all.
    Quick,
    /// What the verdict needs, and a subset of the shapes and sizes.
    Usual,
    /// All of it.
    Full,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How much of it.
    pub extent: Extent,
    /// What is measured in each round, neighbours being what is compared.
    pub cells: Vec<Cell>,
    /// How often.
    pub rounds: usize,
    /// How long each time.
    pub time: Time,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Echo => "echo",
            Self::Tuned => "tuned echo",
            Self::Textbook => "textbook",
            Self::Redis => "sessiond, Redis",
            Self::Tls => "sessiond, Redis over TLS",
            Self::Aof => "sessiond, Redis with AOF",
            Self::Other => "other sessiond",
            Self::Memory => "sessiond, memory",
            Self::Direct => "direct",
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "Open",
            Self::Miss => "Open, miss",
            Self::Malformed => "Open, malformed",
            Self::Create => "Save, create",
            Self::Replace => "Save, whole map",
            Self::Change => "Save, one key",
            Self::Destroy => "Destroy",
            Self::Mix => "9 Opens, 1 Save",
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}", self.0, self.1))
    }
}

impl Cell {
    /// Its callers as the table shows them: `8x8`, or `8x8 from 4` processes.
    pub fn shown_callers(&self) -> String {
        match self.generators {
            1 => self.shape.to_string(),
            generators => format!("{} from {generators}", self.shape),
        }
    }
}

/// As they are called in the table.
macro_rules! serialized_as_shown {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

serialized_as_shown!(Who, What, Shape);

/// One at a time: what a single visitor waits.
pub const LONE: Shape = Shape(1, 1);
/// What most figures are taken at.
pub const MAIN: Shape = Shape(4, 16);
/// Many applications with a call each.
pub const WIDE: Shape = Shape(64, 1);
/// More than two cores can do.
pub const FULL: Shape = Shape(4, 64);
/// As many calls under way as [`MAIN`] has, in a shape that eight processes can share.
pub const SHARED: Shape = Shape(8, 8);
/// Half a KiB: what most figures are taken at.
pub const HALF: usize = 512;

const ALL: [What; 8] =
    [What::Open, What::Malformed, What::Miss, What::Replace, What::Change, What::Mix, What::Create, What::Destroy];

/// A cell, and behind it what is compared with it: sessiond on a Redis that is run in another way.
fn beside(cell: Cell) -> Vec<Cell> {
    let twin = |who| vec![cell, Cell { who, ..cell }];
    match cell {
        Cell { who: Who::Redis, what: What::Open, shape: MAIN, size: HALF, .. } => twin(Who::Tls),
        Cell { who: Who::Redis, what: What::Replace | What::Change, shape: MAIN, size: HALF, .. } => twin(Who::Aof),
        _ => vec![cell],
    }
}

impl Plan {
    /// Of this extent.
    pub fn of(extent: Extent) -> Self {
        let cell = |who, what, shape, size| Cell { who, what, shape, size, generators: 1 };
        // What is compared stands side by side.
        let opens = |shape, size| {
            [Who::Echo, Who::Redis, Who::Tuned, Who::Textbook, Who::Memory, Who::Direct]
                .map(|who| cell(who, What::Open, shape, size))
        };
        let rest = |shape, size| {
            let ours = |who| ALL[1..].iter().map(move |what| cell(who, *what, shape, size));
            let textbook =
                [What::Replace, What::Create, What::Destroy].map(|what| cell(Who::Textbook, what, shape, size));
            ours(Who::Redis).chain(ours(Who::Memory)).chain(textbook)
        };
        // The number of processes is all that differs.
        let shared = [1, 2, 4, 8].into_iter().flat_map(|generators| {
            [Who::Echo, Who::Redis].map(|who| Cell { generators, ..cell(who, What::Open, SHARED, HALF) })
        });
        let mut cells: Vec<Cell> = Vec::new();
        let shapes = [MAIN, LONE, FULL, WIDE];
        match extent {
            Extent::Quick => {
                cells.extend(opens(MAIN, HALF));
                cells.extend(rest(MAIN, HALF));
                cells.extend(opens(LONE, HALF).into_iter().take(2));
                cells.extend(opens(FULL, HALF).into_iter().skip(1).take(1));
            }
            Extent::Usual => {
                cells.extend(opens(MAIN, HALF));
                cells.extend(rest(MAIN, HALF));
                cells.extend(shapes[1..].iter().flat_map(|shape| opens(*shape, HALF)));
                for size in SIZES.into_iter().filter(|size| *size != HALF) {
                    cells.extend(opens(MAIN, size));
                    cells.extend([What::Replace, What::Change].map(|what| cell(Who::Redis, what, MAIN, size)));
                }
                cells.extend(shared);
                // There is no time for all, and without a service fewer figures will do.
                cells.retain(|cell| cell.who != Who::Direct || (cell.shape == MAIN && cell.size >= HALF));
            }
            Extent::Full => {
                for (shape, size) in shapes.iter().flat_map(|shape| SIZES.map(|size| (*shape, size))) {
                    cells.extend(opens(shape, size));
                    cells.extend(rest(shape, size));
                }
                cells.extend(shared);
            }
        }
        let cells = cells.into_iter().flat_map(beside).collect();
        let (rounds, warm, run) = match extent {
            Extent::Quick => (3, 50, 150),
            Extent::Usual => (5, 150, 750),
            Extent::Full => (5, 200, 1000),
        };
        let time = Time { warm: Duration::from_millis(warm), run: Duration::from_millis(run) };
        Self { extent, cells, rounds, time }
    }

    /// The same, with another build of sessiond measured right after each cell of sessiond on Redis.
    pub fn with_other(mut self) -> Self {
        let twins = |cell| match cell {
            Cell { who: Who::Redis, .. } => vec![cell, Cell { who: Who::Other, ..cell }],
            _ => vec![cell],
        };
        self.cells = self.cells.into_iter().flat_map(twins).collect();
        self
    }

    /// The cells of a round: every second round backwards, so that what changes steadily favours nobody.
    pub fn round(&self, number: usize) -> Vec<Cell> {
        let mut cells = self.cells.clone();
        if number % 2 == 1 {
            cells.reverse();
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_cell_is_measured_twice_in_a_round() {
        for extent in [Extent::Quick, Extent::Usual, Extent::Full] {
            let cells = Plan::of(extent).cells;
            assert_eq!(cells.iter().collect::<HashSet<_>>().len(), cells.len(), "{extent:?}");
        }
    }

    #[test]
    fn a_usual_run_ends_within_six_minutes_and_a_quick_one_within_forty_seconds() {
        for (extent, most) in [(Extent::Quick, 40), (Extent::Usual, 360)] {
            let plan = Plan::of(extent);
            // What each cell takes besides: its connections, its messages, the ends of its calls.
            let each = plan.time.warm + plan.time.run + Duration::from_millis(50);
            let all = each * (plan.cells.len() * plan.rounds) as u32;
            assert!(all < Duration::from_secs(most - 15), "{extent:?}: {all:?}");
        }
    }

    #[test]
    fn a_redis_run_in_another_way_is_measured_right_behind_the_usual_one() {
        for extent in [Extent::Quick, Extent::Usual, Extent::Full] {
            let cells = Plan::of(extent).cells;
            for (who, count) in [(Who::Tls, 1), (Who::Aof, 2)] {
                let behind = |pair: &&[Cell]| pair[1].who == who && pair[0] == Cell { who: Who::Redis, ..pair[1] };
                assert_eq!(cells.windows(2).filter(behind).count(), count, "{extent:?}: {who}");
            }
        }
    }

    #[test]
    fn what_several_processes_share_is_dealt_out_evenly() {
        let cells = Plan::of(Extent::Usual).cells;
        let shared: Vec<_> = cells.iter().filter(|cell| cell.shape == SHARED).collect();
        assert_eq!(shared.iter().map(|cell| cell.generators).max(), Some(8));
        for cell in shared {
            assert_eq!(cell.shape.0 % cell.generators, 0, "{}", cell.name());
            assert_eq!(cell.shape.0 * cell.shape.1, MAIN.0 * MAIN.1);
        }
        assert!(Plan::of(Extent::Quick).cells.iter().all(|cell| cell.generators == 1));
    }

    #[test]
    fn a_cell_tells_from_how_many_processes_it_is_called() {
        let cell = Cell { who: Who::Echo, what: What::Open, shape: SHARED, size: HALF, generators: 1 };
        assert_eq!(cell.name(), "echo, Open, 8x8, 512 bytes");
        assert_eq!(Cell { generators: 4, ..cell }.name(), "echo, Open, 8x8 from 4, 512 bytes");
    }

    #[test]
    fn another_build_is_measured_beside() {
        let plan = Plan::of(Extent::Quick).with_other();
        let beside = |pair: &&[Cell]| pair[0].who == Who::Redis && pair[1] == Cell { who: Who::Other, ..pair[0] };
        let ours = plan.cells.iter().filter(|cell| cell.who == Who::Redis).count();
        assert_eq!(plan.cells.windows(2).filter(beside).count(), ours);
    }

    #[test]
    fn every_second_round_goes_backwards() {
        let plan = Plan::of(Extent::Quick);
        assert_eq!(plan.round(0), plan.cells);
        assert_eq!(plan.round(1).first(), plan.cells.last());
    }
}
