//! Readers agree about stored bytes: what Save accepts as data is read alike by the protobuf libraries of Go, Python (upb) and
//! Rust (prost), and what two of them read differently is refused.
//!
//! Random messages, valid and mutated, go to all three readers and to the validation of Save. A failure prints the message.

mod forms;
mod messages;
mod processes;

use std::{
    env, iter,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use sessiond::{
    grpc::read_save,
    rules::{Limits, Target},
    session::{Data, KeyChange},
};
use sessiond_proto::v1::{OpenRequest, OpenResponse, SaveRequest, SaveResponse, Session};
use sessiond_tests::{Dice, World, on_both_stores, reason, rounds};
use tonic::Code;

use self::{
    forms::{REFUSED, by_prost, wrapped},
    messages::{mutated, valid},
    processes::Reader,
};
use crate::raw::{self, bytes, double, entry, object, text, varint};

/// Messages that the readers get at once.
const BATCH: usize = 400;

// ---- what Save makes of data -----------------------------------------------------------------------------------------

/// The SaveRequest that creates a session with these bytes as its data.
fn request(data: &[u8]) -> Vec<u8> {
    bytes(1, bytes(2, data))
}

/// The bytes that Save stores of this data, or why it refuses it.
fn stored(data: &[u8]) -> Result<Vec<u8>, String> {
    const LONG: Duration = Duration::from_secs(3600);
    let limits =
        Limits { idle_timeout: LONG, max_idle_timeout: LONG, max_lifetime: LONG, max_session_bytes: usize::MAX };
    let request = SaveRequest::decode(&request(data)[..]).map_err(|error| error.to_string())?;
    match read_save(request, &limits).map_err(|status| status.message().to_owned())?.target {
        Target::Create(data) => Ok(data.as_bytes().to_vec()),
        Target::Update { .. } => unreachable!("there is no id"),
    }
}

// ---- comparing -------------------------------------------------------------------------------------------------------

/// The form that the reader of this name wrote of a message.
type Form<'a> = (&'static str, &'a [u8]);

/// The readers, and what they found so far.
struct Readers {
    others: Vec<Reader>,
    accepted: usize,
    refused: usize,
    /// Refused messages that are read differently by two readers.
    ambiguous: usize,
    differences: Vec<String>,
}

impl Readers {
    async fn start() -> Self {
        let others = iter::once(Reader::python()).chain(Reader::go().await).collect();
        Self { others, accepted: 0, refused: 0, ambiguous: 0, differences: Vec::new() }
    }

    /// Compares what the readers and Save make of each message.
    async fn compare(&mut self, inputs: &[Vec<u8>]) {
        let verdicts: Vec<_> = inputs.iter().map(|data| stored(data)).collect();
        // Each message as it was sent, then as it is stored.
        let messages: Vec<_> = iter::zip(inputs, &verdicts)
            .flat_map(|(sent, verdict)| [sent, verdict.as_ref().unwrap_or(sent)].map(|data| wrapped(data)))
            .collect();
        for reader in &mut self.others {
            reader.send(&messages).await;
        }
        let mut forms = vec![("prost", messages.iter().map(|message| by_prost(message)).collect::<Vec<_>>())];
        for reader in &mut self.others {
            forms.push((reader.name, reader.forms().await));
        }
        for (at, (sent, verdict)) in iter::zip(inputs, &verdicts).enumerate() {
            let read = |at: usize| forms.iter().map(move |(name, forms)| (*name, &forms[at][..])).collect::<Vec<_>>();
            self.judge(sent, verdict, &read(2 * at), &read(2 * at + 1));
        }
    }

    /// Accepted data must be read alike as it is stored. As it was sent, a reader may refuse it, but not read it otherwise: the
    /// outermost frames of what was sent are the server's alone to read, and it writes them anew.
    fn judge(&mut self, sent: &[u8], verdict: &Result<Vec<u8>, String>, of_sent: &[Form<'_>], of_stored: &[Form<'_>]) {
        let alike = |forms: &[Form<'_>]| forms.windows(2).all(|pair| pair[0].1 == pair[1].1);
        if verdict.is_err() {
            self.refused += 1;
            self.ambiguous += usize::from(!alike(of_sent));
            return;
        }
        self.accepted += 1;
        let form = of_stored[0].1;
        let is_as_sent = of_sent.iter().all(|(_, sent)| *sent == form || *sent == REFUSED);
        if form == REFUSED || !alike(of_stored) || !is_as_sent {
            let shown = |forms: &[Form<'_>]| {
                let form = |(name, form): &Form<'_>| format!("\n    {name}: {}", form.escape_ascii());
                forms.iter().map(form).collect::<String>()
            };
            self.differences.push(format!(
                "accepted: {}\n  as sent:{}\n  as stored:{}",
                hex(sent),
                shown(of_sent),
                shown(of_stored)
            ));
        }
    }

    /// Reports the figures, and fails if there is a difference.
    fn end(self, what: &str) {
        let Self { others, accepted, refused, ambiguous, differences } = self;
        let names: Vec<_> = iter::once("prost").chain(others.iter().map(|reader| reader.name)).collect();
        println!(
            "{what}: {} messages, read by {}: accepted {accepted}, refused {refused}, of these ambiguous \
             {ambiguous}, differences {}",
            accepted + refused,
            names.join(", "),
            differences.len()
        );
        let shown = differences.iter().take(10).map(|difference| format!("\n{difference}")).collect::<String>();
        assert!(differences.is_empty(), "{} accepted messages are read differently:{shown}", differences.len());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- the tests -------------------------------------------------------------------------------------------------------

/// Found cases: what each is, its bytes, and whether Save accepts them.
fn cases() -> Vec<(&'static str, Vec<u8>, bool)> {
    let [key, value] = [bytes(1, "role"), bytes(2, text("admin"))];
    let more = varint(3, 1);
    let entry_of = |parts: &[&[u8]]| bytes(1, parts.concat());
    let deep = |entries: &[u8]| entry("user", object(entries));
    let in_list = |entries: &[u8]| entry("users", bytes(6, bytes(1, object(entries))));
    let of = |value: &[u8]| entry("a", value);
    let padded = |tag: u8, zeros: usize, rest: &[u8]| [&[tag | 0x80][..], &vec![0x80; zeros - 1], &[0], rest].concat();
    let parts = [text("x"), varint(9, 1), double(11, 1.0), bytes(10, "new")].concat();
    let deepest = (0..32).fold(parts.clone(), |inner, _| object(entry("k", inner)));
    let strange = entry_of(&[&key, &value, &more]);
    vec![
        ("an unknown varint in an outer entry", strange.clone(), false),
        ("an unknown varint in a nested entry", deep(&strange), false),
        ("an unknown varint in an entry within a list", in_list(&strange), false),
        ("an unknown varint before the key", deep(&entry_of(&[&more, &key, &value])), false),
        ("an unknown string in a nested entry", deep(&entry_of(&[&key, &value, &bytes(3, "x")])), false),
        ("an unknown double in a nested entry", deep(&entry_of(&[&key, &value, &double(15, 1.0)])), false),
        ("a value where an entry ends", deep(&entry_of(&[&key, &value, &text("x")])), false),
        ("unknown fields in a value", of(&parts), false),
        ("unknown fields in an object", deep(&[varint(2, 7), entry("b", text("x")), bytes(16, "new")].concat()), false),
        (
            "unknown fields in a list",
            of(&bytes(6, [varint(2, 7), bytes(1, text("x")), double(3, 1.0)].concat())),
            false,
        ),
        ("an unknown field as deep as may be", of(&deepest), false),
        ("the value before the key", deep(&entry_of(&[&value, &key])), true),
        ("an entry without a key", deep(&entry_of(&[&value])), true),
        ("an entry without a value", deep(&entry_of(&[&key])), false),
        ("an entry with two keys", deep(&entry_of(&[&key, &key, &value])), false),
        ("an entry with two values", deep(&entry_of(&[&key, &value, &value])), false),
        ("a key that occurs twice", deep(&[entry("b", text("1")), entry("b", text("2"))].concat()), false),
        ("two kinds", of(&[text("x"), varint(4, 1)].concat()), false),
        ("the same kind twice", of(&[object(entry("a", text("1"))), object(entry("b", text("2")))].concat()), false),
        ("a value without a kind", of(b""), false),
        ("an empty object", of(&object("")), true),
        ("an empty list", of(&bytes(6, "")), true),
        ("a bool of two bytes", of(&[0x20, 0x81, 0x00]), true),
        ("a bool above 32 bits", of(&varint(4, 1 << 32)), false),
        ("a bool in ten bytes", of(&[&[0x20][..], &padded(1, 9, b"")].concat()), true),
        ("a null of 33 bits", of(&varint(1, 1 << 32)), false),
        ("a null in three bytes", of(&[0x08, 0x80, 0x80, 0x00]), true),
        ("a tag in five bytes", of(&padded(0x20, 4, &[1])), true),
        ("a tag in six bytes", of(&padded(0x20, 5, &[1])), false),
        ("a length in five bytes", of(&[&[0x1a][..], &padded(1, 4, b"x")].concat()), true),
        ("a length in six bytes", of(&[&[0x1a][..], &padded(1, 5, b"x")].concat()), false),
        ("a group", of(&raw::group(5, "")), false),
        ("an unknown group", of(&[text("x"), raw::group(7, "")].concat()), false),
        ("a packed number", of(&bytes(2, 1.5f64.to_le_bytes())), false),
        ("a string as a number", of(&varint(3, 1)), false),
        ("a surrogate", of(&text(b"\xed\xa0\x80")), false),
        ("a number that is infinite", of(&double(2, f64::INFINITY)), false),
        ("as many objects as may be", of(&raw::nested(32, 0)), true),
        ("one object too many", of(&raw::nested(33, 0)), false),
        ("as many lists as may be", of(&raw::nested(0, 48)), true),
        ("one list too many", of(&raw::nested(0, 49)), false),
    ]
}

#[tokio::test]
async fn readers_in_three_languages_agree_about_every_case_found_so_far() {
    let mut readers = Readers::start().await;
    for (what, data, accepted) in cases() {
        let verdict = stored(&data);
        assert_eq!(verdict.is_ok(), accepted, "{what}: {verdict:?}");
    }
    readers.compare(&cases().into_iter().map(|(_, data, _)| data).collect::<Vec<_>>()).await;
    readers.end("found cases");
}

#[tokio::test]
async fn readers_in_three_languages_agree_about_random_data() {
    let mut dice = Dice::new("readers");
    let mut readers = Readers::start().await;
    let long = env::var_os("SESSIOND_TESTS_LONG").is_some();
    let until = Instant::now() + Duration::from_secs(if long { 600 } else { 4 });
    while Instant::now() < until && readers.differences.len() < 100 {
        let valid: Vec<_> = (0..BATCH / 20).map(|_| valid(&mut dice)).collect();
        for data in &valid {
            stored(data).unwrap_or_else(|why| panic!("{} is valid, and Save refuses it: {why}", hex(data)));
        }
        let mutated = (valid.len()..BATCH).map(|_| mutated(&mut dice));
        let batch: Vec<_> = valid.iter().cloned().chain(mutated).collect();
        readers.compare(&batch).await;
    }
    readers.end("random data");
}

on_both_stores!(what_a_service_stores_is_what_the_validation_accepts);

/// The same verdict and the same bytes through a service and its store: created, replaced, or saved by key.
async fn what_a_service_stores_is_what_the_validation_accepts(world: World) {
    let mut dice = Dice::new("readers through a service");
    let channel = world.server.channel();
    let call = |method, message| raw::call(channel.clone(), method, message);
    let saved = call("Save", request(&entry("b", text("kept")))).await.unwrap();
    let mut session = SaveResponse::decode(saved).unwrap().session.unwrap();
    for _ in 0..rounds(5_000) {
        let data = if dice.once_in(4) { valid(&mut dice) } else { mutated(&mut dice) };
        // The session, and how to read its data.
        let whole = dice.once_in(2);
        let parts = [bytes(1, &session.id), bytes(2, &data), bytes(3, if whole { "*" } else { "" })].concat();
        let how = if whole { varint(8, 1) } else { bytes(2, "a") };
        let answer = call("Save", [bytes(1, parts), how].concat()).await;
        let expected = if whole { stored(&data) } else { merged(&session, &data) };
        match (answer, &expected) {
            (Ok(answer), Ok(_)) => session = SaveResponse::decode(answer).unwrap().session.unwrap(),
            (Err(status), Err(_)) => {
                assert_eq!(
                    (status.code(), &reason(&status)[..]),
                    (Code::InvalidArgument, "INVALID_FIELD"),
                    "{status:?}"
                );
            }
            (answer, expected) => panic!("{}: answered {answer:?}, expected {expected:?}", hex(&data)),
        }
        let opened =
            call("Open", OpenRequest { id: session.id.clone(), no_renew: true }.encode_to_vec()).await.unwrap();
        let opened = OpenResponse::decode(opened).unwrap().session.unwrap();
        if let Ok(expected) = expected {
            assert_eq!(hex(opened.data.as_ref().unwrap().as_bytes()), hex(&expected));
        }
        assert!(opened.data == session.data, "Open gives what Save gave");
    }
}

/// What is stored when the key `a` of this data is saved, or why it is refused.
fn merged(session: &Session, data: &[u8]) -> Result<Vec<u8>, String> {
    let saved = Data::from_framed(stored(data)?.into());
    let (_, frame) = saved.entries().find(|(entry, _)| entry.key == b"a").ok_or("there is no such key")?;
    let change = KeyChange { key: "a".into(), entry: Some(Bytes::copy_from_slice(frame)) };
    Ok(Data::from_framed(session.data.clone().unwrap().into_bytes()).merge(&[change]).as_bytes().to_vec())
}
