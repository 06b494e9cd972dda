//! A session as its application sees it, and what can be asked to become of it.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{Map, SessionId, Value, ValueError};

/// A stored session, as the service last told it.
#[derive(Clone)]
pub struct Session {
    pub(crate) id: SessionId,
    pub(crate) etag: String,
    pub(crate) data: Map,
    pub(crate) subject: String,
    pub(crate) idle_timeout: Duration,
    pub(crate) create_time: SystemTime,
    pub(crate) expire_time: SystemTime,
}

impl Session {
    /// The secret for the visitor's cookie.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The session's public name, 32 lowercase hexadecimal digits: safe to log and to show, and no capability.
    pub fn handle(&self) -> &str {
        self.id.handle()
    }

    /// Who is signed in; `None` for an anonymous visitor.
    pub fn subject(&self) -> Option<&str> {
        Some(self.subject.as_str()).filter(|subject| !subject.is_empty())
    }

    /// What the application keeps. After a Save, other writers' keys are as they were when the session was opened.
    pub fn data(&self) -> &Map {
        &self.data
    }

    /// The value under a key, `None` if there is none.
    ///
    /// # Errors
    /// When what is there is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ValueError> {
        self.data.get(key).map(Value::to).transpose().map_err(|error| error.at_key(key))
    }

    /// How long it lives without being opened or saved.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// When it was created, by the store's clock.
    pub fn create_time(&self) -> SystemTime {
        self.create_time
    }

    /// When it ends if nobody opens or saves it before, by the store's clock. (From `open`: before that Open's renewal.)
    pub fn expire_time(&self) -> SystemTime {
        self.expire_time
    }

    /// Begins a change of this session.
    pub fn change(&self) -> Save {
        self.clone().into_change()
    }

    pub(crate) fn into_change(self) -> Save {
        Save::new(Some(Target::Opened(self)))
    }
}

/// What a Save asks for: a new session ([`Save::create`]) or a change of one ([`Session::change`]).
///
/// Each is one operation, and a clone is another one. To repeat one whose answer never came
/// ([`Unavailable`](crate::Error::Unavailable)) keep what [`again`](Self::again) gives: it takes effect once all the same.
///
/// Keys that are [`set`](Self::set) or [`remove`](Self::remove)d are the whole change: every other key keeps what is
/// stored, whatever others wrote meanwhile. [`replace_data`](Self::replace_data) replaces the whole map, and then fails
/// with [`Changed`](crate::Error::Changed) if another writer was first. A change that sets nothing at all changes nothing:
/// `SessionClient::save` then returns the session as it was opened, without a call (after [`Save::of`], it opens the session).
#[must_use = "nothing is saved until `SessionClient::save` is given it"]
pub struct Save {
    pub(crate) target: Option<Target>,
    pub(crate) content: Content,
    pub(crate) rotate: bool,
    pub(crate) subject: Option<String>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) operation: Operation,
}

/// What makes an operation the same one when it is sent again.
#[derive(Clone)]
pub(crate) struct Operation {
    /// A random (v4) UUID (AIP-155), as secret as an id.
    pub(crate) request_id: Uuid,
    /// Whether it was sent before, by another call.
    pub(crate) sent: bool,
}

impl Clone for Save {
    /// The same change as an operation of its own: of two that create, each makes a session.
    fn clone(&self) -> Self {
        let Self { target, content, rotate, subject, idle_timeout, lifetime, operation: _ } = self;
        let (target, content, subject) = (target.clone(), content.clone(), subject.clone());
        let (idle_timeout, lifetime) = (*idle_timeout, *lifetime);
        Self { content, rotate: *rotate, subject, idle_timeout, lifetime, ..Self::new(target) }
    }
}

impl fmt::Debug for Session {
    /// Its public name: a subject is mostly somebody's address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("handle", &self.handle()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Save {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = self.target.as_ref().map(|target| target.id().handle());
        f.debug_struct("Save").field("handle", &handle).finish_non_exhaustive()
    }
}

/// The session that a change is for.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A session that was opened or saved before.
    Opened(Session),
    /// A session of which only the id is known.
    Named(SessionId),
}

impl Target {
    pub(crate) fn id(&self) -> &SessionId {
        match self {
            Self::Opened(session) => &session.id,
            Self::Named(id) => id,
        }
    }
}

/// What becomes of the data.
#[derive(Clone, Debug, Default)]
pub(crate) enum Content {
    /// It stays as it is, whatever the version.
    #[default]
    Keep,
    /// These keys get a value or are removed.
    Keys(BTreeMap<String, Option<Value>>),
    /// This replaces it, if the version is still the one that was opened.
    Whole(Map),
}

impl Save {
    /// Begins a new session. Its id comes back with the answer; there is no other way to get one.
    pub fn create() -> Self {
        Self::new(None)
    }

    fn new(target: Option<Target>) -> Self {
        let operation = Operation { request_id: Uuid::new_v4(), sent: false };
        let (rotate, subject, idle_timeout, lifetime) = (false, None, None, None);
        Self { target, content: Content::Keep, rotate, subject, idle_timeout, lifetime, operation }
    }

    /// Begins a change of the session with this id without having opened it. [`replace_data`](Self::replace_data) then replaces
    /// whatever is there, and the answer's data is only what was saved.
    pub fn of(id: &SessionId) -> Self {
        Self::new(Some(Target::Named(id.clone())))
    }

    /// The session, if this leaves it as it is stored: the service refuses a Save that changes nothing.
    pub(crate) fn unchanged(&self) -> Option<&Target> {
        let Self { target, content, rotate, subject, idle_timeout, lifetime, operation: _ } = self;
        let keeps_times = idle_timeout.is_none() && lifetime.is_none();
        let keeps_all = matches!(content, Content::Keep) && !rotate && subject.is_none() && keeps_times;
        target.as_ref().filter(|_| keeps_all)
    }

    /// This very operation, to be sent once more: if it was applied, it is not applied again.
    pub fn again(&self) -> Self {
        let operation = Operation { sent: true, ..self.operation.clone() };
        Self { operation, ..self.clone() }
    }

    /// Gives a key a value.
    ///
    /// # Errors
    /// When the value cannot be kept: an integer beyond 2^53, a map with keys that are no text.
    pub fn set<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Result<Self, ValueError> {
        let value = Value::of(value).map_err(|error| error.at_key(key))?;
        Ok(self.set_value(key, value))
    }

    /// Gives a key a value as it is kept.
    pub fn set_value(self, key: &str, value: Value) -> Self {
        self.with(key, Some(value))
    }

    /// Removes a key.
    pub fn remove(self, key: &str) -> Self {
        self.with(key, None)
    }

    pub(crate) fn with(mut self, key: &str, value: Option<Value>) -> Self {
        match &mut self.content {
            Content::Keys(keys) => drop(keys.insert(key.to_owned(), value)),
            Content::Whole(data) => match value {
                Some(value) => drop(data.insert(key.to_owned(), value)),
                None => drop(data.remove(key)),
            },
            Content::Keep => self.content = Content::Keys(BTreeMap::from([(key.to_owned(), value)])),
        }
        self
    }

    /// Replaces the whole data, if nobody changed the session meanwhile.
    pub fn replace_data(self, data: Map) -> Self {
        Self { content: Content::Whole(data), ..self }
    }

    /// Gives the session a new id in the same step; the old one is dead at once. Required at login and at every change of
    /// privilege (OWASP ASVS 7.2.4). Means nothing for a new session.
    pub fn rotate(self) -> Self {
        Self { rotate: true, ..self }
    }

    /// Sets who is signed in, at most 256 bytes; empty signs out. With a stored session a different one needs
    /// [`rotate`](Self::rotate).
    pub fn subject(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// Sets how long the session lives without being opened or saved: at least 1 s, cut to what the service allows.
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout: Some(idle_timeout), ..self }
    }

    /// Sets the absolute lifetime: the session ends this long after the service gets the Save, however often it is used. At
    /// least 1 s; cut to the service's maximum (`--max-lifetime`), which is also the default.
    ///
    /// It counts in full for a new session and for a sign-in ([`rotate`](Self::rotate) with a [`subject`](Self::subject)).
    /// In any other change it only brings the end of the session nearer, never further away.
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime), ..self }
    }
}
