//! When a call is repeated: rarely enough that repeats never become the load that keeps a service down.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// The first wait; it doubles with each repeat.
const FIRST_WAIT: Duration = Duration::from_millis(25);

/// A deadline or a wait beyond this is one without end: no clock holds the end of [`Duration::MAX`].
pub(super) const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Waits are spread by a fifth, so that callers who failed together do not come back together.
const JITTER: f64 = 0.2;

/// How long to wait before repeat `number` (1 is the first), at least as long as the service asked for.
pub(super) fn wait(number: u32, asked: Option<Duration>) -> Duration {
    let ours = FIRST_WAIT * 2u32.pow(number.saturating_sub(1).min(10));
    let ours = ours.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64());
    // Never sooner than asked: jitter only adds.
    let asked = asked.unwrap_or_default().min(FOR_EVER);
    ours.max(asked.mul_f64(1.0 + JITTER * fastrand::f64()))
}

/// Repeats are at most a tenth of the calls, but for a first ten (gRFC A6's throttling): each call puts a tenth of a token
/// into the bucket, each repeat takes one out.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Budget {
    /// Of a token, in the bucket's own unit.
    const TOKEN: u32 = 10;
    const FULL: u32 = 10 * Self::TOKEN;

    pub(super) fn called(&self) {
        // Mostly full: then it is only looked at.
        if self.0.load(Ordering::Relaxed) < Self::FULL {
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some((left + 1).min(Self::FULL)));
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn allows_repeat(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(Self::TOKEN)).is_ok()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(Self::FULL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_a_tenth_of_the_calls_and_ten() {
        let budget = Budget::default();
        let repeats = (0..1_000).filter(|_| {
            budget.called();
            budget.allows_repeat()
        });
        assert_eq!(repeats.count(), 109);
    }

    #[test]
    fn nobody_comes_back_sooner_than_asked() {
        for asked in [25, 48, 50, 100].map(Duration::from_millis) {
            for number in (1..4).cycle().take(100) {
                let wait = wait(number, Some(asked));
                assert!(wait >= asked, "asked for {asked:?} and waits {wait:?}");
                assert!(wait <= asked.max(FIRST_WAIT * 4).mul_f64(1.2));
            }
        }
        assert!(wait(1, Some(Duration::MAX)) >= FOR_EVER, "and no clock breaks");
    }

    #[test]
    fn waits_double_and_are_spread() {
        let waits: Vec<_> = (0..200).map(|_| wait(2, None)).collect();
        assert!(waits.iter().all(|wait| (40..=60).contains(&wait.as_millis())));
        assert!(waits.iter().max() > waits.iter().min());
    }
}
