//! How the service is asked, and how a caller waits: all in which the client for tokio and the blocking one differ.

use std::time::{Duration, Instant};

use sessiond_proto::v1::{
    DestroyRequest, DestroyResponse, OpenRequest, OpenResponse, SaveRequest, SaveResponse,
    session_service_client::SessionServiceClient,
};
use tokio::time::timeout_at;
use tonic::{Request, Response, Status, metadata::AsciiMetadataValue, transport::Channel};

use crate::Error;

/// What carries the calls.
pub(crate) trait Transport: Sized + Send + Sync + 'static {
    /// What leads to one server.
    type Channel: Send + Sync + 'static;

    /// Asks once.
    async fn ask<Q: Question>(
        &self,
        channel: &Self::Channel,
        question: &Q,
        head: Head<'_>,
    ) -> Result<Q::Answer, Trouble>;

    /// Waits no longer than until then.
    async fn within<A>(&self, until: Instant, future: impl Future<Output = A>) -> Option<A>;

    /// # Errors
    /// When the wait is to end early, and the call with it.
    async fn sleep_until(&self, then: Instant) -> Result<(), Error>;
}

/// A request of the service.
pub(crate) trait Question: prost::Message + Clone {
    type Answer: prost::Message + Default;

    /// Where it goes.
    #[cfg(feature = "blocking")]
    const PATH: &'static str;

    async fn ask(request: Request<Self>, stub: SessionServiceClient<Channel>)
    -> Result<Response<Self::Answer>, Status>;
}

macro_rules! question {
    ($request:ty, $response:ty, $method:ident, $path:literal) => {
        impl Question for $request {
            type Answer = $response;

            #[cfg(feature = "blocking")]
            const PATH: &'static str = concat!("/sessiond.v1.SessionService/", $path);

            async fn ask(
                request: Request<Self>,
                mut stub: SessionServiceClient<Channel>,
            ) -> Result<Response<Self::Answer>, Status> {
                stub.$method(request).await
            }
        }
    };
}

question!(OpenRequest, OpenResponse, open, "Open");
question!(SaveRequest, SaveResponse, save, "Save");
question!(DestroyRequest, DestroyResponse, destroy, "Destroy");

/// What is said with every call.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// When the caller stops waiting.
    pub(super) until: Instant,
    /// How often it was tried before.
    pub(super) attempts: u32,
    pub(super) token: Option<&'a AsciiMetadataValue>,
}

impl Head<'_> {
    pub(super) fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The header that tells how often a call was tried before (gRFC A6); the service then looks further back for the first
/// attempt.
pub(super) const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// Why there is no answer to make use of.
pub(crate) enum Trouble {
    /// Somebody said so, or the network did.
    Status(Status),
    /// It did not come in time.
    Deadline,
    /// The caller waits no longer.
    #[cfg(feature = "blocking")]
    Interrupted(std::io::Error),
}

/// tonic's channels, on the tokio runtime of who calls.
pub(super) struct Channels;

impl Transport for Channels {
    type Channel = Channel;

    async fn ask<Q: Question>(&self, channel: &Channel, question: &Q, head: Head<'_>) -> Result<Q::Answer, Trouble> {
        let mut request = Request::new(question.clone());
        request.set_timeout(head.time_left());
        let headers = request.metadata_mut();
        if head.attempts > 0 {
            headers.insert(PREVIOUS_ATTEMPTS, head.attempts.into());
        }
        if let Some(token) = head.token {
            headers.insert("authorization", token.clone());
        }
        let asked = Q::ask(request, SessionServiceClient::new(channel.clone()));
        match timeout_at(head.until.into(), asked).await {
            Ok(answer) => answer.map(Response::into_inner).map_err(Trouble::Status),
            Err(_) => Err(Trouble::Deadline),
        }
    }

    async fn within<A>(&self, until: Instant, future: impl Future<Output = A>) -> Option<A> {
        timeout_at(until.into(), future).await.ok()
    }

    async fn sleep_until(&self, then: Instant) -> Result<(), Error> {
        tokio::time::sleep_until(then.into()).await;
        Ok(())
    }
}
