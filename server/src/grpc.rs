//! The wire: one method per call, each three moves: decode, one call of the rules, encode. `edge` is what every call
//! passes on its way in and out, `unary` reads its message and frames the answer, `stream` is its HTTP/2, `wire` turns protobuf
//! into nouns and back, `status` is the one table of codes.

mod edge;
mod status;
pub mod stream;
pub mod unary;
mod value;
mod wire;

use std::{future::ready, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Body;
use sessiond_proto::v1::{
    DestroyRequest, DestroyResponse, OpenRequest, OpenResponse, SaveRequest, SaveResponse,
    session_service_server::SERVICE_NAME,
};
use tonic::Status;

pub use self::edge::EdgeLimits;
pub(crate) use self::edge::has_too_much_metadata;
use self::{
    edge::{Call, Edge},
    unary::Reply,
};
use crate::{
    metrics::Metrics,
    rules::{Error, Limits, SaveCommand, Sessions},
    store::Store,
};

/// The most bytes of one message on the wire, either way.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The most bytes of a call's metadata: of all its headers, each counted as HTTP/2 does, by its name, its value and 32 more.
pub const MAX_METADATA_BYTES: usize = 16 << 10;

/// `sessiond.v1.SessionService` over these sessions, with all that every call passes.
#[derive(Debug)]
pub struct Service<S> {
    sessions: Sessions<S>,
    edge: Edge,
}

impl<S: Store> Service<S> {
    /// Each shard has its own.
    pub fn new(sessions: Sessions<S>, limits: EdgeLimits, metrics: Option<Metrics>) -> Self {
        Self { sessions, edge: Edge::new(limits, metrics) }
    }

    /// Answers a call.
    pub fn answer<B>(self: &Arc<Self>, request: Request<B>) -> impl Future<Output = Response<Reply>> + Send + use<S, B>
    where
        B: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let (head, body) = request.into_parts();
        let service = Arc::clone(self);
        let method = method(head.uri.path());
        self.edge.call(method, &head, move |call| match method {
            "Open" => async move { unary::answer(body, |request| service.open(&call, request)).await }.boxed(),
            "Save" => async move { unary::answer(body, |request| service.save(&call, request)).await }.boxed(),
            "Destroy" => async move { unary::answer(body, |request| service.destroy(&call, request)).await }.boxed(),
            _ => ready(Reply::refusal(status::no_method())).boxed(),
        })
    }

    async fn open(&self, call: &Call, request: OpenRequest) -> Result<OpenResponse, Status> {
        let Some(id) = wire::id(&request.id) else { return Ok(wire::opened(None)) };
        call.names(id.handle);
        let session = self.sessions.open(&call.app, id, !request.no_renew, call.attempt).await;
        session.map(wire::opened).map_err(|error| self.refusal(error))
    }

    async fn save(&self, call: &Call, request: SaveRequest) -> Result<SaveResponse, Status> {
        let command = read_save(request, self.sessions.limits())?;
        command.handle().into_iter().for_each(|handle| call.names(handle));
        let session = self.sessions.save(&call.app, command, call.attempt).await;
        let session = session.inspect(|session| call.names(session.id.handle));
        session.map(wire::saved).map_err(|error| self.refusal(error))
    }

    async fn destroy(&self, call: &Call, request: DestroyRequest) -> Result<DestroyResponse, Status> {
        let (id, expected) = (wire::id(&request.id), wire::expected(&request.etag));
        id.iter().for_each(|id| call.names(id.handle));
        let gone = self.sessions.destroy(&call.app, id, expected, call.attempt).await;
        gone.map(|()| DestroyResponse {}).map_err(|error| self.refusal(error))
    }

    fn refusal(&self, error: Error) -> Status {
        status::of(error, self.sessions.limits())
    }
}

/// Reads what a Save asks for. Public only for the test that compares what different protobuf libraries read in its data.
///
/// # Errors
/// INVALID_ARGUMENT, with each wrong field.
#[doc(hidden)]
pub fn read_save(request: SaveRequest, limits: &Limits) -> Result<SaveCommand, Status> {
    wire::save(request, limits).map_err(status::unreadable)
}

/// What a path says behind the service's name, if it is a path of ours.
pub(crate) fn within_service(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(SERVICE_NAME)?.strip_prefix('/')
}

/// The method that a path names, as it is counted: what callers make up has one name.
fn method(path: &str) -> &'static str {
    let name = within_service(path);
    ["Open", "Save", "Destroy"].into_iter().find(|method| Some(*method) == name).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_callers_make_up_has_one_name() {
        for path in ["/Open", "/x/Open", "sessiond.v1.SessionService/Open", "/sessiond.v1.SessionService//Open"] {
            assert_eq!(super::method(path), "other");
        }
        for (path, named) in [
            ("Open", "Open"),
            ("Save", "Save"),
            ("Destroy", "Destroy"),
            ("open", "other"),
            ("", "other"),
            ("x/Open", "other"),
        ] {
            assert_eq!(super::method(&format!("/sessiond.v1.SessionService/{path}")), named);
        }
    }
}
