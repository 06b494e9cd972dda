//! Where a client is at home: in this process, and in no other.
//!
//! **Forks.** A child has its parent's sockets, and of the parent's threads only the one that forked; whatever the others held
//! locked stays locked for ever. So a home knows its process. In a child it is left as it is, never used and never taken
//! apart, and the child makes its own. That, and every look at which one it is, happens while the interpreter is held, and so
//! does `os.fork()`: no fork can come in the middle of it.

use std::{
    mem,
    ops::Deref,
    process,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pyo3::{exceptions::PyValueError, prelude::*};
use sessiond_client::{ConfigError, Deadlines, SessionClient, SessionClientBuilder};

/// A client and what it needs, with the process that made it.
pub(crate) struct Home<T> {
    process: u32,
    /// Always there, until it is dropped.
    inside: Option<T>,
}

impl<T> Deref for Home<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inside.as_ref().expect("only drop takes it")
    }
}

impl<T> Drop for Home<T> {
    fn drop(&mut self) {
        if self.process != process::id() {
            mem::forget(self.inside.take());
        }
    }
}

/// The home of the process that asks, which is made when it is first needed.
pub(crate) struct Homes<T> {
    builder: SessionClientBuilder,
    make: Make<T>,
    current: Mutex<Option<Arc<Home<T>>>>,
}

/// Makes what is at home.
pub(crate) type Make<T> = fn(SessionClientBuilder) -> PyResult<T>;

impl<T> Homes<T> {
    /// # Errors
    /// When there can be no such client: all that can be found out without a server.
    pub(crate) fn new(builder: SessionClientBuilder, make: Make<T>) -> PyResult<Self> {
        builder.clone().build().map_err(|error| refused(&error))?;
        Ok(Self { builder, make, current: Mutex::default() })
    }

    /// That of this process. The interpreter is held, and never given free within: see above.
    pub(crate) fn here(&self, _: Python<'_>) -> PyResult<Arc<Home<T>>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(home) if home.process == process::id() => Ok(Arc::clone(home)),
            _ => {
                let inside = Some((self.make)(self.builder.clone())?);
                let home = Arc::new(Home { process: process::id(), inside });
                *current = Some(Arc::clone(&home));
                Ok(home)
            }
        }
    }

    /// Gives the home up: a later call makes a new one. What was inside, unless it is another process's, or another thread is
    /// in the middle of a call: then that takes it down.
    pub(crate) fn leave(&self, _: Python<'_>) -> Option<T> {
        let home = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut home = home.and_then(Arc::into_inner)?;
        if home.process == process::id() { home.inside.take() } else { None }
    }
}

/// A client cannot be as it was asked for.
pub(crate) fn refused(error: &ConfigError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What both clients are made from.
pub(crate) fn builder(
    address: Option<String>,
    timeout: Option<f64>,
    token: Option<String>,
    allow_plaintext_token: bool,
    certificate_authority: Option<Vec<u8>>,
) -> PyResult<SessionClientBuilder> {
    let mut builder = SessionClient::builder();
    if let Some(address) = address {
        builder = builder.address(address);
    }
    if let Some(token) = token {
        builder = builder.token(token);
    }
    if allow_plaintext_token {
        builder = builder.allow_plaintext_token();
    }
    if let Some(pem) = certificate_authority {
        builder = builder.certificate_authority(pem);
    }
    if let Some(seconds) = timeout {
        let each = Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err(format!("a timeout cannot be {seconds}: say seconds, above 0")))?;
        builder = builder.deadlines(Deadlines { open: each, save: each, destroy: each });
    }
    Ok(builder)
}
