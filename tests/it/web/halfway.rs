//! Saves that do not come to their end: what the handler gave up, or was refused, is saved when it has returned, and once.

use std::sync::{Arc, Mutex};

use axum::{Router, http::StatusCode, routing::post};
use sessiond_client::axum::{Session, SessionError};
use sessiond_tests::{
    World, on_both_stores,
    web::{
        Call::{self, Save},
        Gate, Held,
    },
};
use tokio::sync::Notify;
use tonic::Status;

use super::{Web, sets_nothing, shop};

on_both_stores!(
    what_a_handler_gave_up_is_saved_once_when_it_returns,
    a_session_whose_making_the_handler_gave_up_is_made_once,
    what_was_refused_in_an_outage_is_saved_once_when_the_handler_returns,
);

/// A shop with a page that adds milk, begins to save, and gives that up when the test says so.
fn impatient() -> (Arc<Notify>, Router) {
    let enough = Arc::new(Notify::new());
    let given = Arc::clone(&enough);
    let page = post(async move |session: Session| -> Result<(), SessionError> {
        session.update("cart", |cart: &mut Vec<String>| cart.push("milk".to_owned()))?;
        tokio::select! {
            saved = session.save() => saved,
            () = given.notified() => Ok(()),
        }
    });
    (enough, shop().route("/add-milk", page))
}

/// The Save does not reach sessiond, or its answer does not come back.
const WHERE: [fn(&Gate, Call) -> Held; 2] = [Gate::hold, Gate::hold_answer];

async fn what_a_handler_gave_up_is_saved_once_when_it_returns(world: World) {
    let (enough, app) = impatient();
    let web = Web::with(world, app, |layer| layer).await;
    for hold in WHERE {
        let browser = web.visitor().await;
        let mut held = hold(&web.gate, Save);
        let tab = browser.clone();
        let slow = tokio::spawn(async move { tab.post("/add-milk").await });
        held.arrived().await;
        enough.notify_one();
        held.given_up().await;
        slow.await.unwrap().ok();
        assert_eq!(browser.get("/list/cart").await.ok(), "tea,milk");
    }
}

async fn a_session_whose_making_the_handler_gave_up_is_made_once(world: World) {
    let (enough, app) = impatient();
    let web = Web::with(world, app, |layer| layer).await;
    let mut made = 0;
    for hold in WHERE {
        let browser = web.browser();
        let mut held = hold(&web.gate, Save);
        let tab = browser.clone();
        let slow = tokio::spawn(async move { tab.post("/add-milk").await });
        held.arrived().await;
        enough.notify_one();
        held.given_up().await;
        assert_eq!(slow.await.unwrap().set_cookies().len(), 1);
        assert_eq!(browser.get("/list/cart").await.ok(), "milk");
        made += 1;
        if let Some(redis) = &web.world.redis {
            assert_eq!(redis.command::<usize>(&["DBSIZE"]).await, made, "none is left over");
        }
    }
}

async fn what_was_refused_in_an_outage_is_saved_once_when_the_handler_returns(world: World) {
    let told = Arc::<Mutex<Vec<bool>>>::default();
    let tells = Arc::clone(&told);
    let page = post(async move |session: Session| -> Result<(), SessionError> {
        session.update("cart", |cart: &mut Vec<String>| cart.push("milk".to_owned()))?;
        let saved = session.save().await;
        tells.lock().unwrap().push(matches!(saved, Err(SessionError::Unavailable { .. })));
        session.update("cart", |cart: &mut Vec<String>| cart.push("bread".to_owned())).map(drop)
    });
    let web = Web::with(world, shop().route("/add-both", page), |layer| layer).await;
    let browser = web.visitor().await;
    // As often as the client tries.
    (0..3).for_each(|_| web.gate.refuse(Save, Status::unavailable("just now")));
    browser.post("/add-both").await.ok();
    assert_eq!(*told.lock().unwrap(), [true]);
    assert_eq!(browser.get("/list/cart").await.ok(), "tea,milk,bread");
}

/// A store without room is an outage of saving: it is told as one, and what needs no room works.
#[tokio::test]
async fn a_full_store_is_a_503_for_who_saves_and_nothing_for_who_reads_or_signs_out() {
    let web = Web::shop(World::redis(&[]).await).await;
    let ada = web.ada().await;
    let redis = web.world.redis.as_ref().unwrap();
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for browser in [&ada, &web.browser()] {
        let page = browser.post("/insert/name/eve").await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page.text(), "something went wrong\n");
        assert!(
            page.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds > 0))
        );
        sets_nothing(&page);
    }
    assert_eq!(ada.get("/who").await.ok(), "ada");
    assert_eq!(ada.post("/destroy").await.set_cookies().len(), 1);
    assert_eq!(ada.get("/who").await.ok(), "nobody");
}
