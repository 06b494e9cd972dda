//! A limit for log lines that callers can cause at will.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one log line pass per second, and counts the lines that it holds back. Meant for a `static`: the limit then holds for
/// all threads together.
#[derive(Debug)]
pub(crate) struct LogLimit {
    /// When the last line passed, in milliseconds since the first use of any limit, plus one; 0 before the first line.
    last: AtomicU64,
    held_back: AtomicU64,
}

impl LogLimit {
    pub(crate) const fn new() -> Self {
        Self { last: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// Whether a line may be logged now; if so, how many lines were held back since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        self.pass_at(START.elapsed())
    }

    fn pass_at(&self, since_start: Duration) -> Option<u64> {
        let now = since_start.as_millis() as u64 + 1;
        let last = self.last.load(Ordering::Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= INTERVAL.as_millis() as u64;
        // Of several threads that come at once, the one that moves `last` logs.
        if is_due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_and_the_others_are_counted() {
        let limit = LogLimit::new();
        let passed: Vec<_> = [0, 1, 999, 1000, 1001, 2500].map(|ms| limit.pass_at(Duration::from_millis(ms))).into();
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
