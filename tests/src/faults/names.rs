//! A name whose address changes while sessiond runs, as a name server's answer would. (Linux only:
//! `tests/faults/names.c` is preloaded into sessiond.)

use std::{fs, net::Ipv4Addr, path::PathBuf};

use tempfile::TempDir;

use super::preload;
use crate::Server;

/// The name.
pub const NAME: &str = "redis.moves.test";

/// What the name means now.
pub struct Names {
    folder: TempDir,
    library: PathBuf,
}

impl Names {
    /// The name means this address.
    pub fn mean(address: Ipv4Addr) -> Self {
        let names =
            Self { folder: tempfile::tempdir().expect("a temporary folder"), library: preload::library("names") };
        names.now_mean(address);
        names
    }

    /// From now on it means this one.
    pub fn now_mean(&self, address: Ipv4Addr) {
        // In one step: sessiond may look at any moment.
        let new = self.folder.path().join("new");
        fs::write(&new, address.to_string()).expect("it can be written");
        fs::rename(new, self.file()).expect("it can be renamed");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("names")
    }

    /// Starts a sessiond that asks here.
    pub async fn server(&self, arguments: &[&str]) -> Server {
        let file = self.file();
        let variables = [("LD_PRELOAD", self.library.as_path()), ("SESSIOND_FAULTS_NAMES", file.as_path())];
        Server::start_in(&variables, "127.0.0.1:0", arguments, "info").await
    }
}
