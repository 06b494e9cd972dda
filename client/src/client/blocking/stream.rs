//! One call of a connection: a stream of HTTP/2's.

use super::{
    LONGEST_MESSAGE,
    frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PRIORITY, RST_STREAM, WINDOW_UPDATE, short},
    headers::{Reader, Told},
    socket::Broken,
};

/// The most bytes of a block of headers.
const LONGEST_BLOCK: usize = 64 << 10;

/// The widest that a window may be.
const WIDEST_WINDOW: i64 = (1 << 31) - 1;

/// A call under way.
pub(super) struct Stream<'a> {
    pub(super) id: u32,
    pub(super) window: i64,
    /// What is not sent yet, and whether its end is.
    pub(super) unsent: &'a [u8],
    pub(super) is_sent: bool,
    has_begun: bool,
    /// Headers that go on in the next frame, and whether they end the stream.
    block: Option<(Vec<u8>, bool)>,
    pub(super) body: Vec<u8>,
    pub(super) told: Option<Told>,
    /// Whether the server has said all that it has to say.
    pub(super) has_ended: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn new(id: u32, window: i64, message: &'a [u8]) -> Self {
        Self {
            id,
            window,
            unsent: message,
            is_sent: false,
            has_begun: false,
            block: None,
            body: Vec::new(),
            told: None,
            has_ended: false,
        }
    }

    /// Whether the next frame has to be the rest of headers.
    pub(super) fn is_in_headers(&self) -> bool {
        self.block.is_some()
    }

    /// Takes in a frame of this stream.
    pub(super) fn take(&mut self, frame: Frame<'_>, headers: &mut Reader) -> Result<(), Broken> {
        match frame.kind {
            HEADERS | DATA | CONTINUATION if self.has_ended => Err(Broken::strange("more than an answer")),
            HEADERS => {
                let block = frame.unpadded()?;
                // The priority, which says nothing any more.
                let block = if frame.has(PRIORITY) { block.get(5..).ok_or_else(short)? } else { block };
                let ends = frame.has(END_STREAM);
                if frame.has(END_HEADERS) {
                    return self.hear(headers, block, ends);
                }
                self.block = Some((block.to_vec(), ends));
                Ok(())
            }
            CONTINUATION => {
                let going_on = self.block.take();
                let (mut block, ends) = going_on.ok_or_else(|| Broken::strange("headers that go on from nothing"))?;
                block.extend(frame.body);
                if block.len() > LONGEST_BLOCK {
                    return Err(Broken::strange("headers without end"));
                }
                if frame.has(END_HEADERS) {
                    return self.hear(headers, &block, ends);
                }
                self.block = Some((block, ends));
                Ok(())
            }
            DATA => self.take_data(frame.unpadded()?, frame.has(END_STREAM)),
            RST_STREAM if !self.has_ended && self.told.is_none() => Err(Broken::Reset(frame.number()?)),
            WINDOW_UPDATE => widen(&mut self.window, frame.number()?.into()),
            _ => Ok(()),
        }
    }

    /// Headers or trailers.
    fn hear(&mut self, headers: &mut Reader, block: &[u8], ends: bool) -> Result<(), Broken> {
        let told = headers.read(block).ok_or_else(|| Broken::strange("headers that cannot be read"))?;
        self.has_ended = ends;
        match (told, self.has_begun, ends) {
            (Told::Begins, false, false) => self.has_begun = true,
            // Not the answer yet (RFC 9110, section 15.2).
            (Told::Other(_, Some(100..200)), false, false) => {}
            // An answer of something else, whose body does not matter.
            (told @ Told::Other(_, Some(_)), false, false) | (told, _, true) => self.told = Some(told),
            _ => return Err(Broken::strange("headers in the middle of an answer")),
        }
        Ok(())
    }

    fn take_data(&mut self, data: &[u8], ends: bool) -> Result<(), Broken> {
        if self.told.is_some() {
            return Ok(());
        }
        if !self.has_begun {
            return Err(Broken::strange("an answer without headers"));
        }
        self.body.extend_from_slice(data);
        if self.body.len() > 5 + LONGEST_MESSAGE {
            return Err(Broken::strange("an answer that is longer than any that is read"));
        }
        if ends {
            self.has_ended = true;
            self.told = Some(Told::Begins);
        }
        Ok(())
    }
}

/// Gives a window more room.
pub(super) fn widen(window: &mut i64, by: i64) -> Result<(), Broken> {
    *window += by;
    if *window > WIDEST_WINDOW { Err(Broken::strange("a window that is too wide")) } else { Ok(()) }
}
