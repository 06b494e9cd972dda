//! Against a server that says byte by byte what a test tells it to: what HTTP/2 allows and no server at hand does.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::Deadlines;

const ID: &str = "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";

/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// `:status: 200`, and the trailer `grpc-status: 0`.
const BEGINS: &[u8] = &[0x88];
const ENDS: &[u8] = b"\x00\x0bgrpc-status\x010";

/// The message of an Open that opens nothing: one empty session.
const NOTHING: &[u8] = &[0, 0, 0, 0, 2, 0x0a, 0];

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// An answer as every server gives it.
fn answer(stream: u32) -> Vec<u8> {
    [frame(HEADERS, 4, stream, BEGINS), frame(DATA, 0, stream, NOTHING), frame(HEADERS, 5, stream, ENDS)].concat()
}

/// The server's side of a connection.
struct Peer(TcpStream);

impl Peer {
    fn begin(mut io: TcpStream, settings: &[u8]) -> Self {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).expect("a preface");
        io.write_all(&frame(SETTINGS, 0, 0, settings)).expect("it listens");
        Self(io)
    }

    fn read(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).expect("a frame");
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut body).expect("a frame");
        (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), body)
    }

    /// Reads a call to its end, and gives its stream and how long its message was.
    fn read_call(&mut self) -> (u32, usize) {
        let mut length = 0;
        loop {
            let (kind, flags, stream, body) = self.read();
            if kind == DATA {
                length += body.len();
                if flags & 1 != 0 {
                    return (stream, length);
                }
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it listens");
    }

    /// Reads until they have closed it.
    fn wait_for_the_end(&mut self) {
        let _ = self.0.read_to_end(&mut Vec::new());
    }
}

/// A server that treats its connections one after the other, each as the script does.
fn server(script: impl Fn(usize, TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it has one");
    thread::spawn(move || listener.incoming().enumerate().for_each(|(n, io)| script(n, io.expect("a connection"))));
    address
}

fn client(address: SocketAddr, time: Duration) -> SessionClient {
    let deadlines = Deadlines { open: time, save: time, destroy: time };
    SessionClient::builder().address(address.to_string()).deadlines(deadlines).build_blocking().expect("an address")
}

fn patient(address: SocketAddr) -> SessionClient {
    client(address, Duration::from_secs(20))
}

fn id() -> SessionId {
    SessionId::parse(ID).expect("it is spelt as one")
}

#[test]
fn headers_come_in_pieces_padded_and_after_a_word_in_between() {
    let address = server(|_, io| {
        let mut peer = Peer::begin(io, &[]);
        for _ in 0..2 {
            let (stream, _) = peer.read_call();
            // 100 Continue.
            peer.say(&frame(HEADERS, 4, stream, b"\x08\x03100"));
            // Padded, with a priority, and going on twice.
            let begins = [&[3, 0, 0, 0, 0, 16][..], &BEGINS[..1], &[0, 0, 0]].concat();
            peer.say(&frame(HEADERS, 0x28, stream, &begins));
            peer.say(&frame(9, 0, stream, b"\x00\x01"));
            peer.say(&frame(9, 4, stream, b"a\x01b"));
            // A kind that nobody knows.
            peer.say(&frame(77, 0xff, stream, b"?"));
            let data = [&[2], NOTHING, &[0, 0]].concat();
            peer.say(&frame(DATA, 8, stream, &data));
            // One byte at a time.
            frame(HEADERS, 5, stream, ENDS).iter().for_each(|byte| peer.say(&[*byte]));
        }
        peer.wait_for_the_end();
    });
    let client = patient(address);
    for _ in 0..2 {
        assert!(client.open(&id()).expect("it is an answer").is_none());
    }
}

#[test]
fn nothing_is_sent_that_the_server_has_no_room_for() {
    let address = server(|_, io| {
        // Streams of 1,000 bytes.
        let mut peer = Peer::begin(io, &[0, 4, 0, 0, 3, 0xe8]);
        // The first words come before the settings do; by the second call they were read.
        let (stream, _) = peer.read_call();
        peer.say(&answer(stream));
        let mut got = 0;
        let stream = loop {
            match peer.read() {
                (DATA, flags, of, body) => {
                    assert!(body.len() <= 1_000);
                    got += body.len();
                    let more = (body.len() as u32).to_be_bytes();
                    peer.say(&[frame(WINDOW_UPDATE, 0, 0, &more), frame(WINDOW_UPDATE, 0, of, &more)].concat());
                    if flags & 1 != 0 {
                        break of;
                    }
                }
                (PING, ..) => panic!("nobody pings"),
                _ => {}
            }
        };
        assert!(got > 100_000, "{got}");
        let no = frame(HEADERS, 5, stream, b"\x88\x00\x0bgrpc-status\x018");
        peer.say(&no);
        peer.wait_for_the_end();
    });
    let client = patient(address);
    client.open(&id()).expect("it is an answer");
    let save = Save::create().set("long", &"x".repeat(100_000)).expect("text");
    let error = client.save(save).expect_err("RESOURCE_EXHAUSTED without a reason");
    assert!(error.is_outage() && error.reason().is_none(), "{error:?}");
}

#[test]
fn a_long_answer_comes_whole_and_the_next_one_too() {
    const LENGTH: usize = 4 << 20;
    let address = server(|_, io| {
        let mut peer = Peer::begin(io, &[]);
        for _ in 0..6 {
            let (stream, _) = peer.read_call();
            peer.say(&frame(HEADERS, 4, stream, BEGINS));
            // A field that nobody knows, so long.
            let mut message = vec![0];
            message.extend((LENGTH as u32).to_be_bytes());
            message.extend([0x0a, 0, 0xfa, 0x01]);
            let (mut rest, mut length) = (LENGTH - 4 - 4, Vec::new());
            while rest >= 0x80 {
                length.push(0x80 | (rest & 0x7f) as u8);
                rest >>= 7;
            }
            length.push(rest as u8);
            assert_eq!(length.len(), 4);
            message.extend(length);
            message.resize(5 + LENGTH, 0);
            message.chunks(16_384).for_each(|piece| peer.say(&frame(DATA, 0, stream, piece)));
            peer.say(&frame(HEADERS, 5, stream, ENDS));
        }
        peer.wait_for_the_end();
    });
    let client = patient(address);
    for _ in 0..6 {
        assert!(client.open(&id()).expect("it is an answer").is_none());
    }
}

#[test]
fn an_answer_without_end_is_not_read_for_ever() {
    let address = server(|_, io| {
        let mut peer = Peer::begin(io, &[]);
        let (stream, _) = peer.read_call();
        peer.say(&frame(HEADERS, 4, stream, BEGINS));
        // Until they hang up.
        while peer.0.write_all(&frame(DATA, 0, stream, &[0; 16_384])).is_ok() {}
    });
    let error = patient(address).open(&id()).expect_err("it has no end");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[test]
fn who_asks_whether_we_are_there_is_answered() {
    let address = server(|_, io| {
        let mut peer = Peer::begin(io, &[]);
        let (stream, _) = peer.read_call();
        peer.say(&frame(PING, 0, 0, b"in a run"));
        loop {
            if let (PING, 1, 0, body) = peer.read() {
                break assert_eq!(body, b"in a run");
            }
        }
        peer.say(&answer(stream));
        peer.wait_for_the_end();
    });
    assert!(patient(address).open(&id()).expect("it is an answer").is_none());
}

#[test]
fn a_connection_that_the_server_leaves_is_used_no_more() {
    for (words, again) in [
        // GOAWAY: this call is the last that is answered; or not even this.
        (frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), true),
        (frame(7, 0, 0, &[0; 8]), false),
        // REFUSED_STREAM.
        (frame(3, 0, 1, &[0, 0, 0, 7]), false),
        // What is no HTTP/2.
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false),
        (frame(HEADERS, 5, 1, &[0xff; 8]), false),
        (frame(DATA, 8, 1, &[9]), false),
        (frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), false),
        (frame(5, 4, 1, &[0, 0, 0, 2]), false),
    ] {
        let connections = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&connections);
        let address = server(move |n, io| {
            seen.fetch_add(1, Ordering::SeqCst);
            let mut peer = Peer::begin(io, &[]);
            let (stream, _) = peer.read_call();
            if n == 0 {
                peer.say(&words);
                if again {
                    peer.say(&answer(stream));
                }
                peer.wait_for_the_end();
            } else {
                peer.say(&answer(stream));
                let (stream, _) = peer.read_call();
                peer.say(&answer(stream));
                peer.wait_for_the_end();
            }
        });
        let client = patient(address);
        client.open(&id()).expect("if not the first connection, the second answers");
        client.open(&id()).expect("the second does");
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn a_deadline_is_kept_to_the_moment() {
    let address = server(|_, io| Peer::begin(io, &[]).wait_for_the_end());
    for time in [10, 60, 75, 130, 300].map(Duration::from_millis) {
        let begun = Instant::now();
        let error = client(address, time).open(&id()).expect_err("nobody answers");
        let late = begun.elapsed().saturating_sub(time);
        assert!(error.is_outage() && begun.elapsed() >= time, "{error}");
        // Of a machine that has other things to do, no less.
        assert!(late < Duration::from_millis(200), "{time:?}: {late:?} late");
    }
}

#[test]
fn a_timeout_has_at_most_eight_digits() {
    for (left, said) in [
        (Duration::from_micros(299_123), "299123u"),
        (Duration::from_secs(99), "99000000u"),
        (Duration::from_secs(100), "100000m"),
        (super::super::retry::FOR_EVER, "31536000S"),
    ] {
        assert_eq!(timeout(left), said);
    }
}
