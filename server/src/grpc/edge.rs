//! What every call passes on its way in and out: its deadline, its span, a place to land for panics, and for what tonic
//! refuses by itself an answer in our own words.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;
use tracing::{Instrument, Span, debug, error, field};

use super::status;
use crate::{
    metrics::Metrics,
    session::{App, Handle},
    store::{Attempt, MAX_BUDGET, REPEAT_WINDOW},
};

/// What the edge holds every call to.
#[derive(Clone, Copy, Debug)]
pub struct EdgeLimits {
    /// The most time a call may take; a caller's shorter deadline wins.
    pub deadline: Duration,
    /// The most calls at once, per shard.
    pub max_calls: usize,
}

impl EdgeLimits {
    /// How long a call that came with these headers may take in all, and what of that the store may have.
    fn allow(&self, headers: &HeaderMap, received: Instant) -> (Duration, Attempt) {
        let asked = header(headers, "grpc-timeout").map_or(Duration::MAX, |Timeout(asked)| asked);
        let deadline = self.deadline.min(asked);
        let is_repeat = header(headers, "grpc-previous-rpc-attempts").is_some_and(|attempts: u32| attempts > 0);
        let since = if is_repeat { received.checked_sub(REPEAT_WINDOW) } else { None };
        // The store gives up first, so that a silent store is UNAVAILABLE and not a deadline.
        let until = received + (deadline * 9 / 10).min(MAX_BUDGET);
        (deadline, Attempt { since: since.unwrap_or(received), until })
    }
}

/// A gRPC service with all that every call passes.
#[derive(Clone, Debug)]
pub struct Edge<S> {
    inner: S,
    limits: EdgeLimits,
    metrics: Option<Metrics>,
    calls: Arc<AtomicUsize>,
    /// Whose sessions a caller may reach. There are no credentials yet, so it is everyone's.
    app: App,
}

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

/// What the edge noted of the call, and its message.
pub(super) fn call<T>(mut request: tonic::Request<T>) -> Result<(Call, T), Status> {
    match request.extensions_mut().remove::<Call>() {
        Some(call) => Ok((call, request.into_inner())),
        None => {
            error!("a call came past the edge");
            Err(status::internal())
        }
    }
}

impl<S> Edge<S> {
    /// Puts the edge around a service.
    pub fn new(inner: S, limits: EdgeLimits, metrics: Option<Metrics>) -> Self {
        Self { inner, limits, metrics, calls: Arc::default(), app: App::unnamed() }
    }
}

impl<S: NamedService> NamedService for Edge<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let received = Instant::now();
        let counted = self.metrics.clone().map(|metrics| (metrics, Metrics::method(request.uri().path())));
        let note = move |answer: &Response<Body>| {
            let (code, after) = (code(answer), received.elapsed());
            debug!(?code, ms = after.as_micros() as f64 / 1e3, "answered");
            if let Some((metrics, method)) = counted {
                metrics.answered(method, format!("{code:?}"), after);
            }
        };
        let Some(place) = Place::take(&self.calls, self.limits.max_calls) else {
            let answer = status::overloaded().into_http();
            note(&answer);
            return Box::pin(async { Ok(answer) });
        };
        let (deadline, attempt) = self.limits.allow(request.headers(), received);
        let span = tracing::debug_span!("rpc", method = %request.uri().path(), handle = field::Empty);
        request.extensions_mut().insert(Call { app: self.app.clone(), attempt, span: span.clone() });
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        let answer = async move {
            // Before the caller stops listening, and before tonic's own timer, which answers CANCELLED.
            let answer = match tokio::time::timeout(deadline * 19 / 20, answer).await {
                Ok(Ok(Ok(answer))) => mend(answer),
                Ok(Err(panic)) => {
                    error!(cause = cause(&*panic), "a handler panicked");
                    status::internal().into_http()
                }
                Err(_) => status::deadline().into_http(),
            };
            note(&answer);
            drop(place);
            Ok(answer)
        };
        if span.is_disabled() { Box::pin(answer) } else { Box::pin(answer.instrument(span)) }
    }
}

/// A refusal of tonic's own, which carries no details, in our own words.
fn mend(answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers();
    if code(&answer) == Code::Ok || headers.contains_key("grpc-status-details-bin") {
        return answer;
    }
    status::of_transport(code(&answer)).map_or(answer, |status| status.into_http())
}

/// The code, where the answer is nothing but a status; a message's own code is OK.
fn code(answer: &Response<Body>) -> Code {
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
        (place.0.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn header<T: FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
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

    /// A service that does one thing with every call.
    #[derive(Clone)]
    struct Act<F>(F);

    impl<F, A> Service<Request<Body>> for Act<F>
    where
        F: Fn() -> A,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let act = (self.0)();
            Box::pin(async { Ok(act.await) })
        }
    }

    fn edge<F>(act: F) -> Edge<Act<F>> {
        Edge::new(Act(act), EdgeLimits { deadline: Duration::from_secs(2), max_calls: 1 }, None)
    }

    /// The code and the reason of an answer.
    fn told(answer: Result<Response<Body>, Infallible>) -> (Code, String) {
        let Ok(answer) = answer;
        let status = Status::from_header_map(answer.headers()).expect("a status");
        let info = tonic_types::StatusExt::get_details_error_info(&status).expect("an ErrorInfo");
        (status.code(), info.reason)
    }

    #[tokio::test]
    async fn a_panic_answers_internal_and_the_next_call_is_served() {
        let mut edge = edge(|| async { panic!("as if") });
        for _ in 0..2 {
            let answer = edge.call(Request::new(Body::empty())).await;
            assert_eq!(told(answer), (Code::Internal, "INTERNAL".to_owned()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_by_the_shorter_deadline() {
        for (timeout, most) in [("300m", 300), ("9S", 2000)] {
            let mut request = Request::new(Body::empty());
            request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
            let start = tokio::time::Instant::now();
            let answer = edge(std::future::pending::<Response<Body>>).call(request).await;
            assert_eq!(told(answer), (Code::DeadlineExceeded, "DEADLINE".to_owned()));
            assert!(start.elapsed() < Duration::from_millis(most));
        }
    }

    #[tokio::test]
    async fn a_call_too_many_is_told_so() {
        let mut edge = edge(std::future::pending::<Response<Body>>);
        let first = edge.call(Request::new(Body::empty()));
        let second = edge.call(Request::new(Body::empty())).await;
        assert_eq!(told(second), (Code::Unavailable, "OVERLOADED".to_owned()));
        drop(first);
        assert_eq!(edge.calls.load(Ordering::Relaxed), 0, "its place is free again");
    }

    #[tokio::test]
    async fn what_tonic_refuses_is_said_in_our_words() {
        for (code, told_code, reason) in [
            (Code::OutOfRange, Code::InvalidArgument, "SESSION_TOO_LARGE"),
            (Code::Internal, Code::InvalidArgument, "INVALID_FIELD"),
        ] {
            let refuse = move || async move { Status::new(code, "").into_http() };
            let answer = edge(refuse).call(Request::new(Body::empty())).await;
            assert_eq!(told(answer), (told_code, reason.to_owned()));
        }
    }
}
