//! A store for `actix_session::SessionMiddleware`: an actix application changes one line.
//!
//! ```no_run
//! use actix_session::SessionMiddleware;
//! use actix_web::{App, HttpServer, cookie::Key};
//! use sessiond_client::{SessionClient, actix::SessiondStore};
//!
//! # async fn run(key: Key) -> Result<(), Box<dyn std::error::Error>> {
//! let store = SessiondStore::new(SessionClient::new("http://127.0.0.1:50051")?);
//! HttpServer::new(move || App::new().wrap(SessionMiddleware::new(store.clone(), key.clone())))
//!     .bind("127.0.0.1:8080")?
//!     .run()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # What holds through this trait, and what does not
//!
//! `SessionStore` knows neither versions nor keys: it loads a whole map, and later hands a whole map back. So
//!
//! | promise | through actix-session |
//! |---|---|
//! | no update is lost silently (P1) | **not between parallel requests**: the last one to finish replaces the whole map. With the [axum layer](crate::axum) it holds, key by key. |
//! | the dead stay dead (P2) | holds: an update never makes a session. A request that was under way during a logout, and would change, renew or end the session itself, fails with 500, sets no cookie, and changes nothing. |
//! | only ids that the service minted (P3) | holds: an id that opens nothing is dropped, and a new session gets a new id. `Session::renew` destroys the old session and makes another. |
//! | looking costs nothing (P4) | holds: looking writes nothing. But the middleware opens the session for every request with a cookie that it sealed, whether or not a handler asks. |
//! | retries are safe (P5) | holds |
//! | time is kept (P6) | holds: the service's idle timeout follows actix-session's TTL (from 1 s to what the service allows), and is counted from the last change, or from the last request with `TtlExtensionPolicy::OnEveryRequest`. The absolute lifetime ends a session whatever the TTL says: the service's, or a shorter one ([`lifetime`](SessiondStore::lifetime)). |
//! | an outage is an outage (P7) | holds, but as 500: the middleware knows no other answer. The cookie stays. |
//!
//! (`Session::renew` is three calls, so that it is not atomic: if the service fails between them, the visitor starts anew. The
//! session's handle changes with it. The subject, which the service ties to a new id, cannot be set through this trait.)
//!
//! **Of two requests that end or renew one session at the same moment, one fails with 500**: two logins from one anonymous
//! session, say. actix-session deletes and then saves to renew, and a store cannot tell that from a logout; if both were let
//! through, a renewal would undo a logout, and a stale tab would replace or remove the cookie of a newer login.
//!
//! # Values
//!
//! actix-session hands values over as JSON. They are kept so that an application in another language reads them, and come
//! back the same: whole numbers beyond 2^53, which the service's doubles cannot hold, are kept as tagged text, and floats
//! that are whole are tagged (5.0 is not 5). Whole numbers beyond 64 bits are refused, since JSON's readers would round
//! them: keep them as text. What else another application tagged ([`Value`](crate::Value)), bytes, say, is seen here as its
//! tagged form, such as `{" b": "AP8="}`, and survives an update. So a map of your own that is spelt as a tag is taken for
//! one.

mod json;

use std::{collections::HashMap, time::Duration};

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use anyhow::{Error, anyhow};
use cookie::time;

use crate::{Save, Session, SessionClient, SessionId};

/// What actix-session keeps: each key with its value as JSON text.
type State = HashMap<String, String>;

/// Keeps actix-session's sessions in sessiond. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessiondStore {
    client: SessionClient,
    lifetime: Option<Duration>,
}

impl SessiondStore {
    /// A store over this client.
    pub fn new(client: SessionClient) -> Self {
        Self { client, lifetime: None }
    }

    /// The absolute lifetime of a new session, however often it is used, instead of the service's maximum
    /// (`--max-lifetime`): at least 1 s, cut to that maximum. `Session::renew` makes a new session.
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime), ..self }
    }

    /// Saves with this TTL.
    async fn save_for(&self, save: Save, ttl: &time::Duration) -> Result<Session, crate::Error> {
        self.client.save(save.idle_timeout(idle_timeout(ttl))).await
    }

    /// The idle timeout that the service gives for this TTL, as far as it is known.
    fn given(&self, ttl: &time::Duration) -> Duration {
        self.client.granted(idle_timeout(ttl))
    }
}

impl SessionStore for SessiondStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(id) = SessionId::parse(key.as_ref()) else { return Ok(None) };
        // Whether looking extends a session's life is for the `TtlExtensionPolicy` to say: see `update_ttl`.
        let session = self.client.peek(&id).await.map_err(|error| LoadError::Other(error.into()))?;
        session.map(|session| json::state(&session.data)).transpose().map_err(LoadError::Deserialization)
    }

    async fn save(&self, state: State, ttl: &time::Duration) -> Result<SessionKey, SaveError> {
        let data = json::data(state).map_err(SaveError::Serialization)?;
        let save = Save { lifetime: self.lifetime, ..Save::create() }.replace_data(data);
        let session = self.save_for(save, ttl).await.map_err(|error| SaveError::Other(error.into()))?;
        key(&session.id).map_err(SaveError::Other)
    }

    async fn update(&self, key: SessionKey, state: State, ttl: &time::Duration) -> Result<SessionKey, UpdateError> {
        let data = json::data(state).map_err(UpdateError::Serialization)?;
        let id = SessionId::parse(key.as_ref()).ok_or_else(|| UpdateError::Other(gone()))?;
        match self.save_for(Save::of(&id).replace_data(data), ttl).await {
            // Not a new session instead, as other stores do: that would undo a logout.
            Err(crate::Error::NotFound) => Err(UpdateError::Other(gone())),
            saved => saved.map(|_| key).map_err(|error| UpdateError::Other(error.into())),
        }
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &time::Duration) -> Result<(), Error> {
        // What has ended is an error: after `Ok` the middleware sets the cookie again, and a newer one would be lost.
        let id = SessionId::parse(key.as_ref()).ok_or_else(gone)?;
        // Opening renews, and mostly that is all.
        let session = self.client.open(&id).await?.ok_or_else(gone)?;
        if session.idle_timeout == self.given(ttl) {
            return Ok(());
        }
        match self.save_for(Save::of(&id), ttl).await {
            Err(crate::Error::NotFound) => Err(gone()),
            saved => Ok(saved.map(drop)?),
        }
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), Error> {
        let Some(id) = SessionId::parse(key.as_ref()) else { return Ok(()) };
        // `Session::renew` is this, and then `save` with what was loaded long ago. So the session is first taken from everyone
        // who has its id, which one request only can do, and whoever is not that one stops here.
        match self.client.save(Save::of(&id).rotate()).await {
            Ok(taken) => Ok(self.client.destroy(&taken.id).await?),
            Err(crate::Error::NotFound) => Err(gone()),
            // A full store can still end a session. A renewal then fails to save another.
            Err(crate::Error::StoreFull) => Ok(self.client.destroy(&id).await?),
            Err(error) => Err(error.into()),
        }
    }
}

/// The TTL in what the service takes: whole milliseconds, at least a second.
fn idle_timeout(ttl: &time::Duration) -> Duration {
    let ttl = Duration::try_from(*ttl).unwrap_or_default();
    Duration::from_millis(millis(ttl)).max(Duration::from_secs(1))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn gone() -> Error {
    anyhow!("the session ended while this request ran: nothing was changed")
}

fn key(id: &SessionId) -> Result<SessionKey, Error> {
    Ok(SessionKey::try_from(id.expose().to_owned())?)
}
