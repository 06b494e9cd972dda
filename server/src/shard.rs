//! A shard: one thread, one current-thread runtime, its own store connections, and the client connections given to it.
//! Nothing of a call ever crosses to another thread (measured: about half the CPU of a work-stealing runtime).

use std::{
    convert::Infallible,
    io,
    net::TcpStream as StdStream,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http2,
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, watch},
    time::{Sleep, sleep, timeout},
};
use tracing::{debug, error, warn};

/// Connections waiting to be taken over; more wait in the listener's backlog.
const HANDOVERS: usize = 256;

/// The calls at once on one connection.
const MAX_STREAMS: u32 = 256;

/// Streams reset for the client's errors before the connection is ended (RUSTSEC-2024-0003).
const MAX_RESETS: usize = 128;

/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// How long a new connection may take to say the first words of HTTP/2. Keepalive begins only behind them, and a connection
/// that never speaks would otherwise stay for ever.
const GREETING: Duration = Duration::from_secs(10);

/// Bytes of these words (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// A handle to a running shard.
#[derive(Debug)]
pub struct Shard {
    sockets: mpsc::Sender<(StdStream, Count)>,
    connections: Arc<AtomicUsize>,
}

impl Shard {
    /// Starts the thread, which makes for itself what answers the calls. When `stopped` turns true it says GOAWAY and lets the
    /// calls under way end, for `drain` at most. It drops `alive` when it has ended.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start<S, B>(
        number: usize,
        answers: impl FnOnce() -> S + Send + 'static,
        drain: Duration,
        stopped: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> io::Result<Self>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (sockets, handed) = mpsc::channel(HANDOVERS);
        let connections = Arc::new(AtomicUsize::new(0));
        thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
            runtime.block_on(async move { run(answers(), handed, drain, stopped).await });
            // What is still under way after the drain ends with the runtime.
            drop(runtime);
            drop(alive);
        })?;
        Ok(Self { sockets, connections })
    }

    /// How many connections it has.
    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gives it a connection; false if it has ended.
    async fn take(&self, io: StdStream) -> bool {
        self.sockets.send((io, Count::of(&self.connections))).await.is_ok()
    }
}

/// Hands each new connection to the shard with the fewest. Ends only when a shard has ended.
pub async fn accept(listener: &TcpListener, shards: &[Shard]) -> io::Error {
    let mut next = 0;
    loop {
        let socket = match listener.accept().await.and_then(|(socket, _)| socket.into_std()) {
            Ok(socket) => socket,
            Err(error) => {
                // Out of descriptors, mostly: the ones in use will be given back.
                warn!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Among equals the turn goes round.
        let order = (0..shards.len()).map(|at| &shards[(next + at) % shards.len()]);
        let Some(shard) = order.min_by_key(|shard| shard.connections()) else {
            return io::Error::other("there are no shards");
        };
        next = next.wrapping_add(1);
        if !shard.take(socket).await {
            return io::Error::other("a shard has ended by itself");
        }
    }
}

async fn run<S, B>(
    answers: S,
    mut handed: mpsc::Receiver<(StdStream, Count)>,
    drain: Duration,
    mut stopped: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(MAX_RESETS)
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        // gRPC knows no Date.
        .auto_date_header(false);
    let connections = GracefulShutdown::new();
    loop {
        let (io, count) = tokio::select! {
            handed = handed.recv() => match handed {
                Some(handed) => handed,
                None => break,
            },
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match Socket::new(io, count) {
            Ok(socket) => {
                let connection = http.serve_connection(TokioIo::new(socket), answers.clone());
                let connection = connections.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        debug!(%error, "a connection failed");
                    }
                });
            }
            Err(error) => error!(%error, "a connection could not be taken over"),
        }
    }
    drop(handed);
    if timeout(drain, connections.shutdown()).await.is_err() {
        warn!("some connections did not end within --drain");
    }
}

/// A client's connection. It does not tell that it could write several buffers at once: then h2 gathers small answers
/// into one write instead of flushing each (measured: see `bench/README.md`).
struct Socket {
    io: TcpStream,
    greeting: Option<Greeting>,
    _count: Count,
}

/// The first words of a connection.
struct Greeting {
    until: Pin<Box<Sleep>>,
    read: usize,
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn of(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Socket {
    fn new(io: StdStream, count: Count) -> io::Result<Self> {
        io.set_nodelay(true)?;
        let greeting = Some(Greeting { until: Box::pin(sleep(GREETING)), read: 0 });
        Ok(Self { io: TcpStream::from_std(io)?, greeting, _count: count })
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let Some(greeting) = &mut self.greeting else { return polled };
        greeting.read += buf.filled().len() - before;
        if greeting.read >= PREFACE {
            self.greeting = None;
        } else if polled.is_pending() && greeting.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
