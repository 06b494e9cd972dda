//! Redis's answers are lost, taken for each other, or swapped between connections. Nothing is done twice, and nobody ever
//! sees another's session.

use std::time::Duration;

use sessiond_tests::{
    Server, TestRedis,
    faults::{
        load::{Audit, Load, Repeats},
        proxy::{Mischief, Proxy},
    },
    rounds,
};

use super::{OUTAGE, begin, tell};

/// Runs the rounds with answers mistreated so; gives also how many were.
async fn mistreated(what: &str, mischief: Mischief, told: &[&str]) -> (Audit, usize) {
    let (_quiet, dice) = begin(what).await;
    let redis = TestRedis::start().await;
    let proxy = Proxy::to(redis.port(), &dice).await;
    let server = Server::start(&["--store", &proxy.url(), "--shards", "2"]).await;
    server.ready().await;
    let load = Load::new(&[&server], 100, Repeats::For(Duration::from_secs(10))).await;
    proxy.mischief(mischief);
    let figures = load.rounds(rounds(10_000), 16, &dice).await;
    proxy.mischief(Mischief::default());
    let audit = load.audit().await;
    let done = proxy.done();
    tell(what, &figures, &audit);
    println!("{what}: {} dropped, {} slid, {} swapped", done.dropped(), done.slid(), done.swapped());
    assert!(audit.twice.is_empty(), "{audit}: {:#?}", audit.samples());
    assert!(audit.wrong.is_empty(), "{audit}: {:#?}", audit.samples());
    // Here, where sessiond still lives, and its log is told with the failure.
    assert_eq!(figures.others(told), 0, "{figures}");
    (audit, done.dropped() + done.slid() + done.swapped())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_of_lost_answers_no_repeat_has_a_second_effect() {
    let (audit, done) =
        mistreated("answers dropped", Mischief { drop_and_cut: 100, ..Mischief::default() }, &OUTAGE).await;
    assert!(done > 0, "nothing was dropped");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_answers_that_slide_by_one_show_nobody_another_session() {
    let (audit, done) = mistreated("answers slid", Mischief { slide: 10, ..Mischief::default() }, &OUTAGE).await;
    assert!(done > 0, "nothing slid");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_answers_swapped_between_connections_show_nobody_another_session() {
    // One that got nonsense three times in a row, on three connections, is told so.
    let told = [&OUTAGE[..], &["INTERNAL INTERNAL"]].concat();
    let (audit, done) = mistreated("answers swapped", Mischief { swap: 100, ..Mischief::default() }, &told).await;
    assert!(done > 0, "nothing was swapped");
    // An Open that got both of another's answers may find nothing: that has no number. (docs/redis.md, "What is left")
    assert!(audit.is_clean(), "{audit}: {:#?}", audit.samples());
}
