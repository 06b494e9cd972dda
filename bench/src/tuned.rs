//! sessiond's server without sessiond: the echo's handler behind sessiond's own threads, HTTP/2 and gRPC. What runs so is the
//! floor below which sessiond cannot come.

use std::{convert::Infallible, io, net, sync::Arc, thread, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use sessiond::{
    grpc::unary,
    shard::{Shard, accept},
};
use sessiond_proto::v1::OpenRequest;
use tokio::{
    net::TcpListener,
    runtime,
    sync::{mpsc, watch},
};

use crate::echo::Echo;

/// Serves an echo for ever.
///
/// # Errors
/// When a thread or its runtime cannot be made, or one has ended.
pub fn serve(listener: net::TcpListener) -> io::Result<()> {
    let echo = Arc::new(Echo::default());
    let answers = || {
        let echo = Arc::clone(&echo);
        move || {
            service_fn(move |request: Request<Incoming>| {
                let echo = Arc::clone(&echo);
                async move {
                    let handle = |request: OpenRequest| async move { echo.answer(&request) };
                    Ok::<_, Infallible>(unary::answer(request.into_body(), handle).await)
                }
            })
        }
    };
    // It never stops by itself.
    let (_stop, stopped) = watch::channel(false);
    let (alive, _ended) = mpsc::channel(1);
    let cores = thread::available_parallelism()?.get();
    let shards: Vec<_> = (0..cores)
        .map(|number| Shard::start(number, answers(), Duration::ZERO, stopped.clone(), alive.clone()))
        .collect::<io::Result<_>>()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    Err(runtime.block_on(async {
        listener.set_nonblocking(true)?;
        Ok::<_, io::Error>(accept(&TcpListener::from_std(listener)?, &shards).await)
    })?)
}
