//! Deadlines that hardly any call reaches: as many as there are calls, and cheap as long as they are not reached. A timer of
//! tokio's is exact; but for each, the runtime wakes itself by a system call to look when it should wake next (measured: see
//! `bench/README.md`). Here one timer looks after all that wait.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use slab::Slab;
use tokio::time::{Sleep, sleep, sleep_until};

/// How often it is looked whose time is over, while anything waits.
const TICK: Duration = Duration::from_millis(10);

/// What has less time than this gets a timer of its own: so none is told later than by a tick in so much.
const SHORT: Duration = Duration::from_millis(250);

/// The deadlines of one runtime. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deadlines(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    places: Slab<Place>,
    /// Whether someone looks.
    is_watched: bool,
}

#[derive(Debug)]
struct Place {
    until: Instant,
    waker: Waker,
    is_over: bool,
}

/// The time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late;

impl Deadlines {
    /// What the future comes to, if it does so in time; else it is dropped, at most 10 ms after `until`. `now` is a moment that
    /// has just passed. Must be used within the runtime.
    pub(crate) fn within<F: Future>(&self, now: Instant, until: Instant, future: F) -> Within<'_, F> {
        let short = (until.saturating_duration_since(now) < SHORT).then(|| Box::pin(sleep_until(until.into())));
        Within { future, until, short, seat: Seat { deadlines: self, place: None } }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    /// A future with a deadline. (Not an `async fn`: that would have room for the future twice.)
    pub(crate) struct Within<'a, F> {
        #[pin]
        future: F,
        until: Instant,
        short: Option<Pin<Box<Sleep>>>,
        seat: Seat<'a>,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Late>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        let is_over = match this.short {
            Some(short) => short.as_mut().poll(context).is_ready(),
            None => this.seat.is_over(*this.until, context),
        };
        if is_over { Poll::Ready(Err(Late)) } else { Poll::Pending }
    }
}

/// A place among those that wait, given back in the end.
struct Seat<'a> {
    deadlines: &'a Deadlines,
    place: Option<usize>,
}

impl Seat<'_> {
    /// Whether the time is over; if not, the task is woken when it is.
    fn is_over(&mut self, until: Instant, context: &Context<'_>) -> bool {
        let mut waiting = self.deadlines.waiting();
        if let Some(place) = self.place {
            let place = &mut waiting.places[place];
            if !place.waker.will_wake(context.waker()) {
                place.waker.clone_from(context.waker());
            }
            return place.is_over;
        }
        self.place = Some(waiting.places.insert(Place { until, waker: context.waker().clone(), is_over: false }));
        if !waiting.is_watched {
            waiting.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(&self.deadlines.0)));
        }
        false
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.deadlines.waiting().places.remove(place);
        }
    }
}

/// Wakes whose time is over, as long as anything waits.
async fn watch(deadlines: Weak<Mutex<Waiting>>) {
    loop {
        sleep(TICK).await;
        let Some(deadlines) = deadlines.upgrade().map(Deadlines) else { return };
        let mut waiting = deadlines.waiting();
        if waiting.places.is_empty() {
            waiting.is_watched = false;
            return;
        }
        let now = tokio::time::Instant::now().into_std();
        for (_, place) in waiting.places.iter_mut().filter(|(_, place)| place.until <= now && !place.is_over) {
            place.is_over = true;
            place.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    async fn in_two_seconds<F: Future>(deadlines: &Deadlines, future: F) -> (Result<F::Output, Late>, Duration) {
        let now = tokio::time::Instant::now();
        let output = deadlines.within(now.into_std(), now.into_std() + Duration::from_secs(2), future).await;
        (output, now.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_in_time_waits_for_nothing() {
        let deadlines = Deadlines::default();
        assert_eq!(in_two_seconds(&deadlines, ready(7)).await, (Ok(7), Duration::ZERO));
        let second = sleep(Duration::from_secs(1));
        let (output, took) = in_two_seconds(&deadlines, second).await;
        assert!(output.is_ok() && took < Duration::from_millis(1002), "{took:?}");
        assert!(deadlines.waiting().places.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_is_told_so_within_a_tick_of_the_deadline() {
        let deadlines = Deadlines::default();
        let mut calls = JoinSet::new();
        for begins in [0, 3, 400, 777] {
            let deadlines = deadlines.clone();
            calls.spawn(async move {
                sleep(Duration::from_millis(begins)).await;
                in_two_seconds(&deadlines, pending::<()>()).await
            });
        }
        for (output, took) in calls.join_all().await {
            assert_eq!(output, Err(Late));
            assert!((2000..=2012).contains(&took.as_millis()), "{took:?}");
        }
        assert!(deadlines.waiting().places.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_time_is_kept_exactly() {
        let now = tokio::time::Instant::now();
        let until = now.into_std() + Duration::from_millis(30);
        assert_eq!(Deadlines::default().within(now.into_std(), until, pending::<()>()).await, Err(Late));
        assert!((30..=32).contains(&now.elapsed().as_millis()), "{:?}", now.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_while_nothing_waits() {
        let deadlines = Deadlines::default();
        for _ in 0..3 {
            assert_eq!(in_two_seconds(&deadlines, yield_now()).await.0, Ok(()));
            assert!(deadlines.waiting().is_watched);
            sleep(Duration::from_millis(50)).await;
            assert!(!deadlines.waiting().is_watched);
        }
    }
}
