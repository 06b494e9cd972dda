use std::{collections::BTreeMap, time::Instant};

use serde_json::json as j;
use sessiond::session::Ring;
use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{
    Calls, Stub, World, again, change, create, is_outage, on_both_stores_and_through_several, reason, request_id,
};
use tonic::{IntoRequest, Status};

use super::{any, look, map, version};

on_both_stores_and_through_several!(p1_p5_a_thousand_parallel_first_attempts_on_one_session_are_all_applied_once);

/// Callers at once, each with one operation.
const CALLERS: usize = 1_000;

/// Connections that they share. On one there are at most 256 calls at once.
const CONNECTIONS: usize = 20;

async fn p1_p5_a_thousand_parallel_first_attempts_on_one_session_are_all_applied_once(world: World) {
    let stubs: Vec<Stub> = (0..CONNECTIONS).map(|_| world.stub()).collect();
    for stub in &stubs {
        look(stub, "").await;
    }
    let session = stubs[0].clone().store(create(j!({"start": 1}))).await.expect("it is created");
    let requests: Vec<_> = (0..CALLERS).map(|number| a_key_of_its_own(&session, number)).collect();
    let begin = Instant::now();
    let answers = all_at_once(&stubs, &requests, SaveRequest::clone).await;
    let took = begin.elapsed();
    // A machine that is too slow for a thousand calls within their deadlines leaves some without an answer.
    let outages = answers.iter().filter(|answer| answer.as_ref().is_err_and(is_outage)).count();
    let refused = reasons(answers.iter().filter(|answer| !answer.as_ref().is_err_and(is_outage)));
    println!("{}: {CALLERS} first attempts, refused {refused:?}, without an answer {outages}", world.name());
    assert!(refused.is_empty(), "first attempts were refused: {refused:?}");
    let stands = look(&stubs[0], &session.id).await.expect("it is there");
    let there = map(&stands);
    let acknowledged: Vec<_> = (0..CALLERS).filter(|number| answers[*number].is_ok()).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|number| !there.contains_key(&format!("key-{number}"))).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    assert_eq!(version(&stands), there.len(), "every operation was applied once");

    let requests: Vec<_> = acknowledged.iter().map(|number| requests[*number].clone()).collect();
    let repeats = all_at_once(&stubs, &requests, again).await;
    let mut refused = reasons(repeats.iter().filter(|answer| !answer.as_ref().is_err_and(is_outage)));
    if took >= Ring::SPAN {
        // So slow that the oldest marks were dropped before the last operations came.
        refused.remove("OUTCOME_UNKNOWN");
    }
    assert!(refused.is_empty(), "repeats were refused: {refused:?}");
    let after = look(&stubs[0], &session.id).await.expect("it is there");
    assert_eq!(version(&after), map(&after).len(), "no repeat was applied");
}

fn a_key_of_its_own(session: &Session, number: usize) -> SaveRequest {
    let key = format!("key-{number}");
    let request = change(&any(session), &[&key], j!({ &key: number }));
    SaveRequest { request_id: request_id(), omit_data: true, ..request }
}

async fn all_at_once<R: IntoRequest<SaveRequest> + Send + 'static>(
    stubs: &[Stub],
    requests: &[SaveRequest],
    sent: impl Fn(&SaveRequest) -> R,
) -> Vec<Result<Session, Status>> {
    let call = |(number, request): (usize, &SaveRequest)| {
        let (mut stub, request) = (stubs[number % stubs.len()].clone(), sent(request));
        tokio::spawn(async move { stub.store(request).await })
    };
    let calls: Vec<_> = requests.iter().enumerate().map(call).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("no call panics"));
    }
    answers
}

/// How many calls were refused, by reason.
fn reasons<'a>(answers: impl Iterator<Item = &'a Result<Session, Status>>) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for status in answers.filter_map(|answer| answer.as_ref().err()) {
        *reasons.entry(reason(status)).or_default() += 1;
    }
    reasons
}
