//! A connection that carries one call at a time: as much of HTTP/2 (RFC 9113) as that needs.

use super::{
    frames::{
        self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Input, LAST_STREAM, MAX_FRAME,
        PING, PUSH_PROMISE, SETTINGS, WINDOW_UPDATE, short,
    },
    headers::{Reader, Told},
    socket::{Broken, Socket, Wait},
    stream::{Stream, widen},
};

/// Settings.
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Bytes of a window before the first word about it.
const FIRST_WINDOW: u32 = 65_535;

/// What the server may send: more than any message that is read, so that no call ever asks for more.
const WINDOW: u32 = 16 << 20;

/// An answer.
pub(super) struct Reply {
    pub(super) told: Told,
    pub(super) body: Vec<u8>,
}

/// A connection.
pub(super) struct Connection {
    socket: Socket,
    input: Input,
    /// To be sent.
    output: Vec<u8>,
    headers: Reader,
    next_stream: u32,
    /// What the server takes in yet, of all streams and of a new one.
    window: i64,
    stream_window: i64,
    /// Of data that came since the server was last given room for more.
    taken: u32,
    /// Whether another call can be made on it.
    is_sound: bool,
}

impl Connection {
    /// What is said first goes out with the first call.
    pub(super) fn new(socket: Socket) -> Self {
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let settings = [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WINDOW)];
        let said = settings.iter().flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes()));
        frames::put(&mut output, SETTINGS, 0, 0, &said.collect::<Vec<_>>());
        frames::put(&mut output, WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
        Self {
            socket,
            input: Input::new(),
            output,
            headers: Reader::new(),
            next_stream: 1,
            window: FIRST_WINDOW.into(),
            stream_window: FIRST_WINDOW.into(),
            taken: 0,
            is_sound: true,
        }
    }

    /// Whether another call can be made on it.
    pub(super) fn is_sound(&self) -> bool {
        self.is_sound && self.next_stream <= LAST_STREAM
    }

    /// Hears what the server said while nobody listened: that it goes, for one.
    pub(super) fn hear(&mut self, wait: &Wait) {
        while self.is_sound() && self.socket.has_news() {
            let heard = self.receive(wait).and_then(|()| self.take_in(None));
            self.is_sound &= heard.is_ok();
        }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When no answer came. Whether the service got the call is not known then.
    pub(super) fn call(&mut self, block: &[u8], message: &[u8], wait: &Wait) -> Result<Reply, Broken> {
        let mut stream = Stream::new(self.next_stream, self.stream_window, message);
        self.next_stream += 2;
        // Until the call has ended as it should: of one that was left, the rest may come at any time.
        let was_sound = std::mem::replace(&mut self.is_sound, false);
        self.begin(stream.id, block);
        let mut goes_on = was_sound;
        loop {
            self.put_data(&mut stream);
            self.flush(wait)?;
            self.receive(wait)?;
            goes_on &= self.take_in(Some(&mut stream))?;
            if let Some(told) = stream.told.take() {
                // At once, while the time runs: who asks whether we are there does not wait for the next call.
                self.is_sound = goes_on && stream.is_sent && stream.has_ended && self.flush(wait).is_ok();
                return Ok(Reply { told, body: stream.body });
            }
        }
    }

    fn begin(&mut self, id: u32, block: &[u8]) {
        let mut pieces = block.chunks(MAX_FRAME).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            frames::put(&mut self.output, kind, if pieces.peek().is_none() { END_HEADERS } else { 0 }, id, piece);
            kind = CONTINUATION;
        }
    }

    /// As much of the message as the server takes.
    fn put_data(&mut self, stream: &mut Stream<'_>) {
        while !stream.is_sent {
            let room = self.window.min(stream.window).clamp(0, MAX_FRAME as i64) as usize;
            if room == 0 {
                return;
            }
            let (piece, rest) = stream.unsent.split_at(room.min(stream.unsent.len()));
            stream.unsent = rest;
            stream.is_sent = rest.is_empty();
            self.window -= piece.len() as i64;
            stream.window -= piece.len() as i64;
            frames::put(&mut self.output, DATA, if stream.is_sent { END_STREAM } else { 0 }, stream.id, piece);
        }
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Broken> {
        if self.output.is_empty() { Ok(()) } else { self.socket.send(&mut self.output, wait) }
    }

    fn receive(&mut self, wait: &Wait) -> Result<(), Broken> {
        match self.socket.receive(self.input.room(), wait)? {
            0 => Err(Broken::ended()),
            received => {
                self.input.put(received);
                Ok(())
            }
        }
    }

    /// Takes in the frames that came whole. Tells whether the server takes further calls here.
    fn take_in(&mut self, mut stream: Option<&mut Stream<'_>>) -> Result<bool, Broken> {
        let mut goes_on = true;
        // Frames borrow it, while what they say changes everything else.
        let mut input = std::mem::take(&mut self.input);
        while let Some(frame) = input.next()? {
            goes_on &= self.take(frame, stream.as_deref_mut())?;
        }
        self.input = input;
        if self.taken > WINDOW / 2 {
            frames::put(&mut self.output, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        Ok(goes_on)
    }

    fn take(&mut self, frame: Frame<'_>, stream: Option<&mut Stream<'_>>) -> Result<bool, Broken> {
        if stream.as_ref().is_some_and(|stream| stream.is_in_headers()) && frame.kind != CONTINUATION {
            return Err(Broken::strange("headers that break off"));
        }
        if frame.stream == 0 {
            return self.take_for_all(frame, stream);
        }
        if frame.kind == DATA {
            self.taken += frame.body.len() as u32;
        }
        match (frame.kind, stream.filter(|stream| stream.id == frame.stream)) {
            (PUSH_PROMISE, _) => return Err(Broken::strange("a push that nobody asked for")),
            (_, Some(stream)) => stream.take(frame, &mut self.headers)?,
            (HEADERS | DATA | CONTINUATION, None) => return Err(Broken::strange("an answer to nothing")),
            // Of a call that has ended.
            _ => {}
        }
        Ok(true)
    }

    /// Takes in a frame that is not of one stream. Not so if the server takes no further calls.
    fn take_for_all(&mut self, frame: Frame<'_>, stream: Option<&mut Stream<'_>>) -> Result<bool, Broken> {
        match frame.kind {
            SETTINGS if !frame.has(ACK) => {
                self.heed(frame.body, stream)?;
                frames::put(&mut self.output, SETTINGS, ACK, 0, &[]);
            }
            PING if !frame.has(ACK) => frames::put(&mut self.output, PING, ACK, 0, frame.body),
            WINDOW_UPDATE => widen(&mut self.window, frame.number()?.into())?,
            GOAWAY => {
                let last = frame.number()? & LAST_STREAM;
                if stream.is_none_or(|stream| !stream.has_ended && stream.id > last) {
                    return Err(Broken::strange("the server goes away"));
                }
                return Ok(false);
            }
            HEADERS | DATA | CONTINUATION => return Err(Broken::strange("an answer to nothing")),
            // Acknowledgements; what we do not know, which is to be passed over.
            _ => {}
        }
        Ok(true)
    }

    /// Heeds settings. Of our table of headers they say nothing, as we use none; nor of the longest frame, which is never less
    /// than we send.
    fn heed(&mut self, settings: &[u8], stream: Option<&mut Stream<'_>>) -> Result<(), Broken> {
        let mut change = 0;
        for setting in settings.chunks(6) {
            let &[high, low, a, b, c, d] = setting else { return Err(short()) };
            if u16::from_be_bytes([high, low]) == INITIAL_WINDOW_SIZE {
                let size = i64::from(u32::from_be_bytes([a, b, c, d]));
                change += size - self.stream_window;
                self.stream_window = 0;
                widen(&mut self.stream_window, size)?;
            }
        }
        stream.map_or(Ok(()), |stream| widen(&mut stream.window, change))
    }
}
