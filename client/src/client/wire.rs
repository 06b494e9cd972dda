//! Protobuf and our own types: what is sent, and what an answer says.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use sessiond_proto::v1::{self, DestroyRequest, OpenResponse, SaveRequest, SaveResponse};

use crate::{
    Error, Map, Save, Session, SessionId, Value,
    session::{Content, Target},
    value::{decode, encode},
};

/// Whatever version is stored (RFC 9110, If-Match).
const ANY_VERSION: &str = "*";

/// An etag that no version has: it cannot be read, and that counts as stale.
pub(super) const NO_VERSION: &str = "none";

/// The answer of something that is not sessiond, or of a version that never was.
fn strange(what: &str) -> Error {
    Error::Internal(format!("the session service's answer has {what}").into())
}

/// An Open's answer; `None` if there was nothing to open.
pub(super) fn opened(answer: OpenResponse) -> Result<Option<Session>, Error> {
    let session = answer.session.ok_or_else(|| strange("no session"))?;
    if session.id.is_empty() {
        return Ok(None);
    }
    let data = session.data.clone().map(decode).transpose()?.unwrap_or_default();
    read(session, data).map(Some)
}

/// A Save's answer. It comes without data: what was saved is known here.
pub(super) fn saved(answer: SaveResponse, save: Save) -> Result<Session, Error> {
    let before = match save.target {
        Some(Target::Opened(session)) => session.data,
        Some(Target::Named(_)) | None => Map::new(),
    };
    let data = match save.content {
        Content::Keep => before,
        Content::Whole(data) => data,
        Content::Keys(keys) => {
            let mut data = before;
            for (key, value) in keys {
                match value {
                    Some(value) => drop(data.insert(key, value)),
                    None => drop(data.remove(&key)),
                }
            }
            data
        }
    };
    read(answer.session.ok_or_else(|| strange("no session"))?, data)
}

fn read(session: v1::Session, data: Map) -> Result<Session, Error> {
    let time = |timestamp: Option<prost_types::Timestamp>| {
        timestamp.and_then(|timestamp| SystemTime::try_from(timestamp).ok()).ok_or_else(|| strange("no time"))
    };
    Ok(Session {
        id: SessionId::parse(&session.id).ok_or_else(|| strange("an id that is none"))?,
        etag: session.etag,
        data,
        subject: session.subject,
        idle_timeout: session
            .idle_timeout
            .and_then(|idle| Duration::try_from(idle).ok())
            .ok_or_else(|| strange("no timeout"))?,
        create_time: time(session.create_time)?,
        expire_time: time(session.expire_time)?,
    })
}

/// The request for a Save that changes something.
///
/// # Errors
/// [`Error::Changed`] when the whole data is to be replaced and it is not known any more what is stored.
pub(super) fn save_request(save: &Save) -> Result<SaveRequest, Error> {
    let request = SaveRequest {
        rotate: save.rotate,
        subject: save.subject.clone(),
        idle_timeout: save.idle_timeout.map(duration),
        lifetime: save.lifetime.map(duration),
        request_id: save.operation.request_id.to_string(),
        omit_data: true,
        ..SaveRequest::default()
    };
    match &save.target {
        None => Ok(create_request(&save.content, request)),
        Some(target) => update_request(target, &save.content, request),
    }
}

/// The request for a new session: its data says everything, and names of keys would only count against their limit.
fn create_request(content: &Content, request: SaveRequest) -> SaveRequest {
    let data = match content {
        Content::Keep => encode([]),
        Content::Whole(data) => encode(data),
        Content::Keys(keys) => encode(values(keys)),
    };
    SaveRequest { session: Some(v1::Session { data: Some(data), ..v1::Session::default() }), ..request }
}

fn update_request(target: &Target, content: &Content, request: SaveRequest) -> Result<SaveRequest, Error> {
    let etag = match target {
        Target::Opened(session) => session.etag.clone(),
        Target::Named(_) => ANY_VERSION.to_owned(),
    };
    // The etag guards only a replacement. For every other change it tells the service how far back a repeat may lie.
    let session = v1::Session { id: target.id().expose().to_owned(), etag, ..v1::Session::default() };
    Ok(match content {
        Content::Keep => SaveRequest { session: Some(session), ..request },
        Content::Whole(_) if session.etag.is_empty() => return Err(Error::Changed),
        Content::Whole(data) => SaveRequest {
            session: Some(v1::Session { data: Some(encode(data)), ..session }),
            replace_all: true,
            ..request
        },
        Content::Keys(keys) => {
            let data = values(keys).next().is_some().then(|| encode(values(keys)));
            let names = |is_set: bool| keys.iter().filter(move |(_, value)| value.is_some() == is_set);
            SaveRequest {
                session: Some(v1::Session { data, ..session }),
                changed_keys: names(true).map(|(key, _)| key.clone()).collect(),
                removed_keys: names(false).map(|(key, _)| key.clone()).collect(),
                ..request
            }
        }
    })
}

/// The keys that get a value.
fn values(keys: &BTreeMap<String, Option<Value>>) -> impl Iterator<Item = (&String, &Value)> {
    keys.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
}

/// What protobuf cannot hold is more than any ceiling, to which the service cuts it.
fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs().min(315_576_000_000) as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

pub(super) fn destroy_request(id: &SessionId, etag: &str) -> DestroyRequest {
    DestroyRequest { id: id.expose().to_owned(), etag: etag.to_owned() }
}
