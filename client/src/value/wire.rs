//! Values and the wire: a `google.protobuf.Struct`, with tags for what it does not know. The table is in [`super`].

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost_types::{ListValue, Struct, Value as Wire, value::Kind};
use sessiond_proto::RawStruct;
use uuid::Uuid;

use super::{DateTime, Integer, Map, Value, ValueError, as_integer, error::Why};

const TUPLE: &str = " t";
const BYTES: &str = " b";
const MARKUP: &str = " m";
const UUID: &str = " u";
const DATE_TIME: &str = " d";
pub(crate) const INTEGER: &str = " i";
pub(crate) const FLOAT: &str = " f";
pub(crate) const ESCAPED: &str = " di";

/// What a name gets appended that could be taken for a tag.
pub(crate) const ESCAPE: &str = "__";

const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const MINUS_INFINITY: &str = "-Infinity";

/// These entries of a session's data, as they are sent. Their own names are neither escaped nor tags.
pub(crate) fn encode<'a>(entries: impl IntoIterator<Item = (&'a String, &'a Value)>) -> RawStruct {
    RawStruct::from(object(entries))
}

/// A session's data, as it came.
///
/// # Errors
/// When the bytes are no `google.protobuf.Struct`.
pub(crate) fn decode(data: RawStruct) -> Result<Map, ValueError> {
    data.decode().map(map).map_err(|_| Why::NoStruct.into())
}

fn object<'a>(entries: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Struct {
    Struct { fields: entries.into_iter().map(|(key, value)| (key.clone(), write(value))).collect() }
}

fn map(object: Struct) -> Map {
    object.fields.into_iter().map(|(key, value)| (key, read(value))).collect()
}

fn write(value: &Value) -> Wire {
    wire(match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(bool) => Kind::BoolValue(*bool),
        Value::Number(number) if number.is_finite() => Kind::NumberValue(*number),
        Value::Number(number) | Value::Float(number) => float(*number),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::List(items) => list(items),
        Value::Map(map) => match only(map) {
            Some((name, _)) if name.starts_with(' ') => tagged(ESCAPED, Kind::StructValue(escape(map))),
            _ => Kind::StructValue(object(map)),
        },
        Value::Integer(integer) => match integer.as_number() {
            Some(plain) => Kind::NumberValue(plain),
            None => tagged(INTEGER, Kind::StringValue(integer.to_string())),
        },
        Value::Bytes(bytes) => tagged(BYTES, Kind::StringValue(STANDARD.encode(bytes))),
        Value::Tuple(items) => tagged(TUPLE, list(items)),
        Value::Markup(html) => tagged(MARKUP, Kind::StringValue(html.clone())),
        Value::Uuid(uuid) => tagged(UUID, Kind::StringValue(uuid.simple().to_string())),
        Value::DateTime(date_time) => tagged(DATE_TIME, Kind::StringValue(date_time.to_string())),
    })
}

fn wire(kind: Kind) -> Wire {
    Wire { kind: Some(kind) }
}

fn list(items: &[Value]) -> Kind {
    Kind::ListValue(ListValue { values: items.iter().map(write).collect() })
}

fn tagged(tag: &str, content: Kind) -> Kind {
    Kind::StructValue(Struct { fields: [(tag.to_owned(), wire(content))].into() })
}

/// Tagged only where a plain number would be taken for an integer, or cannot say it.
fn float(float: f64) -> Kind {
    let special = |text: &str| tagged(FLOAT, Kind::StringValue(text.to_owned()));
    if float.is_nan() {
        special(NAN)
    } else if float.is_infinite() {
        special(if float > 0.0 { INFINITY } else { MINUS_INFINITY })
    } else if as_integer(float).is_some() {
        tagged(FLOAT, Kind::NumberValue(float))
    } else {
        Kind::NumberValue(float)
    }
}

fn escape(map: &Map) -> Struct {
    Struct { fields: map.iter().map(|(name, value)| (format!("{name}{ESCAPE}"), write(value))).collect() }
}

/// The only member.
fn only(map: &Map) -> Option<(&String, &Value)> {
    map.first_key_value().filter(|_| map.len() == 1)
}

/// A value without a kind, which the service lets nobody store, reads as null.
fn read(value: Wire) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(bool)) => Value::Bool(bool),
        Some(Kind::NumberValue(number)) => plain(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::List(items(list)),
        Some(Kind::StructValue(object)) => untag(object),
    }
}

/// A number as no tag told it. Infinite it cannot be: the service lets nobody store that.
fn plain(number: f64) -> Value {
    if number.is_finite() { Value::Number(number) } else { Value::Float(number) }
}

fn items(list: ListValue) -> Vec<Value> {
    list.values.into_iter().map(read).collect()
}

/// What the object's tag says, or the map that it is if it has none, or its content does not fit.
fn untag(mut object: Struct) -> Value {
    let may_be_tagged = object.fields.len() == 1 && object.fields.keys().all(|name| name.starts_with(' '));
    if may_be_tagged && let Some((tag, content)) = object.fields.pop_first() {
        match meant(&tag, content) {
            Ok(value) => return value,
            Err(content) => drop(object.fields.insert(tag, content)),
        }
    }
    Value::Map(map(object))
}

/// The value that is meant by this content under this tag; the content back if it does not fit.
///
/// What reads back is always what would be written: `{" i": "5"}` is the number 5.
fn meant(tag: &str, content: Wire) -> Result<Value, Wire> {
    match (tag, content.kind) {
        (TUPLE, Some(Kind::ListValue(list))) => Ok(Value::Tuple(items(list))),
        (MARKUP, Some(Kind::StringValue(html))) => Ok(Value::Markup(html)),
        (FLOAT, Some(Kind::NumberValue(number))) => Ok(match as_integer(number) {
            Some(_) => Value::Float(number),
            None => plain(number),
        }),
        (ESCAPED, Some(Kind::StructValue(object))) => {
            unescape(object).map_err(|object| wire(Kind::StructValue(object)))
        }
        (_, Some(Kind::StringValue(text))) => spelt(tag, &text).ok_or_else(|| wire(Kind::StringValue(text))),
        (_, kind) => Err(Wire { kind }),
    }
}

/// The value that this text spells under this tag.
fn spelt(tag: &str, text: &str) -> Option<Value> {
    match tag {
        BYTES => STANDARD.decode(text).ok().map(Value::Bytes),
        UUID => (text.len() == 32).then(|| Uuid::try_parse(text).ok()).flatten().map(Value::Uuid),
        DATE_TIME => text.parse::<DateTime>().ok().map(Value::DateTime),
        INTEGER => {
            let integer: Integer = text.parse().ok()?;
            Some(integer.as_number().map_or(Value::Integer(integer), Value::Number))
        }
        FLOAT => match text {
            NAN => Some(Value::Float(f64::NAN)),
            INFINITY => Some(Value::Float(f64::INFINITY)),
            MINUS_INFINITY => Some(Value::Float(f64::NEG_INFINITY)),
            _ => None,
        },
        _ => None,
    }
}

/// The map whose only name was escaped; the object back if none was.
fn unescape(object: Struct) -> Result<Value, Struct> {
    let unescaped = |name: &String| name.strip_suffix(ESCAPE).filter(|name| name.starts_with(' ')).map(str::to_owned);
    let name = object.fields.keys().next().and_then(unescaped).filter(|_| object.fields.len() == 1);
    match name {
        Some(name) => Ok(Value::Map(object.fields.into_values().map(|value| (name.clone(), read(value))).collect())),
        None => Err(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    impl Dice {
        fn name(&mut self) -> String {
            self.pick(&["", " ", "  ", " t", " di", " x", " t__", " __", "__", "di", "a", "b", "tee ☕"]).to_owned()
        }

        fn number(&mut self) -> f64 {
            match self.below(4) {
                0 => [0.0, -0.0, 1.5, 9_007_199_254_740_992.0, 9_007_199_254_740_994.0, f64::MAX][self.below(6)],
                1 => self.below(1000) as f64 - 500.0,
                _ => Some(f64::from_bits(self.throw())).filter(|number| number.is_finite()).unwrap_or(1e-300),
            }
        }

        fn items(&mut self, depth: usize) -> Vec<Value> {
            (0..self.below(3)).map(|_| self.value(depth + 1)).collect()
        }

        /// A value of which there is one way to say it.
        fn value(&mut self, depth: usize) -> Value {
            match self.below(if depth < 6 { 16 } else { 10 }) {
                0 => Value::Null,
                1 => Value::Bool(self.below(2) == 0),
                2 => Value::Number(self.number()),
                3 => Value::String(self.pick(&["", " t", "{\" t\": []}", "NaN", "5"]).to_owned()),
                4 => Value::Integer(Integer::from(i128::from(self.throw()) + (1 << 53) + 1)),
                5 => Value::Float([0.0, 5.0, -9_007_199_254_740_992.0, f64::NAN, f64::NEG_INFINITY][self.below(5)]),
                6 => Value::Bytes(self.throw().to_le_bytes()[..self.below(9)].to_vec()),
                7 => Value::Markup(self.pick(&["", "<b>"]).to_owned()),
                8 => Value::Uuid(Uuid::from_u64_pair(self.throw(), self.throw())),
                9 => Value::DateTime("2026-05-01T12:00:00+02:00".parse().expect("it is one")),
                10 | 11 => Value::List(self.items(depth)),
                12 | 13 => Value::Tuple(self.items(depth)),
                _ => Value::Map(self.items(depth).into_iter().map(|value| (self.name(), value)).collect()),
            }
        }
    }

    #[test]
    fn what_is_written_reads_back_whatever_it_is() {
        let mut dice = Dice(0x5e55_10ed);
        for _ in 0..20_000 {
            let data = Map::from([(dice.name(), dice.value(0))]);
            let wire = encode(&data);
            let read = decode(wire.clone()).expect("it is a Struct");
            assert!(read == data, "{wire:?} of {data:?} reads as {read:?}");
            for value in data.values() {
                assert!(&Value::of(value).expect("it can be kept") == value, "{value:?}");
                assert!(&value.to::<Value>().expect("it is a value") == value, "{value:?}");
            }
        }
    }

    #[test]
    fn what_can_be_said_in_two_ways_reads_back_in_one() {
        for (said, read) in [
            (Value::Float(1.5), Value::Number(1.5)),
            (Value::Float(-0.0), Value::Number(-0.0)),
            (Value::Float(1e300), Value::Number(1e300)),
            (Value::Integer(Integer::from(5)), Value::Number(5.0)),
            (Value::Number(f64::NAN), Value::Float(f64::NAN)),
            (Value::Number(f64::INFINITY), Value::Float(f64::INFINITY)),
        ] {
            let data = Map::from([("k".to_owned(), said)]);
            assert_eq!(decode(encode(&data)).expect("it is a Struct")["k"], read);
        }
    }

    #[test]
    fn entries_may_be_encoded_in_part() {
        let data = Map::from([("a".to_owned(), Value::Null), ("b".to_owned(), Value::Bool(true))]);
        let part = encode(data.iter().filter(|(key, _)| *key == "b"));
        assert_eq!(decode(part).expect("it is a Struct"), Map::from([("b".to_owned(), Value::Bool(true))]));
        assert_eq!(encode([]).as_bytes(), b"");
    }

    #[test]
    fn bytes_that_are_no_struct_are_an_error_without_content() {
        let error =
            decode(RawStruct::from(tonic::codegen::Bytes::from_static(b"\x0a\x05secret"))).expect_err("it is cut");
        assert_eq!(error.to_string(), "the session's data cannot be read: it is no google.protobuf.Struct");
    }
}
