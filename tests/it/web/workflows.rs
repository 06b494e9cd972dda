//! What the route tests and the service tests of tower-sessions check, by our layer: whoever comes from there finds the same
//! ways to work, and where they differ, the difference is here. (No cookie is signed or encrypted: the id alone is secret. No
//! session is saved that was not changed: an Open renews it.)

use std::time::Duration;

use axum::{
    Router,
    routing::{get, post},
};
use sessiond_client::{
    CookiePolicy,
    axum::{Session, SessionError},
    cookie::{CookiePolicyBuilder, SameSite},
};
use sessiond_proto::v1::{OpenRequest, Session as Stored};
use sessiond_tests::{Calls, World, eventually, on_both_stores, web::Page};

use super::{COOKIE, Web, id, sets_nothing, shop};

on_both_stores!(
    a_page_that_only_takes_a_session_sets_no_cookie,
    a_bogus_or_malformed_cookie_is_replaced_when_something_is_inserted,
    what_is_inserted_is_got,
    a_removed_last_value_is_gone,
    cycle_id_gives_a_new_id_and_keeps_the_values,
    flush_and_delete_remove_the_session_and_its_cookie,
    the_cookie_is_as_the_policy_says_when_set_and_when_removed,
    without_a_max_age_the_cookie_ends_with_the_browser_and_with_one_it_does_not,
    a_session_expires_by_inactivity_and_the_layer_says_how_long,
    the_idle_timeout_of_a_session_changes_both_ways,
    values_without_a_type_come_back_as_they_were,
);

/// The routes of their suite, in our words.
fn routes() -> Router {
    async fn insert(session: Session) -> Result<(), SessionError> {
        session.insert("foo", 42)
    }
    async fn got(session: Session) -> Result<String, SessionError> {
        Ok(format!("{:?}", session.get::<usize>("foo")?))
    }
    async fn remove(session: Session) -> Result<String, SessionError> {
        Ok(format!("{:?}", session.remove::<usize>("foo")?))
    }
    Router::new()
        .route("/", get(async |_: Session| "Hello, world!"))
        .route("/foo/insert", get(insert))
        .route("/foo/get", get(got))
        .route("/foo/remove", get(remove))
        .route("/cycle_id", get(async |session: Session| session.cycle_id()))
        .route("/flush", get(async |session: Session| session.flush()))
        .route("/delete", get(async |session: Session| session.delete()))
        .merge(shop())
}

async fn open(world: World) -> Web {
    Web::with(world, routes(), |layer| layer).await
}

/// The attributes of the one cookie that a page sets, without its value, in alphabetical order.
fn attributes(page: &Page) -> Vec<&str> {
    let [cookie] = page.set_cookies()[..] else { panic!("not one cookie: {page:?}") };
    let mut attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    attributes.sort_unstable();
    attributes
}

async fn stored(web: &Web, id: &str) -> Stored {
    let opened =
        web.world.stub().open(OpenRequest { id: id.to_owned(), no_renew: true }).await.expect("it is answered");
    opened.into_inner().session.expect("Open always sets the session")
}

async fn a_page_that_only_takes_a_session_sets_no_cookie(world: World) {
    let web = open(world).await;
    let page = web.browser().get("/").await;
    assert_eq!(page.ok(), "Hello, world!");
    sets_nothing(&page);
}

async fn a_bogus_or_malformed_cookie_is_replaced_when_something_is_inserted(world: World) {
    let web = open(world).await;
    for bogus in
        ["AAAAAAAAAAAAAAAAAAAAAA", "malformed", "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"]
    {
        let browser = web.browser().with(COOKIE, bogus);
        let page = browser.get("/").await;
        page.ok();
        sets_nothing(&page);
        browser.get("/foo/insert").await.ok();
        assert_ne!(id(&browser), bogus);
        assert_eq!(browser.get("/foo/get").await.ok(), "Some(42)");
    }
}

async fn what_is_inserted_is_got(world: World) {
    let web = open(world).await;
    let browser = web.browser();
    assert_eq!(browser.get("/foo/get").await.ok(), "None");
    let page = browser.get("/foo/insert").await;
    assert_eq!(attributes(&page), ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
    assert_eq!(browser.get("/foo/get").await.ok(), "Some(42)");
    sets_nothing(&browser.get("/foo/insert").await);
}

async fn a_removed_last_value_is_gone(world: World) {
    let web = open(world).await;
    let browser = web.browser();
    browser.get("/foo/insert").await.ok();
    let replay = browser.copy();
    assert_eq!(browser.get("/foo/remove").await.ok(), "Some(42)");
    assert_eq!(replay.get("/foo/get").await.ok(), "None");
    assert_eq!(browser.get("/foo/remove").await.ok(), "None");
}

async fn cycle_id_gives_a_new_id_and_keeps_the_values(world: World) {
    let web = open(world).await;
    let browser = web.browser();
    browser.get("/foo/insert").await.ok();
    let first = browser.copy();
    assert_eq!(browser.get("/cycle_id").await.set_cookies().len(), 1);
    assert_ne!(id(&first), id(&browser));
    assert_eq!(browser.get("/foo/get").await.ok(), "Some(42)");
    assert_eq!(first.get("/foo/get").await.ok(), "None");
    sets_nothing(&web.browser().get("/cycle_id").await);
}

async fn flush_and_delete_remove_the_session_and_its_cookie(world: World) {
    let web = open(world).await;
    for path in ["/flush", "/delete"] {
        let browser = web.browser();
        browser.get("/foo/insert").await.ok();
        let replay = browser.copy();
        let page = browser.get(path).await;
        page.ok();
        assert!(page.set_cookies()[0].starts_with("__Host-id=; "), "{path}");
        assert!(attributes(&page).contains(&"Max-Age=0") && attributes(&page).contains(&"Path=/"), "{path}");
        assert_eq!(replay.get("/foo/get").await.ok(), "None", "{path}");
        sets_nothing(&web.browser().get(path).await);
    }
}

async fn the_cookie_is_as_the_policy_says_when_set_and_when_removed(mut world: World) {
    let lax = ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"];
    let build = CookiePolicy::builder;
    let policies: [(CookiePolicyBuilder, &str, &[&str]); 8] = [
        (build().name("my.sid"), "my.sid", &lax),
        (build().same_site(SameSite::Strict), COOKIE, &["HttpOnly", "Path=/", "SameSite=Strict", "Secure"]),
        (build().same_site(SameSite::None), COOKIE, &["HttpOnly", "Path=/", "SameSite=None", "Secure"]),
        (build().name("id").secure(false), "id", &["HttpOnly", "Path=/", "SameSite=Lax"]),
        (build().name("id").path("/shop"), "id", &["HttpOnly", "Path=/shop", "SameSite=Lax", "Secure"]),
        (
            build().name("id").domain("example.com"),
            "id",
            &["Domain=example.com", "HttpOnly", "Path=/", "SameSite=Lax", "Secure"],
        ),
        (build().partitioned(true), COOKIE, &["HttpOnly", "Partitioned", "Path=/", "SameSite=Lax", "Secure"]),
        (build().name("__Secure-id"), "__Secure-id", &lax),
    ];
    for (policy, name, expected) in policies {
        let policy = policy.build().expect("browsers keep such a cookie");
        let web = Web::with(world, routes(), |layer| layer.cookie(policy)).await;
        let browser = web.browser();
        let page = browser.get("/foo/insert").await;
        assert_eq!(attributes(&page), expected, "{name}");
        assert!(browser.cookie(name).is_some(), "{name}");
        assert_eq!(browser.get("/foo/get").await.ok(), "Some(42)", "{name}");
        let page = browser.get("/flush").await;
        let mut expected = expected.to_vec();
        expected.extend(["Expires=Thu, 01 Jan 1970 00:00:00 GMT", "Max-Age=0"]);
        expected.sort_unstable();
        assert_eq!(attributes(&page), expected, "{name}: or the browser keeps it");
        assert_eq!(browser.cookie(name), None, "{name}");
        world = web.world;
    }
}

async fn without_a_max_age_the_cookie_ends_with_the_browser_and_with_one_it_does_not(world: World) {
    let policy = CookiePolicy::builder().max_age(Duration::from_secs(3600)).build().expect("browsers keep it");
    let web = Web::layered(world, |layer| {
        let kept = routes().layer(layer.clone().cookie(policy));
        Router::new().nest("/kept", kept).merge(routes().layer(layer))
    })
    .await;
    let page = web.browser().get("/foo/insert").await;
    assert!(!page.set_cookies()[0].contains("Max-Age") && !page.set_cookies()[0].contains("Expires"));
    let browser = web.browser();
    for path in ["/kept/foo/insert", "/kept/cycle_id"] {
        assert!(attributes(&browser.get(path).await).contains(&"Max-Age=3600"), "{path}");
    }
}

async fn a_session_expires_by_inactivity_and_the_layer_says_how_long(world: World) {
    let web = Web::with(world, routes(), |layer| layer.idle_timeout(Duration::from_secs(1))).await;
    let browser = web.browser();
    browser.get("/foo/insert").await.ok();
    let first = stored(&web, &id(&browser)).await;
    assert_eq!(first.idle_timeout.expect("it is told").seconds, 1);
    eventually("a request renews it", async || {
        browser.get("/").await.ok();
        stored(&web, &first.id).await.expire_time != first.expire_time
    })
    .await;
    eventually("nobody comes for a second", async || stored(&web, &first.id).await.id.is_empty()).await;
    let page = browser.get("/foo/get").await;
    assert_eq!(page.ok(), "None");
    sets_nothing(&page);
    browser.get("/foo/insert").await.ok();
    assert_ne!(id(&browser), first.id, "the next session is another one");
}

async fn the_idle_timeout_of_a_session_changes_both_ways(world: World) {
    let until = get(async |session: Session| format!("{:?}", session.expiry_date()));
    let web = Web::with(world, routes().route("/until", until), |layer| layer).await;
    let browser = web.browser();
    browser.get("/foo/insert").await.ok();
    for seconds in [3600, 60, 86_400] {
        let before = browser.get("/until").await;
        let page = browser.post(&format!("/idle/{seconds}")).await;
        page.ok();
        sets_nothing(&page);
        assert_eq!(stored(&web, &id(&browser)).await.idle_timeout.expect("it is told").seconds, seconds);
        assert_ne!(browser.get("/until").await.ok(), before.ok(), "{seconds}");
        assert_eq!(browser.get("/foo/get").await.ok(), "Some(42)", "nothing else has changed");
    }
}

async fn values_without_a_type_come_back_as_they_were(world: World) {
    let put = post(async |session: Session| session.insert("cart", vec![("tea", 2, None), ("milk", 1, Some(0.5))]));
    let get_value = get(async |session: Session| format!("{:?}", session.get_value("cart").is_some()));
    let remove_value = post(async |session: Session| format!("{:?}", session.remove_value("cart").is_some()));
    let got = get(async |session: Session| {
        session.get::<Vec<(String, u8, Option<f64>)>>("cart").map(|cart| format!("{:?}", cart.unwrap_or_default()))
    });
    let app = Router::new()
        .route("/put", put)
        .route("/value", get_value)
        .route("/remove-value", remove_value)
        .route("/got", got);
    let web = Web::with(world, app, |layer| layer).await;
    let browser = web.browser();
    assert_eq!(browser.get("/value").await.ok(), "false");
    browser.post("/put").await.ok();
    assert_eq!(browser.get("/got").await.ok(), r#"[("tea", 2, None), ("milk", 1, Some(0.5))]"#);
    assert!(web.world.stub().look(&id(&browser)).await.is_some());
    assert_eq!(browser.get("/value").await.ok(), "true");
    assert_eq!(browser.post("/remove-value").await.ok(), "true");
    assert_eq!(browser.post("/remove-value").await.ok(), "false");
}
