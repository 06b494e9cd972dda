//! The three calls: deadlines, repeats, and who is asked.

mod address;
mod nodes;
mod retry;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use sessiond_proto::v1::{OpenRequest, session_service_client::SessionServiceClient};
use tokio::time::Instant;
use tonic::{
    Request, Response, Status,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};

use self::{
    address::Address,
    nodes::{Connect, Node, Nodes, Verdict},
    retry::Budget,
};
use crate::{Error, Save, Session, SessionId, error::Failed};

/// How often a call is tried at most, the first time included.
const ATTEMPTS: u32 = 3;

/// Below this a repeat is not worth beginning.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(5);

/// How long a connection may take to be made. It goes on beyond the deadline of the call that began it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a connection is asked whether it still lives, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of sessiond: cheap to clone, and all clones share one connection to each server.
///
/// Nothing connects until the first call, which must be made within a tokio runtime; the connections live on the runtime
/// of that call.
///
/// Every call ends by its deadline, and is repeated within it, up to twice, when the service cannot be reached or says so
/// (UNAVAILABLE): with the same request id, so that it takes effect once, after a wait with jitter, no sooner than the service
/// asked for, and for at most a tenth of the calls.
#[derive(Clone)]
pub struct SessionClient(Arc<Shared>);

struct Shared {
    nodes: Arc<Nodes>,
    token: Option<AsciiMetadataValue>,
    deadlines: Deadlines,
    budget: Budget,
}

/// The most time that each call may take, repeats included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For [`SessionClient::open`]: 300 ms, since a page waits for it.
    pub open: Duration,
    /// For [`SessionClient::save`]: 500 ms.
    pub save: Duration,
    /// For [`SessionClient::destroy`]: 1 s, since a logout should try harder.
    pub destroy: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { open: ms(300), save: ms(500), destroy: ms(1_000) }
    }
}

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
}

impl SessionClient {
    /// A client of the service at this address: `http://HOST:PORT` (or only `HOST:PORT`), or `https://HOST:PORT` with the
    /// feature `tls`; several with commas between them.
    ///
    /// Calls are spread over all addresses and over all that a name stands for (a headless Service on Kubernetes); names are
    /// looked up again every 5 s while calls come.
    ///
    /// # Errors
    /// When that is no address. Whether the service is there shows with the first call.
    pub fn new(address: &str) -> Result<Self, ConfigError> {
        Self::builder().address(address).build()
    }

    /// For all that has a default.
    pub fn builder() -> SessionClientBuilder {
        SessionClientBuilder::default()
    }

    /// Opens a session and extends its life by its idle timeout. `None` if this id opens nothing (any more).
    ///
    /// # Errors
    /// [`Error::Unavailable`] in an outage, which says nothing of the session.
    pub async fn open(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        self.look(id, false).await
    }

    /// Opens a session without extending its life: for pages that poll.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn peek(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        self.look(id, true).await
    }

    async fn look(&self, id: &SessionId, no_renew: bool) -> Result<Option<Session>, Error> {
        let request = OpenRequest { id: id.expose().to_owned(), no_renew };
        let answer = self
            .call(self.0.deadlines.open, request, async |mut stub, request| {
                stub.open(request).await.map(Response::into_inner)
            })
            .await?;
        wire::opened(answer)
    }

    /// Creates a session or changes one, and gives it as it is stored now: with the new id after a create or a rotate.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the session is gone (it is never made anew), [`Error::Changed`] if the whole data was to be
    /// replaced and another writer was first, [`Error::TooLarge`], [`Error::StoreFull`], [`Error::Refused`], and
    /// [`Error::Unavailable`] in an outage.
    pub async fn save(&self, save: Save) -> Result<Session, Error> {
        let request = wire::save_request(&save)?;
        let answer = self
            .call(self.0.deadlines.save, request, async |mut stub, request| {
                stub.save(request).await.map(Response::into_inner)
            })
            .await?;
        wire::saved(answer, save)
    }

    /// Ends a session, whatever became of it meanwhile: a logout always wins. An id that opens nothing is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`] in an outage: the session may live on, so tell the visitor.
    pub async fn destroy(&self, id: &SessionId) -> Result<(), Error> {
        self.end(wire::destroy_request(id, "")).await
    }

    /// Ends a session, if nobody changed it since it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`] if somebody did; else as [`destroy`](Self::destroy).
    pub async fn destroy_unchanged(&self, session: &Session) -> Result<(), Error> {
        if session.etag.is_empty() {
            // Somebody did: the last Save was told so. (To the service no version means any.)
            return Err(Error::Changed);
        }
        self.end(wire::destroy_request(&session.id, &session.etag)).await
    }

    /// Whether this id, which opens nothing, was replaced by a new one within the last minute: its visitor has just signed in
    /// in another tab, say, and holds a newer cookie than this.
    ///
    /// Asked by a Destroy that names a version which no session has: for an id that was just replaced the service answers that
    /// the session was changed, for every other one that there is nothing to do.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub async fn was_replaced(&self, id: &SessionId) -> Result<bool, Error> {
        match self.end(wire::destroy_request(id, wire::NO_VERSION)).await {
            Err(Error::Changed) => Ok(true),
            answer => answer.map(|()| false),
        }
    }

    async fn end(&self, request: sessiond_proto::v1::DestroyRequest) -> Result<(), Error> {
        self.call(self.0.deadlines.destroy, request, async |mut stub, request| stub.destroy(request).await.map(drop))
            .await
    }

    /// One call with its repeats, all within one deadline.
    async fn call<Q: Clone, A>(
        &self,
        deadline: Duration,
        request: Q,
        ask: impl AsyncFn(SessionServiceClient<Channel>, Request<Q>) -> Result<A, Status>,
    ) -> Result<A, Error> {
        let shared = &*self.0;
        let until = Instant::now() + deadline;
        shared.budget.called();
        let mut last: Option<Arc<Node>> = None;
        let mut attempt = 0;
        loop {
            let turn = tokio::time::timeout_at(until, shared.nodes.turn(last.as_deref()))
                .await
                .map_err(|_| Error::deadline())??;
            let stub = SessionServiceClient::new(turn.0.channel.clone());
            let asked = ask(stub, shared.request(request.clone(), attempt, until));
            let failed: Failed = match tokio::time::timeout_at(until, asked).await {
                Ok(Ok(answer)) => {
                    shared.nodes.heard(&turn.0, Verdict::Answered);
                    return Ok(answer);
                }
                Ok(Err(status)) => status.into(),
                Err(_) => {
                    shared.nodes.heard(&turn.0, Verdict::Silent);
                    return Err(Error::deadline());
                }
            };
            let lost = failed.error.is_outage() && !failed.by_service;
            shared.nodes.heard(&turn.0, if lost { Verdict::Lost } else { Verdict::Answered });
            attempt += 1;
            let asked_to_wait = match failed.error {
                Error::Unavailable { retry_after, .. } if failed.by_service => Some(retry_after),
                _ => None,
            };
            let next = Instant::now() + retry::wait(attempt, asked_to_wait);
            let in_time = next + SHORTEST_ATTEMPT < until;
            if !failed.repeatable || attempt == ATTEMPTS || !in_time || !shared.budget.allows_repeat() {
                return Err(failed.error);
            }
            last = Some(Arc::clone(&turn.0));
            drop(turn);
            tokio::time::sleep_until(next).await;
        }
    }
}

impl Shared {
    fn request<Q>(&self, message: Q, attempt: u32, until: Instant) -> Request<Q> {
        let mut request = Request::new(message);
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        let headers = request.metadata_mut();
        if attempt > 0 {
            // gRFC A6; the service then looks further back for the first attempt.
            headers.insert("grpc-previous-rpc-attempts", AsciiMetadataValue::from(attempt));
        }
        if let Some(token) = &self.token {
            headers.insert("authorization", token.clone());
        }
        request
    }
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

    /// Makes the client. It connects with the first call.
    ///
    /// # Errors
    /// When something was asked for that cannot be.
    pub fn build(self) -> Result<SessionClient, ConfigError> {
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
            Some(token) => {
                let mut value =
                    AsciiMetadataValue::try_from(format!("Bearer {token}")).map_err(|_| ConfigError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let connect = connector(&addresses, self.authority)?;
        let nodes = Arc::new(Nodes::new(addresses, connect, Box::new(address::system)));
        let shared = Shared { nodes, token, deadlines: self.deadlines, budget: Budget::default() };
        Ok(SessionClient(Arc::new(shared)))
    }
}

/// How a server is connected to. All that can be wrong is found out here and not with the first call.
fn connector(addresses: &[Address], authority: Option<Vec<u8>>) -> Result<Connect, ConfigError> {
    #[cfg(not(feature = "tls"))]
    if authority.is_some() {
        return Err(ConfigError::TlsNotBuilt);
    }
    for address in addresses {
        endpoint(address, &address.origin(), authority.as_deref())?;
    }
    Ok(Box::new(move |(address, socket)| {
        let to = format!("{}://{socket}", if address.tls { "https" } else { "http" });
        endpoint(address, &to, authority.as_deref()).expect("the same was made once before")
    }))
}

#[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "only TLS has an authority"))]
fn endpoint(address: &Address, to: &str, authority: Option<&[u8]>) -> Result<Endpoint, ConfigError> {
    let refused = || ConfigError::Address(address.origin());
    let endpoint = Endpoint::from_shared(to.to_owned())
        .map_err(|_| refused())?
        .origin(address.origin().parse().map_err(|_| refused())?)
        .user_agent(concat!("sessiond-client/", env!("CARGO_PKG_VERSION")))
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

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClient").field("deadlines", &self.0.deadlines).finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionClientBuilder {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addresses, deadlines, .. } = self;
        f.debug_struct("SessionClientBuilder")
            .field("addresses", addresses)
            .field("deadlines", deadlines)
            .finish_non_exhaustive()
    }
}
