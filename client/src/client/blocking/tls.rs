//! TLS to the servers whose addresses ask for it.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::{
    super::{ConfigError, address::Address},
    socket::Broken,
};

/// What all servers are verified by; nothing where no address asks for it.
pub(super) struct Settings(Option<Arc<ClientConfig>>);

/// How one server is spoken to.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Settings {
    /// # Errors
    /// When there is no authority, or a name is none that a certificate could have.
    pub(super) fn new(addresses: &[Address], authority: Option<&[u8]>) -> Result<Self, ConfigError> {
        let mut secured = addresses.iter().filter(|address| address.tls).peekable();
        if secured.peek().is_none() {
            return Ok(Self(None));
        }
        for address in secured {
            name(address).ok_or_else(|| ConfigError::Address(address.origin()))?;
        }
        let mut roots = RootCertStore::empty();
        match authority {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| ConfigError::Authority)?;
                    roots.add(certificate).map_err(|_| ConfigError::Authority)?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            return Err(ConfigError::Authority);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| ConfigError::Authority)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Some(Arc::new(config))))
    }

    /// How this server is spoken to; `None` if without TLS.
    pub(super) fn of(&self, address: &Address) -> Option<Tls> {
        let config = self.0.clone().filter(|_| address.tls)?;
        Some(Tls { config, name: name(address)? })
    }
}

impl Tls {
    pub(super) fn begin(&self) -> Result<ClientConnection, Broken> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.map_err(|error| Broken::Lost(io::Error::other(error)))?;
        // A message is held as a whole anyway.
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}

/// What its certificate has to say.
fn name(address: &Address) -> Option<ServerName<'static>> {
    ServerName::try_from(address.name().to_owned()).ok()
}
