//! What callers felt.

use std::{collections::BTreeMap, fmt, time::Duration};

use tonic::Status;
use tonic_types::StatusExt;

/// One call, from when it was sent to when its answer was read.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) start: Duration,
    pub(super) end: Duration,
    pub(super) is_write: bool,
    pub(super) ok: bool,
    pub(super) is_outage: bool,
}

/// What callers felt.
#[derive(Default)]
pub struct Figures {
    calls: Vec<Call>,
    /// How much later than it asked for the load itself was woken: what a busy machine adds to every time that is told here.
    pub(super) lags: Vec<Duration>,
    /// How often each code and reason was given.
    pub codes: BTreeMap<String, usize>,
    /// Operations that were not answered, repeats included.
    pub failed: usize,
    /// Operations that were not begun, as too many were under way.
    pub held_back: usize,
}

fn part(mut times: Vec<Duration>, in_a_thousand: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * in_a_thousand).div_ceil(1000);
    times.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// The code, and the reason if it has one.
pub(super) fn code_of(status: &Status) -> String {
    let code = format!("{:?}", status.code());
    // As gRPC spells it: NotFound is NOT_FOUND.
    let mut name = String::new();
    for letter in code.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    match status.get_details_error_info() {
        Some(info) => format!("{name} {}", info.reason),
        None => name,
    }
}

impl Figures {
    pub(super) fn note(&mut self, call: Call, code: Option<String>) {
        *self.codes.entry(code.unwrap_or_else(|| "OK".to_owned())).or_default() += 1;
        self.calls.push(call);
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many were answered by nobody.
    pub fn outages(&self) -> usize {
        self.calls.iter().filter(|call| call.is_outage).count()
    }

    /// How often a code was given that is none of these, OK, or a refusal that the load itself brings about.
    pub fn others(&self, expected: &[&str]) -> usize {
        let natural = ["OK", "NOT_FOUND SESSION_NOT_FOUND", "ABORTED SESSION_CHANGED"];
        let known = |code: &String| natural.contains(&&code[..]) || expected.contains(&&code[..]);
        self.codes.iter().filter(|(code, _)| !known(code)).map(|(_, times)| times).sum()
    }

    /// In what time this part of a thousand was answered.
    pub fn answered(&self, in_a_thousand: usize) -> Duration {
        part(self.calls.iter().map(|call| call.end - call.start).collect(), in_a_thousand)
    }

    /// Within what time the load itself was woken, this part of a thousand.
    pub fn lag(&self, in_a_thousand: usize) -> Duration {
        part(self.lags.clone(), in_a_thousand)
    }

    /// How long after this moment the first write was acknowledged, if any was.
    pub fn first_write_after(&self, then: Duration) -> Option<Duration> {
        let after = self.calls.iter().filter(|call| call.ok && call.is_write && call.end > then);
        after.map(|call| call.end - then).min()
    }

    /// The longest time between two writes that were acknowledged one after the other, from this moment on.
    pub fn longest_gap(&self, since: Duration) -> Duration {
        let mut ends: Vec<_> = self
            .calls
            .iter()
            .filter(|call| call.ok && call.is_write)
            .map(|call| call.end)
            .filter(|end| *end > since)
            .collect();
        ends.push(since);
        ends.sort_unstable();
        ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// When the last write was acknowledged.
    pub fn last_write(&self) -> Duration {
        self.calls.iter().filter(|call| call.ok && call.is_write).map(|call| call.end).max().unwrap_or_default()
    }

    /// When the last call ended that was answered by nobody.
    pub fn last_outage(&self) -> Option<Duration> {
        self.calls.iter().filter(|call| call.is_outage).map(|call| call.end).max()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls (", self.calls.len())?;
        for (number, (code, times)) in self.codes.iter().enumerate() {
            write!(f, "{}{times} {code}", if number > 0 { ", " } else { "" })?;
        }
        let [half, p99, p999, max] = [500, 990, 999, 1000].map(|part| self.answered(part).as_secs_f64() * 1e3);
        write!(f, "), answered in {half:.1} / {p99:.1} / {p999:.1} / {max:.1} ms (p50, p99, p99.9, max)")?;
        write!(f, ", longest gap between writes {:.2} s", self.longest_gap(self.began()).as_secs_f64())?;
        if !self.lags.is_empty() {
            write!(f, ", own lag {:.1} ms (p99.9)", self.lag(999).as_secs_f64() * 1e3)?;
        }
        if self.held_back > 0 {
            write!(f, ", {} held back", self.held_back)?;
        }
        Ok(())
    }
}

impl Figures {
    fn began(&self) -> Duration {
        self.calls.iter().map(|call| call.start).min().unwrap_or_default()
    }
}
