//! No id that a visitor chose is ever taken on.

use sessiond_client::SessionId;
use sessiond_tests::{World, on_both_stores};

use super::{COOKIE, UNKNOWN, peek, sets_nothing, shop};

on_both_stores!(
    an_id_that_a_visitor_chose_is_never_taken_on,
    a_cookie_that_the_application_did_not_seal_is_none,
    a_login_leaves_the_id_from_before_dead,
    an_id_that_was_ended_is_not_given_again,
);

/// The planted cookie is sealed with the application's own key: an attacker can replay what it once gave.
async fn an_id_that_a_visitor_chose_is_never_taken_on(world: World) {
    let (site, _gate) = shop(&world).await;
    let far_too_long = "x".repeat(3000);
    for planted in [UNKNOWN, "", "x", "6f1c8a3e-5b7d-4f20-9a1b-2c3d4e5f6071", &far_too_long] {
        for page in ["/do_something", "/login/ferris"] {
            let victim = site.holding(planted);
            let attacker = victim.copy();
            victim.post(page).await.ok();
            assert_ne!(site.id(&victim), planted, "{page}");
            assert!(SessionId::parse(&site.id(&victim)).is_some(), "{page}: the service minted it");
            assert!(peek(&world, planted).await.is_none(), "{page}");
            assert_eq!(attacker.get("/").await.ok(), "nobody 0", "{page}");
        }
        for page in ["/renew", "/clear", "/logout"] {
            let nobody = site.holding(planted);
            let answer = nobody.post(page).await;
            answer.ok();
            sets_nothing(&answer);
        }
    }
}

async fn a_cookie_that_the_application_did_not_seal_is_none(world: World) {
    let (site, gate) = shop(&world).await;
    let ferris = site.ferris().await;
    let bare = site.browser().with(COOKIE, &site.id(&ferris));
    let (page, taken) = gate.cost_of(bare.get("/")).await;
    assert_eq!((page.ok(), taken.opens), ("nobody 0", 0), "a stolen id alone is not even asked for");
    bare.post("/do_something").await.ok();
    assert_ne!(site.id(&bare), site.id(&ferris));
    assert_eq!(ferris.get("/").await.ok(), "ferris 0");
}

async fn a_login_leaves_the_id_from_before_dead(world: World) {
    let (site, _gate) = shop(&world).await;
    for page in ["/login/ferris", "/renew"] {
        // A session that the attacker got here, and planted.
        let attacker = site.browser();
        attacker.post("/do_something").await.ok();
        let victim = attacker.copy();
        victim.post(page).await.ok();
        let (old, new) = (site.id(&attacker), site.id(&victim));
        assert_ne!(old, new);
        assert_ne!(old[..32], new[..32], "it is another session, with another handle");
        assert!(peek(&world, &old).await.is_none() && peek(&world, &new).await.is_some());
        assert_eq!(attacker.get("/").await.ok(), "nobody 0");
        attacker.post("/do_something").await.ok();
        assert_ne!(site.id(&attacker), old);
        assert!(victim.get("/").await.ok().ends_with(" 1"), "what the attacker does now is the attacker's own");
    }
}

async fn an_id_that_was_ended_is_not_given_again(world: World) {
    let (site, _gate) = shop(&world).await;
    let ferris = site.ferris().await;
    let replay = ferris.copy();
    ferris.post("/logout").await.ok();
    let old = site.id(&replay);
    replay.post("/login/eve").await.ok();
    assert_ne!(site.id(&replay), old);
    assert!(peek(&world, &old).await.is_none());
}
