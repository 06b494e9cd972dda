//! The generator: a closed loop of callers over HTTP/2 connections, by the h2 crate alone and with messages encoded before,
//! so that it takes as little of the machine as it can. What it takes is measured and told.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{HeaderMap, Request};
use prost::Message;
use sessiond_proto::v1::SaveResponse;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::{JoinSet, spawn_local},
    time::{sleep, timeout},
};

use crate::wire::Method;

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
    next: Cell<u64>,
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
    let connections: Rc<[_]> = connect(address, callers.connections).await?.into();
    let latency = RefCell::new(new_histogram());
    let shared = Rc::new(Shared { work, next: Cell::new(0), phase: Cell::new(Phase::Warm), latency });
    let mut tasks = JoinSet::new();
    for number in 0..callers.in_flight {
        let (shared, connections) = (Rc::clone(&shared), Rc::clone(&connections));
        tasks.spawn_local(async move { caller(number, callers, &connections, &shared).await });
    }
    sleep(time.warm).await;
    mark()?;
    let begun = Instant::now();
    shared.phase.set(Phase::Measured);
    let mut over = std::pin::pin!(sleep(time.run));
    let all = async {
        loop {
            tokio::select! {
                () = &mut over, if shared.phase.get() == Phase::Measured => {
                    shared.phase.set(Phase::Over);
                    mark()?;
                    break Ok(begun.elapsed());
                }
                ended = tasks.join_next() => match ended {
                    Some(ended) => ended??,
                    // All calls were made before the time was over.
                    None => {
                        mark()?;
                        break anyhow::Ok(begun.elapsed());
                    }
                }
            }
        }
    };
    let took = timeout(time.run + PATIENCE, all).await.context("the calls do not end")??;
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, rest).await.context("the last calls do not end")??;
    let latency = shared.latency.replace(new_histogram());
    Ok(Outcome { took, latency, calls: shared.next.get() })
}

/// Of nanoseconds, up to a minute, to 0.1 %.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("these are bounds")
}

/// So many connections to this address.
///
/// # Errors
/// When one cannot be made.
pub async fn connect(address: SocketAddr, connections: usize) -> anyhow::Result<Vec<SendRequest<Bytes>>> {
    let mut made = Vec::with_capacity(connections);
    for _ in 0..connections {
        let io = TcpStream::connect(address).await?;
        io.set_nodelay(true)?;
        // Windows wide enough that nothing ever waits for one, and few updates of them are sent.
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 26);
        let (sender, connection) = builder.handshake(Quiet(io)).await?;
        spawn_local(connection);
        made.push(sender);
    }
    Ok(made)
}

/// A connection that does not tell that it could write several buffers at once: then h2 gathers small frames into one write, and
/// the generator is cheap.
struct Quiet(TcpStream);

impl AsyncRead for Quiet {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn caller(
    number: usize,
    Callers { in_flight: count, wander, .. }: Callers,
    connections: &[SendRequest<Bytes>],
    shared: &Shared,
) -> anyhow::Result<()> {
    let work = &shared.work;
    let requests = [Method::Open, Method::Save, Method::Destroy].map(request);
    // Spread over all connections, so that those who wander do not follow each other from one to the next.
    let mut turn = if wander { number * connections.len() / count } else { number };
    loop {
        let next = shared.next.get();
        let over = shared.phase.get() == Phase::Over && !work.finish;
        if over || next >= work.limit {
            return Ok(());
        }
        shared.next.set(next + 1);
        let (method, message) = &work.calls[(next % work.calls.len() as u64) as usize];
        let (connection, request) = (&connections[turn % connections.len()], &requests[*method as usize]);
        let begun = Instant::now();
        let answer = call(connection, request, message.clone()).await?;
        let took = begun.elapsed();
        ensure!(work.answers.contains(&answer.bytes), "{method:?} was answered with {} bytes", answer.bytes);
        if shared.phase.get() == Phase::Measured {
            shared.latency.borrow_mut().saturating_record(took.as_nanos() as u64);
        }
        if let (Some(ids), Method::Save) = (&work.ids, method) {
            let answer = SaveResponse::decode(answer.first.get(5..).unwrap_or_default())?;
            ids.borrow_mut().push(answer.session.unwrap_or_default().id);
        }
        if wander {
            turn += 1;
        }
    }
}

/// The request of a method, to be cloned for each call.
pub fn request(method: Method) -> Request<()> {
    let uri = format!("http://localhost{}", method.path());
    let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    request.body(()).expect("a request")
}

/// An answer, all of which was read.
pub struct Answer {
    /// Bytes of its message, without the frame.
    bytes: usize,
    /// The first piece of it, and of a small one all.
    first: Bytes,
}

/// One call.
///
/// # Errors
/// When it fails, or is answered with an error.
pub async fn call(connection: &SendRequest<Bytes>, request: &Request<()>, message: Bytes) -> anyhow::Result<Answer> {
    let mut connection = connection.clone().ready().await?;
    let (answer, mut body) = connection.send_request(request.clone(), false)?;
    body.send_data(message, true)?;
    let (head, mut body) = answer.await?.into_parts();
    if head.headers.contains_key("grpc-status") {
        bail!("an error: {:?}", told(&head.headers));
    }
    let (mut bytes, mut first) = (0, Bytes::new());
    while let Some(piece) = body.data().await {
        let piece = piece?;
        bytes += piece.len();
        body.flow_control().release_capacity(piece.len())?;
        if first.is_empty() {
            first = piece;
        } else if first.len() < 5 || bytes < 1024 {
            // Seldom: a small message in two frames.
            first = BytesMut::from_iter(first.iter().chain(&piece)).freeze();
        }
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    ensure!(trailers.get("grpc-status").is_some_and(|code| code == "0"), "an error: {:?}", told(&trailers));
    Ok(Answer { bytes: bytes.saturating_sub(5), first })
}

/// What an error says of itself.
fn told(headers: &HeaderMap) -> Vec<&str> {
    ["grpc-status", "grpc-message"].iter().filter_map(|name| headers.get(*name)?.to_str().ok()).collect()
}
