//! The three calls: deadlines, repeats, and who is asked.

mod address;
mod builder;
mod nodes;
mod retry;
mod wire;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sessiond_proto::v1::{OpenRequest, session_service_client::SessionServiceClient};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Request, Response, Status, metadata::AsciiMetadataValue, transport::Channel};

pub use self::builder::{ConfigError, SessionClientBuilder};
use self::{
    nodes::{Node, Nodes, Verdict},
    retry::Budget,
};
use crate::{Error, Save, Session, SessionId, error::Failed};

/// How often a call is tried at most, the first time included.
const ATTEMPTS: u32 = 3;

/// Below this a repeat is not worth beginning.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(5);

/// Two timers of one deadline fire within this.
const SAME_MOMENT: Duration = Duration::from_millis(2);

/// A client of sessiond: cheap to clone, and all clones share one connection to each server.
///
/// Nothing connects until the first call, which must be made within a tokio runtime; a connection lives on the runtime of the
/// call that made it, and if that runtime has ended, the next call makes another.
///
/// Every call ends by its deadline, and is repeated within it, up to twice, when the service cannot be reached or says so
/// (UNAVAILABLE): with the same request id, so that it takes effect once, after a wait with jitter, no sooner than the service
/// asked for, and for at most a tenth of the calls.
#[derive(Clone)]
pub struct SessionClient(Arc<Shared>);

struct Shared {
    nodes: Arc<Nodes>,
    token: Option<AsciiMetadataValue>,
    deadlines: Deadlines,
    budget: Budget,
    /// The longest idle timeout that the service is known to give, in milliseconds.
    longest_idle: AtomicU64,
}

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
        self.look(id, false).await
    }

    /// Opens a session without extending its life: for pages that poll.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn peek(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        self.look(id, true).await
    }

    async fn look(&self, id: &SessionId, no_renew: bool) -> Result<Option<Session>, Error> {
        let request = OpenRequest { id: id.expose().to_owned(), no_renew };
        let answer = self
            .call(self.0.deadlines.open, 0, request, async |mut stub, request| {
                stub.open(request).await.map(Response::into_inner)
            })
            .await?;
        wire::opened(answer)
    }

    /// Creates a session or changes one, and gives it as it is stored now: with the new id after a create or a rotate.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the session is gone (it is never made anew), [`Error::Changed`] if the whole data was to be
    /// replaced and another writer was first, [`Error::TooLarge`], [`Error::StoreFull`], [`Error::Refused`], and
    /// [`Error::Unavailable`] in an outage.
    pub async fn save(&self, save: Save) -> Result<Session, Error> {
        let (request, before) = (wire::save_request(&save)?, u32::from(save.operation.sent));
        let answer = self
            .call(self.0.deadlines.save, before, request, async |mut stub, request| {
                stub.save(request).await.map(Response::into_inner)
            })
            .await?;
        let asked = save.idle_timeout;
        let session = wire::saved(answer, save)?;
        if asked.is_some_and(|asked| session.idle_timeout < asked) {
            self.0.longest_idle.store(session.idle_timeout.as_millis() as u64, Ordering::Relaxed);
        }
        Ok(session)
    }

    /// The idle timeout that the service makes of this one, as far as it is known: so that one which was cut is not asked for
    /// again with every request.
    #[cfg(any(feature = "axum", feature = "actix-session"))]
    pub(crate) fn granted(&self, idle_timeout: Duration) -> Duration {
        idle_timeout.min(Duration::from_millis(self.0.longest_idle.load(Ordering::Relaxed)))
    }

    /// Ends a session, whatever became of it meanwhile: a logout always wins. An id that opens nothing is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`] in an outage: the session may live on, so tell the visitor.
    pub async fn destroy(&self, id: &SessionId) -> Result<(), Error> {
        self.end(wire::destroy_request(id, "")).await
    }

    /// Ends a session, if nobody changed it since it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`] if somebody did; else as [`destroy`](Self::destroy).
    pub async fn destroy_unchanged(&self, session: &Session) -> Result<(), Error> {
        if session.etag.is_empty() {
            // Somebody did: the last Save was told so. (To the service no version means any.)
            return Err(Error::Changed);
        }
        self.end(wire::destroy_request(&session.id, &session.etag)).await
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
        match self.end(wire::destroy_request(id, wire::NO_VERSION)).await {
            Err(Error::Changed) => Ok(true),
            answer => answer.map(|()| false),
        }
    }

    async fn end(&self, request: sessiond_proto::v1::DestroyRequest) -> Result<(), Error> {
        self.call(self.0.deadlines.destroy, 0, request, async |mut stub, request| stub.destroy(request).await.map(drop))
            .await
    }

    /// One call with its repeats, all within one deadline. It was tried so often `before`, in calls of its own.
    async fn call<Q: Clone, A>(
        &self,
        deadline: Duration,
        before: u32,
        request: Q,
        ask: impl AsyncFn(SessionServiceClient<Channel>, Request<Q>) -> Result<A, Status>,
    ) -> Result<A, Error> {
        let shared = &*self.0;
        let until = Instant::now() + deadline.min(retry::FOR_EVER);
        shared.budget.called();
        let mut last: Option<Arc<Node>> = None;
        let mut attempt = 0;
        let mut outage = None;
        loop {
            let turn = match shared.nodes.turn(last.as_deref()) {
                Some(turn) => turn,
                None => timeout_at(until, shared.nodes.first_turn()).await.map_err(|_| Error::deadline())??,
            };
            let stub = SessionServiceClient::new(turn.0.channel.clone());
            let asked = ask(stub, shared.request(request.clone(), before + attempt, until));
            let failed: Failed = match timeout_at(until, asked).await {
                Ok(Ok(answer)) => {
                    shared.nodes.heard(&turn.0, Verdict::Answered);
                    return Ok(answer);
                }
                Ok(Err(status)) => status.into(),
                Err(_) => {
                    shared.nodes.heard(&turn.0, Verdict::Silent);
                    return Err(Error::deadline());
                }
            };
            let verdict = match failed.error.is_outage() && !failed.by_service {
                false => Verdict::Answered,
                // tonic heeds the deadline too, and may be first.
                true if Instant::now() + SAME_MOMENT > until => {
                    shared.nodes.heard(&turn.0, Verdict::Silent);
                    return Err(Error::deadline());
                }
                true => Verdict::Lost,
            };
            shared.nodes.heard(&turn.0, verdict);
            attempt += 1;
            let next = Instant::now() + retry::wait(attempt, failed.asked_to_wait);
            let in_time = next + SHORTEST_ATTEMPT < until;
            if !failed.repeatable || attempt == ATTEMPTS || !in_time || !shared.budget.allows_repeat() {
                return Err(match (failed.error, outage) {
                    // It says nothing of an earlier attempt, which may have been applied.
                    (Error::Internal(_) | Error::Forbidden(_) | Error::Refused(_), Some(outage)) => outage,
                    (error, _) => error,
                });
            }
            outage = Some(failed.error);
            last = Some(Arc::clone(&turn.0));
            drop(turn);
            sleep_until(next).await;
        }
    }
}

impl Shared {
    fn request<Q>(&self, message: Q, attempts: u32, until: Instant) -> Request<Q> {
        let mut request = Request::new(message);
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        let headers = request.metadata_mut();
        if attempts > 0 {
            // gRFC A6; the service then looks further back for the first attempt.
            headers.insert("grpc-previous-rpc-attempts", attempts.into());
        }
        if let Some(token) = &self.token {
            headers.insert("authorization", token.clone());
        }
        request
    }
}

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClient").field("deadlines", &self.0.deadlines).finish_non_exhaustive()
    }
}
