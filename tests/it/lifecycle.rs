//! A session's life, as an application lives it.

use serde_json::json as j;
use sessiond_tests::{Calls, World, change, create, json, on_both_stores, replace};

on_both_stores!(a_session_lives_from_its_first_save_to_its_destroy);

async fn a_session_lives_from_its_first_save_to_its_destroy(world: World) {
    let mut stub = world.stub();
    assert!(stub.look("").await.is_none(), "a visitor without a cookie has no session");

    let first = stub.store(create(j!({"cart": ["tea"], "visits": 1}))).await.unwrap();
    assert_eq!(first.id.len(), 65);
    assert_eq!(first.id[..32], first.handle);

    let opened = stub.look(&first.id).await.expect("it is there");
    assert_eq!(json(opened.data.as_ref().unwrap()), j!({"cart": ["tea"], "visits": 1}));
    assert_eq!(opened.etag, first.etag);

    let second = stub.store(replace(&opened, j!({"cart": []}))).await.unwrap();
    let third = stub.store(change(&second, &["cart", "who"], j!({"who": "ada"}))).await.unwrap();
    assert_eq!(json(third.data.as_ref().unwrap()), j!({"who": "ada"}));

    stub.end(&third.id).await.unwrap();
    assert!(stub.look(&third.id).await.is_none(), "it is gone");
    assert_eq!(stub.store(change(&third, &["a"], j!({}))).await.unwrap_err().code(), tonic::Code::NotFound);
}
