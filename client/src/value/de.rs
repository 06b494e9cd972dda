//! A [`Value`] to any `serde` type.
//!
//! On the way down nothing is kept of the path: an error picks it up on its way out.

use std::{collections::btree_map, slice};

use serde::de::{
    self, DeserializeSeed, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{Map, Value, ValueError, as_integer, error::Why, key::KeyDeserializer, marked};

type Result<T> = std::result::Result<T, ValueError>;

/// Reads this value.
#[derive(Clone, Copy)]
pub(super) struct Deserializer<'de>(pub(super) &'de Value);

impl<'de> Deserializer<'de> {
    fn wrong_kind<T>(self, expected: &dyn Expected) -> Result<T> {
        Err(Why::WrongKind { expected: expected.to_string(), found: self.0.kind() }.into())
    }

    fn list<V: Visitor<'de>>(items: &'de [Value], visitor: V) -> Result<V::Value> {
        let mut access = ListAccess { items: items.iter(), index: 0 };
        let read = visitor.visit_seq(&mut access)?;
        if access.items.len() == 0 { Ok(read) } else { Err(ValueError::invalid_length(items.len(), &"fewer items")) }
    }

    fn map<V: Visitor<'de>>(map: &'de Map, visitor: V) -> Result<V::Value> {
        visitor.visit_map(EntryAccess { entries: map.iter(), value: None })
    }

    fn tagged<V: Visitor<'de>>(self, mark: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_enum(Variant { name: mark, content: Some(self.0), in_path: false })
    }
}

macro_rules! integers {
    ($($name:ident: $visit:ident $type:ident),*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let plain = match self.0 {
                Value::Integer(big) => return visitor.$visit(big.try_into()?),
                // Asked for an integer, it is one, whatever its sign.
                Value::Number(zero) if *zero == 0.0 => Some(0),
                Value::Number(number) => as_integer(*number),
                _ => None,
            };
            match plain {
                Some(plain) => visitor.$visit(plain.try_into().map_err(|_| Why::OutOfRange(stringify!($type)))?),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

/// A big integer is no text, though without being asked for a kind it is given as such.
macro_rules! texts {
    ($($name:ident),*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.0 {
                Value::Integer(_) => self.wrong_kind(&visitor),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

macro_rules! floats {
    ($($name:ident),*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.0 {
                Value::Number(float) | Value::Float(float) => visitor.visit_f64(*float),
                Value::Integer(integer) => visitor.visit_f64(integer.as_exact().ok_or(Why::NotExact)?),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Deserializer<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(bool) => visitor.visit_bool(*bool),
            Value::Number(number) => match as_integer(*number) {
                Some(integer @ 0..) => visitor.visit_u64(integer as u64),
                Some(integer) => visitor.visit_i64(integer),
                None => visitor.visit_f64(*number),
            },
            Value::String(text) | Value::Markup(text) => visitor.visit_borrowed_str(text),
            Value::List(items) | Value::Tuple(items) => Self::list(items, visitor),
            Value::Map(map) => Self::map(map, visitor),
            // Text beyond 64 bits: the buffer behind `#[serde(flatten)]` holds no 128.
            Value::Integer(big) => match (u64::try_from(big), i64::try_from(big)) {
                (Ok(integer), _) => visitor.visit_u64(integer),
                (_, Ok(integer)) => visitor.visit_i64(integer),
                _ => visitor.visit_borrowed_str(big.as_str()),
            },
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::Uuid(uuid) => visitor.visit_string(uuid.hyphenated().to_string()),
            Value::DateTime(date_time) => visitor.visit_borrowed_str(date_time.as_str()),
        }
    }

    integers!(
        deserialize_i8: visit_i8 i8, deserialize_i16: visit_i16 i16, deserialize_i32: visit_i32 i32,
        deserialize_i64: visit_i64 i64, deserialize_i128: visit_i128 i128,
        deserialize_u8: visit_u8 u8, deserialize_u16: visit_u16 u16, deserialize_u32: visit_u32 u32,
        deserialize_u64: visit_u64 u64, deserialize_u128: visit_u128 u128
    );
    floats!(deserialize_f32, deserialize_f64);
    texts!(deserialize_char, deserialize_str, deserialize_string);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        match (name, self.0) {
            (marked::VALUE, Value::Integer(_)) => self.tagged(marked::INTEGER, visitor),
            (marked::VALUE, Value::Float(_)) => self.tagged(marked::FLOAT, visitor),
            (marked::VALUE, Value::Tuple(_)) => self.tagged(marked::TUPLE, visitor),
            (marked::VALUE, Value::Markup(_)) => self.tagged(marked::MARKUP, visitor),
            (marked::VALUE, Value::Uuid(_)) => self.tagged(marked::UUID, visitor),
            (marked::VALUE, Value::DateTime(_)) => self.tagged(marked::DATE_TIME, visitor),
            (marked::VALUE, _) => self.deserialize_any(visitor),
            (marked::INTEGER, Value::Integer(big)) => visitor.visit_borrowed_str(big.as_str()),
            (marked::INTEGER, Value::Number(_)) => self.deserialize_i64(visitor),
            (marked::DATE_TIME, Value::DateTime(_) | Value::String(_)) => self.deserialize_str(visitor),
            (marked::INTEGER | marked::DATE_TIME, _) => self.wrong_kind(&visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(Variant { name, content: None, in_path: true }),
            Value::Map(map) if map.len() == 1 => match map.first_key_value() {
                Some((name, content)) => visitor.visit_enum(Variant { name, content: Some(content), in_path: true }),
                None => self.wrong_kind(&visitor),
            },
            _ => self.wrong_kind(&visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

struct ListAccess<'de> {
    items: slice::Iter<'de, Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for ListAccess<'de> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Deserializer(item)).map(Some).map_err(|error| error.at_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct EntryAccess<'de> {
    entries: btree_map::Iter<'de, String, Value>,
    /// The value that comes next, with its key.
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for EntryAccess<'de> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, value));
        // An unknown field has named itself.
        let named = |error: ValueError| if error.path().is_empty() { error.at_key(key) } else { error };
        seed.deserialize(KeyDeserializer(key)).map(Some).map_err(named)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let (key, value) = self.value.take().ok_or_else(|| ValueError::custom("asked for a value before its key"))?;
        seed.deserialize(Deserializer(value)).map_err(|error| error.at_key(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A variant of an enum: its name, and what it holds.
#[derive(Clone, Copy)]
struct Variant<'de> {
    name: &'de str,
    content: Option<&'de Value>,
    /// Whether its name is a key of the data, and so a step of the path.
    in_path: bool,
}

impl<'de> Variant<'de> {
    fn inside(self) -> impl Fn(ValueError) -> ValueError {
        move |error| if self.in_path { error.at_key(self.name) } else { error }
    }

    fn content(self, expected: &dyn Expected) -> Result<&'de Value> {
        let lacks = || Why::WrongKind { expected: expected.to_string(), found: "a variant without content" };
        self.content.ok_or_else(|| lacks().into())
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        Ok((seed.deserialize(KeyDeserializer(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<()> {
        match self.content {
            None | Some(Value::Null) => Ok(()),
            Some(content) => Deserializer(content).wrong_kind(&"a variant without content").map_err(self.inside()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        let content = self.content(&"a variant with content")?;
        seed.deserialize(Deserializer(content)).map_err(self.inside())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        match self.content(&visitor)? {
            Value::List(items) | Value::Tuple(items) => Deserializer::list(items, visitor).map_err(self.inside()),
            other => Deserializer(other).wrong_kind(&visitor).map_err(self.inside()),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value> {
        match self.content(&visitor)? {
            Value::Map(map) => Deserializer::map(map, visitor).map_err(self.inside()),
            other => Deserializer(other).wrong_kind(&visitor).map_err(self.inside()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        fmt::Debug,
    };

    use serde::{Deserialize, Serialize, de::DeserializeOwned};

    use super::*;
    use crate::value::{DateTime, Integer};

    fn refusal<T: DeserializeOwned + Debug>(value: impl Serialize) -> String {
        let value = Value::of(&value).expect("it can be kept");
        value.to::<T>().expect_err("it is no such type").to_string()
    }

    fn map(key: &str, value: Value) -> Value {
        Value::Map(Map::from([(key.to_owned(), value)]))
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Item {
        name: String,
        price: f64,
        count: u32,
        note: Option<String>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Newtype(Option<u8>),
        Tuple(u8, char),
        Struct { side: f32 },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(i64);

    #[test]
    fn what_was_put_in_comes_out() {
        fn back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
            assert_eq!(Value::of(&value).unwrap().to::<T>().unwrap(), value);
        }
        back(Item { name: "tea".to_owned(), price: 4.5, count: 2, note: None });
        back([
            Shape::Unit,
            Shape::Newtype(None),
            Shape::Newtype(Some(1)),
            Shape::Tuple(1, 'x'),
            Shape::Struct { side: 0.1 },
        ]);
        back((Unit, Wrapped(-7), (), None::<u8>, Some("text".to_owned()), 'c', [1, 2], ((),)));
        back((i8::MIN, i16::MIN, i32::MIN, -(1i64 << 53), u8::MAX, u16::MAX, u32::MAX, 1u64 << 53, 5i128, 5u128));
        back((0.1f64, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, 5.0f64, 0.1f32, f32::MAX));
        back(HashMap::from([(-1i8, BTreeMap::from([(true, 'x'), (false, 'y')]))]));
        back((BTreeMap::from([(u128::MAX, 1)]), BTreeMap::from([('c', Some(1)), ('d', None)])));
        back(serde_bytes::ByteBuf::from(vec![0, 1, 255]));
        back(Integer::from(5));
    }

    #[test]
    fn an_error_says_where_and_never_what() {
        let cart = |price: Value| map("cart", Value::List(vec![Value::of(&Item::default()).unwrap(), price]));
        type Cart = HashMap<String, Vec<Item>>;
        let item = |key: &str, value: Value| {
            let Value::Map(mut item) = Value::of(&Item::default()).unwrap() else { unreachable!() };
            item.insert(key.to_owned(), value);
            cart(Value::Map(item))
        };
        let secret = || Value::String("secret".to_owned());
        let told = |value: Value| refusal::<Cart>(value);
        assert_eq!(told(item("price", secret())), "cart[1].price: expected f64, found a string");
        assert_eq!(told(item("name", Value::Number(4711.0))), "cart[1].name: expected a string, found an integer");
        assert_eq!(
            told(item("count", Value::Number(-4711.0))),
            "cart[1].count: expected u32, found an integer beyond its range"
        );
        assert_eq!(told(item("count", Value::Number(47.11))), "cart[1].count: expected u32, found a float");
        assert_eq!(told(item("note", Value::Bool(true))), "cart[1].note: expected a string, found a bool");
        assert_eq!(told(cart(secret())), "cart[1]: expected struct Item, found a string");
        assert_eq!(told(cart(map("name", secret()))), "cart[1]: lacks the field `price`");
        assert_eq!(told(secret()), "expected a map, found a string");
        assert_eq!(
            refusal::<Shape>("secret"),
            "expected one of [\"Unit\", \"Newtype\", \"Tuple\", \"Struct\"], found the name of another variant"
        );
        assert_eq!(
            refusal::<Shape>(map("Tuple", Value::Null)),
            "Tuple: expected tuple variant Shape::Tuple, found null"
        );
        assert_eq!(refusal::<Shape>(("secret", 1)), "expected enum Shape, found a list");
        assert_eq!(refusal::<BTreeMap<u8, u8>>(map("secret", Value::Null)), "secret: expected u8, found a string");
        assert_eq!(refusal::<(u8, u8)>([1, 2, 3]), "expected fewer items, found 3 of them");
        assert_eq!(refusal::<(u8, u8)>([1]), "expected a tuple of size 2, found 1 of them");
        assert_eq!(refusal::<char>("secret"), "expected a character, found a string that will not do");
        assert_eq!(refusal::<Strict>(map("colour", secret())), "colour: a field that its type does not have");
        assert_eq!(refusal::<std::net::IpAddr>("secret").split(' ').next(), Some("its"));
    }

    #[test]
    fn an_integer_that_may_have_been_rounded_is_no_integer() {
        assert_eq!(refusal::<i64>(9_007_199_254_740_994.0), "expected i64, found a float");
        assert_eq!(refusal::<u64>(1.5), "expected u64, found a float");
        assert_eq!(refusal::<u64>(Value::Float(5.0)), "expected u64, found a float");
        assert_eq!(Value::Number(-0.0).to::<u8>().unwrap(), 0);
    }

    #[test]
    fn a_big_integer_is_read_where_it_fits() {
        let big = Value::of(&Integer::from(u64::MAX)).unwrap();
        assert_eq!(big.to::<u64>().unwrap(), u64::MAX);
        assert_eq!(big.to::<i128>().unwrap(), u64::MAX.into());
        assert_eq!(refusal::<i64>(&big), "expected i64, found an integer beyond its range");
        assert_eq!(refusal::<f64>(&big), "expected a float, found an integer that a double would round");
        assert_eq!(refusal::<String>(&big), "expected a string, found a big integer");
        let exact = Value::of(&Integer::from(1u128 << 64)).unwrap();
        assert_eq!(exact.to::<f64>().unwrap(), 2f64.powi(64));
        assert_eq!(exact.to::<u128>().unwrap(), 1 << 64);
        assert_eq!(exact.to::<serde_json::Value>().unwrap(), "18446744073709551616");
        assert_eq!(big.to::<serde_json::Value>().unwrap(), u64::MAX);
    }

    #[test]
    fn text_is_read_from_all_that_is_text() {
        let date: DateTime = "2026-05-01T12:00:00".parse().unwrap();
        let uuid = uuid::Uuid::from_u128(0xabc);
        for (value, text) in [
            (Value::Markup("<b>".to_owned()), "<b>"),
            (Value::DateTime(date.clone()), "2026-05-01T12:00:00"),
            (Value::Uuid(uuid), "00000000-0000-0000-0000-000000000abc"),
        ] {
            assert_eq!(value.to::<String>().unwrap(), text);
        }
        let text = Value::String("2026-05-01T12:00:00".to_owned());
        assert_eq!(text.to::<DateTime>().unwrap(), date);
        assert!(refusal::<DateTime>("secret").starts_with("expected a date and time"));
        assert_eq!(refusal::<Integer>("123"), "expected an integer, found a string");
    }

    #[test]
    fn a_tuple_is_read_as_a_list_and_bytes_only_as_bytes() {
        let pair = vec![Value::Number(1.0), Value::String("x".to_owned())];
        assert_eq!(Value::Tuple(pair).to::<(u8, char)>().unwrap(), (1, 'x'));
        let bytes = Value::Bytes(b"tea".to_vec());
        assert_eq!(bytes.to::<serde_bytes::ByteBuf>().unwrap().as_ref(), b"tea");
        assert_eq!(refusal::<Vec<u8>>(&bytes), "expected a sequence, found bytes");
    }

    #[test]
    fn enums_of_every_representation_are_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Untagged {
            Number(i64),
            Item(Item),
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            Item(Item),
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Flat {
            #[serde(flatten)]
            item: Item,
            #[serde(flatten)]
            rest: Map,
        }
        let values = (Untagged::Number(-7), Untagged::Item(Item::default()), Tagged::Item(Item::default()));
        assert_eq!(Value::of(&values).unwrap().to::<(Untagged, Untagged, Tagged)>().unwrap(), values);
        let big = Value::Integer(Integer::from(u128::MAX));
        let flat = Flat { item: Item::default(), rest: Map::from([("big".to_owned(), big.clone())]) };
        let value = Value::of(&flat).unwrap();
        assert_eq!(value.to::<HashMap<String, Value>>().unwrap()["big"], big);
        assert_eq!(value.to::<Flat>().unwrap().rest["big"], Value::String(u128::MAX.to_string()));
    }
}
