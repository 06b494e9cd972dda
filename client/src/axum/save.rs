//! How what a handler did becomes what is stored: which calls are made, and what each refusal means.

use std::{mem, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    SessionError,
    changes::Changes,
    state::{Cookie, Shared, Taken},
};
use crate::{Error, Map, Save, Session as Stored};

/// How long `update` is applied again and again while others change the session.
const CONTEND_FOR: Duration = Duration::from_secs(2);

impl Shared {
    /// Saves what is not saved yet.
    pub(super) async fn save(&self) -> Result<(), SessionError> {
        let _turn = self.saving.lock().await;
        self.save_in_turn().await
    }

    /// The same, for whoever has the turn. What fails stays to be saved, and so does what is given up halfway; what is over
    /// does not.
    pub(super) async fn save_in_turn(&self) -> Result<(), SessionError> {
        let outcome = self.try_to_save().await;
        match &outcome {
            Ok(()) => self.settle(),
            Err(SessionError::Vanished) => self.state().bury(),
            // Never repeated by a library: whoever is told so looks, and decides.
            Err(SessionError::OutcomeUnknown) => {
                self.state().taken = Taken::Nothing;
                self.settle();
            }
            Err(_) => {}
        }
        outcome
    }

    async fn try_to_save(&self) -> Result<(), SessionError> {
        self.resume().await?;
        let changes = {
            let mut state = self.state();
            if !state.is_modified() {
                return Ok(());
            }
            let changes = mem::take(&mut state.changes);
            state.taken = Taken::Unsaved(changes.clone());
            changes
        };
        self.carry_out(changes).await?;
        self.state().taken = Taken::Nothing;
        Ok(())
    }

    /// Sees to what an earlier save left. What may have been applied is sent again: the same operation, so that it takes effect
    /// once. What was not is done together with what was changed since.
    async fn resume(&self) -> Result<(), SessionError> {
        let unsure = match &self.state().taken {
            Taken::Unsure { sent, .. } => Some(sent.again()),
            Taken::Nothing | Taken::Unsaved(_) => None,
        };
        if let Some(sent) = unsure {
            match self.send(sent).await {
                Ok(()) => {
                    self.state().taken = Taken::Nothing;
                    self.settle();
                }
                Err(error) if error.is_outage() || matches!(error, Error::OutcomeUnknown) => return Err(error.into()),
                // It was not applied: now that is known.
                Err(_) => {}
            }
        }
        let mut state = self.state();
        if let Taken::Unsaved(earlier) = mem::take(&mut state.taken) {
            let since = mem::take(&mut state.changes);
            state.changes = earlier.then(since);
        }
        Ok(())
    }

    /// Sends a Save. Until its answer is here, it may have been applied.
    async fn send(&self, save: Save) -> Result<(), Error> {
        let gives_id = save.target.is_none() || save.rotate;
        self.state().sending(&save);
        let answer = self.settings.client.save(save).await;
        let mut state = self.state();
        if !matches!(&answer, Err(error) if error.is_outage()) {
            state.refused();
        }
        let stored = answer?;
        if gives_id {
            state.cookie = Some(Cookie::Set(stored.id.clone()));
        }
        (state.stored, state.dead, state.ended, state.saved) = (Some(stored), None, false, true);
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
        if changes.subject.is_none() && self.may_be_replaced().await? {
            // Another tab has just signed in: a cookie from here would take its place. (A login may: it was asked for.)
            return Err(SessionError::Vanished);
        }
        let idle_timeout = changes.idle_timeout.or(self.settings.idle_timeout);
        let lifetime = changes.lifetime.or(self.settings.lifetime);
        let save = Save { idle_timeout, lifetime, subject: changes.subject.clone(), ..Save::create() };
        let save = save.replace_data(data);
        Ok(self.send(save).await?)
    }

    /// Whether the browser may hold a newer cookie than the one that this request came with.
    async fn may_be_replaced(&self) -> Result<bool, SessionError> {
        let (dead, ended) = {
            let state = self.state();
            (state.dead.clone(), state.ended)
        };
        match dead {
            Some(dead) if !ended => Ok(self.settings.client.was_replaced(&dead).await?),
            _ => Ok(ended),
        }
    }

    async fn change(&self, changes: &Changes, stored: Stored) -> Result<(), SessionError> {
        if self.state().left && changes.rotate {
            return Err(SessionError::ResponseLeft);
        }
        let changed = match changes.depends() {
            true => self.change_by_version(changes, stored).await,
            false => self.send(self.with_keys(changes, stored)?).await.map_err(SessionError::from),
        };
        match changed {
            Err(SessionError::Vanished) => self.vanished(changes).await,
            changed => changed,
        }
    }

    /// Applies the changes to the newest data until nobody else was faster.
    async fn change_by_version(&self, changes: &Changes, mut stored: Stored) -> Result<(), SessionError> {
        let until = Instant::now() + CONTEND_FOR;
        let mut longest_wait = 1;
        loop {
            let data = changes.apply(&stored.data)?;
            let id = stored.id.clone();
            match self.send(self.with_flags(changes, stored).replace_data(data)).await {
                Err(Error::Changed) if Instant::now() < until => {}
                sent => return Ok(sent?),
            }
            // Whoever meets many should not meet the same ones again.
            sleep(Duration::from_micros(fastrand::u64(..longest_wait * 1_000))).await;
            longest_wait = (longest_wait * 2).min(32);
            stored = self.settings.client.open(&id).await?.ok_or(SessionError::Vanished)?;
        }
    }

    /// The session ended under the request. Nothing brings it back; what would be lost with it is told.
    async fn vanished(&self, changes: &Changes) -> Result<(), SessionError> {
        {
            let mut state = self.state();
            (state.stored, state.ended) = (None, true);
        }
        if changes.subject.is_some() {
            // The visitor was verified in this very request: a login works, with what this request brought.
            return self.create(changes).await;
        }
        // A new id for what is no more: whoever gave it one in the meantime has told the browser.
        if changes.has_keys() { Err(SessionError::Vanished) } else { Ok(()) }
    }

    /// An emptied session is destroyed, unless another request put something into it: first the keys go, and then what is
    /// left, if that is nothing. (A Destroy alone could not tell that the session had ended before, and the browser perhaps got
    /// another one, whose cookie must stay.)
    async fn empty(&self, changes: &Changes, stored: Stored) -> Result<(), SessionError> {
        let save = self.with_keys(changes, stored)?;
        // No key is left to remove: then the save only checks that the session is still the one that was opened.
        let save = if save.unchanged().is_some() { save.replace_data(Map::new()) } else { save };
        match self.send(save).await {
            // Another request put something into it.
            Err(Error::Changed) => return Ok(()),
            // To clear a session is how applications sign out, and a logout wins over a login that gave it a new id.
            Err(Error::NotFound) if changes.cleared => return self.destroy().await,
            Err(Error::NotFound) => return self.vanished(changes).await,
            sent => sent?,
        }
        let Some(emptied) = self.state().stored.clone() else { return Ok(()) };
        match self.settings.client.destroy_unchanged(&emptied).await {
            // Something is in it.
            Err(Error::Changed) => return Ok(()),
            destroyed => destroyed?,
        }
        let mut state = self.state();
        (state.stored, state.cookie, state.signed_out) = (None, Some(Cookie::Remove), changes.cleared);
        Ok(())
    }

    /// A Save of everything but the data.
    fn with_flags(&self, changes: &Changes, stored: Stored) -> Save {
        let Changes { rotate, subject, idle_timeout, lifetime, .. } = changes.clone();
        // A login begins a new lifetime, as long as the layer says.
        let lifetime = lifetime.or_else(|| subject.as_ref().and(self.settings.lifetime));
        Save { rotate, subject, idle_timeout, lifetime, ..stored.into_change() }
    }

    fn with_keys(&self, changes: &Changes, stored: Stored) -> Result<Save, SessionError> {
        let save = self.with_flags(changes, stored);
        Ok(changes.values()?.into_iter().fold(save, |save, (key, value)| save.with(key, value)))
    }

    /// Reads the session again.
    pub(super) async fn load(&self) -> Result<(), SessionError> {
        let _turn = self.saving.lock().await;
        // An answer that never came may hold a new id.
        self.resume().await?;
        let id = {
            let mut state = self.state();
            if state.changes.destroy {
                return Ok(());
            }
            state.forget();
            state.stored.as_ref().map(|session| session.id.clone())
        };
        let Some(id) = id else { return Ok(()) };
        let opened = self.settings.client.open(&id).await?;
        let mut state = self.state();
        match opened {
            Some(opened) => state.stored = Some(opened),
            None => {
                state.bury();
                return Err(SessionError::Vanished);
            }
        }
        Ok(())
    }

    /// What was done while a save was under way stands on what is stored now.
    fn settle(&self) {
        loop {
            let (changes, stored) = {
                let mut state = self.state();
                if state.changes.is_nothing() {
                    state.view = None;
                    return;
                }
                (state.changes.clone(), state.stored_data().clone())
            };
            // Without the lock: who knows what an update calls.
            let view = changes.apply(&stored).ok();
            let mut state = self.state();
            if state.changes.is_same(&changes) {
                state.view = view;
                return;
            }
        }
    }
}

/// Whether nothing is left of what was there, nor anybody signed in.
fn empties(changes: &Changes, stored: &Stored) -> Result<bool, SessionError> {
    let someone = changes.subject.as_deref().or(stored.subject()).is_some();
    let removes = (changes.has_keys() || changes.cleared) && !changes.depends();
    Ok(removes && !someone && changes.apply(&stored.data)?.is_empty())
}
