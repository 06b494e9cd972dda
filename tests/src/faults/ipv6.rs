//! A sessiond on a machine with another IPv6 configuration than this one. (Linux only: `tests/faults/ipv6.c` is preloaded into
//! sessiond.)

use std::path::Path;

use super::preload;
use crate::Server;

/// What the machine seems to have.
#[derive(Clone, Copy, Debug)]
pub enum Ipv6 {
    /// No IPv6 at all, as after `ipv6.disable=1`.
    Absent,
    /// `net.ipv6.bindv6only = 1`: an IPv6 socket refuses IPv4, unless the program says otherwise.
    Only,
}

impl Ipv6 {
    /// Starts a sessiond there, listening on this address.
    pub async fn server(self, listen: &str, arguments: &[&str]) -> Server {
        let mode = match self {
            Self::Absent => "none",
            Self::Only => "only",
        };
        let library = preload::library("ipv6");
        let variables = [("LD_PRELOAD", library.as_path()), ("SESSIOND_FAULTS_IPV6", Path::new(mode))];
        Server::start_in(&variables, listen, arguments, "info").await
    }
}
