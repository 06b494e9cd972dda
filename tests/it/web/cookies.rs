//! When the cookie is set, when it is removed, and when it is left alone.

use sessiond_client::SessionId;
use sessiond_tests::{Calls, World, eventually, on_both_stores, web::Browser};

use super::{COOKIE, Web, id, sets_nothing};

/// What the default policy gives a browser, with this id.
fn set(id: &str) -> String {
    format!("__Host-id={id}; HttpOnly; SameSite=Lax; Secure; Path=/")
}

/// What it takes the cookie away with.
const REMOVED: &str =
    "__Host-id=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

on_both_stores!(
    the_cookie_is_set_with_a_new_session_and_with_a_new_id_and_never_else,
    a_session_that_was_emptied_is_destroyed_and_its_cookie_removed,
    a_logout_removes_the_cookie_and_tells_the_browser_to_forget,
    whoever_is_signed_in_stays_so_with_an_empty_session,
    an_id_that_opens_nothing_never_removes_a_cookie,
    an_id_from_outside_is_never_taken_on,
);

async fn the_cookie_is_set_with_a_new_session_and_with_a_new_id_and_never_else(world: World) {
    let web = Web::shop(world).await;
    let visitor = web.browser();
    sets_nothing(&visitor.get("/get/name").await);

    let mut ids = Vec::new();
    for path in ["/insert/name/ada", "/login/ada", "/rotate", "/login/eve"] {
        let page = visitor.post(path).await;
        page.ok();
        assert!(SessionId::parse(&id(&visitor)).is_some(), "{path}");
        assert_eq!(page.set_cookies(), [set(&id(&visitor))], "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert!(!ids.contains(&id(&visitor)), "{path} gives a new id");
        ids.push(id(&visitor));
    }
    for path in ["/get/name", "/who", "/plain"] {
        sets_nothing(&visitor.get(path).await);
    }
    for path in ["/insert/name/eve", "/add/cart/tea", "/remove/name", "/idle/60"] {
        sets_nothing(&visitor.post(path).await);
    }
    let current = ids.pop().expect("four");
    for old in ids {
        assert_eq!(visitor.with(COOKIE, &old).get("/who").await.ok(), "nobody");
    }
    assert_eq!(visitor.with(COOKIE, &current).get("/who").await.ok(), "eve");
}

async fn a_session_that_was_emptied_is_destroyed_and_its_cookie_removed(world: World) {
    let web = Web::shop(world).await;
    let visitor = web.visitor().await;
    let replay = visitor.copy();
    let page = visitor.post("/remove/cart").await;
    page.ok();
    assert_eq!(page.set_cookies(), [REMOVED]);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("clear-site-data"), None, "nobody signed out");
    assert_eq!(visitor.cookie(COOKIE), None);
    assert!(web.world.stub().look(&id(&replay)).await.is_none());
    assert_eq!(replay.get("/list/cart").await.ok(), "");
}

async fn a_logout_removes_the_cookie_and_tells_the_browser_to_forget(world: World) {
    let web = Web::shop(world).await;
    for path in ["/destroy", "/clear"] {
        let ada = web.ada().await;
        let replay = ada.copy();
        let page = ada.post(path).await;
        page.ok();
        assert_eq!(page.set_cookies(), [REMOVED], "{path}");
        assert_eq!(page.header("clear-site-data"), Some("\"cache\", \"storage\""), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert!(web.world.stub().look(&id(&replay)).await.is_none(), "{path}");
        assert_eq!(replay.get("/who").await.ok(), "nobody", "{path}");
    }
}

async fn whoever_is_signed_in_stays_so_with_an_empty_session(world: World) {
    let web = Web::shop(world).await;
    let ada = web.ada().await;
    sets_nothing(&ada.post("/remove/cart").await);
    assert_eq!(ada.get("/who").await.ok(), "ada");
    let eve = web.browser();
    eve.post("/login/eve").await.ok();
    assert_eq!(eve.get("/who").await.ok(), "eve", "nothing but a name is a session");
}

/// Browsers with ids that open nothing, each with what it is.
async fn dead_ids(web: &Web) -> Vec<(&'static str, Browser)> {
    let destroyed = web.visitor().await.copy();
    destroyed.copy().post("/destroy").await.ok();

    let expired = web.visitor().await;
    expired.post("/idle/1").await.ok();
    let mut stub = web.world.stub();
    eventually("it expires", async || {
        let look = sessiond_proto::v1::OpenRequest { id: id(&expired), no_renew: true };
        let answer = stub.open(look).await.expect("Open is answered").into_inner();
        answer.session.is_some_and(|session| session.id.is_empty())
    })
    .await;

    let rotated = web.visitor().await;
    let newer = rotated.copy();
    newer.post("/rotate").await.ok();
    newer.post("/rotate").await.ok();

    let stranger = web.browser();
    vec![
        ("destroyed", destroyed),
        ("expired", expired),
        ("rotated away twice", rotated),
        ("unknown", stranger.with(COOKIE, "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef")),
        ("malformed", stranger.with(COOKIE, "AAAAAAAAAAAAAAAAAAAAAA")),
        ("empty", stranger.with(COOKIE, "")),
    ]
}

async fn an_id_that_opens_nothing_never_removes_a_cookie(world: World) {
    let web = Web::shop(world).await;
    for (what, browser) in dead_ids(&web).await {
        for path in ["/get/name", "/who"] {
            let page = browser.copy().get(path).await;
            page.ok();
            sets_nothing(&page);
        }
        for path in ["/destroy", "/clear", "/remove/cart", "/rotate", "/idle/60"] {
            let page = browser.copy().post(path).await;
            page.ok();
            assert_eq!(page.set_cookies(), [] as [&str; 0], "{what}, {path}");
        }
        for path in ["/insert/name/eve", "/add/cart/milk", "/login/eve"] {
            let visitor = browser.copy();
            let page = visitor.post(path).await;
            page.ok();
            assert_ne!(visitor.cookie(COOKIE), browser.cookie(COOKIE), "{what}, {path}");
            assert_eq!(page.set_cookies(), [set(&id(&visitor))], "{what}, {path}: a new session");
            let cart = if path.starts_with("/add") { "milk" } else { "" };
            assert_eq!(visitor.get("/list/cart").await.ok(), cart, "{what}, {path}: nothing of an old one");
        }
    }
}

async fn an_id_from_outside_is_never_taken_on(world: World) {
    let web = Web::shop(world).await;
    let planted = "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    let victim = web.browser().with(COOKIE, planted);
    let attacker = victim.copy();
    victim.post("/add/cart/tea").await.ok();
    assert_ne!(id(&victim), planted);
    victim.post("/login/ada").await.ok();
    assert_eq!(attacker.get("/who").await.ok(), "nobody");

    // One that the attacker got here and planted.
    let attacker = web.visitor().await;
    let victim = attacker.copy();
    victim.post("/login/ada").await.ok();
    assert_eq!(victim.get("/who").await.ok(), "ada");
    assert_eq!((attacker.get("/who").await.ok(), attacker.get("/list/cart").await.ok()), ("nobody", ""));
}
