//! Redis forgets the scripts, or hangs up on everybody, ten times a second.

use std::time::{Duration, Instant};

use sessiond_tests::{
    TestRedis, World,
    faults::load::{Audit, Figures, Load, Repeats},
};

use super::{begin, is_long, tell};

/// Runs the load, and the command every 100 ms beside it.
async fn beside(what: &str, command: &[&str], repeats: Repeats) -> (Figures, Audit) {
    let (_quiet, dice) = begin(what).await;
    let world = World::redis(&[]).await;
    let redis = world.redis.as_ref().expect("it has one");
    let load = Load::new(&[&world.server], 200, repeats).await;
    let running = load.start(500, &dice);
    let mut times = tokio::time::interval(Duration::from_millis(100));
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(if is_long() { 30 } else { 3 }) {
        times.tick().await;
        done += run(redis, command).await;
    }
    let figures = running.stop().await;
    let audit = load.audit().await;
    tell(&format!("{what}, {done} times"), &figures, &audit);
    (figures, audit)
}

async fn run(redis: &TestRedis, command: &[&str]) -> usize {
    let _: redis::Value = redis.command(command).await;
    1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_forgotten_ten_times_a_second_are_noticed_by_nobody() {
    let (figures, audit) = beside("SCRIPT FLUSH", &["SCRIPT", "FLUSH"], Repeats::Never).await;
    assert_eq!((figures.outages(), figures.others(&[])), (0, 0), "{figures}");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_connections_closed_ten_times_a_second_fail_one_call_in_a_hundred_at_most_and_double_none() {
    let (figures, audit) =
        beside("CLIENT KILL", &["CLIENT", "KILL", "TYPE", "normal"], Repeats::For(Duration::from_secs(5))).await;
    assert_eq!(figures.others(&["UNAVAILABLE STORE_UNAVAILABLE", "ABORTED OUTCOME_UNKNOWN"]), 0, "{figures}");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
    assert!(figures.outages() * 100 <= figures.calls(), "{figures}");
}
