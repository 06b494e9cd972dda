//! What sessiond must reach, as ratios within one run, and where it stands.

use serde::Serialize;

use crate::{
    figures::Figure,
    growth::Growth,
    plan::{FULL, LONE, MAIN, Shape, What, Who},
    report::{Measured, find},
    run::Sample,
};

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Where it aims.
    Aim,
    /// As good as it must be.
    Pass,
    /// Not as good as it must be.
    Short,
    /// Nobody knows.
    Unmeasured,
}

/// One thing to reach.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Of what.
    pub what: &'static str,
    /// Whether less is better.
    pub at_most: bool,
    /// As good as it must be.
    pub must: f64,
    /// As good as it should be.
    pub aim: f64,
    /// As good as it is.
    pub measured: Option<Figure>,
    /// Where that stands.
    pub standing: Standing,
}

impl Row {
    fn new(what: &'static str, at_most: bool, (must, aim): (f64, f64), measured: Option<Figure>) -> Self {
        let reaches = |value: f64, goal: f64| if at_most { value <= goal } else { value >= goal };
        let standing = match measured {
            None => Standing::Unmeasured,
            Some(Figure { median, .. }) if reaches(median, aim) => Standing::Aim,
            Some(Figure { median, .. }) if reaches(median, must) => Standing::Pass,
            Some(_) => Standing::Short,
        };
        Self { what, at_most, must, aim, measured, standing }
    }
}

/// All rows, of what was measured.
pub fn rows(cells: &[Measured], growth: &Growth) -> Vec<Row> {
    let values = |who, what, shape: Shape, value: fn(&Sample) -> f64| -> Vec<f64> {
        find(cells, who, what, shape).map(|cell| cell.samples.iter().map(value).collect()).unwrap_or_default()
    };
    // Of two at the same callers.
    let ratio = |(who, what), (other, call), shape, value| {
        Figure::of_ratios(&values(who, what, shape, value), &values(other, call, shape, value))
    };
    let (open, echo, tuned, textbook) =
        ((Who::Redis, What::Open), (Who::Echo, What::Open), (Who::Tuned, What::Open), (Who::Textbook, What::Open));
    let (replace, change, malformed) =
        ((Who::Redis, What::Replace), (Who::Redis, What::Change), (Who::Redis, What::Malformed));
    let server: fn(&Sample) -> f64 = |sample| sample.server;
    let tail = find(cells, open.0, open.1, FULL).and_then(|cell| cell.figure(|sample| sample.p999 / sample.p50));
    let most = |what, goals, measured| Row::new(what, true, goals, measured);
    let least = |what, goals, measured| Row::new(what, false, goals, measured);
    vec![
        most("server CPU of Open, against echo", (0.65, 0.45), ratio(open, echo, MAIN, server)),
        most("server CPU of Open, against tuned echo", (2.0, 1.4), ratio(open, tuned, MAIN, server)),
        least("throughput of Open, against echo", (1.4, 2.0), ratio(open, echo, MAIN, |sample| sample.rate)),
        most("server CPU of Open, against textbook", (0.22, 0.15), ratio(open, textbook, MAIN, server)),
        least("throughput of Open, against textbook", (3.5, 5.0), ratio(open, textbook, MAIN, |sample| sample.rate)),
        most("p99 of Open, against textbook", (0.4, 0.25), ratio(open, textbook, MAIN, |sample| sample.p99)),
        most("p99.9 of Open at 256 in flight, against its p50", (10.0, 5.0), tail),
        most("server CPU of Save, whole map, against Open", (1.25, 1.1), ratio(replace, open, MAIN, server)),
        most("server CPU of Save, one key, against Open", (1.25, 1.1), ratio(change, open, MAIN, server)),
        most("Redis CPU of Save, one key, against whole map", (2.0, 1.3), ratio(change, replace, MAIN, |s| s.redis)),
        most("p50 of Open, one in flight, against echo", (1.9, 1.5), ratio(open, echo, LONE, |sample| sample.p50)),
        most("server CPU of Open, malformed, against tuned echo", (1.1, 1.0), ratio(malformed, tuned, MAIN, server)),
        most("memory when idle (MiB)", (12.0, 8.0), growth.idle),
        most("memory per connection after one RPC (KiB)", (48.0, 24.0), growth.connection),
        most("memory store, bytes per session", (900.0, 700.0), growth.session),
        most("Open's CPU at 1,000,000 sessions, against 1,000", (1.15, 1.0), growth.sessions),
        most("Open's CPU at 10,000 connections, against 100", (1.5, 1.2), growth.connections),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Cell, HALF};

    fn sample(server: f64, rate: f64) -> Sample {
        let (p50, p99, p999) = (100.0, 200.0, 400.0);
        let (redis, generator, waits, evictions, peak) = (5.0, 8.0, 0.1, 0.0, 10.0);
        Sample { rate, p50, p99, p999, server, redis, generator, waits, evictions, peak }
    }

    fn measured(who: Who, samples: Vec<Sample>) -> Measured {
        Measured {
            cell: Cell { who, what: What::Open, shape: MAIN, size: HALF, generators: 1 },
            samples,
            syscalls: None,
        }
    }

    #[test]
    fn a_row_stands_where_its_median_is() {
        let at = |median| Some(Figure { median, low: 0.0, high: 9.0 });
        for (at_most, goals, measured, standing) in [
            (true, (2.0, 1.0), at(1.0), Standing::Aim),
            (true, (2.0, 1.0), at(1.5), Standing::Pass),
            (true, (2.0, 1.0), at(2.1), Standing::Short),
            (false, (2.0, 3.0), at(3.5), Standing::Aim),
            (false, (2.0, 3.0), at(2.0), Standing::Pass),
            (false, (2.0, 3.0), at(1.9), Standing::Short),
            (true, (2.0, 1.0), None, Standing::Unmeasured),
        ] {
            assert_eq!(Row::new("", at_most, goals, measured).standing, standing, "{at_most} {measured:?}");
        }
    }

    #[test]
    fn rows_are_ratios_of_the_same_round() {
        let cells = [
            measured(Who::Echo, vec![sample(30.0, 10.0), sample(60.0, 5.0), sample(30.0, 10.0)]),
            measured(Who::Redis, vec![sample(15.0, 20.0), sample(30.0, 10.0), sample(15.0, 20.0)]),
        ];
        let rows = rows(&cells, &Growth::default());
        assert_eq!(rows[0].measured, Some(Figure { median: 0.5, low: 0.5, high: 0.5 }));
        assert_eq!(rows[0].standing, Standing::Pass);
        assert_eq!((rows[2].measured.unwrap().median, rows[2].standing), (2.0, Standing::Aim));
        assert_eq!(rows[1].standing, Standing::Unmeasured, "the tuned echo was not measured");
        assert_eq!(rows.len(), 17);
    }
}
