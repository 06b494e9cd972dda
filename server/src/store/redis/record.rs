//! The layout of a record in its string. `lua/record.lua` is the other half: it writes what is read here.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind: `R`, a record |
//! | 1 | 1 | format: 2 |
//! | 2 | 16 | handle |
//! | 18 | 6 | version |
//! | 24 | 6 | absolute deadline |
//! | 30 | 6 | create time |
//! | 36 | 6 | idle timeout |
//! | 42 | 32 | salt of the current secret |
//! | 74 | 32 | hash of the current secret |
//! | 106 | 32 | hash of the previous secret; zeros if there is none |
//! | 138 | 6 | time of the last mint |
//! | 144 | 6 | the floor: time of the newest mark that was dropped; zero if none was |
//! | 150 | 2 | length of the tagged fields |
//! | 152 | 2 | length of the subject |
//! | 154 | 2 | number of marks |
//! | 156 | | the tagged fields: a tag (1 byte), a length (2), a value. A build keeps tags that it does not know, byte for byte. None is defined yet |
//! | | | the subject, UTF-8 |
//! | | 14 each | the marks of the last Saves, newest first: 8 bytes of mark and 6 of time |
//! | | | the data, framed as in [`Data`] |
//!
//! A destroyed session's record is replaced by a tombstone:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind: `T`, a tombstone |
//! | 1 | 1 | format: 2 |
//! | 2 | 32 | hash of the current secret |
//! | 34 | 32 | hash of the previous secret; zeros if there is none |
//! | 66 | | more, from a later build: ignored |
//!
//! Numbers are big-endian; times and spans are milliseconds.

use std::time::Duration;

use bytes::Bytes;

use super::acts::Problem;
use crate::session::{Data, Handle, Record, Ring, Salt, SecretHash, ShortMark, Time};

const FORMAT: u8 = 2;
const SLOT: usize = 14;

/// Reads a record, with the newest [`Ring::KEPT`] of its marks; `None` is a tombstone.
pub(super) fn decode(bytes: Bytes) -> Result<Option<Record>, Problem> {
    if bytes.starts_with(&[b'T', FORMAT]) {
        return Ok(None);
    }
    let unreadable = Problem::Unreadable("a value under a session's key that is no record of a format known here");
    let read = || {
        let mut rest = &bytes[..];
        if *rest.split_off(..2)? != [b'R', FORMAT] {
            return None;
        }
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
            ring: Ring { floor: time(&mut rest)?, ..Ring::default() },
            subject: Box::default(),
            data: Data::default(),
        };
        let [tagged, subject, marks] = [length(&mut rest)?, length(&mut rest)?, length(&mut rest)?];
        rest.split_off(..tagged)?;
        record.subject = str::from_utf8(rest.split_off(..subject)?).ok()?.into();
        let mut slots = rest.split_off(..SLOT * marks)?;
        record.ring.slots.reserve_exact(marks.min(Ring::KEPT));
        for _ in 0..marks.min(Ring::KEPT) {
            record.ring.slots.push_back((ShortMark(array(&mut slots)?), time(&mut slots)?));
        }
        record.data = Data::from_framed(bytes.slice_ref(rest));
        Some(record)
    };
    read().map(Some).ok_or(unreadable)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

/// Reads a number of this many bytes, at most eight.
fn number(bytes: &mut &[u8], length: usize) -> Option<u64> {
    let digits = bytes.split_off(..length)?;
    Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

fn length(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(number(bytes, 2)?).ok()
}

fn time(bytes: &mut &[u8]) -> Option<Time> {
    number(bytes, 6).map(Time)
}
