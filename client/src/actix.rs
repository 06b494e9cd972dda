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
//! | the dead stay dead (P2) | holds: an update never makes a session. A request that was under way during a logout fails with 500, sets no cookie, and changes nothing. |
//! | only ids that the service minted (P3) | holds: an id that opens nothing is dropped, and a new session gets a new id. `Session::renew` destroys the old session and makes another. |
//! | looking costs nothing (P4) | holds |
//! | retries are safe (P5) | holds |
//! | time is kept (P6) | holds: the service's idle timeout follows actix-session's TTL, its absolute lifetime ends a session whatever the TTL says. |
//! | an outage is an outage (P7) | holds, but as 500: the middleware knows no other answer. The cookie stays. |
//!
//! (`Session::renew` is two calls, so that it is not atomic, and the session's handle changes with it. The subject, which the
//! service ties to a new id, cannot be set through this trait.)
//!
//! actix-session hands values over as JSON. They are kept as such, so that an application in another language reads them;
//! whole numbers beyond 2^53, which the service's doubles cannot hold, are kept as tagged text and come back the same. What
//! another application tagged ([`Value`](crate::Value)) is seen here as its tagged form, and survives an update.

mod json;

use std::{collections::HashMap, time::Duration};

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use anyhow::{Error, anyhow};
use cookie::time;

use crate::{Save, SessionClient, SessionId};

/// What actix-session keeps: each key with its value as JSON text.
type State = HashMap<String, String>;

/// Keeps actix-session's sessions in sessiond. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessiondStore(SessionClient);

impl SessiondStore {
    /// A store over this client.
    pub fn new(client: SessionClient) -> Self {
        Self(client)
    }
}

impl SessionStore for SessiondStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(id) = SessionId::parse(key.as_ref()) else { return Ok(None) };
        let session = self.0.open(&id).await.map_err(|error| LoadError::Other(error.into()))?;
        session.map(|session| json::state(&session.data)).transpose().map_err(LoadError::Deserialization)
    }

    async fn save(&self, state: State, ttl: &time::Duration) -> Result<SessionKey, SaveError> {
        let data = json::data(state).map_err(SaveError::Serialization)?;
        let save = Save::create().replace_data(data).idle_timeout(idle_timeout(ttl));
        let session = self.0.save(save).await.map_err(|error| SaveError::Other(error.into()))?;
        key(&session.id).map_err(SaveError::Other)
    }

    async fn update(&self, key: SessionKey, state: State, ttl: &time::Duration) -> Result<SessionKey, UpdateError> {
        let data = json::data(state).map_err(UpdateError::Serialization)?;
        let gone = || UpdateError::Other(anyhow!("the session ended while this request ran: nothing was changed"));
        let id = SessionId::parse(key.as_ref()).ok_or_else(gone)?;
        let save = Save::of(&id).replace_data(data).idle_timeout(idle_timeout(ttl));
        match self.0.save(save).await {
            // Not a new session instead, as other stores do: that would undo a logout.
            Err(crate::Error::NotFound) => Err(gone()),
            saved => saved.map(|_| key).map_err(|error| UpdateError::Other(error.into())),
        }
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &time::Duration) -> Result<(), Error> {
        let Some(id) = SessionId::parse(key.as_ref()) else { return Ok(()) };
        // Opening renews, and mostly that is all.
        let Some(session) = self.0.open(&id).await? else { return Ok(()) };
        if session.idle_timeout == idle_timeout(ttl) {
            return Ok(());
        }
        match self.0.save(Save::of(&id).idle_timeout(idle_timeout(ttl))).await {
            Ok(_) | Err(crate::Error::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), Error> {
        let Some(id) = SessionId::parse(key.as_ref()) else { return Ok(()) };
        Ok(self.0.destroy(&id).await?)
    }
}

/// The TTL in what the service takes: at least a second.
fn idle_timeout(ttl: &time::Duration) -> Duration {
    Duration::try_from(*ttl).unwrap_or_default().max(Duration::from_secs(1))
}

fn key(id: &SessionId) -> Result<SessionKey, Error> {
    Ok(SessionKey::try_from(id.expose().to_owned())?)
}
