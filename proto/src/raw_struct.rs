use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};

/// A `google.protobuf.Struct` kept as its encoded body: the sequence of its `fields` entries, undecoded.
///
/// A session's data passes through the server without being understood, so decoding it into a tree of values and
/// encoding it again would be work for nothing. Two values are equal if their bytes are. `Debug` shows only the
/// length: what applications keep in sessions does not belong in logs.
///
/// Converts from [`prost_types::Struct`], and back with [`RawStruct::decode`].
#[derive(Clone, Default)]
pub struct RawStruct {
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// Being read off the wire, entry by entry.
    Growing(Vec<u8>),
    /// Shared with whoever else holds these bytes.
    Shared(Bytes),
}

/// The tag byte of an entry: field 1, length-delimited.
const ENTRY: u32 = 1;

impl RawStruct {
    /// The encoded body.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.body {
            Body::Growing(bytes) => bytes,
            Body::Shared(bytes) => bytes,
        }
    }

    /// The encoded body, without copying it.
    pub fn into_bytes(self) -> Bytes {
        match self.body {
            Body::Growing(bytes) => bytes.into(),
            Body::Shared(bytes) => bytes,
        }
    }

    /// The values themselves.
    ///
    /// # Errors
    /// When the bytes are no `google.protobuf.Struct`, or nest deeper than prost reads (100 messages).
    pub fn decode(&self) -> Result<prost_types::Struct, DecodeError> {
        prost::Message::decode(self.as_bytes())
    }
}

/// The encoded body of a `google.protobuf.Struct`, taken as it is.
impl From<Bytes> for RawStruct {
    fn from(bytes: Bytes) -> Self {
        Self { body: Body::Shared(bytes) }
    }
}

impl From<prost_types::Struct> for RawStruct {
    fn from(values: prost_types::Struct) -> Self {
        Self { body: Body::Growing(prost::Message::encode_to_vec(&values)) }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Shared(Bytes::new())
    }
}

impl PartialEq for RawStruct {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for RawStruct {}

impl fmt::Debug for RawStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawStruct({} bytes)", self.as_bytes().len())
    }
}

// These methods are prost's hidden API, which is why the workspace pins prost.
impl prost::Message for RawStruct {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(self.as_bytes());
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != ENTRY {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
        let length = encoding::decode_varint(buf)?;
        let entry = usize::try_from(length).ok().filter(|length| *length <= buf.remaining());
        let Some(length) = entry else {
            // prost makes its errors itself: this one reads on to where the entry should have ended, and cannot.
            return encoding::skip_field(WireType::LengthDelimited, tag, &mut &b"\x01"[..], ctx);
        };
        if let Body::Shared(bytes) = &self.body {
            // What is left to read holds the other entries, too: so this grows once.
            let mut growing = Vec::with_capacity(bytes.len() + buf.remaining() + 6);
            growing.extend_from_slice(bytes);
            self.body = Body::Growing(growing);
        }
        if let Body::Growing(bytes) = &mut self.body {
            bytes.reserve(length + 6);
            encoding::encode_key(ENTRY, WireType::LengthDelimited, bytes);
            encoding::encode_varint(length as u64, bytes);
            bytes.put(buf.take(length));
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.as_bytes().len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::{Struct, Value, value::Kind};

    use super::*;

    fn sample() -> Struct {
        let text = |s: &str| Value { kind: Some(Kind::StringValue(s.to_owned())) };
        let fields = [("cart".to_owned(), text("tea")), ("who".to_owned(), text("ada"))];
        Struct { fields: fields.into() }
    }

    #[test]
    fn what_is_read_is_what_is_written() {
        let bytes = sample().encode_to_vec();
        let raw = <RawStruct as Message>::decode(&bytes[..]).unwrap();
        assert_eq!(raw.as_bytes(), bytes);
        assert_eq!(raw.encode_to_vec(), bytes);
        assert_eq!(raw.decode().unwrap(), sample());
    }

    #[test]
    fn a_cut_entry_is_an_error_and_not_a_panic() {
        let bytes = sample().encode_to_vec();
        for end in 0..bytes.len() {
            let whole = Struct::decode(&bytes[..end]).is_ok();
            assert_eq!(<RawStruct as Message>::decode(&bytes[..end]).is_ok(), whole, "cut at {end}");
        }
        let endless = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert!(<RawStruct as Message>::decode(&endless[..]).is_err());
    }

    #[test]
    fn debug_shows_no_data() {
        assert_eq!(format!("{:?}", RawStruct::from(sample())), "RawStruct(29 bytes)");
    }
}
