//! A visitor signs in: who it is, what stays, what does not, and the tokens in its forms.

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use sessiond_client::axum::{Session, SessionError};
use sessiond_tests::{Calls, World, on_both_stores};

use super::{COOKIE, Web, id, shop};

on_both_stores!(
    after_a_login_the_cart_is_kept_and_the_visitor_known,
    a_login_is_known_in_the_request_that_makes_it,
    nobody_cannot_sign_in,
    a_form_needs_a_token_of_this_session,
    a_login_replaces_the_csrf_token,
    what_a_session_tells_of_itself_is_true,
);

async fn after_a_login_the_cart_is_kept_and_the_visitor_known(world: World) {
    let web = Web::shop(world).await;
    let visitor = web.visitor().await;
    assert_eq!(visitor.get("/who").await.ok(), "nobody");
    let anonymous = visitor.copy();
    visitor.post("/login/ada").await.ok();
    assert_eq!(visitor.get("/who").await.ok(), "ada");
    assert_eq!(visitor.get("/list/cart").await.ok(), "tea");
    assert_eq!(anonymous.get("/who").await.ok(), "nobody", "the id from before the login opens nothing");
    assert_eq!(anonymous.get("/list/cart").await.ok(), "");
    let stored = web.world.stub().look(&id(&visitor)).await.expect("it is stored");
    assert_eq!(stored.subject, "ada", "sessiond knows it, too");

    let before = id(&visitor);
    visitor.post("/login/eve").await.ok();
    assert_ne!(id(&visitor), before, "another login, another id");
    assert_eq!(visitor.get("/who").await.ok(), "eve");
    visitor.post("/destroy").await.ok();
    assert_eq!(visitor.get("/who").await.ok(), "nobody");
    visitor.post("/insert/name/x").await.ok();
    assert_eq!((visitor.get("/who").await.ok(), visitor.get("/list/cart").await.ok()), ("nobody", ""));
}

async fn a_login_is_known_in_the_request_that_makes_it(world: World) {
    async fn told(session: Session) -> Result<String, SessionError> {
        let before = session.subject();
        session.sign_in("ada")?;
        Ok(format!("{before:?} {:?}", session.subject()))
    }
    async fn anew(session: Session) -> Result<String, SessionError> {
        session.destroy();
        let before = session.subject();
        session.insert("name", "eve")?;
        session.sign_in("eve")?;
        Ok(format!("{before:?} {:?} {:?}", session.subject(), session.get::<Vec<String>>("cart")?))
    }
    let web = Web::with(world, shop().route("/told", post(told)).route("/anew", post(anew)), |layer| layer).await;
    let visitor = web.visitor().await;
    assert_eq!(visitor.post("/told").await.ok(), r#"None Some("ada")"#);
    let ada = visitor.copy();
    assert_eq!(visitor.post("/anew").await.ok(), r#"None Some("eve") None"#);
    assert_eq!(visitor.get("/who").await.ok(), "eve", "a new session after the old one's end, in one request");
    assert_eq!((visitor.get("/get/name").await.ok(), visitor.get("/list/cart").await.ok()), ("eve", ""));
    assert_eq!(ada.get("/who").await.ok(), "nobody");
}

async fn nobody_cannot_sign_in(world: World) {
    let nobody = post(async |session: Session| session.sign_in(""));
    let web = Web::with(world, shop().route("/login-nobody", nobody), |layer| layer).await;
    let visitor = web.visitor().await;
    let before = id(&visitor);
    let page = visitor.post("/login-nobody").await;
    assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(page.text(), "something went wrong\n", "the visitor is told no inner matters");
    assert_eq!(id(&visitor), before);
}

/// A form, and where it is sent to.
fn forms() -> Router {
    async fn form(session: Session) -> Result<String, SessionError> {
        session.csrf_token()
    }
    async fn sent(session: Session, token: String) -> Result<&'static str, SessionError> {
        session.check_csrf(&token)?;
        session.insert("sent", true)?;
        Ok("done")
    }
    shop().route("/form", get(form)).route("/sent", post(sent))
}

async fn a_form_needs_a_token_of_this_session(world: World) {
    let web = Web::with(world, forms(), |layer| layer).await;
    let [ada, eve] = [web.browser(), web.browser()];
    let token = ada.get("/form").await.ok().to_owned();
    let another = ada.get("/form").await.ok().to_owned();
    assert_ne!(token, another, "another text each time");
    for token in [&token, &another] {
        assert_eq!(ada.post_body("/sent", token).await.ok(), "done", "both are good");
    }
    let eves = eve.get("/form").await.ok().to_owned();
    for (browser, token) in [(&ada, &eves[..]), (&eve, &token), (&ada, ""), (&ada, "x"), (&web.browser(), &token)] {
        let page = browser.post_body("/sent", token).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        assert!(page.text().contains("form"), "it says what to do: {}", page.text());
        assert_eq!(page.set_cookies(), [] as [&str; 0]);
    }
    let stored = web.world.stub().look(&id(&eve)).await.expect("it is stored");
    assert!(!sessiond_tests::json(&stored.data.unwrap()).to_string().contains("sent"), "nothing was done for eve");
}

async fn a_login_replaces_the_csrf_token(world: World) {
    let web = Web::with(world, forms(), |layer| layer).await;
    let visitor = web.browser();
    let before = visitor.get("/form").await.ok().to_owned();
    visitor.post("/login/ada").await.ok();
    assert_eq!(visitor.post_body("/sent", &before).await.status, StatusCode::FORBIDDEN);
    let after = visitor.get("/form").await.ok().to_owned();
    assert_eq!(visitor.post_body("/sent", &after).await.ok(), "done");
    visitor.post("/rotate").await.ok();
    assert_eq!(visitor.post_body("/sent", &after).await.ok(), "done", "a new id alone leaves open forms good");
}

async fn what_a_session_tells_of_itself_is_true(world: World) {
    async fn told(session: Session) -> String {
        let created = session.create_time().is_some();
        let expires = session.expiry_date().is_some();
        format!("{:?} {created} {expires} {:?}", session.handle(), session.is_empty())
    }
    let web = Web::with(world, shop().route("/told", get(told)), |layer| layer).await;
    assert_eq!(web.browser().get("/told").await.ok(), "None false false true");
    let visitor = web.visitor().await;
    let handle = id(&visitor).split('.').next().expect("it begins with the handle").to_owned();
    let told = format!("{:?} true true false", Some(&handle));
    assert_eq!(visitor.get("/told").await.ok(), told);
    visitor.post("/rotate").await.ok();
    assert_eq!(visitor.get("/told").await.ok(), told, "the handle stays with the session");
    assert!(visitor.cookie(COOKIE).is_some_and(|id| id.starts_with(&handle)));
}
