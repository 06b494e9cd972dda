//! The data comes back bit for bit, whoever wrote it and whoever reads it: ours in Rust, and a stranger in Python, with
//! Google's protobuf and stubs generated from the published schema.

use std::{collections::BTreeSet, env, path::Path, process::Stdio};

use proptest::{
    collection::{btree_map, vec},
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Value as Json, json as j};
use sessiond_proto::{
    RawStruct,
    v1::{SaveRequest, Session},
};
use sessiond_tests::{Calls, Server, World, create, on_both_stores, rounds};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tonic::Code;

on_both_stores!(
    random_data_comes_back_bit_for_bit_to_ours_and_to_a_stranger,
    a_stranger_can_read_what_nests_as_deep_as_is_allowed,
    reading_a_missing_key_in_python_is_refused_with_what_to_do,
);

// ---- the stranger ------------------------------------------------------------------------------------------------

/// A Python process with a channel to the server.
struct Stranger {
    _process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Stranger {
    fn meets(server: &Server) -> Self {
        let python = env::var_os("SESSIOND_TEST_PYTHON").expect(
            "SESSIOND_TEST_PYTHON names no Python with tests/python/requirements.txt: run scripts/test, which makes one",
        );
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new(python)
            .arg(tests.join("python/stranger.py"))
            .arg(server.address().to_string())
            .arg(tests.join("../proto"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("SESSIOND_TEST_PYTHON starts");
        let orders = process.stdin.take().expect("its stdin");
        let answers = BufReader::new(process.stdout.take().expect("its stdout")).lines();
        Self { _process: process, orders, answers }
    }

    /// Gives an order, and waits for the answer.
    async fn does(&mut self, what: &str, order: Json) -> Json {
        let mut order = order;
        order["do"] = what.into();
        let line = format!("{order}\n");
        self.orders.write_all(line.as_bytes()).await.expect("it reads its orders");
        let answer = self.answers.next_line().await.expect("it answers").expect("it lives; its stderr says why not");
        serde_json::from_str(&answer).expect("it answers in JSON")
    }
}

// ---- data, spelled so that nothing is rounded ----------------------------------------------------------------------

fn spell_object(object: &Struct) -> Json {
    let fields: Map<_, _> = object.fields.iter().map(|(key, value)| (key.clone(), spell(value))).collect();
    j!({ "object": fields })
}

fn spell(value: &Value) -> Json {
    match value.kind.as_ref().expect("every value has a kind") {
        Kind::NullValue(_) => Json::Null,
        Kind::BoolValue(value) => (*value).into(),
        Kind::NumberValue(value) => j!({ "number": format!("{:016x}", value.to_bits()) }),
        Kind::StringValue(value) => value.as_str().into(),
        Kind::ListValue(list) => list.values.iter().map(spell).collect(),
        Kind::StructValue(object) => spell_object(object),
    }
}

/// The data of a session as our stub read it.
fn read(session: &Session) -> Json {
    spell_object(&session.data.as_ref().expect("it is always set").decode().expect("a google.protobuf.Struct"))
}

fn with(session: &Session, data: &Struct) -> Session {
    Session { data: Some(RawStruct::from(data.clone())), ..session.clone() }
}

// ---- random data -----------------------------------------------------------------------------------------------------

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

fn object(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    value(Kind::StructValue(Struct { fields: fields.into_iter().collect() }))
}

/// Every double that JSON can hold, and often one of those that go wrong elsewhere.
fn numbers() -> BoxedStrategy<f64> {
    let awkward = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        1e308,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        -f64::from_bits(0x000f_ffff_ffff_ffff),
        9_007_199_254_740_991.0,
        9_007_199_254_740_993.0,
        1e21,
        1e-7,
    ];
    let any_bits = any::<u64>().prop_map(f64::from_bits).prop_filter("JSON has no other", |number| number.is_finite());
    prop_oneof![proptest::sample::select(awkward.to_vec()), any_bits, any::<i32>().prop_map(f64::from)].boxed()
}

fn texts() -> BoxedStrategy<String> {
    let awkward = ["", "\0", "é", "e\u{301}", "🍪", "\u{10ffff}", "\u{feff}", "\u{2028}", "__proto__", "a.b", "\"\\\n"];
    let any_char = vec(any::<char>(), 0..12).prop_map(String::from_iter);
    prop_oneof![proptest::sample::select(awkward.to_vec()).prop_map(str::to_owned), any_char, "[a-z]{1,8}"].boxed()
}

/// A leaf within as many objects and lists as may be.
fn deep() -> BoxedStrategy<Value> {
    let levels = (vec(any::<bool>(), 1..50), texts());
    let nest = |(levels, key): (Vec<bool>, String)| {
        let (mut inner, mut depth) = (value(Kind::NumberValue(-0.0)), 0);
        for is_object in levels {
            depth += if is_object { 3 } else { 2 };
            if depth > 96 {
                break;
            }
            inner = if is_object { object([(key.clone(), inner)]) } else { list(vec![inner]) };
        }
        inner
    };
    levels.prop_map(nest).boxed()
}

fn values() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        2 => Just(value(Kind::NullValue(0))),
        2 => any::<bool>().prop_map(|flag| value(Kind::BoolValue(flag))),
        6 => numbers().prop_map(|number| value(Kind::NumberValue(number))),
        6 => texts().prop_map(|text| value(Kind::StringValue(text))),
        1 => (texts(), 0..400usize).prop_map(|(text, times)| value(Kind::StringValue(text.repeat(times)))),
    ];
    let tree = leaf.prop_recursive(6, 24, 5, |inner| {
        prop_oneof![vec(inner.clone(), 0..5).prop_map(list), btree_map(texts(), inner, 0..5).prop_map(object)]
    });
    prop_oneof![8 => tree, 1 => deep()].boxed()
}

/// Data, other data, and the keys to change from the one to the other.
fn stories() -> impl Strategy<Value = (Struct, Struct, BTreeSet<String>)> {
    let data = || {
        let fields = btree_map(texts(), values(), 0..8);
        let fits = |data: &Struct| RawStruct::from(data.clone()).as_bytes().len() <= 30 << 10;
        fields.prop_map(|fields| Struct { fields }).prop_filter("two of them fit into a session", fits)
    };
    (data(), data(), vec(texts(), 1..3), any::<u64>()).prop_map(|(before, after, others, chosen)| {
        let keys = before.fields.keys().chain(after.fields.keys()).enumerate();
        let some = keys.filter(|(at, _)| chosen >> (at % 64) & 1 == 1).map(|(_, key)| key.clone());
        let keys = some.chain(others).collect();
        (before, after, keys)
    })
}

/// What a change of these keys makes of the data, by the words of the contract.
fn changed(before: &Struct, after: &Struct, keys: &BTreeSet<String>) -> Struct {
    let mut data = before.clone();
    for key in keys {
        match after.fields.get(key) {
            Some(value) => data.fields.insert(key.clone(), value.clone()),
            None => data.fields.remove(key),
        };
    }
    data
}

// ---- the tests -------------------------------------------------------------------------------------------------------

/// What is read is what was written, by whoever, through a whole map or a merge.
async fn random_data_comes_back_bit_for_bit_to_ours_and_to_a_stranger(world: World) {
    let mut stranger = Stranger::meets(&world.server);
    let mut stub = world.stub();
    // The same data in every run.
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let stories = stories();
    for round in 0..rounds(4_000) {
        let (before, after, keys) = stories.new_tree(&mut runner).expect("a story").current();
        let expected = [&before, &changed(&before, &after, &keys)].map(spell_object);
        let (changed_keys, removed_keys): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| after.fields.contains_key(key));
        // Data is sent only with what says how to read it.
        let sent = (!changed_keys.is_empty()).then_some(&after);

        // Ours writes, the stranger reads.
        let request = SaveRequest { session: Some(with(&Session::default(), &before)), ..Default::default() };
        let session = stub.store(request).await.unwrap();
        assert_eq!(read(&session), expected[0], "round {round}");
        let opened = stranger.does("open", j!({"id": session.id})).await;
        assert_eq!(opened["data"], expected[0], "round {round}");
        let request = SaveRequest {
            session: Some(Session { data: sent.map(|data| RawStruct::from(data.clone())), ..session.clone() }),
            changed_keys: changed_keys.clone(),
            removed_keys: removed_keys.clone(),
            ..Default::default()
        };
        assert_eq!(read(&stub.store(request).await.unwrap()), expected[1], "round {round}");
        let opened = stranger.does("open", j!({"id": session.id})).await;
        assert_eq!(opened["data"], expected[1], "round {round}");

        // The stranger writes, ours reads.
        let whole = j!({"id": session.id, "etag": opened["etag"], "data": expected[0], "replace_all": true});
        let saved = stranger.does("save", whole).await;
        assert_eq!(saved["data"], expected[0], "round {round}");
        assert_eq!(read(&stub.look(&session.id).await.unwrap()), expected[0], "round {round}");
        let change = j!({
            "id": session.id, "data": sent.map(spell_object), "changed_keys": changed_keys, "removed_keys": removed_keys,
        });
        let saved = stranger.does("save", change).await;
        assert_eq!(saved["data"], expected[1], "round {round}");
        assert_eq!(read(&stub.look(&session.id).await.unwrap()), expected[1], "round {round}");
        stub.end(&session.id).await.unwrap();
    }
}

async fn a_stranger_can_read_what_nests_as_deep_as_is_allowed(world: World) {
    let mut stranger = Stranger::meets(&world.server);
    let mut stub = world.stub();
    let nest = |objects: usize, lists: usize| {
        let leaf = (0..lists).fold(value(Kind::BoolValue(true)), |inner, _| list(vec![inner]));
        let tree = (0..objects).fold(leaf, |inner, _| object([("k".to_owned(), inner)]));
        Struct { fields: [("top".to_owned(), tree)].into() }
    };
    for (objects, lists) in [(32, 0), (0, 48), (16, 24), (31, 1), (2, 45)] {
        let deepest = nest(objects, lists);
        let expected = spell_object(&deepest);
        let request = SaveRequest { session: Some(with(&Session::default(), &deepest)), ..Default::default() };
        let session = stub.store(request).await.unwrap();
        let opened = stranger.does("open", j!({"id": session.id})).await;
        assert_eq!(opened["data"], expected, "{objects} objects and {lists} lists");
        let saved = stranger.does("save", j!({"data": expected})).await;
        assert_eq!(saved["data"], expected);
        let opened = stub.look(saved["id"].as_str().unwrap()).await.unwrap();
        assert_eq!(read(&opened), expected);
    }
    // One level more is refused, and the stranger is told.
    for too_deep in [nest(33, 0), nest(0, 49)] {
        let refused = stranger.does("save", j!({"data": spell_object(&too_deep)})).await;
        assert_eq!(refused["refused"], "INVALID_ARGUMENT");
        assert!(refused["says"].as_str().unwrap().contains("nests too deep"), "{refused}");
    }
}

async fn reading_a_missing_key_in_python_is_refused_with_what_to_do(world: World) {
    let mut stranger = Stranger::meets(&world.server);
    let mut stub = world.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();

    let refused = stranger.does("reads_a_key_that_is_missing", j!({"id": session.id, "careful": false})).await;
    assert_eq!(refused["refused"], "INVALID_ARGUMENT");
    let says = refused["says"].as_str().unwrap();
    for words in ["session.data[\"no such key\"]", "is a value without a kind", "test whether the key is there first"] {
        assert!(says.contains(words), "{says}");
    }
    assert_eq!(stub.look(&session.id).await.unwrap().etag, session.etag, "nothing was written");

    let saved = stranger.does("reads_a_key_that_is_missing", j!({"id": session.id, "careful": true})).await;
    assert_eq!((&saved["inserted"], &saved["data"]), (&j!(0), &read(&session)));
    let gone = SaveRequest { session: Some(session), replace_all: true, ..Default::default() };
    assert_eq!(stub.store(gone).await.unwrap_err().code(), Code::Aborted, "the stranger's Save was the newest");
}
