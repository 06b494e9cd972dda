//! Where Redis is. A URL may hold a password: it is shown only without.

use std::{fmt, str::FromStr};

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

/// Where Redis is, and how to find the node to write to:
///
/// - `redis://[[user]:password@]host[:port][/database]`: one node.
/// - `redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/master[/database]`: the master of this name, as these
///   Sentinels tell it; user and password are the master's. The default port is 26379.
/// - `redis+cluster://[[user]:password@]host[:port][,host[:port]…]`: a Redis Cluster that these nodes are of.
///
/// With `rediss` in place of `redis` every connection is TLS, to Sentinels too. Valkey has the same URLs.
#[derive(Clone)]
pub struct RedisUrl {
    pub(super) topology: Topology,
    /// The node, the Sentinels, or some nodes of the cluster; at least one.
    pub(super) hosts: Vec<Address>,
    pub(super) tls: bool,
    /// User, password and database.
    pub(super) settings: RedisConnectionInfo,
}

/// How the node to write to is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Node,
    /// By the name of the master.
    Sentinel(String),
    Cluster,
}

/// Where one process listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

const SENTINEL_PORT: u16 = 26379;

/// The forms that are accepted; every refusal ends with one of them.
const NODE: &str = "redis://[[user]:password@]host[:port][/database]";
const SENTINEL: &str = "redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/master[/database]";
const CLUSTER: &str = "redis+cluster://[[user]:password@]host[:port][,host[:port]...]";

impl FromStr for RedisUrl {
    type Err = String;

    /// # Errors
    /// A sentence that says what was expected. It never quotes the URL, which may hold a password.
    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match family {
            "redis" => false,
            "rediss" => true,
            _ => return Err(format!("expected `memory`, or {NODE} (or rediss, redis+sentinel, redis+cluster)")),
        };
        let form = match kind {
            "" => NODE,
            "sentinel" => SENTINEL,
            "cluster" => CLUSTER,
            _ => return Err(format!("expected {NODE}, {SENTINEL} or {CLUSTER}")),
        };
        if rest.contains(['?', '#']) {
            return Err(format!(
                "has a `?` or `#`, which in a password is written %3F or %23: expected {form}; TLS is rediss and \
                 --redis-ca-file"
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let mut path = path.split('/').filter(|part| !part.is_empty());
        let topology = match kind {
            "sentinel" => {
                let name = path.next().ok_or_else(|| format!("names no master: expected {form}"))?;
                Topology::Sentinel(name.to_owned())
            }
            "cluster" => Topology::Cluster,
            _ => Topology::Node,
        };
        let database = path.next().unwrap_or("0");
        if path.next().is_some() {
            return Err(format!("has too many `/`, which in a password is written %2F: expected {form}"));
        }
        match topology {
            Topology::Cluster if database != "0" => {
                return Err(format!("a cluster has no database but 0: expected {form}"));
            }
            Topology::Node if hosts.contains(',') => {
                return Err(format!("names several hosts: expected {SENTINEL} or {CLUSTER}"));
            }
            _ => {}
        }
        // Each host by itself is a URL that redis-rs can read, escapes and all.
        let read = |host: &str| {
            let info = format!("redis://{user}{}{host}/{database}", if user.is_empty() { "" } else { "@" });
            info.into_connection_info().map_err(|error| format!("{}: expected {form}", error.category()))
        };
        let mut settings = None;
        let mut addresses = Vec::new();
        for host in hosts.split(',') {
            let info = read(host)?;
            let ConnectionAddr::Tcp(name, port) = info.addr() else { return Err(format!("expected {form}")) };
            let bare = !host.rsplit(']').next().unwrap_or_default().contains(':');
            let port = if bare && kind == "sentinel" { SENTINEL_PORT } else { *port };
            addresses.push(Address { host: name.clone(), port });
            settings = Some(info.redis_settings().clone());
        }
        let settings = settings.ok_or_else(|| format!("expected {form}"))?;
        Ok(Self { topology, hosts: addresses, tls, settings })
    }
}

impl Address {
    /// The address that a node told of another. An unknown host is the one that was asked.
    pub(super) fn told(host: &str, port: u16, asked_at: &Self) -> Self {
        let host = if matches!(host, "" | "?") { &asked_at.host } else { host };
        Self { host: host.to_owned(), port }
    }

    /// The one in `MOVED slot host:port` and in `ASK`.
    pub(super) fn pointed(text: &str, asked_at: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::told(host.trim_matches(['[', ']']), port.parse().ok()?, asked_at))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        f.write_str(match self.topology {
            Topology::Node => "://",
            Topology::Sentinel(_) => "+sentinel://",
            Topology::Cluster => "+cluster://",
        })?;
        match (self.settings.username(), self.settings.password()) {
            (user, Some(_)) => write!(f, "{}:***@", user.unwrap_or_default())?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, None) => {}
        }
        for (at, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if at == 0 { "" } else { "," })?;
        }
        match &self.topology {
            Topology::Node => write!(f, "/{}", self.settings.db()),
            Topology::Sentinel(name) => write!(f, "/{name}/{}", self.settings.db()),
            Topology::Cluster => Ok(()),
        }
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

    fn shown(url: &str) -> String {
        url.parse::<RedisUrl>().unwrap_or_else(|refusal| panic!("{url}: {refusal}")).to_string()
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: RedisUrl = "redis://ada:hunter2@db.example:6380/3".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "redis://ada:***@db.example:6380/3 redis://ada:***@db.example:6380/3");
        assert_eq!(shown("redis://:hunter2@localhost"), "redis://:***@localhost:6379/0");
        assert_eq!(shown("rediss://ada:hunt%40er2@[::1]"), "rediss://ada:***@[::1]:6379/0");
    }

    #[test]
    fn sentinels_and_clusters_have_many_hosts() {
        assert_eq!(
            shown("redis+sentinel://ada:hunter2@a,b:5000,[::1]/mymaster/2"),
            "redis+sentinel://ada:***@a:26379,b:5000,[::1]:26379/mymaster/2"
        );
        assert_eq!(shown("rediss+sentinel://a/mymaster"), "rediss+sentinel://a:26379/mymaster/0");
        assert_eq!(shown("redis+cluster://:hunter2@a,b:7001"), "redis+cluster://:***@a:6379,b:7001");
        let url: RedisUrl = "redis+sentinel://ada:hunt%40er2@a/m".parse().unwrap();
        assert_eq!((url.settings.username(), url.settings.password()), (Some("ada"), Some("hunt@er2")));
    }

    #[test]
    fn a_refusal_says_what_was_expected_and_quotes_nothing() {
        for wrong in [
            "",
            "http://:hunter2@h",
            "redis://:hunter2@",
            "redis://:hunter2@h:port",
            "redis://:hunter2@h/db",
            "redis://:hunter2@a,b",
            "redis://:hunter2@h/0/1",
            "redis://:hunter2#@h",
            "rediss://:hunter2@h#insecure",
            "redis+magic://:hunter2@h",
            "redis+sentinel://:hunter2@a,b",
            "redis+sentinel://:hunter2@a,b:x/m",
            "redis+cluster://:hunter2@a,,b",
            "redis+cluster://:hunter2@a,b/x",
        ] {
            let refusal = wrong.parse::<RedisUrl>().expect_err(wrong);
            assert!(refusal.contains("redis://") || refusal.contains("redis+"), "{wrong}: {refusal}");
            assert!(!refusal.contains("hunter2"), "{wrong}: {refusal}");
        }
    }
}
