//! Map keys, which on the wire are text: strings as they are, chars, integers and bools as text, as `serde_json` does.

use serde::{
    de::{self, IntoDeserializer, Visitor},
    ser::{self, Impossible, Serialize},
};

use super::{ValueError, error::Why};

/// A key to its text.
pub(super) struct KeySerializer;

type Result<T = String> = std::result::Result<T, ValueError>;
type No = Impossible<String, ValueError>;

fn no_key<T>() -> Result<T> {
    Err(Why::NoKey.into())
}

macro_rules! as_text {
    ($($name:ident: $type:ty),*) => {$(
        fn $name(self, key: $type) -> Result {
            Ok(key.to_string())
        }
    )*};
}

impl ser::Serializer for KeySerializer {
    type Ok = String;
    type Error = ValueError;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    as_text!(
        serialize_bool: bool, serialize_char: char,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_str(self, key: &str) -> Result {
        Ok(key.to_owned())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, key: &T) -> Result {
        key.serialize(self)
    }

    fn serialize_f32(self, _: f32) -> Result {
        no_key()
    }

    fn serialize_f64(self, _: f64) -> Result {
        no_key()
    }

    fn serialize_bytes(self, _: &[u8]) -> Result {
        no_key()
    }

    fn serialize_none(self) -> Result {
        no_key()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result {
        no_key()
    }

    fn serialize_unit(self) -> Result {
        no_key()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        no_key()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result {
        no_key()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<No> {
        no_key()
    }

    fn serialize_tuple(self, _: usize) -> Result<No> {
        no_key()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<No> {
        no_key()
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<No> {
        no_key()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<No> {
        no_key()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<No> {
        no_key()
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<No> {
        no_key()
    }
}

/// A key from its text.
pub(super) struct KeyDeserializer<'de>(pub(super) &'de str);

macro_rules! from_text {
    ($($name:ident: $visit:ident),*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.0.parse() {
                Ok(key) => visitor.$visit(key),
                // The visitor knows what it expected, and says so.
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for KeyDeserializer<'de> {
    type Error = ValueError;

    from_text!(
        deserialize_bool: visit_bool,
        deserialize_i8: visit_i8, deserialize_i16: visit_i16, deserialize_i32: visit_i32, deserialize_i64: visit_i64,
        deserialize_i128: visit_i128,
        deserialize_u8: visit_u8, deserialize_u16: visit_u16, deserialize_u32: visit_u32, deserialize_u64: visit_u64,
        deserialize_u128: visit_u128
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
