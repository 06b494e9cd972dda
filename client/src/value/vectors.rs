//! `tests/vectors/values.json`, which every language's library is held to.

use std::fs;

use serde_json::Value as Json;
use sessiond_proto::RawStruct;

use super::{DateTime, Integer, Map, Value, ValueError, decode, encode};

fn vectors() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/values.json");
    serde_json::from_str(&fs::read_to_string(path).expect("it lies there")).expect("it is JSON")
}

fn cases(vectors: &Json, part: &str) -> Vec<(String, Json)> {
    let cases = vectors[part].as_array().expect("a list of cases");
    assert!(!cases.is_empty());
    cases.iter().map(|case| (text(&case["name"]).to_owned(), case.clone())).collect()
}

fn text(json: &Json) -> &str {
    json.as_str().expect("a string")
}

/// The value that `kind` and `value` tell, as the kinds of number of this language have it.
fn told(case: &Json) -> Value {
    let value = &case["value"];
    let items = || value.as_array().expect("a list").iter().map(told).collect();
    match text(&case["kind"]) {
        "null" => Value::Null,
        "bool" => Value::Bool(value.as_bool().expect("a bool")),
        "integer" => {
            let integer: Integer = text(value).parse().expect("an integer");
            integer.as_number().map_or(Value::Integer(integer), Value::Number)
        }
        "float" => {
            let float: f64 = text(value).parse().expect("a float");
            let tagged = !float.is_finite() || super::as_integer(float).is_some();
            if tagged { Value::Float(float) } else { Value::Number(float) }
        }
        "string" => Value::String(text(value).to_owned()),
        "list" => Value::List(items()),
        "tuple" => Value::Tuple(items()),
        "map" => Value::Map(told_map(value)),
        "bytes" => {
            let byte = |hex: &[u8]| str::from_utf8(hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
            Value::Bytes(text(value).as_bytes().chunks(2).map(|hex| byte(hex).expect("a byte")).collect())
        }
        "markup" => Value::Markup(text(value).to_owned()),
        "uuid" => Value::Uuid(text(value).parse().expect("a UUID")),
        "datetime" => Value::DateTime(text(value).parse().expect("a date and time")),
        kind => panic!("{kind} is new: say what it is in Rust"),
    }
}

/// A number in a kind of its own, even where a plain one would do.
fn wordy(case: &Json) -> Option<Value> {
    match text(&case["kind"]) {
        "integer" => Some(Value::Integer(text(&case["value"]).parse().expect("an integer"))),
        "float" => Some(Value::Float(text(&case["value"]).parse().expect("a float"))),
        _ => None,
    }
}

fn told_map(value: &Json) -> Map {
    value.as_object().expect("an object").iter().map(|(name, value)| (name.clone(), told(value))).collect()
}

/// JSON as a caller's library would send it.
fn wire(json: &Json) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(bool) => Kind::BoolValue(*bool),
        Json::Number(number) => Kind::NumberValue(number.as_f64().expect("a double")),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(wire).collect() }),
        Json::Object(_) => Kind::StructValue(wire_object(json)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn wire_object(json: &Json) -> prost_types::Struct {
    let fields = json.as_object().expect("an object").iter();
    prost_types::Struct { fields: fields.map(|(name, value)| (name.clone(), wire(value))).collect() }
}

/// Data that holds the one value.
fn data(value: Value) -> Map {
    Map::from([("k".to_owned(), value)])
}

/// The same on the wire.
fn raw(json: &Json) -> RawStruct {
    prost_types::Struct { fields: [("k".to_owned(), wire(json))].into() }.into()
}

fn json(raw: &RawStruct) -> String {
    format!("{:?}", raw.decode())
}

#[test]
fn every_value_is_written_and_read_as_in_every_language() {
    for (name, case) in cases(&vectors(), "values") {
        let (data, raw) = (data(told(&case)), raw(&case["wire"]));
        // Bytes tell -0.0 from 0.0.
        assert!(encode(&data) == raw, "{name}: written as {}", json(&encode(&data)));
        if let Some(wordy) = wordy(&case) {
            assert!(encode(&self::data(wordy)) == raw, "{name}: in a kind of its own it is written otherwise");
        }
        assert!(decode(raw).expect("it is a Struct") == data, "{name}");
    }
}

#[test]
fn every_value_passes_through_serde_as_it_is() {
    for (name, case) in cases(&vectors(), "values") {
        let value = told(&case);
        assert!(Value::of(&value).expect("it can be kept") == value, "{name}: of");
        assert!(value.to::<Value>().expect("it is a value") == value, "{name}: to");
    }
}

#[test]
fn what_only_raw_callers_write_is_read_as_in_every_language() {
    for (name, case) in cases(&vectors(), "read_only") {
        let read = decode(raw(&case["wire"])).expect("it is a Struct");
        assert!(read == data(told(&case)), "{name}: read as {read:?}");
        // What was read is said in one way, so it lasts.
        assert!(decode(encode(&read)).expect("it is a Struct") == read, "{name}: does not last");
    }
}

#[test]
fn the_sessions_own_names_are_no_tags() {
    for (name, case) in cases(&vectors(), "data") {
        let (data, raw) = (told_map(&case["value"]), RawStruct::from(wire_object(&case["wire"])));
        assert!(encode(&data) == raw, "{name}: written as {}", json(&encode(&data)));
        assert!(decode(raw).expect("it is a Struct") == data, "{name}");
    }
}

#[test]
fn what_would_be_rounded_or_is_misspelt_is_refused() {
    for (name, case) in cases(&vectors(), "refused") {
        let value = text(&case["value"]);
        let error: Option<ValueError> = match text(&case["kind"]) {
            "machine integer" => Value::of(&value.parse::<i128>().expect("it fits")).err(),
            "integer" => value.parse::<Integer>().err(),
            "datetime" => value.parse::<DateTime>().err(),
            kind => panic!("{kind} is new: say what it is in Rust"),
        };
        assert!(error.is_some(), "{name}");
    }
}
