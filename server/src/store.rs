//! The port: what a store promises. One conformance suite (`tests/src/store_suite.rs`) proves each sentence on every store.
//!
//! The promises that hold for all of it:
//!
//! - **One clock.** The store's own clock sets and judges every deadline. A session's life ends at
//!   min(last use + idle timeout, absolute deadline), and it is gone from that moment on (P6).
//! - **One step.** Each method is atomic: it sees one state, and leaves one (P1).
//! - **Who cannot prove, changes nothing.** Everything that names a session carries a [`Claim`]; without the current
//!   secret nothing is read or written (P3), but for what is said of the previous one.
//! - **The dead stay dead.** Only [`Store::create`] makes a session, and never where one was destroyed within
//!   [`TOMBSTONE`] (P2).
//! - **Not late.** Nothing is written after the [`Attempt`]'s end, so an error means "not applied, or applied before then".
//!
//! A method that fails with [`StoreError::Unavailable`] or [`StoreError::WritesRefused`] may or may not have been applied, within
//! that bound.

pub mod memory;
pub mod redis;

use std::time::{Duration, Instant};

use crate::session::{App, Data, Etag, Handle, KeyChange, Mint, Record, Ring, SecretHash, ShortMark, Time};

/// How long after a create or a rotate its repeat is still answered with the same id, and the replaced id still destroys.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(60);

/// How long a destroyed session is remembered, so that a create that was held up does not bring it back.
pub const TOMBSTONE: Duration = Duration::from_secs(60);

/// The longest that a store may work on one attempt: how late after its caller gave up a Save can still land.
pub const MAX_BUDGET: Duration = Duration::from_secs(2);

/// A renewal is written when more than one part in this many of the session's life is used up.
pub const RENEW_PART: u32 = 10;

/// Who says they hold which session: the hash of the secret they showed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The application that the caller belongs to.
    pub app: App,
    /// The session.
    pub handle: Handle,
    /// The hash of the secret shown, for this application and handle.
    pub hash: SecretHash,
}

/// When an operation may have been tried, and until when it may be applied.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The earliest moment at which this server can have received the operation: now, or earlier for a known repeat.
    pub since: Instant,
    /// From then on nothing may be written for it, and the store gives up.
    pub until: Instant,
}

impl Attempt {
    /// An attempt of the server's own, which begins now.
    pub fn afresh() -> Self {
        let since = Instant::now();
        Self { since, until: since + MAX_BUDGET }
    }
}

/// A living session.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is stored. Its data is empty where the answer was asked for without.
    pub record: Record,
    /// When it ends if it is not used again.
    pub expire_time: Time,
    /// The store's clock at that moment (as well as the store knows it: for choosing, not for judging).
    pub now: Time,
}

/// What [`Store::create`] is to store.
#[derive(Clone, Debug)]
pub struct Create {
    /// The application.
    pub app: App,
    /// The session's name, derived from the request id.
    pub handle: Handle,
    /// The operation's mark.
    pub mark: ShortMark,
    /// The secret.
    pub mint: Mint,
    /// Who is logged in, at most [`MAX_SUBJECT_BYTES`](crate::session::MAX_SUBJECT_BYTES); empty is anonymous.
    pub subject: Box<str>,
    /// The data.
    pub data: Data,
    /// The idle timeout.
    pub idle_timeout: Duration,
    /// The absolute lifetime.
    pub lifetime: Duration,
}

impl Create {
    /// The record that it makes at this moment.
    pub fn record(self, now: Time) -> Record {
        let mut ring = Ring::default();
        ring.push(self.mark, now);
        Record {
            handle: self.handle,
            version: 1,
            deadline: now.after(self.lifetime),
            create_time: now,
            idle_timeout: self.idle_timeout,
            salt: self.mint.salt,
            current: self.mint.hash,
            previous: None,
            mint_time: now,
            ring,
            subject: self.subject,
            data: self.data,
        }
    }
}

/// What came of a [`Create`].
#[derive(Clone, Debug)]
pub enum Created {
    /// It is stored.
    Stored(Found),
    /// A session minted within [`REPEAT_WINDOW`] has this handle. Only the rules can tell whether this is its repeat.
    Exists(Found),
    /// An older session has this handle: what came of the first attempt can no longer be told.
    Unknown,
    /// A session of this handle was destroyed a short while ago.
    Gone,
}

/// Which version a Save or Destroy is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Any,
    /// This one.
    Etag(Etag),
    /// One that cannot be read: it matches none.
    Unreadable,
}

/// What becomes of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays, whatever the version.
    Keep,
    /// It is replaced, if the version is the expected one.
    Replace(Data),
    /// These keys change, whatever the version.
    Merge(Vec<KeyChange>),
}

/// What becomes of the absolute deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// A new lifetime of this length begins now; only with a rotate.
    Begin(Duration),
    /// The deadline is at most this far from now: it can come nearer, and never moves away.
    Shorten(Duration),
}

/// What [`Store::save`] is to do.
#[derive(Clone, Debug)]
pub struct Save {
    /// Which session, and the proof.
    pub claim: Claim,
    /// The operation's mark.
    pub mark: ShortMark,
    /// The version it is meant for.
    pub expected: Expected,
    /// The data.
    pub change: Change,
    /// The new secret, to rotate.
    pub rotate: Option<Mint>,
    /// The new subject. It may differ from the stored one only with `rotate`.
    pub subject: Option<Box<str>>,
    /// What becomes of the absolute deadline; `None` keeps it.
    pub lifetime: Option<Lifetime>,
    /// The new idle timeout.
    pub idle_timeout: Option<Duration>,
    /// The most bytes that the data may have afterwards.
    pub max_bytes: usize,
    /// Whether the answer's record shall hold the data.
    pub want_data: bool,
}

/// What came of a [`Save`]. The store looks in this order; the first that fits is the answer, and only `Stored` wrote.
#[derive(Clone, Debug)]
pub enum Saved {
    /// There is no such session, or the secret is wrong.
    Missing,
    /// The secret shown is the one that the last rotate replaced.
    Replaced {
        /// The session, if this Save is a rotate and the last mint lies within [`REPEAT_WINDOW`]. Only the rules can tell
        /// whether it is that rotate's repeat; to anyone else this must not be shown.
        found: Option<Box<Found>>,
        /// Whether the operation may have been applied before.
        maybe_applied: bool,
    },
    /// The operation's mark is in the ring: it was applied before. The session as it stands now, not renewed.
    Repeat(Found),
    /// The operation does not pin a version that the ring still covers, and the ring does not reach back to the
    /// attempt's `since`: it may have been applied before.
    Unknown,
    /// A different subject without a rotate.
    SubjectNeedsRotate,
    /// The data is to be replaced, and the version is not the expected one.
    Conflict,
    /// The merged data would have more than `max_bytes`.
    TooLarge,
    /// It is stored, and the session renewed.
    Stored(Found),
}

/// What came of [`Store::destroy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// The session is gone, or was not there.
    Gone,
    /// The version is another one; nothing changed.
    Conflict,
}

/// Whether a store is set up so that it can keep its promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It is; what is risky about it was said in the log.
    Fit,
    /// It is not: why, and what to do.
    Unfit(String),
}

/// Why a store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is down, failing over, silent or too late.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It can be read and takes no writes for now, or could not confirm one. A write may have been applied.
    #[error("the store takes no writes: {0}")]
    WritesRefused(String),
    /// This service lacks a right there; the text says which, and how to grant it.
    #[error("the store denies access: {0}")]
    Denied(String),
    /// It has no room.
    #[error("the store is full: {0}")]
    Full(String),
    /// It said something that nobody promised.
    #[error("the store gave an answer that nobody promised: {0}")]
    Broken(String),
}

/// Keeps sessions. See the [module](self) for what holds for all of it.
pub trait Store: Clone + Send + Sync + 'static {
    /// The session, if it lives and the claim proves it. Writes nothing (P4).
    fn open(&self, claim: &Claim, attempt: Attempt) -> impl Future<Output = Result<Option<Found>, StoreError>> + Send;

    /// Extends a living session to min(now + idle timeout, absolute deadline), by what is stored then, if that gains more
    /// than one part in [`RENEW_PART`] of it. Never shortens, never revives. A claim that proves nothing changes nothing.
    fn renew(&self, claim: &Claim, attempt: Attempt) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a new session, unless its handle is taken.
    fn create(&self, create: Create, attempt: Attempt) -> impl Future<Output = Result<Created, StoreError>> + Send;

    /// Changes a living session. Never creates one.
    fn save(&self, save: Save, attempt: Attempt) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Ends a session. The previous secret does so too within [`REPEAT_WINDOW`] of the rotate that replaced it, but for a
    /// version that was named. Who proves nothing changes nothing, and is told that it is gone. Works when the store is full.
    fn destroy(
        &self,
        claim: &Claim,
        expected: Expected,
        attempt: Attempt,
    ) -> impl Future<Output = Result<Destroyed, StoreError>> + Send;

    /// Answers if the store can be asked.
    fn ping(&self, attempt: Attempt) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Looks at how the store is set up, and logs what is risky. To be called when the store is first reached, and when it is
    /// reached again, as it may be another one then.
    fn check(&self, _attempt: Attempt) -> impl Future<Output = Result<Fitness, StoreError>> + Send {
        std::future::ready(Ok(Fitness::Fit))
    }

    /// Proves that sessions can be kept: creates, opens, saves, renews and destroys one of its own, and leaves nothing behind. That
    /// the store is full or takes no writes for now is no error. Each step has a deadline of its own, of a second.
    ///
    /// # Errors
    /// [`StoreError::Denied`] names the right that is missing; [`StoreError::Broken`] where a step had an outcome that it cannot
    /// have.
    fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::ready(Ok(()))
    }
}

impl Expected {
    /// Whether it names exactly this version.
    pub fn is(&self, etag: Etag) -> bool {
        *self == Self::Etag(etag)
    }
}
