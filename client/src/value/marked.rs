//! [`Value`], [`Integer`] and [`DateTime`] within `serde` types.
//!
//! `serde` has no words for a tuple that is no list, or a text that is a date. So they travel as newtype structs of names
//! that no other type has: our own serializer and deserializer know them and give the value back as it was, and every
//! other format passes over the name to what is inside.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor},
};
use uuid::Uuid;

use super::{DateTime, Integer, Map, Value, ValueError, as_integer};

pub(super) const VALUE: &str = "$sessiond.Value";
pub(super) const INTEGER: &str = "$sessiond.Integer";
pub(super) const FLOAT: &str = "$sessiond.Float";
pub(super) const TUPLE: &str = "$sessiond.Tuple";
pub(super) const MARKUP: &str = "$sessiond.Markup";
pub(super) const UUID: &str = "$sessiond.Uuid";
pub(super) const DATE_TIME: &str = "$sessiond.DateTime";

/// What stood inside a newtype struct of this name, as the value that it was.
pub(super) fn restore(name: &str, inner: Value) -> Result<Value, ValueError> {
    Ok(match (name, inner) {
        (INTEGER, Value::String(digits)) => Value::Integer(digits.parse()?),
        (FLOAT, Value::Number(float) | Value::Float(float)) => Value::Float(float),
        (TUPLE, Value::List(items)) => Value::Tuple(items),
        (MARKUP, Value::String(html)) => Value::Markup(html),
        (UUID, Value::String(text)) => Value::Uuid(text.parse().map_err(ValueError::custom)?),
        (DATE_TIME, Value::String(text)) => Value::DateTime(text.parse()?),
        (_, inner) => inner,
    })
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(bool) => serializer.serialize_bool(*bool),
            Self::Number(number) => match as_integer(*number) {
                Some(integer) => serializer.serialize_i64(integer),
                None => serializer.serialize_f64(*number),
            },
            Self::String(text) => serializer.serialize_str(text),
            Self::List(items) => items.serialize(serializer),
            Self::Map(map) => map.serialize(serializer),
            Self::Integer(integer) => integer.serialize(serializer),
            Self::Float(float) => serializer.serialize_newtype_struct(FLOAT, float),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Tuple(items) => serializer.serialize_newtype_struct(TUPLE, items),
            Self::Markup(html) => serializer.serialize_newtype_struct(MARKUP, html),
            Self::Uuid(uuid) => {
                let mut buffer = Uuid::encode_buffer();
                serializer.serialize_newtype_struct(UUID, &*uuid.hyphenated().encode_lower(&mut buffer))
            }
            Self::DateTime(date_time) => date_time.serialize(serializer),
        }
    }
}

/// As text where a format is not ours: many readers of JSON would round a number.
impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(INTEGER, self.as_str())
    }
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(DATE_TIME, self.as_str())
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE, ValueVisitor)
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(INTEGER, IntegerVisitor)
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(DATE_TIME, DateTimeVisitor)
    }
}

/// Our own deserializer gives what needs a tag as a variant of the mark's name, all else as every format does.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (mark, content) = access.variant::<String>()?;
        match mark.as_str() {
            INTEGER => content.newtype_variant().map(Value::Integer),
            FLOAT => content.newtype_variant().map(Value::Float),
            TUPLE => content.newtype_variant().map(Value::Tuple),
            MARKUP => content.newtype_variant().map(Value::Markup),
            UUID => {
                let text: String = content.newtype_variant()?;
                text.parse().map(Value::Uuid).map_err(de::Error::custom)
            }
            DATE_TIME => content.newtype_variant().map(Value::DateTime),
            _ => Err(de::Error::invalid_type(Unexpected::Enum, &self)),
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Value, E> {
        Ok(number(integer.into()))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Value, E> {
        Ok(number(integer.into()))
    }

    fn visit_i128<E>(self, integer: i128) -> Result<Value, E> {
        Ok(number(integer.into()))
    }

    fn visit_u128<E>(self, integer: u128) -> Result<Value, E> {
        Ok(number(integer.into()))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(if float.is_finite() { Value::Number(float) } else { Value::Float(float) })
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_owned()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = access.next_entry()? {
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }
}

/// An integer of another format as the value that holds it.
fn number(integer: Integer) -> Value {
    integer.as_number().map_or(Value::Integer(integer), Value::Number)
}

struct IntegerVisitor;

impl<'de> Visitor<'de> for IntegerVisitor {
    type Value = Integer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Integer, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Integer, E> {
        Ok(integer.into())
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Integer, E> {
        Ok(integer.into())
    }

    fn visit_i128<E>(self, integer: i128) -> Result<Integer, E> {
        Ok(integer.into())
    }

    fn visit_u128<E>(self, integer: u128) -> Result<Integer, E> {
        Ok(integer.into())
    }

    fn visit_str<E: de::Error>(self, digits: &str) -> Result<Integer, E> {
        digits.parse().map_err(|_| E::invalid_value(Unexpected::Str(digits), &self))
    }
}

struct DateTimeVisitor;

impl<'de> Visitor<'de> for DateTimeVisitor {
    type Value = DateTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a date and time as in 2026-05-01T12:00:00+02:00")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<DateTime, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<DateTime, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Page {
        id: Integer,
        seen: Option<DateTime>,
        extra: Vec<Value>,
        more: Map,
    }

    fn page() -> Page {
        let big = || Integer::from(u64::MAX);
        let seen = || "2026-05-01T12:00:00Z".parse::<DateTime>().unwrap();
        let extra = vec![
            Value::Null,
            Value::Bool(true),
            Value::Number(5.0),
            Value::Number(-0.0),
            Value::Number(1.5),
            Value::Number(1e300),
            Value::String("tea".to_owned()),
            Value::Integer(big()),
            Value::Integer(5.into()),
            Value::Integer("9".repeat(100).parse().unwrap()),
            Value::Float(5.0),
            Value::Float(1.5),
            Value::Float(f64::NAN),
            Value::Float(f64::INFINITY),
            Value::Bytes(vec![0, 255]),
            Value::Markup("<b>".to_owned()),
            Value::Uuid(Uuid::from_u128(7)),
            Value::DateTime(seen()),
        ];
        let nested = Value::Tuple(vec![Value::Tuple(extra.clone()), Value::List(extra.clone())]);
        Page { id: big(), seen: Some(seen()), extra, more: Map::from([("nested".to_owned(), nested)]) }
    }

    #[test]
    fn every_value_passes_through_other_types_as_it_is() {
        let value = Value::of(&page()).unwrap();
        assert_eq!(value.to::<Page>().unwrap(), page());
        assert_eq!(value.to::<Value>().unwrap(), value);
        assert_eq!(Value::of(&value).unwrap(), value);
        let Value::Map(fields) = value else { panic!("a struct is a map") };
        assert_eq!(fields["extra"], Value::List(page().extra));
        assert_eq!(fields["more"], Value::Map(page().more));
        assert_eq!(fields["id"], Value::Integer(u64::MAX.into()));
    }

    #[test]
    fn json_sees_the_nearest_thing_that_it_has() {
        let expected = json!([
            null,
            true,
            5,
            -0.0,
            1.5,
            1e300,
            "tea",
            "18446744073709551615",
            "5",
            "9".repeat(100),
            5.0,
            1.5,
            null,
            null,
            [0, 255],
            "<b>",
            "00000000-0000-0000-0000-000000000007",
            "2026-05-01T12:00:00Z"
        ]);
        assert_eq!(serde_json::to_value(page().extra).unwrap(), expected);
        let text = r#"{"id": 18446744073709551615, "seen": "2026-05-01T12:00:00Z", "extra": [18446744073709551615, 1], "more": {}}"#;
        let page: Page = serde_json::from_str(text).unwrap();
        assert_eq!(page.id, u64::MAX.into());
        assert_eq!(page.extra, [Value::Integer(u64::MAX.into()), Value::Number(1.0)]);
        let digits: Integer = serde_json::from_value(json!("123")).unwrap();
        assert_eq!(digits, 123.into());
    }

    #[test]
    fn a_mark_cannot_be_put_on_by_another_types_text() {
        let Value::String(text) = Value::of(INTEGER).unwrap() else { panic!("it is text") };
        assert_eq!(text, INTEGER);
        let map = Value::Map(Map::from([(TUPLE.to_owned(), Value::List(Vec::new()))]));
        assert_eq!(map.to::<Value>().unwrap(), map);
    }
}
