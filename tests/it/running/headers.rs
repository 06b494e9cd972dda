//! Metadata above the limit, as clients see it.

use sessiond_proto::v1::OpenRequest;
use sessiond_tests::{Server, reason};
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};
use tonic_types::StatusExt;

use super::callers::{CHECK, OPEN, go, order, python};

/// The limit, which the README and the message name.
const LIMIT: usize = 16_384;

/// A request with so much metadata, besides what gRPC sends with every call.
fn with_metadata<T>(message: T, bytes: usize) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-filler", "v".repeat(bytes).parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_above_the_limit_is_a_status_that_names_the_limit() {
    let server = Server::start(&[]).await;
    server.ready().await;
    // By every service that there is.
    let calls = async |bytes| -> [Result<(), Status>; 3] {
        let health = HealthCheckRequest::default();
        let schema = tokio_stream::once(ServerReflectionRequest::default());
        [
            server.stub().open(with_metadata(OpenRequest::default(), bytes)).await.map(drop),
            HealthClient::new(server.channel()).check(with_metadata(health, bytes)).await.map(drop),
            ServerReflectionClient::new(server.channel())
                .server_reflection_info(with_metadata(schema, bytes))
                .await
                .map(drop),
        ]
    };
    for bytes in [LIMIT, LIMIT + 4096, 3 * LIMIT] {
        for refusal in calls(bytes).await {
            let refusal = refusal.expect_err("it is too much");
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
            assert!(refusal.message().contains("16384"), "{refusal:?}");
            assert_eq!(reason(&refusal), "INVALID_FIELD");
            assert_eq!(refusal.metadata().get("sessiond-reason").unwrap(), "INVALID_FIELD");
            let info = refusal.get_details_error_info().unwrap();
            assert_eq!(info.metadata.get("limit_bytes").unwrap(), "16384");
        }
    }
    for answer in calls(LIMIT - 1024).await {
        answer.expect("it is within the limit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_and_grpc_go_show_the_limit_too() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let target = server.address().to_string();
    let orders = [
        order(&target, "", OPEN, LIMIT - 1024),
        order(&target, "", OPEN, LIMIT + 4096),
        order(&target, "", CHECK, LIMIT + 4096),
    ];
    let answers = [Some(python(&orders).await), go(&orders).await];
    for answers in answers.into_iter().flatten() {
        assert_eq!(answers[0].code, "OK", "{answers:?}");
        for refusal in &answers[1..] {
            assert_eq!((&refusal.code[..], &refusal.reason[..]), ("InvalidArgument", "INVALID_FIELD"), "{refusal:?}");
            assert!(refusal.message.contains("16384"), "{refusal:?}");
        }
    }
}
