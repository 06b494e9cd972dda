use std::sync::LazyLock;

use loona_hpack::{Decoder, huffman::HuffmanDecoder};
use proptest::{collection::vec, prelude::*, sample::Index};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Reads a connection through an inspector to its end, in pieces of these sizes.
fn through(connection: &[u8], sizes: &[usize]) -> (Vec<u8>, Inspector) {
    struct Through<R>(R, Inspector);
    impl<R: AsyncRead + Unpin> AsyncRead for Through<R> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Self(io, inspector) = &mut *self;
            let polled = inspector.poll_read(io, context, buf);
            assert!(inspector.held() <= HEAD + MAX_PAYLOAD + CHUNK, "it holds {}", inspector.held());
            polled
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut through = Through(server, Inspector::new());
        let (mut read, mut buf) = (Vec::new(), vec![0; 1 << 14]);
        let (mut rest, mut sizes) = (connection, sizes.iter().cycle());
        while !rest.is_empty() {
            let piece = rest.split_off(..rest.len().min(*sizes.next().unwrap_or(&usize::MAX))).unwrap();
            client.write_all(piece).await.unwrap();
            // What h2 would read by now.
            while let Some(count) = futures_util::FutureExt::now_or_never(through.read(&mut buf)) {
                read.extend_from_slice(&buf[..count.unwrap()]);
            }
        }
        drop(client);
        through.read_to_end(&mut read).await.unwrap();
        (read, through.1)
    })
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &1u32.to_be_bytes(), payload].concat()
}

/// A connection with its preface, its settings, and these frames.
fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &frames.concat()].concat()
}

/// A string as HPACK writes it.
fn string(text: &[u8], is_huffman: bool) -> Vec<u8> {
    let octets = if is_huffman { huffman(text) } else { text.to_vec() };
    let mut string = loona_hpack::encoder::encode_integer(octets.len(), 7);
    string[0] |= if is_huffman { 0x80 } else { 0 };
    [string, octets].concat()
}

/// The code of each octet that `CODES` holds, and its length.
fn codes() -> impl Iterator<Item = (u8, u32, u32)> {
    let (mut next, mut before) = (0, 0);
    hpack::CODES.into_iter().flat_map(move |(length, symbols)| {
        next <<= length - before;
        before = length;
        let first = next;
        next += symbols.len() as u32;
        (first..).zip(symbols).map(move |(code, symbol)| (*symbol, code, length))
    })
}

fn huffman(text: &[u8]) -> Vec<u8> {
    static CODES: LazyLock<Vec<(u8, u32, u32)>> = LazyLock::new(|| codes().collect());
    let mut bits = Vec::new();
    for octet in text {
        let &(_, code, length) = CODES.iter().find(|(symbol, ..)| symbol == octet).expect("printable ASCII");
        bits.extend((0..length).rev().map(|shift| code >> shift & 1 == 1));
    }
    let octet = |bits: &[bool]| (0..8).fold(0, |octet, at| octet << 1 | u8::from(*bits.get(at).unwrap_or(&true)));
    bits.chunks(8).map(octet).collect()
}

/// A request's header block with this authority as a literal, behind the method.
fn request(authority: &[u8], is_huffman: bool) -> Vec<u8> {
    [&[0x83, 0x41], &string(authority, is_huffman)[..], &[0x86, 0x84]].concat()
}

fn decoded(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    Decoder::new().decode(block).expect("a header block")
}

#[test]
fn the_huffman_code_is_that_of_others() {
    assert_eq!(codes().filter(|(symbol, ..)| *symbol != 0 && *symbol != b'\\').count(), 94, "all but one");
    for (symbol, ..) in codes().filter(|(symbol, ..)| *symbol != 0) {
        let encoded = huffman(&[symbol; 3]);
        assert_eq!(HuffmanDecoder::new().decode(&encoded).unwrap(), [symbol; 3]);
        assert_eq!(hpack::decode(&encoded), Some(vec![symbol; 3]));
    }
    // RFC 7541, C.4.1.
    let example = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    assert_eq!(hpack::decode(&example).unwrap(), b"www.example.com");
    for wrong in [&[0xff][..], &[0x00, 0x00], &[0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(hpack::decode(wrong), None, "{wrong:x?}");
    }
}

#[test]
fn an_invalid_authority_is_overwritten_in_place() {
    for authority in ["127.0.0.1:1,127.0.0.2:1", "/run/x.sock", "run%2Fx.sock", "a b", "a/b", "#", "<<<<"] {
        for is_huffman in [false, true] {
            let before = connection(&[frame(HEADERS, 4, &request(authority.as_bytes(), is_huffman))]);
            let (after, inspector) = through(&before, &[]);
            assert_eq!((after.len(), inspector.state), (before.len(), State::Aside), "it has ended");
            let at = PREFACE.len() + 2 * HEAD;
            let [mut old, mut new] = [&before[at..], &after[at..]].map(decoded);
            let is_possible = !is_huffman || huffman(authority.as_bytes()).len() <= authority.len();
            let [(_, old_value), (_, new_value)] = [old.remove(1), new.remove(1)];
            assert_eq!(old_value, authority.as_bytes());
            assert_eq!(new_value.len(), authority.len());
            assert_eq!(Authority::try_from(&new_value[..]).is_ok(), is_possible, "{authority} {is_huffman}");
            assert_eq!(old, new);
        }
    }
}

#[test]
fn a_connection_that_begins_with_a_valid_authority_is_left_alone() {
    let good = frame(HEADERS, 4, &request(b"sessiond.example:50051", true));
    let none = frame(HEADERS, 4, &[0x83, 0x86, 0x84]);
    let bad = frame(HEADERS, 4, &request(b"a,b:1:2", false));
    for first in [good, none] {
        let whole = connection(&[first.clone(), bad.clone()]);
        assert_eq!(through(&whole, &[1]).0, whole);
        // From the first frame on, h2 reads from the socket.
        let mut inspector = Inspector::new();
        inspector.bytes.extend_from_slice(&connection(&[first]));
        inspector.advance();
        assert_eq!((inspector.state, inspector.ready), (State::Aside, inspector.bytes.len()));
    }
}

#[test]
fn unexpected_bytes_are_left_to_h2() {
    let padded = |padding: u8| frame(HEADERS, 4 | PADDED, &[&[padding], &request(b"a,b:1:2", false)[..]].concat());
    let not_text = frame(HEADERS, 4, &request(b"\x00\xff", false));
    let too_long = [&[0x01, 0, 0, HEADERS, 4, 0, 0, 0, 1][..], &[0; 65_536]].concat();
    let cut = frame(HEADERS, 4, &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]);
    for frames in [padded(255), not_text, too_long, cut] {
        let whole = connection(&[frames, frame(HEADERS, 4, &request(b"a,b:1:2", false))]);
        assert_eq!(through(&whole, &[1000]).0, whole);
    }
    for whole in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n", b"", b"\x16\x03\x01"] {
        assert_eq!(through(whole, &[1]).0, whole);
    }
}

/// A client's encoder, which does all that HPACK allows.
#[derive(Default)]
struct Client {
    /// The newest first.
    table: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Client {
    fn field(&mut self, name: &[u8], value: &[u8], how: u8) -> Vec<u8> {
        let (is_huffman, is_indexed, by_index, form) = (how & 1 == 0, how & 2 == 0, how & 4 == 0, how >> 3 & 3);
        let field = (name.to_vec(), value.to_vec());
        if let Some(at) = self.table.iter().position(|other| *other == field).filter(|_| is_indexed) {
            let mut indexed = loona_hpack::encoder::encode_integer(62 + at, 7);
            indexed[0] |= 0x80;
            return indexed;
        }
        let first = [0x40, 0x40, 0x00, 0x10][usize::from(form)];
        let name = match name {
            b":authority" if by_index => vec![first | 1],
            _ => [&[first], &string(name, is_huffman)[..]].concat(),
        };
        if first == 0x40 {
            self.table.insert(0, field);
            let size = |table: &[(Vec<u8>, Vec<u8>)]| table.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
            while size(&self.table) > 4096 {
                self.table.pop();
            }
        }
        [name, string(value, is_huffman)].concat()
    }
}

/// The header blocks of a connection.
fn blocks(mut connection: &[u8]) -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    connection = &connection[PREFACE.len()..];
    while let Some(head) = connection.split_off(..HEAD) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = connection.split_off(..length).unwrap();
        match head[3] {
            HEADERS => blocks.push(payload[block(payload, head[4]).unwrap()].to_vec()),
            9 => blocks.last_mut().unwrap().extend_from_slice(payload),
            _ => {}
        }
    }
    blocks
}

const AUTHORITIES: [&str; 5] = ["127.0.0.1:1,127.0.0.2:1", "/run/x.sock", "good.example:1", "run%2Fx.sock", "a b c"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Equal lengths and an equal meaning of every later reference to the dynamic table: so both tables stay equal.
    #[test]
    fn only_the_authority_differs(
        first in 0..2usize,
        requests in vec((0..5usize, vec((0..9u8, 0..700usize, any::<u8>()), 0..6), any::<u8>(), any::<Index>()), 1..20),
        sizes in vec(1..3000usize, 1..8),
    ) {
        let mut client = Client::default();
        let mut frames = Vec::new();
        for (at, (authority, fields, how, cut)) in requests.iter().enumerate() {
            let authority = AUTHORITIES[if at == 0 { first } else { *authority }];
            let mut header = vec![0x83];
            header.extend(client.field(b":authority", authority.as_bytes(), *how));
            header.extend([0x86, 0x84]);
            let pseudo = header.len();
            for (name, length, how) in fields {
                header.extend(client.field(&[b'x', b'0' + name], &b"v".repeat(*length), *how));
            }
            let (header, rest) = header.split_at(pseudo + cut.index(header.len() - pseudo + 1));
            let flags = how & (PADDED | PRIORITY) | 4;
            let flags = if rest.is_empty() { flags } else { flags & !4 };
            let padding: &[u8] = if flags & PADDED != 0 { &[7] } else { &[] };
            let priority: &[u8] = if flags & PRIORITY != 0 { &[0; 5] } else { &[] };
            let padded: &[u8] = if flags & PADDED != 0 { &[0; 7] } else { &[] };
            frames.push(frame(HEADERS, flags, &[padding, priority, header, padded].concat()));
            if !rest.is_empty() {
                frames.push(frame(9, 4, rest));
            }
            frames.push(frame(0, 1, &[0x41; 100]));
        }
        let before = connection(&frames);
        let (after, _) = through(&before, &sizes);
        prop_assert_eq!(before.len(), after.len());
        let mut decoders = [Decoder::new(), Decoder::new()];
        for (old, new) in blocks(&before).iter().zip(&blocks(&after)) {
            let [old, new] = [decoders[0].decode(old).unwrap(), decoders[1].decode(new).unwrap()];
            prop_assert_eq!(old.len(), new.len());
            for ((name, old), (same, new)) in old.iter().zip(&new) {
                prop_assert_eq!(name, same);
                prop_assert_eq!(old.len(), new.len());
                if name == b":authority" {
                    prop_assert!(Authority::try_from(&new[..]).is_ok(), "{:?}", new);
                } else {
                    prop_assert_eq!(old, new);
                }
            }
        }
    }

    #[test]
    fn hostile_bytes_pass_in_their_order(
        begins in 0..3usize,
        bytes in vec(any::<u8>(), 0..3000),
        block in vec(any::<u8>(), 0..200),
        flags: u8,
        sizes in vec(1..500usize, 1..4),
    ) {
        let head = [Vec::new(), connection(&[]), connection(&[frame(HEADERS, 4, &request(b"a,b:1:2", false))])];
        let whole = [&head[begins][..], &frame(HEADERS, flags, &block), &bytes].concat();
        prop_assert_eq!(through(&whole, &sizes).0.len(), whole.len());
    }
}
