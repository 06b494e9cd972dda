//! The extension module of the Python package `sessiond`: the Rust client, as Python calls it.
//!
//! # Layout
//! - `client`, `aio`: the two clients. They wait in different ways for the same calls.
//! - `call`: the calls: what is asked for, and what an answer is in Python.
//! - `home`: where calls run: in this process and in no other, whoever forks.
//! - `session`: a session and its id.
//! - `change`: what a Save asks for, from the arguments of Python's `save`.
//! - `values`: Python's objects and the values that a session keeps.
//! - `cookie`: which id a request's cookies hold, and which cookies browsers will keep.
//! - `errors`: exceptions.
//!
//! What can be said in Python (Flask, asyncio's futures, the exceptions) is said there, in `python/sessiond`.

mod aio;
mod call;
mod change;
mod client;
mod cookie;
mod errors;
mod home;
mod session;
mod values;

/// The compiled half of `sessiond`.
#[pyo3::pymodule]
mod _sessiond {
    #[pymodule_export]
    use crate::{
        aio::{Call, Caller},
        client::Client,
        cookie::{CookieReader, check_cookie, csrf_check, csrf_is_secret, csrf_secret, csrf_token},
        session::{Session, SessionId},
    };

    /// Where both shops keep their CSRF secret.
    #[pymodule_export]
    const CSRF_KEY: &str = sessiond_client::csrf::KEY;
}
