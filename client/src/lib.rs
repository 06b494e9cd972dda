#![doc = include_str!("../README.md")]

#[cfg(feature = "actix-session")]
pub mod actix;
#[cfg(feature = "axum")]
pub mod axum;
mod client;
pub mod cookie;
pub mod csrf;
#[cfg(test)]
mod dice;
mod error;
mod id;
mod session;
pub mod value;

#[cfg(feature = "axum")]
#[doc = include_str!("../docs/from-tower-sessions.md")]
pub mod from_tower_sessions {}

#[cfg(feature = "blocking")]
pub use client::blocking;
pub use client::{ConfigError, Deadlines, SessionClient, SessionClientBuilder};
pub use cookie::CookiePolicy;
pub use error::Error;
pub use id::SessionId;
pub use session::{Save, Session};
pub use value::{Map, Value, ValueError};
