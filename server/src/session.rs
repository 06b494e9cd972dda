//! The nouns: what a session is, what names it, what is kept of it. Nothing here waits, asks a clock or knows a wire.

mod data;
mod secret;

use std::{collections::VecDeque, fmt, time::Duration};

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

/// The marks of a session's last Saves, newest first. A repeat is recognized by its mark.
///
/// A mark stays while it is among the newest [`Ring::KEPT`] or younger than [`Ring::SPAN`], up to [`Ring::MAX`] marks. No
/// operation is carried out later than that span after it was received, so the marks of all Saves that were applied
/// meanwhile are here: of many parallel first attempts, none is refused as a possible repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Each mark with the time it was applied.
    pub slots: VecDeque<(ShortMark, Time)>,
    /// The time of the newest mark that was dropped; zero if none was. The ring does not know what was applied before it.
    pub floor: Time,
}

impl Ring {
    /// The number of marks that stay at any age: a repeat is recognized while fewer Saves than this came after it.
    pub const KEPT: usize = 8;

    /// The age up to which a mark stays, however many Saves came after it: 2 s that a store may work on an operation, 2.5 s
    /// that the clocks of two Redis masters may differ by, and 0.5 s for reading and rounding them.
    pub const SPAN: Duration = Duration::from_secs(5);

    /// The most marks. A session that is saved more often than this within [`Ring::SPAN`] has first attempts refused as
    /// OUTCOME_UNKNOWN.
    pub const MAX: usize = 4000;

    /// The position of a mark; 0 is the newest.
    pub fn position(&self, mark: ShortMark) -> Option<usize> {
        self.slots.iter().position(|(kept, _)| *kept == mark)
    }

    /// The mark of the last Save.
    pub fn newest(&self) -> ShortMark {
        self.slots.front().map(|(mark, _)| *mark).unwrap_or_default()
    }

    /// Adds the newest mark and drops those that need not stay.
    pub fn push(&mut self, mark: ShortMark, now: Time) {
        self.push_within(mark, now, Self::MAX);
    }

    /// [`Ring::push`] with another bound than [`Ring::MAX`].
    pub(crate) fn push_within(&mut self, mark: ShortMark, now: Time, max: usize) {
        // Most sessions are saved a few times: their rings have no spare capacity. A hot session's ring grows by doubling.
        if self.slots.len() < Self::KEPT {
            self.slots.reserve_exact(1);
        }
        self.slots.push_front((mark, now));
        while self.slots.len() > Self::KEPT
            && let Some((_, oldest)) = self.slots.back().copied()
            && (self.slots.len() > max || now.since(oldest) >= Self::SPAN)
        {
            self.floor = self.floor.max(oldest);
            self.slots.pop_back();
        }
        // A session that was hot gives the memory back.
        if self.slots.len() == Self::KEPT {
            self.slots.shrink_to_fit();
        }
    }

    /// Whether the next mark makes it longer than it may be at rest.
    pub(crate) fn grows(&self, now: Time) -> bool {
        let is_young = |(_, at): &(ShortMark, Time)| now.since(*at) < Self::SPAN;
        self.slots.len() >= Self::KEPT && self.slots.back().is_some_and(is_young)
    }

    /// The ring with the newest [`Ring::KEPT`] marks: all that an answer needs.
    pub fn cut(&self) -> Self {
        Self { slots: self.slots.iter().take(Self::KEPT).copied().collect(), floor: self.floor }
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
    /// The last Saves. In what a store returns, the newest [`Ring::KEPT`] of them.
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
        let push = |ring: &mut Ring, n, at| ring.push(mark(n), Time(at));
        for n in 1..=20 {
            push(&mut ring, n, n);
        }
        assert_eq!((ring.position(mark(20)), ring.position(mark(1)), ring.floor), (Some(0), Some(19), Time(0)));
        push(&mut ring, 21, 5_010);
        assert_eq!((ring.position(mark(11)), ring.position(mark(10)), ring.floor), (Some(10), None, Time(10)));
        push(&mut ring, 22, 60_000);
        assert_eq!((ring.slots.len(), ring.position(mark(15)), ring.floor), (Ring::KEPT, Some(7), Time(14)));
        assert_eq!(ring.slots.capacity(), Ring::KEPT, "the memory of a busy time is given back");
        let max = Ring::MAX as u64;
        for n in 23..=22 + max {
            push(&mut ring, n, 60_000 + n / 10);
        }
        assert_eq!(
            (ring.slots.len(), ring.position(mark(23)), ring.floor),
            (Ring::MAX, Some(Ring::MAX - 1), Time(60_000))
        );
        push(&mut ring, 23 + max, 60_500);
        assert_eq!((ring.slots.len(), ring.floor), (Ring::MAX, Time(60_002)), "the oldest young one was dropped");
    }

    #[test]
    fn an_application_name_is_plain() {
        assert_eq!(App::new("shop-2").unwrap().as_str(), "shop-2");
        for wrong in ["", "Shop", "a:b", "{a}", "a b", &"a".repeat(64)] {
            assert_eq!(App::new(wrong), None, "{wrong}");
        }
    }
}
