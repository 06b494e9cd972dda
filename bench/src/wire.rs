//! The messages that the generator sends, framed as gRPC sends them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use sessiond_proto::{
    RawStruct,
    v1::{DestroyRequest, OpenRequest, SaveRequest, Session},
};

/// How many keys a session has.
const KEYS: usize = 10;

/// What an id looks like, with a handle and a secret that nobody has.
const NOBODY: &str = "00000000000000000000000000000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A call's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads a session.
    Open,
    /// Makes or changes one.
    Save,
    /// Ends one.
    Destroy,
}

impl Method {
    /// Its path, behind the slash.
    pub fn path(self) -> String {
        format!("/sessiond.v1.SessionService/{self:?}")
    }
}

/// A session's data: ten keys, encoded in this many bytes (or in the fewest that ten keys need).
pub fn data(size: usize) -> Struct {
    let of = |lengths: &dyn Fn(usize) -> usize| Struct {
        fields: (0..KEYS).map(|number| (format!("key-{number}"), text(&"x".repeat(lengths(number))))).collect(),
    };
    // All alike, as long as they may be; the last one takes what is left.
    let each = (0..=size / KEYS).rev().find(|each| of(&|_| *each).encoded_len() <= size).unwrap_or_default();
    let last = (each..=each + size).take_while(|last| {
        let length = |number| if number + 1 == KEYS { *last } else { each };
        of(&length).encoded_len() <= size
    });
    let last = last.last().unwrap_or(each);
    of(&|number| if number + 1 == KEYS { last } else { each })
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

/// A message in its frame: not compressed, its length, itself.
pub fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
    frame.put_u8(0);
    frame.put_u32(message.encoded_len() as u32);
    message.encode(&mut frame).expect("a buffer that grows");
    frame.freeze()
}

/// An Open with this id.
pub fn open(id: &str) -> Bytes {
    framed(&OpenRequest { id: id.to_owned(), no_renew: false })
}

/// An Open with an id that nobody has.
pub fn miss(number: u64) -> Bytes {
    open(&format!("{number:032x}{}", &NOBODY[32..]))
}

/// An Open with what is no id, and as long as one.
pub fn malformed() -> Bytes {
    open(&NOBODY.replace('.', "!"))
}

/// An Open to an echo: its id asks for an answer with so much data, and is as long as any.
pub fn echo(size: usize) -> Bytes {
    open(&format!("{size:.<width$}", width = NOBODY.len()))
}

/// What such an id asks for.
pub fn asked(id: &str) -> usize {
    id.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// A Save that makes a session.
pub fn create(data: Struct) -> Bytes {
    save("", data, SaveRequest::default())
}

/// A Save that replaces all data of this session, whatever its version is: many callers save the same session here, and none
/// shall be refused.
pub fn replace(id: &str, data: Struct) -> Bytes {
    save(id, data, SaveRequest { replace_all: true, ..Default::default() })
}

/// A Save that changes one key of this one.
pub fn change(id: &str, mut data: Struct) -> Bytes {
    let key = "key-4".to_owned();
    data.fields.retain(|name, _| *name == key);
    save(id, data, SaveRequest { changed_keys: vec![key], ..Default::default() })
}

/// As our clients send it: they know the data, so the answer leaves it out.
fn save(id: &str, data: Struct, request: SaveRequest) -> Bytes {
    let etag = if id.is_empty() { String::new() } else { "*".to_owned() };
    let session = Session { id: id.to_owned(), etag, data: Some(RawStruct::from(data)), ..Default::default() };
    framed(&SaveRequest { session: Some(session), omit_data: true, ..request })
}

/// A Destroy of this one.
pub fn destroy(id: &str) -> Bytes {
    framed(&DestroyRequest { id: id.to_owned(), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_the_size_that_is_asked_for() {
        for size in [205, 512, 2048, 16_384] {
            let data = data(size);
            assert_eq!(data.fields.len(), KEYS);
            assert!((size - 3..=size).contains(&data.encoded_len()), "{size}: {}", data.encoded_len());
        }
    }

    #[test]
    fn a_frame_tells_its_length() {
        let frame = framed(&OpenRequest { id: "abc".to_owned(), no_renew: false });
        assert_eq!(&frame[..], b"\0\0\0\0\x05\x0a\x03abc");
    }

    #[test]
    fn all_opens_are_of_one_length() {
        let length = open(NOBODY).len();
        assert_eq!(NOBODY.len(), 65);
        assert!([miss(7), malformed(), echo(16_384)].iter().all(|open| open.len() == length));
        assert_eq!(asked("512.............................................................."), 512);
    }

    #[test]
    fn a_change_carries_one_key() {
        let save = SaveRequest::decode(&change("i", data(512))[5..]).unwrap();
        let data = save.session.unwrap().data.unwrap().decode().unwrap();
        assert_eq!((save.changed_keys, data.fields.len()), (vec!["key-4".to_owned()], 1));
    }
}
