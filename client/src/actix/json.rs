//! actix-session's state, a map of JSON texts, and a session's data.

use anyhow::{Context, Error, ensure};
use prost_types::{ListValue, Struct, Value as Wire, value::Kind};
use sessiond_proto::RawStruct;

use super::State;
use crate::{
    Map, Value,
    value::{ESCAPE, ESCAPED, FLOAT, INTEGER, as_integer, decode, encode},
};

/// The data that this state is kept as.
pub(super) fn data(state: State) -> Result<Map, Error> {
    let fields = state.into_iter().map(|(key, json)| {
        let value = serde_json::from_str(&json).with_context(|| format!("the value of {key:?} is not JSON"))?;
        ensure!(!rounds(&json), "the value of {key:?} holds a whole number beyond 64 bits: keep it as text");
        Ok((key, wire(value)?))
    });
    let fields = fields.collect::<Result<_, Error>>()?;
    Ok(decode(RawStruct::from(Struct { fields }))?)
}

/// The state that this data is.
pub(super) fn state(data: &Map) -> Result<State, Error> {
    let fields = encode(data).decode()?.fields;
    Ok(fields.into_iter().map(|(key, value)| (key, json(value).to_string())).collect())
}

fn wire(value: serde_json::Value) -> Result<Wire, Error> {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(number) => return self::number(&number),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(wire).collect::<Result<_, _>>()? })
        }
        serde_json::Value::Object(fields) => {
            let fields =
                fields.into_iter().map(|(name, value)| Ok((name, wire(value)?))).collect::<Result<_, Error>>()?;
            Kind::StructValue(Struct { fields })
        }
    };
    Ok(Wire { kind: Some(kind) })
}

/// Whether this JSON holds a whole number that `serde_json` would read as the nearest double.
fn rounds(json: &str) -> bool {
    // Texts stand between quotes, once no escaped one is left.
    let unescaped = json.replace(r"\\", "").replace(r#"\""#, "");
    let outside_texts = unescaped.split('"').step_by(2);
    let mut words =
        outside_texts.flat_map(|part| part.split(|c: char| c.is_ascii_whitespace() || "[]{},:".contains(c)));
    let whole = |word: &str| !word.is_empty() && word.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    words.any(|word| whole(word) && word.parse::<i64>().is_err() && word.parse::<u64>().is_err())
}

/// A double; a whole number that no double can be trusted with, as tagged text; or a whole float, tagged to stay one.
fn number(number: &serde_json::Number) -> Result<Wire, Error> {
    let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    let double = number.as_f64().context("a number that is none")?;
    let kind = match whole {
        Some(large) if large.unsigned_abs() > 1 << 53 => tagged(INTEGER, Kind::StringValue(large.to_string())),
        None if as_integer(double).is_some() => tagged(FLOAT, Kind::NumberValue(double)),
        _ => Kind::NumberValue(double),
    };
    Ok(Wire { kind: Some(kind) })
}

fn tagged(tag: &str, content: Kind) -> Kind {
    Kind::StructValue(Struct { fields: [(tag.to_owned(), Wire { kind: Some(content) })].into() })
}

fn json(value: Wire) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::NumberValue(number)) => match as_integer(number) {
            Some(integer) => integer.into(),
            None => number.into(),
        },
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(object)) => untagged(&object)
            .unwrap_or_else(|| object.fields.into_iter().map(|(name, value)| (name, json(value))).collect()),
    }
}

/// What this object is the tagged form of, if JSON has a way to say it.
fn untagged(object: &Struct) -> Option<serde_json::Value> {
    let (tag, content) = object.fields.first_key_value().filter(|_| object.fields.len() == 1)?;
    match (tag.as_str(), content.kind.as_ref()?) {
        // If JSON's readers have a type for it.
        (INTEGER, Kind::StringValue(text)) => {
            text.parse::<i64>().map(Into::into).or_else(|_| text.parse::<u64>().map(Into::into)).ok()
        }
        (FLOAT, Kind::NumberValue(float)) => Some((*float).into()),
        (ESCAPED, Kind::StructValue(escaped)) => plain(object, escaped),
        _ => None,
    }
}

/// The map whose only name was escaped, unless it would be taken for something else when it comes back.
fn plain(object: &Struct, escaped: &Struct) -> Option<serde_json::Value> {
    let (name, value) = escaped.fields.first_key_value()?;
    let plain: serde_json::Value = [(name.strip_suffix(ESCAPE)?.to_owned(), json(value.clone()))].into_iter().collect();
    let meant = meaning(Wire { kind: Some(Kind::StructValue(object.clone())) })?;
    (meaning(wire(plain.clone()).ok()?)? == meant).then_some(plain)
}

/// The value that others read in this.
fn meaning(value: Wire) -> Option<Value> {
    decode(RawStruct::from(Struct { fields: [(String::new(), value)].into() })).ok()?.remove("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::value::Integer;

    fn kept(json: &str) -> Result<Map, Error> {
        data(State::from([("k".to_owned(), json.to_owned())]))
    }

    fn back(data: &Map) -> String {
        state(data).expect("it is a Struct").remove("k").expect("it is there")
    }

    /// The same JSON as `serde_json` writes it: its versions differ in `1e300` and `1e+300`.
    fn written(json: &str) -> String {
        serde_json::from_str::<serde_json::Value>(json).expect("it is JSON").to_string()
    }

    impl Dice {
        fn tag_or_name(&mut self) -> String {
            self.pick(&[" ", " t", " t__", " i", " f", " di", " di__", " b", " x", " x__", "__", "", "a"]).to_owned()
        }

        fn float(&mut self) -> f64 {
            Some(f64::from_bits(self.throw())).filter(|number| number.is_finite()).unwrap_or(0.1)
        }

        fn wire(&mut self, depth: usize) -> Wire {
            let kind = match self.throw() % if depth < 6 { 9 } else { 4 } {
                0 => Kind::NullValue(0),
                1 => Kind::StringValue(self.pick(&["", "NaN", "5", "9007199254740993", "AP8="]).to_owned()),
                2 => Kind::NumberValue(self.float()),
                3 => {
                    Kind::NumberValue([0.0, -0.0, 5.0, 1.5, 9_007_199_254_740_992.0, 1e16][(self.throw() % 6) as usize])
                }
                4 => {
                    Kind::ListValue(ListValue { values: (0..self.throw() % 3).map(|_| self.wire(depth + 1)).collect() })
                }
                _ => {
                    // Mostly one name, as a tag has.
                    let names = [1, 1, 1, 1, 0, 2][(self.throw() % 6) as usize];
                    let fields = (0..names).map(|_| (self.tag_or_name(), self.wire(depth + 1))).collect();
                    Kind::StructValue(Struct { fields })
                }
            };
            Wire { kind: Some(kind) }
        }
    }

    #[test]
    fn whatever_others_keep_in_a_session_comes_through_an_update_unchanged() {
        let mut dice = Dice(0x5e55_10ed);
        for _ in 0..5_000 {
            let fields = [(dice.tag_or_name(), dice.wire(0)), ("k".to_owned(), dice.wire(0))].into();
            let before = decode(RawStruct::from(Struct { fields })).expect("it is a Struct");
            let seen = state(&before).expect("it is a Struct");
            let after = data(seen.clone()).expect("it is JSON");
            assert!(after == before, "{seen:?}");
            assert_eq!(state(&after).expect("it is a Struct"), seen, "what is seen stays the same");
        }
    }

    #[test]
    fn no_float_moves_however_often_it_is_written_back() {
        let mut dice = Dice(0xf10a7);
        for _ in 0..20_000 {
            let float = dice.float();
            let data = kept(&back(&Map::from([("k".to_owned(), Value::Number(float))]))).expect("it is JSON");
            assert_eq!(data["k"], Value::Number(float), "{float:e}");
        }
    }

    #[test]
    fn whole_numbers_and_floats_are_told_apart_and_none_is_rounded() {
        for (json, value) in [
            ("9007199254740992", Value::Number(9_007_199_254_740_992.0)),
            ("9007199254740993", Value::Integer(Integer::from((1_i64 << 53) + 1))),
            ("-9223372036854775808", Value::Integer(Integer::from(i64::MIN))),
            ("18446744073709551615", Value::Integer(Integer::from(u64::MAX))),
            ("5", Value::Number(5.0)),
            ("5.0", Value::Float(5.0)),
            ("-0.0", Value::Number(-0.0)),
            ("1e300", Value::Number(1e300)),
            ("1e16", Value::Number(1e16)),
        ] {
            let data = kept(json).expect("it is JSON");
            assert_eq!((&data["k"], back(&data)), (&value, written(json)));
        }
    }

    #[test]
    fn a_whole_number_that_would_be_rounded_is_refused() {
        for json in [
            "18446744073709551616",
            "-9223372036854775809",
            r#"{"a":["\\\"",{"b":340282366920938463463374607431768211455}]}"#,
            "[1, 99999999999999999999 ]",
        ] {
            let error = kept(json).expect_err("it would be rounded");
            assert_eq!(error.to_string(), "the value of \"k\" holds a whole number beyond 64 bits: keep it as text");
        }
        for json in
            [r#""18446744073709551616""#, r#"{"18446744073709551616":"\"99999999999999999999,"}"#, "1e20", "1.5e19"]
        {
            assert_eq!(back(&kept(json).expect("none is rounded")), written(json));
        }
    }

    #[test]
    fn a_map_of_the_applications_own_is_no_tag_unless_it_is_spelt_as_one() {
        for own in
            [r#"{" x":1}"#, r#"{" t":"text"}"#, r#"{" i":true}"#, r#"{" f":"x"}"#, r#"{" di":{" x":[{" y":0}]}}"#]
        {
            let data = kept(own).expect("it is JSON");
            assert!(matches!(data["k"], Value::Map(_)), "{own}");
            assert_eq!(back(&data), own);
        }
        let tuple = kept(r#"{" t":[1]}"#).expect("it is JSON");
        assert_eq!(tuple["k"], Value::Tuple(vec![Value::Number(1.0)]));
        assert_eq!(back(&tuple), r#"{" t":[1]}"#);
    }

    #[test]
    fn what_is_no_json_is_an_error_that_names_the_key() {
        let deep = "[".repeat(100_000);
        for wrong in ["", "x", "{", "1 2", "{\"a\":}", "\u{0}", "NaN", &deep] {
            assert_eq!(kept(wrong).expect_err("it is no JSON").to_string(), "the value of \"k\" is not JSON");
        }
    }
}
