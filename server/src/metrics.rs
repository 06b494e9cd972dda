//! What the service counts, in Prometheus's words. A label is a method or a code: never an id, nor anything of a session.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

/// Upper bounds in seconds: a call takes a millisecond, and at most `--deadline`.
const BUCKETS: [f64; 13] = [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0, 2.5];

/// The counts. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<Call, Histogram, fn() -> Histogram>,
    ready: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
    code: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { calls: Family::new_with_constructor(|| Histogram::new(BUCKETS)), ready: Gauge::default() }
    }
}

impl Metrics {
    /// Counts a call that was answered so after this time.
    pub(crate) fn answered(&self, method: &'static str, code: String, after: Duration) {
        self.calls.get_or_create(&Call { method, code }).observe(after.as_secs_f64());
    }

    /// Records whether the service is ready.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("sessiond");
        let calls = "How long calls took, by method and gRPC code";
        registry.register_with_unit("call_duration", calls, Unit::Seconds, self.calls.clone());
        registry.register("ready", "1 while sessions can be kept in the store, else 0", self.ready.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        registry
    }

    /// Answers `GET /metrics` on the listener, for ever.
    pub(crate) async fn serve(&self, listener: std::net::TcpListener) -> io::Result<Infallible> {
        let registry = Arc::new(self.registry());
        let scrape = async move || {
            let mut body = String::new();
            // Writing to a String cannot fail.
            let _ = text::encode(&mut body, &registry);
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
        };
        listener.set_nonblocking(true)?;
        let router = Router::new().route("/metrics", get(scrape));
        axum::serve(TcpListener::from_std(listener)?, router).await?;
        Err(io::Error::other("the metrics' listener has ended"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_by_method_and_code_and_by_nothing_a_caller_chose() {
        let metrics = Metrics::default();
        metrics.answered("Open", "Ok".to_owned(), Duration::from_millis(2));
        metrics.answered("other", "Unimplemented".to_owned(), Duration::ZERO);
        let mut told = String::new();
        text::encode(&mut told, &metrics.registry()).unwrap();
        assert!(told.contains(r#"sessiond_call_duration_seconds_count{method="Open",code="Ok"} 1"#), "{told}");
        assert!(told.contains(r#"method="other""#) && !told.contains("Made-Up"), "{told}");
    }
}
