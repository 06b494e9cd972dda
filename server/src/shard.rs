//! A shard: one thread, one current-thread runtime, its own store connections, and the client connections given to it.
//! Nothing of a call ever crosses to another thread (measured: about half the CPU of a work-stealing runtime).

use std::{
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

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime,
    sync::{mpsc, watch},
    time::{Sleep, sleep},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{
    service::Routes,
    transport::{
        Server,
        server::{Connected, TcpConnectInfo},
    },
};
use tonic_health::pb::health_server::{Health, HealthServer};
use tracing::{error, warn};

use crate::{Settings, grpc, metrics::Metrics, rules::Sessions, store::Store};

/// Connections waiting to be taken over; more wait in the listener's backlog.
const HANDOVERS: usize = 256;

/// The calls at once on one connection.
const MAX_STREAMS: u32 = 256;

/// Streams reset for the client's errors before the connection is ended (RUSTSEC-2024-0003; tonic's default is no limit).
const MAX_RESETS: usize = 128;

/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// How long a new connection may take to say the first words of HTTP/2. Keepalive begins only behind them, and a connection
/// that never speaks would otherwise stay for ever.
const GREETING: Duration = Duration::from_secs(10);

/// Bytes of these words (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// A handle to a running shard.
pub(crate) struct Shard {
    sockets: mpsc::Sender<(StdStream, Count)>,
    connections: Arc<AtomicUsize>,
}

impl Shard {
    /// Starts the thread, which makes its routes itself. It drops `alive` when it has ended.
    pub(crate) fn start(
        number: usize,
        routes: impl FnOnce() -> Routes + Send + 'static,
        drain: Duration,
        stopped: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (sockets, handed) = mpsc::channel(HANDOVERS);
        let connections = Arc::new(AtomicUsize::new(0));
        thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
            runtime.block_on(async move {
                if let Err(error) = run(routes(), handed, drain, stopped).await {
                    error!(number, %error, "a shard failed");
                }
            });
            // What is still under way after the drain ends with the runtime.
            drop(runtime);
            drop(alive);
        })?;
        Ok(Self { sockets, connections })
    }

    /// How many connections it has.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gives it a connection; false if it has ended.
    pub(crate) async fn take(&self, io: StdStream) -> bool {
        self.sockets.send((io, Count::of(&self.connections))).await.is_ok()
    }
}

/// All that a shard answers.
pub(crate) fn routes<S: Store>(
    sessions: Sessions<S>,
    health: HealthServer<impl Health>,
    metrics: Option<Metrics>,
    settings: &Settings,
) -> Routes {
    let routes = Routes::new(health).add_service(grpc::service(sessions, settings.edge, metrics));
    if !settings.reflection {
        return routes;
    }
    let schema = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(sessiond_proto::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl shows the details of an error in words.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    // grpcurl before 1.9 asks v1alpha only.
    match (schema().build_v1(), schema().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            warn!(%error, "no reflection: the schema cannot be read");
            routes
        }
    }
}

async fn run(
    routes: Routes,
    handed: mpsc::Receiver<(StdStream, Count)>,
    drain: Duration,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let incoming = ReceiverStream::new(handed).map(|(io, count)| {
        io.set_nodelay(true)?;
        let greeting = Some(Greeting { until: Box::pin(sleep(GREETING)), read: 0 });
        Ok::<_, io::Error>(Socket { io: TcpStream::from_std(io)?, greeting, _count: count })
    });
    let mut drained = stopped.clone();
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .serve_with_incoming_shutdown(routes.prepare(), incoming, async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
    // tonic waits for ever for a connection that never says a word: the deadline is ours.
    tokio::select! {
        result = server => result,
        () = async {
            let _ = drained.wait_for(|stopped| *stopped).await;
            sleep(drain).await;
        } => {
            warn!("some connections did not end within --drain");
            Ok(())
        }
    }
}

/// A client's connection. It does not tell that it could write several buffers at once: then h2 gathers small answers
/// into one write instead of flushing each (measured: 0.56 of the CPU).
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

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}
