//! A sessiond that goes and comes back at the same address.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{command, eventually, reserved_port};

/// A `sessiond` on a port that it keeps over restarts.
pub struct Sessiond {
    arguments: Vec<String>,
    url: String,
    process: Option<Child>,
}

impl Sessiond {
    /// Starts it with these arguments, and waits until it is ready.
    pub async fn start(arguments: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", reserved_port());
        let arguments = [&["--listen", &address], arguments].concat().into_iter().map(str::to_owned).collect();
        let mut sessiond = Self { arguments, url: format!("http://{address}"), process: None };
        sessiond.come_back().await;
        sessiond
    }

    /// Its address, for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it ends");
    }

    /// Sends it a signal: `Signal::STOP` freezes it, `Signal::CONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("the process is there");
    }

    /// Starts it again at the same address, and waits until it is ready.
    pub async fn come_back(&mut self) {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        let process =
            command(&arguments).env("RUST_LOG", "warn").stderr(Stdio::null()).spawn().expect("sessiond starts");
        self.process = Some(process);
        eventually("sessiond is ready", async || self.is_ready().await).await;
    }

    /// Whether it answers calls.
    pub async fn is_ready(&self) -> bool {
        let Ok(endpoint) = tonic::transport::Endpoint::from_shared(self.url.clone()) else { return false };
        let Ok(channel) = endpoint.connect().await else { return false };
        let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        answer.is_ok_and(|answer| answer.into_inner().status == 1)
    }
}

impl Drop for Sessiond {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
