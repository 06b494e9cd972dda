//! Validates the encoding of a `google.protobuf.Struct` once, when it arrives, without building it. The protobuf libraries of
//! all languages can decode what passes, and decode the same values from it. No code after this file parses a value.
//!
//! `tests/it/readers.rs` compares the validation with three libraries. What it relies on:
//!
//! - No message holds an unknown field. upb (Python, Ruby, PHP) drops a map entry with one, other libraries keep the entry; and
//!   prost refuses any unknown field where nesting has reached its limit. The outermost message is an exception: its unknown
//!   fields are dropped before this code sees them.
//! - The order of key and value, a missing key (it is empty) and numbers in more bytes than needed are read alike, within the
//!   bounds below.

use std::str;

use crate::session::Entry;

/// How deep values may nest. upb and prost stop at 100 nested messages. Four of them are around the first value (answer,
/// session, data, entry); an object takes three more, a list two.
const MAX_DEPTH: usize = 96;
const OBJECT: usize = 3;
const LIST: usize = 2;

/// What is wrong with the data, and where.
#[derive(Debug)]
pub(super) struct Problem {
    path: String,
    pub(super) why: &'static str,
}

impl Problem {
    pub(super) fn new(why: &'static str) -> Self {
        Self { path: String::new(), why }
    }

    /// The problem with the path extended by the key of the enclosing entry.
    pub(super) fn inside(self, key: &[u8]) -> Self {
        let key = String::from_utf8_lossy(key);
        // The path is for people: cut it at a length that still helps.
        let rest = if self.path.len() > 200 { "…" } else { &self.path };
        Self { path: format!("[{:?}]{rest}", shortened(&key)), ..self }
    }

    /// The path of the wrong value, starting with the name of the field that holds the data.
    pub(super) fn field(&self, field: &str) -> String {
        format!("{field}{}", self.path)
    }
}

/// The first characters of a key, for a message.
pub(super) fn shortened(key: &str) -> String {
    let shown: String = key.chars().take(40).collect();
    let dots = if shown.len() < key.len() { "…" } else { "" };
    shown + dots
}

const CUT: &str = "is truncated or has an overlong tag, length or number: not a valid google.protobuf.Struct";
const WIRE: &str = "has a field of the wrong type: not a valid google.protobuf.Struct";
const KEY_UTF8: &str = "is a key that is not valid UTF-8";
const UTF8: &str = "is not valid UTF-8: send binary data as text, for example in Base64";
const NO_KIND: &str = "is a value without a kind: reading a missing key inserts one in some protobuf libraries (test whether the \
                       key is there first), and an object that was not converted to a Value encodes as one; for null, set \
                       null_value";
const TWO_KINDS: &str = "is a value with more than one kind: set exactly one";
const DEEP: &str = "nests too deep: 3 for each object and 2 for each list may sum up to 96 (32 objects, or 48 lists)";
const NOT_FINITE: &str = "is NaN or infinite, which JSON cannot represent: send a string";
pub(super) const TWICE: &str = "is a key that occurs twice in its object: send each key once";
const FIELD_TWICE: &str = "has a map entry with its key or its value twice: send each once";
const UNKNOWN: &str = "has an unknown field, which protobuf libraries treat differently: send only the fields that \
                       google.protobuf.Struct defines";
const NOT_BOOL: &str = "is a bool_value other than 0 and 1, which protobuf libraries read differently";
const NOT_NULL: &str = "is a null_value other than NULL_VALUE (0)";

/// The top-level entries, with every value checked. Keys may repeat: the caller sorts them and checks.
pub(super) fn entries(body: &[u8]) -> Result<Vec<Entry<'_>>, Problem> {
    // Enough for most sessions.
    let mut entries = Vec::with_capacity(16);
    fields(body, |number, field| {
        if let (1, Field::Bytes(bytes)) = (number, field) {
            let entry = entry(bytes)?;
            value(entry.value, 0).map_err(|problem| problem.inside(entry.key))?;
            entries.push(entry);
            return Ok(());
        }
        Err(unexpected(number == 1))
    })?;
    Ok(entries)
}

/// One field of a message, with the part of its content that the validation needs.
#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The refusal of a field that does not match: a known one has the wrong wire type.
fn unexpected(is_known: bool) -> Problem {
    Problem::new(if is_known { WIRE } else { UNKNOWN })
}

fn entry(bytes: &[u8]) -> Result<Entry<'_>, Problem> {
    let (mut key, mut value, mut has_unknown) = (None, None, false);
    fields(bytes, |number, field| match (number, field) {
        (1, Field::Bytes(bytes)) => once(&mut key, bytes),
        (2, Field::Bytes(bytes)) => once(&mut value, bytes),
        (1 | 2, _) => Err(unexpected(true)),
        // The refusal names the key, which may come later.
        _ => {
            has_unknown = true;
            Ok(())
        }
    })?;
    let key = key.unwrap_or_default();
    if str::from_utf8(key).is_err() {
        return Err(Problem::new(KEY_UTF8).inside(key));
    }
    if has_unknown {
        return Err(unexpected(false).inside(key));
    }
    let value = value.ok_or_else(|| Problem::new(NO_KIND).inside(key))?;
    Ok(Entry { key, value })
}

fn once<'a>(slot: &mut Option<&'a [u8]>, bytes: &'a [u8]) -> Result<(), Problem> {
    if slot.replace(bytes).is_some() { Err(Problem::new(FIELD_TWICE)) } else { Ok(()) }
}

/// Checks a `google.protobuf.Value` at this depth.
fn value(bytes: &[u8], depth: usize) -> Result<(), Problem> {
    let mut kinds = 0;
    fields(bytes, |number, field| {
        kinds += usize::from((1..=6).contains(&number));
        match (number, field) {
            (1, Field::Varint(null)) if null != 0 => Err(Problem::new(NOT_NULL)),
            (4, Field::Varint(bool)) if bool > 1 => Err(Problem::new(NOT_BOOL)),
            (2, Field::Fixed64(bits)) if !f64::from_bits(bits).is_finite() => Err(Problem::new(NOT_FINITE)),
            (3, Field::Bytes(text)) if str::from_utf8(text).is_err() => Err(Problem::new(UTF8)),
            (5, Field::Bytes(inner)) => object(inner, deeper(depth, OBJECT)?),
            (6, Field::Bytes(inner)) => list(inner, deeper(depth, LIST)?),
            (1 | 4, Field::Varint(_)) | (2, Field::Fixed64(_)) | (3, Field::Bytes(_)) => Ok(()),
            (number, _) => Err(unexpected((1..=6).contains(&number))),
        }
    })?;
    match kinds {
        0 => Err(Problem::new(NO_KIND)),
        1 => Ok(()),
        _ => Err(Problem::new(TWO_KINDS)),
    }
}

fn deeper(depth: usize, by: usize) -> Result<usize, Problem> {
    Some(depth + by).filter(|depth| *depth <= MAX_DEPTH).ok_or_else(|| Problem::new(DEEP))
}

fn object(bytes: &[u8], depth: usize) -> Result<(), Problem> {
    let mut keys = Vec::new();
    fields(bytes, |number, field| {
        let (1, Field::Bytes(bytes)) = (number, field) else { return Err(unexpected(number == 1)) };
        let entry = entry(bytes)?;
        keys.push(entry.key);
        value(entry.value, depth).map_err(|problem| problem.inside(entry.key))
    })?;
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Problem::new(TWICE).inside(twice[0])),
        None => Ok(()),
    }
}

fn list(bytes: &[u8], depth: usize) -> Result<(), Problem> {
    fields(bytes, |number, field| match (number, field) {
        (1, Field::Bytes(bytes)) => value(bytes, depth),
        (number, _) => Err(unexpected(number == 1)),
    })
}

/// Calls `each` for every field of a message. Groups are refused: no library writes them, and they would nest.
fn fields<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u64, Field<'a>) -> Result<(), Problem>) -> Result<(), Problem> {
    let cut = || Problem::new(CUT);
    while !bytes.is_empty() {
        let (tag, rest) = short_varint(bytes).ok_or_else(cut)?;
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(Problem::new(WIRE));
        }
        let (field, rest) = match tag & 7 {
            0 => varint(rest).map(|(value, rest)| (Field::Varint(value), rest)).ok_or_else(cut)?,
            1 => rest
                .split_first_chunk()
                .map(|(b, rest)| (Field::Fixed64(u64::from_le_bytes(*b)), rest))
                .ok_or_else(cut)?,
            2 => {
                let (length, rest) = short_varint(rest).ok_or_else(cut)?;
                let length = usize::try_from(length).map_err(|_| cut())?;
                rest.split_at_checked(length).map(|(inner, rest)| (Field::Bytes(inner), rest)).ok_or_else(cut)?
            }
            5 => rest.split_at_checked(4).map(|(_, rest)| (Field::Fixed32, rest)).ok_or_else(cut)?,
            _ => return Err(Problem::new(WIRE)),
        };
        each(number, field)?;
        bytes = rest;
    }
    Ok(())
}

/// A tag or a length. upb refuses a message in which one takes more than five bytes.
fn short_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    varint(bytes).filter(|(_, rest)| bytes.len() - rest.len() <= 5)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte holds the last of the 64 bits.
        if at == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        [&bytes, content].concat()
    }

    /// An entry `k` with these bytes of a value.
    fn with_value(value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, b"k"), field(2, value)].concat())
    }

    fn problem(body: &[u8]) -> String {
        entries(body).err().map(|problem| format!("{} {}", problem.field("data"), problem.why)).unwrap_or_default()
    }

    #[test]
    fn every_kind_of_value_passes() {
        let number = [&[0x11][..], &1.5f64.to_le_bytes()].concat();
        let object = field(5, &with_value(&[0x20, 1]));
        let list = field(6, &[field(1, &[0x08, 0]), field(1, &number)].concat());
        for value in [vec![0x08, 0], number, field(3, "tee ☕".as_bytes()), vec![0x20, 1], object, list] {
            assert_eq!(problem(&with_value(&value)), "");
        }
        assert_eq!(entries(b"").unwrap().len(), 0);
    }

    #[test]
    fn an_unknown_field_in_a_map_entry_is_refused_at_every_level() {
        for more in [vec![0x18, 1], vec![0x1d, 0, 0, 0, 0], vec![0x19, 0, 0, 0, 0, 0, 0, 0, 0], field(3, b"x")] {
            let (key, value) = (field(1, b"role"), field(2, &[0x20, 1]));
            for parts in [[&key, &value, &more], [&more, &key, &value], [&key, &more, &value]] {
                let entry = field(1, &parts.map(|part| &part[..]).concat());
                assert_eq!(problem(&entry), format!("data[\"role\"] {UNKNOWN}"));
                let nested = with_value(&field(5, &entry));
                assert_eq!(problem(&nested), format!("data[\"k\"][\"role\"] {UNKNOWN}"));
                let listed = with_value(&field(6, &field(1, &field(5, &entry))));
                assert_eq!(problem(&listed), format!("data[\"k\"][\"role\"] {UNKNOWN}"));
            }
        }
        assert_eq!(problem(&field(1, &[0x18, 1])), format!("data[\"\"] {UNKNOWN}"), "neither key nor value");
    }

    #[test]
    fn what_readers_would_read_differently_is_refused_by_name() {
        let infinite = [&[0x11][..], &f64::INFINITY.to_le_bytes()].concat();
        let nested = field(5, &[with_value(&[0x20, 1]), with_value(&[0x20, 1])].concat());
        for (value, says) in [
            (vec![], NO_KIND),
            (infinite, NOT_FINITE),
            (field(3, b"\xff"), UTF8),
            (vec![0x08, 7], NOT_NULL),
            (vec![0x20, 1, 0x08, 0], TWO_KINDS),
            (vec![0x23, 0x24], WIRE),
            (vec![0x0b, 0x0c], WIRE),
            (vec![0x22, 9], CUT),
            (vec![0xa0, 0x80, 0x80, 0x80, 0x80, 0x00, 1], CUT),
            (vec![0x1a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], CUT),
            (vec![0x20, 2], NOT_BOOL),
            (vec![0x20, 1, 0x38, 1], UNKNOWN),
            (vec![0x38, 1], UNKNOWN),
            (field(5, &[0x10, 1]), UNKNOWN),
            (field(6, &[0x10, 1]), UNKNOWN),
        ] {
            assert_eq!(problem(&with_value(&value)), format!("data[\"k\"] {says}"), "{value:?}");
        }
        assert_eq!(problem(&with_value(&nested)), format!("data[\"k\"][\"k\"] {TWICE}"));
        assert!(problem(&field(1, &field(1, b"k"))).contains("without a kind"));
    }

    #[test]
    fn values_nest_as_deep_as_every_reader_reads() {
        let objects = |n| (0..n).fold(vec![0x20, 1], |inner, _| field(5, &with_value(&inner)));
        let lists = |n, inner: Vec<u8>| (0..n).fold(inner, |inner, _| field(6, &field(1, &inner)));
        for fits in [objects(32), lists(48, vec![0x20, 1]), lists(24, objects(16))] {
            assert_eq!(problem(&with_value(&fits)), "");
        }
        for deep in [objects(33), lists(49, vec![0x20, 1]), lists(25, objects(16))] {
            assert!(problem(&with_value(&deep)).ends_with(DEEP));
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = with_value(&field(5, &with_value(&field(6, &field(1, &[0x20, 1])))));
        for end in 0..whole.len() {
            for byte in [0x00, 0x7f, 0x80, 0xff] {
                let mut bytes = whole[..end].to_vec();
                let _ = entries(&bytes);
                bytes.extend([byte; 12]);
                let _ = entries(&bytes);
            }
        }
    }
}
