//! Whom a call goes to. Our own service is found without a router, as nearly every call is for it.

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt, future::Either};
use tokio::time::timeout;
use tonic::{body::Body, service};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service as _;
use tracing::warn;

use crate::{
    grpc::{
        self, EdgeLimits, Service,
        stream::{Incoming, deliver},
        unary::Reply,
    },
    shard::{Answers, Call, Caller},
    store::Store,
};

/// All that a shard answers.
pub(crate) struct Routes<S> {
    sessions: Arc<Service<S>>,
    others: service::Routes,
    limits: EdgeLimits,
}

impl<S: Store> Routes<S> {
    pub(crate) fn new(
        sessions: Service<S>,
        health: HealthServer<impl Health>,
        limits: EdgeLimits,
        reflection: bool,
    ) -> Self {
        let others = with_schema(service::Routes::new(health), reflection).prepare();
        Self { sessions: Arc::new(sessions), others, limits }
    }
}

impl<S> Clone for Routes<S> {
    fn clone(&self) -> Self {
        Self { sessions: Arc::clone(&self.sessions), others: self.others.clone(), limits: self.limits }
    }
}

impl<S: Store> Answers for Routes<S> {
    fn answer(&self, call: Call, caller: Caller) -> impl Future<Output = ()> + Send + 'static {
        let request = call.map(Incoming::from);
        if grpc::within_service(request.uri().path()).is_some() {
            return Either::Left(deliver(self.sessions.answer(request), caller));
        }
        if grpc::has_too_much_metadata(request.headers()) {
            return Either::Right(deliver(ready(Reply::too_much_metadata()), caller).boxed());
        }
        // Until the answer begins: a watcher listens on for as long as it likes.
        let deadline = self.limits.deadline(request.headers());
        let answer = timeout(deadline, self.others.clone().call(request.map(Body::new)));
        let answer = answer.map(|answer| match answer {
            Ok(Ok(answer)) => answer.map(Reply::Others),
            Ok(Err(never)) => match never {},
            Err(_) => Reply::late(),
        });
        // Boxed, so that the usual call has no room for it.
        Either::Right(deliver(answer, caller).boxed())
    }
}

fn with_schema(routes: service::Routes, wanted: bool) -> service::Routes {
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
