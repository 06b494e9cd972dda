use std::collections::BTreeMap;

use serde_json::json as j;
use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{
    Calls, Stub, World, again, change, create, is_outage, on_both_stores_and_through_several, reason, request_id,
};
use tokio::task::JoinSet;
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
    // A machine that is too slow for a thousand calls within their deadlines proves nothing: then once more.
    for _ in 0..10 {
        let session = stubs[0].clone().store(create(j!({"start": 1}))).await.expect("it is created");
        let requests: Vec<_> = (0..CALLERS).map(|number| a_key_of_its_own(&session, number)).collect();
        let answers = all_at_once(&stubs, &requests, SaveRequest::clone).await;
        let refused = reasons(&answers);
        println!("{}: {CALLERS} first attempts, refused {refused:?}", world.name());
        if answers.iter().any(|answer| answer.as_ref().is_err_and(is_outage)) {
            continue;
        }
        assert!(refused.is_empty(), "first attempts were refused: {refused:?}");
        let stands = look(&stubs[0], &session.id).await.expect("it is there");
        assert_eq!(map(&stands).len(), 1 + CALLERS, "every key is there");
        assert_eq!(version(&stands), 1 + CALLERS, "every operation was applied once");

        let refused = reasons(&all_at_once(&stubs, &requests, again).await);
        assert!(refused.is_empty(), "repeats were refused: {refused:?}");
        let after = look(&stubs[0], &session.id).await.expect("it is there");
        assert_eq!(after.etag, stands.etag, "no repeat was applied");
        return;
    }
    panic!("{CALLERS} Saves take longer than they should");
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
    let mut calls = JoinSet::new();
    for (number, request) in requests.iter().enumerate() {
        let (mut stub, request) = (stubs[number % stubs.len()].clone(), sent(request));
        calls.spawn(
            async move { stub.save(request).await.map(|answer| answer.into_inner().session.unwrap_or_default()) },
        );
    }
    calls.join_all().await
}

/// How many calls were refused, by reason.
fn reasons(answers: &[Result<Session, Status>]) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for status in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        *reasons.entry(reason(status)).or_default() += 1;
    }
    reasons
}
