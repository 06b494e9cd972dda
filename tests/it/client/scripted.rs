//! A service that answers as a test tells it to and notes who asked: what no real sessiond does on command.

use std::{
    future::pending,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sessiond_proto::v1::{
    DestroyRequest, DestroyResponse, OpenRequest, OpenResponse, SaveRequest, SaveResponse, Session,
    session_service_server::{SessionService, SessionServiceServer},
};
use tokio::runtime::Runtime;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt};

use super::ID;

/// A call as it came.
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) request_id: String,
    pub(super) headers: MetadataMap,
    pub(super) at: Instant,
    /// How many ever came before it.
    pub(super) before: usize,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("it is text"))
    }

    /// How much time the caller says that it has.
    pub(super) fn timeout(&self) -> Duration {
        let text = self.header("grpc-timeout").expect("every call says how much time it has");
        let (number, unit) = text.split_at(text.len() - 1);
        let number = number.parse().expect("a number");
        match unit {
            "n" => Duration::from_nanos(number),
            "u" => Duration::from_micros(number),
            "m" => Duration::from_millis(number),
            "S" => Duration::from_secs(number),
            _ => panic!("{text}"),
        }
    }
}

/// What it is answered.
pub(super) enum Answer {
    /// Open finds nothing, Save saves, Destroy destroys.
    Fine,
    No(Status),
    /// Silence.
    Never,
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The service. Dropped, it is as if its process had been killed.
pub(super) struct Scripted {
    address: SocketAddr,
    notes: Arc<Mutex<Vec<Asked>>>,
    runtime: Option<Runtime>,
}

impl Scripted {
    pub(super) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self::start_on(listener, None, script)
    }

    /// One that does what it is asked.
    pub(super) fn fine() -> Self {
        Self::start(|_| Answer::Fine)
    }

    /// Every call is refused with this.
    pub(super) fn refusing(refusal: Status) -> Self {
        Self::start(move |_| Answer::No(refusal.clone()))
    }

    pub(super) fn start_on(
        listener: TcpListener,
        tls: Option<ServerTlsConfig>,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("it has an address");
        listener.set_nonblocking(true).expect("as tokio wants it");
        let notes = Arc::default();
        let service = SessionServiceServer::new(Played {
            script: Box::new(script),
            notes: Arc::clone(&notes),
            ever: AtomicUsize::new(0),
        });
        // A runtime of its own, so that it can be killed with all its connections.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
            let server = match tls {
                Some(tls) => Server::builder().tls_config(tls).expect("a certificate with its key"),
                None => Server::builder(),
            };
            let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
            { server }.add_service(service).serve_with_incoming(connections).await
        });
        Self { address, notes, runtime: Some(runtime) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that came since this was last asked.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An error as sessiond gives it.
pub(super) fn refusal(code: Code, reason: &str) -> Status {
    Status::with_error_details(code, "in words", ErrorDetails::with_error_info(reason, "sessiond", []))
}

/// An outage as sessiond tells it.
pub(super) fn outage(again_in: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info("STORE_UNAVAILABLE", "sessiond", []);
    details.set_retry_info(Some(again_in));
    Status::with_error_details(Code::Unavailable, "in words", details)
}

struct Played {
    script: Box<Script>,
    notes: Arc<Mutex<Vec<Asked>>>,
    ever: AtomicUsize,
}

impl Played {
    async fn answer<Q>(&self, method: &'static str, request_id: &str, request: &Request<Q>) -> Result<(), Status> {
        let answer = {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            let headers = request.metadata().clone();
            let before = self.ever.fetch_add(1, Ordering::SeqCst);
            let asked = Asked { method, request_id: request_id.to_owned(), headers, at: Instant::now(), before };
            let answer = (self.script)(&asked);
            notes.push(asked);
            answer
        };
        match answer {
            Answer::Fine => Ok(()),
            Answer::No(status) => Err(status),
            Answer::Never => pending().await,
        }
    }
}

#[tonic::async_trait]
impl SessionService for Played {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        self.answer("open", "", &request).await?;
        Ok(Response::new(OpenResponse { session: Some(Session::default()) }))
    }

    async fn save(&self, request: Request<SaveRequest>) -> Result<Response<SaveResponse>, Status> {
        self.answer("save", &request.get_ref().request_id, &request).await?;
        let session = Session {
            id: ID.to_owned(),
            etag: "1".to_owned(),
            handle: ID[..32].to_owned(),
            idle_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            create_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            expire_time: Some(prost_types::Timestamp { seconds: 1_800_000_060, nanos: 0 }),
            ..Session::default()
        };
        Ok(Response::new(SaveResponse { session: Some(session) }))
    }

    async fn destroy(&self, request: Request<DestroyRequest>) -> Result<Response<DestroyResponse>, Status> {
        self.answer("destroy", "", &request).await?;
        Ok(Response::new(DestroyResponse {}))
    }
}
