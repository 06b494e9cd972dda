//! Headers as HTTP/2 packs them (HPACK, RFC 7541): ours as they are, without a table; the server's by its table.

use http::{HeaderMap, HeaderName, HeaderValue};
use loona_hpack::Decoder;

/// Places in the table that everybody has (RFC 7541, appendix A).
const METHOD_POST: u8 = 0x80 | 3;
const SCHEME_HTTP: u8 = 0x80 | 6;
const SCHEME_HTTPS: u8 = 0x80 | 7;
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;
const AUTHORIZATION: u8 = 23;
const CONTENT_TYPE: u8 = 31;
const USER_AGENT: u8 = 58;

/// The server's table holds no more, which is what it begins with.
const TABLE: usize = 4096;

/// More than this is not kept of one block, however often it names what is in the table.
const LONGEST: usize = 64 << 10;

/// The headers that all calls of a server have: those of HTTP/2's own, which come first, and the others.
pub(super) struct Fixed {
    own: Vec<u8>,
    others: Vec<u8>,
}

impl Fixed {
    pub(super) fn new(tls: bool, authority: &str, user_agent: &str) -> Self {
        let mut own = vec![METHOD_POST, if tls { SCHEME_HTTPS } else { SCHEME_HTTP }];
        indexed(&mut own, AUTHORITY, authority);
        let mut others = Vec::new();
        indexed(&mut others, CONTENT_TYPE, "application/grpc");
        indexed(&mut others, USER_AGENT, user_agent);
        literal(&mut others, "te", "trailers");
        Self { own, others }
    }

    /// The beginning of a call's headers.
    pub(super) fn begin(&self, path: &str) -> Vec<u8> {
        let mut block = Vec::with_capacity(256);
        block.extend(&self.own);
        indexed(&mut block, PATH, path);
        block.extend(&self.others);
        block
    }
}

/// Adds a header, by its name.
pub(super) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    text(block, name.as_bytes());
    text(block, value.as_bytes());
}

/// Adds the caller's token, which nobody on the way may keep in a table.
pub(super) fn token(block: &mut Vec<u8>, token: &[u8]) {
    integer(block, 0x10, 0x0f, AUTHORIZATION.into());
    text(block, token);
}

/// Adds a header whose name everybody's table has.
fn indexed(block: &mut Vec<u8>, name: u8, value: &str) {
    integer(block, 0, 0x0f, name.into());
    text(block, value.as_bytes());
}

fn text(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, 0, 0x7f, text.len());
    block.extend(text);
}

/// An integer, whose first byte has `flags` above the bits of `mask` (RFC 7541, section 5.1).
fn integer(block: &mut Vec<u8>, flags: u8, mask: u8, integer: usize) {
    let Some(mut rest) = integer.checked_sub(mask.into()) else {
        return block.push(flags | integer as u8);
    };
    block.push(flags | mask);
    while rest >= 0x80 {
        block.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// What a block of the server's says.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// An answer begins, by HTTP's status 200.
    Begins,
    /// All went well, by gRPC's status.
    Ok,
    /// Something else: all that it says, and HTTP's status if it has one.
    Other(HeaderMap, Option<u16>),
}

/// Reads what a server says.
pub(super) struct Reader {
    decoder: Decoder<'static>,
    /// Whether blocks of one byte each, which name a place in the table, say that all went well; as far as they were read
    /// since the table changed last. Every answer that is as it should be ends with the same.
    known: Vec<(Vec<u8>, Told)>,
}

impl Reader {
    pub(super) fn new() -> Self {
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(TABLE);
        Self { decoder, known: Vec::new() }
    }

    /// Reads a block; `None` if it cannot be read.
    pub(super) fn read(&mut self, block: &[u8]) -> Option<Told> {
        if let Some((_, told)) = self.known.iter().find(|(known, _)| known == block) {
            return Some(told.clone());
        }
        // All of it by places of the table, each of one byte: this changes nothing, and means the same until something does.
        let by_places = block.iter().all(|byte| (0x81..0xff).contains(byte));
        if !by_places {
            self.known.clear();
        }
        let told = self.decode(block)?;
        if by_places && !matches!(told, Told::Other(..)) && self.known.len() < 8 {
            self.known.push((block.to_vec(), told.clone()));
        }
        Some(told)
    }

    fn decode(&mut self, block: &[u8]) -> Option<Told> {
        let (mut headers, mut http, mut length) = (HeaderMap::new(), None, 0);
        let keep = |name: std::borrow::Cow<'_, [u8]>, value: std::borrow::Cow<'_, [u8]>| {
            length += name.len() + value.len();
            if &*name == b":status" {
                http = std::str::from_utf8(&value).ok().and_then(|status| status.parse().ok());
            } else if let (Ok(name), Ok(value), ..=LONGEST) =
                (HeaderName::from_bytes(&name), HeaderValue::from_bytes(&value), length)
            {
                headers.append(name, value);
            }
        };
        self.decoder.decode_with_cb(block, keep).ok()?;
        Some(match (headers.get("grpc-status").map(HeaderValue::as_bytes), http) {
            (Some(b"0"), _) => Told::Ok,
            (None, Some(200)) => Told::Begins,
            _ => Told::Other(headers, http),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(block: &[u8]) -> Vec<String> {
        let headers = Decoder::new().decode(block).expect("it can be read");
        let line = |(name, value): &(Vec<u8>, Vec<u8>)| String::from_utf8([name, &b" "[..], value].concat());
        headers.iter().map(|header| line(header).expect("text")).collect()
    }

    fn said(name: &str, value: &str) -> Vec<u8> {
        let mut block = Vec::new();
        literal(&mut block, name, value);
        // To be kept in the table.
        block[0] = 0x40;
        block
    }

    #[test]
    fn what_we_say_is_read_as_it_was_meant() {
        let fixed = Fixed::new(true, "sessions.example.com:50051", "me/1");
        let mut block = fixed.begin("/sessiond.v1.SessionService/Open");
        let long = "t".repeat(20_000);
        token(&mut block, long.as_bytes());
        let authorization = format!("authorization {long}");
        let expected = [
            ":method POST",
            ":scheme https",
            ":authority sessions.example.com:50051",
            ":path /sessiond.v1.SessionService/Open",
            "content-type application/grpc",
            "user-agent me/1",
            "te trailers",
            &authorization,
        ];
        assert_eq!(unpacked(&block), expected);
    }

    #[test]
    fn an_answer_begins_and_ends_well_or_not() {
        let mut reader = Reader::new();
        let date = |day| [&[0x88][..], &said("date", day)].concat();
        assert!(matches!(reader.read(&date("today")), Some(Told::Begins)));
        assert!(matches!(reader.read(&said("grpc-status", "0")), Some(Told::Ok)));
        // The same bytes mean something else when the table has changed.
        for _ in 0..2 {
            assert!(matches!(reader.read(&[0x88, 0xbf]), Some(Told::Begins)));
            assert!(matches!(reader.read(&[0xbe]), Some(Told::Ok)));
        }
        assert!(matches!(reader.read(&date("tomorrow")), Some(Told::Begins)));
        assert!(matches!(reader.read(&[0xbf]), Some(Told::Ok)));
        assert!(matches!(reader.read(&[0xbe]), Some(Told::Other(_, None))), "a date alone is no answer");
        let gone = [said("grpc-status", "5"), said("grpc-message", "gone")].concat();
        let Some(Told::Other(headers, None)) = reader.read(&gone) else { panic!("it is an error") };
        assert_eq!(headers["grpc-message"], "gone");
        assert!(matches!(reader.read(&[0x8d]), Some(Told::Other(_, Some(404)))));
    }

    #[test]
    fn what_cannot_be_read_is_no_answer() {
        for wrong in [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], &[0xfe], &[0x40, 0x05, b'a'], &[0x3f, 0xe2, 0x7f]] {
            assert!(Reader::new().read(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_block_that_would_unpack_to_too_much_is_not_kept() {
        let mut reader = Reader::new();
        reader.read(&said("a", &"a".repeat(4_000))).expect("it can be read");
        let Some(Told::Other(headers, None)) = reader.read(&[0xbe; 10_000]) else { panic!("it is no answer") };
        assert!(headers.len() < 20);
    }
}
