//! Tokens against cross-site request forgery (OWASP ASVS 3.5.1): a secret that the session keeps, and that a form must send
//! back. `SameSite` cookies are the first line, this is the second.
//!
//! With axum: [`Session::csrf_token`](crate::axum::Session::csrf_token) and
//! [`Session::check_csrf`](crate::axum::Session::check_csrf). Without: keep [`secret`] in the session, print a [`token`] of it
//! into each form, and let [`check`] decide.
//!
//! The secret lives as long as the session, and a login replaces it. Replacing it by time is left to the application. The first
//! token of an anonymous session puts the secret into it, and so makes it one that is stored: where strangers only look, print
//! no form that needs one. Of two tabs that print such a first token at the same moment, one will have to load its page again.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;

/// The key under which the axum session keeps its secret, and the Flask one. (Not `csrf_token`, which is Flask-WTF's: pages of
/// both may share a session.)
pub const KEY: &str = "_csrf";

/// 256 random bits.
const LEN: usize = 32;

/// A new secret, to be kept in the session: 43 characters.
///
/// # Panics
/// On a machine that has no random bytes: it must not hand out tokens.
pub fn secret() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(random())
}

/// A token of this secret, for a form or a header: 86 characters, another text each time, and all of them good.
///
/// It is the secret under a fresh mask, so that a page which is compressed together with text from elsewhere does not give
/// the secret away by its length (BREACH).
pub fn token(secret: &str) -> String {
    let secret = read::<LEN>(secret).unwrap_or_else(random);
    let mask = random();
    let mut token = [0; 2 * LEN];
    token[..LEN].copy_from_slice(&mask);
    token[LEN..].copy_from_slice(&xor(mask, secret));
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

/// Whether this is a token of this secret. A session without a secret has no tokens. Compares in constant time (ASVS 11.2.4).
pub fn check(secret: Option<&str>, token: &str) -> bool {
    let (Some(secret), Some(token)) = (secret.and_then(read::<LEN>), read::<{ 2 * LEN }>(token)) else { return false };
    let (mut mask, mut masked) = ([0; LEN], [0; LEN]);
    mask.copy_from_slice(&token[..LEN]);
    masked.copy_from_slice(&token[LEN..]);
    xor(mask, masked).ct_eq(&secret).into()
}

/// Whether this is a secret as [`secret`] makes them.
pub fn is_secret(text: &str) -> bool {
    read::<LEN>(text).is_some()
}

fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Longer than it can be: not worth decoding.
    if text.len() > 2 * N {
        return None;
    }
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn xor(mut mask: [u8; LEN], other: [u8; LEN]) -> [u8; LEN] {
    mask.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
    mask
}

fn random() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).expect("the machine has random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_a_secret_is_good_and_no_two_are_the_same() {
        let secret = secret();
        let tokens: Vec<_> = (0..10).map(|_| token(&secret)).collect();
        assert!(tokens.iter().all(|token| check(Some(&secret), token)));
        assert!(tokens.iter().enumerate().all(|(at, token)| !tokens[..at].contains(token)));
    }

    #[test]
    fn no_other_text_is() {
        let (ours, theirs) = (secret(), secret());
        let good = token(&ours);
        assert!(!check(Some(&theirs), &good) && !check(None, &good));
        let wrong =
            ["", "A", &good[1..], &good[..85], &format!("{good}A"), &ours, &"A".repeat(86), &"A".repeat(100_000)];
        assert!(wrong.iter().all(|wrong| !check(Some(&ours), wrong)));
    }

    #[test]
    fn what_is_no_secret_has_no_tokens() {
        assert!(!check(Some("broken"), &token("broken")));
    }
}
