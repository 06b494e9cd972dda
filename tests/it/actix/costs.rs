//! The table in the documentation of `sessiond_client::actix`, as far as no other file holds it: what does not hold through
//! actix-session (P1), and what a request costs (P4).

use actix_session::config::{PersistentSession, TtlExtensionPolicy};
use sessiond_tests::{
    World, on_both_stores,
    web::{Browser, Taken},
};

use super::{COOKIE, UNKNOWN, shop, shop_with};

const NOTHING: Taken = Taken { opens: 0, saves: 0, destroys: 0 };
const ONE_OPEN: Taken = Taken { opens: 1, ..NOTHING };
const OPEN_AND_SAVE: Taken = Taken { saves: 1, ..ONE_OPEN };

on_both_stores!(
    of_two_requests_that_change_different_keys_the_last_one_wins,
    a_page_costs_so_many_calls_and_no_more,
    looking_writes_nothing,
);

/// So it is, and so the table says: the middleware hands the whole map back. The axum layer keeps both.
async fn of_two_requests_that_change_different_keys_the_last_one_wins(world: World) {
    let (site, _gate) = shop(&world).await;
    let ferris = site.ferris().await;
    let (slow, fast) = tokio::join!(ferris.post("/slow/put"), async {
        site.turnstile.arrived().await;
        let page = ferris.post_body("/put/fast", "true").await;
        site.turnstile.release();
        page
    });
    assert_eq!((slow.ok(), fast.ok()), ("ferris 0", "kept"));
    assert_eq!(ferris.get("/raw/late").await.ok(), "true");
    assert_eq!(ferris.get("/raw/fast").await.ok(), "nothing", "it holds after all? Then tell it in the table");
}

async fn a_page_costs_so_many_calls_and_no_more(world: World) {
    let (site, gate) = shop(&world).await;
    let stranger = site.browser();
    for nobody in [stranger.copy(), stranger.with(COOKIE, "x"), stranger.with(COOKIE, UNKNOWN), site.holding("x")] {
        for path in ["/plain", "/", "/raw/name"] {
            let (page, taken) = gate.cost_of(nobody.get(path)).await;
            page.ok();
            assert_eq!(taken, NOTHING, "{path}");
        }
    }
    let (page, taken) = gate.cost_of(site.holding(UNKNOWN).get("/")).await;
    assert_eq!((page.ok(), taken), ("nobody 0", ONE_OPEN));

    let visitor = site.browser();
    costs(&gate, &visitor, "/renew", NOTHING).await;
    costs(&gate, &visitor, "/do_something", Taken { saves: 1, ..NOTHING }).await;
    // The middleware loads the session whether or not a handler asks for it.
    for path in ["/plain", "/", "/raw/name"] {
        let (page, taken) = gate.cost_of(visitor.get(path)).await;
        page.ok();
        assert_eq!(taken, ONE_OPEN, "{path}");
    }
    for path in ["/do_something", "/remove/name", "/clear"] {
        costs(&gate, &visitor, path, OPEN_AND_SAVE).await;
    }
    // The session is taken away from everybody, ended, and made again.
    costs(&gate, &visitor, "/login/ferris", Taken { saves: 2, destroys: 1, ..ONE_OPEN }).await;
    costs(&gate, &visitor, "/logout", Taken { destroys: 1, ..OPEN_AND_SAVE }).await;
}

async fn costs(gate: &sessiond_tests::web::Gate, visitor: &Browser, path: &str, expected: Taken) {
    let (page, taken) = gate.cost_of(visitor.post(path)).await;
    page.ok();
    assert_eq!(taken, expected, "{path}");
}

async fn looking_writes_nothing(world: World) {
    for every_request in [false, true] {
        let (site, gate) = shop_with(&world, move |session| match every_request {
            true => session.session_lifecycle(
                PersistentSession::default().session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest),
            ),
            false => session,
        })
        .await;
        let ferris = site.ferris().await;
        let before = writes(&world).await;
        let browsers = [ferris, site.holding(UNKNOWN), site.browser()];
        let looks = async {
            for _ in 0..20 {
                for browser in &browsers {
                    browser.get("/").await.ok();
                }
            }
        };
        let ((), taken) = gate.cost_of(looks).await;
        assert_eq!((taken.saves, taken.destroys), (0, 0));
        assert_eq!(writes(&world).await, before, "every_request: {every_request}");
    }
}

/// How many keys Redis has, and how often it was told to write.
async fn writes(world: &World) -> Option<(u64, Vec<u64>)> {
    let redis = world.redis.as_ref()?;
    let mut calls = Vec::new();
    for command in ["set", "setex", "psetex", "expire", "pexpire", "pexpireat", "del", "unlink"] {
        calls.push(redis.calls(command).await);
    }
    Some((redis.command(&["DBSIZE"]).await, calls))
}
