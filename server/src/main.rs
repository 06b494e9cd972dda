//! The binary `sessiond`: reads the command line, opens the edges, and serves.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
    process::ExitCode,
    sync::Arc,
};

use sessiond::{
    Listeners,
    clock::SystemClock,
    config::{Config, LogFormat, StoreUrl},
    random::OsRandom,
    serve,
    store::{memory::MemoryStore, redis::RedisStore},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

// Fewer and cheaper allocations than the system's (measured: 0.8 of the CPU per call).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The most bytes that the memory store holds: enough for some hundred thousand sessions of a developer's machine.
const MEMORY_CAPACITY: usize = 256 << 20;

fn main() -> ExitCode {
    let config = Config::read();
    if let Err(refusal) = config.check() {
        eprintln!("error: {refusal}\n\nFor more information, try '--help'.");
        return ExitCode::from(2);
    }
    start_logging(config.log_format);
    // Said, so that no other one that a dependency may bring leaves the choice open. It fails where one is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Connections that may wait to be taken; the kernel's own bound (`net.core.somaxconn`) holds besides. std asks for 128, and who
/// finds the queue full tries again after a second: when a service starts anew, all its clients come at once.
const BACKLOG: i32 = 4096;

fn run(config: &Config) -> Result<(), String> {
    let bind = |flag, address| bind(flag, address).map_err(|refusal| config.name_variables(&refusal));
    let grpc = bind("--listen", &config.listen)?;
    let metrics = config.metrics_listen.as_deref().map(|address| bind("--metrics-listen", address)).transpose()?;
    let address = grpc.local_addr().map_err(|error| error.to_string())?;
    info!(%address, store = %config.store, version = env!("CARGO_PKG_VERSION"), "sessiond listens");
    if let Some(address) = metrics.as_ref().and_then(|listener| listener.local_addr().ok()) {
        info!(metrics_address = %address, "metrics are at /metrics");
    }
    let listeners = Listeners { grpc, metrics };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (random, settings) = (Arc::new(OsRandom), config.settings());
    let served = match &config.store {
        StoreUrl::Memory => {
            warn!("sessions are kept in memory and die with this process: for more than trying it out, give --store");
            let store = MemoryStore::new(Arc::new(SystemClock), MEMORY_CAPACITY);
            runtime.block_on(serve(listeners, move || store.clone(), random, settings, told_to_stop()))
        }
        StoreUrl::Redis(url) => {
            let (url, options) = (url.clone(), config.redis_options());
            let open = move || RedisStore::open(&url, &options);
            runtime.block_on(serve(listeners, open, random, settings, told_to_stop()))
        }
    };
    served.map_err(|error| error.to_string())
}

/// Opens a listener on the first address that `HOST:PORT` names and that can be listened on.
fn bind(flag: &str, address: &str) -> Result<TcpListener, String> {
    let listener = address.to_socket_addrs().and_then(|addresses| {
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        for address in addresses {
            match listen(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    });
    listener.map_err(|error| refused(flag, address, &error))
}

/// Opens a listener on this address. `[::]` accepts IPv4 too, whatever `net.ipv6.bindv6only` is, and becomes `0.0.0.0` on a
/// machine without IPv6: so that one setting, which an image carries, is right everywhere.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let is_wildcard = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match open(address, is_wildcard) {
        Err(error) if is_wildcard && error.kind() != io::ErrorKind::AddrInUse => {
            let listener = open((Ipv4Addr::UNSPECIFIED, address.port()).into(), false)?;
            warn!(%error, "no IPv6 on this machine: listening on 0.0.0.0 instead of [::]");
            Ok(listener)
        }
        opened => opened,
    }
}

fn open(address: SocketAddr, accepts_ipv4_too: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if accepts_ipv4_too {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait until the last connections of the process before have timed out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn refused(flag: &str, address: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "something listens there already: stop it, or choose another address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "an address is HOST:PORT, for example 127.0.0.1:50051",
    };
    format!("cannot listen on {address} ({flag}): {error}; {advice}")
}

/// Ends with SIGTERM or Ctrl-C.
async fn told_to_stop() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(error) => {
            warn!(%error, "SIGTERM will not be heard");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn start_logging(format: LogFormat) {
    let filter = Config::rust_log().map(EnvFilter::try_new).transpose();
    let (filter, invalid) = match filter {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => lines.json().init(),
    }
    if let Some(error) = invalid {
        warn!(%error, "RUST_LOG is not a valid filter: logging at info");
    }
}
