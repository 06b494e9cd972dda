//! What a handler did to its session and is not saved yet: key by key, and so that it can be done again to newer data.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use crate::{Map, Value, ValueError};

/// A change of one key that depends on what is there.
pub(super) type Update = Arc<dyn Fn(Option<&Value>) -> Result<Value, ValueError> + Send + Sync>;

/// What became of one key.
#[derive(Clone)]
pub(super) enum Change {
    /// It has this value, or none, whatever was there.
    To(Option<Value>),
    /// These are applied to whatever is there.
    By(Vec<Update>),
}

/// All that is not saved yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    keys: BTreeMap<String, Change>,
    /// The application asked for an empty session: an emptying that means a logout.
    pub(super) cleared: bool,
    pub(super) rotate: bool,
    pub(super) subject: Option<String>,
    pub(super) idle_timeout: Option<Duration>,
    /// The session is to end first; the rest is about a new one.
    pub(super) destroy: bool,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::To(_) => "To(..)",
            Self::By(_) => "By(..)",
        })
    }
}

impl Changes {
    pub(super) fn destroy() -> Self {
        Self { destroy: true, ..Self::default() }
    }

    pub(super) fn set(&mut self, key: &str, value: Option<Value>) {
        self.keys.insert(key.to_owned(), Change::To(value));
    }

    /// Notes an update, whose outcome for now is `value`.
    pub(super) fn update(&mut self, key: &str, update: Update, value: &Value) {
        match self.keys.get_mut(key) {
            // What was there before no longer matters.
            Some(Change::To(to)) => *to = Some(value.clone()),
            Some(Change::By(updates)) => updates.push(update),
            None => drop(self.keys.insert(key.to_owned(), Change::By(vec![update]))),
        }
    }

    /// Notes that everything was removed; `known` are the keys that were there.
    pub(super) fn clear<'a>(&mut self, known: impl Iterator<Item = &'a String>) {
        self.cleared = true;
        self.keys.extend(known.map(|key| (key.clone(), Change::To(None))));
    }

    /// Forgets what makes no difference to what is stored.
    pub(super) fn prune(&mut self, stored: &Map, now: &Map) {
        self.keys.retain(|key, _| stored.get(key) != now.get(key));
    }

    pub(super) fn is_nothing(&self) -> bool {
        let Self { keys, cleared, rotate, subject, idle_timeout, destroy } = self;
        keys.is_empty() && !cleared && !rotate && subject.is_none() && idle_timeout.is_none() && !destroy
    }

    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether the outcome depends on what is stored: then the save must name its version.
    pub(super) fn depends(&self) -> bool {
        self.keys.values().any(|change| matches!(change, Change::By(_)))
    }

    /// The keys and what they are to have, where that does not depend on what is stored.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&String, &Option<Value>)> {
        self.keys.iter().filter_map(|(key, change)| match change {
            Change::To(value) => Some((key, value)),
            Change::By(_) => None,
        })
    }

    /// All of it, done to this data.
    pub(super) fn apply(&self, data: &Map) -> Result<Map, ValueError> {
        let mut data = if self.cleared { Map::new() } else { data.clone() };
        for (key, change) in &self.keys {
            let value = match change {
                Change::To(value) => value.clone(),
                Change::By(updates) => {
                    let first = data.get(key).cloned();
                    updates.iter().try_fold(first, |value, update| update(value.as_ref()).map(Some))?
                }
            };
            match value {
                Some(value) => drop(data.insert(key.clone(), value)),
                None => drop(data.remove(key)),
            }
        }
        Ok(data)
    }

    /// Puts these, which could not be saved, back before what was done since.
    pub(super) fn put_back(&mut self, earlier: Self) {
        let since = std::mem::replace(self, earlier);
        if since.destroy {
            *self = since;
            return;
        }
        for (key, change) in since.keys {
            match (self.keys.get_mut(&key), change) {
                (Some(Change::By(before)), Change::By(after)) => before.extend(after),
                (_, change) => drop(self.keys.insert(key, change)),
            }
        }
        self.cleared |= since.cleared;
        self.rotate |= since.rotate;
        self.subject = since.subject.or(self.subject.take());
        self.idle_timeout = since.idle_timeout.or(self.idle_timeout);
    }
}
