//! The URL of the store, and how it is parsed without ever showing a password.

use std::{ffi::OsStr, fmt, str::FromStr};

use clap::{Arg, Command, builder::TypedValueParser, error::ErrorKind};

use crate::store::redis::RedisUrl;

/// Where sessions are kept.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// In this process.
    Memory,
    /// In Redis.
    Redis(RedisUrl),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if url == "memory" { Ok(Self::Memory) } else { url.parse().map(Self::Redis) }
    }
}

/// Reads a store's URL. Clap's own refusals quote the value, and this one may hold a password.
#[derive(Clone)]
pub(super) struct StoreUrlParser;

impl TypedValueParser for StoreUrlParser {
    type Value = StoreUrl;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<StoreUrl, clap::Error> {
        let parsed = value.to_str().ok_or_else(|| "is not valid UTF-8".to_owned()).and_then(str::parse);
        parsed.map_err(|why| {
            clap::Error::raw(
                ErrorKind::ValueValidation,
                format!("invalid value for '--store <URL>': {why}\n\nFor more information, try '--help'.\n"),
            )
            .with_cmd(command)
        })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => url.fmt(f),
        }
    }
}
