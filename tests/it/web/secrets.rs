//! The id leaves the application in `Set-Cookie` and nowhere else: in no body, in no other header, in no log (OWASP ASVS
//! 14.2.1), whatever goes wrong.

use std::collections::BTreeSet;

use axum::{
    Router,
    http::{HeaderMap, header::SET_COOKIE},
    routing::{get, post},
};
use rustix::process::Signal;
use sessiond_client::axum::{Session, SessionError, SessionLayer};
use sessiond_tests::{
    Log, Server,
    web::{Browser, Page, Site},
};
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::Level;

use super::{COOKIE, id, patient, shop};

/// What every page shows, and the ids that must not be among it.
#[derive(Default)]
struct Watch {
    shown: String,
    ids: BTreeSet<String>,
}

impl Watch {
    /// Notes all of a page but its `Set-Cookie`, and the id that the browser holds now.
    fn note(&mut self, browser: &Browser, page: Page) {
        let headers: Vec<_> = page.headers.iter().filter(|(name, _)| *name != SET_COOKIE).collect();
        self.shown.push_str(&format!("{headers:?}\n{}\n", page.text()));
        self.ids.extend(browser.cookie(COOKIE).filter(|id| !id.is_empty()));
    }

    /// The ids that are in this text, or their secret halves.
    fn found_in(&self, text: &str) -> usize {
        let secrets = self.ids.iter().map(|id| id.split('.').nth(1).unwrap_or(id));
        secrets.filter(|secret| text.contains(secret)).count()
    }
}

/// Everything that can be printed of a session, and of what went wrong with it.
fn talkative() -> Router {
    async fn debug(session: Session) -> String {
        tracing::info!(?session, handle = session.handle(), "looked");
        format!("{session:?} {:?} {:?}", session.handle(), session.subject())
    }
    async fn error(session: Session) -> String {
        let error = session.get::<Vec<u8>>("name").expect_err("it is text");
        tracing::error!(?error, "as planned");
        format!("{error} {error:?}")
    }
    async fn fail(session: Session) -> Result<(), SessionError> {
        session.insert("much", "x".repeat(100_000))?;
        session.save().await.inspect_err(|error| tracing::error!(?error, "too much"))
    }
    // What any log of requests would do.
    async fn headers(headers: HeaderMap) -> String {
        tracing::info!(?headers, "came");
        format!("{headers:?}")
    }
    shop()
        .route("/headers", get(headers))
        .route("/debug", get(debug))
        .route("/error", get(error))
        .route("/fail", post(fail))
}

#[tokio::test]
async fn the_id_is_in_no_body_no_other_header_and_no_log() {
    let log = Log::start();
    let mut server = Server::start_logging(&[], "trace").await;
    server.ready().await;
    // A log of everything makes it slow.
    let client = patient(&format!("http://{}", server.address()));
    let trace = TraceLayer::new_for_http()
        .make_span_with(DefaultMakeSpan::new().level(Level::TRACE))
        .on_response(DefaultOnResponse::new().level(Level::TRACE).include_headers(true));
    let layer = SessionLayer::new(client);
    tracing::debug!(?layer);
    let site = Site::serve(talkative().layer(layer).layer(trace)).await;
    let mut watch = Watch::default();
    let browser = site.browser();
    for path in ["/insert/name/ada", "/add/cart/tea", "/login/ada", "/rotate", "/idle/60", "/fail"] {
        watch.note(&browser, browser.post(path).await);
    }
    for path in ["/headers", "/debug", "/error", "/get/name", "/list/name", "/who", "/plain"] {
        watch.note(&browser, browser.get(path).await);
    }
    // Two cookies of one name, one that is no id, and one that nobody knows.
    let unknown = "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    for cookie in [format!("{0}; {COOKIE}={0}", id(&browser)), format!("{}x", id(&browser)), unknown.to_owned()] {
        let other = browser.with(COOKIE, &cookie);
        watch.note(&browser, other.get("/debug").await);
        watch.note(&browser, other.post("/destroy").await);
    }
    // A session that vanishes, and one that is signed out.
    let copy = browser.copy();
    watch.note(&browser, browser.post("/rotate").await);
    for path in ["/insert/name/eve", "/add/cart/milk"] {
        watch.note(&browser, copy.post(path).await);
    }
    watch.note(&browser, browser.post("/login/eve").await);
    // An outage, seen by an Open, a Save and a Destroy.
    server.signal(Signal::KILL);
    server.ended().await;
    for path in ["/insert/name/ada", "/add/cart/tea", "/login/ada", "/destroy"] {
        watch.note(&browser, browser.post(path).await);
        watch.note(&browser, site.browser().post(path).await);
    }

    assert!(watch.ids.len() >= 4, "so many ids were seen: {}", watch.ids.len());
    let text = log.text();
    for word in ["TRACE", "DEBUG", "two cookies of the session's name", "were not saved", "looked", "set-cookie"] {
        assert!(text.contains(word), "the log is about this, too: {word}");
    }
    assert_eq!(watch.found_in(&text), 0, "in the log of the web application");
    assert_eq!(watch.found_in(&watch.shown), 0, "in the pages");
    assert_eq!(watch.found_in(&server.log()), 0, "in sessiond's log");
    println!(
        "{} ids, none of them in {} KiB of log and {} KiB of pages",
        watch.ids.len(),
        text.len() / 1024,
        watch.shown.len() / 1024
    );

    // The same search finds one that was planted.
    let one = watch.ids.first().expect("some").clone();
    tracing::trace!(cookie = one, "planted");
    assert_eq!(watch.found_in(&log.text()), 1);
    watch.shown.push_str(&one);
    assert_eq!(watch.found_in(&watch.shown), 1);
}
