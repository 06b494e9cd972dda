//! A sessiond that goes and comes back at the same address.

use rustix::process::Signal;

use crate::{Server, reserved_port};

/// A `sessiond` on a port that it keeps over restarts.
pub struct Sessiond {
    arguments: Vec<String>,
    address: String,
    url: String,
    server: Option<Server>,
}

impl Sessiond {
    /// Starts it with these arguments, and waits until it is ready.
    pub async fn start(arguments: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", reserved_port());
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut sessiond = Self { arguments, url: format!("http://{address}"), address, server: None };
        sessiond.come_back().await;
        sessiond
    }

    /// Its address, for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it.
    pub fn kill(&mut self) {
        drop(self.server.take().expect("it runs"));
    }

    /// Sends it a signal: `Signal::STOP` freezes it, `Signal::CONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        self.server.as_ref().expect("it runs").signal(signal);
    }

    /// Starts it again at the same address, and waits until it is ready.
    pub async fn come_back(&mut self) {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        let server = Server::start_at(&self.address, &arguments, "info").await;
        server.ready().await;
        self.server = Some(server);
    }
}
