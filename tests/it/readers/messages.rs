//! Random messages of `google.protobuf.Struct`: valid ones, and what mutations of their wire format make of them.

use sessiond_tests::Dice;

/// A message: its fields, in order.
type Message = Vec<Field>;

/// One field, spelled in any way that the wire format can express, valid or not.
#[derive(Clone)]
struct Field {
    number: u64,
    /// The wire type to write if it is not the one of the body.
    wire: Option<u64>,
    /// Bytes by which the tag is longer than needed.
    padding: usize,
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// The value, and the bytes by which it is longer than needed.
    Varint(u64, usize),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>, Length),
    Message(Message, Length),
    Group(Message),
    /// A tag with nothing behind it.
    Nothing,
}

/// How a length is spelled.
#[derive(Clone, Copy, Default)]
struct Length {
    /// Bytes by which it is longer than needed.
    padding: usize,
    /// By how much it is wrong.
    wrong: i64,
}

// ---- encoding ------------------------------------------------------------------------------------------------------

fn encode(message: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in message {
        let wire = field.wire.unwrap_or(match field.body {
            Body::Varint(..) => 0,
            Body::Fixed64(_) => 1,
            Body::Bytes(..) | Body::Message(..) => 2,
            Body::Group(_) => 3,
            Body::Fixed32(_) => 5,
            Body::Nothing => 4,
        });
        varint(&mut bytes, field.number << 3 | wire, field.padding);
        match &field.body {
            Body::Varint(value, padding) => varint(&mut bytes, *value, *padding),
            Body::Fixed64(bits) => bytes.extend(bits.to_le_bytes()),
            Body::Fixed32(bits) => bytes.extend(bits.to_le_bytes()),
            Body::Bytes(content, length) => delimited(&mut bytes, content, *length),
            Body::Message(message, length) => delimited(&mut bytes, &encode(message), *length),
            Body::Group(message) => {
                bytes.extend(encode(message));
                varint(&mut bytes, field.number << 3 | 4, 0);
            }
            Body::Nothing => {}
        }
    }
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut value: u64, padding: usize) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    for _ in 0..padding {
        *bytes.last_mut().expect("just pushed") |= 0x80;
        bytes.push(0);
    }
}

fn delimited(bytes: &mut Vec<u8>, content: &[u8], length: Length) {
    varint(bytes, (content.len() as u64).wrapping_add_signed(length.wrong), length.padding);
    bytes.extend(content);
}

// ---- valid messages ------------------------------------------------------------------------------------------------

const KEYS: [&str; 7] = ["", "a", "b", "role", "\u{e9}", "\0", "k"];
const TEXTS: [&str; 6] = ["", "admin", "\u{1f36a}", "\0", "\u{10ffff}", "e\u{301}"];
const NUMBERS: [f64; 8] = [0.0, -0.0, 1.5, f64::MAX, f64::MIN_POSITIVE, 5e-324, -1e308, 9_007_199_254_740_993.0];

fn field(number: u64, body: Body) -> Field {
    Field { number, wire: None, padding: 0, body }
}

fn message(number: u64, message: Message) -> Field {
    field(number, Body::Message(message, Length::default()))
}

fn text(number: u64, text: &str) -> Field {
    field(number, Body::Bytes(text.as_bytes().to_vec(), Length::default()))
}

fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.below(from.len())]
}

/// An object with a few keys, each once.
fn object(dice: &mut Dice, depth: usize) -> Message {
    let keys = KEYS.iter().filter(|_| dice.once_in(3)).copied().collect::<Vec<_>>();
    let long = "x".repeat(120 + dice.below(20));
    let long = dice.once_in(20).then_some(&long[..]);
    let mut entry = |key| message(1, vec![text(1, key), message(2, vec![value(dice, depth)])]);
    keys.into_iter().chain(long).map(&mut entry).collect()
}

/// The one field of a value.
fn value(dice: &mut Dice, depth: usize) -> Field {
    match dice.below(if depth == 0 { 4 } else { 8 }) {
        0 => field(1, Body::Varint(0, 0)),
        1 => field(4, Body::Varint(dice.below(2) as u64, 0)),
        2 => field(2, Body::Fixed64(pick(dice, &NUMBERS).to_bits())),
        3 => text(3, pick(dice, &TEXTS)),
        4 | 5 => message(5, object(dice, depth - 1)),
        _ => {
            let items = dice.below(4);
            message(6, (0..items).map(|_| message(1, vec![value(dice, depth - 1)])).collect())
        }
    }
}

/// The field of a value that nests about as deep as a message may, or a little deeper.
fn deep(dice: &mut Dice) -> Field {
    let mut depth = 85 + dice.below(16);
    let mut inner = value(dice, 0);
    while depth >= 2 {
        (depth, inner) = match dice.once_in(2) {
            true => {
                (depth.saturating_sub(3), message(5, vec![message(1, vec![text(1, "k"), message(2, vec![inner])])]))
            }
            false => (depth - 2, message(6, vec![message(1, vec![inner])])),
        };
    }
    inner
}

// ---- mutations -----------------------------------------------------------------------------------------------------

/// What a field that no schema knows can look like.
fn unknown(dice: &mut Dice) -> Field {
    let number = pick(dice, &[3, 7, 8, 15, 16, 100, 2048, 0x1fff_ffff]);
    field(number, any_body(dice))
}

fn any_body(dice: &mut Dice) -> Body {
    match dice.below(7) {
        0 | 1 => Body::Varint(any_varint(dice), padding(dice)),
        2 => Body::Fixed64(any_bits(dice)),
        3 => Body::Fixed32(dice.throw() as u32),
        4 => Body::Bytes(any_bytes(dice), Length::default()),
        5 => Body::Message(object(dice, 1), Length::default()),
        _ => Body::Group(if dice.once_in(2) { object(dice, 1) } else { Message::new() }),
    }
}

fn any_varint(dice: &mut Dice) -> u64 {
    let edges = [0, 1, 2, 127, 128, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 35, 1 << 63, u64::MAX, u64::MAX - 1];
    if dice.once_in(8) { dice.throw() } else { pick(dice, &edges) }
}

fn any_bits(dice: &mut Dice) -> u64 {
    let edges = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(0x7ff0_0000_0000_0001), -0.0];
    if dice.once_in(3) { dice.throw() } else { pick(dice, &edges).to_bits() }
}

fn any_bytes(dice: &mut Dice) -> Vec<u8> {
    // Bytes that begin no character, cut ones, surrogates, overlong ones, and more than the last character.
    let edges: [&[u8]; 12] = [
        b"",
        b"text",
        b"\xff",
        b"\x80",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\x08\x00",
        b"\0\0\0\0\0\0\xf0\x3f",
    ];
    if dice.once_in(6) {
        (0..dice.below(12)).map(|_| dice.throw() as u8).collect()
    } else {
        pick(dice, &edges).to_vec()
    }
}

/// Mostly a few bytes, at times so many that the number is too long.
fn padding(dice: &mut Dice) -> usize {
    if dice.once_in(2) { 0 } else { dice.below(11) }
}

/// All messages within this one.
fn count(message: &[Field]) -> usize {
    1 + message.iter().map(|field| within(&field.body).map_or(0, |inner| count(inner))).sum::<usize>()
}

fn within(body: &Body) -> Option<&Message> {
    match body {
        Body::Message(inner, _) | Body::Group(inner) => Some(inner),
        _ => None,
    }
}

/// The message with this number, counted from the outermost one.
fn nth(message: &mut Message, at: usize) -> &mut Message {
    let mut left = at;
    if left == 0 {
        return message;
    }
    left -= 1;
    for field in message {
        let (Body::Message(inner, _) | Body::Group(inner)) = &mut field.body else { continue };
        let inside = count(inner);
        if left < inside {
            return nth(inner, left);
        }
        left -= inside;
    }
    unreachable!("the number is below the count")
}

fn mutate(dice: &mut Dice, data: &mut Message) {
    let inside = count(data);
    let donor = nth(data, dice.below(inside)).clone();
    let message = nth(data, dice.below(inside));
    let place = dice.below(message.len() + 1);
    if message.is_empty() || dice.once_in(3) {
        let field = match dice.below(5) {
            0 | 1 => unknown(dice),
            2 => donor.first().cloned().unwrap_or_else(|| unknown(dice)),
            3 => value(dice, 1),
            _ => deep(dice),
        };
        return message.insert(place, field);
    }
    let at = dice.below(message.len());
    match dice.below(12) {
        0 => message.insert(place, message[at].clone()),
        1 => drop(message.remove(at)),
        2 => message.reverse(),
        3 => message.push(unknown(dice)),
        4 => message[at].number = pick(dice, &[0, 1, 2, 3, 4, 5, 6, 7, 16, 0x1fff_ffff, 0x2000_0000, 1 << 32]),
        5 => message[at].padding = 1 + dice.below(10),
        6 => message[at].body = any_body(dice),
        7 => message[at].wire = Some(dice.below(8) as u64),
        8 => message[at].body = Body::Nothing,
        9 => split(message, at),
        _ => spell(dice, &mut message[at].body),
    }
}

/// Spells a body in another way: longer, empty, or with an unusual content.
fn spell(dice: &mut Dice, body: &mut Body) {
    match body {
        Body::Varint(value, longer) => (*value, *longer) = (any_varint(dice), padding(dice)),
        Body::Fixed64(bits) => *bits = any_bits(dice),
        Body::Fixed32(bits) => *bits = dice.throw() as u32,
        Body::Bytes(content, length) => match dice.below(3) {
            0 => *length = any_length(dice),
            _ => *content = any_bytes(dice),
        },
        Body::Message(message, length) => match dice.below(4) {
            0 => message.clear(),
            1 => *body = Body::Group(message.clone()),
            _ => *length = any_length(dice),
        },
        Body::Group(message) => *body = Body::Message(message.clone(), Length::default()),
        Body::Nothing => *body = any_body(dice),
    }
}

fn any_length(dice: &mut Dice) -> Length {
    let wrong = if dice.once_in(3) { pick(dice, &[-1, 1, 2, 127, 1 << 31, 1 << 32, -(1 << 40)]) } else { 0 };
    Length { padding: dice.below(11), wrong }
}

/// Spreads the fields of a message over two fields with its number, which readers merge.
fn split(message: &mut Message, at: usize) {
    let Body::Message(inner, _) = &mut message[at].body else { return };
    let tail = inner.split_off(inner.len() / 2);
    let number = message[at].number;
    message.insert(at + 1, self::message(number, tail));
}

// ---- the whole -----------------------------------------------------------------------------------------------------

/// The encoding of a valid message.
pub(super) fn valid(dice: &mut Dice) -> Vec<u8> {
    encode(&object(dice, 4))
}

/// The encoding of a message after some mutations.
pub(super) fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut data = object(dice, 3);
    if dice.once_in(12) {
        data.push(message(1, vec![text(1, "deep"), message(2, vec![deep(dice)])]));
    }
    for _ in 0..=dice.below(3) {
        mutate(dice, &mut data);
    }
    let mut bytes = encode(&data);
    if dice.once_in(8) && !bytes.is_empty() {
        let at = dice.below(bytes.len());
        match dice.below(4) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes[at] = dice.throw() as u8,
            _ => bytes.insert(at, dice.throw() as u8),
        }
    }
    bytes
}
