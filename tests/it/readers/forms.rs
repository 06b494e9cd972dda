//! The canonical form of a message: two readers read a message alike if and only if they write the same form of it.
//!
//! | form | what was read |
//! |---|---|
//! | `!` | nothing: the library refuses the message |
//! | `?` | a value without a kind |
//! | `n0;` | a null, with the number of its enum value |
//! | `t`, `f` | a boolean |
//! | `d3ff0000000000000;` | a number: the bits of its double, in hexadecimal without leading zeros |
//! | `s3:tea` | a string, behind the number of its bytes |
//! | `[…]` | a list: the forms of its values |
//! | `{…}` | an object: key (as a string) and value in turns, sorted by the bytes of the keys |
//!
//! A message is read as a `google.protobuf.ListValue` that holds the session's data as its one value. So the data stands as
//! deep as in an answer, where OpenResponse and Session are around it, and no reader needs a schema of its own.

use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};

use crate::raw::bytes;

/// The form of a message that the library refuses.
pub(super) const REFUSED: &[u8] = b"!";

/// The data of a session as the message that all readers are given.
pub(super) fn wrapped(data: &[u8]) -> Vec<u8> {
    bytes(1, bytes(5, data))
}

/// What prost reads.
pub(super) fn by_prost(message: &[u8]) -> Vec<u8> {
    let Ok(message) = ListValue::decode(message) else { return REFUSED.to_vec() };
    let mut form = Vec::new();
    list(&mut form, &message);
    form
}

fn list(form: &mut Vec<u8>, list: &ListValue) {
    form.push(b'[');
    list.values.iter().for_each(|item| value(form, item));
    form.push(b']');
}

fn object(form: &mut Vec<u8>, object: &Struct) {
    form.push(b'{');
    // A BTreeMap: the keys are sorted.
    for (key, item) in &object.fields {
        text(form, key);
        value(form, item);
    }
    form.push(b'}');
}

fn text(form: &mut Vec<u8>, text: &str) {
    form.extend_from_slice(format!("s{}:", text.len()).as_bytes());
    form.extend_from_slice(text.as_bytes());
}

fn value(form: &mut Vec<u8>, value: &Value) {
    match &value.kind {
        None => form.push(b'?'),
        Some(Kind::NullValue(null)) => form.extend_from_slice(format!("n{null};").as_bytes()),
        Some(Kind::BoolValue(bool)) => form.push(if *bool { b't' } else { b'f' }),
        Some(Kind::NumberValue(number)) => form.extend_from_slice(format!("d{:x};", number.to_bits()).as_bytes()),
        Some(Kind::StringValue(string)) => text(form, string),
        Some(Kind::ListValue(inner)) => list(form, inner),
        Some(Kind::StructValue(inner)) => object(form, inner),
    }
}
