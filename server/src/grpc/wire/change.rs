//! What a Save asks to become of the data: all of it on create; on update what `changed_keys`, `removed_keys` or `replace_all`
//! say, and never more. Values are checked by `value`.

use bytes::{Bytes, BytesMut};

use super::{Unreadable, Violations};
use crate::{
    grpc::value,
    session::{Data, Entry, KeyChange},
    store::Change,
};

/// The most names in `changed_keys`, and in `removed_keys`.
const MAX_KEYS: usize = 1024;

/// How many wrong names a violation lists.
const MAX_LISTED: usize = 5;

/// The fields of a Save that say what becomes of the data.
pub(super) struct RequestedChange {
    pub(super) data: Option<Bytes>,
    pub(super) changed_keys: Vec<String>,
    pub(super) removed_keys: Vec<String>,
    pub(super) replace_all: bool,
}

impl RequestedChange {
    /// The data of a new session. It must hold every key in `changed_keys`; the other fields have no effect.
    ///
    /// # Errors
    /// When the data is too large. Wrong fields are added to the violations, and what is returned is then of no use.
    pub(super) fn create(mut self, max_bytes: usize, wrong: &mut Violations) -> Result<Data, Unreadable> {
        let fits = normalize("changed_keys", &mut self.changed_keys, wrong);
        let Some(body) = self.data.filter(|_| fits) else { return Ok(Data::default()) };
        let Some(entries) = entries(&body, wrong) else { return Ok(Data::default()) };
        require_held(&self.changed_keys, &entries, wrong);
        whole(&entries, max_bytes)
    }

    /// What an update does to the data. A mode is never guessed: data that no field says how to store is refused.
    ///
    /// # Errors
    /// When the data is too large. Wrong fields are added to the violations, and what is returned is then of no use.
    pub(super) fn update(mut self, max_bytes: usize, wrong: &mut Violations) -> Result<Change, Unreadable> {
        let fits = normalize("changed_keys", &mut self.changed_keys, wrong)
            & normalize("removed_keys", &mut self.removed_keys, wrong);
        if !fits {
            return Ok(Change::Keep);
        }
        let merges = !self.changed_keys.is_empty() || !self.removed_keys.is_empty();
        if self.replace_all && merges {
            wrong.add("replace_all", "replaces the whole map: send it without changed_keys and removed_keys");
        }
        let both = self.changed_keys.iter().filter(|key| self.removed_keys.binary_search(key).is_ok());
        if let Some(both) = list(both) {
            wrong.add("removed_keys", format!("names {both}, as changed_keys does: a key is either stored or removed"));
        }
        let Some(body) = self.data else {
            if self.replace_all {
                wrong.add("session.data", "is required with replace_all: an empty map removes every key");
            }
            if !self.changed_keys.is_empty() {
                wrong.add("session.data", "is required with changed_keys: to remove keys, name them in removed_keys");
            }
            return Ok(if merges { merge(&[], self.changed_keys, self.removed_keys) } else { Change::Keep });
        };
        if self.changed_keys.is_empty() && !self.replace_all {
            let meant = match (self.removed_keys.is_empty(), body.is_empty()) {
                (false, _) => {
                    "leave data unset if only the removed_keys change, or name the keys to store in changed_keys"
                }
                (true, true) => "leave data unset if nothing in it changed; to remove every key, set replace_all",
                (true, false) => {
                    "name the keys that changed in changed_keys; to replace the whole map, set replace_all; if nothing \
                     in it changed, leave data unset"
                }
            };
            let why = "is set, but neither changed_keys nor replace_all says what to store of it";
            wrong.add("session.data", format!("{why}: {meant}"));
            return Ok(Change::Keep);
        }
        let Some(entries) = entries(&body, wrong) else { return Ok(Change::Keep) };
        if self.replace_all {
            return whole(&entries, max_bytes).map(Change::Replace);
        }
        require_held(&self.changed_keys, &entries, wrong);
        let change = merge(&entries, self.changed_keys, self.removed_keys);
        let Change::Merge(changes) = &change else { return Ok(change) };
        let bytes: usize = changes.iter().filter_map(|change| change.entry.as_ref()).map(Bytes::len).sum();
        if bytes > max_bytes { Err(Unreadable::TooLarge(max_bytes)) } else { Ok(change) }
    }
}

/// Sorts names and drops repeated ones. Whether there are no more than allowed.
fn normalize(field: &str, names: &mut Vec<String>, wrong: &mut Violations) -> bool {
    let fits = names.len() <= MAX_KEYS;
    if !fits {
        wrong.add(field, format!("has more than {MAX_KEYS} names: to replace the whole map, set replace_all"));
    }
    names.sort_unstable();
    names.dedup();
    fits
}

/// The entries of the data, sorted by key; `None` if they are refused.
fn entries<'a>(body: &'a [u8], wrong: &mut Violations) -> Option<Vec<Entry<'a>>> {
    let sorted = value::entries(body).and_then(|mut entries| {
        entries.sort_unstable_by_key(|entry| entry.key);
        match entries.windows(2).find(|pair| pair[0].key == pair[1].key) {
            Some(twice) => Err(value::Problem::new(value::TWICE).inside(twice[0].key)),
            None => Ok(entries),
        }
    });
    sorted.inspect_err(|problem| wrong.add(problem.field("session.data"), problem.why)).ok()
}

/// The data made of all these entries.
fn whole(entries: &[Entry<'_>], max_bytes: usize) -> Result<Data, Unreadable> {
    let data = Data::from_entries(entries.iter().copied());
    if data.len() > max_bytes { Err(Unreadable::TooLarge(max_bytes)) } else { Ok(data) }
}

/// The entry of a key; entries are sorted.
fn held<'e, 'a>(key: &str, entries: &'e [Entry<'a>]) -> Option<&'e Entry<'a>> {
    entries.binary_search_by_key(&key.as_bytes(), |entry| entry.key).ok().map(|at| &entries[at])
}

/// Every name in `changed_keys` must be a key of the data, so that a misspelled name or a lost value never removes anything.
fn require_held(changed_keys: &[String], entries: &[Entry<'_>], wrong: &mut Violations) {
    if let Some(lacking) = list(changed_keys.iter().filter(|key| held(key, entries).is_none())) {
        let advice = "send the value, or name the key in removed_keys to remove it";
        wrong.add("changed_keys", format!("names {lacking}, which session.data does not hold: {advice}"));
    }
}

/// The changes key by key, sorted by key.
fn merge(entries: &[Entry<'_>], changed_keys: Vec<String>, removed_keys: Vec<String>) -> Change {
    let stored =
        changed_keys.into_iter().map(|key| KeyChange { entry: held(&key, entries).map(framed), key: key.into() });
    let removed = removed_keys.into_iter().map(|key| KeyChange { entry: None, key: key.into() });
    let mut changes: Vec<_> = stored.chain(removed).collect();
    changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Change::Merge(changes)
}

/// The first of these keys in quotes, and how many more there are; `None` if there are none.
fn list<'a>(keys: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut keys = keys.map(|key| format!("{:?}", value::shortened(key)));
    let shown: Vec<_> = keys.by_ref().take(MAX_LISTED).collect();
    let more = match keys.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}

fn framed(entry: &Entry<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    entry.frame(&mut bytes);
    bytes.freeze()
}
