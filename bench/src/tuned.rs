//! sessiond's server without sessiond: the echo's handler behind sessiond's own threads, HTTP/2 and gRPC. What runs so is the
//! floor below which sessiond cannot come.

use std::{io, net, sync::Arc, thread, time::Duration};

use sessiond::{
    grpc::{
        stream::{Incoming, deliver},
        unary,
    },
    shard::{Answers, Call, Caller, Shard, accept},
};
use sessiond_proto::v1::OpenRequest;
use tokio::{
    net::TcpListener,
    runtime,
    sync::{mpsc, watch},
};

use crate::echo::Echo;

#[derive(Clone)]
struct Tuned(Arc<Echo>);

impl Answers for Tuned {
    fn answer(&self, call: Call, caller: Caller) -> impl Future<Output = ()> + Send + 'static {
        let echo = Arc::clone(&self.0);
        let handle = |request: OpenRequest| async move { echo.answer(&request) };
        deliver(unary::answer(Incoming::from(call.into_body()), handle), caller)
    }
}

/// Serves an echo for ever.
///
/// # Errors
/// When a thread or its runtime cannot be made, or one has ended.
pub fn serve(listener: net::TcpListener) -> io::Result<()> {
    let tuned = Tuned(Arc::new(Echo::default()));
    // It never stops by itself.
    let (_stop, stopped) = watch::channel(false);
    let (alive, _ended) = mpsc::channel(1);
    let cores = thread::available_parallelism()?.get();
    let shards: Vec<_> = (0..cores)
        .map(|number| {
            Shard::start(
                number,
                {
                    let tuned = tuned.clone();
                    move || tuned
                },
                Duration::ZERO,
                stopped.clone(),
                alive.clone(),
            )
        })
        .collect::<io::Result<_>>()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    Err(runtime.block_on(async {
        listener.set_nonblocking(true)?;
        Ok::<_, io::Error>(accept(&TcpListener::from_std(listener)?, &shards).await)
    })?)
}
