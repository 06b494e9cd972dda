//! sessiond goes away in mid-traffic and comes back: nothing but 503s meanwhile, no cookie is touched, everybody is still
//! signed in afterwards, and within a second. With the client's own deadlines, as an application has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    http::{StatusCode, header::SET_COOKIE},
    routing::get,
};
use rustix::process::Signal;
use sessiond_client::{
    SessionClient,
    axum::{Session, SessionLayer},
};
use sessiond_tests::{
    TestRedis, eventually,
    web::{Browser, Page, Sessiond, Site},
};
use tokio::task::JoinSet;

use super::{COOKIE, id, sets_nothing, shop};

/// Visitors at a time.
const VISITORS: usize = 8;

/// A shop whose sessiond can go away, and its Redis, which stays.
struct Shop {
    sessiond: Sessiond,
    site: Site,
    _redis: TestRedis,
}

impl Shop {
    async fn open() -> Self {
        let redis = TestRedis::start().await;
        let sessiond = Sessiond::start(&["--store", &redis.url()]).await;
        let greet = async |session: Option<Session>| match session {
            Some(session) => session.subject().unwrap_or_else(|| "nobody".to_owned()),
            None => "no session just now".to_owned(),
        };
        let layer = SessionLayer::new(SessionClient::new(sessiond.url()).expect("an address"));
        let site = Site::serve(shop().route("/greet", get(greet)).layer(layer)).await;
        Self { sessiond, site, _redis: redis }
    }

    /// A visitor who is signed in under this name. (Asked again where the machine is slow: the deadlines are short.)
    async fn visitor(&self, name: &str) -> Browser {
        let browser = self.site.browser();
        for path in ["/insert/name/first".to_owned(), format!("/login/{name}")] {
            eventually("the shop answers", async || browser.post(&path).await.status == StatusCode::OK).await;
        }
        browser
    }
}

/// An outage, as a visitor sees it.
fn is_an_outage(page: &Page) {
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(page.text(), "sessions cannot be reached just now: try again\n");
    let seconds: u64 = page.header("retry-after").expect("it says when to come back").parse().expect("in seconds");
    assert!((1..=10).contains(&seconds), "{seconds}");
    assert_eq!(page.varies_by(), ["cookie"]);
    assert_eq!(page.header("clear-site-data"), None);
    sets_nothing(page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sessiond_every_page_that_needs_it_says_so_and_the_others_work() {
    let mut shop = Shop::open().await;
    let ada = shop.visitor("ada").await;
    let cookie = id(&ada);
    shop.sessiond.kill();
    for path in ["/who", "/get/name"] {
        is_an_outage(&ada.get(path).await);
    }
    let changes = ["/insert/name/eve", "/add/cart/tea", "/remove/name", "/clear", "/destroy", "/rotate", "/login/eve"];
    for path in changes {
        is_an_outage(&ada.post(path).await);
        assert_eq!(id(&ada), cookie, "{path}");
    }
    assert_eq!(ada.get("/plain").await.ok(), "nobody looked at the session");
    let page = ada.get("/greet").await;
    assert_eq!(page.ok(), "no session just now");
    assert_eq!(page.varies_by(), ["cookie"], "with another cookie it might have been another page");
    sets_nothing(&page);
    let stranger = shop.site.browser();
    assert_eq!(stranger.get("/who").await.ok(), "nobody", "who has no cookie needs no sessiond");
    is_an_outage(&stranger.post("/insert/name/eve").await);

    shop.sessiond.come_back().await;
    eventually("it works again", async || ada.get("/who").await.status == StatusCode::OK).await;
    assert_eq!(ada.get("/who").await.ok(), "ada", "nothing that was refused was done");
    assert_eq!(ada.get("/get/name").await.ok(), "first");
    assert_eq!(ada.get("/greet").await.ok(), "ada");
    assert_eq!(ada.cookie(COOKIE), Some(cookie));
}

/// What the visitors saw.
#[derive(Default)]
struct Seen {
    oks: usize,
    outages: usize,
    /// Who meets the outage now.
    cut_off: BTreeSet<String>,
    /// When each of those was served again.
    back: BTreeMap<String, Instant>,
}

impl Seen {
    fn note(&mut self, name: &str, page: &Page) {
        if page.status == StatusCode::OK {
            self.oks += 1;
            if self.cut_off.remove(name) {
                self.back.insert(name.to_owned(), Instant::now());
            }
        } else {
            is_an_outage(page);
            self.outages += 1;
            self.cut_off.insert(name.to_owned());
        }
    }
}

/// Goes from page to page until told to stop, and fails if anything but a page or an outage comes, or a cookie.
async fn shop_around(browser: Browser, name: String, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    let mut added = 0;
    while !stop.load(Ordering::Relaxed) {
        let who = browser.get("/who").await;
        let add = browser.post(&format!("/add/cart/{added}")).await;
        for page in [&who, &add] {
            assert!(!page.headers.contains_key(SET_COOKIE), "{page:?}");
            seen.lock().expect("no visitor panicked with it").note(&name, page);
        }
        assert!(who.status != StatusCode::OK || who.text() == name, "{name} is taken for {}", who.text());
        added += usize::from(add.status == StatusCode::OK);
        assert_eq!(browser.get("/plain").await.status, StatusCode::OK);
    }
    // P1 through HTTP: what was acknowledged is there, in order. What was refused may be there as well.
    let list = browser.get("/list/cart").await;
    let mut next = list.ok().split(',');
    for wanted in 0..added {
        assert!(next.any(|item| item == wanted.to_string()), "{name}: {wanted} is lost: {}", list.text());
    }
}

/// Visitors shop around while sessiond goes and comes back, and are all served again within a second.
async fn in_mid_traffic(what: &str, go: impl FnOnce(&mut Sessiond), come_back: impl AsyncFnOnce(&mut Sessiond)) {
    let mut shop = Shop::open().await;
    let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
    let (mut visitors, mut browsers) = (JoinSet::new(), Vec::new());
    for number in 0..VISITORS {
        let name = format!("visitor-{number}");
        let browser = shop.visitor(&name).await;
        browsers.push((name.clone(), browser.clone(), id(&browser)));
        visitors.spawn(shop_around(browser, name, Arc::clone(&seen), Arc::clone(&stop)));
    }
    let look = || seen.lock().expect("no visitor panicked with it");
    eventually("traffic", async || look().oks > 20 * VISITORS).await;
    go(&mut shop.sessiond);
    eventually("everybody meets the outage, and more than once", async || {
        assert!(visitors.try_join_next().is_none(), "a visitor left");
        let seen = look();
        seen.cut_off.len() == VISITORS && seen.outages > 4 * VISITORS
    })
    .await;
    look().back.clear();
    come_back(&mut shop.sessiond).await;
    let back = Instant::now();
    eventually("everybody is served again", async || look().back.len() == VISITORS).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(visitor) = visitors.join_next().await {
        visitor.expect("the visitor was content");
    }
    let last = look().back.values().max().expect("some were").saturating_duration_since(back);
    let Seen { oks, outages, .. } = *look();
    println!(
        "{what}: {oks} pages and {outages} outages; the last of {VISITORS} visitors was served again {last:?} after"
    );
    assert!(last < Duration::from_secs(1), "{last:?}");
    for (name, browser, cookie) in browsers {
        assert_eq!(browser.get("/who").await.ok(), name, "still signed in");
        assert_eq!(id(&browser), cookie);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_mid_traffic_it_leaves_503s_and_everybody_is_signed_in_when_it_returns() {
    in_mid_traffic("killed and started again", Sessiond::kill, async |sessiond| sessiond.come_back().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_in_mid_traffic_it_leaves_503s_and_everybody_is_signed_in_when_it_returns() {
    let thaw = async |sessiond: &mut Sessiond| sessiond.signal(Signal::CONT);
    in_mid_traffic("frozen and thawed", |sessiond| sessiond.signal(Signal::STOP), thaw).await;
}
