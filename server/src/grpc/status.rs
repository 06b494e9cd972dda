//! The one table of status codes. Every status carries one `google.rpc.ErrorInfo`, whose reason is explained in
//! `error_reason.proto`, and the same reason as plain text in the trailer [`REASON`]. A cause that the caller must not see is
//! logged here, once.

use std::{collections::HashMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use sessiond_proto::v1::ErrorReason;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::{debug, error};

use super::{MAX_MESSAGE_BYTES, MAX_METADATA_BYTES, wire::Unreadable};
use crate::{
    log_limit::LogLimit,
    rules::{Error, Limits},
    store::StoreError,
};

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "sessiond";

/// The trailer that repeats the reason, so that a caller needs no protobuf to read it.
const REASON: &str = "sessiond-reason";

/// For the causes of INTERNAL that lie in the store.
static STORE_ERRORS: LogLimit = LogLimit::new();

/// When to try again after UNAVAILABLE. Clients add jitter of their own.
const RETRY_DELAY: Duration = Duration::from_millis(100);

pub(super) fn of(error: Error, limits: &Limits) -> Status {
    use ErrorReason as Reason;
    match error {
        Error::NotFound => new(Reason::SessionNotFound, "there is no such session: start a new one"),
        Error::Changed => new(Reason::SessionChanged, "the session was changed since: open it again and decide again"),
        Error::OutcomeUnknown => new(
            Reason::OutcomeUnknown,
            "this may have been applied before: open the session again, compare your keys and decide",
        ),
        Error::SubjectNeedsRotate => invalid(vec![(
            "subject".to_owned(),
            "differs from the session's: set rotate too, so that the id changes with who is signed in".to_owned(),
        )]),
        Error::TooLarge => too_large("the session's data", limits.max_session_bytes),
        Error::Store(StoreError::Unavailable(cause) | StoreError::WritesRefused(cause)) => {
            // Said by the readiness probe once per outage; per call only when asked for.
            debug!(%cause, "the store is unavailable");
            new(Reason::StoreUnavailable, "the store is unavailable: try again, and leave the visitor's cookie alone")
        }
        Error::Store(StoreError::Full(cause)) => {
            debug!(%cause, "the store is full");
            new(Reason::StoreFull, "the store has no room: opening and destroying still work")
        }
        Error::Store(error @ (StoreError::Broken(_) | StoreError::Denied(_))) => {
            // Every call may fail so, and callers make as many as they like.
            if let Some(held_back) = STORE_ERRORS.pass() {
                error!(%error, held_back, "answered INTERNAL");
            }
            internal()
        }
    }
}

pub(super) fn unreadable(unreadable: Unreadable) -> Status {
    match unreadable {
        Unreadable::Fields(violations) => invalid(violations),
        Unreadable::TooLarge(limit) => too_large("the session's data", limit),
    }
}

/// A call that would be one too many.
pub(super) fn overloaded() -> Status {
    new(ErrorReason::Overloaded, "this server has more to do than it can: try again")
}

/// A call that took too long elsewhere than in the store.
pub(super) fn deadline() -> Status {
    new(ErrorReason::Deadline, "the deadline ran out: repeat it with the same request_id")
}

/// What cannot happen, and did; whoever calls this logs the cause.
pub(super) fn internal() -> Status {
    new(ErrorReason::Internal, "something went wrong in sessiond: the cause is in its log")
}

/// Bytes that are not the message of the call.
pub(super) fn unreadable_message() -> Status {
    invalid(vec![("request".to_owned(), "is not this call's message".to_owned())])
}

/// A message that is not read, as it has too many bytes.
pub(super) fn message_too_large() -> Status {
    too_large("the message", MAX_MESSAGE_BYTES)
}

/// A call whose metadata is above the limit. The call is at fault and not this server: so not RESOURCE_EXHAUSTED, as grpc-core
/// has it, which callers may repeat.
pub(super) fn too_much_metadata() -> Status {
    let why = format!(
        "has more than {MAX_METADATA_BYTES} bytes (for each header, its name, its value and 32 more): send fewer or shorter \
         headers"
    );
    let limit = HashMap::from([("limit_bytes".to_owned(), MAX_METADATA_BYTES.to_string())]);
    with(ErrorReason::InvalidField, &format!("metadata {why}"), limit, vec![("metadata".to_owned(), why)])
}

/// A message that cannot be read, as it is compressed. In gRPC's own words, as for all that it negotiates by itself.
pub(super) fn compressed() -> Status {
    let accepted = (HeaderName::from_static("grpc-accept-encoding"), HeaderValue::from_static("identity"));
    let metadata = MetadataMap::from_headers(HeaderMap::from_iter([accepted]));
    Status::with_metadata(Code::Unimplemented, "messages are not compressed here: send them as they are", metadata)
}

/// That a call to another service took too long. In gRPC's own words.
pub(super) fn late() -> Status {
    Status::deadline_exceeded("the deadline ran out")
}

/// A method that the service does not have. In gRPC's own words.
pub(super) fn no_method() -> Status {
    Status::unimplemented("the service has no such method")
}

/// The table.
fn new(reason: ErrorReason, message: &str) -> Status {
    with(reason, message, HashMap::new(), Vec::new())
}

fn invalid(violations: Vec<(String, String)>) -> Status {
    let named: Vec<_> = violations.iter().map(|(field, why)| format!("{field} {why}")).collect();
    with(ErrorReason::InvalidField, &named.join("; "), HashMap::new(), violations)
}

fn too_large(what: &str, limit: usize) -> Status {
    let metadata = HashMap::from([("limit_bytes".to_owned(), limit.to_string())]);
    let message = format!("{what} would have more than {limit} bytes: keep less, or keep it elsewhere");
    with(ErrorReason::SessionTooLarge, &message, metadata, Vec::new())
}

fn with(
    reason: ErrorReason,
    message: &str,
    metadata: HashMap<String, String>,
    violations: Vec<(String, String)>,
) -> Status {
    use ErrorReason as Reason;
    let code = match reason {
        Reason::SessionNotFound => Code::NotFound,
        Reason::SessionChanged | Reason::OutcomeUnknown => Code::Aborted,
        Reason::InvalidField | Reason::SessionTooLarge => Code::InvalidArgument,
        Reason::StoreFull => Code::ResourceExhausted,
        Reason::StoreUnavailable | Reason::Overloaded => Code::Unavailable,
        Reason::Deadline => Code::DeadlineExceeded,
        Reason::CallerUnknown => Code::Unauthenticated,
        Reason::CallerNotAllowed => Code::PermissionDenied,
        Reason::Internal | Reason::Unspecified => Code::Internal,
    };
    let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
    let mut details = ErrorDetails::with_error_info(name, DOMAIN, metadata);
    if code == Code::Unavailable {
        details.set_retry_info(Some(RETRY_DELAY));
    }
    for (field, why) in violations {
        details.add_bad_request_violation(field, why);
    }
    let metadata = MetadataMap::from_headers(HeaderMap::from_iter([(
        HeaderName::from_static(REASON),
        HeaderValue::from_static(name),
    )]));
    Status::with_error_details_and_metadata(code, message, details, metadata)
}
