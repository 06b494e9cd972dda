//! Where Redis is. A URL may hold a password: it is shown only without.

use std::{fmt, str::FromStr};

use redis::{ConnectionInfo, IntoConnectionInfo};

/// A Redis URL: `redis://[[user]:password@]host[:port][/database]`.
#[derive(Clone)]
pub struct RedisUrl(ConnectionInfo);

impl RedisUrl {
    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.0
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    /// # Errors
    /// A sentence that says what was expected. It never quotes the URL, which may hold a password.
    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("rediss://") {
            return Err("TLS to Redis is not there yet: use redis:// on a network that you trust".to_owned());
        }
        if !url.starts_with("redis://") {
            return Err("expected `memory`, or redis://[[user]:password@]host[:port][/database]".to_owned());
        }
        url.into_connection_info()
            .map(Self)
            .map_err(|error| format!("{}: expected redis://[[user]:password@]host[:port][/database]", error.category()))
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0.redis_settings();
        f.write_str("redis://")?;
        match (settings.username(), settings.password()) {
            (user, Some(_)) => write!(f, "{}:***@", user.unwrap_or_default())?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, None) => {}
        }
        write!(f, "{}/{}", self.0.addr(), settings.db())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url: RedisUrl = "redis://ada:hunter2@db.example:6380/3".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "redis://ada:***@db.example:6380/3 redis://ada:***@db.example:6380/3");
        let url: RedisUrl = "redis://:hunter2@localhost".parse().unwrap();
        assert_eq!(url.to_string(), "redis://:***@localhost:6379/0");
    }

    #[test]
    fn a_refusal_says_what_was_expected_and_quotes_nothing() {
        for wrong in [
            "",
            "http://h",
            "redis://:hunter2@",
            "redis://:hunter2@h:port",
            "redis://:hunter2@h/db",
            "rediss://:hunter2@h",
        ] {
            let refusal = wrong.parse::<RedisUrl>().unwrap_err();
            assert!(refusal.contains("redis://"), "{wrong}: {refusal}");
            assert!(!refusal.contains("hunter2"), "{wrong}: {refusal}");
        }
    }
}
