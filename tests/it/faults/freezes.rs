//! Redis stands still for seconds, and goes on.

use std::time::Duration;

use rustix::process::Signal;
use sessiond_tests::{
    World,
    faults::load::{Load, Repeats},
};

use super::{OUTAGE, begin, for_a_while, is_long, tell, writes_flow};

const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_while_redis_stands_still_every_call_ends_in_time_and_afterwards_all_goes_on() {
    let time = Duration::from_secs(if is_long() { 5 } else { 3 });
    let what = format!("SIGSTOP for {time:?}");
    let (_quiet, dice) = begin(&what).await;
    let world = World::redis(&["--deadline", "2s"]).await;
    let redis = world.redis.as_ref().expect("it has one");
    let load = Load::new(&[&world.server], 200, Repeats::Never).await;
    let running = load.start(500, &dice);
    for_a_while(Duration::from_secs(1)).await;
    let memory = world.server.memory("VmRSS");
    redis.signal(Signal::STOP);
    for_a_while(time).await;
    let back = load.now();
    redis.signal(Signal::CONT);
    writes_flow(&running, back).await;
    for_a_while(Duration::from_secs(1)).await;
    let figures = running.stop().await;
    let (audit, growth) = (load.audit().await, world.server.memory("VmHWM").saturating_sub(memory));
    let first = figures.first_write_after(back).expect("writes flow again");
    tell(&what, &figures, &audit);
    println!("{what}: sessiond grew by {growth} KiB, first write {first:?} after SIGCONT");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
    assert_eq!(figures.others(&OUTAGE), 0, "{figures}");
    assert_eq!(figures.held_back, 0, "the load is an open one");
    // Both ends of a call are on this machine, and may have to wait for it.
    let bound = DEADLINE + Duration::from_millis(50) + 2 * figures.lag(999);
    assert!(figures.answered(999) <= bound, "p99.9 is {:?}, over {bound:?}", figures.answered(999));
    assert!(growth < 20 * 1024, "sessiond grew by {growth} KiB");
    assert!(first <= Duration::from_secs(1), "the first write came {first:?} after SIGCONT");
}
