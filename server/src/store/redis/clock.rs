//! What this process knows of Redis's clock: an offset from its own steady one, learned anew with every answer that
//! tells the time. Redis's clock judges; this copy of it only says "not after" and chooses when to renew.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::session::{Time, millis};

#[derive(Debug)]
pub(super) struct RedisClock {
    start: Instant,
    /// Redis's time, in milliseconds, at `start`.
    offset: AtomicI64,
    /// When it was learned, in milliseconds from `start`.
    learned: AtomicU64,
}

/// After so long it should be asked again: a machine that slept, or a clock that was set, must not be believed for ever.
const STALE: Duration = Duration::from_secs(10);

impl RedisClock {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), offset: AtomicI64::new(0), learned: AtomicU64::new(0) }
    }

    /// Takes in what Redis's clock showed in an answer that has just come. The way back took some time, so this is behind
    /// Redis, if anything: a command's "not after" comes early rather than late, until one of the clocks is set.
    pub(super) fn learn(&self, shown: Time) {
        let now = millis(self.start.elapsed());
        self.offset.store(shown.0 as i64 - now as i64, Ordering::Relaxed);
        self.learned.store(now, Ordering::Relaxed);
    }

    /// Whether nothing was learned for a while.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        millis(now.saturating_duration_since(self.start)).saturating_sub(self.learned.load(Ordering::Relaxed)) > millis(STALE)
    }

    /// Redis's time at a moment of this process.
    pub(super) fn at(&self, moment: Instant) -> Time {
        let forward = millis(moment.saturating_duration_since(self.start)) as i64;
        let back = millis(self.start.saturating_duration_since(moment)) as i64;
        let time = self.offset.load(Ordering::Relaxed) + forward - back;
        Time(time.try_into().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_moments_before_and_after_it_began() {
        let clock = RedisClock::new();
        let begin = clock.start;
        clock.learn(Time(1_000_000));
        let now = clock.at(Instant::now());
        assert!((1_000_000..1_000_100).contains(&now.0));
        let minute = Duration::from_secs(60);
        assert_eq!(clock.at(begin + minute).0 - clock.at(begin).0, 60_000);
        assert!(begin.checked_sub(minute).is_none_or(|earlier| clock.at(begin).0 - clock.at(earlier).0 == 60_000));
    }
}
