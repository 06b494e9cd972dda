//! What caches are told: `Vary: Cookie` wherever somebody looked, and `no-store` wherever a cookie is set.

use axum::{
    Router,
    http::header::{ACCEPT_ENCODING, CACHE_CONTROL, VARY},
    routing::get,
};
use http_body_util::Full;
use hyper::Request;
use sessiond_client::axum::{Session, SessionLayer};
use sessiond_tests::{World, on_both_stores, web::Page};
use tower_http::compression::CompressionLayer;

use super::{Web, shop};

on_both_stores!(
    a_page_varies_by_the_cookie_if_anybody_looked,
    what_the_handler_says_of_caches_is_kept_unless_a_cookie_is_set,
    compression_and_the_layer_both_say_what_a_page_varies_by,
);

async fn a_page_varies_by_the_cookie_if_anybody_looked(world: World) {
    let app = shop()
        .route("/looks", get(async |_: Session| "looked"))
        .route("/may-look", get(async |_: Option<Session>| "looked"));
    let web = Web::with(world, app, |layer| layer).await;
    for browser in [web.browser(), web.visitor().await, web.browser().with(super::COOKIE, "malformed")] {
        for path in ["/looks", "/may-look", "/get/name", "/who"] {
            assert_eq!(browser.get(path).await.varies_by(), ["cookie"], "{path}");
        }
        let plain = browser.get("/plain").await;
        assert_eq!((plain.header("vary"), plain.header("cache-control")), (None, None), "nobody looked");
    }
    let visitor = web.visitor().await;
    for path in ["/insert/name/ada", "/login/ada", "/clear"] {
        assert_eq!(visitor.post(path).await.varies_by(), ["cookie"], "{path}");
    }
}

async fn what_the_handler_says_of_caches_is_kept_unless_a_cookie_is_set(world: World) {
    let says = || [(VARY, "Accept-Language, Origin"), (CACHE_CONTROL, "public, max-age=60")];
    let reads = async move |_: Session| (says(), "read");
    let creates = async move |session: Session| session.insert("a", 1).map(|()| (says(), "created"));
    let knows = async |_: Session| ([(VARY, "accept, COOKIE")], "knows");
    let any = async |_: Session| ([(VARY, "*")], "any");
    let app = Router::new()
        .route("/reads", get(reads))
        .route("/creates", get(creates))
        .route("/knows", get(knows))
        .route("/any", get(any));
    let web = Web::with(world, app, |layer| layer).await;
    let visitor = web.browser();
    let read = visitor.get("/reads").await;
    assert_eq!(read.varies_by(), ["accept-language", "origin", "cookie"]);
    assert_eq!(read.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(visitor.get("/knows").await.varies_by(), ["accept", "cookie"], "it is not said twice");
    assert_eq!(visitor.get("/any").await.varies_by(), ["*"]);
    let created = visitor.get("/creates").await;
    assert_eq!(created.varies_by(), ["accept-language", "origin", "cookie"]);
    let caches: Vec<_> = created.headers.get_all(CACHE_CONTROL).iter().collect();
    assert_eq!(caches, ["no-store"], "and nothing beside it");
}

async fn compression_and_the_layer_both_say_what_a_page_varies_by(world: World) {
    fn app() -> Router {
        let long =
            |session: Session| async move { session.insert("a", 1).map(|()| "long enough to compress ".repeat(50)) };
        Router::new().route("/long", get(long))
    }
    let outside = |sessions: SessionLayer| app().layer(sessions).layer(CompressionLayer::new());
    let inside = |sessions: SessionLayer| app().layer(CompressionLayer::new()).layer(sessions);
    let web = Web::layered(world, |sessions| {
        Router::new().nest("/outside", outside(sessions.clone())).nest("/inside", inside(sessions))
    })
    .await;
    for side in ["outside", "inside"] {
        let request = Request::get(format!("/{side}/long")).header(ACCEPT_ENCODING, "gzip");
        let page: Page = web.browser().send(request.body(Full::default()).unwrap()).await.page().await;
        assert_eq!(page.header("content-encoding"), Some("gzip"), "{side}");
        assert!(page.body.starts_with(&[0x1f, 0x8b]) && page.body.len() < 200, "{side}: it is compressed");
        let mut varies = page.varies_by();
        varies.sort();
        assert_eq!(varies, ["accept-encoding", "cookie"], "{side}");
        assert_eq!(page.set_cookies().len(), 1, "{side}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{side}");
    }
}
