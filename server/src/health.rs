//! Readiness follows the store, with patience; liveness follows only the process. The service names are those of
//! `grpc.health.v1`: the empty one and the service's own report readiness, `liveness` reports liveness.
//!
//! Ready means that sessions can be kept: before readiness turns on, the store has run what serving runs ([`Store::probe`]).

use std::time::{Duration, Instant};

use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{error, info, warn};

use crate::{
    metrics::Metrics,
    store::{Attempt, Fitness, Store, StoreError},
};

const READINESS: [&str; 2] = ["", "sessiond.v1.SessionService"];
const LIVENESS: &str = "liveness";

/// The time between two pings of the store, and the deadline of each.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time between two pings while the store does not answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// How many different causes are logged in one outage: the first is often not the one that helps.
const MAX_CAUSES: usize = 8;

/// How many pings in a row must fail until readiness turns off. One success turns it on.
const MAX_MISSES: u32 = 3;

/// Alive, and not ready before the store has answered once.
pub(crate) async fn starting(reporter: &HealthReporter) {
    set_readiness(reporter, ServingStatus::NotServing).await;
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
}

/// Reports not ready, then ends every watch, as a watch would hold its connection open for ever.
pub(crate) async fn stopping(reporter: &HealthReporter) {
    set_readiness(reporter, ServingStatus::NotServing).await;
    let mut reporter = reporter.clone();
    for name in READINESS.iter().chain([&LIVENESS]) {
        reporter.clear_service_status(name).await;
    }
}

/// Pings the store for ever and reports readiness. Returns only if the store is unfit before the service was ever ready, with the
/// reason: later, a service that runs is worth more than one that ended, and the log says so. A missing right never ends
/// it, as an operator can grant that while the service runs.
pub(crate) async fn follow<S: Store>(store: S, reporter: &HealthReporter, metrics: Option<&Metrics>) -> String {
    let (mut ready, mut was_ready, mut is_checked, mut misses) = (false, false, false, 0);
    let mut logged = Vec::new();
    loop {
        let mut outcome = store.ping(attempt()).await;
        // A store that was out of reach may be another one when it answers again.
        is_checked &= outcome.is_ok();
        if outcome.is_ok() && !ready {
            outcome = match admit(&store, was_ready, &mut is_checked).await {
                Ok(()) => Ok(()),
                Err(Refusal::Unfit(why)) => return why,
                Err(Refusal::NotYet(error)) => Err(error),
            };
        }
        match outcome {
            Ok(()) => {
                misses = 0;
                if !ready {
                    (ready, was_ready) = (true, true);
                    logged.clear();
                    info!("ready: sessions can be kept in the store");
                    set_readiness(reporter, ServingStatus::Serving).await;
                }
            }
            Err(error) => {
                misses += 1;
                if ready && misses >= MAX_MISSES {
                    ready = false;
                    set_readiness(reporter, ServingStatus::NotServing).await;
                }
                let error = error.to_string();
                if !ready && logged.len() < MAX_CAUSES && !logged.contains(&error) {
                    warn!(%error, "not ready; retrying");
                    logged.push(error);
                }
            }
        }
        if let Some(metrics) = metrics {
            metrics.set_ready(ready);
        }
        tokio::time::sleep(if misses == 0 { INTERVAL } else { RETRY_INTERVAL }).await;
    }
}

/// Why a store that answers does not make the service ready.
enum Refusal {
    /// For good: it is set up so that the promises cannot be kept.
    Unfit(String),
    /// For now.
    NotYet(StoreError),
}

/// Whether a store that answers again can be served from: how it is set up, once per outage, and the probe.
async fn admit<S: Store>(store: &S, was_ready: bool, is_checked: &mut bool) -> Result<(), Refusal> {
    if !*is_checked {
        match store.check(attempt()).await.map_err(Refusal::NotYet)? {
            Fitness::Fit => {}
            Fitness::Unfit(why) if !was_ready => return Err(Refusal::Unfit(why)),
            Fitness::Unfit(why) => error!(%why, "the store is not what it was"),
        }
        *is_checked = true;
    }
    store.probe().await.map_err(Refusal::NotYet)
}

/// The deadline of one request to the store, from now on.
fn attempt() -> Attempt {
    let now = Instant::now();
    Attempt { since: now, until: now + INTERVAL }
}

async fn set_readiness(reporter: &HealthReporter, status: ServingStatus) {
    for name in READINESS {
        reporter.set_service_status(name, status).await;
    }
}
