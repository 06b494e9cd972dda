//! Linearizability: four callers of one session, chance and faults beside them; and every history that they make could be
//! that of a session which does one thing at a time. What is recorded and how it is judged: `sessiond_tests::histories`.
//!
//! `rounds` says how many: 2,000 of each kind with `scripts/test --long`, a few per cent otherwise. On a violation the
//! history is printed, with the seed; every name in it is a number.

use sessiond_tests::{
    World,
    histories::{DEADLINE, Faults, Report, record},
    naive::NaiveServer,
    rounds,
};

/// Histories of each kind.
const HISTORIES: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_on_memory_are_those_of_one_session_each() {
    holds(&World::memory(&["--deadline", DEADLINE]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_on_redis_are_those_of_one_session_each_whatever_goes_wrong() {
    holds(&World::redis(&["--deadline", DEADLINE]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_through_three_services_are_those_of_one_session_each_whatever_goes_wrong() {
    holds(&World::three(&["--deadline", DEADLINE]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_through_two_builds_are_those_of_one_session_each_whatever_goes_wrong() {
    let Some(world) = World::mixed(&["--deadline", DEADLINE]).await else { return };
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_on_a_naive_store_are_not() {
    let naive = NaiveServer::start().await;
    let what = "histories, the naive store";
    let report = record(what, rounds(HISTORIES), || naive.stub(), Some((&naive.redis, Faults::Slowness))).await;
    println!("{what}: {} of {} are caught; the first:", report.violations.len(), report.histories);
    let first = report.violations.first().expect("the judge has teeth");
    println!("{first}");
}

/// Records, and finds nothing wrong.
async fn holds(world: &World) {
    let what = format!("histories, {}", world.name());
    let trouble = world.redis.as_ref().map(|redis| (redis, Faults::All));
    let Report { violations, undecided, histories, faults, .. } =
        record(&what, rounds(HISTORIES), || world.stub(), trouble).await;
    let kinds = if world.redis.is_some() { 6 } else { 2 };
    assert!(faults.len() == kinds || histories < HISTORIES, "something goes wrong in every way: {faults:?}");
    assert!(violations.is_empty(), "{} violations; the first: {}", violations.len(), violations[0]);
    assert!(undecided * 1000 <= histories, "{undecided} of {histories} were not decided");
}
