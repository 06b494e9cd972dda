//! Time is kept: what the application says of its sessions' time to live is the service's idle timeout, and is counted from
//! where actix-session counts it.

use std::time::{Duration, SystemTime};

use actix_session::config::{BrowserSession, PersistentSession, TtlExtensionPolicy};
use actix_web::cookie::time;
use sessiond_client::{Save, SessionId, actix::SessiondStore};
use sessiond_proto::v1::Session;
use sessiond_tests::{World, eventually, on_both_stores};

use super::{COOKIE, Site, patient, peek, sets_nothing, shop_with};

on_both_stores!(
    the_idle_timeout_follows_the_ttl,
    looking_extends_a_life_only_if_every_request_is_to,
    every_request_brings_an_older_session_to_the_ttl_of_today,
    a_store_says_how_long_a_new_session_lives_at_most,
);

mod ceiling {
    sessiond_tests::on_both_stores!(
        with ["--idle-timeout", "30s", "--max-idle-timeout", "60s"],
        a_ttl_beyond_what_the_service_allows_is_cut_and_not_asked_for_again_and_again,
    );

    use super::a_ttl_beyond_what_the_service_allows_is_cut_and_not_asked_for_again_and_again;
}

/// A persistent session, extended with every request or with changes only.
fn lifecycle(ttl: time::Duration, every_request: bool) -> PersistentSession {
    let policy = if every_request { TtlExtensionPolicy::OnEveryRequest } else { TtlExtensionPolicy::OnStateChanges };
    PersistentSession::default().session_ttl(ttl).session_ttl_extension_policy(policy)
}

fn idle_timeout(session: &Session) -> Duration {
    session.idle_timeout.expect("it has one").try_into().expect("it is positive")
}

fn end(session: &Session) -> SystemTime {
    session.expire_time.expect("it has one").try_into().expect("it is a time")
}

/// A new visitor's session, which a slow machine may have let expire before it could be looked at.
async fn new_session(world: &World, site: &Site) -> Session {
    let mut found = None;
    eventually("a new session is found", async || {
        let visitor = site.browser();
        visitor.post("/do_something").await.ok();
        found = peek(world, &site.id(&visitor)).await;
        found.is_some()
    })
    .await;
    found.expect("it was found")
}

async fn a_store_says_how_long_a_new_session_lives_at_most(world: World) {
    let client = patient(&world.server.address().to_string());
    let store = SessiondStore::new(client).lifetime(Duration::from_secs(3_600));
    let site = Site::open(store, |session| session.session_lifecycle(lifecycle(time::Duration::days(7), true)));
    let session = new_session(&world, &site).await;
    let created = session.create_time.expect("it has one").try_into().expect("it is a time");
    let life = end(&session).duration_since(created).expect("it ends later");
    // Redis counts from its own view of now, at times a millisecond off.
    assert!(life.abs_diff(Duration::from_secs(3_600)) < Duration::from_secs(1), "{life:?}");
    assert_eq!(idle_timeout(&session), Duration::from_secs(7 * 86_400));
}

async fn the_idle_timeout_follows_the_ttl(world: World) {
    let ms = Duration::from_millis;
    for (ttl, expected) in [
        (time::Duration::days(7), ms(7 * 86_400_000)),
        (time::Duration::seconds(100), ms(100_000)),
        (time::Duration::milliseconds(2_500), ms(2_500)),
        // The least that there is. (actix-session's Redis store asks Redis for 0 s then, which refuses.)
        (time::Duration::milliseconds(200), ms(1_000)),
        (time::Duration::ZERO, ms(1_000)),
        (time::Duration::seconds(-5), ms(1_000)),
        // The most, by default.
        (time::Duration::MAX, ms(31 * 86_400_000)),
    ] {
        let browser = BrowserSession::default().state_ttl(ttl);
        let (site, _gate) = shop_with(&world, move |session| session.session_lifecycle(browser.clone())).await;
        assert_eq!(idle_timeout(&new_session(&world, &site).await), expected, "{ttl:?}");
        // A persistent session's cookie has its life in whole seconds: below one, browsers drop it at once.
        if ttl >= time::Duration::SECOND {
            let (site, _gate) =
                shop_with(&world, move |session| session.session_lifecycle(lifecycle(ttl, false))).await;
            assert_eq!(idle_timeout(&new_session(&world, &site).await), expected, "{ttl:?}");
        }
    }
    let (site, _gate) = shop_with(&world, |session| session).await;
    assert_eq!(idle_timeout(&new_session(&world, &site).await), ms(86_400_000), "actix-session's own default");
}

/// `OnStateChanges`, the default, counts from the last change; `OnEveryRequest` from the last request.
async fn looking_extends_a_life_only_if_every_request_is_to(world: World) {
    let ttl = time::Duration::seconds(3);
    let (site, _gate) = shop_with(&world, move |session| session.session_lifecycle(lifecycle(ttl, false))).await;
    let visitor = site.browser();
    visitor.post("/do_something").await.ok();
    let given = peek(&world, &site.id(&visitor)).await.expect("it lives");
    eventually("its time is over however often it is looked at", async || {
        if let Some(now) = peek(&world, &given.id).await {
            assert_eq!(end(&now), end(&given));
        }
        let page = visitor.get("/").await;
        sets_nothing(&page);
        page.ok() == "nobody 0"
    })
    .await;

    let (site, _gate) = shop_with(&world, move |session| session.session_lifecycle(lifecycle(ttl, true))).await;
    let visitor = site.browser();
    visitor.post("/do_something").await.ok();
    let given = peek(&world, &site.id(&visitor)).await.expect("it lives");
    eventually("every look extends its life", async || {
        let page = visitor.get("/").await;
        assert_eq!((page.ok(), page.set_cookies().len()), ("nobody 1", 1));
        let now = peek(&world, &given.id).await.expect("it lives");
        end(&now) > end(&given) + Duration::from_secs(3)
    })
    .await;
    eventually("it ends when nobody comes any more", async || peek(&world, &given.id).await.is_none()).await;
}

async fn every_request_brings_an_older_session_to_the_ttl_of_today(world: World) {
    let client = patient(&world.server.address().to_string());
    let older = Save::create().idle_timeout(Duration::from_secs(100)).set("counter", &1).expect("it can be kept");
    let older = client.save(older).await.expect("it is made");
    for (every_request, expected) in [(false, 100), (true, 200)] {
        let ttl = time::Duration::seconds(200);
        let (site, gate) =
            shop_with(&world, move |session| session.session_lifecycle(lifecycle(ttl, every_request))).await;
        let visitor = site.holding(older.id().expose());
        assert_eq!(visitor.get("/").await.ok(), "nobody 1");
        let now = peek(&world, older.id().expose()).await.expect("it lives");
        assert_eq!(idle_timeout(&now), Duration::from_secs(expected));
        let (page, taken) = gate.cost_of(visitor.get("/")).await;
        page.ok();
        assert_eq!(taken.saves, 0, "once is enough");
    }
}

async fn a_ttl_beyond_what_the_service_allows_is_cut_and_not_asked_for_again_and_again(world: World) {
    let ttl = time::Duration::days(90);
    let (site, gate) = shop_with(&world, move |session| session.session_lifecycle(lifecycle(ttl, true))).await;
    let visitor = site.browser();
    visitor.post("/do_something").await.ok();
    let session = peek(&world, &site.id(&visitor)).await.expect("it lives");
    assert_eq!(idle_timeout(&session), Duration::from_secs(60));
    for _ in 0..3 {
        let (page, taken) = gate.cost_of(visitor.get("/")).await;
        assert_eq!((page.ok(), taken.saves), ("nobody 1", 0));
    }

    // One that was made before this application started, as after a deployment.
    let client = patient(&world.server.address().to_string());
    let made = client.save(Save::create().set("counter", &2).expect("it can be kept")).await.expect("it is made");
    assert_eq!(made.idle_timeout(), Duration::from_secs(30));
    let (later, gate) = shop_with(&world, move |session| session.session_lifecycle(lifecycle(ttl, true))).await;
    let visitor = later.holding(made.id().expose());
    let mut saves = 0;
    for _ in 0..5 {
        let (page, taken) = gate.cost_of(visitor.get("/")).await;
        assert_eq!(page.ok(), "nobody 2");
        saves += taken.saves;
    }
    assert_eq!(saves, 1, "then the store knows how long the service lets it be");
    assert!(SessionId::parse(&later.id(&visitor)).is_some() && visitor.cookie(COOKIE).is_some());
}
