//! What is saved when nothing changed, how long a session lives at most, and what becomes of an empty session.

use std::time::{Duration, SystemTime};

use axum::{
    extract::Path,
    routing::{get, post},
};
use sessiond_client::axum::Session;
use sessiond_proto::v1::{OpenRequest, SaveRequest, Session as Stored};
use sessiond_tests::{Calls, World, change, create, keep, on_both_stores, web::Call};

use super::{COOKIE, Web, id, sets_nothing, shop};

on_both_stores!(
    saving_an_unchanged_session_wipes_nothing,
    a_layer_and_a_session_say_how_long_a_session_lives_at_most,
    clearing_an_empty_session_destroys_it_unless_another_request_filled_it,
);

async fn stored(web: &Web, id: &str) -> Stored {
    let opened =
        web.world.stub().open(OpenRequest { id: id.to_owned(), no_renew: true }).await.expect("it is answered");
    opened.into_inner().session.expect("Open always sets the session")
}

async fn saving_an_unchanged_session_wipes_nothing(world: World) {
    let save_twice = |session: Session| async move {
        session.save().await?;
        session.insert("name", "ada")?;
        session.save().await?;
        // No longer fresh: what is set again may differ from what others stored meanwhile, so it is sent by its name.
        session.remove_value("nothing");
        session.save().await
    };
    let web = Web::with(world, shop().route("/save-twice", get(save_twice)), |layer| layer).await;
    let visitor = web.visitor().await;
    visitor.post("/insert/name/ada").await.ok();
    visitor.get("/save-twice").await.ok();
    assert_eq!(visitor.get("/list/cart").await.ok(), "tea");
    assert_eq!(visitor.get("/get/name").await.ok(), "ada");
}

/// How many seconds ahead the end of a session is, seen from `since`.
fn ends_after(session: &Stored, since: SystemTime) -> u64 {
    let end = SystemTime::try_from(session.expire_time.expect("it is told")).expect("it is a time");
    end.duration_since(since).expect("it is later").as_secs()
}

async fn a_layer_and_a_session_say_how_long_a_session_lives_at_most(world: World) {
    let set = post(async |Path(seconds): Path<u64>, session: Session| {
        session.set_lifetime(Duration::from_secs(seconds));
    });
    let app = shop().route("/lifetime/{seconds}", set);
    let web = Web::with(world, app, |layer| layer.lifetime(Duration::from_secs(3_000))).await;
    let browser = web.visitor().await;
    let first = stored(&web, &id(&browser)).await;
    let created = SystemTime::try_from(first.create_time.expect("it is told")).expect("it is a time");
    // Redis counts from its own view of now, at times a millisecond off.
    assert!((2_999..=3_000).contains(&ends_after(&first, created)), "the layer's: {}", ends_after(&first, created));
    browser.post("/lifetime/5000").await.ok();
    assert_eq!(stored(&web, &id(&browser)).await.expire_time, first.expire_time, "an end never moves away");
    browser.post("/lifetime/1000").await.ok();
    let nearer = ends_after(&stored(&web, &id(&browser)).await, created);
    assert!((999..2_999).contains(&nearer), "{nearer}");
    browser.post("/login/ada").await.ok();
    let login = ends_after(&stored(&web, &id(&browser)).await, created);
    assert!(login >= 2_999, "a login begins the layer's lifetime anew: {login}");
    assert_eq!(browser.get("/list/cart").await.ok(), "tea", "nothing else has changed");
}

async fn clearing_an_empty_session_destroys_it_unless_another_request_filled_it(world: World) {
    let web = Web::shop(world).await;
    let mut stub = web.world.stub();
    let empty = stub.store(create(serde_json::json!({}))).await.unwrap();
    let browser = web.browser().with(COOKIE, &empty.id);
    let page = browser.post("/clear").await;
    page.ok();
    assert!(page.set_cookies()[0].starts_with("__Host-id=; "), "{:?}", page.set_cookies());
    assert!(stub.look(&empty.id).await.is_none());

    // Another request puts something in after this one has opened the session.
    let empty = stub.store(create(serde_json::json!({}))).await.unwrap();
    let browser = web.browser().with(COOKIE, &empty.id);
    let mut save = web.gate.hold(Call::Save);
    let clearing = tokio::spawn(async move { browser.post("/clear").await });
    save.arrived().await;
    stub.store(change(&empty, &["cart"], serde_json::json!({"cart": ["tea"]}))).await.unwrap();
    save.release();
    let page = clearing.await.unwrap();
    page.ok();
    sets_nothing(&page);
    assert!(stub.look(&empty.id).await.is_some(), "what the other request put in is there");

    // A login gives it a new id meanwhile: clearing is a logout, and wins.
    let empty = stub.store(create(serde_json::json!({}))).await.unwrap();
    let browser = web.browser().with(COOKIE, &empty.id);
    let mut save = web.gate.hold(Call::Save);
    let clearing = tokio::spawn(async move { browser.post("/clear").await });
    save.arrived().await;
    let login = SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..keep(&empty) };
    let ada = stub.store(login).await.expect("it is signed in");
    save.release();
    clearing.await.unwrap().ok();
    assert!(stub.look(&ada.id).await.is_none(), "the login is undone");
}
