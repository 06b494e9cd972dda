//! An outage is an outage, and never "no session": 500, since the middleware knows no other answer, and the cookie stays.

use sessiond_client::{SessionClient, actix::SessiondStore};
use sessiond_tests::{
    TestRedis, World, eventually, on_both_stores,
    web::{Browser, Call, Sessiond},
};
use tonic::Status;

use super::{Site, is_opaque_failure, shop};

/// Pages that look, change, renew and end, and one that does not care.
const PAGES: [(&str, bool); 6] =
    [("/", false), ("/plain", false), ("/do_something", true), ("/renew", true), ("/clear", true), ("/logout", true)];

async fn ask(browser: &Browser, (path, post): (&str, bool)) -> sessiond_tests::web::Page {
    if post { browser.post(path).await } else { browser.get(path).await }
}

/// With the client's own deadlines, as an application would have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_signed_in_still_is_when_the_service_returns() {
    let redis = TestRedis::start().await;
    let mut sessiond = Sessiond::start(&["--store", &redis.url()]).await;
    let client = SessionClient::new(sessiond.url()).expect("the address is one");
    let site = Site::open(SessiondStore::new(client), |session| session);
    let visitors = [signed_in(&site).await, signed_in(&site).await];
    let before: Vec<_> = visitors.iter().map(|visitor| site.id(visitor)).collect();

    sessiond.kill();
    for page in PAGES {
        for visitor in &visitors {
            is_opaque_failure(&ask(visitor, page).await);
        }
    }
    let stranger = site.browser();
    assert_eq!(stranger.get("/").await.ok(), "nobody 0", "whoever has no session needs no service");
    is_opaque_failure(&stranger.post("/do_something").await);
    assert_eq!(stranger.cookies(), None);

    sessiond.come_back().await;
    for (visitor, id) in visitors.iter().zip(before) {
        eventually("the application finds it again", async || visitor.get("/").await.status == 200).await;
        assert_eq!(visitor.get("/").await.ok(), "ferris 0");
        assert_eq!(site.id(visitor), id);
    }
}

/// Signs in, however often a slow machine lets a deadline pass.
async fn signed_in(site: &Site) -> Browser {
    let browser = site.browser();
    eventually("ferris signs in", async || browser.post("/login/ferris").await.status == 200).await;
    browser
}

on_both_stores!(
    an_outage_after_the_session_was_loaded_sets_no_cookie,
    a_logout_that_an_outage_cut_in_two_is_no_sign_of_life,
);

/// As Redis's memory is, when it may use no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_works_when_the_store_is_full() {
    let world = World::redis(&[]).await;
    let (site, _gate) = shop(&world).await;
    let (ferris, eve) = (site.ferris().await, site.ferris().await);
    let redis = world.redis.as_ref().expect("it has one");
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    is_opaque_failure(&ferris.post("/do_something").await);
    assert_eq!(ferris.get("/").await.ok(), "ferris 0");
    let replay = ferris.copy();
    assert_eq!(ferris.post("/logout").await.ok(), "Logged out: ferris");
    assert_eq!(replay.get("/").await.ok(), "nobody 0");
    // A renewal is an end and a beginning, and there is no room for one.
    is_opaque_failure(&eve.post("/renew").await);
    assert_eq!(eve.get("/").await.ok(), "nobody 0");
}

/// An outage that the client does not repeat.
fn not_repeated() -> Status {
    Status::deadline_exceeded("on its way down")
}

async fn an_outage_after_the_session_was_loaded_sets_no_cookie(world: World) {
    let (site, gate) = shop(&world).await;
    for (path, call) in [("/do_something", Call::Save), ("/clear", Call::Save), ("/logout", Call::Save)] {
        let ferris = site.ferris().await;
        let id = site.id(&ferris);
        gate.refuse(call, not_repeated());
        is_opaque_failure(&ferris.post(path).await);
        assert_eq!(site.id(&ferris), id);
        assert_eq!(ferris.get("/").await.ok(), "ferris 0", "{path} had no effect");
    }
}

async fn a_logout_that_an_outage_cut_in_two_is_no_sign_of_life(world: World) {
    let (site, gate) = shop(&world).await;
    let ferris = site.ferris().await;
    gate.refuse(Call::Destroy, not_repeated());
    is_opaque_failure(&ferris.post("/logout").await);
    let page = ferris.get("/").await;
    assert_eq!(page.ok(), "nobody 0", "nobody has the id that it was taken away to");
    assert_eq!(ferris.post("/logout").await.ok(), "Could not log out anonymous user");
}
