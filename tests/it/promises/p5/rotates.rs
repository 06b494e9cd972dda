//! A rotate whose answer was lost, and what else the replaced id is good for.

use serde_json::json as j;
use sessiond_proto::v1::SaveRequest;
use sessiond_tests::{Calls, World, again, change, create, on_both_stores, reason, replace, request_id};

use super::{any, others_save, repeatable, same, version};
use crate::promises::{open, stored};

on_both_stores!(
    p5_a_repeated_rotate_gives_the_same_new_id,
    p5_a_replaced_id_is_good_for_the_repeat_of_its_rotate_alone,
    p5_a_save_repeated_after_a_rotate_is_refused_and_shows_nothing,
);

async fn p5_a_repeated_rotate_gives_the_same_new_id(world: World) {
    let mut stub = world.stub();
    for (subject, omit_data) in [(None, false), (Some("ada"), false), (Some("ada"), true)] {
        let old = stub.store(create(j!({"a": 1}))).await.unwrap();
        let request = repeatable(SaveRequest {
            rotate: true,
            subject: subject.map(str::to_owned),
            omit_data,
            ..change(&old, &["a"], j!({"a": 2}))
        });
        let lost = stub.store(request.clone()).await.unwrap();
        for _ in 0..2 {
            assert!(same(&stub.store(request.clone()).await.unwrap(), &lost));
            assert!(same(&world.stub().store(again(&request)).await.unwrap(), &lost));
        }
        // Late, when the new id is already in use.
        let newest = others_save(&mut stub, &lost, 3).await;
        let repeated = stub.store(again(&request)).await.unwrap();
        assert_eq!(repeated.id, lost.id);
        assert_eq!(repeated.etag, if omit_data { "" } else { &newest.etag });
        assert_eq!(version(&open(&mut stub, &lost.id).await), 5, "a create, a rotate and three Saves");
        assert!(stub.look(&old.id).await.is_none());
    }
}

async fn p5_a_replaced_id_is_good_for_the_repeat_of_its_rotate_alone(world: World) {
    let mut stub = world.stub();
    let old = stub.store(create(j!({"a": 1}))).await.unwrap();
    let rotate = repeatable(SaveRequest { rotate: true, ..change(&old, &["a"], j!({"a": 2})) });
    let new = stub.store(rotate.clone()).await.unwrap();

    let others = [
        SaveRequest { request_id: request_id(), ..rotate.clone() },
        SaveRequest { request_id: String::new(), ..rotate.clone() },
        SaveRequest { rotate: false, ..rotate.clone() },
        SaveRequest { subject: Some("mallory".to_owned()), ..rotate.clone() },
        SaveRequest { request_id: rotate.request_id.clone(), rotate: true, ..change(&old, &["a"], j!({"a": 3})) },
        change(&old, &["a"], j!({"a": 3})),
        replace(&any(&old), j!({"a": 3})),
    ];
    for other in others {
        for answer in [stub.store(other.clone()).await, stub.store(again(&other)).await] {
            let status = answer.expect_err("the old id saves nothing");
            assert!(["SESSION_NOT_FOUND", "OUTCOME_UNKNOWN"].contains(&&reason(&status)[..]));
            let said = format!("{status:?}{}", String::from_utf8_lossy(status.details()));
            assert!(!said.contains(&new.id[33..]), "and is told nothing");
        }
    }
    assert_eq!(open(&mut stub, &new.id).await.etag, new.etag);
    assert!(same(&stub.store(again(&rotate)).await.unwrap(), &new), "whose repeat is still answered");

    // Another rotate, and the first one's repeat is out of date: its id is dead, and the answer does not bring it back.
    let newer = stub.store(SaveRequest { rotate: true, ..replace(&new, j!({})) }).await.unwrap();
    assert!(stub.store(again(&rotate)).await.is_err());
    assert_eq!(open(&mut stub, &newer.id).await.etag, newer.etag);
}

async fn p5_a_save_repeated_after_a_rotate_is_refused_and_shows_nothing(world: World) {
    let mut stub = world.stub();
    let old = stub.store(create(j!({"a": 1}))).await.unwrap();
    let save = repeatable(change(&old, &["a"], j!({"a": 2})));
    stub.store(save.clone()).await.unwrap();
    let login =
        SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..change(&old, &["secret"], j!({"secret": "s"})) };
    let new = stub.store(login).await.unwrap();
    for repeat in [again(&save), tonic::Request::new(save.clone())] {
        let status = stub.store(repeat).await.unwrap_err();
        assert_eq!(reason(&status), "OUTCOME_UNKNOWN", "it was applied, and the old id may not see it");
        assert!(!String::from_utf8_lossy(status.details()).contains("secret"));
    }
    let stands = open(&mut stub, &new.id).await;
    assert_eq!((stored(&stands), stands.etag), (j!({"a": 2, "secret": "s"}), new.etag));
}
