//! How what a handler did becomes what is stored: which calls are made, and what each refusal means.

use std::{mem, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    SessionError,
    changes::Changes,
    session::{Cookie, Shared, State},
};
use crate::{Error, Map, Save, Session as Stored};

/// How long `update` is applied again and again while others change the session.
const CONTEND_FOR: Duration = Duration::from_secs(2);

impl Shared {
    /// Saves what is not saved yet. What fails stays to be saved.
    pub(super) async fn save(&self) -> Result<(), SessionError> {
        let _turn = self.saving.lock().await;
        let changes = {
            let mut state = self.state();
            state.prune();
            mem::take(&mut state.changes)
        };
        if changes.is_nothing() {
            return Ok(());
        }
        let outcome = self.carry_out(changes.clone()).await;
        let mut state = self.state();
        match outcome {
            Ok(()) => state.settle(),
            Err(error) => {
                // It is over, and so is what was meant for it: there is nothing to try again.
                if !matches!(error, SessionError::Vanished) {
                    state.changes.put_back(changes);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn carry_out(&self, mut changes: Changes) -> Result<(), SessionError> {
        if mem::take(&mut changes.destroy) {
            self.destroy().await?;
            // What follows is about a session of its own.
        }
        let stored = self.state().stored.clone();
        match stored {
            None => self.create(&changes).await,
            Some(stored) if empties(&changes, &stored)? => self.empty(&changes, stored).await,
            Some(stored) => self.change(&changes, stored).await,
        }
    }

    /// A logout: it names no version, and so always wins.
    async fn destroy(&self) -> Result<(), SessionError> {
        let (living, dead) = {
            let state = self.state();
            (state.stored.as_ref().map(|session| session.id.clone()), state.dead.clone())
        };
        // An id that opened nothing may have been replaced a moment ago, by a login in another tab.
        let Some(id) = living.as_ref().or(dead.as_ref()) else { return Ok(()) };
        self.settings.client.destroy(id).await?;
        let mut state = self.state();
        (state.stored, state.dead, state.signed_out) = (None, None, true);
        // Only if it was alive in this request, and never because an id opened nothing.
        if living.is_some() {
            state.cookie = Some(Cookie::Remove);
        }
        Ok(())
    }

    async fn create(&self, changes: &Changes) -> Result<(), SessionError> {
        let data = changes.apply(&Map::new())?;
        if data.is_empty() && changes.subject.is_none() {
            return Ok(());
        }
        if self.state().left {
            return Err(SessionError::ResponseLeft);
        }
        let dead = self.state().dead.clone();
        if let Some(dead) = dead
            && changes.subject.is_none()
            && self.settings.client.was_replaced(&dead).await?
        {
            // Another tab has just signed in: a cookie from here would take its place.
            return Err(SessionError::Vanished);
        }
        let idle_timeout = changes.idle_timeout.or(self.settings.idle_timeout);
        let save = Save { idle_timeout, subject: changes.subject.clone(), ..Save::create() }.replace_data(data);
        let stored = self.settings.client.save(save).await?;
        let mut state = self.state();
        state.cookie = Some(Cookie::Set(stored.id.clone()));
        (state.stored, state.dead) = (Some(stored), None);
        Ok(())
    }

    async fn change(&self, changes: &Changes, stored: Stored) -> Result<(), SessionError> {
        if self.state().left && changes.rotate {
            return Err(SessionError::ResponseLeft);
        }
        let saved = if changes.depends() {
            self.change_by_version(changes, stored).await
        } else {
            self.settings.client.save(with_keys(changes, stored)).await.map_err(SessionError::from)
        };
        let saved = match saved {
            Err(SessionError::Vanished) => return self.vanished(changes).await,
            saved => saved?,
        };
        let mut state = self.state();
        if changes.rotate {
            state.cookie = Some(Cookie::Set(saved.id.clone()));
        }
        state.stored = Some(saved);
        Ok(())
    }

    /// Applies the changes to the newest data until nobody else was faster.
    async fn change_by_version(&self, changes: &Changes, mut stored: Stored) -> Result<Stored, SessionError> {
        let until = Instant::now() + CONTEND_FOR;
        let client = &self.settings.client;
        let mut longest_wait = 1;
        loop {
            let data = changes.apply(&stored.data)?;
            let id = stored.id.clone();
            match client.save(with_flags(changes, stored).replace_data(data)).await {
                Err(Error::Changed) if Instant::now() < until => {}
                answer => return Ok(answer?),
            }
            // Whoever meets many should not meet the same ones again.
            sleep(Duration::from_micros(fastrand::u64(..longest_wait * 1_000))).await;
            longest_wait = (longest_wait * 2).min(32);
            stored = client.open(&id).await?.ok_or(SessionError::Vanished)?;
        }
    }

    /// The session ended under the request. Nothing brings it back; what would be lost with it is told.
    async fn vanished(&self, changes: &Changes) -> Result<(), SessionError> {
        self.state().stored = None;
        if changes.subject.as_ref().is_some_and(|subject| !subject.is_empty()) {
            // The visitor was verified in this very request: a login works, with what this request brought.
            return self.create(changes).await;
        }
        // A new id for what is no more: whoever gave it one in the meantime has told the browser.
        if changes.has_keys() { Err(SessionError::Vanished) } else { Ok(()) }
    }

    /// An emptied session is destroyed, unless another request put something into it meanwhile.
    async fn empty(&self, changes: &Changes, stored: Stored) -> Result<(), SessionError> {
        let client = &self.settings.client;
        match client.destroy_unchanged(&stored).await {
            Err(Error::Changed) => {}
            answer => {
                answer?;
                let mut state = self.state();
                (state.stored, state.cookie, state.signed_out) = (None, Some(Cookie::Remove), changes.cleared);
                return Ok(());
            }
        }
        match client.save(with_keys(changes, stored)).await {
            Err(Error::NotFound) if changes.cleared => {
                // To clear a session is how applications sign out, and a logout wins over a login that gave it a new id.
                self.destroy().await
            }
            Err(Error::NotFound) => self.vanished(changes).await,
            answer => {
                self.state().stored = Some(answer?);
                Ok(())
            }
        }
    }

    /// Whether something was changed after the response had left, and not saved.
    fn is_forgotten(&self) -> bool {
        let mut state = self.state();
        state.prune();
        state.left && !state.rescued && !state.changes.is_nothing()
    }
}

/// Whether nothing is left of what was there, nor anybody signed in (unless the application cleared it all).
fn empties(changes: &Changes, stored: &Stored) -> Result<bool, SessionError> {
    let keeps_someone = changes.subject.is_some() || (stored.subject().is_some() && !changes.cleared);
    let removes = (changes.has_keys() || changes.cleared) && !changes.depends();
    Ok(removes && !keeps_someone && changes.apply(&stored.data)?.is_empty())
}

fn with_flags(changes: &Changes, stored: Stored) -> Save {
    let Changes { rotate, subject, idle_timeout, .. } = changes.clone();
    Save { rotate, subject, idle_timeout, ..stored.into_change() }
}

fn with_keys(changes: &Changes, stored: Stored) -> Save {
    changes.keys().fold(with_flags(changes, stored), |save, (key, value)| save.with(key, value.clone()))
}

impl State {
    /// What was done while the save was under way stands on what is stored now.
    fn settle(&mut self) {
        let stored = self.stored.as_ref().map(|session| session.data.clone()).unwrap_or_default();
        self.view = if self.changes.is_nothing() { None } else { self.changes.apply(&stored).ok() };
    }
}

impl Drop for Shared {
    /// What was changed after the response had left, in a streaming body or a WebSocket, is not lost.
    fn drop(&mut self) {
        if !self.is_forgotten() {
            return;
        }
        let state = State { rescued: true, ..mem::take(&mut *self.state()) };
        let handle = state.stored.as_ref().map(|session| session.handle().to_owned());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            warn!(?handle, "changes of a session are lost: they were not saved before its runtime ended");
            return;
        };
        let rescue = Self::with_state(Arc::clone(&self.settings), state);
        runtime.spawn(async move {
            if let Err(error) = rescue.save().await {
                warn!(
                    ?handle,
                    error = &error as &dyn std::error::Error,
                    "changes of a session are lost: they were made after its response had left"
                );
            }
        });
    }
}
