//! The wire: one method per call, each three moves: decode, one call of the rules, encode. `edge` is what every call
//! passes on its way in and out, `wire` turns protobuf into nouns and back, `status` is the one table of codes.

mod edge;
mod status;
mod value;
mod wire;

use sessiond_proto::v1::{
    DestroyRequest, DestroyResponse, OpenRequest, OpenResponse, SaveRequest, SaveResponse,
    session_service_server::{SessionService, SessionServiceServer},
};
use tonic::{Request, Response, Status};

pub use edge::{Edge, EdgeLimits};

use crate::{
    metrics::Metrics,
    rules::{Error, Sessions},
    store::Store,
};

/// The most bytes of one message on the wire, either way.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// `sessiond.v1.SessionService` over these sessions, with all that every call passes.
pub fn service<S: Store>(
    sessions: Sessions<S>,
    limits: EdgeLimits,
    metrics: Option<Metrics>,
) -> Edge<SessionServiceServer<impl SessionService>> {
    let service = SessionServiceServer::new(Handlers { sessions }).max_decoding_message_size(MAX_MESSAGE_BYTES);
    Edge::new(service, limits, metrics)
}

struct Handlers<S> {
    sessions: Sessions<S>,
}

impl<S: Store> Handlers<S> {
    fn refusal(&self, error: Error) -> Status {
        status::of(error, self.sessions.limits())
    }
}

#[tonic::async_trait]
impl<S: Store> SessionService for Handlers<S> {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        let (call, request) = edge::call(request)?;
        let Some(id) = wire::id(&request.id) else { return Ok(wire::opened(None)) };
        call.names(id.handle);
        let session = self.sessions.open(&call.app, id, !request.no_renew, call.attempt).await;
        session.map(wire::opened).map_err(|error| self.refusal(error))
    }

    async fn save(&self, request: Request<SaveRequest>) -> Result<Response<SaveResponse>, Status> {
        let (call, request) = edge::call(request)?;
        let command = wire::save(request, self.sessions.limits()).map_err(status::unreadable)?;
        command.handle().into_iter().for_each(|handle| call.names(handle));
        let session = self.sessions.save(&call.app, command, call.attempt).await;
        let session = session.inspect(|session| call.names(session.id.handle));
        session.map(wire::saved).map_err(|error| self.refusal(error))
    }

    async fn destroy(&self, request: Request<DestroyRequest>) -> Result<Response<DestroyResponse>, Status> {
        let (call, request) = edge::call(request)?;
        let (id, expected) = (wire::id(&request.id), wire::expected(&request.etag));
        id.iter().for_each(|id| call.names(id.handle));
        let gone = self.sessions.destroy(&call.app, id, expected, call.attempt).await;
        gone.map(|()| Response::new(DestroyResponse {})).map_err(|error| self.refusal(error))
    }
}
