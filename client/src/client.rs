//! The client for tokio. What its calls are is in [`calls`].

mod address;
#[cfg(feature = "blocking")]
pub mod blocking;
mod builder;
mod calls;
mod nodes;
mod retry;
mod transport;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

pub use self::builder::{ConfigError, SessionClientBuilder};
use self::{calls::Calls, transport::Channels};
use crate::{Error, Save, Session, SessionId};

/// A client of sessiond: cheap to clone, and all clones share one connection to each server.
///
/// Nothing connects until the first call, which must be made within a tokio runtime; a connection lives on the runtime of the
/// call that made it, and if that runtime has ended, the next call makes another.
///
/// Every call ends by its deadline, and is repeated within it, up to twice, when the service cannot be reached or says so
/// (UNAVAILABLE): with the same request id, so that it takes effect once, after a wait with jitter, no sooner than the service
/// asked for, and for at most a tenth of the calls.
#[derive(Clone)]
pub struct SessionClient(Arc<Calls<Channels>>);

/// The most time that each call may take, repeats included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For [`SessionClient::open`]: 300 ms, since a page waits for it.
    pub open: Duration,
    /// For [`SessionClient::save`]: 500 ms.
    pub save: Duration,
    /// For [`SessionClient::destroy`]: 1 s, since a logout should try harder.
    pub destroy: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { open: ms(300), save: ms(500), destroy: ms(1_000) }
    }
}

impl SessionClient {
    /// A client of the service at this address: `http://HOST:PORT` (or only `HOST:PORT`), or `https://HOST:PORT` with the
    /// feature `tls`; several with commas between them.
    ///
    /// Calls are spread over all addresses and over all that a name stands for (a headless Service on Kubernetes); names are
    /// looked up again every 5 s while calls come.
    ///
    /// # Errors
    /// When that is no address. Whether the service is there shows with the first call.
    pub fn new(address: &str) -> Result<Self, ConfigError> {
        Self::builder().address(address).build()
    }

    /// For all that has a default.
    pub fn builder() -> SessionClientBuilder {
        SessionClientBuilder::default()
    }

    /// Opens a session and extends its life by its idle timeout. `None` if this id opens nothing (any more).
    ///
    /// # Errors
    /// [`Error::Unavailable`] in an outage, which says nothing of the session.
    pub async fn open(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        self.0.open(id, false).await
    }

    /// Opens a session without extending its life: for pages that poll.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn peek(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        self.0.open(id, true).await
    }

    /// Creates a session or changes one, and gives it as it is stored now: with the new id after a create or a rotate.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the session is gone (it is never made anew), [`Error::Changed`] if the whole data was to be
    /// replaced and another writer was first, [`Error::TooLarge`], [`Error::StoreFull`], [`Error::Refused`], and
    /// [`Error::Unavailable`] in an outage.
    pub async fn save(&self, save: Save) -> Result<Session, Error> {
        self.0.save(save).await
    }

    /// The idle timeout that the service makes of this one, as far as it is known: so that one which was cut is not asked for
    /// again with every request.
    #[cfg(any(feature = "axum", feature = "actix-session"))]
    pub(crate) fn granted(&self, idle_timeout: Duration) -> Duration {
        idle_timeout.min(Duration::from_millis(self.0.longest_idle.load(std::sync::atomic::Ordering::Relaxed)))
    }

    /// Ends a session, whatever became of it meanwhile: a logout always wins. An id that opens nothing is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`] in an outage: the session may live on, so tell the visitor.
    pub async fn destroy(&self, id: &SessionId) -> Result<(), Error> {
        self.0.destroy(id).await
    }

    /// Ends a session, if nobody changed it since it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`] if somebody did; else as [`destroy`](Self::destroy).
    pub async fn destroy_unchanged(&self, session: &Session) -> Result<(), Error> {
        self.0.destroy_unchanged(session).await
    }

    /// Whether this id, which opens nothing, was replaced by a new one within the last minute: its visitor has just signed in
    /// in another tab, say, and holds a newer cookie than this.
    ///
    /// Asked by a Destroy that names a version which no session has: for an id that was just replaced the service answers that
    /// the session was changed, for every other one that there is nothing to do.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub async fn was_replaced(&self, id: &SessionId) -> Result<bool, Error> {
        self.0.was_replaced(id).await
    }
}

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClient").field("deadlines", &self.0.deadlines()).finish_non_exhaustive()
    }
}
