//! How Redis is to be spoken to, and whether that fits where it is.

use std::{path::PathBuf, sync::Arc};

use super::{
    nodes,
    url::{RedisUrl, Topology},
};

/// How Redis is to be spoken to, beside where it is.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// What every key begins with; no braces.
    pub prefix: Arc<str>,
    /// A file that holds the password, instead of the URL. It is read again for each connection.
    pub password_file: Option<PathBuf>,
    /// The same for the Sentinels, which have none otherwise.
    pub sentinel_password_file: Option<PathBuf>,
    /// A PEM file with the CA that signed Redis's certificate, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// PEM files with this service's own certificate and its key, where Redis asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// By how many replicas a Destroy and a rotate must be confirmed (`WAIT`); zero is none.
    pub confirm_replicas: u16,
    /// Whether a Redis will do that evicts sessions when it is full.
    pub allow_eviction: bool,
}

impl RedisOptions {
    /// Whether they fit the URL, and what lies in files can be read.
    ///
    /// # Errors
    /// A sentence that says what does not, and what to do.
    pub fn check(&self, url: &RedisUrl) -> Result<(), String> {
        if !url.tls && (self.ca_file.is_some() || self.identity.is_some()) {
            return Err("a certificate or CA file is for TLS: write rediss in place of redis in --store".to_owned());
        }
        if self.sentinel_password_file.is_some() && !matches!(url.topology, Topology::Sentinel(_)) {
            return Err("--sentinel-password-file is for Sentinels: write redis+sentinel:// in --store".to_owned());
        }
        if url.settings.username().is_some() && url.settings.password().is_none() && self.password_file.is_none() {
            return Err(
                "--store names a user and no password: write user:password@, or :password@ for one without a user, \
                        or give --redis-password-file"
                    .to_owned(),
            );
        }
        if self.password_file.is_some() && url.settings.password().is_some() {
            return Err(
                "there is a password in --store and one in --redis-password-file: leave one of them out".to_owned()
            );
        }
        let (redis, sentinels) = nodes::access(url, self);
        redis.check().and_then(|()| sentinels.check()).map_err(|trouble| trouble.to_string())
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "session:".into(),
            password_file: None,
            sentinel_password_file: None,
            ca_file: None,
            identity: None,
            confirm_replicas: 0,
            allow_eviction: false,
        }
    }
}
