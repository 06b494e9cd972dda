//! What every call passes on its way in and out: its deadline, its place among the calls at once, its span, and a place to land
//! for panics.

use std::{
    any::Any,
    future::ready,
    panic::AssertUnwindSafe,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderName, Response, request};
use tonic::Code;
use tracing::{Instrument, Span, debug, error, field};

use super::{MAX_METADATA_BYTES, status, unary::Reply};
use crate::{
    deadline::{Deadlines, Late},
    metrics::Metrics,
    session::{App, Handle},
    store::{Attempt, MAX_BUDGET, REPEAT_WINDOW},
};

// Named once, as to read a name anew for each call costs more than to look for it.
static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// What the edge holds every call to.
#[derive(Clone, Copy, Debug)]
pub struct EdgeLimits {
    /// The most time a call may take; a caller's shorter deadline wins.
    pub deadline: Duration,
    /// The most calls at once, per shard.
    pub max_calls: usize,
}

impl EdgeLimits {
    /// How long a call that came with these headers may take in all.
    pub(crate) fn deadline(&self, headers: &HeaderMap) -> Duration {
        header(headers, &TIMEOUT).map_or(self.deadline, |Timeout(asked)| self.deadline.min(asked))
    }

    /// The same, and what of that the store may have.
    fn allow(&self, headers: &HeaderMap, received: Instant) -> (Duration, Attempt) {
        let deadline = self.deadline(headers);
        let is_repeat = header(headers, &ATTEMPTS).is_some_and(|attempts: u32| attempts > 0);
        let since = if is_repeat { received.checked_sub(REPEAT_WINDOW) } else { None };
        // The store gives up first, so that a silent store is UNAVAILABLE and not a deadline.
        let until = received + (deadline * 9 / 10).min(MAX_BUDGET);
        (deadline, Attempt { since: since.unwrap_or(received), until })
    }
}

/// What every call passes.
#[derive(Debug)]
pub(super) struct Edge {
    limits: EdgeLimits,
    metrics: Option<Metrics>,
    calls: Arc<AtomicUsize>,
    deadlines: Deadlines,
    /// Whose sessions a caller may reach. There are no credentials yet, so it is everyone's.
    app: App,
}

/// What a handler does, boxed: what is moved about on the way to HTTP stays small.
pub(super) type Answer = BoxFuture<'static, Response<Reply>>;

/// One call, as its handler sees it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Whose sessions it may reach.
    pub(super) app: App,
    /// When it came, and until when the store may work on it.
    pub(super) attempt: Attempt,
    span: Span,
}

impl Call {
    /// Says in the call's span which session it is about. The handle is public; the id never is.
    pub(super) fn names(&self, handle: Handle) {
        if !self.span.is_disabled() {
            self.span.record("handle", field::display(handle));
        }
    }
}

impl Edge {
    pub(super) fn new(limits: EdgeLimits, metrics: Option<Metrics>) -> Self {
        let (calls, deadlines) = (Arc::default(), Deadlines::default());
        Self { limits, metrics, calls, deadlines, app: App::unnamed() }
    }

    /// Has a call answered.
    pub(super) fn call<H>(
        &self,
        method: &'static str,
        head: &request::Parts,
        handle: H,
    ) -> impl Future<Output = Response<Reply>> + Send + use<H>
    where
        H: FnOnce(Call) -> Answer,
    {
        let received = Instant::now();
        let span = tracing::debug_span!("rpc", method = %head.uri.path(), handle = field::Empty);
        let (deadline, attempt) = self.limits.allow(&head.headers, received);
        let place = Place::take(&self.calls, self.limits.max_calls);
        let mut answer = match place {
            _ if has_too_much_metadata(&head.headers) => ready(Reply::too_much_metadata()).boxed(),
            Some(_) => handle(Call { app: self.app.clone(), attempt, span: span.clone() }),
            None => ready(Reply::refusal(status::overloaded())).boxed(),
        };
        if !span.is_disabled() {
            answer = answer.instrument(span.clone()).boxed();
        }
        let deadlines = self.deadlines.clone();
        let metrics = self.metrics.clone();
        async move {
            // Before the caller stops listening.
            let until = received + deadline * 19 / 20;
            let answer = match deadlines.within(received, until, AssertUnwindSafe(answer).catch_unwind()).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(panic)) => {
                    error!(parent: &span, cause = cause(&*panic), "a handler panicked");
                    Reply::refusal(status::internal())
                }
                Err(Late) => Reply::refusal(status::deadline()),
            };
            debug!(parent: &span, code = ?code(&answer), ms = received.elapsed().as_micros() as f64 / 1e3, "answered");
            if let Some(metrics) = metrics {
                metrics.answered(method, format!("{:?}", code(&answer)), received.elapsed());
            }
            drop(place);
            answer
        }
    }
}

/// The code, where the answer is nothing but a status; a message's own code is OK.
fn code(answer: &Response<Reply>) -> Code {
    answer.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

fn cause(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// A call's place among the calls at once.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(calls: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self(Arc::clone(calls));
        (calls.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn header<T: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Whether a call's headers are above [`MAX_METADATA_BYTES`].
pub(crate) fn has_too_much_metadata(headers: &HeaderMap) -> bool {
    let sizes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    sizes.sum::<usize>() > MAX_METADATA_BYTES
}

/// The header `grpc-timeout`: at most eight digits and a unit.
struct Timeout(Duration);

impl FromStr for Timeout {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(())?;
        if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(());
        }
        let value: u64 = digits.parse().map_err(drop)?;
        Ok(Self(match unit {
            "H" => Duration::from_secs(value * 3600),
            "M" => Duration::from_secs(value * 60),
            "S" => Duration::from_secs(value),
            "m" => Duration::from_millis(value),
            "u" => Duration::from_micros(value),
            "n" => Duration::from_nanos(value),
            _ => return Err(()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tonic::Status;

    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let read = |text: &str| text.parse::<Timeout>().ok().map(|timeout| timeout.0);
        assert_eq!(read("300m"), Some(Duration::from_millis(300)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "m", "300", "3é", "-1S", "123456789S", "1 S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    fn edge() -> Edge {
        Edge::new(EdgeLimits { deadline: Duration::from_secs(2), max_calls: 1 }, None)
    }

    fn head() -> request::Parts {
        http::Request::new(()).into_parts().0
    }

    /// The code and the reason of an answer.
    fn told(answer: &Response<Reply>) -> (Code, String) {
        let status = Status::from_header_map(answer.headers()).expect("a status");
        let info = tonic_types::StatusExt::get_details_error_info(&status).expect("an ErrorInfo");
        (status.code(), info.reason)
    }

    #[tokio::test]
    async fn a_panic_answers_internal_and_the_next_call_is_served() {
        let edge = edge();
        for _ in 0..2 {
            let answer = edge.call("Open", &head(), |_| async { panic!("as if") }.boxed()).await;
            assert_eq!(told(&answer), (Code::Internal, "INTERNAL".to_owned()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_by_the_shorter_deadline() {
        for (timeout, most) in [("300m", 300), ("9S", 2000)] {
            let mut head = head();
            head.headers.insert("grpc-timeout", timeout.parse().unwrap());
            let start = tokio::time::Instant::now();
            let answer = edge().call("Open", &head, |_| pending().boxed()).await;
            assert_eq!(told(&answer), (Code::DeadlineExceeded, "DEADLINE".to_owned()));
            assert!(start.elapsed() < Duration::from_millis(most));
        }
    }

    #[tokio::test]
    async fn metadata_above_the_limit_is_refused_without_the_handler() {
        let with = |bytes: usize| {
            let mut head = head();
            head.headers.insert("x-name", "v".repeat(bytes - 32 - "x-name".len()).parse().unwrap());
            head
        };
        let handler = |_| async { Reply::refusal(Status::ok("")) }.boxed();
        let answer = edge().call("Open", &with(MAX_METADATA_BYTES), handler).await;
        assert_eq!(code(&answer), Code::Ok);
        let answer = edge().call("Open", &with(MAX_METADATA_BYTES + 1), |_| panic!("it is called")).await;
        assert_eq!(told(&answer), (Code::InvalidArgument, "INVALID_FIELD".to_owned()));
    }

    #[tokio::test]
    async fn a_call_too_many_is_told_so() {
        let edge = edge();
        let head = head();
        let mut first = Box::pin(edge.call("Open", &head, |_| pending().boxed()));
        assert!((&mut first).now_or_never().is_none(), "it is under way");
        let second = edge.call("Open", &head, |_| pending().boxed()).await;
        assert_eq!(told(&second), (Code::Unavailable, "OVERLOADED".to_owned()));
        drop(first);
        assert_eq!(edge.calls.load(Ordering::Relaxed), 0, "its place is free again");
    }
}
