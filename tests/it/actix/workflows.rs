//! What actix-session's own acceptance suite checks of a store, which is not exported: each of its workflows under its name,
//! and then the tests of its Redis store and of its middleware. `redis_rs.rs` has one whose expectation cannot hold here; see
//! [`a_session_that_ended_is_not_made_again_by_an_update`].

use actix_session::{
    config::{CookieContentSecurity, PersistentSession, TtlExtensionPolicy},
    storage::{SessionKey, SessionStore, UpdateError},
};
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use sessiond_client::actix::SessiondStore;
use sessiond_tests::{World, on_both_stores, web::Page};

use super::{COOKIE, UNKNOWN, patient, peek, sets_nothing, shop, shop_with};

on_both_stores!(
    basic_workflow,
    expiration_is_refreshed_on_changes,
    expiration_is_always_refreshed_if_configured_to_refresh_on_every_request,
    guard,
    complex_workflow,
    the_cookie_has_the_attributes_that_were_asked_for,
    loading_a_missing_session_returns_none,
    a_session_that_ended_is_not_made_again_by_an_update,
    what_is_done_in_one_request_arrives_together,
);

const POLICIES: [CookieContentSecurity; 2] = [CookieContentSecurity::Signed, CookieContentSecurity::Private];

/// The cookie that a page sets, which is one at most.
fn set(page: &Page) -> Option<Cookie<'static>> {
    let all = page.set_cookies();
    assert!(all.len() <= 1, "{all:?}");
    all.first().map(|cookie| Cookie::parse((*cookie).to_owned()).expect("it is a cookie"))
}

async fn basic_workflow(world: World) {
    for policy in POLICIES {
        let ttl = PersistentSession::default().session_ttl(Duration::seconds(100));
        let (site, _gate) = shop_with(&world, move |session| {
            let named = session.cookie_path("/test/".to_owned()).cookie_name("actix-test".to_owned());
            let hosted = named.cookie_domain(Some("localhost".to_owned()));
            hosted.cookie_content_security(policy).session_lifecycle(ttl.clone())
        })
        .await;
        let visitor = site.browser();
        let page = visitor.post("/do_something").await;
        page.ok();
        let cookie = set(&page).expect("a new session has a cookie");
        assert_eq!((cookie.name(), cookie.path(), cookie.domain()), ("actix-test", Some("/test/"), Some("localhost")));
        assert_eq!(visitor.get("/").await.ok(), "nobody 1", "{policy:?}");
    }
}

async fn expiration_is_refreshed_on_changes(world: World) {
    for policy in POLICIES {
        let ttl = Duration::seconds(60);
        let lifecycle = PersistentSession::default().session_ttl(ttl);
        let (site, _gate) = shop_with(&world, move |session| {
            session.cookie_content_security(policy).session_lifecycle(lifecycle.clone())
        })
        .await;
        let visitor = site.browser();
        let cookie = set(&visitor.post("/do_something").await).expect("a new session has a cookie");
        assert_eq!(cookie.max_age(), Some(ttl));

        sets_nothing(&visitor.get("/plain").await);
        sets_nothing(&visitor.get("/").await);

        let cookie = set(&visitor.post("/do_something").await).expect("a change sets it again");
        assert_eq!(cookie.max_age(), Some(ttl), "{policy:?}");
    }
}

async fn expiration_is_always_refreshed_if_configured_to_refresh_on_every_request(world: World) {
    for policy in POLICIES {
        let ttl = Duration::seconds(60);
        let every_request = TtlExtensionPolicy::OnEveryRequest;
        let lifecycle = PersistentSession::default().session_ttl(ttl).session_ttl_extension_policy(every_request);
        let (site, _gate) = shop_with(&world, move |session| {
            session.cookie_content_security(policy).session_lifecycle(lifecycle.clone())
        })
        .await;
        let visitor = site.browser();
        visitor.post("/do_something").await.ok();
        let page = visitor.get("/plain").await;
        page.ok();
        assert_eq!(set(&page).expect("every request sets it").max_age(), Some(ttl), "{policy:?}");
        assert_eq!(visitor.get("/").await.ok(), "nobody 1");
    }
}

async fn guard(world: World) {
    for policy in POLICIES {
        let (site, _gate) = shop_with(&world, move |session| session.cookie_content_security(policy)).await;
        let ferris = site.browser();
        assert_eq!(ferris.get("/protected/count").await.status, 404);
        assert_eq!(ferris.post("/login/ferris").await.ok(), "ferris 0");
        assert_eq!(ferris.post("/do_something").await.ok(), "ferris 1");
        assert_eq!(ferris.get("/protected/count").await.ok(), "ferris 1", "{policy:?}");
    }
}

async fn complex_workflow(world: World) {
    for policy in POLICIES {
        let ttl = Duration::days(7);
        let lifecycle = PersistentSession::default().session_ttl(ttl);
        let (site, _gate) = shop_with(&world, move |session| {
            session.cookie_content_security(policy).session_lifecycle(lifecycle.clone())
        })
        .await;
        // 1: whoever only looks gets no session.
        let visitor = site.browser();
        let page = visitor.get("/").await;
        assert_eq!(page.ok(), "nobody 0");
        sets_nothing(&page);
        // 2 to 4: an anonymous visitor's session holds what it is given.
        let page = visitor.post("/do_something").await;
        assert_eq!((page.ok(), set(&page).and_then(|cookie| cookie.max_age())), ("nobody 1", Some(ttl)));
        let page = visitor.get("/").await;
        assert_eq!(page.ok(), "nobody 1");
        sets_nothing(&page);
        let page = visitor.post("/do_something").await;
        assert_eq!((page.ok(), set(&page).and_then(|cookie| cookie.max_age())), ("nobody 2", Some(ttl)));
        // 5 to 7: a login keeps it, under another id.
        let anonymous = visitor.copy();
        assert_eq!(visitor.post("/login/ferris").await.ok(), "ferris 2");
        assert_ne!(visitor.cookie(COOKIE), anonymous.cookie(COOKIE));
        assert_eq!(visitor.get("/").await.ok(), "ferris 2");
        assert_eq!(visitor.post("/do_something").await.ok(), "ferris 3");
        // 8: the old one opens nothing, and no page takes a cookie away for that.
        let page = anonymous.get("/").await;
        assert_eq!(page.ok(), "nobody 0");
        sets_nothing(&page);
        // 9, 10: a logout takes the cookie away, and whoever kept a copy holds nothing.
        let replay = visitor.copy();
        let page = visitor.post("/logout").await;
        let removal = set(&page).expect("it takes the cookie away");
        assert_eq!((removal.max_age(), removal.path()), (Some(Duration::ZERO), Some("/")));
        for gone in [visitor, replay] {
            let page = gone.get("/").await;
            assert_eq!(page.ok(), "nobody 0", "{policy:?}");
            sets_nothing(&page);
        }
    }
}

async fn the_cookie_has_the_attributes_that_were_asked_for(world: World) {
    let (site, _gate) = shop_with(&world, |session| {
        let hosted = session.cookie_path("/test".to_owned()).cookie_domain(Some("localhost".to_owned()));
        hosted.cookie_same_site(SameSite::Strict)
    })
    .await;
    let ferris = site.browser();
    let given = set(&ferris.post("/login/ferris").await).expect("a login sets it");
    let taken = set(&ferris.post("/logout").await).expect("a logout takes it away");
    for cookie in [&given, &taken] {
        assert_eq!((cookie.name(), cookie.path(), cookie.domain()), (COOKIE, Some("/test"), Some("localhost")));
        assert_eq!((cookie.secure(), cookie.http_only()), (Some(true), Some(true)));
        assert_eq!(cookie.same_site(), Some(SameSite::Strict));
    }
    assert_eq!((given.max_age(), taken.max_age()), (None, Some(Duration::ZERO)));
}

async fn loading_a_missing_session_returns_none(world: World) {
    let store = SessiondStore::new(patient(&world.server.address().to_string()));
    let long = "x".repeat(4000);
    for missing in [UNKNOWN, "", "x", "id", &long, &UNKNOWN[1..], "0123456789abcdef0123456789abcdef.%00"] {
        let key = SessionKey::try_from(missing.to_owned()).expect("actix-session takes it for a key");
        assert!(store.load(&key).await.expect("it is no error").is_none(), "{missing:?}");
    }
}

/// actix-session's Redis store makes a new session instead, and its suite asks for that
/// (`updating_of_an_expired_state_is_handled_gracefully`). So it undoes a logout: see `revival.rs`.
async fn a_session_that_ended_is_not_made_again_by_an_update(world: World) {
    let store = SessiondStore::new(patient(&world.server.address().to_string()));
    let key = |id: &str| SessionKey::try_from(id.to_owned()).expect("actix-session takes it for a key");
    let state = || [("counter".to_owned(), "1".to_owned())].into();
    let ttl = Duration::seconds(100);

    let ended = store.save(state(), &ttl).await.expect("it is made");
    let ended = ended.as_ref().to_owned();
    store.delete(&key(&ended)).await.expect("it is ended");
    for id in [&ended[..], UNKNOWN, "x"] {
        let refused = store.update(key(id), state(), &ttl).await.expect_err("there is nothing to update");
        let UpdateError::Other(why) = refused else { panic!("{refused:?}") };
        assert_eq!(why.to_string(), "the session ended while this request ran: nothing was changed");
        assert!(!format!("{why:?}").contains(&ended), "no error tells an id");
        assert!(store.load(&key(id)).await.expect("it is no error").is_none());
    }
    assert!(peek(&world, &ended).await.is_none());
}

async fn what_is_done_in_one_request_arrives_together(world: World) {
    let (site, _gate) = shop(&world).await;
    let visitor = site.browser();
    for (key, json) in [("a", "1"), ("b", "2")] {
        visitor.post_body(&format!("/put/{key}"), json).await.ok();
    }
    assert_eq!(visitor.post("/remove/a").await.ok(), "1");
    assert_eq!((visitor.get("/raw/a").await.ok(), visitor.get("/raw/b").await.ok()), ("nothing", "2"));

    let before = site.id(&visitor);
    visitor.post("/renew").await.ok();
    let renewed = site.id(&visitor);
    assert_ne!(before, renewed);
    assert_eq!(visitor.get("/raw/b").await.ok(), "2", "it moves with the id");

    // An emptied session is still a session: to end it, the application says `purge`.
    visitor.post("/clear").await.ok();
    assert_eq!(site.id(&visitor), renewed);
    assert_eq!(visitor.get("/raw/b").await.ok(), "nothing");
    assert!(peek(&world, &renewed).await.is_some());
}
