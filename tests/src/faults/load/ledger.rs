//! What one session was promised, and when.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A session, from its creation on.
pub(super) struct Life {
    /// Its data says it, too: so an answer about another session is known.
    pub(super) name: String,
    pub(super) handle: String,
    pub(super) account: Mutex<Account>,
}

/// When something was asked for, and when its caller knew that it was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    pub(super) sent: Duration,
    pub(super) acknowledged: Duration,
}

/// What became of it.
pub(super) struct Account {
    pub(super) id: String,
    pub(super) born: When,
    /// Tags whose Saves were acknowledged, and when.
    pub(super) acknowledged: Vec<(String, When)>,
    /// Tags whose Saves were refused, and how often the id was replaced while they were under way. (Of an operation that
    /// was repeated with an id that two rotates have replaced, nobody can tell whether it was applied: ARCHITECTURE.md.)
    pub(super) refused: Vec<(String, usize)>,
    /// Ids that were replaced, and when that was acknowledged.
    pub(super) replaced: Vec<(String, When)>,
    /// When its end was acknowledged.
    pub(super) died: Option<When>,
    /// A rotate or a Destroy ended in doubt: nothing is known but that its data must be its own.
    pub(super) is_adrift: bool,
    /// A rotate or a Destroy is under way.
    is_claimed: bool,
    /// Goes up whenever that changes.
    turn: usize,
}

/// How it stands at a moment.
#[derive(PartialEq, Eq)]
pub(super) struct State {
    pub(super) id: String,
    turn: usize,
    /// How often its id was replaced.
    pub(super) replaced: usize,
    /// Nothing is under way that would change its id or end it.
    pub(super) is_settled: bool,
    pub(super) is_dead: bool,
}

impl Life {
    pub(super) fn state(&self) -> State {
        let account = lock(&self.account);
        State {
            id: account.id.clone(),
            turn: account.turn,
            replaced: account.replaced.len(),
            is_settled: !account.is_claimed && !account.is_adrift && account.died.is_none(),
            is_dead: account.died.is_some(),
        }
    }

    /// Nothing more is done to it.
    pub(super) fn is_over(&self) -> bool {
        let account = lock(&self.account);
        account.is_adrift || account.died.is_some()
    }

    /// Its id, for the one who may now replace or end it; `None` if another one does, or did.
    pub(super) fn claim(&self) -> Option<String> {
        let mut account = lock(&self.account);
        if account.is_claimed {
            return None;
        }
        account.is_claimed = true;
        account.turn += 1;
        Some(account.id.clone())
    }

    /// An id that must not open anything any more, if it has one.
    pub(super) fn dead_id(&self) -> Option<String> {
        let account = lock(&self.account);
        let dead = account.died.map(|_| account.id.clone());
        dead.or_else(|| account.replaced.last().map(|(id, _)| id.clone()))
    }
}

impl Account {
    pub(super) fn of(id: &str, born: When) -> Self {
        Self {
            id: id.to_owned(),
            born,
            acknowledged: Vec::new(),
            refused: Vec::new(),
            replaced: Vec::new(),
            died: None,
            is_adrift: false,
            is_claimed: false,
            turn: 0,
        }
    }

    /// Others may replace or end it.
    pub(super) fn free(&mut self) {
        self.is_claimed = false;
        self.turn += 1;
    }

    /// Its end was acknowledged. It stays claimed.
    pub(super) fn die(&mut self, when: When) {
        self.died = Some(when);
        self.turn += 1;
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
