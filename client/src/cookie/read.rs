//! What a request's cookies say of the session.

use http::{HeaderMap, header::COOKIE};

use super::CookiePolicy;
use crate::SessionId;

/// What a request's cookies say of the session. Whatever is not an id is no session; three words tell why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieRead {
    /// There is no cookie of our name.
    Absent,
    /// There is one, and it is spelt as an id. Whether it opens anything is for the service to say.
    Id(SessionId),
    /// There is one, and it is empty or otherwise no id: we never wrote it.
    Malformed,
    /// There are two or more, and none is trusted, even if they are alike: which comes first says nothing of who set it
    /// (6265bis 4.2.2). After a change of the policy browsers may hold an older one still ([`CookiePolicy`]); otherwise,
    /// with a `__Host-` name, someone is trying something.
    Ambiguous,
}

impl CookieRead {
    /// The id, if there is one to be trusted.
    pub fn into_id(self) -> Option<SessionId> {
        match self {
            Self::Id(id) => Some(id),
            Self::Absent | Self::Malformed | Self::Ambiguous => None,
        }
    }
}

impl CookiePolicy {
    /// Reads all `Cookie` fields of a request together: HTTP/2 splits them as it likes.
    ///
    /// A cookie is ours if its name is, to the letter. Others may hold what they want, also what is not UTF-8. The work
    /// grows with the header's length and not faster.
    pub fn read(&self, headers: &HeaderMap) -> CookieRead {
        let pairs = headers.get_all(COOKIE).iter().flat_map(|field| pairs(field.as_bytes()));
        let mut ours = pairs.filter(|(name, _)| *name == self.name.as_bytes());
        let Some((_, value)) = ours.next() else { return CookieRead::Absent };
        if ours.next().is_some() {
            tracing::warn!(cookie = self.name, "two cookies of the session's name in one request: neither is trusted");
            return CookieRead::Ambiguous;
        }
        str::from_utf8(value).ok().and_then(SessionId::parse).map_or(CookieRead::Malformed, CookieRead::Id)
    }
}

/// The cookies of one field, name and value.
///
/// Bytes, and not through `HeaderValue::to_str` and [`::cookie::Cookie::parse`]: one foreign cookie with an umlaut would
/// spoil the whole field, and `str::trim` takes Unicode's spaces for spaces, too. Browsers do not, so a name that begins
/// with one is for them no `__Host-` name: another host of the domain may set it, and it must not become ours.
///
/// Every `;` separates, also between quotes. No browser can be made to keep one within a value, however it is set, so it
/// always stands between two cookies. A reader that honours quotes lets `a="` and `b="` swallow the cookie that was sent
/// between them. For the same reason `$Version` is just a name, and a comma separates nothing.
///
/// What has no `=` or nothing before it has no name: `=__Host-id=…` is a cookie without a name, whose value was chosen to
/// look like one of ours.
fn pairs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|byte| *byte == b';').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((trim(&pair[..equals]), trim(&pair[equals + 1..])))
    })
}

/// Without the spaces and tabs around it, which browsers trim too, and no other whitespace.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::{Debug, Write},
        sync::{Arc, Mutex},
    };

    use http::HeaderValue;
    use tracing::{Event, Metadata, Subscriber, field::Field, span};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    fn read(field: &str) -> CookieRead {
        let field = HeaderValue::try_from(field).unwrap();
        CookiePolicy::default().read(&HeaderMap::from_iter([(COOKIE, field)]))
    }

    #[test]
    fn only_one_id_is_an_id() {
        let pair = format!("__Host-id={ID}");
        assert_eq!(read(&pair).into_id(), SessionId::parse(ID));
        for other in ["", "__Host-id=", &format!("{pair}; {pair}")] {
            assert_eq!(read(other).into_id(), None);
        }
    }

    #[test]
    fn debug_shows_no_id() {
        assert_eq!(format!("{:?}", read(&format!("__Host-id={ID}"))), "Id(SessionId(..))");
    }

    /// All that is logged, one event after another.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);

    impl Subscriber for Log {
        fn event(&self, event: &Event<'_>) {
            let mut log = self.0.lock().unwrap();
            write!(log, "{}", event.metadata().level()).unwrap();
            event.record(&mut |field: &Field, value: &dyn Debug| write!(log, " {field}={value:?}").unwrap());
        }
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn two_cookies_of_our_name_are_logged_without_a_value() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            assert_eq!(read(&format!("__Host-id={ID}; __Host-id=x")), CookieRead::Ambiguous);
        });
        assert_eq!(
            *log.0.lock().unwrap(),
            "WARN message=two cookies of the session's name in one request: neither is trusted cookie=\"__Host-id\""
        );
    }

    #[test]
    fn spaces_and_tabs_are_trimmed_and_nothing_else() {
        assert_eq!(trim(b" \t a \t"), b"a");
        assert_eq!(trim(b" \t "), b"");
        for kept in ["\u{2000}a\u{a0}", "\x0ba\x0c", "\u{85}a\r\n"] {
            assert_eq!(trim(kept.as_bytes()), kept.as_bytes());
        }
    }
}
