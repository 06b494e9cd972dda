//! Headers as HTTP/2 packs them (HPACK, RFC 7541): ours so small as any client's become, the server's read once each.

use anyhow::{Context, bail, ensure};
use loona_hpack::Decoder;

use crate::wire::Method;

/// `:method: POST`, `:scheme: http`: two that every table has.
const FIXED: [u8; 2] = [0x83, 0x86];

/// The first index of a connection's own table, where the newest entry is.
const NEWEST: u8 = 62;

/// Packs what we ask. What it said once is in the server's table, and is said by its place there: no more than seven are.
#[derive(Default)]
pub(super) struct Packer {
    said: Vec<(&'static str, String)>,
}

impl Packer {
    /// Adds the headers of a call.
    pub(super) fn pack(&mut self, method: Method, block: &mut Vec<u8>) {
        block.extend(FIXED);
        for (name, value) in [
            (":path", method.path()),
            (":authority", "localhost".to_owned()),
            ("content-type", "application/grpc".to_owned()),
            ("te", "trailers".to_owned()),
        ] {
            let said = self.said.iter().rev().position(|said| said.0 == name && said.1 == value);
            if let Some(ago) = said {
                block.push(0x80 | (NEWEST + ago as u8));
            } else {
                block.push(0x40);
                for text in [name, &value] {
                    block.push(text.len() as u8);
                    block.extend(text.as_bytes());
                }
                self.said.push((name, value));
            }
        }
    }
}

/// What the headers of an answer say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// That an answer comes.
    Begins,
    /// That all went well.
    Ok,
}

/// Reads what the server says.
pub(super) struct Reader {
    decoder: Decoder<'static>,
    /// What was read since the server's table changed last; blocks that refer to it mean the same until it changes again.
    read: Vec<(Vec<u8>, Told)>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { decoder: Decoder::new(), read: Vec::new() }
    }

    /// Reads headers.
    ///
    /// # Errors
    /// When they cannot be read, or tell of an error.
    pub(super) fn read(&mut self, block: &[u8]) -> anyhow::Result<Told> {
        if let Some((_, told)) = self.read.iter().find(|(read, _)| read == block) {
            return Ok(*told);
        }
        // All of it by places of the table, each of one byte: this changes nothing, and can be known again.
        let refers = block.iter().all(|byte| (0x81..0xff).contains(byte));
        if !refers {
            self.read.clear();
        }
        let headers = self.decoder.decode(block).ok().context("headers that cannot be read")?;
        let value = |name: &str| {
            let found = headers.iter().find(|header| header.0 == name.as_bytes());
            found.map(|header| String::from_utf8_lossy(&header.1))
        };
        let told = match value("grpc-status").as_deref() {
            Some("0") => Told::Ok,
            None => {
                ensure!(value(":status").as_deref() == Some("200"), "answered with {:?}", value(":status"));
                Told::Begins
            }
            Some(code) => bail!("an error: {code} {:?}", value("grpc-message")),
        };
        if refers {
            self.read.push((block.to_vec(), told));
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(decoder: &mut Decoder<'_>, block: &[u8]) -> Vec<String> {
        let headers = decoder.decode(block).unwrap();
        headers.iter().map(|(name, value)| String::from_utf8([&name[..], b" ", value].concat()).unwrap()).collect()
    }

    #[test]
    fn what_was_said_once_takes_a_byte() {
        let (mut packer, mut decoder) = (Packer::default(), Decoder::new());
        for (method, length) in [
            (Method::Open, None),
            (Method::Open, Some(6)),
            (Method::Save, None),
            (Method::Destroy, None),
            (Method::Open, Some(6)),
            (Method::Save, Some(6)),
        ] {
            let mut block = Vec::new();
            packer.pack(method, &mut block);
            assert!(length.is_none_or(|length| block.len() == length), "{method:?}: {}", block.len());
            let path = format!(":path /sessiond.v1.SessionService/{method:?}");
            let rest = [":authority localhost", "content-type application/grpc", "te trailers"];
            let headers = unpacked(&mut decoder, &block);
            assert_eq!(headers[..3], [":method POST", ":scheme http", &path]);
            assert_eq!(headers[3..], rest);
        }
    }

    #[test]
    fn an_answer_begins_and_ends_well_or_not_at_all() {
        let mut reader = Reader::new();
        let literal = |name: &str, value: &str| {
            [&[0x40, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
        };
        let date = |day| [&[0x88][..], &literal("date", day)].concat();
        assert_eq!(reader.read(&date("today")).unwrap(), Told::Begins);
        assert_eq!(reader.read(&literal("grpc-status", "0")).unwrap(), Told::Ok);
        // The same bytes mean something else when the table has changed.
        for _ in 0..2 {
            assert_eq!(reader.read(&[0x88, 0xbf]).unwrap(), Told::Begins);
            assert_eq!(reader.read(&[0xbe]).unwrap(), Told::Ok);
        }
        assert_eq!(reader.read(&date("tomorrow")).unwrap(), Told::Begins);
        assert_eq!(reader.read(&[0xbf]).unwrap(), Told::Ok);
        assert!(reader.read(&[0xbe]).is_err(), "a date alone is no answer");
        let refused = [literal("grpc-status", "5"), literal("grpc-message", "gone")].concat();
        assert!(reader.read(&refused).unwrap_err().to_string().contains("5 Some(\"gone\")"));
        assert!(reader.read(&[0x8d]).is_err(), "404");
    }
}
