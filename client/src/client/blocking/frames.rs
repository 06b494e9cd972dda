//! Frames of HTTP/2 (RFC 9113, section 4), as they are written and as they come.

use super::socket::Broken;

/// Kinds of frames (RFC 9113, section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// Bytes before each frame's own.
const HEAD: usize = 9;

/// The most bytes of a frame, either way: nobody may send more unless told.
pub(super) const MAX_FRAME: usize = 16_384;

/// The last stream of a connection.
pub(super) const LAST_STREAM: u32 = (1 << 31) - 1;

/// A frame that came.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number that it begins with.
    pub(super) fn number(&self) -> Result<u32, Broken> {
        self.body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(short)
    }

    /// What it holds but for its padding.
    pub(super) fn unpadded(&self) -> Result<&'a [u8], Broken> {
        if !self.has(PADDED) {
            return Ok(self.body);
        }
        let (&padding, rest) = self.body.split_first().ok_or_else(short)?;
        rest.len().checked_sub(padding.into()).map(|length| &rest[..length]).ok_or_else(short)
    }
}

pub(super) fn short() -> Broken {
    Broken::strange("a frame that is too short")
}

/// Adds a frame.
pub(super) fn put(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    output.extend(length);
    output.extend([kind, flags]);
    output.extend(stream.to_be_bytes());
    output.extend(body);
}

/// What came and was not taken in yet.
#[derive(Default)]
pub(super) struct Input {
    bytes: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Input {
    /// Room for the longest frame, and for what comes behind it.
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 2 * (HEAD + MAX_FRAME)].into(), begin: 0, end: 0 }
    }

    /// Where more can be put.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > HEAD + MAX_FRAME {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        &mut self.bytes[self.end..]
    }

    /// That many bytes were put there.
    pub(super) fn put(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next frame, if all of it came.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, Broken> {
        let came = &self.bytes[self.begin..self.end];
        let Some((&[a, b, c, kind, flags, e, f, g, h], rest)) = came.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MAX_FRAME {
            return Err(Broken::strange("what answers is not an HTTP/2 server"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        self.begin += HEAD + length;
        Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes([e, f, g, h]) & LAST_STREAM, body }))
    }
}
