//! One request's session, shared by all who hold it: what is stored, what the handler made of it, and how far that got.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::sync::OnceCell;
use tracing::warn;

use super::{SessionError, changes::Changes, layer::Settings};
use crate::{Map, Save, Session as Stored, SessionId, cookie::CookieRead};

/// What all clones of a [`Session`](super::Session) share.
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    opened: OnceCell<()>,
    /// Whether the response depends on the cookie: looking at it is enough, found or not.
    accessed: AtomicBool,
    state: Mutex<State>,
    /// One save at a time, and none while the response leaves.
    pub(super) saving: tokio::sync::Mutex<()>,
}

/// Everything that changes in the course of a request.
#[derive(Default)]
pub(super) struct State {
    /// What the service holds, as far as it is known here.
    pub(super) stored: Option<Stored>,
    /// The id that the cookie carried, if it opened nothing.
    pub(super) dead: Option<SessionId>,
    /// Whether the session ended under this request.
    pub(super) ended: bool,
    /// The data as the handler sees it, once that differs from what is stored.
    pub(super) view: Option<Map>,
    /// What was changed and no save has taken yet.
    pub(super) changes: Changes,
    /// What became of what a save took.
    pub(super) taken: Taken,
    /// Whether something was saved: then others' changes may lie between what was opened and what is stored.
    pub(super) saved: bool,
    /// What the response is to do with the cookie.
    pub(super) cookie: Option<Cookie>,
    /// Whether this request signed the visitor out: then the browser is told to forget more than the cookie.
    pub(super) signed_out: bool,
    /// When to try again, if the session could not be opened: one outage is enough for a request.
    pub(super) outage: Option<Duration>,
    /// Whether the response has left.
    pub(super) left: bool,
    /// Whether this is what was saved when everybody had dropped it: that is tried once.
    pub(super) rescued: bool,
}

/// How far a save got with the changes that it took.
#[derive(Default)]
pub(super) enum Taken {
    /// There are none: what was taken is stored, or over.
    #[default]
    Nothing,
    /// They are not stored. The next save does them, together with what was changed since.
    Unsaved(Changes),
    /// They may be stored: this was sent, and its answer never came. The next save sends the very same again.
    Unsure { sent: Box<Save>, changes: Changes },
}

/// What the response is to do with the cookie.
pub(super) enum Cookie {
    Set(SessionId),
    Remove,
}

impl State {
    /// The data as the handler sees it.
    pub(super) fn data(&self) -> &Map {
        self.view.as_ref().unwrap_or_else(|| self.stored_data())
    }

    /// The data that the handler's changes stand on.
    pub(super) fn stored_data(&self) -> &Map {
        static EMPTY: Map = Map::new();
        self.living().map_or(&EMPTY, |session| &session.data)
    }

    /// The data, to be changed: a copy of what is stored from now on.
    pub(super) fn data_mut(&mut self) -> &mut Map {
        if self.view.is_none() {
            self.view = Some(self.data().clone());
        }
        self.view.get_or_insert_default()
    }

    /// What is stored, as far as the handler is concerned: nothing, once it is to end.
    pub(super) fn living(&self) -> Option<&Stored> {
        self.stored.as_ref().filter(|_| !self.changes.destroy)
    }

    /// Whether what is known to be stored is what this request opened a moment ago, and nothing else.
    pub(super) fn is_fresh(&self) -> bool {
        !self.saved && !self.left && !self.changes.cleared && matches!(self.taken, Taken::Nothing)
    }

    /// Whether there is something to save. Forgets changes that make no difference, where that is known.
    pub(super) fn is_modified(&mut self) -> bool {
        if self.is_fresh() {
            let mut keys = mem::take(&mut self.changes.keys);
            keys.retain(|key, _| self.stored_data().get(key) != self.data().get(key));
            self.changes.keys = keys;
        }
        !matches!(self.taken, Taken::Nothing) || !self.changes.is_nothing()
    }

    /// Gives up what is not saved.
    pub(super) fn forget(&mut self) {
        (self.view, self.changes, self.taken) = (None, Changes::default(), Taken::Nothing);
    }

    /// The session ended under this request, and what was meant for it is over with it.
    pub(super) fn bury(&mut self) {
        self.forget();
        (self.stored, self.ended) = (None, true);
    }

    /// A Save is on its way: until its answer is here it is not known whether it was applied.
    pub(super) fn sending(&mut self, save: &Save) {
        if let Taken::Unsaved(changes) | Taken::Unsure { changes, .. } = mem::take(&mut self.taken) {
            self.taken = Taken::Unsure { sent: Box::new(save.again()), changes };
        }
    }

    /// The answer says that it was not applied.
    pub(super) fn refused(&mut self) {
        if let Taken::Unsure { changes, .. } = mem::take(&mut self.taken) {
            self.taken = Taken::Unsaved(changes);
        }
    }
}

impl Shared {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self::with_state(settings, State::default())
    }

    pub(super) fn with_state(settings: Arc<Settings>, state: State) -> Self {
        Self {
            settings,
            opened: OnceCell::new(),
            accessed: AtomicBool::new(false),
            state: Mutex::new(state),
            saving: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accessed(&self) -> bool {
        self.accessed.load(Ordering::Relaxed)
    }

    /// Opens the session, once per request.
    pub(super) async fn open(&self, headers: &HeaderMap) -> Result<(), SessionError> {
        self.accessed.store(true, Ordering::Relaxed);
        let open = async || {
            let CookieRead::Id(id) = self.settings.cookie.read(headers) else { return Ok(()) };
            let outage = self.state().outage;
            if let Some(retry_after) = outage {
                return Err(SessionError::outage(retry_after));
            }
            match self.settings.client.open(&id).await.map_err(SessionError::from) {
                Ok(Some(session)) => self.state().stored = Some(session),
                Ok(None) => self.state().dead = Some(id),
                Err(error) => {
                    if let SessionError::Unavailable { retry_after, .. } = &error {
                        self.state().outage = Some(*retry_after);
                    }
                    return Err(error);
                }
            }
            Ok(())
        };
        self.opened.get_or_try_init(open).await.copied()
    }
}

impl Drop for Shared {
    /// What was changed after the response had left, in a streaming body or a WebSocket, is not lost.
    fn drop(&mut self) {
        let state = {
            let mut state = self.state();
            if !state.left || state.rescued || !state.is_modified() {
                return;
            }
            State { rescued: true, ..mem::take(&mut *state) }
        };
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
