//! Redis as more than one process: [`Sentinels`] that watch a master and its replicas, and a [`Cluster`].

mod cluster;
mod sentinels;

use redis::{Value, from_redis_value};
use tempfile::TempDir;

pub use self::{
    cluster::{Cluster, NODE_TIMEOUT},
    sentinels::{Announcements, DOWN_AFTER, Sentinels},
};
use crate::{TestRedis, reserved_port};

/// Starts one on a port of its own, with a configuration file if it writes to one.
async fn node(conf: Option<&str>, arguments: impl Fn(u16) -> Vec<String>) -> TestRedis {
    // Another process may take the port in between.
    for _ in 0..5 {
        let folder = folder(conf);
        let port = reserved_port();
        if let Some(redis) = TestRedis::launch(port, &arguments(port), folder, None).await {
            return redis;
        }
    }
    panic!("Redis does not start");
}

fn folder(conf: Option<&str>) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    if let Some(conf) = conf {
        std::fs::write(folder.path().join("conf"), conf).expect("it can be written");
    }
    folder
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// What `INFO` or `CLUSTER INFO` says of this.
fn told(info: &str, what: &str) -> Option<String> {
    info.lines().find_map(|line| Some(line.strip_prefix(what)?.strip_prefix(':')?.trim().to_owned()))
}

/// Whether it says that it is a master. One that is down, or stands still, says nothing.
async fn is_master(redis: &TestRedis) -> bool {
    let role = tokio::time::timeout(std::time::Duration::from_millis(200), redis.try_command::<Vec<Value>>(&["ROLE"]));
    let Ok(Ok(role)) = role.await else { return false };
    let role = role.into_iter().next().and_then(|role| from_redis_value::<String>(role).ok());
    role.is_some_and(|role| role == "master")
}
