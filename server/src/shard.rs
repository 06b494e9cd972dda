//! A shard: one thread, one current-thread runtime, its own store connections, and the client connections given to it.
//! Nothing of a call ever crosses to another thread (measured: about half the CPU of a work-stealing runtime).

mod authority;
mod connection;

use std::{
    io,
    net::TcpStream as StdStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use self::connection::serve;
pub use self::connection::{Call, Caller};

/// Connections waiting to be taken over; more wait in the listener's backlog.
const HANDOVERS: usize = 256;

/// What answers the calls of a shard.
pub trait Answers: Clone + Send + 'static {
    /// Answers a call, on a task of its own.
    fn answer(&self, call: Call, caller: Caller) -> impl Future<Output = ()> + Send + 'static;
}

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
    pub fn start<A: Answers>(
        number: usize,
        answers: impl FnOnce() -> A + Send + 'static,
        drain: Duration,
        stopped: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> io::Result<Self> {
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

async fn run(
    answers: impl Answers,
    mut handed: mpsc::Receiver<(StdStream, Count)>,
    drain: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    // Each connection listens to it, and has ended when it does so no more.
    let (stop, stopping) = watch::channel(false);
    loop {
        let (io, count) = tokio::select! {
            handed = handed.recv() => match handed {
                Some(handed) => handed,
                None => break,
            },
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let (answers, stopping) = (answers.clone(), stopping.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(io, answers, stopping).await {
                debug!(%error, "a connection failed");
            }
            drop(count);
        });
    }
    drop((handed, stopping));
    stop.send_replace(true);
    if timeout(drain, stop.closed()).await.is_err() {
        warn!("some connections did not end within --drain");
    }
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
