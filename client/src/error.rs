//! Why a call failed. The reason that sessiond gives decides, never the text: it is in the `google.rpc.ErrorInfo` of the
//! status and in the trailer `sessiond-reason`. A status with neither does not come from sessiond and is an outage.

use std::{error, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorInfo, StatusExt};

use crate::ValueError;

/// Whatever lies below: kept for a log, not for decisions.
type Cause = Box<dyn error::Error + Send + Sync>;

/// The domain of sessiond's `ErrorInfo`.
const DOMAIN: &str = "sessiond";

/// The trailer that repeats the reason as plain text.
const REASON: &str = "sessiond-reason";

/// How long to wait after an outage that did not say for how long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call failed. One variant per reason of `error_reason.proto` that a caller can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An outage: the service or its store is unavailable, the deadline ran out, the connection broke, or something between
    /// here and the service answered in its place (any status without a reason of sessiond's, except UNIMPLEMENTED). It never
    /// means "no session": answer 503 and leave the cookie alone. A Save that ends so was applied or not, or may still be,
    /// within the two seconds that the service gives its store once it sees the call: repeat it as
    /// [`Save::again`](crate::Save::again) does, and it takes effect once.
    #[error("sessions cannot be reached just now: try again")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// What was seen, if anything was.
        #[source]
        cause: Option<Cause>,
    },
    /// There is no such session (any more): it is unknown, expired, destroyed, or its id was replaced (NOT_FOUND).
    #[error("there is no such session (any more): start a new one")]
    NotFound,
    /// Another writer was first (ABORTED, SESSION_CHANGED): open again, and decide again.
    #[error("the session was changed meanwhile: open it again and decide again")]
    Changed,
    /// A repeat whose first outcome can no longer be known (ABORTED, OUTCOME_UNKNOWN): open again, compare, decide.
    #[error("it cannot be known whether this was applied: open the session again and compare")]
    OutcomeUnknown,
    /// The session would hold more than the service allows (INVALID_ARGUMENT, SESSION_TOO_LARGE).
    #[error("the session would be larger than the service allows{}", limit(.limit_bytes))]
    TooLarge {
        /// The limit in bytes, as the service told it.
        limit_bytes: Option<u64>,
    },
    /// The store has no room (RESOURCE_EXHAUSTED, STORE_FULL): opening and destroying still work.
    #[error("the session store is full: opening and destroying still work")]
    StoreFull,
    /// A value cannot be kept, or is not what the caller reads it as.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The service refused the request as it stands (INVALID_ARGUMENT, INVALID_FIELD): what it said of each field.
    #[error("the service refused the request: {0}")]
    Refused(String),
    /// The service does not know this caller, or does not allow it this (UNAUTHENTICATED, PERMISSION_DENIED).
    #[error("the service does not let this caller in: check its token")]
    Forbidden(#[source] Cause),
    /// The server does not know the call (UNIMPLEMENTED): it is not sessiond, or an older version of it.
    #[error("the server at this address does not know the call: it is not sessiond, or an older version of it")]
    Unimplemented(#[source] Cause),
    /// Anything else: a fault in the service, an answer that cannot be read, or a reason that this version does not know.
    #[error("the session service failed")]
    Internal(#[source] Cause),
}

impl Error {
    /// Whether this is an outage, to be answered by 503: it says nothing of the session.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The reason that the service gave, a name from `error_reason.proto`: for logs and for bindings to other languages. `None`
    /// if it gave none: the connection broke, for example, or a proxy answered.
    pub fn reason(&self) -> Option<String> {
        let told = |cause: &Cause| reason_of(cause.downcast_ref::<Status>()?);
        let known = |reason: &str| Some(reason.to_owned());
        match self {
            Self::Unavailable { cause, .. } => cause.as_ref().and_then(told),
            Self::Forbidden(cause) | Self::Unimplemented(cause) | Self::Internal(cause) => told(cause),
            Self::NotFound => known("SESSION_NOT_FOUND"),
            Self::Changed => known("SESSION_CHANGED"),
            Self::OutcomeUnknown => known("OUTCOME_UNKNOWN"),
            Self::TooLarge { .. } => known("SESSION_TOO_LARGE"),
            Self::StoreFull => known("STORE_FULL"),
            Self::Refused(_) => known("INVALID_FIELD"),
            Self::Value(_) => None,
        }
    }

    pub(crate) fn deadline() -> Self {
        Self::Unavailable { retry_after: RETRY_AFTER, cause: Some("the deadline ran out".into()) }
    }

    pub(crate) fn unreachable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable { retry_after: RETRY_AFTER, cause: Some(cause.into()) }
    }
}

fn limit(bytes: &Option<u64>) -> String {
    bytes.map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default()
}

/// A failed attempt, as the retries see it.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether the call may be repeated: an outage that may end soon.
    pub(crate) repeatable: bool,
    /// Whether the server did not answer, so that its connection is in doubt.
    pub(crate) lost: bool,
    /// How long to wait before a repeat, if the service or a proxy said so.
    pub(crate) asked_to_wait: Option<Duration>,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let asked_to_wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let retry_after = asked_to_wait.unwrap_or(RETRY_AFTER);
        let code = status.code();
        let Some(reason) = reason_of(&status) else { return Self::without_reason(status, asked_to_wait) };
        let limit = info_of(&status).and_then(|info| info.metadata.get("limit_bytes")?.parse().ok());
        let error = match reason.as_str() {
            "SESSION_NOT_FOUND" => Error::NotFound,
            "SESSION_CHANGED" => Error::Changed,
            "OUTCOME_UNKNOWN" => Error::OutcomeUnknown,
            "SESSION_TOO_LARGE" => Error::TooLarge { limit_bytes: limit },
            "STORE_FULL" => Error::StoreFull,
            "INVALID_FIELD" => Error::Refused(status.message().to_owned()),
            "CALLER_UNKNOWN" | "CALLER_NOT_ALLOWED" => Error::Forbidden(status.into()),
            "INTERNAL" => Error::Internal(status.into()),
            // An outage, or a reason that this version does not know.
            _ => match code {
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => outage(retry_after, status),
                Code::NotFound => Error::NotFound,
                Code::InvalidArgument => Error::Refused(status.message().to_owned()),
                Code::Unauthenticated | Code::PermissionDenied => Error::Forbidden(status.into()),
                _ => Error::Internal(status.into()),
            },
        };
        let repeatable = error.is_outage() && code != Code::DeadlineExceeded;
        Self { error, repeatable, lost: false, asked_to_wait }
    }
}

impl Failed {
    /// A status that does not come from sessiond: the connection broke, or something in between answered.
    fn without_reason(status: Status, asked_to_wait: Option<Duration>) -> Self {
        use Code::{Aborted, Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
        let code = status.code();
        // A killed server or a broken connection is one of these, by library. Others are a proxy's answer, for which a repeat
        // a moment later would only be more load.
        let broken = matches!(code, Cancelled | Unknown | Aborted | Internal | Unavailable);
        let error = match code {
            Code::Unimplemented => Error::Unimplemented(status.into()),
            _ => outage(asked_to_wait.unwrap_or(RETRY_AFTER), status),
        };
        Self { error, repeatable: broken, lost: broken || code == DeadlineExceeded, asked_to_wait }
    }
}

/// sessiond's `ErrorInfo`; a proxy may have added its own.
fn info_of(status: &Status) -> Option<ErrorInfo> {
    status.get_error_details_vec().into_iter().find_map(|detail| match detail {
        ErrorDetail::ErrorInfo(info) if info.domain == DOMAIN => Some(info),
        _ => None,
    })
}

/// The reason that sessiond gave, in its `ErrorInfo` or else in the trailer.
fn reason_of(status: &Status) -> Option<String> {
    let is_given = |reason: &String| !reason.is_empty();
    let trailer = || Some(status.metadata().get(REASON)?.to_str().ok()?.to_owned());
    info_of(status).map(|info| info.reason).filter(is_given).or_else(trailer).filter(is_given)
}

fn outage(retry_after: Duration, status: Status) -> Error {
    Error::Unavailable { retry_after, cause: Some(status.into()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn told(code: Code, reason: &str) -> Failed {
        let limits = HashMap::from([("limit_bytes".to_owned(), "65536".to_owned())]);
        Status::with_error_details(
            code,
            "text that may change",
            ErrorDetails::with_error_info(reason, "sessiond", limits),
        )
        .into()
    }

    #[test]
    fn the_reason_decides_and_not_the_code() {
        assert!(matches!(told(Code::Aborted, "SESSION_CHANGED").error, Error::Changed));
        assert!(matches!(told(Code::Aborted, "OUTCOME_UNKNOWN").error, Error::OutcomeUnknown));
        assert!(matches!(told(Code::NotFound, "SESSION_NOT_FOUND").error, Error::NotFound));
        assert!(matches!(told(Code::ResourceExhausted, "STORE_FULL").error, Error::StoreFull));
        let too_large = told(Code::InvalidArgument, "SESSION_TOO_LARGE").error;
        assert_eq!(too_large.to_string(), "the session would be larger than the service allows (65536 bytes)");
    }

    #[test]
    fn an_error_knows_the_reason_that_was_given() {
        for reason in ["SESSION_CHANGED", "OVERLOADED", "CALLER_UNKNOWN", "INTERNAL", "SESSION_TOO_LARGE"] {
            assert_eq!(told(Code::Unavailable, reason).error.reason().as_deref(), Some(reason));
        }
        assert_eq!(Failed::from(Status::unavailable("broken pipe")).error.reason(), None);
    }

    #[test]
    fn only_an_outage_that_is_not_the_deadline_is_repeated() {
        assert!(told(Code::Unavailable, "STORE_UNAVAILABLE").repeatable);
        assert!(told(Code::Unavailable, "OVERLOADED").repeatable);
        for (code, reason) in [
            (Code::DeadlineExceeded, "DEADLINE"),
            (Code::Aborted, "OUTCOME_UNKNOWN"),
            (Code::NotFound, "SESSION_NOT_FOUND"),
            (Code::ResourceExhausted, "STORE_FULL"),
            (Code::Internal, "INTERNAL"),
        ] {
            assert!(!told(code, reason).repeatable, "{reason}");
        }
    }

    #[test]
    fn a_status_without_a_reason_is_an_outage() {
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled] {
            let failed = Failed::from(Status::new(code, "broken pipe"));
            assert!(failed.repeatable && failed.error.is_outage() && failed.lost, "{code:?}");
        }
        // A proxy answered: no reason to believe that the session is gone, nor that the connection is.
        let failed = Failed::from(Status::not_found("nginx"));
        assert!(!failed.repeatable && failed.error.is_outage() && !failed.lost);
        assert!(matches!(Failed::from(Status::unimplemented("")).error, Error::Unimplemented(_)));
    }
}
