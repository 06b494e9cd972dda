//! The naive store behind the very same API: what a caller sees differs by nothing but the store.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use sessiond::{Listeners, Settings, grpc::EdgeLimits, random::OsRandom, rules::Limits, serve};
use sessiond_proto::v1::session_service_client::SessionServiceClient;
use tokio::sync::oneshot;
use tonic::transport::Channel;

use super::NaiveStore;
use crate::{
    Stub, TestRedis, eventually,
    store_suite::{DAY, HOUR},
};

/// A service in this process, on the naive store in a Redis of its own. Ends when it goes out of scope.
pub struct NaiveServer {
    /// Its Redis.
    pub redis: TestRedis,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl NaiveServer {
    /// Starts it, and waits until it answers.
    pub async fn start() -> Self {
        let redis = TestRedis::start().await;
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        let address = grpc.local_addr().expect("it has an address");
        let settings = Settings {
            shards: 2,
            drain: Duration::from_secs(1),
            reflection: false,
            limits: Limits {
                idle_timeout: HOUR,
                max_idle_timeout: DAY,
                max_lifetime: DAY,
                max_session_bytes: 64 << 10,
            },
            edge: EdgeLimits { deadline: Duration::from_secs(2), max_calls: 8192 },
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let url = redis.url();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (listeners, open) = (Listeners { grpc, metrics: None }, move || NaiveStore::open(url.clone()));
            let told_to_stop = async { drop(stopped.await) };
            let served = runtime.block_on(serve(listeners, open, Arc::new(OsRandom), settings, told_to_stop));
            served.expect("it serves");
        });
        let server = Self { redis, address, stop: Some(stop), thread: Some(thread) };
        eventually("the naive service answers", async || {
            server.stub().open(sessiond_proto::v1::OpenRequest::default()).await.is_ok()
        })
        .await;
        server
    }

    /// A stub with a connection of its own.
    pub fn stub(&self) -> Stub {
        let channel = Channel::from_shared(format!("http://{}", self.address)).expect("a URL");
        SessionServiceClient::new(channel.connect_lazy())
    }
}

impl Drop for NaiveServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        if !ended {
            eprintln!("the naive service failed");
        }
    }
}
