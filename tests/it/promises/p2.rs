//! P2: the dead stay dead.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, SaveRequest, Session};
use sessiond_tests::{
    Calls, Stub, World, again, change, create, on_both_stores, poll_pause, reason, replace, request_id, rounds,
};
use tokio::{sync::RwLock, task::JoinSet};

use super::{is_tombstone, open, refused};

on_both_stores!(
    p2_no_save_no_rotate_and_no_repeat_brings_a_destroyed_session_back,
    p2_the_id_that_a_rotate_has_just_replaced_still_logs_out,
    p2_an_id_that_was_rotated_away_twice_ends_nothing,
    p2_no_renewal_brings_a_destroyed_session_back,
);

async fn p2_no_save_no_rotate_and_no_repeat_brings_a_destroyed_session_back(world: World) {
    let mut stub = world.stub();
    let born = SaveRequest { request_id: request_id(), ..create(j!({"a": 1})) };
    let first = stub.store(born.clone()).await.unwrap();
    let saved = SaveRequest { request_id: request_id(), ..replace(&first, j!({"a": 2})) };
    let second = stub.store(saved.clone()).await.unwrap();
    let rotated = SaveRequest { rotate: true, request_id: request_id(), ..change(&second, &["b"], j!({"b": 1})) };
    let third = stub.store(rotated.clone()).await.unwrap();

    stub.end(&third.id).await.unwrap();

    let any = Session { etag: "*".to_owned(), ..third.clone() };
    let login = SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..replace(&third, j!({})) };
    let attempts = [
        ("a whole map", replace(&third, j!({"a": 3}))),
        ("a whole map for any version", replace(&any, j!({"a": 3}))),
        ("changed keys", change(&third, &["a"], j!({"a": 3}))),
        ("changed keys for any version", change(&any, &["a"], j!({"a": 3}))),
        ("a rotate", SaveRequest { rotate: true, ..change(&third, &["a"], j!({"a": 3})) }),
        ("a login", login),
        ("the create again", born),
        ("an earlier Save again", saved),
        ("the rotate again", rotated),
    ];
    for (what, request) in attempts {
        for said in [stub.store(request.clone()).await, stub.store(again(&request)).await] {
            assert_eq!(refused(said), "SESSION_NOT_FOUND", "{what}");
        }
        for id in [&first.id, &third.id] {
            assert!(stub.look(id).await.is_none(), "{what} brought it back");
        }
    }
    stub.end(&third.id).await.expect("a logout may be repeated");
    if let Some(redis) = &world.redis {
        assert!(is_tombstone(redis, &third).await);
        let ttl: i64 = redis.command(&["TTL", &super::key(&third)]).await;
        assert!((1..=60).contains(&ttl), "a tombstone goes by itself: {ttl}");
        assert_eq!(redis.command::<u64>(&["DBSIZE"]).await, 1);
    }
}

async fn p2_the_id_that_a_rotate_has_just_replaced_still_logs_out(world: World) {
    let mut stub = world.stub();
    let old = stub.store(create(j!({}))).await.unwrap();
    let new = stub.store(SaveRequest { rotate: true, ..change(&old, &["a"], j!({"a": 1})) }).await.unwrap();

    for etag in [&old.etag, &new.etag] {
        let named = DestroyRequest { id: old.id.clone(), etag: etag.clone() };
        assert_eq!(reason(&stub.destroy(named).await.unwrap_err()), "SESSION_CHANGED", "who names a version is told");
    }
    assert_eq!(open(&mut stub, &new.id).await.id, new.id);

    stub.end(&old.id).await.unwrap();
    assert!(stub.look(&new.id).await.is_none());
    assert_eq!(refused(stub.store(change(&new, &["a"], j!({}))).await), "SESSION_NOT_FOUND");
}

async fn p2_an_id_that_was_rotated_away_twice_ends_nothing(world: World) {
    let mut stub = world.stub();
    let oldest = stub.store(create(j!({}))).await.unwrap();
    let old = stub.store(SaveRequest { rotate: true, ..replace(&oldest, j!({})) }).await.unwrap();
    let new = stub.store(SaveRequest { rotate: true, ..replace(&old, j!({})) }).await.unwrap();
    stub.end(&oldest.id).await.expect("as for any wrong id");
    assert_eq!(open(&mut stub, &new.id).await.etag, new.etag);
}

/// Sessions of one second, opened without a pause, so that renewals are always under way.
async fn p2_no_renewal_brings_a_destroyed_session_back(world: World) {
    let mut lives = JoinSet::new();
    for _ in 0..rounds(250) {
        lives.spawn(die_while_opened(world.stub(), [world.stub(), world.stub()]));
    }
    lives.join_all().await;
}

async fn die_while_opened(mut stub: Stub, visitors: [Stub; 2]) {
    let idle_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let session = stub.store(SaveRequest { idle_timeout, ..create(j!({})) }).await.unwrap();
    let destroyed = Arc::new(RwLock::new(None::<Instant>));
    let mut opening = JoinSet::new();
    for mut visitor in visitors {
        let (id, destroyed) = (session.id.clone(), Arc::clone(&destroyed));
        opening.spawn(async move {
            loop {
                let dead = *destroyed.read().await;
                let found = visitor.look(&id).await;
                assert!(dead.is_none() || found.is_none(), "it came back");
                // For as long as a renewal that was under way would have let it live.
                if dead.is_some_and(|since| since.elapsed() > Duration::from_millis(1200)) {
                    return;
                }
                poll_pause().await;
            }
        });
    }
    // Until a renewal has been written: from then on one may be under way at any time.
    while stub.look(&session.id).await.expect("it is kept alive").expire_time == session.expire_time {
        poll_pause().await;
    }
    stub.end(&session.id).await.unwrap();
    *destroyed.write().await = Some(Instant::now());
    opening.join_all().await;
}
