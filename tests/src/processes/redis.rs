//! A Redis of a test's own, which can be frozen, killed, deprived of its power, and come back.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{free_port, send};
use crate::{PATIENCE, faults::fsync, poll_pause};

/// What all but those that are killed begin with.
const NOTHING_KEPT: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// A Redis of this test's own, without persistence unless told otherwise.
pub struct TestRedis {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
    arguments: Vec<String>,
    /// Its disk, if that is not the machine's.
    disk: Option<Disk>,
}

/// A disk that takes this long to have something for sure, and of which it is noted what it has. (Linux only:
/// `tests/faults/fsync.c`.)
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    library: PathBuf,
    takes: Duration,
}

impl TestRedis {
    /// Starts `redis-server` (or what `REDIS_SERVER` names) and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&NOTHING_KEPT).await
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

    /// Starts it on this port, which is to be a [`crate::reserved_port`]: so a Redis can come late, or come back.
    pub async fn start_on(port: u16) -> Self {
        Self::start_on_with(port, &NOTHING_KEPT).await
    }

    /// The same, with these arguments.
    pub async fn start_on_with(port: u16, arguments: &[&str]) -> Self {
        let started = Self::try_start(port, arguments).await;
        started.unwrap_or_else(|| panic!("Redis does not start on port {port}"))
    }

    /// Starts one that keeps an append-only file, on a port to come back on. Its disk takes so long for each fsync, and the
    /// power may fail.
    pub async fn start_keeping(appendfsync: &str, fsync_takes: Duration) -> Self {
        let arguments = ["--save", "", "--appendonly", "yes", "--appendfsync", appendfsync];
        // A rewrite would make files whose loss is another question.
        let arguments = [&arguments[..], &["--auto-aof-rewrite-percentage", "0"]].concat();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Some(Disk { library: fsync::library(), takes: fsync_takes });
        let started = Self::launch(crate::reserved_port(), &owned(&arguments), folder, disk).await;
        started.unwrap_or_else(|| panic!("Redis does not start with {arguments:?}"))
    }

    async fn try_start(port: u16, arguments: &[&str]) -> Option<Self> {
        Self::launch(port, &owned(arguments), tempfile::tempdir().expect("a temporary folder"), None).await
    }

    /// Starts one in a folder that may hold a configuration file, `conf`: a Sentinel needs one to write to.
    pub(crate) async fn launch(port: u16, arguments: &[String], folder: TempDir, disk: Option<Disk>) -> Option<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = spawn(address, arguments, folder.path(), disk.as_ref());
        let up = answers(address, &mut process).await;
        let redis = Self { process, address, folder, arguments: arguments.to_vec(), disk };
        up.then_some(redis)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A plain connection, for looking behind the scenes.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        connect(self.address).await.expect("the test's Redis is up")
    }

    /// Runs one command.
    pub async fn command<T: redis::FromRedisValue>(&self, parts: &[&str]) -> T {
        self.try_command(parts).await.expect("the command succeeds")
    }

    /// Runs one command that may fail, as it does on a Redis that is down.
    pub async fn try_command<T: redis::FromRedisValue>(&self, parts: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        parts.iter().for_each(|part| {
            command.arg(part);
        });
        command.query_async(&mut connect(self.address).await?).await
    }

    /// Runs one command as this user, who has no password.
    pub async fn command_as<T: redis::FromRedisValue>(&self, user: &str, parts: &[&str]) -> T {
        let client = redis::Client::open(format!("redis://{user}:any@{}", self.address)).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("the test's Redis is up");
        let mut command = redis::Cmd::new();
        parts.iter().for_each(|part| {
            command.arg(part);
        });
        command.query_async(&mut connection).await.expect("the command succeeds")
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

    /// All that it has logged since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends it a signal: `Signal::STOP` freezes it, `Signal::CONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        send(&self.process, signal);
    }

    /// Kills it (SIGKILL): what it has written stays, as the kernel has it.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Kills it and takes away what was not surely on the disk. Only for one that was started by
    /// [`TestRedis::start_keeping`]. Gives how many bytes were lost.
    pub fn lose_power(&mut self) -> u64 {
        assert!(self.disk.is_some(), "nobody noted what was fsynced");
        self.kill();
        fsync::cut(&self.folder.path().join("appendonlydir"), self.folder.path())
    }

    /// Starts it again where it was, and with what it has kept.
    pub async fn come_back(&mut self) {
        self.start_again();
        let up = answers(self.address, &mut self.process).await;
        assert!(up, "Redis does not come back on {}; it says: {}", self.address, self.log());
    }

    /// The same, with these arguments besides, and without waiting until it answers.
    pub fn start_again_with(&mut self, more: &[&str]) {
        let arguments = [&self.arguments[..], &owned(more)].concat();
        self.process = spawn(self.address, &arguments, self.folder.path(), self.disk.as_ref());
    }

    fn start_again(&mut self) {
        self.process = spawn(self.address, &self.arguments, self.folder.path(), self.disk.as_ref());
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

fn spawn(address: SocketAddr, arguments: &[String], folder: &Path, disk: Option<&Disk>) -> Child {
    let binary = env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let mut command = Command::new(&binary);
    let conf = folder.join("conf");
    if conf.exists() {
        command.arg(conf);
    }
    if let Some(Disk { library, takes }) = disk {
        command.env("LD_PRELOAD", library).env(fsync::FOLDER, folder);
        command.env(fsync::DISK, takes.as_millis().to_string());
    }
    command
        .args(["--port", &address.port().to_string(), "--bind", &address.ip().to_string(), "--loglevel", "warning"])
        .arg("--dir")
        .arg(folder)
        .args(arguments)
        .stdout(fs::File::create(folder.join("log")).map_or_else(|_| Stdio::null(), Stdio::from))
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {binary}: {error}; `scripts/test` says what to install"))
}

async fn connect(address: SocketAddr) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    redis::Client::open(format!("redis://{address}"))?.get_multiplexed_async_connection().await
}

/// Whether a Redis that was just started answers; false if it ended instead, or if another one has its port.
async fn answers(address: SocketAddr, process: &mut Child) -> bool {
    let ours = format!("process_id:{}\r", process.id());
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && matches!(process.try_wait(), Ok(None)) {
        if let Ok(mut connection) = connect(address).await
            && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
        {
            // On a busy machine even that may take too long.
            if let Ok(info) = redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await {
                return info.contains(&ours);
            }
        }
        poll_pause().await;
    }
    false
}
