//! Two tabs, and one of them signs out, or both sign in: a logout wins over whatever it did not know of, and a login works.

use axum::routing::post;
use sessiond_client::axum::Session;
use sessiond_tests::{
    World, on_both_stores,
    web::Call::{Destroy, Open, Save},
};

use super::{Web, shop, stale::send};

on_both_stores!(
    a_logout_wins_over_a_login_that_it_did_not_know_of,
    a_logout_wins_over_the_first_login_too,
    a_logout_wins_over_a_change_that_it_did_not_know_of,
    a_slow_login_wins_over_a_logout,
    two_logins_at_once_both_work,
);

/// Whoever clicked "sign out" is signed out, also of what another tab had just signed in to, and if another tab just gave the
/// session a new id.
async fn a_logout_wins_over_a_login_that_it_did_not_know_of(world: World) {
    let web = Web::shop(world).await;
    for (path, call, meanwhile) in [
        ("/destroy", Open, "/login/ada"),
        ("/destroy", Open, "/rotate"),
        ("/destroy", Destroy, "/login/ada"),
        ("/destroy", Destroy, "/rotate"),
        ("/clear", Destroy, "/login/ada"),
        ("/clear", Destroy, "/rotate"),
        ("/clear", Open, "/login/ada"),
        ("/clear", Open, "/rotate"),
    ] {
        let what = format!("{path}, held up at its {call:?} during {meanwhile}");
        let browser = web.ada().await;
        let mut held = web.gate.hold(call);
        let slow = send(&browser, path);
        held.arrived().await;
        browser.post(meanwhile).await.ok();
        let ada = browser.copy();
        held.release();
        slow.await.unwrap().ok();
        for whoever in [ada, browser] {
            assert_eq!(whoever.get("/who").await.ok(), "nobody", "{what}");
        }
    }
}

async fn a_logout_wins_over_the_first_login_too(world: World) {
    let web = Web::shop(world).await;
    for call in [Open, Destroy] {
        let browser = web.visitor().await;
        let mut held = web.gate.hold(call);
        let slow = send(&browser, "/destroy");
        held.arrived().await;
        browser.post("/login/ada").await.ok();
        let ada = browser.copy();
        held.release();
        slow.await.unwrap().ok();
        for whoever in [ada, browser] {
            assert_eq!(whoever.get("/who").await.ok(), "nobody", "held up at its {call:?}");
        }
    }
}

async fn a_logout_wins_over_a_change_that_it_did_not_know_of(world: World) {
    let web = Web::shop(world).await;
    for path in ["/destroy", "/clear"] {
        let browser = web.ada().await;
        let replay = browser.copy();
        let mut held = web.gate.hold(Destroy);
        let slow = send(&browser, path);
        held.arrived().await;
        browser.post("/insert/name/eve").await.ok();
        held.release();
        slow.await.unwrap().ok();
        for whoever in [replay, browser] {
            assert_eq!(whoever.get("/who").await.ok(), "nobody", "{path}");
        }
    }
}

/// A login is the visitor's own doing in this very request: it works, and brings nothing of the session that ended.
async fn a_slow_login_wins_over_a_logout(world: World) {
    let app = shop().route(
        "/login-with-milk",
        post(async |session: Session| {
            session.update("cart", |cart: &mut Vec<String>| cart.push("milk".to_owned()))?;
            session.sign_in("ada")
        }),
    );
    let web = Web::with(world, app, |layer| layer).await;
    for call in [Open, Save] {
        let browser = web.visitor().await;
        let mut held = web.gate.hold(call);
        let slow = send(&browser, "/login-with-milk");
        held.arrived().await;
        browser.post("/destroy").await.ok();
        held.release();
        slow.await.unwrap().ok();
        assert_eq!(browser.get("/who").await.ok(), "ada", "held up at its {call:?}");
        assert_eq!(browser.get("/list/cart").await.ok(), "milk", "held up at its {call:?}");
    }
}

async fn two_logins_at_once_both_work(world: World) {
    let web = Web::shop(world).await;
    for call in [Open, Save] {
        let browser = web.visitor().await;
        let mut held = web.gate.hold(call);
        let slow = send(&browser, "/login/eve");
        held.arrived().await;
        browser.post("/login/ada").await.ok();
        held.release();
        slow.await.unwrap().ok();
        assert_eq!(browser.get("/who").await.ok(), "eve", "the later answer counts; held up at its {call:?}");
        assert_eq!(browser.get("/list/cart").await.ok(), "", "and is a session of its own");
    }
}
