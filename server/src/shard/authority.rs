//! Serves clients whose `:authority` is not an authority by RFC 3986: a list of addresses (`127.0.0.1:1,127.0.0.2:1`), a Unix
//! socket's path. gRPC clients send the target they were given, and other gRPC servers accept any. h2 resets such a stream
//! before our code sees it, and offers no option.
//!
//! [`Inspector`] sits between the socket and h2 until the first HEADERS frame of a connection. If its `:authority` is valid, or
//! anything is unexpected, the inspector steps aside for good, and h2 reads from the socket itself. If not, it overwrites the
//! `:authority` of this connection's HEADERS frames, each in place by a valid one of the same encoded and the same decoded
//! length: so frames keep their size, and the HPACK dynamic tables of both sides evict at the same time. Nothing here reads the
//! authority.

use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use http::uri::Authority;
use tokio::io::{self, AsyncRead, ReadBuf};

mod hpack;

use hpack::Literal;

/// What a client's side of a connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before a frame's payload: its length, type, flags and stream.
const HEAD: usize = 9;

/// The most bytes of a frame's payload, as long as we announce no other: h2 refuses more.
const MAX_PAYLOAD: usize = 16_384;

/// Bytes read from the socket at a time.
const CHUNK: usize = 4096;

/// The type HEADERS, and its flags.
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The bytes of a connection on their way to h2. Holds at most one frame and one chunk.
#[derive(Debug)]
pub(super) struct Inspector {
    /// Read from the socket, and not yet by h2.
    bytes: BytesMut,
    /// How many of them h2 may read.
    ready: usize,
    /// How many of a frame's bytes follow that h2 may read when they come.
    passing: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the preface.
    Preface,
    /// Before the first HEADERS frame.
    First,
    /// The first `:authority` was not valid.
    Rewriting,
    /// There is nothing to do.
    Aside,
}

impl Inspector {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), ready: 0, passing: 0, state: State::Preface }
    }

    /// Whether h2 has everything, and may read from the socket itself.
    pub(super) fn is_aside(&self) -> bool {
        self.state == State::Aside && self.bytes.is_empty()
    }

    /// How many bytes it holds back.
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Reads as h2 should see it.
    pub(super) fn poll_read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ready == 0 {
            let held = self.bytes.len();
            self.bytes.resize(held + CHUNK, 0);
            let mut chunk = ReadBuf::new(&mut self.bytes[held..]);
            let polled = Pin::new(&mut *io).poll_read(context, &mut chunk);
            let count = chunk.filled().len();
            self.bytes.truncate(held + count);
            ready!(polled)?;
            if count == 0 {
                // The client has closed: h2 judges what there is.
                self.step_aside();
                break;
            }
            self.advance();
        }
        let count = self.ready.min(buf.remaining());
        buf.put_slice(&self.bytes[..count]);
        self.bytes.advance(count);
        self.ready -= count;
        if self.bytes.is_empty() {
            // An idle connection weighs nothing here.
            self.bytes = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn step_aside(&mut self) {
        self.state = State::Aside;
        self.ready = self.bytes.len();
    }

    /// Lets h2 read as far as everything is inspected.
    fn advance(&mut self) {
        while let Some(step) = self.step() {
            match step {
                Step::Pass(count) => {
                    self.passing = count;
                    let here = count.min(self.bytes.len() - self.ready);
                    self.ready += here;
                    self.passing -= here;
                }
                Step::Aside => return self.step_aside(),
            }
        }
    }

    /// What to do next; `None` if that depends on bytes that have not come.
    fn step(&mut self) -> Option<Step> {
        let rest = &mut self.bytes[self.ready..];
        if rest.is_empty() {
            return None;
        }
        if self.passing > 0 {
            return Some(Step::Pass(self.passing));
        }
        match self.state {
            State::Aside => Some(Step::Aside),
            State::Preface if rest.starts_with(PREFACE) => {
                self.state = State::First;
                Some(Step::Pass(PREFACE.len()))
            }
            State::Preface => {
                if PREFACE.starts_with(rest) {
                    None
                } else {
                    Some(Step::Aside)
                }
            }
            State::First | State::Rewriting => {
                let head = rest.first_chunk::<HEAD>()?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                if length > MAX_PAYLOAD {
                    return Some(Step::Aside);
                }
                if kind == HEADERS {
                    let payload = rest.get_mut(HEAD..HEAD + length)?;
                    // Where the block ends early, it goes on in a CONTINUATION. Clients put the authority in front.
                    let block = block(payload, flags).and_then(|range| payload.get_mut(range));
                    let is_rewritten = block.is_some_and(rewrite);
                    if self.state == State::First {
                        if !is_rewritten {
                            return Some(Step::Aside);
                        }
                        self.state = State::Rewriting;
                    }
                }
                Some(Step::Pass(HEAD + length))
            }
        }
    }
}

enum Step {
    /// h2 may read so many bytes more, of which some may not have come.
    Pass(usize),
    /// h2 may read everything from now on.
    Aside,
}

/// Where the header block lies in the payload of a HEADERS frame, between priority and padding.
fn block(payload: &[u8], flags: u8) -> Option<Range<usize>> {
    let mut range = 0..payload.len();
    if flags & PADDED != 0 {
        range.start += 1;
        range.end = range.end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        range.start += 5;
    }
    (range.start <= range.end).then_some(range)
}

/// Overwrites the `:authority` of a header block if it is not valid; returns whether it did. Left as they are: what is not
/// printable ASCII, and what cannot be overwritten in place.
fn rewrite(block: &mut [u8]) -> bool {
    let Some(Literal { is_huffman, value }) = hpack::authority(block) else { return false };
    let value = &mut block[value];
    let decoded = if is_huffman { hpack::decode(value) } else { Some(value.to_vec()) };
    let Some(decoded) = decoded.filter(|text| text.iter().all(|octet| matches!(octet, b' '..=b'~'))) else {
        return false;
    };
    if Authority::try_from(&decoded[..]).is_ok() {
        return false;
    }
    match is_huffman {
        true => hpack::fill(value, decoded.len()),
        // An empty one stays empty.
        false => {
            value.fill(b'a');
            !value.is_empty()
        }
    }
}

#[cfg(test)]
mod tests;
