//! Sessions in axum: a layer, and an extractor.
//!
//! ```no_run
//! use axum::{Router, routing::post};
//! use sessiond_client::{SessionClient, axum::{Session, SessionError, SessionLayer}};
//!
//! async fn add(session: Session, item: String) -> Result<String, SessionError> {
//!     let cart = session.update("cart", move |cart: &mut Vec<String>| cart.push(item.clone()))?;
//!     Ok(format!("{} in your cart", cart.len()))
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app: Router = Router::new()
//!     .route("/cart", post(add))
//!     .layer(SessionLayer::new(SessionClient::new("http://127.0.0.1:50051")?));
//! # Ok(()) }
//! ```
//!
//! What a request costs:
//!
//! | the handler | calls to sessiond |
//! |---|---|
//! | has no [`Session`] among its arguments | 0 |
//! | reads, from a visitor without a cookie | 0 |
//! | reads | 1 |
//! | reads and changes | 2 |
//!
//! (One more where the cookie's session is gone and a new one is to be made, and where a session was emptied; an
//! [`update`](Session::update) that met another request's change opens and saves again.)
//!
//! # What is saved, and when
//!
//! The session is opened when the first [`Session`] is extracted, and saved when the handler has returned, before the
//! response leaves: the head of a streaming response too. Only the keys that the handler changed are saved, so that
//! parallel requests which change different keys all keep what they did. Of two that set the same key with
//! [`insert`](Session::insert) the later one wins; with [`update`](Session::update) both count.
//!
//! What cannot be saved becomes a response instead of the handler's ([`SessionError`] says which), since a visitor must not
//! be told that something was kept that was not. [`SessionLayer::on_error`] decides otherwise.
//!
//! In what outlives the response (a streaming body, a WebSocket) a session can still be read, changed and
//! [`save`](Session::save)d; what was changed there and not saved is saved when the last [`Session`] is dropped. Only what needs
//! a cookie comes too late then: making a session, or a new id.
//!
//! # Two tabs
//!
//! A login gives the session a new id, and the old one is dead at once. A request that was under way with the old cookie
//! neither removes nor replaces the new one: its change is refused ([`SessionError::Vanished`]), its response sets no cookie. The
//! cookie is removed by nothing but a [`destroy`](Session::destroy), or by emptying the session, in that very request.

mod changes;
mod error;
mod layer;
mod save;
mod session;
mod state;

pub use error::SessionError;
pub use layer::{SessionLayer, SessionService};
pub use session::Session;
