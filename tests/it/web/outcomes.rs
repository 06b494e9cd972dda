//! What an application is told when its changes cannot be kept, and what its visitor is told if it says nothing.

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sessiond_client::axum::{Session, SessionError};
use sessiond_tests::{
    Log, World, on_both_stores, refused,
    web::{
        Browser,
        Call::{Open, Save},
        Page,
    },
};
use tonic::{Code, Status};

use super::{COOKIE, Web, id, sets_nothing, shop};

on_both_stores!(
    a_change_of_a_session_that_vanished_is_a_409_and_sets_no_cookie,
    a_handler_that_saves_by_itself_is_told_and_decides,
    on_error_decides_about_the_handlers_response,
    the_rest_of_a_vanished_session_passes,
    a_login_on_a_vanished_session_works,
    a_value_of_another_type_is_a_500,
    a_refusal_of_the_service_is_a_500,
    an_answer_that_is_not_sessionds_is_a_503_and_leaves_the_cookie_alone,
);

/// Sends this request, and ends its session (by a logout elsewhere) before its Save.
async fn with_its_session_ended(web: &Web, browser: &Browser, path: &'static str) -> Page {
    let mut held = web.gate.hold(Save);
    let tab = browser.clone();
    let slow = tokio::spawn(async move { tab.post(path).await });
    held.arrived().await;
    browser.copy().post("/destroy").await.ok();
    held.release();
    slow.await.unwrap()
}

async fn a_change_of_a_session_that_vanished_is_a_409_and_sets_no_cookie(world: World) {
    let web = Web::shop(world).await;
    for path in ["/insert/name/eve", "/add/cart/milk"] {
        let ada = web.ada().await;
        let before = id(&ada);
        let page = with_its_session_ended(&web, &ada, path).await;
        assert_eq!(page.status, StatusCode::CONFLICT, "{path}");
        assert_eq!(page.text(), "your session ended while this request ran: nothing was changed\n");
        assert_eq!(page.varies_by(), ["cookie"]);
        sets_nothing(&page);
        assert_eq!(id(&ada), before, "the cookie is left alone");
        assert_eq!(ada.get("/who").await.ok(), "nobody", "and opens nothing");
        let page = ada.post(path).await;
        page.ok();
        assert_eq!(page.set_cookies().len(), 1, "the next request gets a new session");
    }
}

async fn a_handler_that_saves_by_itself_is_told_and_decides(world: World) {
    async fn pay(session: Session) -> Result<Response, SessionError> {
        session.insert("paid", true)?;
        Ok(match session.save().await {
            Ok(()) => "paid".into_response(),
            Err(SessionError::Vanished) => {
                assert!(session.is_empty() && session.subject().is_none(), "nothing is shown of what is gone");
                (StatusCode::GONE, "signed out meanwhile: you were not charged").into_response()
            }
            Err(other) => return Err(other),
        })
    }
    let web = Web::with(world, shop().route("/pay", post(pay)), |layer| layer).await;
    let ada = web.ada().await;
    assert_eq!(ada.post("/pay").await.ok(), "paid");
    let eve = web.ada().await;
    let page = with_its_session_ended(&web, &eve, "/pay").await;
    assert_eq!((page.status, page.text()), (StatusCode::GONE, "signed out meanwhile: you were not charged"));
    sets_nothing(&page);
}

async fn on_error_decides_about_the_handlers_response(world: World) {
    let page = async |session: Session| session.insert("seen", true).map(|()| "what the handler said");
    let app = Router::new().route("/page", post(page)).merge(shop());
    let web = Web::with(world, app, |layer| {
        layer.on_error(|error, response| match error {
            SessionError::Vanished => response,
            SessionError::Unavailable { .. } => (StatusCode::BAD_GATEWAY, "come back later").into_response(),
            error => error.into_response(),
        })
    })
    .await;
    let ada = web.ada().await;
    let page = with_its_session_ended(&web, &ada, "/page").await;
    assert_eq!(page.ok(), "what the handler said");
    assert_eq!(page.varies_by(), ["cookie"]);
    sets_nothing(&page);

    let ada = web.ada().await;
    (0..3).for_each(|_| web.gate.refuse(Save, Status::unavailable("no store")));
    let page = ada.post("/page").await;
    assert_eq!((page.status, page.text()), (StatusCode::BAD_GATEWAY, "come back later"));
    sets_nothing(&page);
}

async fn the_rest_of_a_vanished_session_passes(world: World) {
    let web = Web::shop(world).await;
    for path in ["/rotate", "/idle/60"] {
        let ada = web.ada().await;
        let page = with_its_session_ended(&web, &ada, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: nothing that was put into it is lost");
        sets_nothing(&page);
    }
}

async fn a_login_on_a_vanished_session_works(world: World) {
    let web = Web::shop(world).await;
    let visitor = web.visitor().await;
    let page = with_its_session_ended(&web, &visitor, "/login/eve").await;
    assert_eq!(page.ok(), "welcome, eve");
    assert_eq!(page.set_cookies().len(), 1);
    assert_eq!(visitor.get("/who").await.ok(), "eve");
    assert_eq!(visitor.get("/list/cart").await.ok(), "", "it holds nothing of the old session");

    let ghost = web.browser().with(COOKIE, "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef");
    ghost.post("/login/eve").await.ok();
    assert_eq!(ghost.get("/who").await.ok(), "eve");
}

async fn a_value_of_another_type_is_a_500(world: World) {
    let number = get(async |session: Session| session.get::<u32>("name").map(|number| format!("{number:?}")));
    let huge = post(async |session: Session| session.insert("id", u64::MAX));
    let web = Web::with(world, shop().route("/number", number).route("/huge", huge), |layer| layer).await;
    let visitor = web.visitor().await;
    visitor.post("/insert/name/ada").await.ok();
    for page in [visitor.get("/number").await, visitor.post("/huge").await, visitor.post("/add/name/x").await] {
        assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(page.text(), "something went wrong\n");
        sets_nothing(&page);
    }
    assert_eq!(visitor.get("/get/name").await.ok(), "ada", "nothing was changed");
}

async fn a_refusal_of_the_service_is_a_500(world: World) {
    let too_much = post(async |session: Session| session.insert("much", "x".repeat(100_000)));
    let web = Web::with(world, shop().route("/too-much", too_much), |layer| layer).await;
    for browser in [web.browser(), web.ada().await] {
        let page = browser.post("/too-much").await;
        assert_eq!((page.status, page.text()), (StatusCode::INTERNAL_SERVER_ERROR, "something went wrong\n"));
        sets_nothing(&page);
    }
    // A wrong token; a fault in the service; something else at the address. None of them says that the session is gone.
    let ada = web.ada().await;
    for status in [
        refused(Code::Unauthenticated, "CALLER_UNKNOWN"),
        refused(Code::Internal, "INTERNAL"),
        Status::unimplemented("a web server"),
    ] {
        web.gate.refuse(Open, status);
        let page = ada.get("/who").await;
        assert_eq!((page.status, page.text()), (StatusCode::INTERNAL_SERVER_ERROR, "something went wrong\n"));
        sets_nothing(&page);
    }
    assert_eq!(ada.get("/who").await.ok(), "ada");
}

async fn an_answer_that_is_not_sessionds_is_a_503_and_leaves_the_cookie_alone(world: World) {
    let web = Web::shop(world).await;
    let ada = web.ada().await;
    for code in [Code::Unauthenticated, Code::PermissionDenied, Code::NotFound, Code::ResourceExhausted] {
        for (call, page) in [(Open, "/who"), (Save, "/insert/name/eve")] {
            web.gate.refuse(call, Status::new(code, "a proxy"));
            let page = if call == Open { ada.get(page).await } else { ada.post(page).await };
            assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{code:?}");
            assert_eq!(page.header("retry-after"), Some("1"));
            sets_nothing(&page);
        }
    }
    assert_eq!((ada.get("/who").await.ok(), ada.get("/get/name").await.ok()), ("ada", "nothing"));
}

#[tokio::test]
async fn what_the_service_refused_is_in_the_log() {
    let log = Log::start();
    let too_much = post(async |session: Session| session.insert("much", "x".repeat(100_000)));
    let web = Web::with(World::memory(&[]).await, shop().route("/too-much", too_much), |layer| layer).await;
    let ada = web.ada().await;
    assert_eq!(ada.post("/too-much").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    let handle = id(&ada).split('.').next().expect("it begins with the handle").to_owned();
    let text = log.text();
    let warning = text.lines().find(|line| line.contains("the changes of a session were not saved"));
    let warning = warning.unwrap_or_else(|| panic!("nothing was logged: {text}"));
    for word in ["WARN", "larger than the service allows (65536 bytes)", &handle] {
        assert!(warning.contains(word), "{warning}");
    }
}

#[tokio::test]
async fn an_extractor_without_a_layer_says_what_is_missing() {
    let log = Log::start();
    let site = sessiond_tests::web::Site::serve(shop()).await;
    let page = site.browser().get("/who").await;
    assert_eq!((page.status, page.text()), (StatusCode::INTERNAL_SERVER_ERROR, "something went wrong\n"));
    assert!(log.text().contains(".layer(SessionLayer::new(client))"), "{}", log.text());
}
