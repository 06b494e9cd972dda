//! A store that is dead, frozen or full, a server that has too much to do; and every reason there is, provoked.

use std::{
    collections::BTreeSet,
    iter,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, ErrorReason, OpenRequest, SaveRequest, Session};
use sessiond_tests::{Calls, Server, World, change, create, eventually, reason, replace, request_id, reserved_port};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::Bystander;
use crate::raw;

/// An id as the server would mint one, of a session that nobody has.
const ID: &str = "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";

/// What each call that must ask the store answers, all asked at once.
async fn all_calls(server: &Server, id: &str) -> [Result<(), Status>; 4] {
    let session = Session { id: id.to_owned(), etag: "*".to_owned(), ..Default::default() };
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| server.stub());
    let (opened, created, changed, destroyed) = tokio::join!(
        a.open(OpenRequest { id: id.to_owned(), no_renew: false }),
        b.save(create(j!({}))),
        c.save(change(&session, &["a"], j!({"a": 1}))),
        d.destroy(DestroyRequest { id: id.to_owned(), etag: String::new() }),
    );
    [opened.map(drop), created.map(drop), changed.map(drop), destroyed.map(drop)]
}

/// The store cannot be asked: every call says so within the deadline, and when to try again.
pub(crate) async fn is_an_outage(server: &Server, id: &str) {
    let asked = Instant::now();
    for (call, answer) in ["open", "create", "change", "destroy"].iter().zip(all_calls(server, id).await) {
        is_one_outage(call, answer);
    }
    // The deadline is 2s; the rest is for a slow machine.
    assert!(asked.elapsed() < Duration::from_secs(3), "they took {:?}", asked.elapsed());
}

/// This call could not be answered, as the store could not be asked, and says when to try again.
pub(crate) fn is_one_outage(call: &str, answer: Result<(), Status>) {
    let Err(status) = answer else { panic!("{call}: nobody could be asked") };
    assert_eq!((status.code(), &reason(&status)[..]), (Code::Unavailable, "STORE_UNAVAILABLE"), "{call}");
    let again = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    assert!(again > Duration::ZERO && again < Duration::from_secs(10), "{call}: try again after {again:?}");
}

#[tokio::test]
async fn without_a_store_every_call_says_so_within_the_deadline() {
    let url = format!("redis://127.0.0.1:{}", reserved_port());
    let server = Server::start(&["--store", &url]).await;
    for _ in 0..3 {
        is_an_outage(&server, ID).await;
    }
    // What needs no store is answered all the same.
    let mut stub = server.stub();
    assert!(stub.look("").await.is_none());
    stub.end("x").await.unwrap();
    assert_eq!(stub.store(SaveRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_frozen_redis_is_an_outage_that_writes_nothing_later_and_ends() {
    let mut bystander = Bystander::of(World::redis(&[]).await).await;
    let redis = bystander.world.redis.as_ref().unwrap();
    redis.signal(Signal::STOP);
    for _ in 0..2 {
        is_an_outage(&bystander.world.server, &bystander.session.id).await;
    }
    redis.signal(Signal::CONT);
    // It now reads what was sent to it in the meantime, and must do nothing of that.
    eventually("sessiond works again", async || bystander.stub.store(create(j!({}))).await.is_ok()).await;
    let redis = bystander.world.redis.as_ref().unwrap();
    assert_eq!(redis.command::<usize>(&["DBSIZE"]).await, 2, "the bystander, and the one just created");
    let opened = bystander.stub.look(&bystander.session.id).await.expect("it was not destroyed");
    assert_eq!(opened.etag, bystander.session.etag);
}

#[tokio::test]
async fn a_full_redis_refuses_saves_and_still_opens_and_destroys() {
    let mut bystander = Bystander::of(World::redis(&[]).await).await;
    let session = bystander.session.clone();
    set(&bystander, "maxmemory-policy", "noeviction").await;
    set(&bystander, "maxmemory", "1").await;
    for request in [
        create(j!({})),
        replace(&session, j!({})),
        change(&session, &["a"], j!({"a": 1})),
        SaveRequest { rotate: true, ..replace(&session, j!({})) },
    ] {
        bystander.refuses_as(request, Code::ResourceExhausted, "STORE_FULL").await;
    }
    bystander.stub.look(&session.id).await.expect("Open works");
    bystander.stub.end(&session.id).await.expect("Destroy works");
    assert!(bystander.stub.look(&session.id).await.is_none(), "it is gone");
    set(&bystander, "maxmemory", "0").await;
    bystander.stub.store(create(j!({}))).await.expect("there is room again");
}

/// P5 where there is no room: what was applied before it ran out is told as applied, and not as refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_still_knows_a_repeat_from_what_is_new() {
    let bystander = Bystander::of(World::redis(&[]).await).await;
    let mut stub = bystander.world.stub();
    let created = SaveRequest { request_id: request_id(), ..create(j!({"a": 1})) };
    let session = stub.store(created.clone()).await.unwrap();
    let changed = SaveRequest { request_id: request_id(), ..change(&session, &["b"], j!({"b": 2})) };
    let after = stub.store(changed.clone()).await.unwrap();

    set(&bystander, "maxmemory-policy", "noeviction").await;
    set(&bystander, "maxmemory", "1").await;
    assert_eq!(stub.store(changed).await.unwrap().etag, after.etag);
    assert_eq!(stub.store(created).await.unwrap().id, session.id);
    let stale = stub.store(replace(&session, j!({}))).await.unwrap_err();
    assert_eq!(reason(&stale), "SESSION_CHANGED");
    let new = stub.store(change(&after, &["c"], j!({"c": 3}))).await.unwrap_err();
    assert_eq!(reason(&new), "STORE_FULL");
    assert_eq!(stub.look(&session.id).await.unwrap().etag, after.etag, "nothing was written");
}

async fn set(bystander: &Bystander, name: &str, value: &str) {
    let redis = bystander.world.redis.as_ref().unwrap();
    let _: String = redis.command(&["CONFIG", "SET", name, value]).await;
}

/// 8,192 calls at once are as many as a shard takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_too_many_is_refused_as_an_overload() {
    const CONNECTIONS: usize = 32;
    const CALLS: usize = 256;
    let world = World::memory(&["--shards", "1", "--deadline", "60s"]).await;
    let mut calls = JoinSet::new();
    for channel in iter::repeat_with(|| world.server.channel()).take(CONNECTIONS) {
        for _ in 0..CALLS {
            let channel = channel.clone();
            calls.spawn(async move {
                loop {
                    // One that comes while the call below has the last place is refused, and comes again.
                    let _ = raw::stream(channel.clone(), "Open", Request::new(tokio_stream::pending())).await;
                    sessiond_tests::poll_pause().await;
                }
            });
        }
    }
    let mut stub = world.stub();
    let mut refused = None;
    eventually("there are too many calls", async || {
        refused = stub.open(OpenRequest::default()).await.err();
        refused.is_some()
    })
    .await;
    let status = refused.unwrap();
    assert_eq!((status.code(), &reason(&status)[..]), (Code::Unavailable, "OVERLOADED"));
    assert!(status.get_details_retry_info().is_some(), "it says when to try again");
    // Whoever asks whether it lives still gets an answer.
    world.server.ready().await;
    calls.shutdown().await;
    eventually("there is room again", async || stub.open(OpenRequest::default()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reason_in_the_contract_is_one_that_is_given() {
    let world = World::redis(&["--deadline", "1s"]).await;
    let redis = world.redis.as_ref().unwrap();
    let mut stub = world.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut note = |status: Status| {
        assert!(seen.insert(reason(&status)), "twice: {status:?}");
    };

    note(stub.store(change(&Session { id: ID.to_owned(), ..session.clone() }, &["a"], j!({}))).await.unwrap_err());
    let newer = stub.store(replace(&session, j!({"a": 2}))).await.unwrap();
    note(stub.store(replace(&session, j!({"a": 3}))).await.unwrap_err());
    let request_id = request_id();
    stub.store(SaveRequest { request_id: request_id.clone(), ..create(j!({"a": 1})) }).await.unwrap();
    note(stub.store(SaveRequest { request_id, ..create(j!({"a": 2})) }).await.unwrap_err());
    note(stub.store(SaveRequest::default()).await.unwrap_err());
    note(stub.store(create(j!({"a": "x".repeat(100_000)}))).await.unwrap_err());
    note(raw::stream(world.server.channel(), "Open", Request::new(tokio_stream::pending())).await.unwrap_err());
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    note(stub.store(replace(&newer, j!({}))).await.unwrap_err());
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // A record that nobody of ours wrote.
    let _: () = redis.command(&["SET", &format!("session:default:{}", session.handle), "R", "KEEPTTL"]).await;
    note(stub.open(OpenRequest { id: session.id.clone(), no_renew: true }).await.unwrap_err());
    redis.signal(Signal::STOP);
    note(stub.open(OpenRequest { id: session.id, no_renew: true }).await.unwrap_err());
    redis.signal(Signal::CONT);

    // Callers have no credentials yet; an overload is a test of its own.
    use ErrorReason as Reason;
    let elsewhere = [Reason::Unspecified, Reason::CallerUnknown, Reason::CallerNotAllowed, Reason::Overloaded];
    let all = (0..).map_while(|number| Reason::try_from(number).ok());
    let expected: BTreeSet<String> = all
        .filter(|reason| !elsewhere.contains(reason))
        .map(|reason| reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned())
        .collect();
    assert_eq!(seen, expected);
}
