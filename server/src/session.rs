//! The nouns: what a session is, what names it, what is kept of it. Nothing here waits, asks a clock or knows a wire.

mod data;
mod secret;

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

pub use data::{Data, Entry, KeyChange};
pub use secret::{Mark, MarkBuilder, Mint, RequestId, Salt, Secret, SecretHash, ShortMark};

/// An application (tenant): 1 to 63 of `a`–`z`, `0`–`9` and `-`. Its sessions are its own (promise P9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct App(std::sync::Arc<str>);

impl App {
    /// The application of callers without a credential.
    pub fn unnamed() -> Self {
        Self("default".into())
    }

    /// An application of this name, or `None` if the name is not allowed.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=63).contains(&name.len());
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (fits && name.bytes().all(allowed)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The most bytes of a subject: an e-mail address has at most 254, an OpenID Connect `sub` 255.
pub const MAX_SUBJECT_BYTES: usize = 256;

/// A session's public name, a UUID: shown as 32 lowercase hexadecimal digits. Not a capability.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub Uuid);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

/// What a browser holds: a session's handle and the secret that opens it. It cannot be printed; [`SessionId::reveal`]
/// is for the answer to the caller alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId {
    /// Which session.
    pub handle: Handle,
    /// The proof.
    pub secret: Secret,
}

impl SessionId {
    /// Bytes of an id's text: the handle's 32 digits, a dot, the secret's 24 bytes in base64url.
    pub const LENGTH: usize = 32 + 1 + 32;

    /// Reads an id in its one spelling; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let (handle, secret) = text.split_once('.')?;
        if handle.len() != 32 || secret.len() != 32 || handle.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let handle = Handle(Uuid::try_parse_ascii(handle.as_bytes()).ok()?);
        let mut bytes = [0; Secret::LENGTH];
        let read = URL_SAFE_NO_PAD.decode_slice(secret, &mut bytes).ok()?;
        (read == bytes.len()).then_some(Self { handle, secret: Secret(bytes) })
    }

    /// The id's text.
    pub fn reveal(&self) -> String {
        let mut text = String::with_capacity(Self::LENGTH);
        text.push_str(self.handle.0.as_simple().encode_lower(&mut [0; 32]));
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(self.secret.0, &mut text);
        text
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// A moment by the store's clock: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This moment and `span` more.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This moment less `span`.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long from `earlier` to this moment; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds of a span.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A session's version, opaque to callers: how often it was saved, and the mark of the last Save, so that a timeline
/// which the store lost cannot match by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag {
    /// 1 for a new session, one more with each Save.
    pub version: u64,
    /// The newest mark.
    pub mark: ShortMark,
}

impl Etag {
    /// Reads what `Display` writes; anything else is `None`, and counts as stale.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, mark) = text.split_once('-')?;
        let digits = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let plain = !version.starts_with('0') && version.len() <= 12 && mark.len() == 16;
        if !(plain && digits(version) && digits(mark)) {
            return None;
        }
        let version = u64::from_str_radix(version, 16).ok()?;
        let mark = u64::from_str_radix(mark, 16).ok()?;
        Some(Self { version, mark: ShortMark(mark.to_be_bytes()) })
    }

    /// What [`Etag::parse`] reads. (Every answer has one, and the standard library's way costs some times as much.)
    pub fn text(&self) -> String {
        let digits = |number: u64, count: u32| {
            (0..count).rev().map(move |at| char::from(b"0123456789abcdef"[(number >> (4 * at)) as usize & 0xf]))
        };
        let mut text = String::with_capacity(2 * 16 + 1);
        text.extend(digits(self.version, self.version.max(1).ilog2() / 4 + 1));
        text.push('-');
        text.extend(digits(u64::from_be_bytes(self.mark.0), 16));
        text
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// The marks of a session's last Saves, newest first, by which a repeat is recognised.
///
/// The last [`Ring::KEPT`] stay however old they are, and younger ones than [`Ring::SPAN`] besides, up to [`Ring::MAX`]:
/// a command is refused when it is later than that span, so what a first attempt may have missed is always here, and of
/// many parallel Saves none is taken for the repeat of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Each mark with the time it was applied.
    pub slots: Vec<(ShortMark, Time)>,
    /// The time of the newest mark that fell out: before it, the ring cannot tell. Zero if none did.
    pub floor: Time,
}

impl Ring {
    /// How many Saves back a repeat is recognised at any age.
    pub const KEPT: usize = 8;

    /// How long a repeat is recognised, however many Saves came since. Longer than any command may be late.
    pub const SPAN: Duration = Duration::from_secs(3);

    /// The most marks: a session saved more often than that within [`Ring::SPAN`] may see first attempts refused.
    pub const MAX: usize = 64;

    /// Where a mark stands: 0 is the newest.
    pub fn position(&self, mark: ShortMark) -> Option<usize> {
        self.slots.iter().position(|(kept, _)| *kept == mark)
    }

    /// The mark of the last Save.
    pub fn newest(&self) -> ShortMark {
        self.slots.first().map(|(mark, _)| *mark).unwrap_or_default()
    }

    /// Adds the newest mark, and drops what need not be kept.
    pub fn push(&mut self, mark: ShortMark, now: Time) {
        // Most sessions are saved a few times: what is kept of them has no slack.
        self.slots.reserve_exact(1);
        self.slots.insert(0, (mark, now));
        while self.slots.len() > Self::KEPT {
            let (_, oldest) = self.slots[self.slots.len() - 1];
            if self.slots.len() <= Self::MAX && now.since(oldest) < Self::SPAN {
                break;
            }
            self.floor = self.floor.max(oldest);
            self.slots.pop();
        }
    }
}

/// All that a store keeps of one session. The secret is not among it, only its hash (promise P8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which session this is: a record read under another handle is a reply gone astray.
    pub handle: Handle,
    /// How often it was saved.
    pub version: u64,
    /// When its absolute lifetime ends.
    pub deadline: Time,
    /// When it was created.
    pub create_time: Time,
    /// How long it lives unopened.
    pub idle_timeout: Duration,
    /// What the current secret was minted with.
    pub salt: Salt,
    /// The hash of the secret that opens it.
    pub current: SecretHash,
    /// The hash of the secret that the last rotate replaced. It opens nothing.
    pub previous: Option<SecretHash>,
    /// When the current secret was minted.
    pub mint_time: Time,
    /// The last Saves.
    pub ring: Ring,
    /// Who is logged in; empty is anonymous.
    pub subject: Box<str>,
    /// What the application keeps.
    pub data: Data,
}

impl Record {
    /// The version as callers see it.
    pub fn etag(&self) -> Etag {
        Etag { version: self.version, mark: self.ring.newest() }
    }

    /// When it ends if it is used at `now` and then never again.
    pub fn expiry(&self, now: Time) -> Time {
        now.after(self.idle_timeout).min(self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    #[test]
    fn an_id_reads_back_as_written() {
        let id = SessionId::parse(TEXT).unwrap();
        assert_eq!(id.reveal(), TEXT);
        assert_eq!(TEXT.len(), SessionId::LENGTH);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let hyphenated = "01234567-89ab-cdef-0123-456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        for wrong in ["", ".", "a.b", hyphenated, &TEXT.to_uppercase(), &TEXT[1..], &format!("{TEXT}="), &TEXT[..64]] {
            assert!(SessionId::parse(wrong).is_none(), "{wrong}");
        }
        for at in 0..TEXT.len() {
            for odd in ["\0", "é", " ", "G", "+", "/"] {
                let mut text = TEXT.to_owned();
                text.replace_range(at..=at, odd);
                if let Some(id) = SessionId::parse(&text) {
                    assert_eq!(id.reveal(), text, "read, so it must be that spelling");
                    assert_eq!(odd, "G", "a letter is a letter only in the secret");
                }
            }
        }
    }

    #[test]
    fn an_etag_reads_back_as_written_and_only_so() {
        let etag = Etag { version: 31, mark: ShortMark([1, 2, 3, 4, 5, 6, 7, 255]) };
        assert_eq!(etag.to_string(), "1f-01020304050607ff");
        assert_eq!(Etag::parse("1f-01020304050607ff"), Some(etag));
        for wrong in ["", "*", "1f", "01f-01020304050607ff", "1F-01020304050607ff", "+1-01020304050607ff", "1f-1"] {
            assert_eq!(Etag::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_ring_keeps_eight_marks_and_the_young_ones_and_knows_when_others_fell() {
        let mark = |n: u64| ShortMark(n.to_be_bytes());
        let mut ring = Ring::default();
        for n in 1..=20 {
            ring.push(mark(n), Time(n));
        }
        assert_eq!((ring.position(mark(20)), ring.position(mark(1)), ring.floor), (Some(0), Some(19), Time(0)));
        ring.push(mark(21), Time(3_010));
        assert_eq!((ring.position(mark(11)), ring.position(mark(10)), ring.floor), (Some(10), None, Time(10)));
        ring.push(mark(22), Time(60_000));
        assert_eq!((ring.slots.len(), ring.position(mark(15)), ring.floor), (8, Some(7), Time(14)));
        for n in 23..=100 {
            ring.push(mark(n), Time(60_000 + n));
        }
        assert_eq!((ring.slots.len(), ring.floor), (Ring::MAX, Time(60_036)));
    }

    #[test]
    fn an_application_name_is_plain() {
        assert_eq!(App::new("shop-2").unwrap().as_str(), "shop-2");
        for wrong in ["", "Shop", "a:b", "{a}", "a b", &"a".repeat(64)] {
            assert_eq!(App::new(wrong), None, "{wrong}");
        }
    }
}
