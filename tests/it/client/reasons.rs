//! Which error each status becomes: by the reason that sessiond gives, in its details or in the trailer, and without one.

use sessiond_client::{Error, Save};
use sessiond_proto::v1::ErrorReason;
use sessiond_tests::refused;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    patient,
    scripted::{Scripted, refusal},
    told,
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
        Error::Unimplemented(_) => "Unimplemented",
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

/// Every reason of the contract, without its prefix.
fn reasons() -> Vec<(ErrorReason, &'static str)> {
    let all = (0..).map_while(|number| ErrorReason::try_from(number).ok());
    let all: Vec<_> = all.map(|reason| (reason, reason.as_str_name().trim_start_matches("ERROR_REASON_"))).collect();
    assert!(all.len() > 10, "all of them");
    all
}

#[tokio::test]
async fn every_reason_of_the_contract_is_the_right_error() {
    for (reason, name) in reasons() {
        let (code, expected) = decided(reason);
        assert_eq!(kind(&made_of(refusal(code, name)).await), expected, "{name}");
    }
}

#[tokio::test]
async fn a_reason_that_only_the_trailer_gives_is_the_same_error() {
    for (reason, name) in reasons() {
        let (code, expected) = decided(reason);
        let error = made_of(refused(code, name)).await;
        assert_eq!((kind(&error), error.reason().as_deref()), (expected, Some(name)));
        // Details of something in between are not sessiond's, and hide nothing.
        let theirs = ErrorDetails::with_error_info("THEIRS", "example.com", []);
        let trailers = refused(code, name).metadata().clone();
        let error = made_of(Status::with_error_details_and_metadata(code, "in words", theirs, trailers)).await;
        assert_eq!((kind(&error), error.reason().as_deref()), (expected, Some(name)), "behind a proxy's details");
    }
}

/// Every code without sessiond's reason: the error that it becomes, and how often the client sends the call.
const WITHOUT_A_REASON: [(Code, &str, usize); 16] = [
    // A killed server or a broken connection shows as one of these, by library.
    (Code::Cancelled, "Unavailable", 3),
    (Code::Unknown, "Unavailable", 3),
    (Code::Aborted, "Unavailable", 3),
    (Code::Internal, "Unavailable", 3),
    (Code::Unavailable, "Unavailable", 3),
    // Whatever stands in between answers like this. A repeat a moment later would be answered the same.
    (Code::DeadlineExceeded, "Unavailable", 1),
    (Code::InvalidArgument, "Unavailable", 1),
    (Code::NotFound, "Unavailable", 1),
    (Code::AlreadyExists, "Unavailable", 1),
    (Code::PermissionDenied, "Unavailable", 1),
    (Code::ResourceExhausted, "Unavailable", 1),
    (Code::FailedPrecondition, "Unavailable", 1),
    (Code::OutOfRange, "Unavailable", 1),
    (Code::DataLoss, "Unavailable", 1),
    (Code::Unauthenticated, "Unavailable", 1),
    // Waiting does not help: this is not sessiond, or an older build.
    (Code::Unimplemented, "Unimplemented", 1),
];

#[tokio::test]
async fn an_error_without_sessionds_reason_is_an_outage() {
    for (code, expected, sent) in WITHOUT_A_REASON {
        // The message and the details of something else count for nothing, even if they look alike.
        let theirs = ErrorDetails::with_error_info("SESSION_NOT_FOUND", "example.com", []);
        for status in [
            Status::new(code, "SESSION_NOT_FOUND"),
            Status::with_error_details(code, "SESSION_NOT_FOUND", theirs),
            refusal(code, ""),
            refused(code, ""),
        ] {
            let server = Scripted::refusing(status);
            let error = patient(server.address()).save(Save::create()).await.expect_err("it was refused");
            assert_eq!((kind(&error), error.reason()), (expected, None), "{code:?}");
            assert!(told(&error).contains(code.description()), "{code:?}: the log shows the cause: {}", told(&error));
            let asked = server.asked();
            assert_eq!(asked.len(), sent, "{code:?}");
            assert!(asked.iter().all(|one| one.request_id == asked[0].request_id), "a repeat is the same operation");
        }
    }
}

#[tokio::test]
async fn a_call_that_the_server_does_not_know_names_what_is_wrong() {
    let error = made_of(Status::unimplemented("")).await;
    assert!(error.to_string().contains("not sessiond, or an older version"), "{error}");
    assert!(!error.is_outage());
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
