//! What is in Redis belongs to every sessiond that is started on it.

use rustix::process::Signal;
use serde_json::json as j;
use sessiond_proto::v1::SaveRequest;
use sessiond_tests::{Calls, Server, TestRedis, World, change, create, json, reason, replace};

#[tokio::test]
async fn sessions_and_their_etags_outlive_the_server() {
    let mut world = World::redis(&[]).await;
    let url = world.redis.as_ref().unwrap().url();
    let mut stub = world.stub();
    let ada = SaveRequest { subject: Some("ada".to_owned()), ..create(j!({"cart": ["tea"]})) };
    let ada = stub.store(ada).await.unwrap();
    let ada = stub.store(replace(&ada, j!({"cart": []}))).await.unwrap();
    let bob = stub.store(create(j!({"n": 1}))).await.unwrap();
    let newer = stub.store(replace(&bob, j!({"n": 2}))).await.unwrap();

    // Told to stop, and killed.
    for signal in [Signal::TERM, Signal::KILL] {
        world.server.signal(signal);
        world.server.ended().await;
        world.server = Server::start(&["--store", &url]).await;
        world.server.ready().await;
        let opened = world.stub().look(&ada.id).await.expect("it is there");
        assert_eq!((&opened.etag, &opened.subject[..]), (&ada.etag, "ada"));
        assert_eq!(json(&opened.data.unwrap()), j!({"cart": []}));
    }
    let mut stub = world.stub();
    stub.store(replace(&ada, j!({"cart": ["milk"]}))).await.expect("its etag is still the one");
    let stale = stub.store(replace(&bob, j!({"n": 3}))).await.unwrap_err();
    assert_eq!(reason(&stale), "SESSION_CHANGED");
    stub.store(replace(&newer, j!({"n": 3}))).await.expect("its etag is still the one");
    stub.end(&newer.id).await.unwrap();
    assert!(stub.look(&newer.id).await.is_none());
}

#[tokio::test]
async fn two_servers_on_one_redis_see_each_others_sessions() {
    let redis = TestRedis::start().await;
    let servers = [Server::start(&["--store", &redis.url()]).await, Server::start(&["--store", &redis.url()]).await];
    let [mut one, mut other] = [servers[0].stub(), servers[1].stub()];
    for server in &servers {
        server.ready().await;
    }
    let first = one.store(create(j!({"a": 1}))).await.unwrap();
    let seen = other.look(&first.id).await.expect("the other sees it");
    assert_eq!(seen.etag, first.etag);
    let second = other.store(replace(&seen, j!({"a": 2}))).await.unwrap();
    assert_eq!(reason(&one.store(replace(&first, j!({"a": 3}))).await.unwrap_err()), "SESSION_CHANGED");
    let (b, c) = (change(&second, &["b"], j!({"b": 1})), change(&second, &["c"], j!({"c": 1})));
    let (b, c) = tokio::join!(one.store(b), other.store(c));
    b.and(c).expect("changes of different keys do not meet");
    let all = one.look(&first.id).await.unwrap();
    assert_eq!(json(all.data.as_ref().unwrap()), j!({"a": 2, "b": 1, "c": 1}));

    let rotated = one.store(SaveRequest { rotate: true, ..replace(&all, j!({})) }).await.unwrap();
    assert!(other.look(&first.id).await.is_none(), "the old id is dead for both");
    other.end(&rotated.id).await.unwrap();
    assert!(one.look(&rotated.id).await.is_none(), "and so is the session");
}

#[tokio::test]
async fn servers_with_other_prefixes_on_one_redis_do_not_meet() {
    let redis = TestRedis::start().await;
    let server = Server::start(&["--store", &redis.url()]).await;
    let stranger = Server::start(&["--store", &redis.url(), "--key-prefix", "other:"]).await;
    server.ready().await;
    stranger.ready().await;
    let session = server.stub().store(create(j!({}))).await.unwrap();
    assert!(stranger.stub().look(&session.id).await.is_none());
    let refused = stranger.stub().store(replace(&session, j!({"a": 1}))).await.unwrap_err();
    assert_eq!(reason(&refused), "SESSION_NOT_FOUND");
    stranger.stub().end(&session.id).await.unwrap();
    assert!(server.stub().look(&session.id).await.is_some());
}
