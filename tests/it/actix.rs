//! An actix application that keeps its sessions here by changing one line: a real one on a real port, with actix-session's
//! own middleware. Browsers stand before it, and behind it a real sessiond with a gate that counts and holds calls.

mod costs;
mod fixation;
mod outages;
mod revival;
mod stale;
mod times;
mod values;
mod workflows;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use actix_session::{Session, SessionExt, SessionMiddleware, config::SessionMiddlewareBuilder, storage::SessionStore};
use actix_web::{
    App, HttpServer, Result,
    cookie::{Cookie, CookieJar, Key},
    dev::ServerHandle,
    guard::fn_guard,
    web::{Data, Path, ServiceConfig, get, post, scope},
};
use serde_json::Value as Json;
use sessiond_client::{Deadlines, SessionClient, actix::SessiondStore};
use sessiond_proto::v1::{self, OpenRequest};
use sessiond_tests::{
    PATIENCE, World,
    web::{Browser, Gate, Page},
};
use tokio::sync::Semaphore;

/// The name that actix-session gives its cookie.
const COOKIE: &str = "id";

/// A well-formed id that the service never minted.
const UNKNOWN: &str = "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";

type Builder<S = SessiondStore> = SessionMiddlewareBuilder<S>;

/// The shop before this world, and the gate between them.
async fn shop(world: &World) -> (Site, Gate) {
    shop_with(world, |session| session).await
}

/// The same, with the middleware set as it says.
async fn shop_with(world: &World, set: impl Fn(Builder) -> Builder + Clone + Send + 'static) -> (Site, Gate) {
    let gate = Gate::before(&world.server).await;
    (Site::open(SessiondStore::new(patient(&gate.url())), set), gate)
}

/// A client that waits for as long as a slow machine may take: what is tested with it is not how long it waits.
fn patient(address: &str) -> SessionClient {
    let deadlines = Deadlines { open: PATIENCE, save: PATIENCE, destroy: PATIENCE };
    SessionClient::builder().address(address).deadlines(deadlines).build().expect("the address is one")
}

/// The application, served by two workers until this goes out of scope.
struct Site {
    address: SocketAddr,
    key: Key,
    turnstile: Arc<Turnstile>,
    server: ServerHandle,
}

impl Site {
    fn open<S: SessionStore + Clone + Send + 'static>(
        store: S,
        set: impl Fn(Builder<S>) -> Builder<S> + Clone + Send + 'static,
    ) -> Self {
        let (key, turnstile) = (Key::generate(), Arc::new(Turnstile::default()));
        let (sealed_by, passes) = (key.clone(), Data::from(Arc::clone(&turnstile)));
        let server = HttpServer::new(move || {
            let session = set(SessionMiddleware::builder(store.clone(), sealed_by.clone())).build();
            App::new().wrap(session).app_data(passes.clone()).configure(pages)
        });
        let server =
            server.workers(2).disable_signals().bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        let address = server.addrs()[0];
        let serving = server.run();
        let handle = serving.handle();
        tokio::spawn(serving);
        Self { address, key, turnstile, server: handle }
    }

    /// Somebody who comes for the first time.
    fn browser(&self) -> Browser {
        Browser::new(self.address)
    }

    /// Ferris, signed in.
    async fn ferris(&self) -> Browser {
        let browser = self.browser();
        browser.post("/login/ferris").await.ok();
        browser
    }

    /// A browser with this id in a cookie that the application's own key has sealed: what it once gave to somebody.
    fn holding(&self, id: &str) -> Browser {
        let mut jar = CookieJar::new();
        jar.private_mut(&self.key).add(Cookie::new(COOKIE, id.to_owned()));
        let cookie = jar.delta().next().expect("it was just added").encoded().to_string();
        let (_, value) = cookie.split_once('=').expect("a name and a value");
        self.browser().with(COOKIE, value)
    }

    /// The id in a browser's cookie.
    fn id(&self, browser: &Browser) -> String {
        let cookie = format!("{COOKIE}={}", browser.cookie(COOKIE).expect("it has a session"));
        let mut jar = CookieJar::new();
        jar.add_original(Cookie::parse_encoded(cookie).expect("it is a cookie"));
        jar.private(&self.key).get(COOKIE).expect("this application sealed it").value().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The order goes out at once; nobody waits for it to be carried out.
        drop(self.server.stop(false));
    }
}

/// Where slow requests wait, with their session loaded, until the test lets them go on.
struct Turnstile {
    here: Semaphore,
    open: Semaphore,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { here: Semaphore::new(0), open: Semaphore::new(0) }
    }
}

impl Turnstile {
    async fn pass(&self) {
        self.here.add_permits(1);
        self.open.acquire().await.expect("it is never closed").forget();
    }

    /// Waits until a request is there.
    async fn arrived(&self) {
        let arrived = tokio::time::timeout(PATIENCE, self.here.acquire()).await;
        arrived.expect("the request comes").expect("it is never closed").forget();
    }

    /// Lets one go on.
    fn release(&self) {
        self.open.add_permits(1);
    }
}

/// A shop that does with sessions whatever can be done with them, one thing a page.
fn pages(config: &mut ServiceConfig) {
    let signed_in = fn_guard(|request| request.get_session().get::<String>("user_id").is_ok_and(|user| user.is_some()));
    config
        .route("/plain", get().to(|| async { "nobody looked at the session" }))
        .route("/", get().to(index))
        .route("/do_something", post().to(do_something))
        .route("/login/{user}", post().to(login))
        .route("/logout", post().to(logout))
        .service(scope("/protected").guard(signed_in).route("/count", get().to(index)))
        .route("/raw/{key}", get().to(raw))
        .route("/put/{key}", post().to(put))
        .route("/remove/{key}", post().to(remove))
        .route("/clear", post().to(clear))
        .route("/renew", post().to(renew))
        .route("/slow/{what}", post().to(slow));
}

/// Who is here, and how far the counter is.
fn told(session: &Session) -> Result<String> {
    let user: Option<String> = session.get("user_id")?;
    let counter: Option<i32> = session.get("counter")?;
    Ok(format!("{} {}", user.as_deref().unwrap_or("nobody"), counter.unwrap_or(0)))
}

async fn index(session: Session) -> Result<String> {
    told(&session)
}

async fn do_something(session: Session) -> Result<String> {
    let counter: Option<i32> = session.get("counter")?;
    session.insert("counter", counter.unwrap_or(0) + 1)?;
    told(&session)
}

async fn login(user: Path<String>, session: Session) -> Result<String> {
    session.insert("user_id", user.as_str())?;
    session.renew();
    told(&session)
}

async fn logout(session: Session) -> Result<String> {
    let user: Option<String> = session.get("user_id")?;
    Ok(match user {
        Some(user) => {
            session.purge();
            format!("Logged out: {user}")
        }
        None => "Could not log out anonymous user".to_owned(),
    })
}

/// The JSON that stands under a key, as the application is given it.
async fn raw(key: Path<String>, session: Session) -> String {
    session.entries().get(key.as_str()).cloned().unwrap_or_else(|| "nothing".to_owned())
}

/// Keeps this JSON under a key.
async fn put(key: Path<String>, body: String, session: Session) -> Result<&'static str> {
    session.insert(key.into_inner(), serde_json::from_str::<Json>(&body)?)?;
    Ok("kept")
}

async fn remove(key: Path<String>, session: Session) -> String {
    session.remove(&key).unwrap_or_else(|| "nothing".to_owned())
}

async fn clear(session: Session) -> &'static str {
    session.clear();
    "cleared"
}

async fn renew(session: Session) -> &'static str {
    session.renew();
    "renewed"
}

/// Does this when the test says so, and then with the session that was there when it came.
async fn slow(what: Path<String>, turnstile: Data<Turnstile>, session: Session) -> Result<String> {
    turnstile.pass().await;
    match what.as_str() {
        "look" => {}
        "put" => session.insert("late", true)?,
        "renew" => session.renew(),
        "purge" => session.purge(),
        other => panic!("there is no slow {other}"),
    }
    told(&session)
}

/// Whether the page says nothing of cookies.
fn sets_nothing(page: &Page) {
    assert_eq!(page.set_cookies(), [] as [&str; 0], "{} {}", page.status, page.text());
}

/// Whether the page is what actix-session's middleware makes of every error: a 500 that says nothing, and no cookie.
fn is_opaque_failure(page: &Page) {
    assert_eq!((page.status.as_u16(), page.text()), (500, ""));
    sets_nothing(page);
}

/// The session with this id, looked at without extending its life; `None` if there is none.
async fn peek(world: &World, id: &str) -> Option<v1::Session> {
    let look = OpenRequest { id: id.to_owned(), no_renew: true };
    let answer = world.stub().open(look).await.expect("Open is answered").into_inner();
    answer.session.filter(|session| !session.id.is_empty())
}
