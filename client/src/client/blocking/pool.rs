//! The connections to one server: as many as there are calls under way, and those that the last calls left.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    super::{
        ConfigError,
        address::Address,
        builder::USER_AGENT,
        nodes::Connect,
        transport::{Head, PREVIOUS_ATTEMPTS},
    },
    connection::{Connection, Reply},
    headers,
    socket::{Broken, Socket, Wait},
    timeout,
};

/// The most connections that wait for a call.
const MOST_IDLE: usize = 64;

/// A connection that was used within this time is used again without a look at what came since: if the server has left it
/// just then, the call is repeated, as it is when the server leaves while a call is on its way.
const RECENT: Duration = Duration::from_millis(10);

/// Connections that were not used for so long end, when the next call comes.
const LONG_IDLE: Duration = Duration::from_secs(60);

/// The connections to one server.
pub(crate) struct Pool {
    place: SocketAddr,
    #[cfg(feature = "tls")]
    tls: Option<super::tls::Tls>,
    /// The headers that all calls have.
    headers: headers::Fixed,
    /// With when they were used last. The one that was used last is the last, and used next: so that the others can end when
    /// nobody needs them.
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// How servers are connected to. All that can be wrong is found out here.
pub(super) fn connector(addresses: &[Address], authority: Option<Vec<u8>>) -> Result<Connect<Pool>, ConfigError> {
    #[cfg(feature = "tls")]
    let tls = super::tls::Settings::new(addresses, authority.as_deref())?;
    #[cfg(not(feature = "tls"))]
    let _ = (addresses, authority);
    Ok(Box::new(move |(address, place)| {
        let authority = format!("{}:{}", address.host, address.port);
        Pool {
            place: *place,
            #[cfg(feature = "tls")]
            tls: tls.of(address),
            headers: headers::Fixed::new(address.tls, &authority, USER_AGENT),
            idle: Mutex::default(),
        }
    }))
}

impl Pool {
    /// Makes a call.
    pub(super) fn call(&self, path: &str, message: &[u8], head: Head<'_>, wait: &Wait) -> Result<Reply, Broken> {
        let mut connection = self.connection(wait)?;
        let mut block = self.headers.begin(path);
        // At the last moment: connecting took of it.
        headers::literal(&mut block, "grpc-timeout", &timeout(head.time_left()));
        if head.attempts > 0 {
            headers::literal(&mut block, PREVIOUS_ATTEMPTS, &head.attempts.to_string());
        }
        if let Some(token) = head.token {
            headers::token(&mut block, token.as_bytes());
        }
        let reply = connection.call(&block, message, wait)?;
        if connection.is_sound() {
            let mut idle = self.idle();
            // Only the oldest: with each call one.
            if idle.first().is_some_and(|(since, _)| since.elapsed() > LONG_IDLE) {
                idle.remove(0);
            }
            if idle.len() < MOST_IDLE {
                idle.push((Instant::now(), connection));
            }
        }
        Ok(reply)
    }

    fn connection(&self, wait: &Wait) -> Result<Connection, Broken> {
        loop {
            // A statement of its own, or it would be locked meanwhile.
            let idle = self.idle().pop();
            let Some((since, mut connection)) = idle else { return self.connect(wait) };
            if since.elapsed() > RECENT {
                connection.hear(wait);
            }
            if connection.is_sound() {
                return Ok(connection);
            }
        }
    }

    fn connect(&self, wait: &Wait) -> Result<Connection, Broken> {
        let socket = Socket::connect(self.place, wait)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Connection::new(socket.secured(tls.begin()?)));
        }
        Ok(Connection::new(socket))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
