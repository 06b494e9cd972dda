//! Three instances on one Redis, under load; each is replaced, one after the other, by one of the other build: the upgrade,
//! and then the rollback. Callers do what our clients do: what nobody answered is sent again, as the same operation.

use std::time::Duration;

use rustix::process::Signal;
use sessiond_tests::{
    Build, Dice, Server, TestRedis,
    faults::load::{Load, Repeats, Running},
    reserved_port,
};

const RATE: u32 = 200;

/// So many that few of them are saved more than eight times within a minute: for those, the repeat of a call that a stopping
/// instance left unanswered may be OUTCOME_UNKNOWN.
const SESSIONS: usize = 1_000;

struct Instance {
    address: String,
    server: Server,
}

impl Instance {
    async fn start(build: Build, redis: &TestRedis) -> Self {
        let address = format!("127.0.0.1:{}", reserved_port());
        let server = Self::server(build, &address, redis).await;
        Self { server, address }
    }

    async fn server(build: Build, address: &str, redis: &TestRedis) -> Server {
        let server = Server::start_build(build, address, &["--store", &redis.url()]).await;
        server.ready().await;
        server
    }

    async fn replace(&mut self, build: Build, redis: &TestRedis) {
        self.server.signal(Signal::TERM);
        assert_eq!(self.server.ended().await, Some(0), "{}", self.server.log());
        self.server = Self::server(build, &self.address, redis).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_and_a_rollback_under_load_fail_lose_and_revive_nothing() {
    if !Build::has_previous() {
        return;
    }
    let dice = Dice::new("upgrade and rollback");
    let redis = TestRedis::start().await;
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(Instance::start(Build::Previous, &redis).await);
    }
    let servers: Vec<_> = instances.iter().map(|instance| &instance.server).collect();
    let load = Load::new(&servers, SESSIONS, Repeats::For(Duration::from_secs(6))).await;
    let running = load.start(RATE, &dice);
    for build in [Build::This, Build::Previous] {
        for instance in &mut instances {
            both_at_work(&load, &running).await;
            instance.replace(build, &redis).await;
        }
    }
    both_at_work(&load, &running).await;
    let figures = running.stop().await;
    let audit = load.audit().await;
    println!("upgrade and rollback: {figures}; failed {}; {audit}", figures.failed);
    assert_eq!((figures.failed, figures.others(&["UNAVAILABLE", "CANCELLED", "UNKNOWN"])), (0, 0), "{figures}");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
}

/// Lets the load run with the instances as they are.
async fn both_at_work(load: &Load, running: &Running) {
    let since = load.now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    sessiond_tests::eventually("writes flow", async || running.writes_since(since)).await;
}
