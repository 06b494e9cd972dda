//! What asyncio's client is made of: calls that run on a thread of their own, and tell when they are done.
//!
//! Futures and loops are Python's, in `sessiond/_aio.py`. Here a call begins, may be given up, and hands over what came of it.

use pyo3::{prelude::*, types::PyDict};
use sessiond_client::Error;
use tokio::task::AbortHandle;

use crate::{
    call::{Answer, Asked},
    change::{Data, Flags, Span},
    errors::raise,
    home::{self, Driver, Homes},
};

/// Begins calls. The first argument of each is who is told: `done(answer, error)`, on another thread.
#[pyclass(frozen, module = "sessiond")]
pub(crate) struct Caller {
    homes: Homes,
}

/// A call under way.
#[pyclass(frozen, module = "sessiond")]
pub(crate) struct Call(AbortHandle);

#[pymethods]
impl Call {
    /// Gives it up: nobody is told any more. What it asked for may have been done, or may still be.
    fn cancel(&self) {
        self.0.abort();
    }
}

impl Caller {
    fn begin(&self, py: Python<'_>, done: Py<PyAny>, asked: Asked) -> PyResult<Call> {
        let home = self.homes.here(py)?;
        let client = home.client();
        let call = home.runtime().spawn(async move {
            let answer = asked.make(client).await;
            // Not if the interpreter ends: then nobody is left to be told.
            Python::try_attach(|py| tell(py, done, answer));
        });
        Ok(Call(call.abort_handle()))
    }
}

fn tell(py: Python<'_>, done: Py<PyAny>, answer: Result<Answer, Error>) {
    let answer = answer.map_err(|error| raise(py, &error)).and_then(|answer| answer.into_python(py));
    let told = match answer {
        Ok(answer) => done.call1(py, (answer, py.None())),
        Err(error) => done.call1(py, (py.None(), error)),
    };
    if let Err(error) = told {
        error.write_unraisable(py, None);
    }
}

#[pymethods]
impl Caller {
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
        Ok(Self { homes: Homes::new(builder, Driver::Thread)? })
    }

    fn open(&self, py: Python<'_>, done: Py<PyAny>, id: &Bound<'_, PyAny>, renew: bool) -> PyResult<Call> {
        self.begin(py, done, Asked::open(id, renew)?)
    }

    #[expect(clippy::too_many_arguments, reason = "they are those of the other client, which are keywords")]
    fn save(
        &self,
        py: Python<'_>,
        done: Py<PyAny>,
        session: Option<&Bound<'_, PyAny>>,
        data: Option<&Bound<'_, PyDict>>,
        changed_keys: Option<Vec<String>>,
        replace: bool,
        rotate: bool,
        subject: Option<String>,
        idle_timeout: Option<Span>,
    ) -> PyResult<Call> {
        let data = Data { given: data, changed_keys, replace };
        self.begin(py, done, Asked::save(py, session, data, Flags { rotate, subject, idle_timeout })?)
    }

    fn destroy(&self, py: Python<'_>, done: Py<PyAny>, session: &Bound<'_, PyAny>, unchanged: bool) -> PyResult<Call> {
        self.begin(py, done, Asked::destroy(session, unchanged)?)
    }

    fn was_replaced(&self, py: Python<'_>, done: Py<PyAny>, id: &Bound<'_, PyAny>) -> PyResult<Call> {
        self.begin(py, done, Asked::was_replaced(id)?)
    }

    fn close(&self, py: Python<'_>) {
        self.homes.close(py);
    }
}
