//! A Save whose answer was lost.

use serde_json::json as j;
use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{Calls, World, again, change, create, eventually, keep, on_both_stores, replace};

use super::{any, others_save, repeatable, same, seconds, version};
use crate::promises::{open, refused, stored};

on_both_stores!(
    p5_a_repeated_save_has_its_effect_once,
    p5_a_save_repeated_late_answers_with_what_others_wrote_since,
    p5_a_late_repeat_without_data_vouches_for_nothing,
    p5_repeats_in_any_order_have_their_effect_once,
    p5_a_repeat_that_nobody_remembers_is_refused,
    p5_one_request_id_with_two_payloads_is_two_operations,
);

async fn p5_a_repeated_save_has_its_effect_once(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({"n": 0}))).await.unwrap();
    let mut newest = first.clone();
    for omit_data in [false, true] {
        for kind in [
            "whole map",
            "whole map, any version",
            "changed keys",
            "changed keys, any version",
            "a removed key",
            "only a lifetime",
            "only an idle timeout",
        ] {
            let request = match kind {
                "whole map" => replace(&newest, j!({"n": kind})),
                "whole map, any version" => replace(&any(&newest), j!({"n": kind})),
                "changed keys" => change(&newest, &["n", "m"], j!({"n": kind})),
                "changed keys, any version" => change(&any(&newest), &["m"], j!({"m": kind})),
                "a removed key" => change(&newest, &["m"], j!({})),
                "only a lifetime" => SaveRequest { lifetime: seconds(3600), ..keep(&newest) },
                _ => SaveRequest { idle_timeout: seconds(60), ..keep(&newest) },
            };
            let request = repeatable(SaveRequest { omit_data, ..request });
            let lost = stub.store(request.clone()).await.unwrap();
            let stands = open(&mut stub, &first.id).await;
            for _ in 0..2 {
                assert!(same(&stub.store(request.clone()).await.unwrap(), &lost), "{kind}");
                assert!(same(&world.stub().store(again(&request)).await.unwrap(), &lost), "{kind}");
            }
            assert!(lost.etag.is_empty() || lost.etag == stands.etag);
            let etag = stands.etag.clone();
            newest = open(&mut stub, &first.id).await;
            assert_eq!((&newest.etag, version(&newest)), (&etag, version(&stands)), "{kind}");
        }
    }
    assert_eq!(version(&newest), 15, "one create and fourteen Saves");
}

async fn p5_a_save_repeated_late_answers_with_what_others_wrote_since(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({"a": 0}))).await.unwrap();
    for request in [replace(&first, j!({"a": 1})), change(&first, &["a"], j!({"a": 1}))] {
        let request = SaveRequest {
            session: Some(Session { etag: open(&mut stub, &first.id).await.etag, ..request.session.unwrap() }),
            ..repeatable(SaveRequest { session: None, ..request })
        };
        stub.store(request.clone()).await.unwrap();
        let theirs = stub.store(change(&first, &["a", "b"], j!({"a": "theirs", "b": 2}))).await.unwrap();
        for _ in 0..2 {
            let repeated = stub.store(again(&request)).await.unwrap();
            assert_eq!((&stored(&repeated), &repeated.etag), (&stored(&theirs), &theirs.etag), "what stands is theirs");
        }
        // So whoever goes on from the answer has seen it, and overwrites nobody unseen.
        assert_eq!(stored(&open(&mut stub, &first.id).await), j!({"a": "theirs", "b": 2}));
    }
}

async fn p5_a_late_repeat_without_data_vouches_for_nothing(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({}))).await.unwrap();
    let mut newest = first.clone();
    let requests: [fn(&Session) -> SaveRequest; 3] = [
        |newest| replace(newest, j!({"a": 1})),
        |newest| change(newest, &["a"], j!({"a": 1})),
        |newest| replace(&any(newest), j!({"a": 1})),
    ];
    for request in requests {
        let request = repeatable(SaveRequest { omit_data: true, ..request(&newest) });
        let lost = stub.store(request.clone()).await.unwrap();
        assert!(!lost.etag.is_empty(), "its caller knows what is stored");
        let theirs = stub.store(change(&first, &["b"], j!({"b": 2}))).await.unwrap();
        let mut repeated = stub.store(again(&request)).await.unwrap();
        assert_eq!(repeated.etag, "", "its caller does not");
        // Even one that goes on without looking does not overwrite.
        repeated.etag = lost.etag;
        assert_eq!(refused(stub.store(replace(&repeated, j!({"a": 2}))).await), "SESSION_CHANGED");
        newest = open(&mut stub, &first.id).await;
        assert_eq!(newest.etag, theirs.etag);
    }
}

async fn p5_repeats_in_any_order_have_their_effect_once(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({}))).await.unwrap();
    let keys = ["a", "b", "c", "d", "e", "f"];
    let mut requests = Vec::new();
    for key in keys {
        let request = repeatable(change(&any(&first), &[key, "last"], j!({key: 1, "last": key})));
        stub.store(request.clone()).await.unwrap();
        requests.push(request);
    }
    let stands = open(&mut stub, &first.id).await;
    assert_eq!((stored(&stands)["last"].as_str(), version(&stands)), (Some("f"), 7));
    for order in [[5, 4, 3, 2, 1, 0], [0, 3, 1, 5, 2, 4], [2, 2, 2, 0, 5, 5]] {
        for at in order {
            let repeated = stub.store(again(&requests[at])).await.unwrap();
            assert!((repeated.etag == stands.etag) && (stored(&repeated) == stored(&stands)));
        }
    }
    assert_eq!(open(&mut stub, &first.id).await.etag, stands.etag);
}

/// Once eight other Saves have come and the mark is older than the ring keeps it, the service cannot know whether the first
/// attempt was applied.
async fn p5_a_repeat_that_nobody_remembers_is_refused(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({}))).await.unwrap();
    let old = stub.store(change(&first, &["a"], j!({"a": 1}))).await.unwrap();
    let merge = repeatable(change(&old, &["mine"], j!({"mine": 1})));
    let merge_any = repeatable(change(&any(&old), &["mine"], j!({"mine": 2})));
    let whole_any = repeatable(replace(&any(&old), j!({"mine": 3})));
    let rotate = SaveRequest { rotate: true, ..repeatable(change(&any(&old), &["mine"], j!({"mine": 4}))) };
    for request in [&merge, &merge_any, &whole_any] {
        stub.store(request.clone()).await.unwrap();
    }
    let mut newest = others_save(&mut stub, &first, 8).await;
    eventually("the marks are dropped", async || {
        newest = others_save(&mut stub, &first, 1).await;
        let mut repeats = world.stub();
        repeats.store(again(&merge)).await.is_err() && repeats.store(again(&whole_any)).await.is_err()
    })
    .await;
    for request in [&merge, &merge_any, &whole_any, &rotate] {
        assert_eq!(refused(stub.store(again(request)).await), "OUTCOME_UNKNOWN");
    }
    // A whole map is for one version: that this one is not there any more is all that its caller needs to know.
    let whole = repeatable(replace(&old, j!({"mine": 5})));
    assert!(["SESSION_CHANGED", "OUTCOME_UNKNOWN"].contains(&&refused(stub.store(again(&whole)).await)[..]));
    assert_eq!(open(&mut stub, &first.id).await.etag, newest.etag, "applied: none");
}

async fn p5_one_request_id_with_two_payloads_is_two_operations(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({}))).await.unwrap();
    let one = repeatable(change(&first, &["a"], j!({"a": 1})));
    let with_one_id = |request| SaveRequest { request_id: one.request_id.clone(), ..request };
    let requests = [
        one.clone(),
        with_one_id(change(&first, &["a"], j!({"a": 2}))),
        with_one_id(change(&first, &["b"], j!({"a": 2, "b": 2}))),
        with_one_id(change(&first, &["a", "b"], j!({"b": 2}))),
        with_one_id(change(&any(&first), &["c"], j!({"c": 3}))),
        with_one_id(SaveRequest { idle_timeout: seconds(60), ..change(&any(&first), &["c"], j!({"c": 3})) }),
        with_one_id(SaveRequest { lifetime: seconds(60), ..change(&any(&first), &["c"], j!({"c": 3})) }),
        with_one_id(change(&any(&first), &["c"], j!({}))),
        with_one_id(replace(&any(&first), j!({"b": 2, "c": 4}))),
    ];
    for (n, request) in requests.iter().enumerate() {
        stub.store(request.clone()).await.unwrap();
        assert_eq!(version(&open(&mut stub, &first.id).await), n as u64 + 2, "swallowed: none");
    }
    let stands = open(&mut stub, &first.id).await;
    assert_eq!(stored(&stands), j!({"b": 2, "c": 4}));
    for request in &requests {
        stub.store(again(request)).await.unwrap();
    }
    assert_eq!(open(&mut stub, &first.id).await.etag, stands.etag, "each is remembered by itself");
    // And on another session it is another operation, too.
    let other = stub.store(create(j!({}))).await.unwrap();
    let there = stub.store(with_one_id(change(&other, &["a"], j!({"a": 1})))).await.unwrap();
    assert_eq!((stored(&there), version(&there)), (j!({"a": 1}), 2));
}
