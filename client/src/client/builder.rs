//! What a client is made from: what may be asked for, and what is refused.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};

use super::{
    Deadlines, SessionClient,
    address::{self, Address},
    calls::Calls,
    nodes::{Beside, Connect, Nodes},
    retry::Budget,
    transport::{Channels, Transport},
};

/// How long a connection may take to be made. It goes on beyond the deadline of the call that began it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Who we say that we are.
pub(super) const USER_AGENT: &str = concat!("sessiond-client/", env!("CARGO_PKG_VERSION"));

/// How often a connection is asked whether it still lives, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a client cannot be made as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not an address.
    #[error(
        "{0:?} is no address: say HOST:PORT, http://HOST:PORT or https://HOST:PORT, several with commas between them"
    )]
    Address(String),
    /// `https://` without the feature `tls`.
    #[error("https:// needs the feature `tls` of sessiond-client")]
    TlsNotBuilt,
    /// The certificate authority cannot be read.
    #[error("the certificate authority cannot be read: give PEM")]
    Authority,
    /// The caller token is not something that a header can carry.
    #[error("the caller token may hold visible ASCII characters only")]
    Token,
    /// A caller token would be readable on the network.
    #[error(
        "a caller token over http:// can be read on the way: say https://, or allow_plaintext_token() if the network encrypts"
    )]
    PlaintextToken,
    /// A deadline of nothing.
    #[error("a deadline of 0 leaves no time to ask: leave it out, or give it some")]
    NoTime,
}

/// What a [`SessionClient`] is made from; see [`SessionClient::builder`].
#[derive(Clone, Default)]
#[must_use = "a builder makes a client with `build`"]
pub struct SessionClientBuilder {
    addresses: Vec<String>,
    token: Option<String>,
    plaintext_token: bool,
    authority: Option<Vec<u8>>,
    deadlines: Deadlines,
    #[cfg(feature = "blocking")]
    pub(super) interrupted: Option<super::blocking::Interrupted>,
}

impl SessionClientBuilder {
    /// Adds an address, or several with commas between them. Without any it is `http://127.0.0.1:50051`, where `sessiond`
    /// listens by default.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// The token by which the service knows this caller, sent as `authorization: Bearer …` with every call.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// Lets the token go over `http://` to another machine: for networks that encrypt by themselves (a service mesh).
    pub fn allow_plaintext_token(self) -> Self {
        Self { plaintext_token: true, ..self }
    }

    /// The certificate authority, in PEM, that `https://` servers are verified against, instead of the system's.
    pub fn certificate_authority(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { authority: Some(pem.into()), ..self }
    }

    /// The most time that each call may take.
    pub fn deadlines(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// What is asked when a signal came while a call of the [blocking](super::blocking) client waits: an error ends the call,
    /// which then fails as [`Unavailable`](crate::Error::Unavailable) with this as its cause.
    #[cfg(feature = "blocking")]
    pub fn interrupted(self, ask: fn() -> io::Result<()>) -> Self {
        Self { interrupted: Some(ask), ..self }
    }

    /// Makes the client. It connects with the first call.
    ///
    /// # Errors
    /// When something was asked for that cannot be.
    pub fn build(self) -> Result<SessionClient, ConfigError> {
        self.calls(Channels, |work| drop(tokio::spawn(work)), connector).map(|calls| SessionClient(Arc::new(calls)))
    }

    /// Makes the client whose calls block. It connects with the first call.
    ///
    /// # Errors
    /// When something was asked for that cannot be.
    #[cfg(feature = "blocking")]
    pub fn build_blocking(self) -> Result<super::blocking::SessionClient, ConfigError> {
        super::blocking::SessionClient::from_builder(self)
    }

    /// All but the transport, which is told what was asked for.
    pub(super) fn calls<T: Transport>(
        self,
        transport: T,
        beside: Beside,
        connector: impl FnOnce(&[Address], Option<Vec<u8>>) -> Result<Connect<T::Channel>, ConfigError>,
    ) -> Result<Calls<T>, ConfigError> {
        let given = if self.addresses.is_empty() { vec!["http://127.0.0.1:50051".to_owned()] } else { self.addresses };
        let addresses: Vec<Address> = given
            .iter()
            .map(|text| Address::read_all(text))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect();
        let Deadlines { open, save, destroy } = self.deadlines;
        if [open, save, destroy].iter().any(Duration::is_zero) {
            return Err(ConfigError::NoTime);
        }
        let token = match self.token {
            None => None,
            Some(_) if !self.plaintext_token && addresses.iter().any(|one| !one.tls && !one.is_loopback()) => {
                return Err(ConfigError::PlaintextToken);
            }
            Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err(ConfigError::Token);
            }
            Some(token) => {
                let mut value =
                    AsciiMetadataValue::try_from(format!("Bearer {token}")).map_err(|_| ConfigError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        #[cfg(not(feature = "tls"))]
        if self.authority.is_some() {
            return Err(ConfigError::TlsNotBuilt);
        }
        // Both kinds of TLS pass over what is no certificate, and then trust nobody.
        let is_pem = |pem: &Vec<u8>| String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----");
        if self.authority.as_ref().is_some_and(|pem| !is_pem(pem)) {
            return Err(ConfigError::Authority);
        }
        let connect = connector(&addresses, self.authority)?;
        let nodes = Arc::new(Nodes::new(addresses, connect, beside, Box::new(address::system)));
        Ok(Calls {
            transport,
            nodes,
            token,
            deadlines: self.deadlines,
            budget: Budget::default(),
            longest_idle: AtomicU64::new(u64::MAX),
        })
    }
}

/// How a server is connected to. All that can be wrong is found out here, and not with the first call or the next server.
fn connector(addresses: &[Address], authority: Option<Vec<u8>>) -> Result<Connect<Channel>, ConfigError> {
    let endpoints = addresses.iter().map(|one| Ok((one.clone(), endpoint(one, authority.as_deref())?)));
    let endpoints = endpoints.collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(Box::new(move |(address, socket)| {
        let socket = *socket;
        // The name stays what TLS verifies and the requests say; only where to connect to is what it stands for now.
        endpoints[&**address].connect_with_connector_lazy(tower::service_fn(move |_: Uri| async move {
            let stream = TcpStream::connect(socket).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }))
    }))
}

#[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "only TLS has an authority"))]
fn endpoint(address: &Address, authority: Option<&[u8]>) -> Result<Endpoint, ConfigError> {
    let refused = || ConfigError::Address(address.origin());
    let endpoint = Endpoint::from_shared(address.origin())
        .map_err(|_| refused())?
        .user_agent(USER_AGENT)
        .map_err(|_| refused())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    #[cfg(feature = "tls")]
    if address.tls {
        use tonic::transport::{Certificate, ClientTlsConfig};
        let tls = ClientTlsConfig::new().domain_name(address.name());
        let tls = match authority {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        return endpoint.tls_config(tls).map_err(|_| ConfigError::Authority);
    }
    Ok(endpoint)
}

impl fmt::Debug for SessionClientBuilder {
    /// Without the token, and without the addresses: someone may have put a password into one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClientBuilder").field("deadlines", &self.deadlines).finish_non_exhaustive()
    }
}
