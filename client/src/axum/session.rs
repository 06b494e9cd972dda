//! The extractor: a session as a handler sees it. (Many short methods: that is the surface.)

use std::{
    fmt,
    sync::{Arc, MutexGuard},
    time::{Duration, SystemTime},
};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    SessionError,
    changes::Update,
    state::{Shared, State},
};
use crate::{Value, ValueError, csrf};

/// The visitor's session, as an argument of a handler.
///
/// Extracting it opens the session, once per request; a visitor without one gets an empty one, and none is stored until
/// something is put into it. Changes are saved when the handler has returned (see [`SessionLayer`](super::SessionLayer)).
/// Clones are the same session. There is no way to see its id.
///
/// As `Option<Session>` it is `None` in an outage, for handlers that can go on without a session.
#[derive(Clone)]
pub struct Session(pub(super) Arc<Shared>);

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    /// A state that may be changed: not when that would need a cookie which can no longer be set.
    fn changing(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        if state.left && state.living().is_none() { Err(SessionError::ResponseLeft) } else { Ok(state) }
    }

    /// The value under a key, `None` if there is none.
    ///
    /// # Errors
    /// [`SessionError::Value`] when what is there is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SessionError> {
        Ok(read(key, self.state().data().get(key))?)
    }

    /// The value under a key as it is kept.
    pub fn get_value(&self, key: &str) -> Option<Value> {
        self.state().data().get(key).cloned()
    }

    /// Gives a key a value. Of two requests that do so at once, the later one wins; see [`update`](Self::update).
    ///
    /// # Errors
    /// [`SessionError::Value`] when the value cannot be kept (an integer beyond 2^53, for one), and
    /// [`SessionError::ResponseLeft`].
    pub fn insert(&self, key: &str, value: impl Serialize) -> Result<(), SessionError> {
        self.insert_value(key, Value::of(&value).map_err(|error| error.at_key(key))?)
    }

    /// As [`insert`](Self::insert), with the value as it is kept.
    ///
    /// # Errors
    /// [`SessionError::ResponseLeft`].
    pub fn insert_value(&self, key: &str, value: Value) -> Result<(), SessionError> {
        let mut state = self.changing()?;
        state.data_mut().insert(key.to_owned(), value.clone());
        state.changes.set(key, Some(value));
        Ok(())
    }

    /// Removes a key, and gives what was there.
    ///
    /// # Errors
    /// [`SessionError::Value`] when what was there is not a `T`: then it stays there.
    pub fn remove<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SessionError> {
        let value = self.get(key)?;
        self.remove_value(key);
        Ok(value)
    }

    /// Removes a key, and gives what was there, as it was kept.
    pub fn remove_value(&self, key: &str) -> Option<Value> {
        let mut state = self.state();
        if !state.data().contains_key(key) && state.is_fresh() {
            return None;
        }
        let value = state.data_mut().remove(key);
        state.changes.set(key, None);
        value
    }

    /// Changes what is under a key, and gives what is there now; a key without a value begins as `T`'s default.
    ///
    /// The change is applied at once, and again to the newest value if another request changed the session before this one is
    /// saved: so two tabs that add to one list both count. It must do nothing but change its argument, as it may run
    /// several times.
    ///
    /// # Errors
    /// [`SessionError::Value`] when what is there is not a `T`, and [`SessionError::ResponseLeft`].
    pub fn update<T>(&self, key: &str, change: impl Fn(&mut T) + Send + Sync + 'static) -> Result<T, SessionError>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let name = key.to_owned();
        let update: Update = Arc::new(move |value| {
            let mut value: T = read(&name, value)?.unwrap_or_default();
            change(&mut value);
            Value::of(&value).map_err(|error| error.at_key(&name))
        });
        loop {
            let before = self.get_value(key);
            // Without the lock: who knows what it calls.
            let value = update(before.as_ref())?;
            let typed = read(key, Some(&value))?.unwrap_or_default();
            let mut state = self.changing()?;
            if state.data().get(key) == before.as_ref() {
                state.changes.update(key, update, &value);
                state.data_mut().insert(key.to_owned(), value);
                return Ok(typed);
            }
        }
    }

    /// Removes every key that this request knows of. A session that is empty when it is saved is destroyed, and its cookie
    /// removed. If somebody is signed in, this signs out, whatever is put into it afterwards: it is a
    /// [`destroy`](Self::destroy).
    pub fn clear(&self) {
        // An id that opened nothing may have been replaced a moment ago, in another tab: that one is to be signed out.
        let signs_out = self.state().dead.is_some();
        if signs_out || self.subject().is_some() {
            return self.destroy();
        }
        let mut state = self.state();
        let mut changes = std::mem::take(&mut state.changes);
        changes.clear(state.data().keys());
        state.changes = changes;
        state.data_mut().clear();
    }

    /// Ends the session when the handler has returned, and removes its cookie: a logout. It wins over whatever other requests
    /// do meanwhile. What is put into the session after this call begins a new one.
    pub fn destroy(&self) {
        let mut state = self.state();
        state.forget();
        state.changes.destroy = true;
    }

    /// Gives the session a new id when it is saved; the old one is dead from then on. For every change of privilege (OWASP
    /// ASVS 7.2.4), and for rotation by time, which is left to the application. An empty session has no id to change.
    ///
    /// # Errors
    /// [`SessionError::ResponseLeft`].
    pub fn rotate(&self) -> Result<(), SessionError> {
        let mut state = self.state();
        if state.left {
            return Err(SessionError::ResponseLeft);
        }
        state.changes.rotate = true;
        Ok(())
    }

    /// Signs a visitor in whom the application has just verified: sets who it is, at most 256 bytes, gives the session a new
    /// id, and begins a new lifetime. What the anonymous visitor had (a cart) stays; the CSRF secret is a new one.
    ///
    /// If the session ended meanwhile, or was somebody else's, a new one is made, with nothing but what this request put into
    /// it: a login works, and nobody gets another's data.
    ///
    /// # Errors
    /// [`SessionError::NoSubject`] and [`SessionError::ResponseLeft`].
    pub fn sign_in(&self, subject: impl Into<String>) -> Result<(), SessionError> {
        let subject = subject.into();
        if subject.is_empty() {
            return Err(SessionError::NoSubject);
        }
        if self.subject().is_some_and(|before| before != subject) {
            self.destroy();
        }
        self.rotate()?;
        // Here and not when a page first needs it, so that pages only read, and two tabs print tokens of one secret.
        self.insert(csrf::KEY, csrf::secret())?;
        self.state().changes.subject = Some(subject);
        Ok(())
    }

    /// A CSRF token for a form of this visitor's: another text each time, all of them good until the next login. Since
    /// [`sign_in`](Self::sign_in) puts a secret into the session, this only reads for whoever is signed in; a session without
    /// one gets it now, and so is stored. See [`csrf`].
    ///
    /// # Errors
    /// [`SessionError::ResponseLeft`].
    pub fn csrf_token(&self) -> Result<String, SessionError> {
        let secret = match self.get_value(csrf::KEY) {
            Some(Value::String(secret)) if csrf::is_secret(&secret) => secret,
            _ => {
                let secret = csrf::secret();
                self.insert(csrf::KEY, &secret)?;
                secret
            }
        };
        Ok(csrf::token(&secret))
    }

    /// Checks the token that a form sent back.
    ///
    /// # Errors
    /// [`SessionError::Forged`] if it is not one of this session's.
    pub fn check_csrf(&self, token: &str) -> Result<(), SessionError> {
        let secret = self.get_value(csrf::KEY);
        let good = matches!(&secret, Some(Value::String(secret)) if csrf::check(Some(secret), token));
        if good { Ok(()) } else { Err(SessionError::Forged) }
    }

    /// Who is signed in; `None` for an anonymous visitor.
    pub fn subject(&self) -> Option<String> {
        let state = self.state();
        let stored = || state.living().and_then(|session| session.subject().map(str::to_owned));
        state.changes.subject.clone().or_else(stored)
    }

    /// The session's public name, 32 lowercase hexadecimal digits: safe to log and to show. `None` until it is stored.
    pub fn handle(&self) -> Option<String> {
        self.state().living().map(|session| session.handle().to_owned())
    }

    /// When the session was created, by the store's clock. `None` until it is stored.
    pub fn create_time(&self) -> Option<SystemTime> {
        self.state().living().map(crate::Session::create_time)
    }

    /// When the session ends if it is not used before, by the store's clock. `None` until it is stored.
    pub fn expiry_date(&self) -> Option<SystemTime> {
        self.state().living().map(crate::Session::expire_time)
    }

    /// Sets how long the session lives without being used: at least 1 s, cut to what the service allows. Under 1 s is refused
    /// when it is saved.
    pub fn set_idle_timeout(&self, idle_timeout: Duration) {
        let granted = self.0.settings.client.granted(idle_timeout);
        let mut state = self.state();
        let same = state.living().is_some_and(|session| session.idle_timeout == granted);
        state.changes.idle_timeout = Some(idle_timeout).filter(|_| !same);
    }

    /// Sets the absolute lifetime: the session ends this long after it is saved, however often it is used. At least 1 s, cut to
    /// the service's maximum; under 1 s is refused when the session is saved. It counts in full if this request creates the
    /// session or signs in; otherwise it only brings the end nearer.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state().changes.lifetime = Some(lifetime);
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.state().data().is_empty()
    }

    /// Whether there is something to save.
    pub fn is_modified(&self) -> bool {
        self.state().is_modified()
    }

    /// Saves now what is not saved yet: for a handler that wants to know the outcome, and for what outlives the response.
    /// Afterwards the session holds what was saved.
    ///
    /// # Errors
    /// Any [`SessionError`]. The changes are still there, and are tried again by the next save and when the handler has
    /// returned; what may have been applied is then asked for as the same operation, so that it takes effect once. Except
    /// after [`Vanished`](SessionError::Vanished) and [`OutcomeUnknown`](SessionError::OutcomeUnknown): these give them up.
    pub async fn save(&self) -> Result<(), SessionError> {
        self.0.save().await
    }

    /// Reads the session again, and gives up what is not saved: for what outlives the response, a WebSocket for one. A session
    /// that is to be destroyed stays so.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`], and [`SessionError::Vanished`] if it ended meanwhile.
    pub async fn load(&self) -> Result<(), SessionError> {
        self.0.load().await
    }

    /// [`destroy`](Self::destroy), by the name that `tower_sessions::Session` has for it.
    pub fn flush(&self) {
        self.destroy();
    }

    /// [`destroy`](Self::destroy), by the name that `tower_sessions::Session` has for it.
    pub fn delete(&self) {
        self.destroy();
    }

    /// [`rotate`](Self::rotate), by the name that `tower_sessions::Session` has for it.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn cycle_id(&self) -> Result<(), SessionError> {
        self.rotate()
    }
}

fn read<T: DeserializeOwned>(key: &str, value: Option<&Value>) -> Result<Option<T>, ValueError> {
    value.map(Value::to).transpose().map_err(|error| error.at_key(key))
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        let session = parts.extensions.get::<Self>().cloned().ok_or(SessionError::NoLayer)?;
        session.0.open(&parts.headers).await?;
        Ok(session)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, SessionError> {
        match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(session) => Ok(Some(session)),
            Err(SessionError::Unavailable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
