//! Every way in which the real service refuses a Save, as the application sees it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sessiond_client::{Error, Map, Save, Value};
use sessiond_tests::{TestRedis, World, eventually, on_both_stores};

use super::{SessionClient, client_of, told};

on_both_stores!(with ["--max-session-bytes", "2KiB"], what_is_too_large_is_told_with_its_limit, what_is_wrong_is_named);

async fn what_is_too_large_is_told_with_its_limit(world: World) {
    let client = client_of(&world);
    let half = "x".repeat(1_200);
    let session = client.save(Save::create().set("a", &half).unwrap()).await.unwrap();
    let whole = Map::from([("a".to_owned(), Value::of(&half.repeat(2)).unwrap())]);
    for save in [
        Save::create().set("a", &half.repeat(2)).unwrap(),
        session.change().set("b", &half).unwrap(),
        session.change().replace_data(whole),
    ] {
        let refused = client.save(save).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { limit_bytes: Some(2_048) }), "{refused:?}");
    }
    // Past what any message may be.
    let refused = client.save(Save::create().set("a", &"x".repeat(2 << 20)).unwrap()).await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge { limit_bytes: Some(limit) } if limit >= 2_048), "{refused:?}");
    assert!(client.open(session.id()).await.unwrap().is_some_and(|now| now.data() == session.data()));
}

async fn what_is_wrong_is_named(world: World) {
    let client = client_of(&world);
    let session = client.save(Save::create()).await.unwrap();
    for (save, field) in [
        (session.change().subject("ada"), "subject"),
        (session.change().rotate().subject("x".repeat(257)), "subject"),
        (session.change().idle_timeout(Duration::ZERO), "idle_timeout"),
        (session.change().idle_timeout(Duration::from_millis(999)), "idle_timeout"),
    ] {
        let refused = client.save(save).await.unwrap_err();
        assert!(matches!(&refused, Error::Refused(why) if why.contains(field)), "{refused:?}");
        assert!(refused.to_string().contains(field), "{refused}");
    }
}

#[tokio::test]
async fn a_full_store_still_opens_and_destroys() {
    let world = World::redis(&[]).await;
    let client = client_of(&world);
    let session = client.save(Save::create()).await.unwrap();
    let redis = world.redis.as_ref().unwrap();
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for save in [Save::create(), session.change().set("a", &1).unwrap()] {
        let full = client.save(save).await.unwrap_err();
        assert!(matches!(full, Error::StoreFull), "{full:?}");
    }
    client.open(session.id()).await.unwrap().expect("Open works");
    client.destroy(session.id()).await.expect("Destroy works");
}

/// All three calls, and how long they took.
async fn outages(client: &SessionClient, session: &sessiond_client::Session) -> [(Error, Duration); 3] {
    let asked = Instant::now();
    let open = async { (client.open(session.id()).await.unwrap_err(), asked.elapsed()) };
    let save = async { (client.save(session.change().set("a", &1).unwrap()).await.unwrap_err(), asked.elapsed()) };
    let destroy = async { (client.destroy(session.id()).await.unwrap_err(), asked.elapsed()) };
    tokio::join!(open, save, destroy).into()
}

#[tokio::test]
async fn a_frozen_store_is_an_outage_in_time_and_no_session_is_lost() {
    let world = World::redis(&[]).await;
    let session = client_of(&world).save(Save::create()).await.unwrap();
    // With the deadlines that everybody has.
    let client = SessionClient::new(&world.server.address().to_string()).unwrap();
    let redis: &TestRedis = world.redis.as_ref().unwrap();
    redis.signal(Signal::STOP);
    for ((error, took), deadline) in outages(&client, &session).await.into_iter().zip([300, 500, 1_000]) {
        assert!(error.is_outage(), "{}", told(&error));
        // The rest is for a slow machine.
        assert!(took < Duration::from_millis(deadline + 500), "{took:?} of {deadline} ms");
    }
    redis.signal(Signal::CONT);
    eventually("it works again", async || client.open(session.id()).await.is_ok()).await;
    assert!(client_of(&world).open(session.id()).await.unwrap().is_some());
}
