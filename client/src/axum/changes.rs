//! What a handler did to its session and is not saved yet: key by key, and so that it can be done again to newer data.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use crate::{Map, Value, ValueError};

/// A change of one key that depends on what is there.
pub(super) type Update = Arc<dyn Fn(Option<&Value>) -> Result<Value, ValueError> + Send + Sync>;

/// What becomes of one key.
#[derive(Clone, Default)]
pub(super) struct Change {
    /// It first gets this value, or none; left out, it keeps what is there.
    to: Option<Option<Value>>,
    /// Then these are applied.
    by: Vec<Update>,
}

/// All that is not saved yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) keys: BTreeMap<String, Change>,
    /// The application asked for an empty session, which means a logout if it stays so.
    pub(super) cleared: bool,
    pub(super) rotate: bool,
    pub(super) subject: Option<String>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) lifetime: Option<Duration>,
    /// The session is to end first; the rest is about a new one.
    pub(super) destroy: bool,
    /// How often something was changed.
    revision: u64,
}

impl Change {
    /// What it makes of what is there.
    fn apply(&self, there: Option<&Value>) -> Result<Option<Value>, ValueError> {
        let first = match &self.to {
            Some(to) => to.clone(),
            None => there.cloned(),
        };
        self.by.iter().try_fold(first, |value, update| update(value.as_ref()).map(Some))
    }
}

impl Changes {
    pub(super) fn set(&mut self, key: &str, value: Option<Value>) {
        self.revision += 1;
        self.keys.insert(key.to_owned(), Change { to: Some(value), by: Vec::new() });
    }

    /// Notes an update, whose outcome for now is `value`.
    pub(super) fn update(&mut self, key: &str, update: Update, value: &Value) {
        self.revision += 1;
        let change = self.keys.entry(key.to_owned()).or_default();
        match change.to {
            // What is there does not matter, and `value` is what all of it comes to.
            Some(_) => *change = Change { to: Some(Some(value.clone())), by: Vec::new() },
            None => change.by.push(update),
        }
    }

    /// Notes that everything was removed; `known` are the keys that were there.
    pub(super) fn clear<'a>(&mut self, known: impl Iterator<Item = &'a String>) {
        (self.cleared, self.revision) = (true, self.revision + 1);
        known.for_each(|key| self.set(key, None));
    }

    pub(super) fn is_nothing(&self) -> bool {
        let Self { keys, cleared, rotate, subject, idle_timeout, lifetime, destroy, revision: _ } = self;
        let keeps_times = idle_timeout.is_none() && lifetime.is_none();
        keys.is_empty() && !cleared && !rotate && subject.is_none() && keeps_times && !destroy
    }

    /// Whether nothing was done to the data in between.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.revision, self.destroy) == (other.revision, other.destroy)
    }

    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether the outcome depends on what is stored: then the save must name its version.
    pub(super) fn depends(&self) -> bool {
        self.keys.values().any(|change| change.to.is_none())
    }

    /// The keys and what they are to have, for changes that do not depend on what is stored.
    pub(super) fn values(&self) -> Result<Vec<(&String, Option<Value>)>, ValueError> {
        self.keys.iter().map(|(key, change)| Ok((key, change.apply(None)?))).collect()
    }

    /// All of it, done to this data.
    pub(super) fn apply(&self, data: &Map) -> Result<Map, ValueError> {
        let mut data = if self.cleared { Map::new() } else { data.clone() };
        for (key, change) in &self.keys {
            match change.apply(data.get(key))? {
                Some(value) => drop(data.insert(key.clone(), value)),
                None => drop(data.remove(key)),
            }
        }
        Ok(data)
    }

    /// These, which could not be saved, and then what was done since.
    pub(super) fn then(mut self, since: Self) -> Self {
        if since.destroy {
            return since;
        }
        if since.cleared {
            self.keys.clear();
        }
        for (key, change) in since.keys {
            match self.keys.get_mut(&key) {
                Some(before) if change.to.is_none() => before.by.extend(change.by),
                _ => drop(self.keys.insert(key, change)),
            }
        }
        self.cleared |= since.cleared;
        self.rotate |= since.rotate;
        self.subject = since.subject.or(self.subject);
        self.idle_timeout = since.idle_timeout.or(self.idle_timeout);
        self.lifetime = since.lifetime.or(self.lifetime);
        self
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Change(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Option<Value> {
        Some(Value::Number(value))
    }

    fn add(changes: &mut Changes, amount: f64, now: f64) {
        let update: Update = Arc::new(move |value| match value {
            Some(Value::Number(number)) => Ok(Value::Number(number + amount)),
            _ => Ok(Value::Number(amount)),
        });
        changes.update("n", update, &Value::Number(now));
    }

    fn stored(value: f64) -> Map {
        Map::from([("n".to_owned(), Value::Number(value))])
    }

    #[test]
    fn an_update_is_done_to_whatever_is_there() {
        let mut changes = Changes::default();
        add(&mut changes, 1.0, 2.0);
        add(&mut changes, 10.0, 12.0);
        assert!(changes.depends());
        assert_eq!(changes.apply(&stored(100.0)).unwrap(), stored(111.0));
    }

    #[test]
    fn an_update_of_what_was_just_set_depends_on_nothing() {
        let mut changes = Changes::default();
        changes.set("n", number(5.0));
        add(&mut changes, 1.0, 6.0);
        assert!(!changes.depends());
        assert_eq!(changes.values().unwrap(), [(&"n".to_owned(), number(6.0))]);
    }

    #[test]
    fn what_was_done_since_stands_on_what_could_not_be_saved() {
        let mut earlier = Changes::default();
        earlier.set("n", number(10.0));
        let mut since = Changes::default();
        add(&mut since, 1.0, 11.0);
        let all = earlier.then(since);
        assert!(!all.depends());
        assert_eq!(all.values().unwrap(), [(&"n".to_owned(), number(11.0))]);
    }

    #[test]
    fn what_follows_on_both_is_done_once() {
        let mut earlier = Changes::default();
        earlier.set("n", number(10.0));
        let mut since = Changes::default();
        add(&mut since, 1.0, 11.0);
        let mut all = earlier.then(since);
        add(&mut all, 1.0, 12.0);
        assert_eq!(all.values().unwrap(), [(&"n".to_owned(), number(12.0))]);
    }

    #[test]
    fn clearing_since_leaves_nothing_of_what_was_done_before() {
        let mut earlier = Changes::default();
        add(&mut earlier, 1.0, 2.0);
        let mut since = Changes::default();
        since.clear([&"n".to_owned()].into_iter());
        let all = earlier.then(since);
        assert_eq!(all.apply(&stored(1.0)).unwrap(), Map::new());
    }
}
