//! What an actix application keeps comes back the same, and what others keep in the same session survives it.

use std::collections::BTreeMap;

use actix_session::storage::{SaveError, SessionKey, SessionStore, UpdateError};
use actix_web::cookie::time::Duration;
use prost_types::Struct;
use serde_json::Value as Json;
use sessiond_client::{
    Map, Save, SessionId, Value,
    actix::SessiondStore,
    value::{DateTime, Integer},
};
use sessiond_tests::{World, on_both_stores};
use uuid::Uuid;

use super::{is_opaque_failure, patient, peek, shop};

on_both_stores!(
    what_an_application_inserts_comes_back_the_same,
    whole_numbers_beyond_2_to_the_53_are_the_same_for_every_other_client,
    what_another_client_wrote_survives_an_update_of_something_else,
    another_client_reads_what_actix_wrote,
    what_cannot_be_kept_is_an_error_and_nothing_is_kept,
);

/// The same JSON as `serde_json` writes it: its versions differ in `1e300` and `1e+300`.
fn written(json: &str) -> String {
    serde_json::from_str::<Json>(json).expect("it is JSON").to_string()
}

/// JSON of every kind that a type can make.
const TEXTS: &[&str] = &[
    "null",
    "true",
    "0",
    "-7",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "0.1",
    "5.0",
    "-0.0",
    "9007199254740992.0",
    "9007199254740994.0",
    "1e300",
    "-1.7976931348623157e308",
    "5e-324",
    "1.8446744073709552e19",
    r#""""#,
    r#""tea ☕ 中文 שלום 🍪 \u0000 \" \\ {\" t\":[]}""#,
    "[]",
    "[[],[null,[1,2.5,\"x\"]]]",
    "{}",
    r#"{"":{"":""}}"#,
    r#"{"cart":[{"id":18446744073709551615,"price":2.0},{"id":1,"price":0.5}],"open":true}"#,
    // Maps with a single name that begins with a space, which is how the service's tags look.
    r#"{" ":1}"#,
    r#"{" x":1}"#,
    r#"{" x__":[1]}"#,
    r#"{" t":"no list"}"#,
    r#"{" i":"no number"}"#,
    r#"{" x":{" y":{" z":[9007199254740993,5.0]}}}"#,
    // And those that look more like tags.
    r#"{" t":[1,2]}"#,
    r#"{" x":1,"y":2}"#,
];

async fn what_an_application_inserts_comes_back_the_same(world: World) {
    let (site, _gate) = shop(&world).await;
    let visitor = site.browser();
    for (n, text) in TEXTS.iter().enumerate() {
        visitor.post_body(&format!("/put/{n}"), text).await.ok();
    }
    // Written back by every later request, and still the same.
    for _ in 0..2 {
        for (n, text) in TEXTS.iter().enumerate() {
            assert_eq!(visitor.get(&format!("/raw/{n}")).await.ok(), written(text));
        }
        visitor.post("/renew").await.ok();
        visitor.post("/do_something").await.ok();
    }
    visitor.post("/clear").await.ok();
    assert_eq!(visitor.get("/raw/0").await.ok(), "nothing");
    assert!(stored(&world, &site.id(&visitor)).await.fields.is_empty());
}

async fn whole_numbers_beyond_2_to_the_53_are_the_same_for_every_other_client(world: World) {
    let (site, _gate) = shop(&world).await;
    let visitor = site.browser();
    visitor.post_body("/put/ids", "[9007199254740993,18446744073709551615,-9223372036854775808]").await.ok();
    visitor.post_body("/put/price", "5.0").await.ok();
    let session = open(&world, &site.id(&visitor)).await;
    let ids = session["ids"].to::<(u64, u64, i64)>().expect("they are numbers");
    assert_eq!(ids, ((1 << 53) + 1, u64::MAX, i64::MIN));
    assert_eq!(session["price"], Value::Float(5.0), "who tells 5 from 5.0 is told");
}

/// One value of every kind, with what JSON has no word for within what it has.
fn of_every_kind() -> Map {
    let text = |text: &str| Value::String(text.to_owned());
    let noon: DateTime = "2026-05-01T12:00:00.250000+02:00".parse().expect("it is one");
    let beyond: Integer = "-170141183460469231731687303715884105729".parse().expect("it is one");
    let one = |name: &str, value| Value::Map(Map::from([(name.to_owned(), value)]));
    let leaves = vec![
        Value::Null,
        Value::Bool(true),
        Value::Number(1.5),
        Value::Number(-0.0),
        Value::Number(1e300),
        Value::Number(9_007_199_254_740_994.0),
        text("tea ☕"),
        Value::Integer(Integer::from(u64::MAX)),
        Value::Integer(Integer::from(i64::MIN)),
        Value::Integer(beyond),
        Value::Float(5.0),
        Value::Float(-9_007_199_254_740_992.0),
        Value::Float(f64::NAN),
        Value::Float(f64::NEG_INFINITY),
        Value::Bytes(vec![0, 255, 254]),
        Value::Bytes(Vec::new()),
        Value::Markup("<b>tea</b>".to_owned()),
        Value::Uuid(Uuid::from_u128(0x5e55_10ed)),
        Value::DateTime(noon),
        one(" t", Value::List(vec![Value::Number(1.0)])),
        one(" t", text("no tuple")),
        one(" i", text("9007199254740993")),
        one(" f", Value::Number(5.0)),
        one(" f", Value::Float(5.0)),
        one(" di", one(" x__", Value::Null)),
        one(" later", Value::Bool(true)),
        one(" later__", one(" x", Value::Float(2.0))),
    ];
    let mut data: Map = leaves.iter().enumerate().map(|(n, leaf)| (format!("leaf {n}"), leaf.clone())).collect();
    data.insert("tuple".to_owned(), Value::Tuple(vec![Value::Tuple(Vec::new()), Value::Tuple(leaves.clone())]));
    data.insert("list".to_owned(), Value::List(leaves.clone()));
    data.insert(
        "map".to_owned(),
        Value::Map(leaves.into_iter().enumerate().map(|(n, v)| (format!(" {n}"), v)).collect()),
    );
    data.insert(" t".to_owned(), Value::List(Vec::new()));
    data
}

async fn what_another_client_wrote_survives_an_update_of_something_else(world: World) {
    let (site, _gate) = shop(&world).await;
    let data = of_every_kind();
    let client = patient(&world.server.address().to_string());
    let made = client.save(Save::create().replace_data(data.clone())).await.expect("it is made");
    let id = made.id().expose();
    let written = stored(&world, id).await;

    let visitor = site.holding(id);
    for round in 1..=2 {
        assert_eq!(visitor.post("/do_something").await.ok(), format!("nobody {round}"));
        let mut after = open(&world, id).await;
        assert_eq!(after.remove("counter"), Some(Value::Number(f64::from(round))));
        for (key, value) in &data {
            assert_eq!(after.get(key), Some(value), "{key}");
        }
        assert_eq!(after.len(), data.len());
        let mut now = stored(&world, id).await;
        now.fields.remove("counter");
        assert_eq!(now, written, "on the wire as well");
    }
    visitor.post("/renew").await.ok();
    let moved = open(&world, &site.id(&visitor)).await;
    assert!(data.iter().all(|(key, value)| moved.get(key) == Some(value)));
}

async fn another_client_reads_what_actix_wrote(world: World) {
    let (site, _gate) = shop(&world).await;
    let visitor = site.browser();
    for (n, text) in TEXTS.iter().enumerate() {
        visitor.post_body(&format!("/put/{n}"), text).await.ok();
    }
    let data = open(&world, &site.id(&visitor)).await;
    for (n, text) in TEXTS.iter().enumerate() {
        let value = &data[&n.to_string()];
        match value {
            // The one that is a tag, and so is read as one.
            Value::Tuple(items) => assert_eq!((*text, items.len()), (r#"{" t":[1,2]}"#, 2)),
            _ => assert_eq!(value.to::<Json>().expect("it is JSON").to_string(), written(text)),
        }
    }
}

async fn what_cannot_be_kept_is_an_error_and_nothing_is_kept(world: World) {
    let store = SessiondStore::new(patient(&world.server.address().to_string()));
    let ttl = Duration::seconds(100);
    let state = |json: &str| BTreeMap::from([("k".to_owned(), json.to_owned())]).into_iter().collect();
    let key = store.save(state("1"), &ttl).await.expect("it is made");
    let id = key.as_ref().to_owned();
    let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    for wrong in ["", "not JSON", "[1", "1 2", "{\"a\":}", "340282366920938463463374607431768211455", &deep] {
        let key = SessionKey::try_from(id.clone()).expect("it is one");
        let saved = store.save(state(wrong), &ttl).await;
        assert!(matches!(saved, Err(SaveError::Serialization(_))), "{wrong:.20}");
        let updated = store.update(key, state(wrong), &ttl).await;
        assert!(matches!(updated, Err(UpdateError::Serialization(_))), "{wrong:.20}");
    }
    assert_eq!(open(&world, &id).await, Map::from([("k".to_owned(), Value::Number(1.0))]));

    // What the service refuses, for its size or its depth, is a failure as well, and changes nothing.
    let (site, _gate) = shop(&world).await;
    let visitor = site.holding(&id);
    for refused in [format!("{:?}", "x".repeat(100_000)), format!("{}{}", "[".repeat(100), "]".repeat(100))] {
        is_opaque_failure(&visitor.post_body("/put/k", &refused).await);
        assert_eq!(visitor.get("/raw/k").await.ok(), "1");
    }
}

/// The session's data as any client reads it.
async fn open(world: &World, id: &str) -> Map {
    let id = SessionId::parse(id).expect("it is one");
    let session = patient(&world.server.address().to_string()).open(&id).await.expect("Open is answered");
    session.expect("it lives").data().clone()
}

/// The session's data as it is on the wire.
async fn stored(world: &World, id: &str) -> Struct {
    let session = peek(world, id).await.expect("it lives");
    session.data.expect("Open always sets it").decode().expect("it is a Struct")
}
