//! Protobuf to nouns and back. Every wrong field of a request is named at once; past this file there is no protobuf.
//! `change` reads the fields of a Save that say what becomes of the data.

mod change;

use std::time::Duration;

use sessiond_proto::{RawStruct, v1};
use uuid::Uuid;

use self::change::RequestedChange;
use crate::{
    rules::{Limits, SaveCommand, Session, Target},
    session::{Etag, MAX_SUBJECT_BYTES, RequestId, SessionId, Time, millis},
    store::{Change, Expected},
};

/// The shortest idle timeout and the shortest lifetime.
const MIN_SPAN: Duration = Duration::from_secs(1);

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
    let asked = RequestedChange {
        data: session.data.map(RawStruct::into_bytes),
        changed_keys: request.changed_keys,
        removed_keys: request.removed_keys,
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
