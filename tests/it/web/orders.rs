//! What a handler may do, in whatever order, and what becomes of it when something else comes in between.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use sessiond_client::axum::{Session, SessionError};
use sessiond_tests::{
    PATIENCE, World, on_both_stores,
    web::{
        Call::{Open, Save},
        Taken,
    },
};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Web, id, sets_nothing, shop};

on_both_stores!(
    a_value_that_is_put_back_after_clearing_is_kept,
    clearing_signs_out_whatever_is_put_in_afterwards,
    who_signs_in_after_another_gets_nothing_of_the_others,
    what_was_answered_with_a_503_is_not_saved_behind_it,
    a_login_that_was_answered_with_a_503_leaves_the_visitor_as_they_were,
    an_outcome_that_cannot_be_known_is_told_and_not_tried_again,
    an_update_may_look_at_its_own_session,
    what_is_inserted_after_a_save_is_saved_even_if_it_looks_the_same,
    a_request_that_nobody_waits_for_leaves_no_new_id,
    an_idle_timeout_that_is_cut_is_asked_for_once,
);

async fn a_value_that_is_put_back_after_clearing_is_kept(world: World) {
    async fn again(session: Session) -> Result<(), SessionError> {
        session.clear();
        session.insert("cart", ["tea"])
    }
    let web = Web::with(world, shop().route("/again", post(again)), |layer| layer).await;
    let browser = web.visitor().await;
    let page = browser.post("/again").await;
    page.ok();
    sets_nothing(&page);
    assert_eq!(browser.get("/list/cart").await.ok(), "tea");
}

async fn clearing_signs_out_whatever_is_put_in_afterwards(world: World) {
    async fn goodbye(session: Session) -> Result<(), SessionError> {
        session.clear();
        session.insert("flash", "goodbye")
    }
    let web = Web::with(world, shop().route("/goodbye", post(goodbye)), |layer| layer).await;
    let ada = web.ada().await;
    let before = ada.copy();
    ada.post("/goodbye").await.ok();
    assert_ne!(id(&ada), id(&before));
    assert_eq!(ada.get("/who").await.ok(), "nobody");
    assert_eq!(ada.get("/get/flash").await.ok(), "goodbye");
    assert_eq!(before.get("/who").await.ok(), "nobody", "the old id opens nothing");
}

async fn who_signs_in_after_another_gets_nothing_of_the_others(world: World) {
    let web = Web::shop(world).await;
    let browser = web.ada().await;
    browser.post("/insert/address/12-Bond-Street").await.ok();
    let before = browser.copy();
    browser.post("/login/eve").await.ok();
    assert_eq!(browser.get("/who").await.ok(), "eve");
    assert_eq!(browser.get("/get/address").await.ok(), "nothing");
    assert_eq!(before.get("/who").await.ok(), "nobody");
}

/// As often as the client tries.
fn refuse_saves(web: &Web) {
    (0..3).for_each(|_| web.gate.refuse(Save, Status::unavailable("just now")));
}

/// Whoever saves behind the response would have done so by the time that these are answered.
async fn saves_behind(web: &Web, saves: usize) {
    for _ in 0..5 {
        web.browser().get("/who").await.ok();
        tokio::task::yield_now().await;
    }
    assert_eq!(web.gate.taken().saves, saves, "no Save behind the response");
}

async fn what_was_answered_with_a_503_is_not_saved_behind_it(world: World) {
    let web = Web::shop(world).await;
    let browser = web.visitor().await;
    let before = web.gate.taken().saves;
    refuse_saves(&web);
    assert_eq!(browser.post("/add/cart/milk").await.status, StatusCode::SERVICE_UNAVAILABLE);
    saves_behind(&web, before + 3).await;
    browser.post("/add/cart/milk").await.ok();
    assert_eq!(browser.get("/list/cart").await.ok(), "tea,milk", "who tries again as told counts once");
}

async fn a_login_that_was_answered_with_a_503_leaves_the_visitor_as_they_were(world: World) {
    let web = Web::shop(world).await;
    let browser = web.visitor().await;
    let before = web.gate.taken().saves;
    refuse_saves(&web);
    let page = browser.post("/login/ada").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    sets_nothing(&page);
    saves_behind(&web, before + 3).await;
    assert_eq!(browser.get("/list/cart").await.ok(), "tea", "the cookie opens the session still");
}

async fn an_outcome_that_cannot_be_known_is_told_and_not_tried_again(world: World) {
    async fn saves_by_itself(session: Session) -> Result<(), SessionError> {
        session.update("cart", |cart: &mut Vec<String>| cart.push("milk".to_owned()))?;
        let told = session.save().await;
        assert!(matches!(told, Err(SessionError::OutcomeUnknown)));
        Ok(())
    }
    let web = Web::with(world, shop().route("/saves", post(saves_by_itself)), |layer| layer).await;
    for (path, status) in [("/add/cart/milk", StatusCode::CONFLICT), ("/saves", StatusCode::OK)] {
        let browser = web.visitor().await;
        let before = web.gate.taken().saves;
        let details = ErrorDetails::with_error_info("OUTCOME_UNKNOWN", "sessiond", HashMap::new());
        web.gate.refuse(Save, Status::with_error_details(Code::Aborted, "look", details));
        assert_eq!(browser.post(path).await.status, status, "{path}");
        saves_behind(&web, before + 1).await;
        assert_eq!(browser.get("/list/cart").await.ok(), "tea", "{path}");
    }
}

async fn an_update_may_look_at_its_own_session(world: World) {
    async fn count(session: Session) -> Result<String, SessionError> {
        let looks = session.clone();
        let count = session.update("count", move |count: &mut usize| {
            *count = looks.get::<Vec<String>>("cart").ok().flatten().map_or(0, |cart| cart.len());
        })?;
        Ok(count.to_string())
    }
    let web = Web::with(world, shop().route("/count", post(count)), |layer| layer).await;
    let browser = web.visitor().await;
    let page = timeout(PATIENCE, browser.post("/count")).await.expect("it comes back");
    assert_eq!(page.ok(), "1");
}

async fn what_is_inserted_after_a_save_is_saved_even_if_it_looks_the_same(world: World) {
    let (saved, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (Arc::clone(&saved), Arc::clone(&go));
    let page = post(async move |session: Session| -> Result<(), SessionError> {
        session.insert("page", 1)?;
        session.save().await?;
        tells.notify_one();
        waits.notified().await;
        session.insert("cart", ["tea"])
    });
    let web = Web::with(world, shop().route("/slow", page), |layer| layer).await;
    let browser = web.visitor().await;
    let tab = browser.clone();
    let slow = tokio::spawn(async move { tab.post("/slow").await });
    saved.notified().await;
    browser.post("/add/cart/milk").await.ok();
    go.notify_one();
    slow.await.unwrap().ok();
    assert_eq!(
        browser.get("/list/cart").await.ok(),
        "tea",
        "the later one wins, and not the one that was read earlier"
    );
}

/// Its response never leaves, and what still holds its session can set no cookie.
async fn a_request_that_nobody_waits_for_leaves_no_new_id(world: World) {
    /// Tells when the handler is dropped.
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (here, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, tells) = oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let (here_too, dropped_too) = (Arc::clone(&here), Arc::clone(&dropped));
    let page = post(async move |session: Session| -> Result<(), SessionError> {
        session.insert("name", "eve")?;
        let told = told.lock().unwrap().take().expect("it is asked once");
        assert!(told.send(session.clone()).is_ok());
        here_too.notify_one();
        let _dropped = Dropped(dropped_too);
        std::future::pending().await
    });
    let web = Web::with(world, shop().route("/slow", page), |layer| layer).await;
    let browser = web.visitor().await;
    let tab = browser.clone();
    let slow = tokio::spawn(async move { tab.post("/slow").await });
    here.notified().await;
    slow.abort();
    timeout(PATIENCE, dropped.notified()).await.expect("the handler ends with its request");
    let session = tells.await.unwrap();
    // The layer's own guard is dropped with the handler, and perhaps a moment later.
    sessiond_tests::eventually("the request is over", async || {
        matches!(session.rotate(), Err(SessionError::ResponseLeft))
    })
    .await;
    drop(session);
    saves_behind(&web, web.gate.taken().saves).await;
    assert_eq!(browser.get("/get/name").await.ok(), "nothing", "what it did is not kept");
}

async fn an_idle_timeout_that_is_cut_is_asked_for_once(world: World) {
    let web = Web::shop(world).await;
    let browser = web.visitor().await;
    let year = format!("/idle/{}", 365 * 24 * 60 * 60);
    for saves in [1, 0, 0] {
        let (page, cost) = web.gate.cost_of(browser.post(&year)).await;
        page.ok();
        assert_eq!(cost, Taken { opens: 1, saves, destroys: 0 });
    }
}

/// A page that can do without, behind a middleware that can, too.
#[tokio::test]
async fn a_request_waits_for_one_outage_and_not_for_two() {
    let page = get(async |first: Option<Session>, second: Option<Session>| {
        assert!(first.is_none() && second.is_none());
        "no session just now"
    });
    let web =
        Web::with(World::memory(&[]).await, Router::new().route("/page", page).merge(shop()), |layer| layer).await;
    let browser = web.visitor().await;
    (0..6).for_each(|_| web.gate.refuse(Open, Status::unavailable("just now")));
    let (page, cost) = web.gate.cost_of(browser.get("/page")).await;
    assert_eq!(page.ok(), "no session just now");
    assert_eq!(cost.opens, 3, "as often as one call is tried");
}
