//! As much of HPACK (RFC 7541) as it takes to find a literal `:authority` and to overwrite it. Needs no dynamic table.

use std::ops::Range;

const NAME: &[u8] = b":authority";

/// The static table's entry for [`NAME`].
const INDEX: usize = 1;

/// The Huffman codes of printable ASCII (Appendix B), by their length in bits. The code is canonical: each code is the one before
/// it plus one, with zeros appended where codes become longer. (NUL is here to keep the count.)
pub(super) const CODES: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// The codes that an overwritten value is made of: of `a` (5 bits) and of `X` (8 bits).
const SHORT: (u32, usize) = (0b00011, 5);
const LONG: (u32, usize) = (0b1111_1100, 8);

/// A value that is written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) is_huffman: bool,
    /// Where its octets lie in the block.
    pub(super) value: Range<usize>,
}

/// Finds the literal value of the block's `:authority`. `None` if there is none before the block ends or makes no sense, also if
/// its name is an entry of the dynamic table, which no known client does.
pub(super) fn authority(block: &[u8]) -> Option<Literal> {
    let mut reader = Reader { block, at: 0 };
    loop {
        let prefix = match *block.get(reader.at)? {
            // An indexed field, or a new size of the table: an integer and no more.
            0x80.. => {
                reader.integer(7)?;
                continue;
            }
            0x20..0x40 => {
                reader.integer(5)?;
                continue;
            }
            0x40..0x80 => 6,
            0..0x20 => 4,
        };
        let is_authority = match reader.integer(prefix)? {
            0 => {
                let Literal { is_huffman, value } = reader.string()?;
                let name = &block[value];
                if is_huffman { decode(name).is_some_and(|name| name == NAME) } else { name == NAME }
            }
            index => index == INDEX,
        };
        let value = reader.string()?;
        if is_authority {
            return Some(value);
        }
    }
}

struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// An integer whose first `prefix` bits share an octet with other things (5.1).
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let mask = (1 << prefix) - 1;
        let mut integer = usize::from(self.octet()? & mask);
        if integer < usize::from(mask) {
            return Some(integer);
        }
        // As many octets as h2 reads.
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            integer += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(integer);
            }
        }
        None
    }

    /// A string (5.2).
    fn string(&mut self) -> Option<Literal> {
        let is_huffman = self.block.get(self.at)? & 0x80 != 0;
        let length = self.integer(7)?;
        let value = self.at..self.at + length;
        self.at = value.end;
        (value.end <= self.block.len()).then_some(Literal { is_huffman, value })
    }

    fn octet(&mut self) -> Option<u8> {
        let octet = *self.block.get(self.at)?;
        self.at += 1;
        Some(octet)
    }
}

/// Decodes a string of printable ASCII; `None` if it is another or malformed.
pub(super) fn decode(octets: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(octets.len() * 8 / 5);
    let (mut code, mut length) = (0, 0);
    for octet in octets {
        for shift in (0..8).rev() {
            (code, length) = (code << 1 | u32::from(octet >> shift & 1), length + 1);
            if let Some(symbol) = symbol(code, length) {
                decoded.push(symbol);
                (code, length) = (0, 0);
            } else if length > 15 {
                return None;
            }
        }
    }
    // The rest of the last octet is ones, and less than eight.
    (length < 8 && code + 1 == 1 << length).then_some(decoded)
}

fn symbol(code: u32, length: u32) -> Option<u8> {
    let (mut first, mut before) = (0, 0);
    for (bits, symbols) in CODES {
        first <<= bits - before;
        if bits == length {
            return symbols.get(code.checked_sub(first)? as usize).copied();
        }
        first += symbols.len() as u32;
        before = bits;
    }
    None
}

/// Overwrites a Huffman-coded value by one of as many octets that decodes to so many letters; false if there is none.
pub(super) fn fill(value: &mut [u8], letters: usize) -> bool {
    let Some(spare) = (value.len() * 8).checked_sub(letters * SHORT.1) else { return false };
    let long = letters.min(spare / (LONG.1 - SHORT.1));
    // What is left is padding.
    if letters == 0 || spare - long * (LONG.1 - SHORT.1) > 7 {
        return false;
    }
    value.fill(0xff);
    let mut at = 0;
    for letter in 0..letters {
        let (code, bits) = if letter < letters - long { SHORT } else { LONG };
        for shift in (0..bits).rev() {
            if code >> shift & 1 == 0 {
                value[at / 8] &= !(0x80 >> (at % 8));
            }
            at += 1;
        }
    }
    true
}
