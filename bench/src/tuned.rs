//! sessiond's server shape without sessiond: one thread and current-thread runtime per core, connections handed to the one
//! with the fewest, writes that are not vectored. It mirrors `server/src/shard.rs` and must be kept like it: what runs in this
//! shape is the floor below which sessiond cannot come.

use std::{
    io,
    net::TcpListener,
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
    sync::mpsc,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{
    service::Routes,
    transport::{
        Server,
        server::{Connected, TcpConnectInfo},
    },
};

/// Serves these routes for ever.
///
/// # Errors
/// When a thread or its runtime cannot be made, or no connection can be accepted.
pub fn serve(listener: TcpListener, routes: impl Fn() -> Routes + Clone + Send + 'static) -> io::Result<()> {
    let cores = thread::available_parallelism()?.get();
    let shards: Vec<_> = (0..cores).map(|_| shard(routes.clone())).collect::<io::Result<_>>()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        for next in 0.. {
            let io = listener.accept().await?.0.into_std()?;
            let order = (0..cores).map(|at| &shards[(next + at) % cores]);
            let Some((sockets, count)) = order.min_by_key(|(_, count)| count.load(Ordering::Relaxed)) else { break };
            count.fetch_add(1, Ordering::Relaxed);
            let _ = sockets.send((io, Count(Arc::clone(count)))).await;
        }
        Ok(())
    })
}

type Handed = (std::net::TcpStream, Count);

fn shard(routes: impl FnOnce() -> Routes + Send + 'static) -> io::Result<(mpsc::Sender<Handed>, Arc<AtomicUsize>)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (sockets, handed) = mpsc::channel::<Handed>(256);
    thread::Builder::new().name("tuned".to_owned()).spawn(move || {
        let incoming = ReceiverStream::new(handed).map(|(io, count)| {
            io.set_nodelay(true)?;
            Ok::<_, io::Error>(Quiet { io: TcpStream::from_std(io)?, _count: Some(count) })
        });
        let server = Server::builder()
            .max_concurrent_streams(256)
            .http2_max_local_error_reset_streams(Some(128))
            .http2_keepalive_interval(Some(Duration::from_secs(60)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)));
        runtime.block_on(server.serve_with_incoming(routes().prepare(), incoming))
    })?;
    Ok((sockets, Arc::default()))
}

/// A connection that does not tell that it could write several buffers at once: then h2 gathers small frames into one write
/// instead of flushing each. The generator uses it as well, so as to be cheap.
#[derive(Debug)]
pub struct Quiet {
    io: TcpStream,
    _count: Option<Count>,
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<TcpStream> for Quiet {
    fn from(io: TcpStream) -> Self {
        Self { io, _count: None }
    }
}

impl AsyncRead for Quiet {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Quiet {
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

impl Connected for Quiet {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}
