//! What names a session: the secret that a browser holds in its cookie.

use std::fmt;

/// The id of a session: `<handle>.<secret>`, 65 characters that only the service mints.
///
/// Who knows it is the visitor, so it prints nothing: no `Display`, a `Debug` without content, and one way to read it
/// that is named for what it does ([`expose`](Self::expose)).
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(Box<str>);

impl SessionId {
    /// How many characters every id has.
    pub const LEN: usize = 65;

    /// Reads an id that came from outside. `None` for whatever is not spelt as one: such a text never reaches the service.
    ///
    /// There is one spelling only: 32 lowercase hexadecimal digits, a full stop, 32 characters of base64url.
    pub fn parse(text: &str) -> Option<Self> {
        let (handle, secret) = text.split_once('.')?;
        let spelt = handle.len() == 32
            && handle.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && secret.len() == 32
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        spelt.then(|| Self(text.into()))
    }

    /// The id itself, for a cookie or the wire and nothing else: not for a log, a page or a URL (OWASP ASVS 14.2.1).
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The session's public name, 32 lowercase hexadecimal digits: safe to log, and no capability.
    pub fn handle(&self) -> &str {
        &self.0[..32]
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::SessionId;

    const SPELT: &str = "6f1c8a3e5b7d4f209a1b2c3d4e5f6071.AbCdEfGhIjKlMnOpQrStUvWxYz012-_9";

    #[test]
    fn one_spelling_is_read_and_no_other() {
        assert_eq!(SessionId::parse(SPELT).expect("it is spelt so").expose(), SPELT);
        let quoted = format!("\"{SPELT}\"");
        let longer = format!("{SPELT}A");
        for wrong in [
            "",
            ".",
            "id",
            &SPELT[1..],
            &SPELT[..64],
            &longer,
            &quoted,
            &SPELT.to_uppercase(),
            &SPELT.replace('.', "_"),
        ] {
            assert!(SessionId::parse(wrong).is_none());
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", SessionId::parse(SPELT)), "Some(SessionId(..))");
    }
}
