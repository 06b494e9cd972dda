//! What is asked again after an outage: when, how often, and how the service can tell. And what never is.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sessiond_client::{Error, Save};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use super::{
    SessionClient, deadlines, id, patient,
    scripted::{Answer, Asked, Scripted, outage, refusal},
    told,
};

/// Nobody needs to wait.
const AT_ONCE: Duration = Duration::ZERO;

/// All three calls, one after the other, and what became of them.
async fn all(client: &SessionClient) -> [Result<(), Error>; 3] {
    let opened = client.open(&id()).await.map(drop);
    let saved = client.save(Save::create()).await.map(drop);
    [opened, saved, client.destroy(&id()).await]
}

fn attempts(asked: &[Asked]) -> Vec<Option<&str>> {
    asked.iter().map(|asked| asked.header("grpc-previous-rpc-attempts")).collect()
}

#[tokio::test]
async fn an_outage_is_asked_again_as_the_same_operation() {
    let server = Scripted::start(|asked| if asked.before % 3 < 2 { Answer::No(outage(AT_ONCE)) } else { Answer::Fine });
    let client = patient(server.address());
    let mut request_ids = BTreeSet::new();
    for method in ["open", "save", "destroy", "save"] {
        match method {
            "open" => assert!(client.open(&id()).await.unwrap().is_none()),
            "save" => drop(client.save(Save::create()).await.unwrap()),
            _ => client.destroy(&id()).await.unwrap(),
        }
        let asked = server.asked();
        assert!(asked.iter().all(|asked| asked.method == method));
        assert_eq!(attempts(&asked), [None, Some("1"), Some("2")]);
        // Each says how much time is left of the one deadline.
        assert!(asked.windows(2).all(|pair| pair[1].timeout() < pair[0].timeout()));
        let ids: BTreeSet<_> = asked.into_iter().map(|asked| asked.request_id).collect();
        assert_eq!(ids.len(), 1, "one operation, one id");
        request_ids.extend(ids);
    }
    assert!(request_ids.remove(""), "an Open and a Destroy need none");
    assert_eq!(request_ids.len(), 2, "each Save is an operation of its own");
    for request_id in request_ids {
        let uuid = Uuid::parse_str(&request_id).expect("a UUID");
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
    }
}

/// An application that would not take an outage for an answer.
#[tokio::test]
async fn a_save_that_is_given_again_is_the_same_operation() {
    let server = Scripted::start(|asked| if asked.before < 4 { Answer::No(outage(AT_ONCE)) } else { Answer::Fine });
    let client = patient(server.address());
    let save = Save::of(&id()).rotate();
    let again = save.again();
    client.save(save).await.unwrap_err();
    client.save(again).await.unwrap();
    let asked = server.asked();
    assert_eq!(attempts(&asked), [None, Some("1"), Some("2"), Some("1"), Some("2")]);
    assert!(asked.iter().all(|one| one.request_id == asked[0].request_id));
}

#[tokio::test]
async fn three_times_and_no_more() {
    let server = Scripted::refusing(outage(Duration::from_millis(60)));
    let client = patient(server.address());
    for answer in all(&client).await {
        let error = answer.expect_err("it is an outage");
        assert!(matches!(error, Error::Unavailable { retry_after, .. } if retry_after == Duration::from_millis(60)));
        assert!(told(&error).contains("in words"), "{}", told(&error));
    }
    assert_eq!(server.asked().len(), 9);
}

#[tokio::test]
async fn nobody_is_asked_again_sooner_than_it_said() {
    let wait = Duration::from_millis(120);
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(wait));
    // The service itself, and a proxy in front of it.
    for refusal in [outage(wait), Status::with_error_details(Code::Unavailable, "busy", details)] {
        let server = Scripted::refusing(refusal);
        patient(server.address()).open(&id()).await.unwrap_err();
        let asked = server.asked();
        assert_eq!(asked.len(), 3);
        for pair in asked.windows(2) {
            assert!(pair[1].at - pair[0].at >= wait, "after {:?}", pair[1].at - pair[0].at);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_asked_again_in_time_fails_at_once() {
    let server = Scripted::refusing(outage(Duration::from_secs(9)));
    let client = SessionClient::builder().address(server.address().to_string());
    let client = client.deadlines(deadlines(Duration::from_secs(8))).build().unwrap();
    let begun = Instant::now();
    for answer in all(&client).await {
        let error = answer.expect_err("it is an outage");
        assert!(matches!(error, Error::Unavailable { retry_after, .. } if retry_after == Duration::from_secs(9)));
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited: {:?}", begun.elapsed());
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn waits_grow_and_are_spread() {
    let server = Scripted::refusing(outage(AT_ONCE));
    let mut waits = [Vec::new(), Vec::new()];
    for _ in 0..40 {
        // Each has a budget of its own.
        patient(server.address()).open(&id()).await.unwrap_err();
        let asked = server.asked();
        for (n, waits) in waits.iter_mut().enumerate() {
            waits.push(asked[n + 1].at - asked[n].at);
        }
    }
    let ms = Duration::from_millis;
    for (waits, least) in waits.iter_mut().zip([ms(20), ms(40)]) {
        waits.sort();
        let (shortest, longest) = (waits[0], waits[waits.len() - 1]);
        println!("waits of {shortest:?} to {longest:?}");
        assert!(shortest >= least, "{shortest:?}");
        assert!(longest - shortest >= ms(3), "all waited about {longest:?}");
    }
}

#[tokio::test]
async fn an_answer_is_never_asked_for_again() {
    for (code, reason) in [
        (Code::Aborted, "SESSION_CHANGED"),
        (Code::Aborted, "OUTCOME_UNKNOWN"),
        (Code::NotFound, "SESSION_NOT_FOUND"),
        (Code::InvalidArgument, "INVALID_FIELD"),
        (Code::InvalidArgument, "SESSION_TOO_LARGE"),
        (Code::ResourceExhausted, "STORE_FULL"),
        (Code::Internal, "INTERNAL"),
        (Code::DeadlineExceeded, "DEADLINE"),
        (Code::Unauthenticated, "CALLER_UNKNOWN"),
        (Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
    ] {
        let server = Scripted::refusing(refusal(code, reason));
        for answer in all(&patient(server.address())).await {
            answer.expect_err(reason);
        }
        assert_eq!(attempts(&server.asked()), [None; 3], "{reason}");
    }
}

/// A service that is down must not get more load for that than it had when it was up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_gets_a_tenth_more_calls_and_ten() {
    const CALLS: usize = 2_000;
    let server = Scripted::refusing(outage(AT_ONCE));
    let client = patient(server.address());
    let callers = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..CALLS / 20 {
                client.open(&id()).await.unwrap_err();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let asked = server.asked();
    let repeats = asked.len() - CALLS;
    println!("{CALLS} calls, {repeats} repeats");
    assert!((CALLS / 10..=CALLS / 10 + 10).contains(&repeats), "{repeats} repeats of {CALLS} calls");
}
