//! A tea shop of two pages: sign in, fill the cart from two tabs at once, sign out.
//!
//! ```sh
//! cargo run -p sessiond-client --example axum
//! ```
//!
//! It serves on 127.0.0.1:3000, or where `LISTEN` says. Sessions are kept by the sessiond at `SESSIOND_ADDRESS`; without that,
//! by one of its own in this process, which forgets them when it ends. (Without https browsers take a `Secure` cookie from the
//! own machine only, and Safari not even from there.)
//!
//! What happens is in this file, what may come in is in `form.rs`, what it looks like in `pages.rs`.

mod embedded;
mod form;
mod pages;

use std::{collections::BTreeMap, env, error::Error, time::Duration};

use axum::{
    Router,
    body::to_bytes,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Redirect, Response, Result},
    routing::{get, post},
};
use maud::Markup;
use serde::Deserialize;
use sessiond_client::{
    Deadlines, SessionClient,
    axum::{Session, SessionError, SessionLayer},
};
use tokio::net::TcpListener;

use self::{
    form::OurForm,
    pages::{TEAS, Visitor},
};

/// What is in a cart: how many of each tea.
type Cart = BTreeMap<String, u32>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A blank variable is the same as no variable.
    let variable = |name| env::var(name).ok().filter(|text| !text.trim().is_empty());
    tracing_subscriber::fmt().with_env_filter(variable("RUST_LOG").unwrap_or_else(|| "warn".to_owned())).init();
    let sessiond = match variable("SESSIOND_ADDRESS") {
        Some(address) => address,
        None => embedded::start_sessiond()?.to_string(),
    };
    let listen = variable("LISTEN").unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&listen).await.map_err(|error| format!("LISTEN={listen}: {error}"))?;
    // More patience than usual: this may be a debug build on a machine that compiles something else.
    let patience = Duration::from_secs(5);
    let deadlines = Deadlines { open: patience, save: patience, destroy: patience };
    let sessions = SessionClient::builder().address(&sessiond).deadlines(deadlines).build()?;
    println!("The shop is open: http://{}  (sessions: sessiond at {sessiond})", listener.local_addr()?);
    axum::serve(listener, shop(sessions)).await?;
    Ok(())
}

fn shop(sessions: SessionClient) -> Router {
    Router::new()
        .route("/", get(show_shop))
        .route("/cart", get(show_cart).post(add))
        .route("/cart/remove", post(remove))
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .layer(SessionLayer::new(sessions))
        .route("/shop.css", get(|| file("text/css", include_str!("shop.css"))))
        .route("/shop.js", get(|| file("text/javascript", include_str!("shop.js"))))
        .route("/leaf.svg", get(|| file("image/svg+xml", include_str!("leaf.svg"))))
        // Around everything, so that what the layer itself answers becomes a page as well.
        .layer(map_response(finish))
}

async fn show_shop(session: Session) -> Result<Markup, SessionError> {
    Ok(pages::shop(&Visitor::of(&session)?))
}

async fn show_cart(session: Session) -> Result<Markup, SessionError> {
    Ok(pages::cart(&Visitor::of(&session)?))
}

#[derive(Deserialize)]
struct Choice {
    tea: String,
}

async fn add(session: Session, OurForm(Choice { tea }): OurForm<Choice>) -> Result<Redirect> {
    if !TEAS.iter().any(|known| known.id == tea) {
        return Err((StatusCode::NOT_FOUND, "We have no such tea.").into());
    }
    let back = Redirect::to(&format!("/#{tea}"));
    // `insert` would do for one tab. `update` is done again if the other one was faster, so that both count.
    session.update("cart", move |cart: &mut Cart| *cart.entry(tea.clone()).or_default() += 1)?;
    Ok(back)
}

async fn remove(session: Session, OurForm(Choice { tea }): OurForm<Choice>) -> Result<Redirect> {
    session.update("cart", move |cart: &mut Cart| cart.retain(|id, _| *id != tea))?;
    Ok(Redirect::to("/cart"))
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
}

async fn sign_in(session: Session, OurForm(credentials): OurForm<Credentials>) -> Result<Redirect> {
    // A demonstration: a shop of yours asks for a passkey here, and believes nobody before.
    let name: String = credentials.name.trim().chars().take(40).collect();
    if name.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "Please tell us a name.").into());
    }
    // The cart stays; the id in the cookie becomes another one.
    session.sign_in(name)?;
    Ok(Redirect::to("/"))
}

async fn sign_out(session: Session, OurForm(()): OurForm<()>) -> Redirect {
    session.destroy();
    Redirect::to("/")
}

async fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], text)
}

/// What every response gets on its way out.
async fn finish(mut response: Response) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        // A sentence for people, from a handler, an extractor or the session layer. Its headers stay: Retry-After is one.
        let (mut parts, body) = response.into_parts();
        let text = to_bytes(body, 4096).await.unwrap_or_default();
        let page = pages::refusal(status, &String::from_utf8_lossy(&text)).into_response();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.extend(page.headers().clone());
        response = Response::from_parts(parts, page.into_body());
    }
    for (name, value) in [
        // Nothing from elsewhere, nothing inline, in nobody's frame.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        // Pages show what is in a session: after signing out, the back button must find none of them.
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
