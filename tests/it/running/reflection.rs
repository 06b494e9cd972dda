//! The schema, as grpcurl and its like ask for it.

use serde_json::json as j;
use sessiond_tests::{Calls, Server, create};
use tonic::{Code, Status};

/// Asks by one version of the protocol: which services there are, and which files hold these symbols.
macro_rules! asks_by {
    ($version:ident) => {
        mod $version {
            use tonic::{Status, transport::Channel};
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };

            async fn ask(channel: Channel, question: MessageRequest) -> Result<MessageResponse, Status> {
                let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
                let mut client = ServerReflectionClient::new(channel);
                let answers = client.server_reflection_info(tokio_stream::once(request)).await?;
                let answer = answers.into_inner().message().await?.expect("one answer to one question");
                Ok(answer.message_response.expect("it says something"))
            }

            /// The services listed.
            pub(super) async fn services(channel: Channel) -> Result<Vec<String>, Status> {
                let answer = ask(channel, MessageRequest::ListServices(String::new())).await?;
                let MessageResponse::ListServicesResponse(list) = answer else { panic!("no list: {answer:?}") };
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }

            /// The encoded files that are needed for a symbol; none if it is unknown.
            pub(super) async fn files(channel: Channel, symbol: &str) -> Vec<Vec<u8>> {
                match ask(channel, MessageRequest::FileContainingSymbol(symbol.to_owned())).await {
                    Ok(MessageResponse::FileDescriptorResponse(files)) => files.file_descriptor_proto,
                    answer => panic!("no file for {symbol}: {answer:?}"),
                }
            }
        }
    };
}

asks_by!(v1);
asks_by!(v1alpha);

const SERVICE: &str = "sessiond.v1.SessionService";

#[tokio::test]
async fn reflection_of_both_versions_lists_the_service_and_tells_its_schema() {
    let server = Server::start(&[]).await;
    for services in [v1::services(server.channel()).await, v1alpha::services(server.channel()).await] {
        let services = services.expect("it answers");
        for service in [SERVICE, "grpc.health.v1.Health"] {
            assert!(services.iter().any(|name| name == service), "{service} is not among {services:?}");
        }
    }
    // The service with all its messages; and what an error carries, so that grpcurl shows it in words.
    let symbols = [
        (SERVICE, "SaveRequest"),
        ("sessiond.v1.SessionService.Save", "changed_keys"),
        ("sessiond.v1.ErrorReason", "ERROR_REASON_SESSION_NOT_FOUND"),
        ("google.rpc.ErrorInfo", "ErrorInfo"),
        ("google.rpc.BadRequest", "field_violations"),
        ("grpc.health.v1.Health", "HealthCheckRequest"),
    ];
    for (symbol, holds) in symbols {
        for files in [v1::files(server.channel(), symbol).await, v1alpha::files(server.channel(), symbol).await] {
            let found = files.iter().any(|file| String::from_utf8_lossy(file).contains(holds));
            assert!(found, "{holds} is in no file for {symbol}");
        }
    }
}

#[tokio::test]
async fn no_reflection_hides_the_schema_and_nothing_else() {
    let server = Server::start(&["--no-reflection"]).await;
    let is_hidden = |answer: Result<Vec<String>, Status>| answer.unwrap_err().code() == Code::Unimplemented;
    assert!(is_hidden(v1::services(server.channel()).await));
    assert!(is_hidden(v1alpha::services(server.channel()).await));
    server.ready().await;
    server.stub().store(create(j!({}))).await.expect("the service is there");
}
