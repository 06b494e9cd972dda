//! The generator: a closed loop of callers over HTTP/2 connections of its own making, with messages encoded before, so that it
//! takes as little of the machine as it can. What it takes is measured and told.

mod connection;
mod headers;

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use prost::Message;
use sessiond_proto::v1::SaveResponse;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::connection::{Answer, Connection, Ear};
use crate::wire::Method;

/// Bytes before a message: gRPC's own frame.
const FRAME: usize = 5;

/// How long a load may take beyond what it was told to.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is called.
#[derive(Clone, Debug)]
pub struct Work {
    /// The calls, taken in turn.
    pub calls: Rc<[(Method, Bytes)]>,
    /// The most calls of all, warm-up included; then the load ends.
    pub limit: u64,
    /// Whether to call up to the limit, also when the time is over.
    pub finish: bool,
    /// Bytes of a right answer's message.
    pub answers: Range<usize>,
    /// Where to put the ids that the answers of Saves carry.
    pub ids: Option<Rc<RefCell<Vec<String>>>>,
}

impl Work {
    /// These calls over and over.
    pub fn over(calls: impl Into<Rc<[(Method, Bytes)]>>, answers: Range<usize>) -> Self {
        Self { calls: calls.into(), limit: u64::MAX, finish: false, answers, ids: None }
    }

    /// Each of these once.
    pub fn once(calls: impl Into<Rc<[(Method, Bytes)]>>, answers: Range<usize>) -> Self {
        let calls = calls.into();
        Self { limit: calls.len() as u64, finish: true, ..Self::over(calls, answers) }
    }
}

/// How the calls come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callers {
    /// Connections that are open.
    pub connections: usize,
    /// Calls under way at any time, over all of them.
    pub in_flight: usize,
    /// Whether a caller goes on to the next connection after each call.
    pub wander: bool,
}

/// How long: first without measuring, then measured.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Without measuring.
    pub warm: Duration,
    /// Measured.
    pub run: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How long was measured.
    pub took: Duration,
    /// How long the calls took that ended in that time, in nanoseconds.
    pub latency: Histogram<u64>,
    /// All calls, also those before and after that time.
    pub calls: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warm,
    Measured,
    Over,
}

/// What the callers share.
struct Shared {
    work: Work,
    wander: bool,
    connections: Vec<Connection>,
    next: Cell<u64>,
    /// Callers that have not ended.
    calling: Cell<usize>,
    ended: Notify,
    phase: Cell<Phase>,
    latency: RefCell<Histogram<u64>>,
}

/// Loads the server at this address. `mark` is called when the measuring begins and when it ends. Any call that fails or is
/// answered with what it should not be ends it all: a figure of wrong answers is none.
///
/// To be called within a `LocalSet`.
///
/// # Errors
/// When a connection or a call fails.
pub async fn run(
    address: SocketAddr,
    callers: Callers,
    work: Work,
    time: Time,
    mut mark: impl FnMut() -> io::Result<()>,
) -> anyhow::Result<Outcome> {
    let (mut connections, mut ears) = (Vec::new(), Vec::new());
    for _ in 0..callers.connections {
        let (connection, ear) = Connection::open(address, work.ids.is_some()).await?;
        connections.push(connection);
        ears.push(ear);
    }
    let shared = Rc::new(Shared {
        work,
        wander: callers.wander,
        connections,
        next: Cell::new(0),
        calling: Cell::new(callers.in_flight),
        ended: Notify::new(),
        phase: Cell::new(Phase::Warm),
        latency: RefCell::new(new_histogram()),
    });
    for number in 0..callers.in_flight {
        // Spread over all connections, so that those who wander do not follow each other from one to the next.
        let at = if callers.wander { number * callers.connections / callers.in_flight } else { number };
        shared.call(at % callers.connections);
    }
    let mut tasks = JoinSet::new();
    for (at, ear) in ears.into_iter().enumerate() {
        let shared = Rc::clone(&shared);
        shared.connections[at].flush()?;
        tasks.spawn_local(async move { shared.listen(at, ear).await });
    }
    let failed = async {
        match tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            other => anyhow!("a connection ended: {other:?}"),
        }
    };
    let measure = async {
        sleep(time.warm).await;
        mark()?;
        let begun = Instant::now();
        shared.phase.set(Phase::Measured);
        // Perhaps all calls are made before the time is over.
        let _ = timeout(time.run, shared.ended.notified()).await;
        shared.phase.set(Phase::Over);
        mark()?;
        let took = begun.elapsed();
        let rest = async {
            while shared.calling.get() > 0 {
                shared.ended.notified().await;
            }
        };
        timeout(PATIENCE, rest).await.context("the last calls do not end")?;
        Ok(took)
    };
    let took = tokio::select! {
        took = measure => took,
        error = failed => Err(error),
    }?;
    let latency = shared.latency.replace(new_histogram());
    Ok(Outcome { took, latency, calls: shared.next.get() })
}

impl Shared {
    /// Has a caller make its next call on this connection, or end.
    fn call(&self, at: usize) {
        let (work, next) = (&self.work, self.next.get());
        let over = self.phase.get() == Phase::Over && !work.finish;
        if over || next >= work.limit {
            self.calling.set(self.calling.get() - 1);
            if self.calling.get() == 0 {
                self.ended.notify_one();
            }
            return;
        }
        self.next.set(next + 1);
        let (method, message) = &work.calls[(next % work.calls.len() as u64) as usize];
        self.connections[at].call(*method, message);
    }

    /// Listens on a connection, and has who was answered call again.
    async fn listen(&self, at: usize, mut ear: Ear) -> anyhow::Result<()> {
        let mut answered = Vec::new();
        loop {
            ear.listen(&self.connections[at], &mut answered).await?;
            let now = Instant::now();
            for answer in answered.drain(..) {
                self.note(&answer, now)?;
                if self.wander {
                    let next = (at + 1) % self.connections.len();
                    self.call(next);
                    self.connections[next].flush()?;
                } else {
                    self.call(at);
                }
            }
            self.connections[at].flush()?;
        }
    }

    fn note(&self, answer: &Answer, now: Instant) -> anyhow::Result<()> {
        let (method, bytes) = (answer.method, answer.bytes.saturating_sub(FRAME));
        ensure!(self.work.answers.contains(&bytes), "{method:?} was answered with {bytes} bytes");
        if self.phase.get() == Phase::Measured {
            self.latency.borrow_mut().saturating_record((now - answer.begun).as_nanos() as u64);
        }
        if let (Some(ids), Method::Save) = (&self.work.ids, method) {
            let answer = SaveResponse::decode(answer.message.get(FRAME..).unwrap_or_default())?;
            ids.borrow_mut().push(answer.session.unwrap_or_default().id);
        }
        Ok(())
    }
}

/// Of nanoseconds, up to a minute, to 0.1 %.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("these are bounds")
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use tokio::task::LocalSet;

    use super::*;
    use crate::{tuned, wire};

    /// Loads an echo, which runs until the tests end.
    async fn loaded(callers: Callers, size: usize, calls: usize, answers: Range<usize>) -> anyhow::Result<Outcome> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(|| tuned::serve(listener));
        let work = Work::once(vec![(Method::Open, wire::echo(size)); calls], answers);
        let time = Time { warm: Duration::ZERO, run: Duration::from_secs(60) };
        LocalSet::new().run_until(run(address, callers, work, time, || Ok(()))).await
    }

    #[tokio::test]
    async fn every_call_is_made_and_answered_once() {
        for (wander, size) in [(false, 512), (true, 512), (false, 16_384), (true, 16_384)] {
            let callers = Callers { connections: 3, in_flight: 40, wander };
            let outcome = loaded(callers, size, 5_000, size - 4..size + 400).await.unwrap();
            assert_eq!((outcome.calls, outcome.latency.len()), (5_000, 5_000), "{callers:?}, {size} bytes");
        }
    }

    #[tokio::test]
    async fn an_answer_that_should_not_be_ends_it() {
        let callers = Callers { connections: 1, in_flight: 1, wander: false };
        let error = loaded(callers, 512, 10, 0..10).await.unwrap_err();
        assert!(error.to_string().starts_with("Open was answered with"), "{error}");
    }
}
