//! The generator's HTTP/2: as much of RFC 9113 as calls of one message need, so that it costs little. Whatever it does not know
//! is an error, never passed over. (A little long, as what is said and what is heard share calls and windows.)

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use tokio::{
    io::AsyncReadExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

use super::headers::{Packer, Reader, Told};
use crate::wire::Method;

/// Kinds of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Flags of frames.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Settings.
const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Bytes before each frame's own.
const HEAD: usize = 9;

/// The most bytes of a frame, either way.
const MAX_FRAME: usize = 16_384;

/// Windows wide enough that no server ever waits for one, and few updates of them are sent.
const STREAM_WINDOW: u32 = 1 << 20;
const WINDOW: u32 = 1 << 26;

/// Bytes of a window before the first word about it.
const FIRST_WINDOW: u32 = 65_535;

/// A call that has been answered.
pub(super) struct Answer {
    pub(super) method: Method,
    /// When it was made.
    pub(super) begun: Instant,
    /// Bytes of its message, with gRPC's own frame.
    pub(super) bytes: usize,
    /// The message with that frame, if asked for.
    pub(super) message: Vec<u8>,
}

/// A call under way.
struct Stream {
    id: u32,
    answer: Answer,
    has_begun: bool,
}

/// A connection: what is written to it. It is read by its [`Ear`].
pub(super) struct Connection {
    io: OwnedWriteHalf,
    /// Told when another than its ear could not write all.
    full: Notify,
    out: RefCell<Vec<u8>>,
    packer: RefCell<Packer>,
    streams: RefCell<Vec<Stream>>,
    next_stream: Cell<u32>,
    /// What the server takes in yet, of all calls and of one.
    room: Cell<i64>,
    stream_room: Cell<usize>,
    /// Calls that have to wait for room.
    waiting: RefCell<Vec<(Method, Bytes, Answer)>>,
}

/// What reads a connection.
pub(super) struct Ear {
    io: OwnedReadHalf,
    bytes: Vec<u8>,
    headers: Reader,
    /// Whether messages are kept.
    keep: bool,
    /// Of data that came since the server was last given room for more.
    taken: u32,
}

impl Connection {
    /// Connects. Its ear keeps the messages of answers if `keep` says so.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) async fn open(address: SocketAddr, keep: bool) -> anyhow::Result<(Self, Ear)> {
        let io = TcpStream::connect(address).await?;
        io.set_nodelay(true)?;
        let (read, write) = io.into_split();
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let settings = [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, STREAM_WINDOW)];
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes()))
            .collect();
        frame(&mut out, SETTINGS, 0, 0, &settings);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
        let connection = Self {
            io: write,
            full: Notify::new(),
            out: RefCell::new(out),
            packer: RefCell::default(),
            streams: RefCell::default(),
            next_stream: Cell::new(1),
            room: Cell::new(FIRST_WINDOW.into()),
            stream_room: Cell::new(FIRST_WINDOW as usize),
            waiting: RefCell::default(),
        };
        // At once: a server waits for the first words no longer than for a while, and there may be thousands of connections to open.
        connection.io.writable().await?;
        connection.flush()?;
        // A connection is one when the server has spoken: whoever opens thousands without waiting fills the queue of a server, and
        // the kernel then lets a second pass.
        read.readable().await?;
        let ear = Ear { io: read, bytes: Vec::with_capacity(1 << 13), headers: Reader::new(), keep, taken: 0 };
        Ok((connection, ear))
    }

    /// Makes a call; it goes out with the next [`Self::flush`].
    pub(super) fn call(&self, method: Method, message: &Bytes) {
        let answer = Answer { method, begun: Instant::now(), bytes: 0, message: Vec::new() };
        self.begin(method, message, answer);
    }

    fn begin(&self, method: Method, message: &Bytes, answer: Answer) {
        if self.room.get() < message.len() as i64 || self.stream_room.get() < message.len() {
            self.waiting.borrow_mut().push((method, message.clone(), answer));
            return;
        }
        self.room.set(self.room.get() - message.len() as i64);
        let id = self.next_stream.get();
        self.next_stream.set(id + 2);
        let out = &mut *self.out.borrow_mut();
        let begin = out.len();
        out.extend([0; HEAD]);
        self.packer.borrow_mut().pack(method, out);
        let length = out.len() - begin - HEAD;
        out[begin..begin + HEAD].copy_from_slice(&head(length, HEADERS, END_HEADERS, id));
        let mut pieces = message.chunks(MAX_FRAME).peekable();
        while let Some(piece) = pieces.next() {
            frame(out, DATA, if pieces.peek().is_none() { END_STREAM } else { 0 }, id, piece);
        }
        self.streams.borrow_mut().push(Stream { id, answer, has_begun: false });
    }

    /// Writes what is to be written, as far as that goes at once; its ear writes the rest.
    pub(super) fn flush(&self) -> io::Result<()> {
        let out = &mut *self.out.borrow_mut();
        while !out.is_empty() {
            match self.io.try_write(out) {
                Ok(written) => drop(out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full.notify_one();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        !self.out.borrow().is_empty()
    }

    /// Makes the calls that waited for room.
    fn resume(&self) {
        for (method, message, answer) in self.waiting.take() {
            self.begin(method, &message, answer);
        }
    }
}

impl Ear {
    /// Waits until something comes, and puts the calls that have been answered with it into `answered`.
    ///
    /// # Errors
    /// When the connection ends, or anything comes that should not.
    pub(super) async fn listen(&mut self, connection: &Connection, answered: &mut Vec<Answer>) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            read = self.io.read_buf(&mut self.bytes) => ensure!(read? > 0, "the server has closed the connection"),
            writable = connection.io.writable(), if connection.has_more() => {
                writable?;
                return Ok(connection.flush()?);
            }
            // Else the arm above knows better when there is room.
            () = connection.full.notified(), if !connection.has_more() => return Ok(()),
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = &bytes[..];
        while let Some((head, body)) = rest.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            ensure!(length <= MAX_FRAME, "a frame of {length} bytes");
            let Some((body, behind)) = body.split_at_checked(length) else { break };
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.take(connection, (head[3], head[4], id), body, answered)?;
            rest = behind;
        }
        let done = bytes.len() - rest.len();
        self.bytes = bytes;
        self.bytes.drain(..done);
        if self.taken > WINDOW / 2 {
            frame(&mut connection.out.borrow_mut(), WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        Ok(())
    }

    /// Takes a frame in.
    fn take(
        &mut self,
        connection: &Connection,
        (kind, flags, id): (u8, u8, u32),
        body: &[u8],
        answered: &mut Vec<Answer>,
    ) -> anyhow::Result<()> {
        match (kind, flags) {
            (HEADERS, END_HEADERS | 0x5) => {
                let told = self.headers.read(body)?;
                let streams = &mut *connection.streams.borrow_mut();
                let at = position(streams, id)?;
                let stream = &mut streams[at];
                let ends = flags & END_STREAM != 0;
                match (told, stream.has_begun, ends) {
                    (Told::Begins, false, false) => stream.has_begun = true,
                    (Told::Ok, true, true) => answered.push(streams.remove(at).answer),
                    unlike => bail!("headers where they should not be: {unlike:?}"),
                }
            }
            (DATA, 0) => {
                self.taken += body.len() as u32;
                let streams = &mut *connection.streams.borrow_mut();
                let at = position(streams, id)?;
                let answer = &mut streams[at].answer;
                answer.bytes += body.len();
                if self.keep {
                    answer.message.extend(body);
                }
            }
            (SETTINGS, 0) => {
                settings(connection, body)?;
                frame(&mut connection.out.borrow_mut(), SETTINGS, ACK, 0, &[]);
                connection.resume();
            }
            (PING, 0) => frame(&mut connection.out.borrow_mut(), PING, ACK, 0, body),
            (WINDOW_UPDATE, _) if id == 0 => {
                let more: [u8; 4] = body.try_into().context("a strange WINDOW_UPDATE")?;
                connection.room.set(connection.room.get() + i64::from(u32::from_be_bytes(more)));
                connection.resume();
            }
            // A call's own window: all of it is sent before that is asked for.
            (WINDOW_UPDATE, _) | (SETTINGS, ACK) => {}
            (RST_STREAM | GOAWAY, _) => bail!("the server gives up: frame {kind}, {}", body.escape_ascii()),
            _ => bail!("a frame of kind {kind} with flags {flags}, which this generator does not read"),
        }
        Ok(())
    }
}

/// Where a call is: mostly among the oldest.
fn position(streams: &[Stream], id: u32) -> anyhow::Result<usize> {
    streams.iter().position(|stream| stream.id == id).context("an answer to nothing")
}

fn settings(connection: &Connection, body: &[u8]) -> anyhow::Result<()> {
    for setting in body.chunks(6) {
        let &[name_high, name_low, ref value @ ..] = setting else { bail!("strange settings") };
        let value = u32::from_be_bytes(value.try_into().context("strange settings")?);
        match u16::from_be_bytes([name_high, name_low]) {
            HEADER_TABLE_SIZE => ensure!(value >= 4096, "a header table of {value} bytes, which is too small for us"),
            INITIAL_WINDOW_SIZE => connection.stream_room.set(value as usize),
            // How many calls at once: plans stay below. What else there is does not matter to us.
            _ => {}
        }
    }
    Ok(())
}

fn head(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD] {
    let ([_, a, b, c], [e, f, g, h]) = ((length as u32).to_be_bytes(), stream.to_be_bytes());
    [a, b, c, kind, flags, e, f, g, h]
}

/// Adds a frame.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    out.extend(head(body.len(), kind, flags, stream));
    out.extend(body);
}
