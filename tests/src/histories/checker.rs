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
const REMEMBERS: Duration = Duration::from_millis(2_500);

/// Looks for an order of the events that the model can follow: one in which nothing stands before what was told before it
/// was asked. What nobody knows of may stand anywhere after it was asked, or nowhere.
pub fn judge(history: &History) -> Verdict {
    assert!(history.0.len() <= 64, "a history has at most 64 events: a bit each");
    // Whoever only asked, and was not told, says nothing.
    let says = |event: &Event| !(event.is_ambiguous() && matches!(event.call, Call::Open(_)));
    let events: Vec<_> = history.0.iter().enumerate().filter(|(_, event)| says(event)).collect();
    let mut search = Search {
        told: events.iter().filter(|(_, event)| !event.is_ambiguous()).map(|(at, _)| 1 << at).sum(),
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
    told: u64,
    forgets: bool,
    met: HashSet<(u64, Session)>,
    path: Vec<usize>,
    best: Vec<usize>,
    best_told: u32,
}

impl Search<'_> {
    /// Whether all is explained from here on; `None` if the search is given up.
    fn from(&mut self, done: u64, session: &Session) -> Option<bool> {
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
        let open: Vec<_> = self.events.iter().copied().filter(|(at, _)| done & (1 << at) == 0).collect();
        let told = open.iter().filter(|(_, event)| event.answer != Answer::Unknown).map(|(_, event)| event.told);
        let first_told = told.min().unwrap_or(Duration::MAX);
        for (at, event) in open.into_iter().filter(|(_, event)| event.asked <= first_told) {
            let Some(next) = session.after(event, self.forgets) else { continue };
            self.path.push(at);
            if self.from(done | (1 << at), &next)? {
                return Some(true);
            }
            self.path.pop();
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests;
