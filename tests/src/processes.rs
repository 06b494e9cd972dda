//! Real Redis servers and real `sessiond` processes on free ports, which end when they go out of scope. (Two kinds of process and
//! what each can be asked: long, as the tests ask much.)

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use sessiond_proto::v1::session_service_client::SessionServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{PATIENCE, eventually, poll_pause};

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

/// A Redis of this test's own, without persistence unless told otherwise.
pub struct TestRedis {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl TestRedis {
    /// Starts `redis-server` (or what `REDIS_SERVER` names) and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts it with these arguments besides port and folder.
    pub async fn start_with(arguments: &[&str]) -> Self {
        // Another process may take the port in between: then Redis ends, and the next port is tried.
        for _ in 0..5 {
            if let Some(redis) = Self::try_start(free_port(), arguments).await {
                return redis;
            }
        }
        panic!("Redis does not start with {arguments:?}");
    }

    /// Starts it on this port, which is to be a [`reserved_port`]: so a Redis can come late, or come back.
    pub async fn start_on(port: u16) -> Self {
        let started = Self::try_start(port, &["--save", "", "--appendonly", "no"]).await;
        started.unwrap_or_else(|| panic!("Redis does not start on port {port}"))
    }

    async fn try_start(port: u16, arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let binary = env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut process = Command::new(&binary)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--loglevel", "warning"])
            .arg("--dir")
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {binary}: {error}; `scripts/test` says what to install"));
        let up = answers(port, &mut process).await;
        let redis = Self { process, port, folder };
        up.then_some(redis)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A plain connection, for looking behind the scenes.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        connect(self.port).await.expect("the test's Redis is up")
    }

    /// Runs one command.
    pub async fn command<T: redis::FromRedisValue>(&self, parts: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        parts.iter().for_each(|part| {
            command.arg(part);
        });
        command.query_async(&mut self.connection().await).await.expect("the command succeeds")
    }

    /// How often this command was run since the start, from scripts too (`INFO commandstats`).
    pub async fn calls(&self, command: &str) -> u64 {
        let stats: String = self.command(&["INFO", "commandstats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().and_then(|calls| calls.parse().ok()).expect("a number of calls"))
    }

    /// The folder that it writes to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends it a signal: `Signal::STOP` freezes it, `Signal::CONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        send(&self.process, signal);
    }
}

async fn connect(port: u16) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    redis::Client::open(format!("redis://127.0.0.1:{port}"))?.get_multiplexed_async_connection().await
}

/// Whether a Redis that was just started answers; false if it ended instead, or if another one has its port.
async fn answers(port: u16, process: &mut Child) -> bool {
    let ours = format!("process_id:{}\r", process.id());
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && matches!(process.try_wait(), Ok(None)) {
        if let Ok(mut connection) = connect(port).await
            && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
        {
            let info = redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await;
            return info.is_ok_and(|info| info.contains(&ours));
        }
        poll_pause().await;
    }
    false
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn send(process: &Child, signal: Signal) {
    let pid = Pid::from_child(process);
    kill_process(pid, signal).expect("the process is there");
}

/// A real `sessiond`, in a process of its own.
pub struct Server {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// Starts it on a free port with these arguments, and waits until it listens.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_logging(arguments, "info").await
    }

    /// The same, with `RUST_LOG`.
    pub async fn start_logging(arguments: &[&str], log: &str) -> Self {
        Self::start_at("127.0.0.1:0", arguments, log).await
    }

    /// The same, at this address: on a [`reserved_port`], so that it can go and come back.
    pub(crate) async fn start_at(listen: &str, arguments: &[&str], log: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = fs::File::create(folder.path().join("log")).expect("a log file");
        let process = command(arguments)
            .args(["--listen", listen])
            .env("RUST_LOG", log)
            .stderr(file)
            .spawn()
            .expect("sessiond starts");
        let mut server = Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), folder };
        eventually("sessiond tells its address", async || match server.told_address() {
            Some(address) => {
                server.address = address;
                true
            }
            None => {
                let ended = server.process.try_wait().expect("its state is known");
                assert!(ended.is_none(), "sessiond ended at once: {}", server.log());
                false
            }
        })
        .await;
        server
    }

    fn told_address(&self) -> Option<SocketAddr> {
        let log = self.log();
        // As text, or as JSON.
        let (_, rest) = log.split_once("address=").or_else(|| log.split_once("\"address\":\""))?;
        rest.split_once([' ', '"'])?.0.parse().ok()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// All that it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A connection to it, which is made when first used.
    pub fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).expect("a URL").connect_lazy()
    }

    /// A stub with a connection of its own.
    pub fn stub(&self) -> Stub {
        SessionServiceClient::new(self.channel())
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        let mut health = tonic_health::pb::health_client::HealthClient::new(self.channel());
        eventually("sessiond is ready", async || {
            let request = tonic_health::pb::HealthCheckRequest::default();
            health.check(request).await.is_ok_and(|answer| answer.into_inner().status == 1)
        })
        .await;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(&self.process, signal);
    }

    /// Waits until it has ended, and gives its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("sessiond ends", async || match self.process.try_wait().expect("its state is known") {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        })
        .await;
        code
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("--- the last of sessiond's log ---\n{}", &log[log.len().saturating_sub(4000)..]);
        }
    }
}

/// The binary with these arguments, and none of the tests' own environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
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
pub(crate) fn built(what: &[&str]) -> PathBuf {
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
}

impl World {
    /// Of what is running already.
    pub fn of(server: Server, redis: Option<TestRedis>) -> Self {
        Self { server, redis, others: Vec::new(), turn: AtomicUsize::new(0) }
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
        let server = Self::server_on(&redis, arguments).await;
        Self::of(server, Some(redis))
    }

    /// Three services on one Redis, ready. Stubs go round, so that callers of one session meet in Redis alone.
    pub async fn three(arguments: &[&str]) -> Self {
        let mut world = Self::redis(arguments).await;
        for _ in 0..2 {
            let redis = world.redis.as_ref().expect("just started");
            world.others.push(Self::server_on(redis, arguments).await);
        }
        world
    }

    async fn server_on(redis: &TestRedis, arguments: &[&str]) -> Server {
        let server = Server::start(&[&["--store", &redis.url()], arguments].concat()).await;
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
        match (&self.redis, &self.others[..]) {
            (None, _) => "memory",
            (Some(_), []) => "redis",
            (Some(_), _) => "three on one redis",
        }
    }
}
