//! The client's errors as the exceptions of `sessiond._errors`.

use std::error::Error as _;

use pyo3::{prelude::*, sync::PyOnceLock, types::PyModule};
use sessiond_client::Error;

static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let errors = ERRORS.get_or_try_init(py, || Ok::<_, PyErr>(py.import("sessiond._errors")?.unbind()))?;
    errors.bind(py).getattr(name)
}

/// An exception of this class, with what it tells.
fn exception(py: Python<'_>, name: &str, error: &Error) -> PyResult<PyErr> {
    let exception = class(py, name)?.call1((message(error),))?;
    exception.setattr("reason", error.reason())?;
    match error {
        Error::Unavailable { retry_after, .. } => exception.setattr("retry_after", retry_after.as_secs_f64())?,
        Error::TooLarge { limit_bytes } => exception.setattr("limit_bytes", *limit_bytes)?,
        _ => {}
    }
    Ok(PyErr::from_value(exception))
}

/// What is wrong and what to do, and what lies below it, for whoever reads the log.
fn message(error: &Error) -> String {
    let mut root = error.source();
    while let Some(below) = root.and_then(std::error::Error::source) {
        root = Some(below);
    }
    match root {
        Some(root) => format!("{error} ({root})"),
        None => error.to_string(),
    }
}

/// The exception for an error.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        Error::Unavailable { .. } => "Unavailable",
        Error::NotFound => "SessionNotFound",
        Error::Changed => "SessionChanged",
        Error::OutcomeUnknown => "OutcomeUnknown",
        Error::TooLarge { .. } => "SessionTooLarge",
        Error::StoreFull => "StoreFull",
        Error::Value(_) => "UnsupportedValue",
        Error::Refused(_) => "InvalidField",
        Error::Forbidden(_) => "CallerRefused",
        _ => "InternalError",
    };
    exception(py, name, error).unwrap_or_else(|fault| fault)
}

/// The exception for an object that a session cannot keep.
pub(crate) fn unsupported(py: Python<'_>, message: &str) -> PyErr {
    let made = class(py, "UnsupportedValue").and_then(|class| class.call1((message,)));
    made.map_or_else(|fault| fault, PyErr::from_value)
}
