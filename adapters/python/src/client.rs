//! The client whose calls block: no thread of its own, and the interpreter free for others while it waits.

use pyo3::{prelude::*, types::PyDict};

use crate::{
    call::Asked,
    change::{Data, Flags, Span},
    errors::raise,
    home::{self, Driver, Homes},
};

/// A client of sessiond. See `_sessiond.pyi`.
#[pyclass(frozen, subclass, module = "sessiond")]
pub(crate) struct Client {
    homes: Homes,
}

impl Client {
    fn make(&self, py: Python<'_>, asked: Asked) -> PyResult<Py<PyAny>> {
        if let Asked::Known(answer) = asked {
            return answer.into_python(py);
        }
        let home = self.homes.here(py)?;
        let answer = py.detach(|| home.wait(asked.make(home.client())));
        answer.map_err(|error| raise(py, &error))?.into_python(py)
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
        Ok(Self { homes: Homes::new(builder, Driver::Callers)? })
    }

    #[pyo3(signature = (id, *, renew=true))]
    fn open(&self, py: Python<'_>, id: &Bound<'_, PyAny>, renew: bool) -> PyResult<Py<PyAny>> {
        self.make(py, Asked::open(id, renew)?)
    }

    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    #[pyo3(signature = (session=None, data=None, *, changed_keys=None, replace=false, rotate=false, subject=None, idle_timeout=None))]
    fn save(
        &self,
        py: Python<'_>,
        session: Option<&Bound<'_, PyAny>>,
        data: Option<&Bound<'_, PyDict>>,
        changed_keys: Option<Vec<String>>,
        replace: bool,
        rotate: bool,
        subject: Option<String>,
        idle_timeout: Option<Span>,
    ) -> PyResult<Py<PyAny>> {
        let data = Data { given: data, changed_keys, replace };
        self.make(py, Asked::save(py, session, data, Flags { rotate, subject, idle_timeout })?)
    }

    #[pyo3(signature = (session, *, unchanged=false))]
    fn destroy(&self, py: Python<'_>, session: &Bound<'_, PyAny>, unchanged: bool) -> PyResult<Py<PyAny>> {
        self.make(py, Asked::destroy(session, unchanged)?)
    }

    fn was_replaced(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.make(py, Asked::was_replaced(id)?)
    }

    fn close(&self, py: Python<'_>) {
        self.homes.close(py);
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
