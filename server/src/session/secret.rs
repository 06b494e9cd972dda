//! How ids are minted and verified. The secret of an id is computed from a random salt, which the record keeps, and the
//! operation's mark, which nobody keeps whole: a repeat of the operation computes the same secret again, and neither a
//! dump of the store (no mark) nor a request id without the store (no salt) is enough to compute it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::{Builder, Uuid};

use super::{App, Handle};

/// 32 random bytes, drawn anew each time a secret is minted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

/// The part of an id that proves its holder: 24 bytes, 192 bits (ASVS 7.2.3 asks for 128). Cannot be printed, and
/// compares in constant time.
#[derive(Clone, Copy)]
pub struct Secret(pub(super) [u8; Self::LENGTH]);

/// SHA-256 over application, handle and secret: what a record keeps instead of the secret, so that it opens nothing
/// under another handle or for another application.
#[derive(Clone, Copy)]
pub struct SecretHash(pub [u8; 32]);

/// A caller's name for one operation: the 16 bytes of a random UUID. As secret as an id. (The rules give one to an operation that
/// its caller did not name.)
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub [u8; 16]);

/// An operation's mark: SHA-256 over its request id and its content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark([u8; 32]);

/// The first 8 bytes of a mark, which a record keeps.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ShortMark(pub [u8; 8]);

/// A new secret as the store sees it: what it was minted with, and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Mint {
    /// The salt drawn for it.
    pub salt: Salt,
    /// The hash to verify it by.
    pub hash: SecretHash,
}

impl Secret {
    /// Bytes of a secret.
    pub const LENGTH: usize = 24;

    /// The secret that this operation mints with this salt; a repeat gets the same one.
    pub fn mint(salt: &Salt, app: &App, handle: Handle, mark: &Mark) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(&salt.0).expect("HMAC takes a key of any length");
        mac.update(app.as_str().as_bytes());
        mac.update(handle.0.as_bytes());
        mac.update(&mark.0);
        let full = mac.finalize().into_bytes();
        let mut secret = [0; Self::LENGTH];
        secret.copy_from_slice(&full[..Self::LENGTH]);
        Self(secret)
    }

    /// What the record of this session keeps of the secret.
    // Handle and secret have fixed lengths at the end, so no two triples run together to the same bytes.
    pub fn hash(&self, app: &App, handle: Handle) -> SecretHash {
        let mut hash = Sha256::new();
        hash.update(app.as_str().as_bytes());
        hash.update(handle.0.as_bytes());
        hash.update(self.0);
        SecretHash(hash.finalize().into())
    }
}

impl RequestId {
    /// The handle of the session that a create with this request id makes: the same for its repeats.
    pub fn handle(&self, app: &App) -> Handle {
        let mut hash = Sha256::new();
        hash.update(b"sessiond handle\0");
        hash.update(app.as_str().as_bytes());
        hash.update(self.0);
        let full = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&full[..16]);
        Handle(Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// A caller's request id.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.into_bytes())
    }
}

impl Mark {
    /// What the record keeps of it.
    pub fn short(&self) -> ShortMark {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        ShortMark(short)
    }
}

/// Computes a [`Mark`] field by field.
pub struct MarkBuilder(Sha256);

impl MarkBuilder {
    /// Begins the mark of one kind of operation.
    pub fn new(operation: &str, request_id: &RequestId) -> Self {
        Self(Sha256::new()).field(operation.as_bytes()).field(&request_id.0)
    }

    /// Adds a field. Its length goes in front, so that no two sequences of fields run together.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a field that may be absent, which differs from an empty one.
    #[must_use]
    pub fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.field(b"+").field(bytes),
            None => self.field(b"-"),
        }
    }

    /// The mark.
    pub fn finish(self) -> Mark {
        Mark(self.0.finalize().into())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

macro_rules! unprintable {
    ($($secret:ident),*) => {$(
        impl fmt::Debug for $secret {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($secret), "(..)"))
            }
        }
    )*};
}

unprintable!(Salt, Secret, SecretHash, RequestId, Mark, ShortMark);

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(content: &str) -> Mark {
        MarkBuilder::new("save", &RequestId([7; 16])).field(content.as_bytes()).finish()
    }

    #[test]
    fn the_same_operation_mints_the_same_secret_and_another_one_does_not() {
        let (app, salt) = (App::unnamed(), Salt([1; 32]));
        let handle = RequestId([7; 16]).handle(&app);
        let secret = Secret::mint(&salt, &app, handle, &mark("a"));
        assert!(secret == Secret::mint(&salt, &app, handle, &mark("a")));
        assert!(secret != Secret::mint(&salt, &app, handle, &mark("b")));
        assert!(secret != Secret::mint(&Salt([2; 32]), &app, handle, &mark("a")));
    }

    #[test]
    fn a_hash_holds_for_one_application_and_one_handle() {
        let (app, other) = (App::unnamed(), App::new("other").unwrap());
        let (here, there) = (RequestId([1; 16]).handle(&app), RequestId([2; 16]).handle(&app));
        let secret = Secret([9; 24]);
        assert!(secret.hash(&app, here) == secret.hash(&app, here));
        assert!(secret.hash(&app, here) != secret.hash(&other, here));
        assert!(secret.hash(&app, here) != secret.hash(&app, there));
        assert!(RequestId([1; 16]).handle(&app) != RequestId([1; 16]).handle(&other));
    }

    #[test]
    fn a_handle_is_a_version_8_uuid() {
        let handle = RequestId([0; 16]).handle(&App::unnamed()).0;
        assert_eq!((handle.get_version_num(), handle.get_variant()), (8, uuid::Variant::RFC4122));
    }

    #[test]
    fn an_absent_field_is_not_an_empty_one() {
        let new = || MarkBuilder::new("save", &RequestId([0; 16]));
        assert!(new().optional(None).finish() != new().optional(Some(b"")).finish());
        assert!(new().field(b"ab").field(b"c").finish() != new().field(b"a").field(b"bc").finish());
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let shown = format!("{:?} {:?} {:?}", Secret([66; 24]), RequestId([66; 16]), SecretHash([66; 32]));
        assert_eq!(shown, "Secret(..) RequestId(..) SecretHash(..)");
    }
}
