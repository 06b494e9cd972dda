//! The model: one session in plain words, as its callers can see it. It does one thing at a time.
//!
//! What a caller is told is given: the model says whether it could have been told so now, and how the session is then. An
//! id or etag that nobody was told yet is unknown to the model, too, until somebody is; it equals none that was told before.

use std::collections::BTreeSet;

use super::{Answer, Call, Change, Data, Etag, Event, Id, Request, Save, Seen};

/// The session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Session {
    /// It was not created yet.
    #[default]
    None,
    /// It lives.
    Living(Living),
    /// It was destroyed. That is all there is to know, and for ever.
    Dead,
}

/// A session that lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Living {
    /// The id that opens it; `None` is one that nobody was told yet.
    id: Option<Id>,
    /// The request that gave it this id.
    minted_by: Request,
    /// The id that the last rotate replaced.
    previous: Option<Id>,
    /// Its version; `None` is one that nobody was told yet.
    etag: Option<Etag>,
    data: Data,
    /// The requests that were applied: a bit each. So many were there Saves.
    applied: u64,
    /// All ids and etags that were told: what is new is none of these.
    told: BTreeSet<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Id(u8),
    Etag(u8),
}

/// The marks that a session keeps however old: after more Saves than these, and after a while, it may have forgotten one.
const KEPT: u32 = 8;

impl Session {
    /// How the session is when this has happened to it; `None` if it cannot have happened now. A call of which nobody knows
    /// is meant to be applied; so it cannot, where it would change nothing. With `forgets`, the session may have forgotten
    /// which of its older Saves were applied.
    pub(super) fn after(&self, event: &Event, forgets: bool) -> Option<Self> {
        match (&event.call, &event.answer) {
            (_, Answer::Strange(_)) => None,
            (Call::Open(id), answer) => self.opened(*id, answer),
            (Call::Create(request, data), answer) => self.created(*request, data, answer),
            (Call::Save(save), answer) => self.saved(save, answer, forgets),
            (Call::Destroy(id, expected), answer) => self.destroyed(*id, *expected, answer),
        }
    }

    fn opened(&self, id: Id, answer: &Answer) -> Option<Self> {
        match (self, answer) {
            (Self::Living(living), Answer::Session(seen)) if living.opens_with(id) => living.shows(seen),
            (Self::Living(living), Answer::Nothing) if living.opens_with(id) => None,
            (_, Answer::Nothing) => Some(self.clone()),
            _ => None,
        }
    }

    fn created(&self, request: Request, data: &Data, answer: &Answer) -> Option<Self> {
        match (self, answer) {
            (Self::None, Answer::Session(_) | Answer::Unknown) => Living {
                id: None,
                minted_by: request,
                previous: None,
                etag: None,
                data: data.clone(),
                applied: bit(request),
                told: BTreeSet::new(),
            }
            .tells(answer),
            // The repeat of what made it sees it as it stands, unless it has got another id since.
            (Self::Living(living), Answer::Session(seen)) if living.minted_by == request => living.shows(seen),
            (Self::Living(living), Answer::OutcomeUnknown) if living.minted_by != request => Some(self.clone()),
            (Self::Dead, Answer::NotFound) => Some(self.clone()),
            _ => None,
        }
    }

    fn saved(&self, save: &Save, answer: &Answer, forgets: bool) -> Option<Self> {
        let Self::Living(living) = self else {
            return (*answer == Answer::NotFound).then(|| self.clone());
        };
        let applied = living.applied & bit(save.request) != 0;
        let forgets = forgets && living.applied.count_ones() > KEPT;
        let (unchanged, replaced) = (|| Some(self.clone()), living.previous == Some(save.id));
        match answer {
            // A repeat changes nothing and sees the session as it stands: that of a rotate, if it is the last one.
            Answer::Session(seen) if applied && save.rotate => {
                (replaced && living.minted_by == save.request).then(|| living.shows(seen))?
            }
            Answer::Session(seen) if applied => living.opens_with(save.id).then(|| living.shows(seen))?,
            Answer::Session(_) | Answer::Unknown if !applied => living.saves(save)?.tells(answer),
            Answer::NotFound if living.opens_with(save.id) => None,
            // Whoever shows the id before is told if it was applied; whoever shows an older one is told nothing.
            Answer::NotFound if replaced && applied && !forgets => None,
            Answer::NotFound => unchanged(),
            Answer::Changed => (living.opens_with(save.id)
                && matches!(save.change, Change::Whole(_))
                && save.expected.is_some_and(|etag| living.etag != Some(etag))
                && (!applied || forgets))
                .then(unchanged)?,
            Answer::OutcomeUnknown => {
                let hidden = replaced && applied && !save.rotate;
                let forgotten = forgets && (replaced || living.opens_with(save.id));
                (hidden || forgotten).then(unchanged)?
            }
            _ => None,
        }
    }

    fn destroyed(&self, id: Id, expected: Option<Etag>, answer: &Answer) -> Option<Self> {
        let named = match self {
            Self::Living(living) if living.opens_with(id) => {
                Some(expected.is_none_or(|etag| living.etag == Some(etag)))
            }
            // A logout that raced a rotate wins, but for one that names a version.
            Self::Living(living) if living.previous == Some(id) => Some(expected.is_none()),
            _ => None,
        };
        match (named, answer) {
            (Some(true), Answer::Done | Answer::Unknown) => Some(Self::Dead),
            (Some(false), Answer::Changed) | (None, Answer::Done) => Some(self.clone()),
            _ => None,
        }
    }
}

impl Living {
    fn opens_with(&self, id: Id) -> bool {
        self.id == Some(id)
    }

    /// How it is after this Save, which is no repeat.
    fn saves(&self, save: &Save) -> Option<Self> {
        let mut next = self.clone();
        match &save.change {
            Change::Whole(_) if save.expected.is_some_and(|etag| self.etag != Some(etag)) => return None,
            Change::Whole(data) => next.data = data.clone(),
            Change::Key(key, value) => drop(next.data.insert(key.clone(), *value)),
            Change::Removal(key) => drop(next.data.remove(key)),
        }
        if !self.opens_with(save.id) {
            return None;
        }
        next.applied |= bit(save.request);
        next.etag = None;
        if save.rotate {
            (next.previous, next.id, next.minted_by) = (self.id, None, save.request);
        }
        Some(next)
    }

    /// Tells what it is now; or nobody.
    fn tells(self, answer: &Answer) -> Option<Session> {
        match answer {
            Answer::Session(seen) => self.shows(seen),
            _ => Some(Session::Living(self)),
        }
    }

    /// It is told so: with the id and the version that it has, or that nobody was told before.
    fn shows(&self, seen: &Seen) -> Option<Session> {
        let mut next = self.clone();
        let new = |told: &mut BTreeSet<Name>, name| told.insert(name);
        let id = match self.id {
            Some(id) => id == seen.id,
            None => new(&mut next.told, Name::Id(seen.id.0)),
        };
        let etag = match self.etag {
            Some(etag) => etag == seen.etag,
            None => new(&mut next.told, Name::Etag(seen.etag.0)),
        };
        (next.id, next.etag) = (Some(seen.id), Some(seen.etag));
        (id && etag && self.data == seen.data).then_some(Session::Living(next))
    }
}

fn bit(request: Request) -> u64 {
    1 << request.0
}
