//! Whether a history is that of one session which does one thing at a time (Wing and Gong, 1993; states that were met
//! before are not searched again, as Lowe has it).

use std::{collections::HashSet, time::Duration};

use super::{Answer, Call, Event, History, model::Session};

/// What can be said of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains it.
    Linearizable,
    /// There is none. These events, in this order, are the most that can be explained.
    Violation(Vec<usize>),
    /// The search was given up.
    Undecided,
}

/// How many states are looked at before a search is given up: about a second's work.
const MOST: usize = 30_000;

/// How long a mark is kept in any case (`Ring::SPAN`), and then some less, as the clocks are two.
const REMEMBERS: Duration = Duration::from_millis(4_500);

/// Looks for an order of the events that the model can follow: one in which nothing stands before what was told before it
/// was asked. What nobody knows of may stand anywhere after it was asked, or nowhere.
///
/// A Save has two moments: that of its effect, and that of its answer, which shows the session as it stands then. They are one,
/// unless the answer of Redis was lost and the service asked it again: then others may come in between, and even a new id or a
/// Destroy, of which it is told. So each Save stands for two: first perhaps what nobody knows of, and then what was told.
pub fn judge(history: &History) -> Verdict {
    // Whoever only asked, and was not told, says nothing.
    let says = |event: &&Event| !(event.is_ambiguous() && matches!(event.call, Call::Open(_)));
    let mut events: Vec<_> = history.0.iter().enumerate().filter(|(_, event)| says(event)).collect();
    let first = |(at, event): &(usize, &Event)| {
        let is_save = matches!(event.call, Call::Create(..) | Call::Save(_)) && !event.is_ambiguous();
        is_save.then(|| (*at, Event { answer: Answer::Unknown, ..(*event).clone() }))
    };
    let mut first_of = vec![0; events.len()];
    let first: Vec<_> = events.iter().map(first).collect();
    for (bit, (at, event)) in first.iter().enumerate().filter_map(|(bit, first)| Some((bit, first.as_ref()?))) {
        first_of[bit] = 1 << events.len();
        events.push((*at, event));
    }
    assert!(events.len() <= 128, "so many events can be explained: a bit each");
    let ambiguous = |(bit, (_, event)): (usize, &(usize, &Event))| (!event.is_ambiguous()).then_some(1 << bit);
    let mut search = Search {
        told: events.iter().enumerate().filter_map(ambiguous).sum(),
        first_of,
        events,
        forgets: history.length() > REMEMBERS,
        met: HashSet::new(),
        path: Vec::new(),
        best: Vec::new(),
        best_told: 0,
    };
    match search.from(0, &Session::None) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Violation(search.best),
        None => Verdict::Undecided,
    }
}

struct Search<'a> {
    /// With their numbers in the history.
    events: Vec<(usize, &'a Event)>,
    /// Those that must be explained: a bit each.
    told: u128,
    /// The bit of what each may have been before it was told, if there is one. When it is told, that is over.
    first_of: Vec<u128>,
    forgets: bool,
    met: HashSet<(u128, Session)>,
    path: Vec<usize>,
    best: Vec<usize>,
    best_told: u32,
}

impl Search<'_> {
    /// Whether all is explained from here on; `None` if the search is given up.
    fn from(&mut self, done: u128, session: &Session) -> Option<bool> {
        if done & self.told == self.told {
            return Some(true);
        }
        if self.met.len() >= MOST {
            return None;
        }
        if !self.met.insert((done, session.clone())) {
            return Some(false);
        }
        let explained = (done & self.told).count_ones();
        if explained > self.best_told || self.best.is_empty() {
            (self.best, self.best_told) = (self.path.clone(), explained);
        }
        let is_open = |(bit, _): &(usize, (usize, &Event))| done & (1 << bit) == 0;
        let open: Vec<_> = self.events.iter().copied().enumerate().filter(is_open).collect();
        let told = open.iter().filter(|(_, (_, event))| !event.is_ambiguous()).map(|(_, (_, event))| event.told);
        let first_told = told.min().unwrap_or(Duration::MAX);
        for (bit, (at, event)) in open.into_iter().filter(|(_, (_, event))| event.asked <= first_told) {
            let Some(next) = session.after(event, self.forgets) else { continue };
            self.path.push(at);
            let first = self.first_of.get(bit).copied().unwrap_or_default();
            if self.from(done | (1 << bit) | first, &next)? {
                return Some(true);
            }
            self.path.pop();
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests;
