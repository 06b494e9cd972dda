//! Readiness follows the store, with patience; liveness follows only the process. The names are those of
//! `grpc.health.v1`: the empty one and the service's own are readiness, `liveness` is what it says.

use std::time::{Duration, Instant};

use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{error, info, warn};

use crate::{
    metrics::Metrics,
    store::{Attempt, Fitness, Store},
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

/// Asks the store again and again, and reports. Ends only when the store was found unfit at first contact, with the reason:
/// later, a service that runs is worth more than one that ended, and it is said in the log.
pub(crate) async fn follow<S: Store>(store: S, reporter: &HealthReporter, metrics: Option<&Metrics>) -> String {
    let (mut ready, mut met, mut told, mut misses) = (false, false, false, 0);
    loop {
        let now = Instant::now();
        let attempt = Attempt { since: now, until: now + INTERVAL };
        let mut answer = store.ping(attempt).await;
        if answer.is_ok() && !ready {
            answer = match store.check(attempt).await {
                Ok(Fitness::Unfit(why)) if !met => return why,
                Ok(Fitness::Unfit(why)) => {
                    error!(%why, "the store is not what it was");
                    Ok(())
                }
                Ok(Fitness::Fit) => Ok(()),
                Err(error) => Err(error),
            };
        }
        match answer {
            Ok(()) => {
                misses = 0;
                if !ready {
                    (ready, met, told) = (true, true, false);
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
