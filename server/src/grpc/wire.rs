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

/// The most names in `changed_keys`.
const MAX_CHANGED_KEYS: usize = 1024;

/// The shortest idle timeout.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

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

/// The version a Destroy is meant for: none named is any.
pub(super) fn expected(etag: &str) -> Expected {
    match etag {
        "" | "*" => Expected::Any,
        etag => Etag::parse(etag).map_or(Expected::Unreadable, Expected::Etag),
    }
}

pub(super) fn save(request: v1::SaveRequest, limits: &Limits) -> Result<SaveCommand, Unreadable> {
    let mut wrong = Violations::default();
    let no_session = request.session.is_none();
    if no_session {
        wrong.add("session", "is required: an empty one creates a session, one with id and etag updates it");
    }
    let session = request.session.unwrap_or_default();
    let creates = session.id.is_empty();
    if creates && !session.etag.is_empty() {
        wrong.add("session.id", "is required with session.etag: send both as Open gave them, or neither to create");
    }
    if !creates && session.etag.is_empty() {
        wrong.add("session.etag", "is required with session.id: send the one that Open or the last Save gave, or `*`");
    }
    if creates && !session.subject.is_empty() {
        wrong.add(
            "session.subject",
            "is output only: to create a session that is signed in, set subject of the request",
        );
    }
    if creates && session.data.is_none() && !no_session && request.changed_keys.is_empty() {
        wrong.add("session.data", "is required to create a session; it may be empty");
    }
    if request.subject.as_ref().is_some_and(|subject| subject.len() > MAX_SUBJECT_BYTES) {
        wrong.add("subject", format!("has more than {MAX_SUBJECT_BYTES} bytes: send an id rather than a description"));
    }
    let idle_timeout = request.idle_timeout.and_then(|asked| idle_timeout(asked, &mut wrong));
    let request_id = request_id(&request.request_id, &mut wrong);
    let change = match change(session.data, request.changed_keys, limits.max_session_bytes) {
        Ok(change) => change,
        Err(Refused::TooLarge) => return Err(Unreadable::TooLarge(limits.max_session_bytes)),
        Err(Refused::Field(field, why)) => {
            wrong.add(field, why);
            Change::Keep
        }
    };
    if !wrong.0.is_empty() {
        return Err(Unreadable::Fields(wrong.0));
    }
    let target = if creates {
        let data = match change {
            Change::Keep => Data::default(),
            Change::Replace(data) => data,
            Change::Merge(changes) => Data::default().merge(&changes),
        };
        Target::Create(data)
    } else {
        Target::Update { id: id(&session.id), expected: expected(&session.etag), change, rotate: request.rotate }
    };
    let subject = request.subject.map(String::into_boxed_str);
    Ok(SaveCommand { target, subject, idle_timeout, request_id, omit_data: request.omit_data })
}

/// Why the data, or the change of it, cannot be taken.
enum Refused {
    Field(String, String),
    TooLarge,
}

impl Refused {
    fn field(field: &str, why: impl Into<String>) -> Self {
        Self::Field(field.to_owned(), why.into())
    }
}

impl From<value::Problem> for Refused {
    fn from(problem: value::Problem) -> Self {
        Self::Field(problem.field("session.data"), problem.why.to_owned())
    }
}

/// What becomes of the data: kept, replaced, or changed key by key. Keys come sorted, each once.
fn change(data: Option<RawStruct>, mut changed_keys: Vec<String>, max_bytes: usize) -> Result<Change, Refused> {
    let Some(data) = data else {
        if changed_keys.is_empty() {
            return Ok(Change::Keep);
        }
        let why = "is required with changed_keys: without it, every named key would be removed";
        return Err(Refused::field("session.data", why));
    };
    if changed_keys.len() > MAX_CHANGED_KEYS {
        let why = format!("has more than {MAX_CHANGED_KEYS} names: leave it empty to replace the whole map");
        return Err(Refused::field("changed_keys", why));
    }
    let body = data.into_bytes();
    let mut entries = value::entries(&body)?;
    entries.sort_unstable_by_key(|entry| entry.key);
    if let Some(twice) = entries.windows(2).find(|pair| pair[0].key == pair[1].key) {
        return Err(value::Problem::new("is there twice: send each key once").inside(twice[0].key).into());
    }
    if changed_keys.is_empty() {
        let data = Data::from_entries(entries.iter().copied());
        return if data.len() > max_bytes { Err(Refused::TooLarge) } else { Ok(Change::Replace(data)) };
    }
    changed_keys.sort_unstable();
    changed_keys.dedup();
    let entry = |key: &[u8]| entries.binary_search_by_key(&key, |entry| entry.key).ok().map(|at| framed(&entries[at]));
    let changes: Vec<_> =
        changed_keys.into_iter().map(|key| KeyChange { entry: entry(key.as_bytes()), key: key.into() }).collect();
    let bytes: usize = changes.iter().filter_map(|change| change.entry.as_ref()).map(Bytes::len).sum();
    if bytes > max_bytes { Err(Refused::TooLarge) } else { Ok(Change::Merge(changes)) }
}

fn framed(entry: &Entry<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    entry.frame(&mut bytes);
    bytes.freeze()
}

fn idle_timeout(asked: prost_types::Duration, wrong: &mut Violations) -> Option<Duration> {
    // The range of google.protobuf.Duration: ten thousand years, and nanoseconds that are a fraction.
    let in_range = asked.seconds <= 315_576_000_000 && (0..1_000_000_000).contains(&asked.nanos);
    let span = u64::try_from(asked.seconds).ok().filter(|_| in_range).map(|s| Duration::new(s, asked.nanos as u32));
    if span.is_none_or(|span| span < MIN_IDLE_TIMEOUT) {
        wrong.add(
            "idle_timeout",
            "is not a span of at least 1s: leave it unset to keep it, or send for example \"1800s\"",
        );
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
        idle_timeout: Some(duration(record.idle_timeout)),
        create_time: Some(timestamp(record.create_time)),
        expire_time: Some(timestamp(session.expire_time)),
    }
}

fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: span.as_secs() as i64, nanos: (millis(span) % 1000) as i32 * 1_000_000 }
}

fn timestamp(time: Time) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: (time.0 / 1000) as i64, nanos: (time.0 % 1000) as i32 * 1_000_000 }
}
