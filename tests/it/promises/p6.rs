//! P6: time is kept; here the real one, by the clock of the store. No test waits for a moment that it could miss: what was
//! asked before the session's end must find it, what was asked after its end must not, and in between anything may be.

use std::time::{Duration, Instant};

use serde_json::json as j;
use sessiond_proto::v1::{OpenRequest, SaveRequest, Session};
use sessiond_tests::{Calls, Stub, World, change, create, eventually, keep, on_both_stores, poll_pause, replace};

use super::{open, stored};

on_both_stores!(
    p6_a_session_ends_when_its_idle_timeout_has_passed,
    p6_opening_renews_and_looking_does_not,
    p6_a_save_renews_and_its_repeat_does_not,
    p6_renewals_are_at_least_a_tenth_of_the_life_apart,
    p6_an_idle_timeout_above_the_ceiling_is_cut_and_told,
    p6_a_shorter_idle_timeout_holds_at_once,
    p6_a_new_session_ends_with_the_lifetime_that_its_caller_chose,
    p6_a_lifetime_on_an_update_only_brings_the_end_nearer,
    p6_a_login_begins_the_lifetime_that_its_caller_chose,
);

/// The same with an absolute lifetime of 3 s.
mod three_seconds {
    use super::*;

    on_both_stores!(
        with ["--max-lifetime", "3s", "--idle-timeout", "2s"],
        p6_a_session_ends_with_its_lifetime_however_busy_it_is,
        p6_a_lifetime_above_the_ceiling_is_cut,
        p6_a_login_begins_a_new_lifetime_and_another_rotate_does_not,
        p6_nothing_is_renewed_once_the_lifetime_is_the_limit,
    );
}

/// The store counts whole milliseconds.
const GRAIN: Duration = Duration::from_millis(5);

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn glance(stub: &mut Stub, id: &str) -> Option<Session> {
    let answer = stub.open(OpenRequest { id: id.to_owned(), no_renew: true }).await.expect("Open is answered");
    answer.into_inner().session.filter(|session| !session.id.is_empty())
}

/// When a session began to live, as far as its caller can tell: not before it asked, not after it was answered.
struct Began {
    earliest: Instant,
    latest: Instant,
}

/// Saves, and notes when.
async fn begin(stub: &mut Stub, request: SaveRequest) -> (Session, Began) {
    let earliest = Instant::now();
    let session = stub.store(request).await.unwrap();
    (session, Began { earliest, latest: Instant::now() })
}

impl Began {
    /// Holds one answer against a session that ends this long after it began: when the question was sent, and what came.
    fn holds(&self, life: Duration, asked: Instant, found: bool) {
        if found {
            assert!(asked < self.latest + life + GRAIN, "it outlived its end by {:?}", asked - self.latest - life);
        } else {
            let early = (self.earliest + life).saturating_duration_since(Instant::now());
            assert!(early <= GRAIN, "it ended {early:?} early");
        }
    }

    /// Asks until it has ended, for each answer whether it can be true.
    async fn ends_after(&self, life: Duration, mut ask: impl AsyncFnMut() -> bool) {
        eventually("the session ends", async || {
            let asked = Instant::now();
            let found = ask().await;
            self.holds(life, asked, found);
            !found
        })
        .await;
    }
}

async fn p6_a_session_ends_when_its_idle_timeout_has_passed(world: World) {
    let mut stub = world.stub();
    for millis in [1000, 1250] {
        let nanos = millis % 1000 * 1_000_000;
        let idle_timeout = Some(prost_types::Duration { seconds: 1, nanos });
        let (session, began) = begin(&mut stub, SaveRequest { idle_timeout, ..create(j!({})) }).await;
        let life = Duration::from_millis(millis as u64);
        began.ends_after(life, async || glance(&mut stub, &session.id).await.is_some()).await;
        assert!(stub.store(change(&session, &["a"], j!({}))).await.is_err(), "no Save revives it");
    }
}

async fn p6_opening_renews_and_looking_does_not(world: World) {
    let mut stub = world.stub();
    let request = SaveRequest { idle_timeout: seconds(2), ..create(j!({})) };
    let (looked_at, began) = begin(&mut stub, request.clone()).await;
    let opened = stub.store(request).await.unwrap();
    let mut last_opened = Instant::now();
    began
        .ends_after(Duration::from_secs(2), async || {
            last_opened = Instant::now();
            assert!(stub.look(&opened.id).await.is_some(), "what is opened lives on");
            glance(&mut stub, &looked_at.id).await.is_some()
        })
        .await;
    // Well past its first end, and then only as long as the timeout says; a renewal comes at most the budget after its Open.
    while last_opened - began.latest < Duration::from_secs(4) {
        last_opened = Instant::now();
        assert!(stub.look(&opened.id).await.is_some(), "what is opened lives on");
        poll_pause().await;
    }
    let began =
        Began { earliest: last_opened - Duration::from_millis(200), latest: Instant::now() + Duration::from_secs(2) };
    began.ends_after(Duration::from_secs(2), async || glance(&mut stub, &opened.id).await.is_some()).await;
}

async fn p6_a_save_renews_and_its_repeat_does_not(world: World) {
    let mut stub = world.stub();
    let session = stub.store(SaveRequest { idle_timeout: seconds(60), ..create(j!({})) }).await.unwrap();
    let request_id = sessiond_tests::request_id();
    let save = SaveRequest { request_id, ..change(&session, &["a"], j!({"a": 1})) };
    let mut saved = session.clone();
    eventually("a Save moves the end", async || {
        saved = stub.store(SaveRequest { request_id: sessiond_tests::request_id(), ..save.clone() }).await.unwrap();
        later(&saved, &session)
    })
    .await;
    let saved = stub.store(save.clone()).await.unwrap();
    let until = Instant::now() + Duration::from_millis(50);
    while Instant::now() < until {
        assert_eq!(stub.store(save.clone()).await.unwrap().expire_time, saved.expire_time);
    }
}

/// When the session was created, in milliseconds.
fn made(session: &Session) -> i64 {
    let time = session.create_time.as_ref().expect("it is there");
    time.seconds * 1000 + i64::from(time.nanos) / 1_000_000
}

async fn p6_a_new_session_ends_with_the_lifetime_that_its_caller_chose(world: World) {
    let mut stub = world.stub();
    let request = SaveRequest { lifetime: seconds(2), ..create(j!({})) };
    let (session, began) = begin(&mut stub, request).await;
    assert_eq!(end(&session) - made(&session), 2000, "although its idle timeout is a day");
    let mut saver = world.stub();
    let ends = began.ends_after(Duration::from_secs(2), async || {
        stub.store(change(&session, &["n"], j!({"n": 1}))).await.is_ok() & saver.look(&session.id).await.is_some()
    });
    ends.await;
}

async fn p6_a_lifetime_on_an_update_only_brings_the_end_nearer(world: World) {
    let mut stub = world.stub();
    let session = stub.store(SaveRequest { lifetime: seconds(600), ..create(j!({})) }).await.unwrap();
    let session = Session { etag: String::new(), ..session };
    let deadline = made(&session) + 600_000;
    for request in [
        keep(&session),
        change(&session, &["a"], j!({"a": 1})),
        replace(&Session { etag: "*".to_owned(), ..session.clone() }, j!({})),
        // A rotate that signs nobody in is no new session.
        SaveRequest { subject: Some(String::new()), ..keep(&session) },
    ] {
        let longer = SaveRequest { lifetime: seconds(3600), ..request };
        assert_eq!(end(&stub.store(longer).await.unwrap()), deadline, "it is not extended");
    }
    let rotate = SaveRequest { rotate: true, lifetime: seconds(3600), ..keep(&session) };
    let session = Session { etag: String::new(), ..stub.store(rotate).await.unwrap() };
    assert_eq!(end(&session), deadline, "nor by a rotate");
    let shorter = stub.store(SaveRequest { lifetime: seconds(60), ..keep(&session) }).await.unwrap();
    let nearer = end(&shorter);
    assert!(nearer < deadline - 500_000, "60 s from now, not {} ms", nearer - made(&session));
    let unset = stub.store(change(&session, &["a"], j!({"a": 2}))).await.unwrap();
    assert_eq!(end(&unset), nearer, "unset keeps it");
}

async fn p6_a_login_begins_the_lifetime_that_its_caller_chose(world: World) {
    let mut stub = world.stub();
    let session = stub.store(SaveRequest { lifetime: seconds(60), ..create(j!({})) }).await.unwrap();
    let login = |session: &Session, lifetime| SaveRequest {
        rotate: true,
        subject: Some("ada".to_owned()),
        lifetime,
        ..keep(session)
    };
    let longer = stub.store(login(&session, seconds(600))).await.unwrap();
    assert!((600_000..700_000).contains(&(end(&longer) - made(&session))));
    let shorter = stub.store(login(&longer, seconds(30))).await.unwrap();
    assert!(end(&shorter) < end(&longer), "a new lifetime may be shorter, too");
    let servers = stub.store(login(&shorter, None)).await.unwrap();
    assert!(end(&servers) - made(&session) >= 24 * 3_600_000, "unset is the server's");
}

async fn p6_a_lifetime_above_the_ceiling_is_cut(world: World) {
    let mut stub = world.stub();
    let idle_timeout = seconds(3600);
    let long = SaveRequest { lifetime: seconds(315_576_000_000), idle_timeout, ..create(j!({})) };
    let session = stub.store(long.clone()).await.unwrap();
    assert_eq!(end(&session) - made(&session), 3000);
    let login =
        SaveRequest { rotate: true, subject: Some("ada".to_owned()), lifetime: long.lifetime, ..keep(&session) };
    let signed_in = stub.store(login).await.unwrap();
    assert!(end(&signed_in) <= end(&session) + 3000 + i64::try_from(sessiond_tests::PATIENCE.as_millis()).unwrap());
}

/// Whether one session ends later than the other.
fn later(one: &Session, other: &Session) -> bool {
    end(one) > end(other)
}

/// When the session ends, in milliseconds.
fn end(session: &Session) -> i64 {
    let time = session.expire_time.as_ref().expect("it is told");
    time.seconds * 1000 + i64::from(time.nanos) / 1_000_000
}

async fn p6_renewals_are_at_least_a_tenth_of_the_life_apart(world: World) {
    const LIFE: i64 = 2000;
    let (mut stub, mut others) = (world.stub(), [world.stub(), world.stub()]);
    let session = stub.store(SaveRequest { idle_timeout: seconds(LIFE / 1000), ..create(j!({})) }).await.unwrap();
    let mut renewals = vec![end(&session)];
    let (begun, mut opens) = (Instant::now(), 0);
    // As fast as it goes, from several connections at once.
    while begun.elapsed() < Duration::from_millis(2500) {
        let [second, third] = &mut others;
        let found = tokio::join!(stub.look(&session.id), second.look(&session.id), third.look(&session.id));
        for found in [found.0, found.1, found.2] {
            renewals.push(end(&found.expect("it is kept alive")));
        }
        opens += 3;
    }
    let span = begun.elapsed().as_millis() as i64;
    renewals.sort_unstable();
    renewals.dedup();
    let gains: Vec<_> = renewals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gains.iter().all(|gain| *gain > LIFE / 10), "{gains:?}");
    assert!(gains.len() >= 4, "it was renewed: {gains:?}");
    if let Some(redis) = &world.redis {
        let writes = redis.calls("pexpireat").await as i64;
        assert!(writes <= span / (LIFE / 10) + 1, "{writes} writes in {span} ms");
        println!("P6: {opens} Opens in {span} ms, {writes} renewals written");
    }
}

async fn p6_an_idle_timeout_above_the_ceiling_is_cut_and_told(world: World) {
    const CEILING: i64 = 31 * 24 * 3600;
    let mut stub = world.stub();
    let made = stub.store(SaveRequest { idle_timeout: seconds(CEILING + 1), ..create(j!({})) }).await.unwrap();
    assert_eq!(made.idle_timeout, seconds(CEILING));
    let made = stub.store(create(j!({}))).await.unwrap();
    assert_eq!(made.idle_timeout, seconds(24 * 3600), "the server's default");
    let saved = SaveRequest { idle_timeout: seconds(315_576_000_000), ..replace(&made, j!({})) };
    assert_eq!(stub.store(saved).await.unwrap().idle_timeout, seconds(CEILING));
    let opened = open(&mut stub, &made.id).await;
    assert_eq!(opened.idle_timeout, seconds(CEILING));
    let created = opened.create_time.as_ref().unwrap();
    let lifetime = end(&opened) - (created.seconds * 1000 + i64::from(created.nanos) / 1_000_000);
    assert!(lifetime <= CEILING * 1000, "nor beyond the absolute lifetime");
}

async fn p6_a_shorter_idle_timeout_holds_at_once(world: World) {
    let mut stub = world.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    let shorter = SaveRequest { idle_timeout: seconds(1), ..change(&session, &["a"], j!({"a": 2})) };
    let (saved, began) = begin(&mut stub, shorter).await;
    assert_eq!((saved.idle_timeout, stored(&saved)), (seconds(1), j!({"a": 2})));
    began.ends_after(Duration::from_secs(1), async || glance(&mut stub, &session.id).await.is_some()).await;
}

async fn p6_a_session_ends_with_its_lifetime_however_busy_it_is(world: World) {
    let mut stub = world.stub();
    let (session, began) = begin(&mut stub, create(j!({}))).await;
    let mut saver = world.stub();
    let mut turn = 0;
    began
        .ends_after(Duration::from_secs(3), async || {
            turn += 1;
            if turn % 2 == 0 {
                return stub.look(&session.id).await.is_some();
            }
            // Neither a Save nor a rotate that signs nobody in.
            saver.store(change(&session, &["n"], j!({ "n": turn }))).await.is_ok()
        })
        .await;
}

async fn p6_a_login_begins_a_new_lifetime_and_another_rotate_does_not(world: World) {
    let mut stub = world.stub();
    let idle = SaveRequest { idle_timeout: seconds(3), ..create(j!({})) };
    let (first, _) = begin(&mut stub, idle).await;
    let deadline = end(&first);
    let mut newest = first;
    // Until the clock of the store has moved on enough to tell.
    eventually("the store's time goes on", async || {
        let anonymous = SaveRequest { rotate: true, ..replace(&newest, j!({})) };
        newest = stub.store(anonymous).await.unwrap();
        assert_eq!(end(&newest), deadline, "a rotate keeps the lifetime");
        let signed_out = SaveRequest { rotate: true, subject: Some(String::new()), ..replace(&newest, j!({})) };
        newest = stub.store(signed_out).await.unwrap();
        assert_eq!(end(&newest), deadline, "and so does one that signs out");
        let other = stub.store(create(j!({}))).await.unwrap();
        let made = other.create_time.as_ref().unwrap();
        made.seconds * 1000 + i64::from(made.nanos) / 1_000_000 > deadline - 3000 + 500
    })
    .await;
    let login = SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..replace(&newest, j!({})) };
    let (signed_in, began) = begin(&mut stub, login).await;
    assert!(end(&signed_in) >= deadline + 500, "a login is a new session to the law");
    assert_eq!(signed_in.create_time, newest.create_time);
    began.ends_after(Duration::from_secs(3), async || stub.look(&signed_in.id).await.is_some()).await;
}

async fn p6_nothing_is_renewed_once_the_lifetime_is_the_limit(world: World) {
    let mut stub = world.stub();
    let session = stub.store(create(j!({}))).await.unwrap();
    let made = session.create_time.as_ref().unwrap();
    let deadline = made.seconds * 1000 + i64::from(made.nanos) / 1_000_000 + 3000;
    let mut renewals = vec![end(&session)];
    while *renewals.last().unwrap() < deadline {
        renewals.push(end(&stub.look(&session.id).await.expect("it lives")));
    }
    renewals.dedup();
    // The life that a renewal gives is 2 s at first; later it is what is left, and no less than the idle timeout here.
    assert!(renewals.len() <= 7 && renewals.windows(2).all(|pair| pair[1] > pair[0]), "{renewals:?}");
    assert_eq!(renewals.last(), Some(&deadline));
    let written = match &world.redis {
        Some(redis) => redis.calls("pexpireat").await,
        None => 0,
    };
    while let Some(found) = stub.look(&session.id).await {
        assert_eq!(end(&found), deadline);
    }
    if let Some(redis) = &world.redis {
        assert_eq!(redis.calls("pexpireat").await, written, "there was nothing to gain");
    }
}
