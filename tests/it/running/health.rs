//! Readiness follows the store, liveness only the process.

use serde_json::json as j;
use sessiond_tests::{Calls, Server, TestRedis, create, eventually, reserved_port};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

pub(super) const READINESS: [&str; 2] = ["", "sessiond.v1.SessionService"];

fn about(name: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: name.to_owned() }
}

async fn check(server: &Server, name: &str) -> Result<ServingStatus, Status> {
    let answer = HealthClient::new(server.channel()).check(about(name)).await?;
    Ok(answer.into_inner().status())
}

async fn is_alive_and(server: &Server, readiness: ServingStatus) -> bool {
    assert_eq!(check(server, "liveness").await.unwrap(), ServingStatus::Serving, "it lives all the while");
    let [first, second] = READINESS.map(|name| check(server, name));
    (first.await.unwrap(), second.await.unwrap()) == (readiness, readiness)
}

/// What a watcher is told, one status after another.
pub(super) async fn watch(server: &Server, name: &str) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
    HealthClient::new(server.channel()).watch(about(name)).await.expect("it can be watched").into_inner()
}

#[tokio::test]
async fn it_lives_at_once_and_is_ready_when_the_store_has_answered_once() {
    let port = reserved_port();
    let server = Server::start(&["--store", &format!("redis://127.0.0.1:{port}")]).await;
    let mut told = watch(&server, "").await;
    assert_eq!(told.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(is_alive_and(&server, ServingStatus::NotServing).await, "there is no store yet");
    // It has asked in vain by then.
    eventually("it says so", async || server.log().contains("not ready; retrying")).await;
    assert_eq!(server.stub().store(create(j!({}))).await.unwrap_err().code(), Code::Unavailable);
    assert!(is_alive_and(&server, ServingStatus::NotServing).await, "there is still no store");

    let _redis = TestRedis::start_on(port).await;
    eventually("it is ready", async || is_alive_and(&server, ServingStatus::Serving).await).await;
    assert_eq!(told.message().await.unwrap().unwrap().status(), ServingStatus::Serving, "the watcher is told");
    server.stub().store(create(j!({}))).await.unwrap();
}

#[tokio::test]
async fn readiness_falls_when_redis_dies_and_comes_back_with_it() {
    let port = reserved_port();
    let mut redis = TestRedis::start_on(port).await;
    let server = Server::start(&["--store", &redis.url()]).await;
    server.ready().await;
    for _ in 0..2 {
        drop(redis);
        eventually("it is not ready", async || is_alive_and(&server, ServingStatus::NotServing).await).await;
        redis = TestRedis::start_on(port).await;
        eventually("it is ready", async || is_alive_and(&server, ServingStatus::Serving).await).await;
        server.stub().store(create(j!({}))).await.expect("it works again");
    }
}

#[tokio::test]
async fn with_sessions_in_memory_it_is_ready_soon() {
    let server = Server::start(&[]).await;
    eventually("it is ready", async || is_alive_and(&server, ServingStatus::Serving).await).await;
    let unknown = check(&server, "sessiond.v1.NoSuchService").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}
