//! A session and its id, as Python holds them.

use std::time::{Duration, SystemTime};

use pyo3::{prelude::*, sync::PyOnceLock, types::PyDict};
use sessiond_client as rust;

use crate::values;

/// The id of a session: the secret that a browser holds. It prints nothing.
#[pyclass(frozen, eq, module = "sessiond")]
#[derive(PartialEq, Eq)]
pub(crate) struct SessionId(pub(crate) rust::SessionId);

#[pymethods]
impl SessionId {
    /// Reads an id that came from outside; `None` for whatever is not spelt as one.
    #[staticmethod]
    fn parse(text: &str) -> Option<Self> {
        rust::SessionId::parse(text).map(Self)
    }

    /// The id itself, for a cookie and nothing else.
    fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The session's public name: safe to log, and no capability.
    #[getter]
    fn handle(&self) -> &str {
        self.0.handle()
    }

    fn __repr__(&self) -> &'static str {
        "SessionId(..)"
    }
}

/// A stored session, as the service last told it.
#[pyclass(frozen, weakref, module = "sessiond")]
pub(crate) struct Session {
    pub(crate) stored: rust::Session,
    data: PyOnceLock<Py<PyDict>>,
}

impl Session {
    pub(crate) fn new(stored: rust::Session) -> Self {
        Self { stored, data: PyOnceLock::new() }
    }

    /// The data that Python sees, if it has looked.
    pub(crate) fn seen<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyDict>> {
        self.data.get(py).map(|data| data.bind(py))
    }
}

#[pymethods]
impl Session {
    /// The secret for the visitor's cookie.
    #[getter]
    fn id(&self) -> SessionId {
        SessionId(self.stored.id().clone())
    }

    /// The session's public name, 32 hexadecimal digits: safe to log and to show.
    #[getter]
    fn handle(&self) -> &str {
        self.stored.handle()
    }

    /// Who is signed in; `None` for an anonymous visitor.
    #[getter]
    fn subject(&self) -> Option<&str> {
        self.stored.subject()
    }

    /// What the application keeps: a dictionary to be changed and saved.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let make = || Ok::<_, PyErr>(values::write_entries(py, self.stored.data())?.unbind());
        Ok(self.data.get_or_try_init(py, make)?.bind(py).clone())
    }

    /// Whether this is not what is stored under the key.
    fn differs(&self, py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let value = values::read(value).map_err(|refused| refused.raise(py, "the value"))?;
        Ok(self.stored.data().get(key) != Some(&value))
    }

    /// How long it lives without being opened or saved.
    #[getter]
    fn idle_timeout(&self) -> Duration {
        self.stored.idle_timeout()
    }

    /// When it was created, by the store's clock.
    #[getter]
    fn create_time(&self) -> SystemTime {
        self.stored.create_time()
    }

    /// When it ends if nobody uses it before, by the store's clock.
    #[getter]
    fn expire_time(&self) -> SystemTime {
        self.stored.expire_time()
    }

    fn __repr__(&self) -> String {
        format!("<sessiond.Session {}>", self.stored.handle())
    }
}
