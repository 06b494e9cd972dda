//! How a record lies in its string. `lua/record.lua` is the other half: change both, and the format's number.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | kind: `R` record; `T` tombstone, which has only the two hashes besides |
//! | 1 | 1 | format: 1 |
//! | 2 | 2 | length of this header: 154 and 14 for each mark |
//! | 4 | 16 | handle |
//! | 20 | 6 | version |
//! | 26 | 6 | absolute deadline |
//! | 32 | 6 | create time |
//! | 38 | 6 | idle timeout |
//! | 44 | 32 | salt of the current secret |
//! | 76 | 32 | hash of the current secret |
//! | 108 | 32 | hash of the previous secret; zeros: none |
//! | 140 | 6 | time of the last mint |
//! | 146 | 6 | the floor: time of the newest mark that fell out; zero: none |
//! | 152 | 2 | length of the subject |
//! | 154 | 14 each | the marks of the last Saves, newest first: 8 bytes of mark and 6 of time |
//! | | | the subject, UTF-8 |
//! | | | the data, framed as in [`Data`] |
//!
//! Numbers are big-endian; times and spans are milliseconds.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::acts::Problem;
use crate::session::{Data, Handle, Record, Ring, Salt, SecretHash, ShortMark, Time};

const FORMAT: u8 = 1;
const FIXED: usize = 154;
const SLOT: usize = 14;

/// Reads a record; `None` is a tombstone.
pub(super) fn decode(mut bytes: Bytes) -> Result<Option<Record>, Problem> {
    if bytes.first() == Some(&b'T') {
        return Ok(None);
    }
    let unreadable = Err(Problem::Unreadable("a value under a session's key that is no record of a format known here"));
    if bytes.len() < FIXED || bytes[..2] != [b'R', FORMAT] {
        return unreadable;
    }
    bytes.advance(2);
    let marks = usize::from(bytes.get_u16()).checked_sub(FIXED).filter(|marks| marks.is_multiple_of(SLOT));
    let Some(marks) = marks else { return unreadable };
    let handle = Handle(uuid::Uuid::from_bytes(array(&mut bytes)));
    let version = bytes.get_uint(6);
    let deadline = time(&mut bytes);
    let create_time = time(&mut bytes);
    let idle_timeout = Duration::from_millis(bytes.get_uint(6));
    let salt = Salt(array(&mut bytes));
    let current = SecretHash(array(&mut bytes));
    let previous = Some(array(&mut bytes)).filter(|hash| *hash != [0; 32]).map(SecretHash);
    let mint_time = time(&mut bytes);
    let floor = time(&mut bytes);
    let subject_len = usize::from(bytes.get_u16());
    if bytes.len() < marks + subject_len {
        return unreadable;
    }
    let slots = (0..marks / SLOT).map(|_| (ShortMark(array(&mut bytes)), time(&mut bytes))).collect();
    let Ok(subject) = String::from_utf8(bytes.split_to(subject_len).to_vec()) else { return unreadable };
    Ok(Some(Record {
        handle,
        version,
        deadline,
        create_time,
        idle_timeout,
        salt,
        current,
        previous,
        mint_time,
        ring: Ring { slots, floor },
        subject: subject.into(),
        data: Data::from_framed(bytes),
    }))
}

fn array<const N: usize>(bytes: &mut Bytes) -> [u8; N] {
    let mut array = [0; N];
    bytes.copy_to_slice(&mut array);
    array
}

fn time(bytes: &mut Bytes) -> Time {
    Time(bytes.get_uint(6))
}
