//! A web application that keeps its sessions here, as its visitors meet it: an axum application on a real port with the
//! client crate's layer around it, browsers, and behind it a real sessiond with a gate before it that counts and holds calls.

mod cookies;
mod counts;
mod halfway;
mod headers;
mod logins;
mod logouts;
mod naive;
mod orders;
mod outages;
mod outcomes;
mod races;
mod saves;
mod secrets;
mod sockets;
mod stale;
mod streams;
mod workflows;

use std::time::Duration;

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use sessiond_client::{
    Deadlines, SessionClient,
    axum::{Session, SessionError, SessionLayer},
};
use sessiond_tests::{
    PATIENCE, World,
    web::{Browser, Gate, Page, Site},
};

/// The name of the cookie, if nothing else is said.
const COOKIE: &str = "__Host-id";

/// A world with a gate before its sessiond, and an application before that.
struct Web {
    world: World,
    gate: Gate,
    site: Site,
}

impl Web {
    /// The shop, and nothing else.
    async fn shop(world: World) -> Self {
        Self::with(world, shop(), |layer| layer).await
    }

    /// This application, with the layer set as it says.
    async fn with(world: World, app: Router, set: impl FnOnce(SessionLayer) -> SessionLayer) -> Self {
        Self::layered(world, |layer| app.layer(set(layer))).await
    }

    /// The application that this makes of the layer.
    async fn layered(world: World, app: impl FnOnce(SessionLayer) -> Router) -> Self {
        let gate = Gate::before(&world.server).await;
        let site = Site::serve(app(SessionLayer::new(patient(&gate.url())))).await;
        Self { world, gate, site }
    }

    /// Somebody who comes for the first time.
    fn browser(&self) -> Browser {
        self.site.browser()
    }

    /// An anonymous visitor with tea in the cart.
    async fn visitor(&self) -> Browser {
        let browser = self.browser();
        browser.post("/add/cart/tea").await.ok();
        browser
    }

    /// Ada, signed in, with tea in her cart.
    async fn ada(&self) -> Browser {
        let browser = self.visitor().await;
        browser.post("/login/ada").await.ok();
        browser
    }
}

/// A client that waits for as long as a slow machine may take: what is tested with it is not how long it waits.
fn patient(address: &str) -> SessionClient {
    let deadlines = Deadlines { open: PATIENCE, save: PATIENCE, destroy: PATIENCE };
    SessionClient::builder().address(address).deadlines(deadlines).build().expect("the address is one")
}

/// A shop that does with sessions whatever can be done with them, one thing a page, written as its users would write it.
fn shop() -> Router {
    Router::new()
        .route("/plain", get(|| async { "nobody looked at the session" }))
        .route("/get/{key}", get(show))
        .route("/list/{key}", get(list))
        .route("/who", get(who))
        .route("/insert/{key}/{value}", post(insert))
        .route("/add/{key}/{value}", post(add))
        .route("/remove/{key}", post(remove))
        .route("/idle/{seconds}", post(idle))
        .route("/login/{subject}", post(login))
        .route("/rotate", post(async |session: Session| session.rotate()))
        .route("/clear", post(async |session: Session| session.clear()))
        .route("/destroy", post(async |session: Session| session.destroy()))
}

async fn show(Path(key): Path<String>, session: Session) -> Result<String, SessionError> {
    Ok(session.get::<String>(&key)?.unwrap_or_else(|| "nothing".to_owned()))
}

async fn list(Path(key): Path<String>, session: Session) -> Result<String, SessionError> {
    let list: Vec<String> = session.get(&key)?.unwrap_or_default();
    Ok(list.join(","))
}

async fn who(session: Session) -> String {
    session.subject().unwrap_or_else(|| "nobody".to_owned())
}

async fn insert(Path((key, value)): Path<(String, String)>, session: Session) -> Result<(), SessionError> {
    session.insert(&key, value)
}

async fn add(Path((key, value)): Path<(String, String)>, session: Session) -> Result<String, SessionError> {
    let list = session.update(&key, move |list: &mut Vec<String>| list.push(value.clone()))?;
    Ok(list.join(","))
}

async fn remove(Path(key): Path<String>, session: Session) {
    session.remove_value(&key);
}

async fn idle(Path(seconds): Path<u64>, session: Session) {
    session.set_idle_timeout(Duration::from_secs(seconds));
}

async fn login(Path(subject): Path<String>, session: Session) -> Result<String, SessionError> {
    session.sign_in(&subject)?;
    Ok(format!("welcome, {subject}"))
}

/// The session's cookie.
fn id(browser: &Browser) -> String {
    browser.cookie(COOKIE).expect("it has a session")
}

/// Whether the page says nothing of cookies.
fn sets_nothing(page: &Page) {
    assert_eq!(page.set_cookies(), [] as [&str; 0], "{} {}", page.status, page.text());
}
