//! What an application keeps in its session, as the server sees it: keys, each with bytes that it never looks into.

use std::{collections::HashMap, fmt};

use bytes::{BufMut, Bytes, BytesMut};

/// The data of a session: unique keys, each with the raw bytes of its value.
///
/// The bytes are framed as the entries of a protobuf map (`google.protobuf.Struct.fields`), in one spelling: per entry
/// the tag `0x0a` and the entry's length, in it `0x0a`, the key's length and the key, `0x12`, the value's length and
/// the value. Lengths are shortest varints. So data goes from the wire to the store and back as it is, and a merge
/// moves whole entries.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(Bytes);

/// One key with its value.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The key, UTF-8.
    pub key: &'a [u8],
    /// The value's bytes.
    pub value: &'a [u8],
}

/// What becomes of one key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Bytes,
    /// The entry it gets, framed; `None` removes the key.
    pub entry: Option<Bytes>,
}

const ENTRY: u8 = 0x0a;
const KEY: u8 = 0x0a;
const VALUE: u8 = 0x12;

impl Data {
    /// Data from bytes that are framed as described above, as a store gives back what it was given.
    pub fn from_framed(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Data of these entries, whose keys must be unique.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = Entry<'a>, IntoIter: Clone>) -> Self {
        let entries = entries.into_iter();
        // As many as it needs: what is kept in memory has no slack, and the buffer never grows.
        let mut bytes = BytesMut::with_capacity(entries.clone().map(|entry| entry.framed_len()).sum());
        for entry in entries {
            entry.frame(&mut bytes);
        }
        Self(bytes.freeze())
    }

    /// The framed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The framed bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy, with no more memory than it needs.
    #[must_use]
    pub fn unshared(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Bytes of the data: what `--max-session-bytes` limits.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in their stored order, each with its frame.
    pub fn entries(&self) -> impl Iterator<Item = (Entry<'_>, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (entry, frame, after) = split(rest)?;
            rest = after;
            Some((entry, frame))
        })
    }

    /// This data after the changes: a changed key keeps its place, a new one comes last. A removed key that is not
    /// there is no error. Each key may be named once.
    #[must_use]
    pub fn merge(&self, changes: &[KeyChange]) -> Self {
        let mut merged = BytesMut::with_capacity(self.len());
        let mut open: HashMap<&[u8], &KeyChange> = changes.iter().map(|c| (&c.key[..], c)).collect();
        for (entry, frame) in self.entries() {
            match open.remove(entry.key) {
                Some(change) => merged.put(change.entry.as_deref().unwrap_or_default()),
                None => merged.put(frame),
            }
        }
        for change in changes.iter().filter(|change| open.contains_key(&change.key[..])) {
            merged.put(change.entry.as_deref().unwrap_or_default());
        }
        Self(merged.freeze())
    }
}

impl Entry<'_> {
    /// Bytes within the frame.
    fn inner_len(&self) -> usize {
        1 + varint_len(self.key.len()) + self.key.len() + 1 + varint_len(self.value.len()) + self.value.len()
    }

    /// Bytes of the entry with its frame.
    fn framed_len(&self) -> usize {
        let inner = self.inner_len();
        1 + varint_len(inner) + inner
    }

    /// Writes the entry with its frame.
    pub fn frame(&self, into: &mut impl BufMut) {
        into.put_u8(ENTRY);
        put_varint(into, self.inner_len());
        into.put_u8(KEY);
        put_varint(into, self.key.len());
        into.put_slice(self.key);
        into.put_u8(VALUE);
        put_varint(into, self.value.len());
        into.put_slice(self.value);
    }
}

/// The first entry, its frame, and what follows; `None` at the end, or where the framing is broken.
fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8], &[u8])> {
    let (length, inner) = varint(bytes.strip_prefix(&[ENTRY])?)?;
    let (inner, after) = inner.split_at_checked(length)?;
    let (length, rest) = varint(inner.strip_prefix(&[KEY])?)?;
    let (key, rest) = rest.split_at_checked(length)?;
    let (length, value) = varint(rest.strip_prefix(&[VALUE])?)?;
    let frame = &bytes[..bytes.len() - after.len()];
    (value.len() == length).then_some((Entry { key, value }, frame, after))
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

fn put_varint(into: &mut impl BufMut, mut value: usize) {
    while value >= 0x80 {
        into.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8(value as u8);
}

fn varint_len(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.len())
    }
}

impl fmt::Debug for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyChange(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(entries: &[(&str, &str)]) -> Data {
        Data::from_entries(entries.iter().map(|(k, v)| Entry { key: k.as_bytes(), value: v.as_bytes() }))
    }

    fn change(key: &str, value: Option<&str>) -> KeyChange {
        let framed = |v: &str| data(&[(key, v)]).into_bytes();
        KeyChange { key: key.to_owned().into(), entry: value.map(framed) }
    }

    #[test]
    fn a_frame_is_a_protobuf_map_entry() {
        assert_eq!(data(&[("k", "vw")]).as_bytes(), b"\x0a\x07\x0a\x01k\x12\x02vw");
        let long = "x".repeat(200);
        assert_eq!(&data(&[("", &long)]).as_bytes()[..8], b"\x0a\xcd\x01\x0a\x00\x12\xc8\x01");
    }

    #[test]
    fn entries_read_back_as_written() {
        let long = "x".repeat(70_000);
        let entries = [("", ""), ("a", "1"), ("b", &long)];
        let data = data(&entries);
        let read: Vec<_> = data.entries().map(|(e, _)| (e.key.to_vec(), e.value.to_vec())).collect();
        assert_eq!(read, entries.map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())));
    }

    #[test]
    fn a_merge_changes_the_named_keys_and_nothing_else() {
        let stored = data(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let merged =
            stored.merge(&[change("d", Some("4")), change("b", None), change("a", Some("9")), change("z", None)]);
        assert_eq!(merged, data(&[("a", "9"), ("c", "3"), ("d", "4")]));
        assert_eq!(stored.merge(&[]), stored);
    }
}
