//! Any `serde` type to a [`Value`].

use serde::ser::{self, Serialize};

use super::{Map, Value, ValueError, as_number, error::Why, key::KeySerializer, marked};

type Result<T = Value> = std::result::Result<T, ValueError>;

/// How many containers, `Some`s and newtypes may stand within one another. Without a bound a type that contains itself,
/// by way of an `Rc`, would run out of stack. Above what the service takes, which gives the better error.
const MAX_DEPTH: usize = 200;

/// Serializes what stands this deep.
#[derive(Clone, Copy, Default)]
pub(super) struct Serializer {
    depth: usize,
}

impl Serializer {
    /// One level further in.
    fn within(self) -> Result<Self> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH { Err(Why::TooDeep(MAX_DEPTH).into()) } else { Ok(Self { depth }) }
    }

    fn list(self, length: Option<usize>, variant: Option<&'static str>) -> Result<ListSerializer> {
        // A hint may be wrong: what is reserved for it stays small.
        Ok(ListSerializer { items: Vec::with_capacity(length.unwrap_or(0).min(64)), item: self.within()?, variant })
    }

    fn map(self, variant: Option<&'static str>) -> Result<MapSerializer> {
        Ok(MapSerializer { map: Map::new(), key: String::new(), item: self.within()?, variant })
    }
}

/// `{"<variant>": content}`, as `serde_json` writes a variant with content.
fn in_variant(variant: Option<&'static str>, content: Value) -> Value {
    match variant {
        Some(variant) => Value::Map(Map::from([(variant.to_owned(), content)])),
        None => content,
    }
}

macro_rules! integers {
    ($($name:ident: $type:ty),*) => {$(
        fn $name(self, integer: $type) -> Result {
            let number = i64::try_from(integer).ok().and_then(as_number);
            number.map(Value::Number).ok_or_else(|| Why::TooBig.into())
        }
    )*};
}

impl ser::Serializer for Serializer {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = ListSerializer;
    type SerializeTuple = ListSerializer;
    type SerializeTupleStruct = ListSerializer;
    type SerializeTupleVariant = ListSerializer;
    type SerializeMap = MapSerializer;
    type SerializeStruct = MapSerializer;
    type SerializeStructVariant = MapSerializer;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_bool(self, bool: bool) -> Result {
        Ok(Value::Bool(bool))
    }

    fn serialize_f32(self, float: f32) -> Result {
        self.serialize_f64(float.into())
    }

    fn serialize_f64(self, float: f64) -> Result {
        Ok(if float.is_finite() { Value::Number(float) } else { Value::Float(float) })
    }

    fn serialize_char(self, char: char) -> Result {
        Ok(Value::String(char.into()))
    }

    fn serialize_str(self, text: &str) -> Result {
        Ok(Value::String(text.to_owned()))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result {
        Ok(Value::Bytes(bytes.to_owned()))
    }

    fn serialize_none(self) -> Result {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self.within()?)
    }

    fn serialize_unit(self) -> Result {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result {
        marked::restore(name, value.serialize(self.within()?)?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        let content = value.serialize(self.within()?).map_err(|error| error.at_key(variant))?;
        Ok(in_variant(Some(variant), content))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<ListSerializer> {
        self.list(length, None)
    }

    fn serialize_tuple(self, length: usize) -> Result<ListSerializer> {
        self.list(Some(length), None)
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<ListSerializer> {
        self.list(Some(length), None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<ListSerializer> {
        self.within()?.list(Some(length), Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<MapSerializer> {
        self.map(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MapSerializer> {
        self.map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<MapSerializer> {
        self.within()?.map(Some(variant))
    }
}

/// A list that grows.
pub(super) struct ListSerializer {
    items: Vec<Value>,
    item: Serializer,
    variant: Option<&'static str>,
}

impl ListSerializer {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let index = self.items.len();
        let inside = |error: ValueError| match self.variant {
            Some(variant) => error.at_index(index).at_key(variant),
            None => error.at_index(index),
        };
        self.items.push(value.serialize(self.item).map_err(inside)?);
        Ok(())
    }

    fn finish(self) -> Value {
        in_variant(self.variant, Value::List(self.items))
    }
}

macro_rules! list {
    ($($shape:ident: $push:ident),*) => {$(
        impl ser::$shape for ListSerializer {
            type Ok = Value;
            type Error = ValueError;

            fn $push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.push(value)
            }

            fn end(self) -> Result {
                Ok(self.finish())
            }
        }
    )*};
}

list!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

/// A map that grows.
pub(super) struct MapSerializer {
    map: Map,
    /// The key whose value comes next.
    key: String,
    item: Serializer,
    variant: Option<&'static str>,
}

impl MapSerializer {
    fn put<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<()> {
        match value.serialize(self.item) {
            Ok(value) => drop(self.map.insert(key, value)),
            Err(error) => {
                let error = error.at_key(&key);
                return Err(if let Some(variant) = self.variant { error.at_key(variant) } else { error });
            }
        }
        Ok(())
    }

    fn finish(self) -> Value {
        in_variant(self.variant, Value::Map(self.map))
    }
}

impl ser::SerializeMap for MapSerializer {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = key.serialize(KeySerializer)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let key = std::mem::take(&mut self.key);
        self.put(key, value)
    }

    fn end(self) -> Result {
        Ok(self.finish())
    }
}

macro_rules! structs {
    ($($shape:ident),*) => {$(
        impl ser::$shape for MapSerializer {
            type Ok = Value;
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<()> {
                self.put(key.to_owned(), value)
            }

            fn end(self) -> Result {
                Ok(self.finish())
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde::Serialize;
    use serde_json::json;

    use super::*;
    use crate::value::{DateTime, EXACT, Integer};

    /// The value as JSON: only for values that JSON has.
    fn as_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Value {
        serde_json::to_value(Value::of(value).expect("it can be kept")).expect("it is JSON")
    }

    fn refusal<T: Serialize + ?Sized>(value: &T) -> String {
        Value::of(value).expect_err("it cannot be kept").to_string()
    }

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Shape {
        Unit,
        Newtype(Option<u8>),
        Tuple(u8, char),
        Struct { side: f32 },
    }

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Pair(u8, bool);

    #[test]
    fn every_shape_is_what_serde_json_makes_of_it() {
        fn same<T: Serialize>(value: T) {
            assert_eq!(as_json(&value), serde_json::to_value(&value).unwrap());
        }
        same([
            Shape::Unit,
            Shape::Newtype(None),
            Shape::Newtype(Some(1)),
            Shape::Tuple(1, 'x'),
            Shape::Struct { side: 0.5 },
        ]);
        same((Unit, Pair(7, true), (), None::<u8>, Some("text"), 'c', [1, 2], ((),)));
        same((i8::MIN, i16::MIN, i32::MIN, -EXACT, u8::MAX, u16::MAX, u32::MAX, EXACT as u64, 5i128, 5u128));
        same(HashMap::from([("a", 1.5)]));
        same(BTreeMap::from([(-1i64, "int"), (i64::MAX, "big")]));
        same((BTreeMap::from([(true, 1)]), BTreeMap::from([('c', 1)]), BTreeMap::from([(u128::MAX, 1)])));
    }

    #[test]
    fn an_integer_that_a_double_would_round_is_refused_and_so_is_its_exact_neighbour() {
        for beyond in [i128::from(EXACT) + 1, i128::from(EXACT) + 2, -i128::from(EXACT) - 1, i128::MAX, i128::MIN] {
            let told = refusal(&json_key("cart", vec![(1, beyond)]));
            assert!(told.starts_with("cart[0][1]: an integer beyond 2^53") && told.contains("Integer"), "{told}");
            assert_eq!(Value::of(&Integer::from(beyond)).unwrap(), Value::Integer(beyond.into()));
        }
        refusal(&u64::MAX);
        refusal(&i64::MIN);
        refusal(&u128::MAX);
    }

    fn json_key<T>(key: &str, value: T) -> HashMap<String, T> {
        HashMap::from([(key.to_owned(), value)])
    }

    #[test]
    fn floats_keep_their_sign_and_what_is_no_number() {
        assert_eq!(Value::of(&-0.0).unwrap(), Value::Number(-0.0));
        assert_eq!(Value::of(&5.0).unwrap(), Value::Number(5.0));
        assert_eq!(Value::of(&f32::NAN).unwrap(), Value::Float(f64::NAN));
        assert_eq!(Value::of(&f64::NEG_INFINITY).unwrap(), Value::Float(f64::NEG_INFINITY));
    }

    #[test]
    fn bytes_are_bytes_only_if_the_type_says_so() {
        assert_eq!(Value::of(serde_bytes::Bytes::new(b"tea")).unwrap(), Value::Bytes(b"tea".to_vec()));
        assert_eq!(as_json(&b"tea"), json!([116, 101, 97]));
    }

    #[test]
    fn a_key_that_is_no_text_is_refused() {
        for told in [refusal(&vec![BTreeMap::from([([1], 1)])]), refusal(&[BTreeMap::from([((), 1)])])] {
            assert!(told.starts_with("[0]: a map key must be"), "{told}");
        }
        let keys = BTreeMap::from([(Some("some"), 1)]);
        assert!(refusal(&keys).starts_with("a map key must be"));
        let date = "2026-05-01T12:00:00".parse::<DateTime>().unwrap();
        assert_eq!(as_json(&HashMap::from([(date, 1)])), json!({"2026-05-01T12:00:00": 1}));
    }

    #[test]
    fn of_a_key_given_twice_the_last_holds() {
        struct Twice;
        impl Serialize for Twice {
            fn serialize<S: ser::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_map([("k", 1), ("k", 2)])
            }
        }
        assert_eq!(as_json(&Twice), json!({"k": 2}));
    }

    #[test]
    fn what_nests_without_end_is_refused_before_the_stack_ends() {
        /// Contains itself.
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: ser::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_seq([self])
            }
        }
        #[derive(Serialize)]
        struct Wrapped(Option<Box<Self>>);

        assert!(refusal(&Endless).ends_with("nests deeper than 200 levels"));
        let deep = (0..1000).fold(Wrapped(None), |inner, _| Wrapped(Some(Box::new(inner))));
        assert_eq!(refusal(&deep), "nests deeper than 200 levels");
        let lists = (0..MAX_DEPTH).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert_eq!(Value::of(&lists).unwrap(), lists);
    }
}
