//! Redis is killed and comes back, as often as is asked; and its power fails. What was acknowledged stays acknowledged, as
//! far as the setting of its append-only file promises.

use std::time::Duration;

use sessiond_tests::{
    Server, TestRedis,
    faults::load::{Audit, Load, Repeats},
};

use super::{OUTAGE, begin, for_a_while, is_long, tell, writes_flow};

const RATE: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    PowerLoss,
}

/// A disk that is not in the way: then a Redis that fsyncs by the second writes at once what it acknowledges.
const QUICK: Duration = Duration::ZERO;

/// A disk under load, as in many a cloud.
const SLOW: Duration = Duration::from_millis(400);

/// Kills Redis again and again under load; gives what was lost, and how old the oldest of it was, less what the load itself
/// had to wait for the machine.
async fn killed(fault: Fault, appendfsync: &str, disk: Duration) -> (Audit, Duration) {
    let what = format!("{fault:?}, appendfsync {appendfsync}, fsync takes {disk:?}");
    let (_quiet, mut dice) = begin(&what).await;
    let mut redis = TestRedis::start_keeping(appendfsync, disk).await;
    let server = Server::start(&["--store", &redis.url()]).await;
    server.ready().await;
    let load = Load::new(&[&server], 200, Repeats::Never).await;
    let running = load.start(RATE, &dice);
    let (mut faults, mut bytes, mut outages) = (Vec::new(), 0, Vec::new());
    let times = if is_long() { 20 } else { 1 };
    // What a second ago was not there yet could not be kept.
    for_a_while(Duration::from_millis(1100)).await;
    for _ in 0..times {
        for_a_while(Duration::from_millis(300 + dice.below(1000) as u64)).await;
        redis.kill();
        // By now it is dead: what was sent later is not its.
        faults.push(load.now());
        if fault == Fault::PowerLoss {
            bytes += redis.lose_power();
        }
        redis.come_back().await;
        let back = load.now();
        writes_flow(&running, back).await;
        outages.push(load.now() - back);
    }
    for_a_while(Duration::from_millis(300)).await;
    let figures = running.stop().await;
    let audit = load.audit().await;
    let oldest = audit.oldest_loss(&faults);
    let slowest = outages.iter().max().expect("there was one");
    tell(&what, &figures, &audit);
    println!(
        "{what}: {times} times, {bytes} bytes cut, oldest loss {oldest:?}, writes again {slowest:?} after it is back"
    );
    assert_eq!(figures.others(&OUTAGE), 0, "{figures}");
    assert!(audit.twice.is_empty() && audit.wrong.is_empty(), "{audit}: {:#?}", audit.samples());
    // What the machine itself makes wait, it makes Redis wait for, too.
    (audit, oldest.saturating_sub(figures.lag(1000)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_has_kept_what_was_acknowledged_by_the_second() {
    let (audit, _) = killed(Fault::Kill, "everysec", QUICK).await;
    assert!(audit.is_clean(), "{audit}: {:#?}", audit.samples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_has_kept_what_was_acknowledged_always() {
    let (audit, _) = killed(Fault::Kill, "always", QUICK).await;
    assert!(audit.is_clean(), "{audit}: {:#?}", audit.samples());
}

/// While an fsync runs, Redis holds back what it would write, for two seconds at most, and acknowledges it all the same.
/// So on a slow disk even a kill takes something; not more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_on_a_slow_disk_loses_what_waited_for_the_disk() {
    if !is_long() {
        return;
    }
    let (_, oldest) = killed(Fault::Kill, "everysec", SLOW).await;
    assert!(oldest <= Duration::from_millis(2100), "{oldest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_loss_takes_no_more_than_the_last_second() {
    let (_, oldest) = killed(Fault::PowerLoss, "everysec", QUICK).await;
    assert!(oldest <= Duration::from_millis(1100), "{oldest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_loss_takes_nothing_where_every_write_is_fsynced() {
    let (audit, _) = killed(Fault::PowerLoss, "always", QUICK).await;
    assert!(audit.is_clean(), "{audit}: {:#?}", audit.samples());
}
