//! The client whose calls block: no thread of its own, and the interpreter free for others while it waits.

use std::{error::Error as _, io};

use pyo3::{prelude::*, types::PyDict};
use sessiond_client::{Error, SessionClientBuilder, blocking::SessionClient};

use crate::{
    call::Asked,
    change::{Data, Flags, Span},
    errors::raise,
    home::{self, Homes},
};

/// A client of sessiond. See `_sessiond.pyi`.
#[pyclass(frozen, subclass, module = "sessiond")]
pub(crate) struct Client {
    homes: Homes<SessionClient>,
}

impl Client {
    fn make(&self, py: Python<'_>, asked: Asked) -> PyResult<Py<PyAny>> {
        if let Asked::Known(answer) = asked {
            return answer.into_python(py);
        }
        let home = self.homes.here(py)?;
        match py.detach(|| asked.make(&home)) {
            Ok(answer) => answer.into_python(py),
            Err(error) => Err(signalled(py, &error).unwrap_or_else(|| raise(py, &error))),
        }
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (address=None, *, timeout=None, token=None, allow_plaintext_token=false, certificate_authority=None))]
    fn new(
        address: Option<String>,
        timeout: Option<f64>,
        token: Option<String>,
        allow_plaintext_token: bool,
        certificate_authority: Option<Vec<u8>>,
    ) -> PyResult<Self> {
        let builder = home::builder(address, timeout, token, allow_plaintext_token, certificate_authority)?;
        let make = |builder: SessionClientBuilder| builder.build_blocking().map_err(|error| home::refused(&error));
        Ok(Self { homes: Homes::new(builder.interrupted(look_for_signals), make)? })
    }

    #[pyo3(signature = (id, *, renew=true))]
    fn open(&self, py: Python<'_>, id: &Bound<'_, PyAny>, renew: bool) -> PyResult<Py<PyAny>> {
        self.make(py, Asked::open(id, renew)?)
    }

    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    #[pyo3(signature = (
        session=None, data=None, *, changed_keys=None, removed_keys=None, replace=false, rotate=false, subject=None,
        idle_timeout=None, lifetime=None,
    ))]
    fn save(
        &self,
        py: Python<'_>,
        session: Option<&Bound<'_, PyAny>>,
        data: Option<&Bound<'_, PyDict>>,
        changed_keys: Option<Vec<String>>,
        removed_keys: Option<Vec<String>>,
        replace: bool,
        rotate: bool,
        subject: Option<String>,
        idle_timeout: Option<Span>,
        lifetime: Option<Span>,
    ) -> PyResult<Py<PyAny>> {
        let data = Data { given: data, changed_keys, removed_keys, replace };
        self.make(py, Asked::save(py, session, data, Flags { rotate, subject, idle_timeout, lifetime })?)
    }

    #[pyo3(signature = (session, *, unchanged=false))]
    fn destroy(&self, py: Python<'_>, session: &Bound<'_, PyAny>, unchanged: bool) -> PyResult<Py<PyAny>> {
        self.make(py, Asked::destroy(session, unchanged)?)
    }

    fn was_replaced(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.make(py, Asked::was_replaced(id)?)
    }

    fn close(&self, py: Python<'_>) {
        drop(self.homes.leave(py));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.close(py);
    }
}

/// What Python makes of a signal that came during a call: `KeyboardInterrupt`, mostly. Not if the interpreter ends.
fn look_for_signals() -> io::Result<()> {
    Python::try_attach(|py| py.check_signals()).unwrap_or(Ok(())).map_err(io::Error::other)
}

/// The exception with which a signal's handler ended a call.
fn signalled(py: Python<'_>, error: &Error) -> Option<PyErr> {
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    Some(cause.get_ref()?.downcast_ref::<PyErr>()?.clone_ref(py))
}
