//! Redis has no memory left: whoever is there can look and leave, and nobody can come or put anything down.

use serde_json::json as j;
use sessiond_proto::v1::SaveRequest;
use sessiond_tests::{Calls, World, change, create, reason, replace, rounds};
use tonic::Code;

#[tokio::test]
async fn a_full_redis_lets_every_session_open_and_end_and_refuses_every_save() {
    let world = World::redis(&[]).await;
    let redis = world.redis.as_ref().expect("it has one");
    let (mut stub, all) = (world.stub(), rounds(10_000));
    let mut sessions = Vec::with_capacity(all);
    for number in 0..all {
        sessions.push(stub.store(create(j!({ "number": number }))).await.expect("there is room"));
    }
    for (name, value) in [("maxmemory-policy", "noeviction"), ("maxmemory", "1")] {
        let _: String = redis.command(&["CONFIG", "SET", name, value]).await;
    }
    let (mut refused, mut opened, mut destroyed) = (0, 0, 0);
    for (number, session) in sessions.iter().enumerate() {
        let request = match number % 4 {
            0 => create(j!({})),
            1 => replace(session, j!({})),
            2 => change(session, &["a"], j!({"a": 1})),
            _ => SaveRequest { rotate: true, ..replace(session, j!({})) },
        };
        let status = stub.store(request).await.expect_err("there is no room");
        refused += usize::from((status.code(), &reason(&status)[..]) == (Code::ResourceExhausted, "STORE_FULL"));
        opened += usize::from(stub.look(&session.id).await.is_some());
        destroyed += usize::from(stub.end(&session.id).await.is_ok() && stub.look(&session.id).await.is_none());
    }
    println!("memory full: of {all}, {refused} Saves refused, {opened} opened, {destroyed} destroyed");
    assert_eq!((refused, opened, destroyed), (all, all, all));
}
