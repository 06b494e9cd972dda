//! How a repeat is told from a new operation, and what its caller can know.

use std::time::Duration;

use super::{SaveCommand, Target};
use crate::{
    session::{App, Etag, Mark, MarkBuilder, Record, RequestId, Secret, SessionId},
    store::{Change, Expected, Found},
};

/// The id that this operation minted, if the session's current secret is the one it would mint: then it is its repeat.
pub(super) fn minted(app: &App, found: &Found, mark: &Mark) -> Option<SessionId> {
    let handle = found.record.handle;
    let secret = Secret::mint(&found.record.salt, app, handle, mark);
    (secret.hash(app, handle) == found.record.current).then_some(SessionId { handle, secret })
}

/// Whether no one saved after this operation.
pub(super) fn is_newest(record: &Record, mark: &Mark) -> bool {
    record.etag().mark == mark.short()
}

/// Whether what the last operation changed is exactly the version that its caller had seen.
pub(super) fn follows(record: &Record, expected: Expected) -> bool {
    let mark = record.ring.slots.get(1).map(|(mark, _)| *mark);
    mark.is_some_and(|mark| expected.is(Etag { version: record.version - 1, mark }))
}

/// An operation's mark covers all that its repeat sends again; so a request id that is reused for something else is not
/// taken for a repeat. Entries come in key order, as the wire sorted them: the order a map was sent in says nothing.
pub(super) fn mark(command: &SaveCommand, request_id: &RequestId) -> Mark {
    let bytes = |span: Option<Duration>| span.map(|span| span.as_nanos().to_be_bytes());
    let (idle_timeout, lifetime) = (bytes(command.idle_timeout), bytes(command.lifetime));
    let begin = |operation| {
        MarkBuilder::new(operation, request_id)
            .optional(command.subject.as_deref().map(str::as_bytes))
            .optional(idle_timeout.as_ref().map(|bytes| &bytes[..]))
            .optional(lifetime.as_ref().map(|bytes| &bytes[..]))
    };
    match &command.target {
        Target::Create(data) => begin("create").field(data.as_bytes()),
        Target::Update { expected, change, rotate, .. } => {
            let mark = begin(if *rotate { "rotate" } else { "update" });
            let mark = match expected {
                Expected::Any => mark.field(b"*"),
                Expected::Unreadable => mark.field(b"?"),
                Expected::Etag(etag) => mark.field(&etag.version.to_be_bytes()).field(&etag.mark.0),
            };
            match change {
                Change::Keep => mark.field(b"keep"),
                Change::Replace(data) => mark.field(b"replace").field(data.as_bytes()),
                Change::Merge(changes) => changes.iter().fold(mark.field(b"merge"), |mark, change| {
                    mark.field(&change.key).optional(change.entry.as_deref())
                }),
            }
        }
    }
    .finish()
}
