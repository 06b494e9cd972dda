//! What a request costs: so many calls to sessiond, and no more.

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use sessiond_client::axum::Session;
use sessiond_tests::{World, on_both_stores, web::Taken};

use super::{COOKIE, Web, shop};

const NOTHING: Taken = Taken { opens: 0, saves: 0, destroys: 0 };
const ONE_OPEN: Taken = Taken { opens: 1, ..NOTHING };
const OPEN_AND_SAVE: Taken = Taken { saves: 1, ..ONE_OPEN };

on_both_stores!(
    a_page_costs_what_the_table_in_the_docs_says,
    a_change_that_changes_nothing_is_not_saved,
    two_extractors_in_one_request_open_once,
);

async fn a_page_costs_what_the_table_in_the_docs_says(world: World) {
    let web = Web::shop(world).await;
    let stranger = web.browser();
    for path in ["/plain", "/get/name", "/who"] {
        let (page, taken) = web.gate.cost_of(stranger.get(path)).await;
        page.ok();
        assert_eq!(taken, NOTHING, "a stranger reads {path}");
    }
    for malformed in ["", "x", "0123456789abcdef0123456789abcdef.short", "%00"] {
        let (page, taken) = web.gate.cost_of(stranger.with(COOKIE, malformed).get("/get/name")).await;
        assert_eq!((page.ok(), taken), ("nothing", NOTHING), "{malformed:?} is no id");
    }
    let (_, taken) = web.gate.cost_of(stranger.post("/insert/name/ada")).await;
    assert_eq!(taken, Taken { saves: 1, ..NOTHING }, "a stranger gets a session");

    let visitor = stranger;
    for (path, expected) in [("/plain", NOTHING), ("/get/name", ONE_OPEN), ("/who", ONE_OPEN)] {
        let (page, taken) = web.gate.cost_of(visitor.get(path)).await;
        page.ok();
        assert_eq!(taken, expected, "a visitor reads {path}");
    }
    for path in ["/insert/name/eve", "/add/cart/tea", "/remove/name", "/idle/60", "/rotate", "/login/ada"] {
        let (page, taken) = web.gate.cost_of(visitor.post(path)).await;
        page.ok();
        assert_eq!(taken, OPEN_AND_SAVE, "a visitor posts {path}");
    }
    let (page, taken) = web.gate.cost_of(visitor.post("/destroy")).await;
    page.ok();
    assert_eq!(taken, Taken { destroys: 1, ..ONE_OPEN });
}

async fn a_change_that_changes_nothing_is_not_saved(world: World) {
    let there_and_back = |session: Session| async move {
        session.insert("new", 1)?;
        session.remove_value("new");
        session.insert("name", "eve")?;
        session.insert("name", "ada")
    };
    let same_list = |session: Session| async move { session.update("cart", |_: &mut Vec<String>| {}).map(drop) };
    let app = shop().route("/there-and-back", get(there_and_back)).route("/same-list", get(same_list));
    let web = Web::with(world, app, |layer| layer).await;
    let visitor = web.visitor().await;
    visitor.post("/insert/name/ada").await.ok();
    visitor.post("/idle/60").await.ok();
    for path in ["/insert/name/ada", "/remove/what-is-not-there", "/idle/60"] {
        let (page, taken) = web.gate.cost_of(visitor.post(path)).await;
        page.ok();
        assert_eq!(taken, ONE_OPEN, "{path} again");
    }
    for path in ["/there-and-back", "/same-list"] {
        let (page, taken) = web.gate.cost_of(visitor.get(path)).await;
        page.ok();
        assert_eq!(taken, ONE_OPEN, "{path}");
    }
    for path in ["/remove/name", "/clear", "/destroy", "/rotate"] {
        let (page, taken) = web.gate.cost_of(web.browser().post(path)).await;
        page.ok();
        assert_eq!(taken, NOTHING, "a stranger posts {path}");
    }
}

async fn two_extractors_in_one_request_open_once(world: World) {
    async fn greet(session: Session, request: Request, next: Next) -> Response {
        let name: Option<String> = session.get("name").expect("it is text");
        let mut response = next.run(request).await;
        response.headers_mut().insert("x-name", name.unwrap_or_default().parse().expect("it is ASCII"));
        response
    }
    async fn twice(one: Session, other: Session) -> String {
        one.insert("seen", true).expect("it can be kept");
        format!("{:?}", other.get::<bool>("seen").expect("it is a bool"))
    }
    let app = Router::new().route("/twice", get(twice)).merge(shop()).layer(middleware::from_fn(greet));
    let web = Web::with(world, app, |layer| layer).await;
    let visitor = web.visitor().await;
    visitor.post("/insert/name/ada").await.ok();
    let (page, taken) = web.gate.cost_of(visitor.get("/twice")).await;
    assert_eq!((page.ok(), page.header("x-name")), ("Some(true)", Some("ada")));
    assert_eq!(taken, OPEN_AND_SAVE);
    let (_, taken) = web.gate.cost_of(visitor.get("/plain")).await;
    assert_eq!(taken, ONE_OPEN, "the middleware looked");
}
