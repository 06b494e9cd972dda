//! What the application is told, and what the visitor is told if the application says nothing.

use std::time::Duration;

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use crate::{Error, ValueError};

/// Why a session cannot be had, or what was done to it not kept. As a response it is what the variants say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The service cannot be asked: 503 with `Retry-After`. It says nothing of the visitor's session, so the cookie stays.
    /// To go on without a session, extract `Option<Session>`.
    #[error("sessions cannot be reached just now: try again")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// What was seen.
        #[source]
        source: Error,
    },
    /// The session ended while this request ran (a logout, or a login in another tab, which gave it a new id), so what
    /// the request changed is not kept: 409. Nothing brings a session back.
    #[error("your session ended while this request ran: nothing was changed")]
    Vanished,
    /// Other requests changed what [`update`](super::Session::update) works on, again and again for 2 s: 409.
    #[error("too many requests changed your session at once: try again")]
    Conflict,
    /// It cannot be known whether the change was kept, since its answer was lost: 409. Read again, and decide.
    #[error("it cannot be known whether this was kept: look before you try again")]
    OutcomeUnknown,
    /// The response has left, and with it the chance to set a cookie: a session cannot be made then, nor get a new id. 500.
    #[error("the response has left: a session cannot be made then, nor get a new id")]
    ResponseLeft,
    /// A value cannot be kept, or is not what it is read as: 500.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The extractor was used where no [`SessionLayer`](super::SessionLayer) is: 500.
    #[error("there is no SessionLayer around this handler: add `.layer(SessionLayer::new(client))` to its router")]
    NoLayer,
    /// A form came back without this session's CSRF token: 403.
    #[error("this form is no longer good: open its page again and send it once more")]
    Forged,
    /// `sign_in` was given nobody: 500.
    #[error("nobody to sign in: the subject is empty; to sign out, destroy the session")]
    NoSubject,
    /// The service refused what was asked ([`Error::TooLarge`], a wrong token), or failed: 500; or its store is full
    /// ([`Error::StoreFull`]): 503.
    #[error(transparent)]
    Service(Error),
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable { retry_after, .. } => Self::Unavailable { retry_after, source: error },
            Error::NotFound => Self::Vanished,
            Error::Changed => Self::Conflict,
            Error::OutcomeUnknown => Self::OutcomeUnknown,
            Error::Value(error) => Self::Value(error),
            error => Self::Service(error),
        }
    }
}

impl SessionError {
    /// An outage that was seen before in this request.
    pub(super) fn outage(retry_after: Duration) -> Self {
        Self::Unavailable { retry_after, source: Error::Unavailable { retry_after, cause: None } }
    }

    /// The status of its response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable { .. } | Self::Service(Error::StoreFull) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Vanished | Self::Conflict | Self::OutcomeUnknown => StatusCode::CONFLICT,
            Self::Forged => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        let status = self.status();
        let text = match self {
            // What is wrong in the application or its set-up is for its log, and not for its visitors.
            Self::Service(_) | Self::Value(_) | Self::NoLayer | Self::NoSubject | Self::ResponseLeft => {
                tracing::error!(error = &self as &dyn std::error::Error, "a session could not be used");
                "something went wrong\n".to_owned()
            }
            _ => format!("{self}\n"),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // In whole seconds (RFC 9110), and never at once.
            let retry_after =
                if let Self::Unavailable { retry_after, .. } = self { retry_after } else { Duration::ZERO };
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}
