//! Protobuf and our own types: what is sent, and what an answer says.

use std::time::{Duration, SystemTime};

use sessiond_proto::v1::{self, DestroyRequest, OpenResponse, SaveRequest, SaveResponse};

use crate::{
    Error, Map, Save, Session, SessionId,
    session::Content,
    value::{decode, encode},
};

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
    let before = save.target.map(|target| target.data).unwrap_or_default();
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

/// The request for a Save.
///
/// # Errors
/// [`Error::Changed`] when the whole data is to be replaced and it is not known any more what is stored.
pub(super) fn save_request(save: &Save) -> Result<SaveRequest, Error> {
    let is_new = save.target.is_none();
    let (mut changed_keys, mut removed_keys) = (Vec::new(), Vec::new());
    let data = match &save.content {
        // A new session needs data, even empty.
        Content::Keep => is_new.then(|| encode([])),
        Content::Whole(data) => Some(encode(data)),
        Content::Keys(keys) => {
            for (key, value) in keys {
                if value.is_some() { changed_keys.push(key.clone()) } else { removed_keys.push(key.clone()) }
            }
            let set = keys.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
            (is_new || !changed_keys.is_empty()).then(|| encode(set))
        }
    };
    let replace_all = matches!(save.content, Content::Whole(_));
    let (id, etag) = match &save.target {
        None => (String::new(), String::new()),
        Some(target) => {
            let etag = match &save.content {
                Content::Whole(_) if target.etag.is_empty() => return Err(Error::Changed),
                Content::Whole(_) => target.etag.clone(),
                // The etag of a change by keys guards nothing: it tells the service how far back a repeat may lie.
                Content::Keys(_) => target.etag.clone(),
                Content::Keep => String::new(),
            };
            (target.id.expose().to_owned(), etag)
        }
    };
    Ok(SaveRequest {
        session: Some(v1::Session { id, etag, data, ..v1::Session::default() }),
        changed_keys,
        removed_keys,
        replace_all,
        rotate: save.rotate,
        subject: save.subject.clone(),
        idle_timeout: save.idle_timeout.map(duration),
        lifetime: None,
        request_id: save.operation.request_id.to_string(),
        omit_data: true,
    })
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
