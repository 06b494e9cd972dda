//! Where calls run: a tokio runtime and the client that lives on it, for this process and no other.
//!
//! **Forks.** A child has its parent's sockets, and of the parent's threads only the one that forked; whatever the others held
//! locked stays locked for ever. So a home knows its process. In a child it is left as it is, never used and never taken
//! apart, and the child makes its own. That, and every look at which one it is, happens while the interpreter is held, and so
//! does `os.fork()`: no fork can come in the middle of it.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyValueError, prelude::*};
use sessiond_client::{Deadlines, SessionClient, SessionClientBuilder};
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};

/// Without a call for so long, what the network said meanwhile is heard first.
const IDLE: Duration = Duration::from_millis(500);

/// How long a runtime that ends may take to stop its thread.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Who drives the calls.
#[derive(Clone, Copy)]
pub(crate) enum Driver {
    /// The threads that wait for them: no thread of ours.
    Callers,
    /// A thread of its own.
    Thread,
}

/// A runtime and its client.
pub(crate) struct Home {
    process: u32,
    /// Always there, until it is dropped.
    inside: Option<Inside>,
    made: Instant,
    /// When the last call ended, in milliseconds after that.
    last: AtomicU64,
}

struct Inside {
    client: SessionClient,
    runtime: Runtime,
}

impl Home {
    fn new(builder: &SessionClientBuilder, driver: Driver) -> PyResult<Self> {
        let mut runtime = match driver {
            Driver::Callers => Builder::new_current_thread(),
            Driver::Thread => Builder::new_multi_thread(),
        };
        if let Driver::Thread = driver {
            runtime.worker_threads(1).thread_name("sessiond");
        }
        let inside = Inside { client: build(builder)?, runtime: runtime.enable_io().enable_time().build()? };
        Ok(Self { process: std::process::id(), inside: Some(inside), made: Instant::now(), last: AtomicU64::new(0) })
    }

    fn inside(&self) -> &Inside {
        self.inside.as_ref().expect("only drop takes it")
    }

    pub(crate) fn client(&self) -> SessionClient {
        self.inside().client.clone()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.inside().runtime
    }

    /// Waits for a call, and drives it meanwhile, with all that other threads wait for. Give the interpreter free before.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        let now = || self.made.elapsed().as_millis() as u64;
        let idle = now().saturating_sub(self.last.load(Ordering::Relaxed)) > IDLE.as_millis() as u64;
        let answer = self.runtime().block_on(async {
            if idle {
                hear().await;
            }
            call.await
        });
        self.last.store(now(), Ordering::Relaxed);
        answer
    }
}

/// Lets the connections hear what came while nobody drove them: that a server has gone, for one, so that the call is not
/// sent into a connection that is no more. The first turn asks the sockets, the second lets the connections read them, and the
/// third whoever waits for those.
async fn hear() {
    for _ in 0..3 {
        yield_now().await;
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let Some(inside) = self.inside.take() else { return };
        if self.process != std::process::id() {
            return mem::forget(inside);
        }
        let Inside { client, runtime } = inside;
        drop(client);
        // Not to wait for a name server.
        runtime.shutdown_background();
    }
}

/// The home of the process that asks, which is made when it is first needed.
pub(crate) struct Homes {
    builder: SessionClientBuilder,
    driver: Driver,
    current: Mutex<Option<Arc<Home>>>,
}

impl Homes {
    /// # Errors
    /// When there can be no such client: all that can be found out without a server.
    pub(crate) fn new(builder: SessionClientBuilder, driver: Driver) -> PyResult<Self> {
        build(&builder)?;
        Ok(Self { builder, driver, current: Mutex::default() })
    }

    /// That of this process. The interpreter is held, and never given free within: see above.
    pub(crate) fn here(&self, _: Python<'_>) -> PyResult<Arc<Home>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(home) if home.process == std::process::id() => Ok(Arc::clone(home)),
            _ => {
                let home = Arc::new(Home::new(&self.builder, self.driver)?);
                *current = Some(Arc::clone(&home));
                Ok(home)
            }
        }
    }

    /// Ends the connections. A later call makes new ones.
    pub(crate) fn close(&self, py: Python<'_>) {
        let home = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Another thread may be in the middle of a call: then that takes it down.
        let Some(mut home) = home.and_then(Arc::into_inner) else { return };
        if let (Driver::Thread, true) = (self.driver, home.process == std::process::id())
            && let Some(Inside { client, runtime }) = home.inside.take()
        {
            drop(client);
            // It may want the interpreter, to deliver an answer.
            py.detach(|| runtime.shutdown_timeout(LAST_WAIT));
        }
    }
}

fn build(builder: &SessionClientBuilder) -> PyResult<SessionClient> {
    builder.clone().build().map_err(|error| PyValueError::new_err(error.to_string()))
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
