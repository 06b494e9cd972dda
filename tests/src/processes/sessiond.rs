//! A real `sessiond`, in a process of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command},
};

use rustix::process::Signal;
use sessiond_proto::v1::session_service_client::SessionServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::{Build, Stub, command, command_of, send};
use crate::eventually;

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
        Self::start_in(&[], listen, arguments, log).await
    }

    /// Starts it on this address with these arguments and variables, and waits until it listens.
    pub async fn listening(listen: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, Path::new(*value))).collect();
        Self::start_in(&variables, listen, arguments, "info").await
    }

    /// The same, with these variables in its environment.
    pub(crate) async fn start_in(variables: &[(&str, &Path)], listen: &str, arguments: &[&str], log: &str) -> Self {
        let mut command = command(arguments);
        command.envs(variables.iter().copied());
        Self::launch(command, listen, log).await
    }

    /// Starts one of this build at this address, and waits until it listens.
    pub async fn start_build(build: Build, listen: &str, arguments: &[&str]) -> Self {
        Self::launch(command_of(build, arguments), listen, "info").await
    }

    async fn launch(mut command: Command, listen: &str, log: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = fs::File::create(folder.path().join("log")).expect("a log file");
        let process =
            command.args(["--listen", listen]).env("RUST_LOG", log).stderr(file).spawn().expect("sessiond starts");
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

    /// What the kernel tells of its memory, in KiB: `VmRSS` now, `VmHWM` at the most. (Linux only.)
    pub fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the kernel tells of it");
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("a number of KiB")
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
