//! A stale tab: a request with the old cookie, in flight during a login, neither removes nor replaces the new cookie.

use actix_session::config::{PersistentSession, TtlExtensionPolicy};
use sessiond_tests::{World, on_both_stores};

use super::{is_opaque_failure, peek, sets_nothing, shop_with};

on_both_stores!(a_request_in_flight_during_a_login_leaves_the_new_cookie_alone, of_two_logins_at_once_one_holds);

async fn a_request_in_flight_during_a_login_leaves_the_new_cookie_alone(world: World) {
    for every_request in [false, true] {
        let (site, _gate) = shop_with(&world, move |session| match every_request {
            true => session.session_lifecycle(
                PersistentSession::default().session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest),
            ),
            false => session,
        })
        .await;
        for slow in ["/slow/look", "/slow/put", "/slow/renew", "/slow/purge"] {
            let ferris = site.browser();
            ferris.post("/do_something").await.ok();
            let stale = ferris.clone();
            let (page, _) = tokio::join!(stale.post(slow), async {
                site.turnstile.arrived().await;
                ferris.post("/login/ferris").await.ok();
                site.turnstile.release();
            });
            // Only a look that sets no cookie need not know that its session has ended.
            match (slow, every_request) {
                ("/slow/look", false) => sets_nothing(&page),
                _ => is_opaque_failure(&page),
            }
            assert_eq!(ferris.get("/").await.ok(), "ferris 1", "{slow}");
        }
    }
}

async fn of_two_logins_at_once_one_holds(world: World) {
    let (site, _gate) = shop_with(&world, |session| session).await;
    let ferris = site.browser();
    ferris.post("/do_something").await.ok();
    let old = site.id(&ferris);
    let (slow, fast) = tokio::join!(ferris.post("/slow/renew"), async {
        site.turnstile.arrived().await;
        let page = ferris.post("/login/ferris").await;
        site.turnstile.release();
        page
    });
    is_opaque_failure(&slow);
    assert_eq!(fast.ok(), "ferris 1");
    assert!(peek(&world, &old).await.is_none());
    assert_eq!(ferris.get("/").await.ok(), "ferris 1");
}
