//! Readiness follows the store, with patience; liveness follows only the process. The names are those of
//! `grpc.health.v1`: the empty one and the service's own are readiness, `liveness` is what it says.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use crate::{
    metrics::Metrics,
    store::{Attempt, Store},
};

const READINESS: [&str; 2] = ["", "sessiond.v1.SessionService"];
const LIVENESS: &str = "liveness";

/// How often the store is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is asked while it does not answer.
const IMPATIENCE: Duration = Duration::from_millis(250);

/// So many questions in a row without an answer are an outage; one answer ends it.
const PATIENCE: u32 = 3;

/// Alive, and not ready before the store has answered once.
pub(crate) async fn starting(reporter: &HealthReporter) {
    set_readiness(reporter, ServingStatus::NotServing).await;
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
}

/// Not ready; whoever watches is told so, and the watch ends, as it would hold its connection open for ever.
pub(crate) async fn stopping(reporter: &HealthReporter) {
    set_readiness(reporter, ServingStatus::NotServing).await;
    let mut reporter = reporter.clone();
    for name in READINESS.iter().chain([&LIVENESS]) {
        reporter.clear_service_status(name).await;
    }
}

/// Asks the store again and again, and reports.
pub(crate) async fn follow<S: Store>(store: S, reporter: &HealthReporter, metrics: Option<&Metrics>) -> Infallible {
    let (mut ready, mut told, mut misses) = (false, false, 0);
    loop {
        let now = Instant::now();
        match store.ping(Attempt { since: now, until: now + INTERVAL }).await {
            Ok(()) => {
                misses = 0;
                if !ready {
                    (ready, told) = (true, false);
                    info!("ready: the store answers");
                    set_readiness(reporter, ServingStatus::Serving).await;
                }
            }
            Err(error) => {
                misses += 1;
                if ready && misses >= PATIENCE {
                    ready = false;
                    set_readiness(reporter, ServingStatus::NotServing).await;
                }
                if !ready && !told {
                    told = true;
                    warn!(%error, "not ready: the store cannot be asked; trying on");
                }
            }
        }
        if let Some(metrics) = metrics {
            metrics.set_ready(ready);
        }
        tokio::time::sleep(if misses == 0 { INTERVAL } else { IMPATIENCE }).await;
    }
}

async fn set_readiness(reporter: &HealthReporter, status: ServingStatus) {
    for name in READINESS {
        reporter.set_service_status(name, status).await;
    }
}
