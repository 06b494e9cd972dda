//! Protobuf to nouns and back. Every wrong field of a request is named at once; past this file there is no protobuf.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use sessiond_proto::{RawStruct, v1};
use tonic::Response;
use uuid::Uuid;

use super::value;
use crate::{
    rules::{Limits, SaveCommand, Session, Target},
    session::{Data, Entry, Etag, KeyChange, RequestId, SessionId, Time, millis},
    store::{Change, Expected},
};

/// The most bytes of a subject: an e-mail address has at most 254, an OpenID Connect `sub` 255.
const MAX_SUBJECT_BYTES: usize = 256;

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
    if creates && session.data.is_none() && !no_session {
        wrong.add("session.data", "is required to create a session; it may be empty");
    }
    if request.subject.as_ref().is_some_and(|subject| subject.len() > MAX_SUBJECT_BYTES) {
        wrong.add("subject", format!("has more than {MAX_SUBJECT_BYTES} bytes: send an id rather than a description"));
    }
    let idle_timeout = request.idle_timeout.and_then(|asked| idle_timeout(asked, &mut wrong));
    let request_id = request_id(&request.request_id, &mut wrong);
    let change = change(session.data, request.changed_keys, limits.max_session_bytes, &mut wrong)?;
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

/// What becomes of the data: kept, replaced, or changed key by key. Keys come sorted, each once.
fn change(
    data: Option<RawStruct>,
    mut changed_keys: Vec<String>,
    max_bytes: usize,
    wrong: &mut Violations,
) -> Result<Change, Unreadable> {
    let Some(data) = data else {
        if !changed_keys.is_empty() {
            wrong.add("session.data", "is required with changed_keys: without it, every named key would be removed");
        }
        return Ok(Change::Keep);
    };
    if changed_keys.is_empty() && data.as_bytes().len() > max_bytes.saturating_mul(2) {
        // Framing it our way cannot halve it: no need to look inside.
        return Err(Unreadable::TooLarge(max_bytes));
    }
    if changed_keys.len() > MAX_CHANGED_KEYS {
        wrong.add(
            "changed_keys",
            format!("has more than {MAX_CHANGED_KEYS} names: leave it empty to replace the whole map"),
        );
        return Ok(Change::Keep);
    }
    let body = data.into_bytes();
    let mut entries = match value::entries(&body) {
        Ok(entries) => entries,
        Err(problem) => {
            wrong.add(problem.field("session.data"), problem.why);
            return Ok(Change::Keep);
        }
    };
    entries.sort_by_key(|entry| entry.key);
    if let Some(twice) = entries.windows(2).find(|pair| pair[0].key == pair[1].key) {
        let problem = value::Problem::new("is there twice: send each key once").inside(twice[0].key);
        wrong.add(problem.field("session.data"), problem.why);
        return Ok(Change::Keep);
    }
    let change = if changed_keys.is_empty() {
        Change::Replace(Data::from_entries(entries))
    } else {
        changed_keys.sort_unstable();
        changed_keys.dedup();
        let entries: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.key, entry)).collect();
        let entry = |key: &String| entries.get(key.as_bytes()).map(framed);
        Change::Merge(
            changed_keys.iter().map(|key| KeyChange { key: Bytes::from(key.clone()), entry: entry(key) }).collect(),
        )
    };
    let bytes = match &change {
        Change::Keep => 0,
        Change::Replace(data) => data.len(),
        Change::Merge(changes) => changes.iter().filter_map(|change| change.entry.as_ref()).map(Bytes::len).sum(),
    };
    if bytes > max_bytes { Err(Unreadable::TooLarge(max_bytes)) } else { Ok(change) }
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

pub(super) fn opened(session: Option<Session>) -> Response<v1::OpenResponse> {
    // A session that is not stored yet has data all the same: it can be read, and filled, without asking first.
    let empty = || v1::Session { data: Some(RawStruct::default()), ..Default::default() };
    Response::new(v1::OpenResponse { session: Some(session.map_or_else(empty, message)) })
}

pub(super) fn saved(session: Session) -> Response<v1::SaveResponse> {
    Response::new(v1::SaveResponse { session: Some(message(session)) })
}

fn message(session: Session) -> v1::Session {
    let record = session.record;
    v1::Session {
        id: session.id.reveal(),
        data: session.data.map(|data| data.into_bytes().into()),
        etag: session.etag.map(|etag| etag.to_string()).unwrap_or_default(),
        handle: record.handle.to_string(),
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
