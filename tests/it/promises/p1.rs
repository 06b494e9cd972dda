//! P1: no update is lost silently.

use serde_json::json as j;
use sessiond_tests::{Calls, World, change, create, on_both_stores, replace, request_id, rounds};
use tokio::task::JoinSet;

use super::{open, refused, stored};

on_both_stores!(
    p1_a_whole_map_with_a_stale_etag_is_refused_and_the_other_writer_stands,
    p1_an_etag_that_cannot_be_read_counts_as_stale,
    p1_changed_keys_are_never_refused_for_another_writers_sake,
    p1_an_acknowledged_save_is_in_the_session_unless_its_key_was_overwritten,
    p1_eight_parallel_requests_of_one_session_all_succeed_at_once,
    p1_twenty_parallel_requests_of_one_session_all_succeed_at_once,
);

async fn p1_a_whole_map_with_a_stale_etag_is_refused_and_the_other_writer_stands(world: World) {
    let mut stub = world.stub();
    let mine = stub.store(create(j!({"cart": ["tea"]}))).await.unwrap();
    let theirs = stub.store(replace(&mine, j!({"cart": ["tea", "milk"]}))).await.unwrap();

    assert_eq!(refused(stub.store(replace(&mine, j!({"cart": []}))).await), "SESSION_CHANGED");
    let now = open(&mut stub, &mine.id).await;
    assert_eq!((stored(&now), &now.etag), (j!({"cart": ["tea", "milk"]}), &theirs.etag));

    let decided_again = stub.store(replace(&now, j!({"cart": ["milk"]}))).await.unwrap();
    assert_eq!(stored(&decided_again), j!({"cart": ["milk"]}));
}

async fn p1_an_etag_that_cannot_be_read_counts_as_stale(world: World) {
    let mut stub = world.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    for etag in ["0", "1-0000000000000000", "W/\"1\"", "**", "é", &format!("0{}", session.etag)] {
        let mut save = replace(&session, j!({}));
        save.session.as_mut().unwrap().etag = etag.to_owned();
        assert_eq!(refused(stub.store(save).await), "SESSION_CHANGED", "{etag}");
    }
    assert_eq!(stored(&open(&mut stub, &session.id).await), j!({"a": 1}));
}

async fn p1_changed_keys_are_never_refused_for_another_writers_sake(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({"a": 1, "b": 1, "c": 1}))).await.unwrap();
    // Twelve other writers: more than the server remembers.
    let mut newest = first.clone();
    for n in 0..12 {
        newest = stub.store(replace(&newest, j!({"a": 1, "b": 1, "c": 1, "theirs": n}))).await.unwrap();
    }
    let mine = stub.store(change(&first, &["a", "b"], j!({"a": 2}))).await.unwrap();
    assert_eq!(stored(&mine), j!({"a": 2, "c": 1, "theirs": 11}));
}

async fn p1_an_acknowledged_save_is_in_the_session_unless_its_key_was_overwritten(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({}))).await.unwrap();
    stub.store(change(&first, &["mine", "ours"], j!({"mine": 1, "ours": 1}))).await.unwrap();
    stub.store(change(&first, &["theirs", "ours"], j!({"theirs": 2, "ours": 2}))).await.unwrap();
    assert_eq!(stored(&open(&mut stub, &first.id).await), j!({"mine": 1, "ours": 2, "theirs": 2}));
}

async fn p1_eight_parallel_requests_of_one_session_all_succeed_at_once(world: World) {
    all_succeed_at_once(&world, 8).await;
}

async fn p1_twenty_parallel_requests_of_one_session_all_succeed_at_once(world: World) {
    all_succeed_at_once(&world, 20).await;
}

/// A page that sends so many requests at once, each of which opened the session and then saves a key of its own: over one
/// connection and over many, with and without a request id, and with `*` for an etag.
async fn all_succeed_at_once(world: &World, requests: usize) {
    let mut stub = world.stub();
    let many: Vec<_> = (0..requests).map(|_| world.stub()).collect();
    for round in 0..rounds(1000) {
        let (one_connection, repeatable, any_version) = (round % 2 == 0, round % 3 == 0, round % 5 == 0);
        let mut session = stub.store(create(j!({}))).await.unwrap();
        if any_version {
            "*".clone_into(&mut session.etag);
        }
        let before = round_trips(world).await;
        let mut calls = JoinSet::new();
        for (n, own) in many.iter().enumerate() {
            let mut stub = if one_connection { stub.clone() } else { own.clone() };
            let key = format!("k{n}");
            let mut save = change(&session, &[&key], j!({ key.clone(): n }));
            if repeatable {
                save.request_id = request_id();
            }
            calls.spawn(async move { stub.store(save).await.map(drop).map_err(|status| status.message().to_owned()) });
        }
        let refusals: Vec<_> = calls.join_all().await.into_iter().filter_map(Result::err).collect();
        assert!(
            refusals.is_empty(),
            "round {round}: {} of {requests} first attempts were refused: {}",
            refusals.len(),
            refusals[0],
        );
        let after = round_trips(world).await;
        if let (Some(before), Some(after)) = (before, after) {
            assert_eq!(after - before, requests as u64, "one round trip each");
        }
        let all: serde_json::Map<_, _> = (0..requests).map(|n| (format!("k{n}"), n.into())).collect();
        assert_eq!(stored(&open(&mut stub, &session.id).await), serde_json::Value::Object(all));
    }
}

/// How often Redis was asked to run a script, in whatever way; `None` where there is no Redis.
async fn round_trips(world: &World) -> Option<u64> {
    let redis = world.redis.as_ref()?;
    Some(redis.calls("evalsha").await + redis.calls("eval").await)
}
