//! sessiond: a session service. Web applications keep their visitors' sessions behind `Open`, `Save` and `Destroy`.
//!
//! # Layout
//!
//! One corridor, in the order of a request's way back from the store; each room looks only to its left:
//!
//! ```text
//! session  <-  store  <-  rules  <-  grpc  <-  lib (serve)  <-  main
//!  nouns       port       verbs      wire      assembly         edges
//!               ^
//!         store::memory, store::redis   (only main and tests name them)
//! ```
//!
//! - [`session`]: what a session is, what names it, how its id is minted.
//! - [`store`]: what a store promises, in words; [`store::memory`] and [`store::redis`] keep it.
//! - [`rules`]: what Open, Save and Destroy mean.
//! - [`grpc`]: protobuf in, protobuf out, and the one table of status codes.
//! - [`serve`]: the service as a function of its edges. [`shard`]: its threads, their sockets, and HTTP/2; `routes`: whom a call
//!   goes to.
//! - [`config`]: the command line. [`clock`] and [`random`]: the doors that time and chance come in by. `deadline`: how long
//!   anything may take. `log_limit`: how often a caller can cause a log line. [`metrics`]: what is counted on the way.
//!
//! The crate exists for its binary; what is public here is for the tests, and may change in any version.

pub mod clock;
pub mod config;
mod deadline;
pub mod grpc;
mod health;
mod log_limit;
pub mod metrics;
pub mod random;
mod routes;
pub mod rules;
pub mod session;
pub mod shard;
pub mod store;

use std::{io, net, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tracing::info;

use crate::{
    grpc::{EdgeLimits, Service},
    metrics::Metrics,
    random::Random,
    routes::Routes,
    rules::{Limits, Sessions},
    shard::{Shard, accept},
    store::Store,
};

/// How the service is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that serve.
    pub shards: usize,
    /// How long calls may take to end after the shutdown.
    pub drain: Duration,
    /// Whether to tell the schema.
    pub reflection: bool,
    /// What callers may ask for.
    pub limits: Limits,
    /// What every call is held to.
    pub edge: EdgeLimits,
}

/// Where the service can be reached.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: net::TcpListener,
    /// For Prometheus, if anyone shall count.
    pub metrics: Option<net::TcpListener>,
}

/// Serves sessions on the listeners until `shutdown` ends; then turns not ready, says GOAWAY, lets the calls under way
/// end within [`Settings::drain`], and returns.
///
/// `open_store` is called once per shard and once for the readiness probe, each time inside the runtime that will use it.
///
/// # Errors
/// When a thread or its runtime cannot be made, a shard ended by itself, or the store was found unfit at first contact.
pub async fn serve<S: Store>(
    listeners: Listeners,
    open_store: impl Fn() -> S + Clone + Send + 'static,
    random: Arc<dyn Random>,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    health::starting(&reporter).await;
    let metrics = listeners.metrics.is_some().then(Metrics::default);
    let (stop, stopped) = watch::channel(false);
    let Settings { drain, reflection, edge: limits, .. } = settings;
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let shards: Vec<Shard> = (0..settings.shards)
        .map(|number| {
            let sessions = {
                let (open_store, limits, random) = (open_store.clone(), settings.limits.clone(), Arc::clone(&random));
                move || Sessions::new(open_store(), limits, random)
            };
            let (health, metrics) = (health.clone(), metrics.clone());
            let answers = move || Routes::new(Service::new(sessions(), limits, metrics), health, limits, reflection);
            Shard::start(number, answers, drain, stopped.clone(), alive.clone())
        })
        .collect::<io::Result<_>>()?;
    drop(alive);

    listeners.grpc.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listeners.grpc)?;
    let count = async {
        match (&metrics, listeners.metrics) {
            (Some(metrics), Some(listener)) => metrics.serve(listener).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = shutdown => {}
        unfit = health::follow(open_store(), &reporter, metrics.as_ref()) => return Err(io::Error::other(unfit)),
        failed = count => return failed.map(|never| match never {}),
        error = accept(&listener, &shards) => return Err(error),
    }
    info!("stopping: not ready any more, no new connections, waiting for the calls under way");
    health::stopping(&reporter).await;
    drop(listener);
    let _ = stop.send(true);
    // Every shard holds a sender and drops it when it has ended.
    let _ = ended.recv().await;
    info!("stopped");
    Ok(())
}
