//! What needs servers of its own: memory, and what becomes of Open's cost when there is more of everything.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;
use sessiond_tests::{Server, TestRedis};
use tokio::time::sleep;

use crate::{
    accounts::Usage,
    contestants::{Part, plain},
    figures::Figure,
    load::{self, Callers, Time, Work},
    plan::{Extent, HALF},
    run::create,
    wire::{self, Method},
};

/// What was found; nothing where it was not looked at.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Growth {
    /// Memory of a service that has nothing to do, on Redis, in MiB.
    pub idle: Option<Figure>,
    /// Memory for each connection that has made one call, in KiB.
    pub connection: Option<Figure>,
    /// Bytes that the memory store needs for each session of half a KiB.
    pub session: Option<Figure>,
    /// Open's CPU with 1,000,000 sessions stored against 1,000.
    pub sessions: Option<Figure>,
    /// Open's CPU with 10,000 connections open against 100.
    pub connections: Option<Figure>,
    /// The same of the echo, which keeps nothing: for what of that is the machine's. It has no goal.
    pub echo_connections: Option<Figure>,
}

/// Calls under way while growth is measured, over however many connections.
const IN_FLIGHT: usize = 64;

/// How often each side is measured.
const ROUNDS: usize = 5;

impl Growth {
    /// Looks at what this extent has time for.
    ///
    /// # Errors
    /// When a server fails, or a call.
    pub async fn measure(extent: Extent) -> anyhow::Result<Self> {
        let (connections, sessions) = if extent == Extent::Quick { (200, 20_000) } else { (1_000, 200_000) };
        let (idle, connection) = of_connections(connections).await.context("memory per connection")?;
        let session = of_sessions(sessions).await.context("memory per session")?;
        let one = |value| Figure::of([value]);
        let found = Self { idle: one(idle), connection: one(connection), session: one(session), ..Self::default() };
        if extent == Extent::Quick {
            return Ok(found);
        }
        let (sessions, (connections, echo_connections)) = (more_sessions().await.context("1,000,000 sessions")?, more_connections().await?);
        Ok(Self { sessions, connections, echo_connections, ..found })
    }
}

async fn on_redis(redis: &TestRedis) -> Server {
    let server = Server::start(&["--store", &redis.url()]).await;
    server.ready().await;
    server
}

/// MiB when idle, KiB for each of so many connections.
async fn of_connections(count: usize) -> anyhow::Result<(f64, f64)> {
    let redis = TestRedis::start().await;
    let server = on_redis(&redis).await;
    // What starting took is given back by then.
    sleep(Duration::from_secs(1)).await;
    let idle = server.memory("VmRSS");
    let ids = create(server.address(), HALF, 1).await?;
    // One caller, who goes from one connection to the next.
    let callers = Callers { connections: count, in_flight: 1, wander: true };
    let opens = Work::once(vec![(Method::Open, wire::open(&ids[0])); count], HALF - 4..HALF + 400);
    let (before, mut after) = (server.memory("VmRSS"), 0);
    let time = Time { warm: Duration::ZERO, run: Duration::from_secs(60) };
    let look = || {
        after = server.memory("VmRSS");
        Ok(())
    };
    load::run(server.address(), callers, opens, time, look).await?;
    Ok((idle as f64 / 1024.0, after.saturating_sub(before) as f64 / count as f64))
}

/// Bytes for each of so many sessions in the memory store.
async fn of_sessions(count: usize) -> anyhow::Result<f64> {
    let server = Server::start(&[]).await;
    server.ready().await;
    // The connections and what calls need are there before.
    create(server.address(), HALF, 2_000).await?;
    let before = server.memory("VmRSS");
    create(server.address(), HALF, count).await?;
    Ok(server.memory("VmRSS").saturating_sub(before) as f64 * 1024.0 / count as f64)
}

async fn more_sessions() -> anyhow::Result<Option<Figure>> {
    let (few, many) = (TestRedis::start().await, TestRedis::start().await);
    let (on_few, on_many) = (on_redis(&few).await, on_redis(&many).await);
    let small = create(on_few.address(), HALF, 1_000).await?;
    let large = create(on_many.address(), HALF, 1_000_000).await?;
    // Spread over all of them, and as few to encode as needed.
    let large: Vec<String> = large.into_iter().step_by(10).collect();
    let callers = Callers { connections: 4, in_flight: IN_FLIGHT, wander: false };
    let (small, large) = (opens(&small), opens(&large));
    let (mut these, mut those) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        these.push(cpu(place(&on_many), callers, &large).await?);
        those.push(cpu(place(&on_few), callers, &small).await?);
    }
    Ok(Figure::of_ratios(&these, &those))
}

/// The service's, and the echo's.
async fn more_connections() -> anyhow::Result<(Option<Figure>, Option<Figure>)> {
    let redis = TestRedis::start().await;
    let server = on_redis(&redis).await;
    let echo = Part::start(&plain(), &["echo"]).await?;
    let ids = opens(&create(server.address(), HALF, 1_000).await?);
    let to_echo = vec![(Method::Open, wire::echo(HALF))];
    let with = |connections| Callers { connections, in_flight: IN_FLIGHT, wander: true };
    let mut figures = Vec::new();
    for (place, calls) in [(place(&server), &ids), ((echo.pid(), echo.address()), &to_echo)] {
        let (mut these, mut those) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            these.push(cpu(place, with(10_000), calls).await.context("10,000 connections")?);
            those.push(cpu(place, with(100), calls).await.context("100 connections")?);
        }
        figures.push(Figure::of_ratios(&these, &those));
    }
    Ok((figures[0], figures[1]))
}

fn place(server: &Server) -> (u32, SocketAddr) {
    (server.pid(), server.address())
}

fn opens(ids: &[String]) -> Vec<(Method, Bytes)> {
    ids.iter().map(|id| (Method::Open, wire::open(id))).collect()
}

/// The server's CPU time of an Open, in microseconds.
async fn cpu((pid, address): (u32, SocketAddr), callers: Callers, calls: &[(Method, Bytes)]) -> anyhow::Result<f64> {
    let time = Time { warm: Duration::from_millis(300), run: Duration::from_secs(1) };
    let mut marks = Vec::new();
    let work = Work::over(calls, HALF - 4..HALF + 400);
    let outcome = load::run(address, callers, work, time, || Usage::of(pid).map(|usage| marks.push(usage))).await?;
    let [begun, ended] = marks[..] else { anyhow::bail!("not measured") };
    Ok((ended - begun).cpu.as_secs_f64() * 1e6 / outcome.latency.len() as f64)
}
