//! A sessiond in this process, so that the example is one command. A real one is a process of its own.

use std::{
    future, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use sessiond::{Listeners, clock::SystemClock, config::Config, random::OsRandom, serve, store::memory::MemoryStore};

/// Starts it on a free port.
pub(crate) fn start_sessiond() -> io::Result<SocketAddr> {
    let grpc = TcpListener::bind("127.0.0.1:0")?;
    let address = grpc.local_addr()?;
    let settings = Config::try_read(["sessiond"]).map_err(io::Error::other)?.settings();
    let store = MemoryStore::new(Arc::new(SystemClock), 64 << 20);
    let listeners = Listeners { grpc, metrics: None };
    tokio::spawn(serve(listeners, move || store.clone(), Arc::new(OsRandom), settings, future::pending()));
    Ok(address)
}
