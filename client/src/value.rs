//! The values that an application keeps in a session, and how they get there: from any `serde` type with
//! [`Value::of`], and back with [`Value::to`].
//!
//! On the wire a session's data is a `google.protobuf.Struct`, which knows what JSON knows: null, bool, double, string,
//! list and map. What it does not know is tagged, in the manner of Flask's `TaggedJSONSerializer`, so that a page in
//! Python and a page in Rust share a session: an object with exactly one member, whose name begins with a space.
//!
//! | tag | holds | means |
//! |---|---|---|
//! | `" t"` | a list | a tuple |
//! | `" b"` | base64, standard alphabet, padded | bytes |
//! | `" m"` | a string | HTML that needs no escaping, `markupsafe.Markup` |
//! | `" u"` | 32 hexadecimal digits | a UUID |
//! | `" d"` | ISO 8601, see [`DateTime`] | a date and time |
//! | `" i"` | decimal digits, see [`Integer`] | an integer that a double cannot hold |
//! | `" f"` | a number, or `"NaN"`, `"Infinity"`, `"-Infinity"` | a float that a plain number would not tell |
//! | `" di"` | `{"<name>__": v}` | the map `{"<name>": v}`, whose name begins with a space itself |
//!
//! **Which plain numbers are integers.** Those that are whole, at most 2^53 either way, and not `-0.0`; every other
//! number is a float. So a language that tells `5` from `5.0` writes the integer plainly and tags the float, and tags
//! integers beyond 2^53; neither is ever rounded.
//!
//! **Nobody trips over a tag.** An object with an unknown tag, or whose content does not fit its tag, is read as the map
//! that it is: someone with raw stubs wrote it. A map with one member whose name begins with a space is escaped, known
//! tag or not, so that a tag of a later version never meets older data. The session's own map, whose keys are written
//! one by one, is neither escaped nor read as a tag.
//!
//! `tests/vectors/values.json` in the repository holds every language to this.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

mod date_time;
mod de;
mod error;
mod integer;
mod key;
mod marked;
mod ser;
#[cfg(test)]
mod vectors;
mod wire;

pub use date_time::DateTime;
pub use error::ValueError;
pub use integer::Integer;

#[cfg(feature = "actix-session")]
pub(crate) use wire::{ESCAPE, ESCAPED, FLOAT, INTEGER};
pub(crate) use wire::{decode, encode};

/// Values by name: a session's data, and every map within it.
pub type Map = BTreeMap<String, Value>;

/// One value of a session.
///
/// # Equality
/// Two values are equal if the same is written for them, kind for kind: unlike doubles, NaN is equal to NaN, and `-0.0`
/// is not `0.0`. So a change is seen exactly if there is one.
///
/// # Debug
/// shows keys and kinds and no content: what visitors leave in a session does not belong in logs.
///
/// # What reads back otherwise than it was written
/// These say in two ways what the wire says in one: a [`Float`](Self::Float) that a plain number tells as well
/// (`Float(1.5)`) reads back as [`Number`](Self::Number), an [`Integer`](Self::Integer) of at most 2^53 either way as
/// `Number`, and a `Number` that is NaN or infinite as `Float`. Everything else reads back as it was.
///
/// # `serde`
/// `Value`, [`Integer`] and [`DateTime`] pass through [`of`](Self::of) and [`to`](Self::to) unchanged, at any place
/// within other types. Other formats see the nearest thing that they have: a list for a tuple, text for an integer, a
/// date or a UUID. So does `serde`'s own buffer when *reading* `#[serde(flatten)]`, untagged and internally tagged
/// enums: keep a `Value` out of those.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: `()`, and `None` of every `Option`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number, whole or not.
    Number(f64),
    /// Text.
    String(String),
    /// Values in a row.
    List(Vec<Self>),
    /// Values by name.
    Map(Map),
    /// An integer beyond 2^53 either way, which a double would round.
    Integer(Integer),
    /// A number that languages with two kinds of number must read as a float although it is whole, or that is NaN or
    /// infinite. Python's `5.0` comes so; Rust's `5.0` is a [`Number`](Self::Number), since its type tells.
    Float(f64),
    /// Bytes. In `serde` types say `#[serde(with = "serde_bytes")]`, or a `Vec<u8>` is a list of numbers.
    Bytes(Vec<u8>),
    /// Values in a row that Python reads as a tuple. Rust's tuples are lists, as in JSON.
    Tuple(Vec<Self>),
    /// HTML that a template must not escape again (`markupsafe.Markup`). Reads as text.
    Markup(String),
    /// A UUID. Reads as its hyphenated text, which is what [`Uuid`] itself is in `serde`.
    Uuid(Uuid),
    /// A date and time. Reads as text.
    DateTime(DateTime),
}

impl Value {
    /// The value of any `serde` type, in the forms that JSON would give it.
    ///
    /// Map keys are strings, or chars, integers and bools as text; of a key given twice the last holds. At most 200
    /// levels may nest. (The service allows fewer: 32 maps, or 48 lists.)
    ///
    /// # Errors
    /// - An integer beyond 2^53 either way: a double would round it. Keep it as text, or as an [`Integer`]. The bound is
    ///   fixed and does not ask whether this very one is exact, or an id that passes every test fails in production.
    /// - A map key of another type, or nesting without end.
    /// - Whatever the type's own `Serialize` refuses.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, ValueError> {
        value.serialize(ser::Serializer::default())
    }

    /// This value as any `serde` type.
    ///
    /// Integers are read from whole numbers of at most 2^53 either way, and from [`Integer`](Self::Integer)s; floats
    /// also from integers that they hold exactly; sequences from lists and tuples; bytes from bytes alone.
    ///
    /// # Errors
    /// When it is of another kind or out of the type's range. The error says where, and never what the value is.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, ValueError> {
        T::deserialize(de::Deserializer(self))
    }

    /// What kind of value it is, in words.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Integer(_) => "a big integer",
            Self::Float(_) => "a float",
            Self::Bytes(_) => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::Markup(_) => "markup",
            Self::Uuid(_) => "a UUID",
            Self::DateTime(_) => "a date and time",
        }
    }
}

/// 2^53: up to here, either way, a double holds every integer.
const EXACT: i64 = 1 << 53;

/// The integer that a plain number ([`Value::Number`]) means; `None` if it means a float. For bindings to languages with two
/// kinds of number.
pub fn as_integer(number: f64) -> Option<i64> {
    let whole = number.trunc() == number && number.abs() <= EXACT as f64;
    let negative_zero = number == 0.0 && number.is_sign_negative();
    (whole && !negative_zero).then_some(number as i64)
}

/// The plain number that means this integer; `None` if it is beyond what doubles are sure to hold.
fn as_number(integer: i64) -> Option<f64> {
    (-EXACT..=EXACT).contains(&integer).then_some(integer as f64)
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) | (Self::Float(a), Self::Float(b)) => same(*a, *b),
            (Self::String(a), Self::String(b)) | (Self::Markup(a), Self::Markup(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Uuid(a), Self::Uuid(b)) => a == b,
            (Self::DateTime(a), Self::DateTime(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(items) => items.fmt(f),
            Self::Tuple(items) => items.iter().fold(&mut f.debug_tuple(""), |f, item| f.field(item)).finish(),
            Self::Map(map) => map.fmt(f),
            leaf => f.write_str(leaf.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_number_is_an_integer_up_to_2_to_the_53() {
        for (number, integer) in
            [(0.0, 0), (-7.0, -7), (9_007_199_254_740_992.0, EXACT), (-9_007_199_254_740_992.0, -EXACT)]
        {
            assert_eq!(as_integer(number), Some(integer));
        }
        for float in [-0.0, 0.5, 9_007_199_254_740_994.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(as_integer(float), None);
        }
    }

    #[test]
    fn values_are_equal_if_the_same_is_written_for_them() {
        assert_eq!(Value::Float(f64::NAN), Value::Float(-f64::NAN));
        assert_ne!(Value::Number(0.0), Value::Number(-0.0));
        assert_ne!(Value::Number(5.0), Value::Float(5.0));
        assert_ne!(Value::List(Vec::new()), Value::Tuple(Vec::new()));
        assert_ne!(Value::String("x".to_owned()), Value::Markup("x".to_owned()));
    }

    #[test]
    fn debug_shows_keys_and_kinds_and_no_content() {
        let pair = Value::Tuple(vec![Value::Number(4711.0), Value::Null]);
        let cart = Value::List(vec![Value::String("secret".to_owned()), pair]);
        let map = Value::Map(Map::from([("cart".to_owned(), cart), ("ok".to_owned(), Value::Bool(true))]));
        assert_eq!(format!("{map:?}"), r#"{"cart": [a string, (a number, null)], "ok": a bool}"#);
    }
}
