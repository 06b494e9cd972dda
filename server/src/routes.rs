//! Whom a call goes to. Our own service is found without a router, as nearly every call is for it.

use std::{convert::Infallible, sync::Arc};

use futures_util::{FutureExt, future::Either};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    service::{Service as HttpService, service_fn},
};
use tokio::time::timeout;
use tonic::{body::Body, service::Routes};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service as _;
use tracing::warn;

use crate::{
    grpc::{self, EdgeLimits, Service, unary::Reply},
    store::Store,
};

/// All that a shard answers.
pub(crate) fn routes<S: Store>(
    sessions: Service<S>,
    health: HealthServer<impl Health>,
    limits: EdgeLimits,
    reflection: bool,
) -> impl HttpService<Request<Incoming>, Response = Response<Reply>, Error = Infallible, Future: Send> + Clone + Send {
    let sessions = Arc::new(sessions);
    let others = with_schema(Routes::new(health), reflection).prepare();
    service_fn(move |request: Request<Incoming>| {
        if grpc::within_service(request.uri().path()).is_some() {
            return Either::Left(sessions.answer(request).map(Ok));
        }
        // Until the answer begins: a watcher listens on for as long as it likes.
        let deadline = limits.deadline(request.headers());
        let answer = timeout(deadline, others.clone().call(request.map(Body::new)));
        let answer = answer.map(|answer| match answer {
            Ok(Ok(answer)) => Ok(answer.map(Reply::Others)),
            Ok(Err(never)) => match never {},
            Err(_) => Ok(Reply::late()),
        });
        // Boxed, so that the usual call has no room for it.
        Either::Right(answer.boxed())
    })
}

fn with_schema(routes: Routes, wanted: bool) -> Routes {
    if !wanted {
        return routes;
    }
    let schema = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(sessiond_proto::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl shows the details of an error in words.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    // grpcurl before 1.9 asks v1alpha only.
    match (schema().build_v1(), schema().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            warn!(%error, "no reflection: the schema cannot be read");
            routes
        }
    }
}
