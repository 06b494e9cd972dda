//! Redis stands still for five seconds, and goes on.

use std::time::Duration;

use rustix::process::Signal;
use sessiond_tests::{
    World,
    faults::load::{Load, Repeats},
};

use super::{begin, for_a_while, tell, writes_flow};

const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_while_redis_stands_still_every_call_ends_in_time_and_afterwards_all_goes_on() {
    let (_quiet, dice) = begin("SIGSTOP for 5 s").await;
    let world = World::redis(&["--deadline", "2s"]).await;
    let redis = world.redis.as_ref().expect("it has one");
    let load = Load::new(&[&world.server], 200, Repeats::Never).await;
    let running = load.start(500, &dice);
    for_a_while(Duration::from_secs(1)).await;
    let memory = world.server.memory("VmRSS");
    redis.signal(Signal::STOP);
    for_a_while(Duration::from_secs(5)).await;
    let back = load.now();
    redis.signal(Signal::CONT);
    writes_flow(&running, back).await;
    for_a_while(Duration::from_secs(1)).await;
    let figures = running.stop().await;
    let (audit, growth) = (load.audit().await, world.server.memory("VmHWM").saturating_sub(memory));
    let first = figures.first_write_after(back).expect("writes flow again");
    tell("SIGSTOP for 5 s", &figures, &audit);
    println!("SIGSTOP for 5 s: sessiond grew by {growth} KiB, first write {first:?} after SIGCONT");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
    assert_eq!(figures.others(&["UNAVAILABLE STORE_UNAVAILABLE", "ABORTED OUTCOME_UNKNOWN"]), 0, "{figures}");
    assert_eq!(figures.held_back, 0, "the load is an open one");
    assert!(figures.answered(999) <= DEADLINE + Duration::from_millis(50), "p99.9 is {:?}", figures.answered(999));
    assert!(growth < 20 * 1024, "sessiond grew by {growth} KiB");
    assert!(first <= Duration::from_secs(1), "the first write came {first:?} after SIGCONT");
}
