//! Real Redis servers and real `sessiond` processes on free ports, which end when they go out of scope.

mod redis;
mod sessiond;
mod tls;

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process};
use sessiond_proto::v1::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

pub use self::{redis::TestRedis, sessiond::Server, tls::Authority};

fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
    probe.local_addr().expect("it has an address").port()
}

/// A port that stays free until this test takes it: from below the range that systems give to whoever asks for any.
pub fn reserved_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 10_000;
    (0..10_000)
        .map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port below 30000")
}

fn send(process: &Child, signal: Signal) {
    let pid = Pid::from_child(process);
    kill_process(pid, signal).expect("the process is there");
}

/// A build of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The one that is tested.
    This,
    /// The one before it, with which it shares a Redis in an upgrade.
    Previous,
}

impl Build {
    /// Whether there is a previous build: `scripts/test` makes it and names it in `SESSIOND_TEST_PREVIOUS`. A test that
    /// needs it returns at once if not.
    pub fn has_previous() -> bool {
        let has = previous().is_some();
        if !has {
            println!("SKIPPED: SESSIOND_TEST_PREVIOUS names no previous build; scripts/test makes one");
        }
        has
    }

    fn binary(self) -> &'static Path {
        match self {
            Self::This => binary(),
            Self::Previous => previous().expect("a test that needs the previous build asks whether there is one"),
        }
    }
}

fn previous() -> Option<&'static Path> {
    static PREVIOUS: OnceLock<Option<PathBuf>> = OnceLock::new();
    PREVIOUS.get_or_init(|| env::var_os("SESSIOND_TEST_PREVIOUS").map(PathBuf::from)).as_deref()
}

/// The binary with these arguments, and none of the tests' own environment.
pub fn command(arguments: &[&str]) -> Command {
    command_of(Build::This, arguments)
}

fn command_of(build: Build, arguments: &[&str]) -> Command {
    let mut command = Command::new(build.binary());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SESSIOND_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(arguments).stdin(Stdio::null());
    command
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built(&["-p", "sessiond", "--bin", "sessiond"]).join("sessiond"))
}

/// Builds this, so that no test ever runs against yesterday's, and gives the folder that binaries lie in.
pub fn built(what: &[&str]) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet"]).args(what);
    // What cargo tells this test of its package, some build scripts (ring's) would take for a change, and build anew.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            build.env_remove(name);
        }
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "{what:?} does not build");
    // A test's own binary lies in `deps` beside it; a benchmark's next to it.
    let here = env::current_exe().expect("the path of this test");
    here.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).expect("a folder above `deps`").to_owned()
}

/// A stub as any caller would have one.
pub type Stub = SessionServiceClient<Channel>;

/// A `sessiond` with its store; or several, as a site has them behind one name.
pub struct World {
    /// The service; the first, if there are several.
    pub server: Server,
    /// Its Redis, if it has one.
    pub redis: Option<TestRedis>,
    /// The others, on the same Redis.
    others: Vec<Server>,
    /// Whose turn it is to get a stub.
    turn: AtomicUsize,
    name: &'static str,
}

impl World {
    /// Of what is running already.
    pub fn of(server: Server, redis: Option<TestRedis>) -> Self {
        let name = if redis.is_some() { "redis" } else { "memory" };
        Self { server, redis, others: Vec::new(), turn: AtomicUsize::new(0), name }
    }

    /// A service on the memory store, ready.
    pub async fn memory(arguments: &[&str]) -> Self {
        let server = Server::start(arguments).await;
        server.ready().await;
        Self::of(server, None)
    }

    /// A service on a Redis of its own, ready.
    pub async fn redis(arguments: &[&str]) -> Self {
        let redis = TestRedis::start().await;
        let server = Self::server_on(&redis, Build::This, arguments).await;
        Self::of(server, Some(redis))
    }

    /// Three services on one Redis, ready. Stubs go round, so that callers of one session meet in Redis alone.
    pub async fn three(arguments: &[&str]) -> Self {
        let mut world = Self::redis(arguments).await;
        world.name = "three on one redis";
        for _ in 0..2 {
            let redis = world.redis.as_ref().expect("just started");
            world.others.push(Self::server_on(redis, Build::This, arguments).await);
        }
        world
    }

    /// A service of this build and one of the previous build on one Redis, ready. Stubs go to them by turns. `None` if there
    /// is no previous build.
    pub async fn mixed(arguments: &[&str]) -> Option<Self> {
        if !Build::has_previous() {
            return None;
        }
        let mut world = Self::redis(arguments).await;
        let redis = world.redis.as_ref().expect("just started");
        world.others.push(Self::server_on(redis, Build::Previous, arguments).await);
        world.name = "two builds on one redis";
        Some(world)
    }

    async fn server_on(redis: &TestRedis, build: Build, arguments: &[&str]) -> Server {
        let server = Server::start_build(build, "127.0.0.1:0", &[&["--store", &redis.url()], arguments].concat()).await;
        server.ready().await;
        server
    }

    /// A stub with a connection of its own; where there are several services, to the next one.
    pub fn stub(&self) -> Stub {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (1 + self.others.len());
        turn.checked_sub(1).map_or(&self.server, |other| &self.others[other]).stub()
    }

    /// What it is, for a line of figures.
    pub fn name(&self) -> &'static str {
        self.name
    }
}
