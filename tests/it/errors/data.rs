//! Data that is too large, too deep, or no JSON object at all.

use bytes::Bytes;
use serde_json::json as j;
use sessiond_proto::{
    RawStruct,
    v1::{SaveRequest, Session},
};
use sessiond_tests::{Calls, World, change, create, data, json, on_both_stores};

use super::Bystander;
use crate::raw::{bytes, double, entry, group, list, nested, object, text, varint};

on_both_stores!(
    data_up_to_the_limit_is_kept_and_a_byte_more_is_refused,
    what_a_merge_would_make_is_held_to_the_limit_too,
    thirty_two_objects_nest_and_thirty_three_do_not,
    forty_eight_lists_nest_and_forty_nine_do_not,
    objects_and_lists_share_one_depth,
    text_that_is_not_utf_8_is_refused,
    numbers_that_json_lacks_are_refused,
    a_key_that_comes_twice_is_refused_at_any_depth,
    a_value_has_exactly_one_kind,
    a_null_is_null,
    bytes_that_are_no_struct_are_refused,
    an_unknown_field_next_to_the_outermost_entries_is_dropped,
    an_unknown_field_is_refused_at_any_depth,
);

mod with_a_limit_of_its_own {
    use super::*;
    on_both_stores!(with ["--max-session-bytes", "1KiB"], a_limit_can_be_set);
}

const LIMIT: usize = 64 << 10;

/// Data of exactly so many bytes under one key.
fn sized(key: &str, size: usize) -> serde_json::Value {
    (size - 40..size)
        .map(|length| j!({key: "x".repeat(length)}))
        .find(|json| data(json.clone()).as_bytes().len() == size)
        .expect("some length fits")
}

fn raw(session: &Session, body: &[u8]) -> SaveRequest {
    let data = Some(RawStruct::from(Bytes::copy_from_slice(body)));
    SaveRequest { session: Some(Session { data, ..session.clone() }), replace_all: true, ..Default::default() }
}

impl Bystander {
    /// Whichever way these bytes come as data, they are refused for this field, with these words.
    async fn refuses_data(&mut self, body: impl AsRef<[u8]>, field: &str, says: &str) {
        let (body, session) = (body.as_ref(), self.session.clone());
        let changing = SaveRequest { changed_keys: vec!["a".to_owned()], replace_all: false, ..raw(&session, body) };
        for request in [raw(&Session::default(), body), raw(&session, body), changing] {
            let status = self.refuses(request, &[field]).await;
            assert!(status.message().contains(says), "{}", status.message());
        }
    }

    /// These bytes are kept as data and come back the same.
    async fn keeps_data(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let saved = self.stub.store(raw(&Session::default(), body)).await.unwrap();
        let opened = self.stub.look(&saved.id).await.expect("it is there");
        assert!(opened.data.expect("Open always sets it").as_bytes() == body, "it came back otherwise");
        let saved = self.stub.store(raw(&self.session, body)).await.unwrap();
        assert!(saved.data.as_ref().expect("Save gives the data").as_bytes() == body, "it came back otherwise");
        self.session = saved;
        self.before = super::traces(&self.world, &mut self.stub, &self.session).await;
    }
}

async fn data_up_to_the_limit_is_kept_and_a_byte_more_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    for size in [LIMIT + 1, 2 * LIMIT, 2 * LIMIT + 1, 900 << 10] {
        bystander.refuses_as_too_large(create(sized("a", size)), LIMIT).await;
        let session = bystander.session.clone();
        bystander.refuses_as_too_large(sessiond_tests::replace(&session, sized("a", size)), LIMIT).await;
    }
    bystander.keeps_data(data(sized("a", LIMIT)).as_bytes()).await;
}

async fn what_a_merge_would_make_is_held_to_the_limit_too(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    // More than fits, whatever is stored.
    bystander.refuses_as_too_large(change(&session, &["a"], sized("a", LIMIT + 1)), LIMIT).await;
    let both = j!({"a": "x".repeat(LIMIT / 2), "b": "x".repeat(LIMIT / 2)});
    bystander.refuses_as_too_large(change(&session, &["a", "b"], both.clone()), LIMIT).await;
    // Fits, but not beside what is stored.
    let stored = data(j!({"who": "bystander"})).as_bytes().len();
    bystander.refuses_as_too_large(change(&session, &["a"], sized("a", LIMIT - stored + 1)), LIMIT).await;
    bystander.refuses_as_too_large(change(&session, &["a"], sized("a", LIMIT)), LIMIT).await;
    // Exactly what there is room for; and all of it once the other key is gone.
    let stub = &mut bystander.stub;
    let full = stub.store(change(&session, &["a"], sized("a", LIMIT - stored))).await.unwrap();
    assert_eq!(full.data.unwrap().as_bytes().len(), LIMIT);
    let full = stub.store(change(&session, &["a", "who"], sized("a", LIMIT))).await.unwrap();
    assert_eq!(full.data.unwrap().as_bytes().len(), LIMIT);
}

async fn a_limit_can_be_set(world: World) {
    let mut bystander = Bystander::of(world).await;
    bystander.refuses_as_too_large(create(sized("a", 1025)), 1024).await;
    let session = bystander.session.clone();
    bystander.refuses_as_too_large(change(&session, &["a"], sized("a", 1024)), 1024).await;
    bystander.keeps_data(data(sized("a", 1024)).as_bytes()).await;
}

async fn thirty_two_objects_nest_and_thirty_three_do_not(world: World) {
    let mut bystander = Bystander::of(world).await;
    let field = format!("session.data[\"a\"]{}", "[\"k\"]".repeat(32));
    bystander.refuses_data(entry("a", nested(33, 0)), &field, "nests too deep").await;
    bystander.keeps_data(entry("a", nested(32, 0))).await;
}

async fn forty_eight_lists_nest_and_forty_nine_do_not(world: World) {
    let mut bystander = Bystander::of(world).await;
    bystander.refuses_data(entry("a", nested(0, 49)), "session.data[\"a\"]", "nests too deep").await;
    bystander.keeps_data(entry("a", nested(0, 48))).await;
    // So deep that a reader without a limit would run out of stack.
    bystander.refuses_data(entry("a", nested(0, 2_000)), "session.data[\"a\"]", "nests too deep").await;
}

async fn objects_and_lists_share_one_depth(world: World) {
    let mut bystander = Bystander::of(world).await;
    for (objects, lists) in [(1, 46), (10, 33), (16, 24), (31, 1), (30, 3)] {
        bystander.keeps_data(entry("a", nested(objects, lists))).await;
        let field = format!("session.data[\"a\"]{}", "[\"k\"]".repeat(objects));
        bystander.refuses_data(entry("a", nested(objects, lists + 1)), &field, "nests too deep").await;
    }
}

async fn text_that_is_not_utf_8_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    // A byte that begins nothing, a character cut short, a surrogate, a NUL in two bytes.
    for wrong in [&b"\xff"[..], b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80"] {
        let shown = String::from_utf8_lossy(wrong);
        let at = |path: &str| format!("session.data{path}");
        let valid = "is not valid UTF-8";
        bystander.refuses_data(entry("a", text(wrong)), &at("[\"a\"]"), valid).await;
        bystander.refuses_data(entry("a", object(entry("b", text(wrong)))), &at("[\"a\"][\"b\"]"), valid).await;
        bystander.refuses_data(entry("a", list(&[text("b"), text(wrong)])), &at("[\"a\"]"), valid).await;
        let (key, nested) = (at(&format!("[\"{shown}\"]")), at(&format!("[\"a\"][\"{shown}\"]")));
        bystander.refuses_data(entry(wrong, text("b")), &key, "is a key that is not valid UTF-8").await;
        let inner = object(entry(wrong, text("b")));
        bystander.refuses_data(entry("a", inner), &nested, "is a key that is not valid UTF-8").await;
    }
    bystander.keeps_data(entry("\0é\u{10ffff}", text("\0é\u{10ffff}"))).await;
}

async fn numbers_that_json_lacks_are_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    let signalling = f64::from_bits(0x7ff0_0000_0000_0001);
    for wrong in [f64::NAN, -f64::NAN, signalling, f64::INFINITY, f64::NEG_INFINITY] {
        let number = double(2, wrong);
        let says = "is NaN or infinite";
        bystander.refuses_data(entry("a", &number), "session.data[\"a\"]", says).await;
        let inner = object(entry("b", list(&[number])));
        bystander.refuses_data(entry("a", inner), "session.data[\"a\"][\"b\"]", says).await;
    }
    for right in [0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::from_bits(1)] {
        bystander.keeps_data(entry("a", double(2, right))).await;
    }
}

async fn a_key_that_comes_twice_is_refused_at_any_depth(world: World) {
    let mut bystander = Bystander::of(world).await;
    let twice = [entry("b", text("1")), entry("c", text("2")), entry("b", text("1"))].concat();
    bystander.refuses_data(&twice, "session.data[\"b\"]", "twice").await;
    bystander.refuses_data(entry("a", object(&twice)), "session.data[\"a\"][\"b\"]", "twice").await;
    let inner = object(entry("l", list(&[text("x"), object(&twice)])));
    bystander.refuses_data(entry("a", inner), "session.data[\"a\"][\"l\"][\"b\"]", "twice").await;
    // An entry without a key has the empty one.
    let empty = bytes(1, bytes(2, text("x")));
    bystander.refuses_data([empty, entry("", text("y"))].concat(), "session.data[\"\"]", "twice").await;
    // The same key at different places is no repeat.
    let apart = [entry("a", object(entry("a", text("1")))), entry("b", object(entry("a", text("2"))))].concat();
    bystander.keeps_data(apart).await;
}

async fn a_value_has_exactly_one_kind(world: World) {
    let mut bystander = Bystander::of(world).await;
    let none = "is a value without a kind";
    bystander.refuses_data(entry("a", ""), "session.data[\"a\"]", none).await;
    bystander.refuses_data(bytes(1, bytes(1, "a")), "session.data[\"a\"]", none).await;
    bystander.refuses_data(entry("a", object(entry("b", ""))), "session.data[\"a\"][\"b\"]", none).await;
    bystander.refuses_data(entry("a", list(&[vec![]])), "session.data[\"a\"]", none).await;
    for two in [
        [text("1"), varint(4, 1)],
        [varint(1, 0), text("1")],
        [text("1"), text("2")],
        [object(entry("b", text("1"))), object(entry("c", text("2")))],
        [list(&[]), double(2, 0.0)],
    ] {
        let says = "is a value with more than one kind";
        bystander.refuses_data(entry("a", two.concat()), "session.data[\"a\"]", says).await;
    }
    // Two values in an entry, or two keys.
    let values = [bytes(1, "a"), bytes(2, text("1")), bytes(2, text("2"))].concat();
    bystander.refuses_data(bytes(1, values), "session.data", "twice").await;
    let keys = [bytes(1, "a"), bytes(1, "b"), bytes(2, text("2"))].concat();
    bystander.refuses_data(bytes(1, keys), "session.data", "twice").await;
}

async fn a_null_is_null(world: World) {
    let mut bystander = Bystander::of(world).await;
    for wrong in [1, 2, u64::MAX] {
        let null = varint(1, wrong);
        bystander.refuses_data(entry("a", null), "session.data[\"a\"]", "other than NULL_VALUE").await;
    }
    bystander.keeps_data(entry("a", varint(1, 0))).await;
}

async fn bytes_that_are_no_struct_are_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    let says = "not a valid google.protobuf.Struct";
    for wrong in [
        group(5, entry("b", text("1"))),
        group(7, ""),
        // Kinds with the wire types of others.
        varint(2, 1),
        double(4, 1.0),
        varint(3, 1),
        bytes(1, "0"),
        varint(5, 1),
        varint(6, 1),
        // Within an object and a list.
        object(varint(1, 1)),
        object(group(1, "")),
        bytes(6, varint(1, 1)),
        // Field number 0, and one that is too large.
        bytes(0, "x"),
        bytes(0x2000_0000, "x"),
        // An unknown wire type.
        vec![0x3f],
        // Cut off: in a tag, a varint, a double, a string, an object.
        vec![0x80],
        vec![0x20, 0x80],
        double(2, 1.0)[..8].to_vec(),
        text("four")[..3].to_vec(),
        object(&entry("b", text("1"))[..7]),
        // Lengths that no memory has, and a varint without end.
        [vec![0x1a], vec![0xff; 9], vec![0x01]].concat(),
        [vec![0x20], vec![0xff; 11]].concat(),
    ] {
        let field = "session.data[\"a\"]";
        bystander.refuses_data(entry("a", &wrong), field, says).await;
    }
    // In the entry itself.
    for wrong in [varint(1, 1), varint(2, 1), group(1, ""), group(3, ""), vec![0x0a, 0x09, b'a'], vec![0x80]] {
        bystander.refuses_data(bytes(1, &wrong), "session.data", says).await;
    }
}

async fn an_unknown_field_next_to_the_outermost_entries_is_dropped(world: World) {
    let mut bystander = Bystander::of(world).await;
    let body = [varint(2, 7), entry("a", text("1"))].concat();
    let saved = bystander.stub.store(raw(&Session::default(), &body)).await.unwrap();
    assert_eq!(json(&saved.data.unwrap()), j!({"a": "1"}));
}

async fn an_unknown_field_is_refused_at_any_depth(world: World) {
    let mut bystander = Bystander::of(world).await;
    let says = "has an unknown field";
    for unknown in [varint(3, 1), varint(16, 1), bytes(3, "new"), double(4, 1.0)] {
        let strange = bytes(1, [bytes(1, "role"), bytes(2, text("admin")), unknown].concat());
        bystander.refuses_data(&strange, "session.data[\"role\"]", says).await;
        bystander.refuses_data(entry("a", object(&strange)), "session.data[\"a\"][\"role\"]", says).await;
        let inner = list(&[text("x"), object(&strange)]);
        bystander.refuses_data(entry("a", inner), "session.data[\"a\"][\"role\"]", says).await;
    }
    for unknown in [varint(9, 7), bytes(10, "new"), double(11, 1.0)] {
        for value in [
            unknown.clone(),
            [text("1"), unknown.clone()].concat(),
            object([unknown.clone(), entry("b", text("1"))].concat()),
            bytes(6, [unknown.clone(), bytes(1, text("1"))].concat()),
        ] {
            bystander.refuses_data(entry("a", value), "session.data[\"a\"]", says).await;
        }
    }
}
