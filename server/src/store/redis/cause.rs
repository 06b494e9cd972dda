//! Why a request or a connection failed, in words that are safe to log. The text of an error reply may quote the arguments
//! of a command, and so a password: only its code is printed, and fixed sentences for the errors that operators meet.

use std::{borrow::Cow, io};

use redis::{ErrorKind, RedisError, ServerError};

use super::rights::MissingRight;

/// The most characters of a code that are printed.
const MAX_CODE: usize = 32;

/// Error replies that operators meet: the code, what the text contains, and what is printed.
const KNOWN: [(&str, &str, &str); 12] = [
    (
        "ERR",
        "max number of clients",
        "ERR max number of clients reached: raise maxclients of Redis, or close other clients",
    ),
    (
        "DENIED",
        "",
        "DENIED: Redis is in protected mode, in which only loopback clients may connect: give Redis a password",
    ),
    ("WRONGPASS", "", "WRONGPASS: the user name or the password is wrong, or the user is disabled"),
    ("NOAUTH", "", "NOAUTH: a password is required"),
    ("NOPERM", "", "NOPERM: this Redis user lacks a right (SECURITY.md lists all that are needed)"),
    // A Redis before 7.0 does not know `#!lua`, one before 6.0 does not know HELLO.
    ("ERR", "compiling script", "ERR cannot run the scripts: Redis 7.0 or newer, or Valkey, is needed"),
    ("ERR", "unknown command 'HELLO'", "ERR unknown command HELLO: Redis 7.0 or newer, or Valkey, is needed"),
    ("ERR", "unknown command `HELLO`", "ERR unknown command HELLO: Redis 7.0 or newer, or Valkey, is needed"),
    ("ERR", "unknown command", "ERR unknown command: Redis 7.0 or newer, or Valkey, is needed"),
    ("ERR", "DB index is out of range", "ERR the database in the URL is out of range"),
    ("LOADING", "", "LOADING: Redis is loading its data"),
    ("MASTERDOWN", "", "MASTERDOWN: it is a replica whose link to the primary is down"),
];

/// An error reply.
pub(super) fn reply(code: &str, detail: Option<&str>) -> Cow<'static, str> {
    let detail = detail.unwrap_or_default();
    let known = KNOWN.iter().find(|(known, contains, _)| *known == code && detail.contains(contains));
    if let Some((.., text)) = known {
        return Cow::Borrowed(text);
    }
    let is_code =
        |code: &str| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if code.is_empty() || code.len() > MAX_CODE || !is_code(code) {
        return Cow::Borrowed("an error without a code");
    }
    Cow::Owned(code.to_owned())
}

/// An error reply in a list of replies.
pub(super) fn server_error(error: &ServerError) -> Cow<'static, str> {
    reply(error.code(), error.details())
}

/// Any failure of a request.
pub(super) fn of(error: &RedisError) -> Cow<'static, str> {
    if let Some(right) = MissingRight::of(error) {
        return Cow::Owned(right.to_string());
    }
    match (error.kind(), error.code()) {
        // Every such error is made in this process, from an error of the network, of TLS, or a text of our own.
        (ErrorKind::Io, _) => Cow::Owned(error.to_string()),
        (_, Some(code)) => reply(code, error.detail()),
        _ => Cow::Owned(error.category().to_owned()),
    }
}

/// A failure of the network, or of TLS, on an open connection.
pub(super) fn of_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => format!("TLS failed: {}", of_tls(error)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "Redis closed the connection".to_owned(),
        None => error.to_string(),
    }
}

/// A failure of the TLS handshake.
pub(super) fn of_handshake(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => format!("TLS failed: {}", of_tls(error)),
        // Before the handshake Redis cannot say why.
        None => format!("TLS failed: closed during the handshake ({error}), as Redis does at maxclients; {NO_TLS}"),
    }
}

/// No reply to a TLS handshake before its deadline: a Redis without TLS waits for the end of a line.
pub(super) const NO_HANDSHAKE: &str =
    "TLS failed: no reply to the handshake before the deadline; for a port without TLS, use redis:// and not rediss://";

/// What to check where a connection without TLS gets no usable reply.
pub(super) const TLS: &str = "for a port with TLS, use rediss:// and not redis://";

/// What to check where TLS gets no usable reply.
const NO_TLS: &str = "for a port without TLS, use redis:// and not rediss://";

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => format!("the reply is not TLS; {NO_TLS}"),
        error => error.to_string(),
    }
}

/// Whether these bytes begin a TLS alert, which a port with TLS may send to a client without.
pub(super) fn is_tls_alert(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x15, 0x03])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reply_shows_its_code_and_never_what_it_quotes() {
        let quoting = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'hunter2'";
        for (code, detail) in [("ERR", Some(quoting)), ("ODD", Some("hunter2")), ("hunter2", None), ("", None)] {
            let text = reply(code, detail);
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert_eq!(reply("ODD", Some("hunter2")), "ODD");
        assert_eq!(reply("hunter2", None), "an error without a code");
        assert!(reply("ERR", Some("max number of clients reached")).contains("max number of clients reached"));
        assert_eq!(reply("ERR", Some("anything else")), "ERR");
    }
}
