//! A slow request against a logout: whatever it does, whoever logged out is logged out. A store that does as actix-session's
//! own Redis store does fails the same assertion.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use actix_web::cookie::time::Duration;
use anyhow::Error;
use sessiond_tests::{
    World, on_both_stores, rounds,
    web::{Browser, Page},
};

use super::{Site, shop};

on_both_stores!(no_slow_request_undoes_a_logout, of_a_logout_and_a_request_at_the_same_moment_the_logout_holds,);

/// What a slow request has left of a logout that was acknowledged while it ran.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    /// It was told that all went well.
    succeeded: bool,
    /// It gave the browser a cookie.
    cookies: usize,
    /// Somebody is signed in: by the old cookie, or by the new one.
    signed_in: bool,
}

/// The request has loaded its session when the logout comes, and goes on when the logout is done.
async fn slow_against_logout(site: &Site, slow: &str) -> Traces {
    let ferris = site.ferris().await;
    let (thief, tab) = (ferris.copy(), ferris.copy());
    let (page, logout) = tokio::join!(tab.post(slow), async {
        site.turnstile.arrived().await;
        let page = ferris.post("/logout").await;
        site.turnstile.release();
        page
    });
    assert_eq!(logout.ok(), "Logged out: ferris");
    let signed_in = [thief.get("/").await, tab.get("/").await, ferris.get("/").await].iter().any(is_ferris);
    Traces { succeeded: page.status.is_success(), cookies: page.set_cookies().len(), signed_in }
}

fn is_ferris(page: &Page) -> bool {
    page.ok().starts_with("ferris")
}

async fn no_slow_request_undoes_a_logout(world: World) {
    let (site, _gate) = shop(&world).await;
    for slow in ["/slow/put", "/slow/renew", "/slow/purge"] {
        for _ in 0..rounds(1_000) {
            assert_eq!(slow_against_logout(&site, slow).await, Traces::default(), "{slow}");
        }
    }
}

async fn of_a_logout_and_a_request_at_the_same_moment_the_logout_holds(world: World) {
    let (site, _gate) = shop(&world).await;
    let [mut won, mut lost] = [0; 2];
    for slow in ["/slow/put", "/slow/renew"] {
        for _ in 0..rounds(1_000) {
            let ferris = site.ferris().await;
            let (thief, tab) = (ferris.copy(), ferris.copy());
            let (page, logout) = tokio::join!(tab.post(slow), async {
                site.turnstile.arrived().await;
                site.turnstile.release();
                ferris.post("/logout").await
            });
            if logout.status == 500 {
                // The renewal was first, and the visitor is told that this was no logout.
                assert_eq!((slow, page.ok()), ("/slow/renew", "ferris 0"));
                lost += 1;
            } else if logout.ok() == "Logged out: ferris" {
                let after = [thief.get("/").await, tab.get("/").await, ferris.get("/").await];
                assert!(!after.iter().any(is_ferris), "{slow}: {page:?}");
                won += 1;
            }
        }
    }
    assert!(won > 0, "some logouts hold");
    println!("a logout and a request at the same moment: {won} logouts held, {lost} were refused for a renewal");
}

/// Sessions in a map, kept as actix-session's `RedisSessionStore` keeps them: an update that finds nothing saves.
#[derive(Clone, Default)]
struct Naive(Arc<Mutex<HashMap<String, State>>>);

type State = HashMap<String, String>;

impl SessionStore for Naive {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        Ok(self.0.lock().expect("nobody panicked").get(key.as_ref()).cloned())
    }

    async fn save(&self, state: State, _: &Duration) -> Result<SessionKey, SaveError> {
        let key = uuid::Uuid::new_v4().to_string();
        self.0.lock().expect("nobody panicked").insert(key.clone(), state);
        Ok(SessionKey::try_from(key).expect("it is short"))
    }

    async fn update(&self, key: SessionKey, state: State, ttl: &Duration) -> Result<SessionKey, UpdateError> {
        if let Some(kept) = self.0.lock().expect("nobody panicked").get_mut(key.as_ref()) {
            *kept = state;
            return Ok(key);
        }
        self.save(state, ttl).await.map_err(|error| UpdateError::Other(error.into()))
    }

    async fn update_ttl(&self, _: &SessionKey, _: &Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), Error> {
        self.0.lock().expect("nobody panicked").remove(key.as_ref());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_saves_what_it_cannot_update_undoes_a_logout() {
    let site = Site::open(Naive::default(), |session| session);
    for slow in ["/slow/put", "/slow/renew"] {
        let revived = Traces { succeeded: true, cookies: 1, signed_in: true };
        assert_eq!(slow_against_logout(&site, slow).await, revived, "{slow}");
    }
    // And yet it works, for whoever tests without a second request.
    let ferris: Browser = site.ferris().await;
    let replay = ferris.copy();
    assert_eq!(ferris.post("/logout").await.ok(), "Logged out: ferris");
    assert_eq!(replay.get("/").await.ok(), "nobody 0");
}
