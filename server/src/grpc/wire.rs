//! Protobuf to nouns and back. Every wrong field of a request is named at once; past this file there is no protobuf.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sessiond_proto::{RawStruct, v1};
use uuid::Uuid;

use super::value;
use crate::{
    rules::{Limits, SaveCommand, Session, Target},
    session::{Data, Entry, Etag, KeyChange, MAX_SUBJECT_BYTES, RequestId, SessionId, Time, millis},
    store::{Change, Expected},
};

/// The most names in `changed_keys`, and in `removed_keys`.
const MAX_KEYS: usize = 1024;

/// The shortest idle timeout and the shortest lifetime.
const MIN_SPAN: Duration = Duration::from_secs(1);

/// How many wrong names a violation lists.
const MAX_LISTED: usize = 5;

/// Why a request cannot be carried out as it stands.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// Each wrong field, and how to mend it.
    Fields(Vec<(String, String)>),
    /// The data has more bytes than this.
    TooLarge(usize),
}

/// The wrong fields found so far.
#[derive(Default)]
struct Violations(Vec<(String, String)>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push((field.into(), why.into()));
    }
}

pub(super) fn id(text: &str) -> Option<SessionId> {
    SessionId::parse(text)
}

/// The version that a Save or a Destroy is meant for. Empty means any.
pub(super) fn expected(etag: &str) -> Expected {
    match etag {
        "" | "*" => Expected::Any,
        etag => Etag::parse(etag).map_or(Expected::Unreadable, Expected::Etag),
    }
}

pub(super) fn save(request: v1::SaveRequest, limits: &Limits) -> Result<SaveCommand, Unreadable> {
    let mut wrong = Violations::default();
    let has_session = request.session.is_some();
    if !has_session {
        wrong.add("session", "is required: an empty one creates a session, one with an id updates it");
    }
    if request.subject.as_ref().is_some_and(|subject| subject.len() > MAX_SUBJECT_BYTES) {
        wrong.add("subject", format!("has more than {MAX_SUBJECT_BYTES} bytes: send an id rather than a description"));
    }
    let changes_times = request.idle_timeout.is_some() || request.lifetime.is_some();
    let idle_timeout = request.idle_timeout.and_then(|span| duration(span, "idle_timeout", &mut wrong));
    let lifetime = request.lifetime.and_then(|span| duration(span, "lifetime", &mut wrong));
    let request_id = request_id(&request.request_id, &mut wrong);
    let session = request.session.unwrap_or_default();
    let asked = AskedChange {
        data: session.data.map(RawStruct::into_bytes),
        changed_keys: keys("changed_keys", request.changed_keys, &mut wrong),
        removed_keys: keys("removed_keys", request.removed_keys, &mut wrong),
        replace_all: request.replace_all,
    };
    let max_bytes = limits.max_session_bytes;
    let target = if !session.id.is_empty() {
        if request.replace_all && session.etag.is_empty() {
            wrong.add(
                "session.etag",
                "is required with replace_all: send the one that Open or the last Save gave, or `*` to replace whatever \
                 is stored",
            );
        }
        let change = asked.update(max_bytes, &mut wrong)?;
        let changes_more = request.rotate || request.subject.is_some() || changes_times;
        if change == Change::Keep && !changes_more && wrong.0.is_empty() {
            wrong.add(
                "request",
                "changes nothing: name keys in changed_keys or removed_keys, or set replace_all, rotate, subject, \
                 idle_timeout or lifetime (to extend the session's life, call Open)",
            );
        }
        Target::Update { id: id(&session.id), expected: expected(&session.etag), change, rotate: request.rotate }
    } else {
        if !session.etag.is_empty() {
            wrong.add("session.id", "is required with session.etag: send both as Open gave them, or neither to create");
        }
        if !session.subject.is_empty() {
            wrong.add(
                "session.subject",
                "is output only: to create a session that is signed in, set subject of the request",
            );
        }
        if asked.data.is_none() && has_session {
            wrong.add("session.data", "is required to create a session; it may be empty");
        }
        Target::Create(asked.create(max_bytes, &mut wrong)?)
    };
    if !wrong.0.is_empty() {
        return Err(Unreadable::Fields(wrong.0));
    }
    let subject = request.subject.map(String::into_boxed_str);
    Ok(SaveCommand { target, subject, idle_timeout, lifetime, request_id, omit_data: request.omit_data })
}

/// The fields that say what becomes of the data. Names are sorted, each there once.
struct AskedChange {
    data: Option<Bytes>,
    changed_keys: Vec<String>,
    removed_keys: Vec<String>,
    replace_all: bool,
}

impl AskedChange {
    /// The data of a new session. `changed_keys` only has to fit it; the other fields mean nothing here.
    fn create(self, max_bytes: usize, wrong: &mut Violations) -> Result<Data, Unreadable> {
        let body = self.data.unwrap_or_default();
        let Some(entries) = entries(&body, wrong) else { return Ok(Data::default()) };
        require_held(&self.changed_keys, &entries, wrong);
        whole(&entries, max_bytes)
    }

    /// What an update does to the data. A mode is never guessed: data that no field says how to read is refused.
    fn update(self, max_bytes: usize, wrong: &mut Violations) -> Result<Change, Unreadable> {
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

/// Names sorted, each once; too many are refused.
fn keys(field: &str, mut names: Vec<String>, wrong: &mut Violations) -> Vec<String> {
    if names.len() > MAX_KEYS {
        wrong.add(field, format!("has more than {MAX_KEYS} names: to replace the whole map, set replace_all"));
        names.clear();
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The entries of the data, sorted by key; `None` if they are refused.
fn entries<'a>(body: &'a [u8], wrong: &mut Violations) -> Option<Vec<Entry<'a>>> {
    let sorted = value::entries(body).and_then(|mut entries| {
        entries.sort_unstable_by_key(|entry| entry.key);
        match entries.windows(2).find(|pair| pair[0].key == pair[1].key) {
            Some(twice) => Err(value::Problem::new("is there twice: send each key once").inside(twice[0].key)),
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

fn duration(asked: prost_types::Duration, field: &str, wrong: &mut Violations) -> Option<Duration> {
    // The range of google.protobuf.Duration: ten thousand years, and nanoseconds that are a fraction.
    let in_range = asked.seconds <= 315_576_000_000 && (0..1_000_000_000).contains(&asked.nanos);
    let span = u64::try_from(asked.seconds).ok().filter(|_| in_range).map(|s| Duration::new(s, asked.nanos as u32));
    if span.is_none_or(|span| span < MIN_SPAN) {
        wrong.add(field, "is not a duration of at least 1s: leave it unset to keep it, or send for example \"1800s\"");
        return None;
    }
    span
}

fn request_id(text: &str, wrong: &mut Violations) -> Option<RequestId> {
    if text.is_empty() {
        return None;
    }
    match Uuid::try_parse(text) {
        Ok(uuid) if uuid.get_version_num() == 4 => Some(RequestId::from_uuid(uuid)),
        _ => {
            wrong.add(
                "request_id",
                "is not a random (v4) UUID such as uuid4() makes: it guards the session as an id does",
            );
            None
        }
    }
}

pub(super) fn opened(session: Option<Session>) -> v1::OpenResponse {
    // A session that is not stored yet has data all the same: it can be read, and filled, without asking first.
    let empty = || v1::Session { data: Some(RawStruct::default()), ..Default::default() };
    v1::OpenResponse { session: Some(session.map_or_else(empty, message)) }
}

pub(super) fn saved(session: Session) -> v1::SaveResponse {
    v1::SaveResponse { session: Some(message(session)) }
}

fn message(session: Session) -> v1::Session {
    let record = session.record;
    v1::Session {
        id: session.id.reveal(),
        data: session.data.map(|data| data.into_bytes().into()),
        etag: session.etag.map(|etag| etag.text()).unwrap_or_default(),
        handle: record.handle.0.as_simple().encode_lower(&mut Uuid::encode_buffer()).to_owned(),
        subject: record.subject.into(),
        idle_timeout: Some(to_duration(record.idle_timeout)),
        create_time: Some(timestamp(record.create_time)),
        expire_time: Some(timestamp(session.expire_time)),
    }
}

fn to_duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: span.as_secs() as i64, nanos: (millis(span) % 1000) as i32 * 1_000_000 }
}

fn timestamp(time: Time) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: (time.0 / 1000) as i64, nanos: (time.0 % 1000) as i32 * 1_000_000 }
}
