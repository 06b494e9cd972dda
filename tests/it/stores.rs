//! The suite over each store; and over one that must fail it.

use sessiond_tests::{
    naive::NaiveHost,
    redis_sentences, rounds, store_list, store_sentences,
    store_suite::{
        Begin, Host,
        races::{self, Tally},
    },
    store_tests,
};

mod memory {
    use super::*;
    store_sentences!(store_tests, sessiond_tests::store_suite::MemoryHost);
}

mod redis {
    use super::*;
    store_sentences!(store_tests, sessiond_tests::store_suite::RedisHost);
    redis_sentences!(store_tests, sessiond_tests::store_suite::RedisHost);
}

/// What a store must fail at that reads, changes and writes by three commands. The rest of the suite it may fail, too.
const BEYOND_THE_NAIVE: [&str; 11] = [
    // Lost updates.
    "p1_parallel_appends_by_version_are_all_there",
    "p1_parallel_merges_of_different_keys_all_succeed_at_once",
    "p1_a_save_beside_a_rotate_is_in_the_session_or_was_refused",
    // Sessions that come back.
    "p2_no_save_brings_back_what_is_destroyed_beside_it",
    "p2_no_renewal_brings_back_what_is_destroyed_beside_it",
    "p2_a_tombstone_blocks_a_create_that_was_held_up",
    // Applied twice, or told wrong.
    "p5_creates_repeated_in_parallel_make_one_session_with_one_secret",
    "p5_saves_repeated_in_parallel_are_applied_once",
    "p5_a_repeat_is_recognised_up_to_eight_saves_back",
    "p5_the_repeat_of_a_rotate_gets_what_proves_it",
    "p5_a_save_of_any_version_is_unknown_where_the_ring_does_not_reach_back",
];

/// What even the naive store does right: it is a fair one, and the suite does not fail just anything.
const WITHIN_THE_NAIVE: [&str; 6] = [
    "p3_nothing_opens_but_the_right_secret_for_the_right_application",
    "p3_who_proves_nothing_changes_nothing",
    "p4_opening_writes_nothing",
    "p2_a_destroyed_session_stays_destroyed",
    "a_merge_changes_the_named_keys_and_nothing_else",
    "p1_a_stale_version_conflicts_and_writes_nothing",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_naive_store_fails_the_suite() {
    let suite: [(&str, Begin); _] = store_sentences!(store_list, NaiveHost);
    let mut failed = Vec::new();
    for name in BEYOND_THE_NAIVE.iter().chain(&WITHIN_THE_NAIVE) {
        let (_, begin) = suite.iter().find(|(sentence, _)| sentence == name).expect("it is in the suite");
        // The panic stays in its task; what it says is printed, and that is as it should be.
        if tokio::spawn(begin()).await.is_err() {
            failed.push(*name);
        }
    }
    assert_eq!(
        failed, BEYOND_THE_NAIVE,
        "left, what it failed; right, what it must fail, and nothing else of those tried"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_naive_store_shows_losses_in_the_same_races() {
    let (host, rounds) = (NaiveHost::start().await, rounds(1_500));
    let races = [
        ("save against save, by version", races::appends(&host, rounds).await),
        ("save against save, by keys", races::merges(&host, rounds).await),
        ("save against destroy", races::saves_and_a_destroy(&host, rounds).await),
        ("rotate against save", races::a_rotate_and_a_save(&host, rounds).await),
        ("renew against destroy", races::renewals_and_a_destroy(&host, rounds).await),
        ("create against its repeats", races::repeated_creates(&host, rounds).await),
        ("save against its repeats", races::repeated_saves(&host, rounds).await),
    ];
    for (race, tally) in &races {
        println!("the naive store, {race}: {tally:?}");
        assert!(!tally.is_clean(), "{race} shows nothing wrong with the naive store");
    }
    let sum = |count: fn(&Tally) -> usize| races.iter().map(|(_, tally)| count(tally)).sum::<usize>();
    assert!(sum(|tally| tally.lost) > 0, "it loses updates");
    assert!(sum(|tally| tally.revived) > 0, "it revives sessions");
    assert!(sum(|tally| tally.twice) > 0, "it applies twice");
}
