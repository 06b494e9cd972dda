//! The three calls, whoever waits for them: deadlines, repeats, and who is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sessiond_proto::v1::{DestroyRequest, OpenRequest};
use tonic::metadata::AsciiMetadataValue;

use super::{
    Deadlines,
    nodes::{Node, Nodes, Verdict},
    retry::{self, Budget},
    transport::{Head, Question, Transport, Trouble},
    wire,
};
use crate::{Error, Save, Session, SessionId, error::Failed, session::Target};

/// How often a call is tried at most, the first time included.
const ATTEMPTS: u32 = 3;

/// Below this a repeat is not worth beginning.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(5);

/// Two timers of one deadline fire within this.
const SAME_MOMENT: Duration = Duration::from_millis(2);

/// A client, but for how its calls are carried.
pub(crate) struct Calls<T: Transport> {
    pub(super) transport: T,
    pub(super) nodes: Arc<Nodes<T::Channel>>,
    pub(super) token: Option<AsciiMetadataValue>,
    pub(super) deadlines: Deadlines,
    pub(super) budget: Budget,
    /// The longest idle timeout that the service is known to give, in milliseconds.
    pub(super) longest_idle: AtomicU64,
}

impl<T: Transport> Calls<T> {
    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    pub(crate) async fn open(&self, id: &SessionId, no_renew: bool) -> Result<Option<Session>, Error> {
        let request = OpenRequest { id: id.expose().to_owned(), no_renew };
        wire::opened(self.call(self.deadlines.open, 0, request).await?)
    }

    pub(crate) async fn save(&self, save: Save) -> Result<Session, Error> {
        match save.unchanged() {
            Some(Target::Opened(session)) => return Ok(session.clone()),
            Some(Target::Named(id)) => return self.open(id, false).await?.ok_or(Error::NotFound),
            None => {}
        }
        let (request, before) = (wire::save_request(&save)?, u32::from(save.operation.sent));
        let answer = self.call(self.deadlines.save, before, request).await?;
        let asked = save.idle_timeout;
        let session = wire::saved(answer, save)?;
        if asked.is_some_and(|asked| session.idle_timeout < asked) {
            self.longest_idle.store(session.idle_timeout.as_millis() as u64, Ordering::Relaxed);
        }
        Ok(session)
    }

    pub(crate) async fn destroy(&self, id: &SessionId) -> Result<(), Error> {
        self.end(wire::destroy_request(id, "")).await
    }

    pub(crate) async fn destroy_unchanged(&self, session: &Session) -> Result<(), Error> {
        if session.etag.is_empty() {
            // Somebody did: the last Save was told so. (To the service no version means any.)
            return Err(Error::Changed);
        }
        self.end(wire::destroy_request(&session.id, &session.etag)).await
    }

    pub(crate) async fn was_replaced(&self, id: &SessionId) -> Result<bool, Error> {
        match self.end(wire::destroy_request(id, wire::NO_VERSION)).await {
            Err(Error::Changed) => Ok(true),
            answer => answer.map(|()| false),
        }
    }

    async fn end(&self, request: DestroyRequest) -> Result<(), Error> {
        self.call(self.deadlines.destroy, 0, request).await.map(drop)
    }

    /// One call with its repeats, all within one deadline. It was tried so often `before`, in calls of its own.
    async fn call<Q: Question>(&self, deadline: Duration, before: u32, request: Q) -> Result<Q::Answer, Error> {
        let until = Instant::now() + deadline.min(retry::FOR_EVER);
        self.budget.called();
        let mut last: Option<Arc<Node<T::Channel>>> = None;
        let mut attempt = 0;
        let mut outage = None;
        loop {
            let turn = match self.nodes.turn(last.as_deref()) {
                Some(turn) => turn,
                None => self.transport.within(until, self.nodes.first_turn()).await.ok_or_else(Error::deadline)??,
            };
            let head = Head { until, attempts: before + attempt, token: self.token.as_ref() };
            let failed: Failed = match self.transport.ask(&turn.0.channel, &request, head).await {
                Ok(answer) => {
                    self.nodes.heard(&turn.0, Verdict::Answered);
                    return Ok(answer);
                }
                Err(Trouble::Status(status)) => status.into(),
                Err(Trouble::Deadline) => {
                    self.nodes.heard(&turn.0, Verdict::Silent);
                    return Err(Error::deadline());
                }
                #[cfg(feature = "blocking")]
                Err(Trouble::Interrupted(cause)) => return Err(Error::unreachable(cause)),
            };
            let verdict = match failed.lost {
                false => Verdict::Answered,
                // tonic heeds the deadline too, and may be first.
                true if Instant::now() + SAME_MOMENT > until => {
                    self.nodes.heard(&turn.0, Verdict::Silent);
                    return Err(Error::deadline());
                }
                true => Verdict::Lost,
            };
            self.nodes.heard(&turn.0, verdict);
            attempt += 1;
            let next = Instant::now() + retry::wait(attempt, failed.asked_to_wait);
            let in_time = next + SHORTEST_ATTEMPT < until;
            if !failed.repeatable || attempt == ATTEMPTS || !in_time || !self.budget.allows_repeat() {
                return Err(match (failed.error, outage) {
                    // This error says nothing about an earlier attempt, which may have been applied.
                    (
                        Error::Internal(_) | Error::Unimplemented(_) | Error::Forbidden(_) | Error::Refused(_),
                        Some(outage),
                    ) => outage,
                    (error, _) => error,
                });
            }
            outage = Some(failed.error);
            last = Some(Arc::clone(&turn.0));
            drop(turn);
            self.transport.sleep_until(next).await?;
        }
    }
}
