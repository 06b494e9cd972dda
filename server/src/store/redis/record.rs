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

use bytes::Bytes;

use super::acts::Problem;
use crate::session::{Data, Handle, Record, Ring, Salt, SecretHash, ShortMark, Time};

const FORMAT: u8 = 1;
const FIXED: usize = 154;
const SLOT: usize = 14;

/// Reads a record; `None` is a tombstone.
pub(super) fn decode(bytes: Bytes) -> Result<Option<Record>, Problem> {
    if bytes.first() == Some(&b'T') {
        return Ok(None);
    }
    let unreadable = Problem::Unreadable("a value under a session's key that is no record of a format known here");
    let read = || {
        let mut rest = &bytes[..];
        if *rest.split_off(..2)? != [b'R', FORMAT] {
            return None;
        }
        let marks = (number(&mut rest, 2)? as usize).checked_sub(FIXED).filter(|marks| marks.is_multiple_of(SLOT))?;
        let mut record = Record {
            handle: Handle(uuid::Uuid::from_bytes(array(&mut rest)?)),
            version: number(&mut rest, 6)?,
            deadline: time(&mut rest)?,
            create_time: time(&mut rest)?,
            idle_timeout: Duration::from_millis(number(&mut rest, 6)?),
            salt: Salt(array(&mut rest)?),
            current: SecretHash(array(&mut rest)?),
            previous: Some(array(&mut rest)?).filter(|hash| *hash != [0; 32]).map(SecretHash),
            mint_time: time(&mut rest)?,
            ring: Ring { floor: time(&mut rest)?, slots: Vec::with_capacity(marks / SLOT) },
            subject: Box::default(),
            data: Data::default(),
        };
        let subject = number(&mut rest, 2)? as usize;
        let mut slots = rest.split_off(..marks)?;
        while !slots.is_empty() {
            record.ring.slots.push((ShortMark(array(&mut slots)?), time(&mut slots)?));
        }
        record.subject = str::from_utf8(rest.split_off(..subject)?).ok()?.into();
        record.data = Data::from_framed(bytes.slice_ref(rest));
        Some(record)
    };
    read().map(Some).ok_or(unreadable)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

/// A number of so many bytes, at most eight.
fn number(bytes: &mut &[u8], length: usize) -> Option<u64> {
    let digits = bytes.split_off(..length)?;
    Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

fn time(bytes: &mut &[u8]) -> Option<Time> {
    number(bytes, 6).map(Time)
}
