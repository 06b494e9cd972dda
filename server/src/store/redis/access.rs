//! How any Redis of a store is spoken to: as whom, over TLS or not, with which timeouts. Whatever lies in files is read for
//! each connection, so that a password or a certificate can be changed under a running service.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisError, TlsCertificates,
    aio::{MultiplexedConnection, SendError},
    io::tcp::TcpSettings,
};

use super::url::Address;

/// How long written bytes may stay unacknowledged before the kernel gives up.
const USER_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest password that is read from a file, in bytes: a wrong path is told before it is read whole.
const MAX_PASSWORD: u64 = 4096;

/// As whom, and over what.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) settings: RedisConnectionInfo,
    pub(super) password_file: Option<PathBuf>,
    pub(super) tls: Option<TlsFiles>,
}

/// What TLS needs to know, in PEM files. Without a CA the certificates of the public ones are trusted.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// The CA that has signed Redis's certificate.
    pub(super) ca: Option<PathBuf>,
    /// This service's own certificate and its key, where Redis asks for one.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Why there is no connection, in words that are safe to log: what a server says may quote the arguments of a command, and
/// so a password.
#[derive(Clone, Debug)]
pub(super) struct Trouble(pub(super) Arc<str>);

impl Access {
    /// A connection to this address. `pushed` hears what Redis says unasked, and must not wait.
    pub(super) async fn connect(
        &self,
        address: &Address,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Trouble> {
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(USER_TIMEOUT);
        // RESP3 tells at once when the connection is lost; RESP2 only with the next command.
        let mut settings = self.settings.clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(path) = &self.password_file {
            settings = settings.set_password(password(path)?);
        }
        let (host, port) = (address.host.clone(), address.port);
        let addr = match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        let info = addr.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(settings);
        let client = match &self.tls {
            Some(files) => Client::build_with_tls(info, files.read()?)?,
            None => Client::open(info)?,
        };
        let config = AsyncConnectionConfig::new()
            // Every call has its own end; a second timer each would only cost.
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_push_sender(move |push| {
                pushed(push);
                Ok::<_, SendError>(())
            });
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Whether what lies in files can be read now.
    ///
    /// # Errors
    /// Which cannot, and why.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        self.password_file.as_deref().map(password).transpose()?;
        self.tls.as_ref().map(TlsFiles::read).transpose()?;
        Ok(())
    }
}

impl TlsFiles {
    fn read(&self) -> Result<TlsCertificates, Trouble> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| unreadable(path, &error));
        let identity = self.identity.as_ref();
        let client_tls = identity
            .map(|(cert, key)| Ok::<_, Trouble>(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }));
        Ok(TlsCertificates { client_tls: client_tls.transpose()?, root_cert: self.ca.as_ref().map(read).transpose()? })
    }
}

/// The password in a file, without the end of its line.
fn password(path: &Path) -> Result<String, Trouble> {
    let error = |error| unreadable(path, &error);
    if fs::metadata(path).map_err(error)?.len() > MAX_PASSWORD {
        return Err(unreadable(path, &io::Error::other("it is too long for a password")));
    }
    let mut password = fs::read_to_string(path).map_err(error)?;
    password.truncate(password.trim_end_matches(['\r', '\n']).len());
    if password.is_empty() {
        return Err(unreadable(path, &io::Error::other("it is empty")));
    }
    Ok(password)
}

fn unreadable(path: &Path, error: &io::Error) -> Trouble {
    Trouble(format!("cannot read {}: {error}", path.display()).into())
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        // A Redis before 7.0 does not know `#!lua`, and says so in words that help nobody.
        if error.detail().is_some_and(|detail| detail.contains("compiling script")) {
            return Self::said("it cannot run the scripts: Redis 7.0 or newer, or Valkey, is needed");
        }
        match error.kind() {
            ErrorKind::Io => Self(error.to_string().into()),
            _ => match error.code() {
                Some(code) => Self(format!("it answered {code}").into()),
                None => Self::said(error.category()),
            },
        }
    }
}

impl Trouble {
    pub(super) fn said(what: &str) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_the_file_holds_but_for_the_end_of_its_line() {
        let path = std::env::temp_dir().join(format!("sessiond-password-{}", std::process::id()));
        for (holds, read) in [("hunter2\r\n", Some("hunter2")), (" a b ", Some(" a b ")), ("\n", None)] {
            fs::write(&path, holds).unwrap();
            assert_eq!(password(&path).ok().as_deref(), read);
        }
        fs::remove_file(&path).unwrap();
        let gone = password(&path).unwrap_err().to_string();
        assert!(gone.starts_with("cannot read ") && gone.contains("sessiond-password"), "{gone}");
    }
}
