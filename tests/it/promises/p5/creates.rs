//! A create whose answer was lost.

use serde_json::json as j;
use sessiond_proto::v1::SaveRequest;
use sessiond_tests::{Calls, World, again, change, create, on_both_stores, reason};

use super::{others_save, repeatable, same, seconds, version};
use crate::promises::{open, refused, stored};

on_both_stores!(
    p5_a_repeated_create_makes_one_session_with_one_id,
    p5_a_repeated_create_answers_late_too_but_vouches_for_nothing_that_others_wrote,
    p5_a_create_under_a_request_id_that_made_another_session_is_refused_and_shows_nothing,
    p5_a_create_repeated_after_its_session_was_rotated_or_destroyed_is_refused,
);

async fn p5_a_repeated_create_makes_one_session_with_one_id(world: World) {
    let mut stub = world.stub();
    let request = repeatable(SaveRequest { subject: Some("ada".to_owned()), ..create(j!({"a": 1, "b": [true]})) });
    let lost = stub.store(request.clone()).await.unwrap();
    for _ in 0..3 {
        // Over another connection, and so perhaps on another of the server's threads.
        assert!(same(&world.stub().store(request.clone()).await.unwrap(), &lost));
        assert!(same(&world.stub().store(again(&request)).await.unwrap(), &lost));
    }
    assert!(same(&open(&mut stub, &lost.id).await, &lost));
    if let Some(redis) = &world.redis {
        assert_eq!(redis.command::<u64>(&["DBSIZE"]).await, 1);
    }
}

async fn p5_a_repeated_create_answers_late_too_but_vouches_for_nothing_that_others_wrote(world: World) {
    let mut stub = world.stub();
    let whole = repeatable(create(j!({"a": 1})));
    let brief = repeatable(SaveRequest { omit_data: true, ..create(j!({"a": 1})) });
    for request in [whole, brief] {
        let lost = stub.store(request.clone()).await.unwrap();
        let newest = others_save(&mut stub, &lost, 12).await;
        let repeated = stub.store(again(&request)).await.unwrap();
        assert_eq!(repeated.id, lost.id);
        if request.omit_data {
            assert_eq!((repeated.data, &repeated.etag[..]), (None, ""));
        } else {
            assert_eq!((stored(&repeated), &repeated.etag), (j!({"a": 1, "theirs": 11}), &newest.etag));
        }
        assert_eq!(version(&open(&mut stub, &lost.id).await), 13, "one create and twelve Saves");
    }
}

async fn p5_a_create_under_a_request_id_that_made_another_session_is_refused_and_shows_nothing(world: World) {
    let mut stub = world.stub();
    let request = repeatable(create(j!({"visitor": "lovelace"})));
    let first = stub.store(request.clone()).await.unwrap();
    let others = [
        SaveRequest { request_id: request.request_id.clone(), ..create(j!({"visitor": "bob"})) },
        SaveRequest { subject: Some("bob".to_owned()), ..request.clone() },
        SaveRequest { idle_timeout: seconds(60), ..request.clone() },
        SaveRequest { request_id: request.request_id.to_uppercase(), ..create(j!({})) },
    ];
    for other in others {
        let answer = stub.store(other).await.unwrap_err();
        assert_eq!(reason(&answer), "OUTCOME_UNKNOWN");
        let said = format!("{answer:?}{}", String::from_utf8_lossy(answer.details()));
        assert!(!said.contains(&first.handle) && !said.contains("lovelace"), "no visitor meets another's session");
    }
    assert!(same(&open(&mut stub, &first.id).await, &first), "nor changes it");
    assert!(same(&stub.store(again(&request)).await.unwrap(), &first), "and its own repeat is still answered");
}

async fn p5_a_create_repeated_after_its_session_was_rotated_or_destroyed_is_refused(world: World) {
    let mut stub = world.stub();
    let request = repeatable(create(j!({"a": 1})));
    let old = stub.store(request.clone()).await.unwrap();
    let login = SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..change(&old, &["a"], j!({"a": 2})) };
    let new = stub.store(login).await.unwrap();
    assert_eq!(refused(stub.store(again(&request)).await), "OUTCOME_UNKNOWN", "what came after the login is not shown");
    assert_eq!(open(&mut stub, &new.id).await.etag, new.etag);

    stub.end(&new.id).await.unwrap();
    for repeat in [again(&request), tonic::Request::new(request.clone())] {
        assert_eq!(refused(stub.store(repeat).await), "SESSION_NOT_FOUND");
    }
    assert!(stub.look(&old.id).await.is_none() && stub.look(&new.id).await.is_none());
}
