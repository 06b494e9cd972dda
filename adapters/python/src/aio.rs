//! What asyncio's client is made of: calls that run on a thread of their own, and tell when they are done.
//!
//! Futures and loops are Python's, in `sessiond/_aio.py`. Here a call begins, may be given up, and hands over what came of it.

use std::time::Duration;

use pyo3::{prelude::*, types::PyDict};
use sessiond_client::{Error, SessionClient, SessionClientBuilder};
use tokio::{
    runtime::{Builder, Runtime},
    task::AbortHandle,
};

use crate::{
    call::{Answer, Asked},
    change::{Data, Flags, Span},
    errors::raise,
    home::{self, Homes},
};

/// How long a runtime that ends may take to stop its thread.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A client, and the thread that its calls run on.
struct Background {
    client: SessionClient,
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
}

impl Background {
    fn new(builder: SessionClientBuilder) -> PyResult<Self> {
        let client = builder.build().map_err(|error| home::refused(&error))?;
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("sessiond").enable_io().enable_time().build()?;
        Ok(Self { client, runtime: Some(runtime) })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only the end takes it")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Not to wait for a name server.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Begins calls. The first argument of each is who is told: `done(answer, error)`, on another thread.
#[pyclass(frozen, module = "sessiond")]
pub(crate) struct Caller {
    homes: Homes<Background>,
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
        let client = home.client.clone();
        let call = home.runtime().spawn(async move {
            let answer = asked.make_beside(client).await;
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
        Ok(Self { homes: Homes::new(builder, Background::new)? })
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
        removed_keys: Option<Vec<String>>,
        replace: bool,
        rotate: bool,
        subject: Option<String>,
        idle_timeout: Option<Span>,
        lifetime: Option<Span>,
    ) -> PyResult<Call> {
        let data = Data { given: data, changed_keys, removed_keys, replace };
        self.begin(py, done, Asked::save(py, session, data, Flags { rotate, subject, idle_timeout, lifetime })?)
    }

    fn destroy(&self, py: Python<'_>, done: Py<PyAny>, session: &Bound<'_, PyAny>, unchanged: bool) -> PyResult<Call> {
        self.begin(py, done, Asked::destroy(session, unchanged)?)
    }

    fn was_replaced(&self, py: Python<'_>, done: Py<PyAny>, id: &Bound<'_, PyAny>) -> PyResult<Call> {
        self.begin(py, done, Asked::was_replaced(id)?)
    }

    fn close(&self, py: Python<'_>) {
        let runtime = self.homes.leave(py).and_then(|mut background| background.runtime.take());
        if let Some(runtime) = runtime {
            // It may want the interpreter, to deliver an answer.
            py.detach(|| runtime.shutdown_timeout(LAST_WAIT));
        }
    }
}
