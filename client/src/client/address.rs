//! Where the service is: what an address may look like, and what a name stands for.

use std::{collections::BTreeSet, io, net::SocketAddr, pin::Pin, sync::Arc};

use http::Uri;
use tokio::task::JoinSet;

use super::ConfigError;

/// One address as it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `http://host:port`, `https://host:port` or `host:port`; several with commas between them.
    pub(super) fn read_all(text: &str) -> Result<Vec<Self>, ConfigError> {
        text.split(',').map(|one| Self::read(one.trim())).collect()
    }

    fn read(text: &str) -> Result<Self, ConfigError> {
        let refused = || match text.rsplit_once('@') {
            // It ends up in a log, and before that sign there may be a password.
            Some((_, host)) => ConfigError::Address(format!("…@{host}")),
            None => ConfigError::Address(text.to_owned()),
        };
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|_| refused())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "tls") => true,
            Some("https") => return Err(ConfigError::TlsNotBuilt),
            _ => return Err(refused()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(refused)?;
        let port = authority.port_u16().ok_or_else(refused)?;
        // More than an address: a path would be passed over in silence.
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") || authority.host().is_empty() {
            return Err(refused());
        }
        Ok(Self { tls, host: authority.host().to_owned(), port })
    }

    /// What the requests name as their authority.
    pub(super) fn origin(&self) -> String {
        let Self { tls, host, port } = self;
        format!("{}://{host}:{port}", if *tls { "https" } else { "http" })
    }

    /// The host as TLS and DNS write it: without the brackets of an IPv6 literal.
    pub(super) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn literal(&self) -> Option<SocketAddr> {
        self.name().parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.literal().is_some_and(|address| address.ip().is_loopback())
    }

    /// Whether what it stands for may change.
    pub(super) fn is_name(&self) -> bool {
        self.literal().is_none()
    }
}

/// One server: the address that was given, and one socket address that it stands for now.
pub(super) type Place = (Arc<Address>, SocketAddr);

/// How names are looked up: by the system, but for tests.
pub(super) type LookUp = Box<dyn Fn(&Address) -> Looking + Send + Sync>;
type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Asks the system: /etc/hosts, DNS.
pub(super) fn system(address: &Address) -> Looking {
    let (name, port) = (address.name().to_owned(), address.port);
    Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
}

/// All that these addresses stand for now. A name that cannot be looked up stands for what is `known` of it, and does not
/// take the others with it; the failure is told beside.
pub(super) async fn resolve(
    addresses: &[Arc<Address>],
    look_up: &LookUp,
    known: &[Place],
) -> (BTreeSet<Place>, Option<io::Error>) {
    let mut places = BTreeSet::new();
    let mut failure = None;
    // All at once: one slow name server does not hold back the other names.
    let mut looking = JoinSet::new();
    for address in addresses {
        let place = |socket| (Arc::clone(address), socket);
        match address.literal() {
            Some(literal) => drop(places.insert(place(literal))),
            None => {
                let (address, found) = (Arc::clone(address), look_up(address));
                looking.spawn(async move { (address, found.await) });
            }
        }
    }
    while let Some(Ok((address, found))) = looking.join_next().await {
        match found {
            Ok(found) if !found.is_empty() => {
                places.extend(found.into_iter().map(|socket| (Arc::clone(&address), socket)));
            }
            not_found => {
                places.extend(known.iter().filter(|(of, _)| *of == address).cloned());
                failure = Some(not_found.err().unwrap_or_else(no_address));
            }
        }
    }
    (places, failure)
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name of the session service has no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let read =
            |text| Address::read_all(text).expect("it is an address").iter().map(Address::origin).collect::<Vec<_>>();
        assert_eq!(read("127.0.0.1:50051"), ["http://127.0.0.1:50051"]);
        assert_eq!(read("http://sessiond.default.svc:50051/"), ["http://sessiond.default.svc:50051"]);
        assert_eq!(read("http://[::1]:50051"), ["http://[::1]:50051"]);
        assert_eq!(read("a:1, http://b:2"), ["http://a:1", "http://b:2"]);
        for wrong in [
            "",
            "sessiond",
            "http://sessiond",
            "redis://a:1",
            "http://a:1/path",
            "http://user@a:1",
            "a:1,",
            "a:99999",
            ":1",
        ] {
            assert!(matches!(Address::read_all(wrong), Err(ConfigError::Address(_))), "{wrong}");
        }
    }

    #[test]
    fn a_literal_is_never_looked_up() {
        let literal = |text| !Address::read_all(text).expect("it is an address")[0].is_name();
        assert!(literal("127.0.0.1:1") && literal("[::1]:1") && !literal("localhost:1"));
    }
}
