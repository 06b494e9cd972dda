//! How any Redis of a store is spoken to: as whom, over TLS or not, with which timeouts. Whatever lies in files is read for
//! each connection, so that a password or a certificate can be changed under a running service.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::select_ok;
use redis::{Pipeline, PushInfo, RedisConnectionInfo, RedisError};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout_at,
};
use tokio_rustls::TlsConnector;

use super::{cause, pipe::Pipe, role::Role, url::Address};

/// How long written bytes may stay unacknowledged before the kernel gives up.
const USER_TIMEOUT: Duration = Duration::from_secs(2);

/// After so long without a word the kernel asks whether the other side is there, and how often then: whatever stands between
/// forgets silent connections, and the next call would find out.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// What a Redis of 7.2 or newer shows in its list of clients.
const INTRODUCTION: [(&str, &str); 2] = [("LIB-NAME", "sessiond"), ("LIB-VER", env!("CARGO_PKG_VERSION"))];

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

/// Waits for a step of making a connection, until its deadline at most.
async fn in_time<T>(until: Instant, late: &str, step: impl Future<Output = T>) -> Result<T, Trouble> {
    timeout_at(until.into(), step).await.map_err(|_| Trouble::said(late))
}

/// Why there is no connection, in words that are safe to log: what a server says may quote the arguments of a command, and
/// so a password.
#[derive(Clone, Debug)]
pub(super) struct Trouble(pub(super) Arc<str>);

impl Access {
    /// Connects to this address and sends the greeting, until `until` at most. Returns the connection and the role that the
    /// node reports. `pushed` is called with each push message and when the connection is lost; it must not block.
    ///
    /// # Errors
    /// Why not, with the address.
    pub(super) async fn connect(
        &self,
        address: &Address,
        until: Instant,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<(Pipe, Option<Role>), Trouble> {
        self.greet(address, until, pushed).await.map_err(|trouble| trouble.at(address))
    }

    async fn greet(
        &self,
        address: &Address,
        until: Instant,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<(Pipe, Option<Role>), Trouble> {
        let greeting = self.greeting()?;
        let stream = in_time(until, "cannot connect before the deadline", self.tcp(address)).await??;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        let pipe = match &self.tls {
            Some(files) => {
                let name = ServerName::try_from(address.host.clone()).map_err(|_| {
                    Trouble(format!("{} is no name that a certificate could have", address.host).into())
                })?;
                let connector = TlsConnector::from(Arc::new(files.config()?));
                let stream = in_time(until, cause::NO_HANDSHAKE, connector.connect(name, stream)).await?;
                Pipe::over(stream.map_err(|error| Trouble(cause::of_handshake(&error).into()))?, pushed)
            }
            None => Pipe::over(stream, pushed),
        };
        let greeted = in_time(until, "no reply to HELLO before the deadline", pipe.ask(greeting.cmd_iter()));
        let mut answers = greeted.await?.map_err(|error| {
            // Redis closes a connection on its TLS port that does not begin with a handshake, without a word.
            let may_be_tls = self.tls.is_none() && error.is_connection_dropped();
            let trouble = Trouble::from(error);
            if may_be_tls {
                Trouble(format!("{trouble} before a reply to HELLO; {}", cause::TLS).into())
            } else {
                trouble
            }
        })?;
        // That it does not want to know who we are is no harm.
        answers.truncate(answers.len() - INTRODUCTION.len());
        let answers: Result<Vec<_>, _> = answers.into_iter().map(redis::Value::extract_error).collect();
        let role = answers?.first().and_then(Role::of);
        Ok((pipe, role))
    }

    async fn tcp(&self, address: &Address) -> Result<TcpStream, Trouble> {
        // All at once: one of several addresses may be a black hole.
        let addresses = lookup_host((&address.host[..], address.port)).await?;
        let connects: Vec<_> = addresses.map(|address| Box::pin(TcpStream::connect(address))).collect();
        if connects.is_empty() {
            return Err(Trouble::said("the host name has no address"));
        }
        Ok(select_ok(connects).await?.0)
    }

    /// What is said first. RESP3, as it has one way to say that there is nothing, and tells unasked what a Sentinel's subscriber
    /// wants to know.
    fn greeting(&self) -> Result<Pipeline, Trouble> {
        let mut greeting = Pipeline::new();
        greeting.cmd("HELLO").arg(3);
        let password = match &self.password_file {
            Some(path) => Some(password(path)?),
            None => self.settings.password().map(str::to_owned),
        };
        if let Some(password) = password {
            greeting.arg("AUTH").arg(self.settings.username().unwrap_or("default")).arg(password);
        }
        if self.settings.db() != 0 {
            greeting.cmd("SELECT").arg(self.settings.db());
        }
        for (name, value) in INTRODUCTION {
            greeting.cmd("CLIENT").arg("SETINFO").arg(name).arg(value);
        }
        Ok(greeting)
    }

    /// Whether what lies in files is what it should be, now.
    ///
    /// # Errors
    /// Which is not, and why.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        self.password_file.as_deref().map(password).transpose()?;
        let Some(files) = &self.tls else { return Ok(()) };
        files.config().map(drop)
    }
}

impl TlsFiles {
    fn config(&self) -> Result<ClientConfig, Trouble> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unreadable(path, &io::Error::other(error)))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let Some((certificate, key)) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let bytes = fs::read(key).map_err(|error| unreadable(key, &error))?;
        // The error may not be told: it could quote the key.
        let read = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|_| unreadable(key, &io::Error::other("it holds no private key in PEM")))?;
        config
            .with_client_auth_cert(certificates(certificate)?, read)
            .map_err(|error| Trouble(error.to_string().into()))
    }
}

/// The certificates in a PEM file, of which there must be one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unreadable(path, &io::Error::other("it holds no certificate in PEM"))),
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

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self(error.to_string().into())
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Self(cause::of(&error).into())
    }
}

impl Trouble {
    pub(super) fn said(what: &str) -> Self {
        Self(what.into())
    }

    /// The same, with the address that it is about.
    pub(super) fn at(&self, address: &Address) -> Self {
        Self(format!("{address}: {self}").into())
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
