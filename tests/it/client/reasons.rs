//! What is made of each reason that the service gives.

use sessiond_client::{Error, Save};
use sessiond_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    patient,
    scripted::{Scripted, refusal},
};

/// What a Save comes to that is answered so.
async fn made_of(status: Status) -> Error {
    let server = Scripted::refusing(status);
    patient(server.address()).save(Save::create()).await.expect_err("it was refused")
}

/// Which variant it is.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Unavailable { .. } => "Unavailable",
        Error::NotFound => "NotFound",
        Error::Changed => "Changed",
        Error::OutcomeUnknown => "OutcomeUnknown",
        Error::TooLarge { .. } => "TooLarge",
        Error::StoreFull => "StoreFull",
        Error::Value(_) => "Value",
        Error::Refused(_) => "Refused",
        Error::Forbidden(_) => "Forbidden",
        Error::Internal(_) => "Internal",
        _ => "one that this test does not know",
    }
}

/// A new reason has to be decided here before anything compiles.
fn decided(reason: ErrorReason) -> (Code, &'static str) {
    use ErrorReason as Reason;
    match reason {
        Reason::SessionNotFound => (Code::NotFound, "NotFound"),
        Reason::SessionChanged => (Code::Aborted, "Changed"),
        Reason::OutcomeUnknown => (Code::Aborted, "OutcomeUnknown"),
        Reason::InvalidField => (Code::InvalidArgument, "Refused"),
        Reason::SessionTooLarge => (Code::InvalidArgument, "TooLarge"),
        Reason::StoreFull => (Code::ResourceExhausted, "StoreFull"),
        Reason::StoreUnavailable | Reason::Overloaded => (Code::Unavailable, "Unavailable"),
        Reason::Deadline => (Code::DeadlineExceeded, "Unavailable"),
        Reason::CallerUnknown => (Code::Unauthenticated, "Forbidden"),
        Reason::CallerNotAllowed => (Code::PermissionDenied, "Forbidden"),
        Reason::Internal => (Code::Internal, "Internal"),
        // Never sent.
        Reason::Unspecified => (Code::Internal, "Internal"),
    }
}

#[tokio::test]
async fn every_reason_of_the_contract_is_the_right_error() {
    let all: Vec<_> = (0..).map_while(|number| ErrorReason::try_from(number).ok()).collect();
    assert!(all.len() > 10, "all of them");
    for reason in all {
        let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        let (code, expected) = decided(reason);
        assert_eq!(kind(&made_of(refusal(code, name)).await), expected, "{name}");
    }
}

#[tokio::test]
async fn a_reason_of_a_later_version_goes_by_its_code() {
    for (code, expected) in [
        (Code::Unavailable, "Unavailable"),
        (Code::DeadlineExceeded, "Unavailable"),
        (Code::Cancelled, "Unavailable"),
        (Code::NotFound, "NotFound"),
        (Code::InvalidArgument, "Refused"),
        (Code::Unauthenticated, "Forbidden"),
        (Code::PermissionDenied, "Forbidden"),
        (Code::Internal, "Internal"),
        (Code::FailedPrecondition, "Internal"),
        (Code::DataLoss, "Internal"),
    ] {
        assert_eq!(kind(&made_of(refusal(code, "OF_TOMORROW")).await), expected, "{code:?}");
    }
}

#[tokio::test]
async fn a_reason_of_another_service_counts_for_nothing() {
    for (code, reason) in [(Code::NotFound, "SESSION_NOT_FOUND"), (Code::Aborted, "SESSION_CHANGED")] {
        let details = ErrorDetails::with_error_info(reason, "example.com", []);
        let error = made_of(Status::with_error_details(code, "theirs", details)).await;
        assert_eq!(kind(&error), "Internal");
    }
}

#[tokio::test]
async fn what_is_told_helps_whoever_reads_it() {
    let refused = made_of(refusal(Code::InvalidArgument, "INVALID_FIELD")).await;
    assert_eq!(refused.to_string(), "the service refused the request: in words");
    let nobody = made_of(refusal(Code::Unauthenticated, "CALLER_UNKNOWN")).await;
    assert!(nobody.to_string().contains("token"), "{nobody}");
    let limits = [("limit_bytes".to_owned(), "65536".to_owned())];
    let details = ErrorDetails::with_error_info("SESSION_TOO_LARGE", "sessiond", limits);
    let large = made_of(Status::with_error_details(Code::InvalidArgument, "", details)).await;
    assert!(matches!(large, Error::TooLarge { limit_bytes: Some(65_536) }), "{large:?}");
    for error in [refused, nobody, large] {
        assert!(!error.is_outage());
    }
}
