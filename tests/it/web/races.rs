//! Races through HTTP: two requests of one visitor at once, each round a new session, chance with a seed that is printed.
//! Nothing is lost, and who is signed out is signed out. The same races on a layer that reads and writes whole maps lose and
//! revive, so they can tell.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{FromRequestParts, Path},
    http::{StatusCode, request::Parts},
    routing::{get, post},
};
use sessiond_client::axum::{Session, SessionError, SessionLayer};
use sessiond_tests::{
    Dice, PATIENCE, TestRedis, World, on_both_stores, rounds,
    web::{Browser, Page, Site},
};
use tokio::task::JoinSet;

use super::{COOKIE, naive, patient};

/// Rounds at a time.
const AT_ONCE: usize = 8;

/// What the application asks of a session, whoever keeps it.
pub(super) trait Keeps: FromRequestParts<(), Rejection: Send> + Clone + Send + Sync + 'static {
    fn note(&self, key: &str) -> Result<(), SessionError>;
    fn add(&self, item: String) -> Result<(), SessionError>;
    fn sign_in(&self) -> Result<(), SessionError>;
    fn rotate(&self) -> Result<(), SessionError>;
    fn sign_out(&self);
    fn clear(&self);
    fn has(&self, key: &str) -> bool;
    fn list(&self) -> Result<String, SessionError>;
    fn who(&self) -> Option<String>;
}

impl Keeps for Session {
    fn note(&self, key: &str) -> Result<(), SessionError> {
        self.insert(key, "noted")
    }

    fn add(&self, item: String) -> Result<(), SessionError> {
        self.update("list", move |list: &mut Vec<String>| list.push(item.clone())).map(drop)
    }

    fn sign_in(&self) -> Result<(), SessionError> {
        Self::sign_in(self, "ada")
    }

    fn rotate(&self) -> Result<(), SessionError> {
        Self::rotate(self)
    }

    fn sign_out(&self) {
        self.destroy();
    }

    fn clear(&self) {
        Self::clear(self);
    }

    fn has(&self, key: &str) -> bool {
        self.get_value(key).is_some()
    }

    fn list(&self) -> Result<String, SessionError> {
        Ok(self.get::<Vec<String>>("list")?.unwrap_or_default().join(","))
    }

    fn who(&self) -> Option<String> {
        self.subject()
    }
}

/// Somebody works on it for so long.
async fn work(pause: u64) {
    if pause > 20 {
        tokio::time::sleep(std::time::Duration::from_micros(pause * 50)).await;
    }
    for _ in 0..pause {
        tokio::task::yield_now().await;
    }
}

/// A request that is slow before it looks at the session: `?5` says how slow.
struct Late;

impl FromRequestParts<()> for Late {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, (): &()) -> Result<Self, Infallible> {
        work(parts.uri.query().and_then(|pause| pause.parse().ok()).unwrap_or_default()).await;
        Ok(Self)
    }
}

/// The application, over whatever keeps its sessions.
fn app<S: Keeps>() -> Router {
    async fn note<S: Keeps>(_: Late, Path((key, pause)): Path<(String, u64)>, session: S) -> Result<(), SessionError> {
        work(pause).await;
        session.note(&key)
    }
    async fn add<S: Keeps>(_: Late, Path((item, pause)): Path<(String, u64)>, session: S) -> Result<(), SessionError> {
        session.add(item)?;
        work(pause).await;
        Ok(())
    }
    async fn rotate<S: Keeps>(_: Late, Path((_, pause)): Path<(String, u64)>, session: S) -> Result<(), SessionError> {
        work(pause).await;
        session.rotate()
    }
    async fn logout<S: Keeps>(_: Late, Path(pause): Path<u64>, session: S) {
        work(pause).await;
        session.sign_out();
    }
    async fn clear<S: Keeps>(_: Late, Path(pause): Path<u64>, session: S) {
        work(pause).await;
        session.clear();
    }
    Router::new()
        .route("/note/{key}/{pause}", post(note::<S>))
        .route("/add/{item}/{pause}", post(add::<S>))
        .route("/rotate/{any}/{pause}", post(rotate::<S>))
        .route("/logout/{pause}", post(logout::<S>))
        .route("/clear/{pause}", post(clear::<S>))
        .route("/login", post(async |session: S| session.sign_in()))
        .route("/has/{key}", get(async |Path(key): Path<String>, session: S| session.has(&key).to_string()))
        .route("/list", get(async |session: S| session.list()))
        .route("/who", get(async |session: S| session.who().unwrap_or_else(|| "nobody".to_owned())))
}

/// What came of a race.
#[derive(Default)]
struct Figures {
    /// How often what came about.
    counts: BTreeMap<String, usize>,
    /// Said to be done, and not there at the end; or ended, and there.
    faults: Vec<String>,
}

/// Runs the rounds, prints their figures, and gives the faults.
async fn race<F>(what: &str, site: Site, round: impl Fn(Browser, Dice) -> F + Copy + Send + 'static) -> usize
where
    F: Future<Output = Figures> + Send,
{
    let (dice, all, next) = (Dice::new(what), rounds(1_000), Arc::new(AtomicUsize::new(0)));
    let figures = Arc::<Mutex<Figures>>::default();
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (dice, next, figures, stranger) = (dice.clone(), Arc::clone(&next), Arc::clone(&figures), site.browser());
        lanes.spawn(async move {
            while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < all) {
                let one = round(stranger.copy(), dice.split(number)).await;
                let mut figures = figures.lock().expect("no round panicked with it");
                one.counts.into_iter().for_each(|(what, times)| *figures.counts.entry(what).or_default() += times);
                figures.faults.extend(one.faults);
            }
        });
    }
    lanes.join_all().await;
    let Figures { counts, faults } = &*figures.lock().expect("no round panicked with it");
    println!("{what}: {all} rounds, {counts:?}, {} faults: {:?}", faults.len(), &faults[..faults.len().min(3)]);
    faults.len()
}

/// How two requests were answered.
fn answered(figures: &mut Figures, pages: &[(&str, &Page)]) {
    let all: Vec<_> = pages.iter().map(|(what, page)| format!("{what} {}", page.status.as_u16())).collect();
    *figures.counts.entry(all.join(", ")).or_default() += 1;
}

/// Two requests change different keys: both are kept.
async fn different_keys(browser: Browser, mut dice: Dice) -> Figures {
    let mut figures = Figures::default();
    browser.post("/note/first/0").await.ok();
    let (one, other) = (format!("/note/one/{}", dice.below(40)), format!("/note/other/{}", dice.below(40)));
    let pages = tokio::join!(browser.post(&one), browser.post(&other));
    answered(&mut figures, &[("one", &pages.0), ("other", &pages.1)]);
    for key in ["first", "one", "other"] {
        if browser.get(&format!("/has/{key}")).await.ok() != "true" {
            figures.faults.push(format!("{key} is lost"));
        }
    }
    figures
}

/// Two requests add to one list: both are kept, once.
async fn one_list(browser: Browser, mut dice: Dice) -> Figures {
    let mut figures = Figures::default();
    browser.post("/add/first/0").await.ok();
    let (one, other) = (format!("/add/one/{}", dice.below(40)), format!("/add/other/{}", dice.below(40)));
    let pages = tokio::join!(browser.post(&one), browser.post(&other));
    answered(&mut figures, &[("one", &pages.0), ("other", &pages.1)]);
    let page = browser.get("/list").await;
    if !["first,one,other", "first,other,one"].contains(&page.ok()) {
        figures.faults.push(format!("the list is {}", page.ok()));
    }
    figures
}

/// A slow request and a logout, by `destroy()` or by `clear()`: who is signed out is signed out, whichever was first, and neither answer signs in.
async fn against_a_logout(browser: Browser, mut dice: Dice) -> Figures {
    let mut figures = Figures::default();
    browser.post("/note/first/0").await.ok();
    browser.post("/login").await.ok();
    assert_eq!(browser.get("/who").await.ok(), "ada");
    let what = ["note", "add", "rotate"][dice.below(3)];
    let slow = format!("/{what}/x/{}?{}", dice.below(40), dice.below(40));
    let how = ["logout", "clear"][dice.below(2)];
    let logout = format!("/{how}/{}?{}", dice.below(40), dice.below(40));
    let replay = browser.copy();
    let slow = async { browser.copy().post(&slow).await };
    let logout = async { browser.copy().post(&logout).await };
    // Sometimes the one is sent first, and sometimes the other.
    let (slow, logout) = if dice.once_in(2) {
        tokio::join!(slow, logout)
    } else {
        let (logout, slow) = tokio::join!(logout, slow);
        (slow, logout)
    };
    answered(&mut figures, &[(what, &slow), (how, &logout)]);
    if logout.status != StatusCode::OK {
        figures.faults.push(format!("the logout was answered {}", logout.status));
    }
    let mut after = vec![("the old cookie", replay)];
    for (what, page) in [("the slow request's answer", &slow), ("the logout's answer", &logout)] {
        let reader = browser.copy();
        reader.obey(&page.headers);
        after.push((what, reader));
    }
    for (what, reader) in after.into_iter().filter(|(_, reader)| reader.cookie(COOKIE).is_some()) {
        if reader.get("/who").await.ok() != "nobody" {
            figures.faults.push(format!("signed in by {what}, after a {how}"));
        }
    }
    figures
}

async fn site(world: &World) -> Site {
    let client = patient(&format!("http://{}", world.server.address()));
    Site::serve(app::<Session>().layer(SessionLayer::new(client))).await
}

fn store(world: &World) -> &'static str {
    if world.redis.is_some() { "redis" } else { "memory" }
}

on_both_stores!(
    two_requests_that_change_different_keys_both_count,
    two_requests_that_add_to_one_list_both_count,
    a_slow_request_against_a_logout_leaves_nobody_signed_in,
);

async fn two_requests_that_change_different_keys_both_count(world: World) {
    let what = format!("different keys, {}", store(&world));
    assert_eq!(race(&what, site(&world).await, different_keys).await, 0);
}

async fn two_requests_that_add_to_one_list_both_count(world: World) {
    let what = format!("one list, {}", store(&world));
    assert_eq!(race(&what, site(&world).await, one_list).await, 0);
}

async fn a_slow_request_against_a_logout_leaves_nobody_signed_in(world: World) {
    let what = format!("against a logout, {}", store(&world));
    assert_eq!(race(&what, site(&world).await, against_a_logout).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_writes_whole_maps_loses_and_revives() {
    let redis = TestRedis::start().await;
    let mut connection = redis.connection().await;
    // A slow machine is no fault of that layer.
    connection.set_response_timeout(PATIENCE);
    let site = async || Site::serve(naive::around(app::<naive::Naive>(), connection.clone())).await;
    for (what, faults) in [
        ("different keys, naive", race("different keys, naive", site().await, different_keys).await),
        ("one list, naive", race("one list, naive", site().await, one_list).await),
        ("against a logout, naive", race("against a logout, naive", site().await, against_a_logout).await),
    ] {
        assert!(faults > 0, "{what}: the race sees nothing");
    }
}
