//! What Prometheus is told, and what it is not.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json as j;
use sessiond_tests::{Calls, Server, create, eventually, replace};

/// What `GET /metrics` answers, head and body.
fn scrape(server: &Server) -> String {
    let (_, rest) = server.log().split_once("metrics_address=").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let address = rest.split_whitespace().next().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: sessiond\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_metrics_tell_methods_and_codes_and_nothing_of_a_session() {
    let server = Server::start(&["--metrics-listen", "127.0.0.1:0"]).await;
    server.ready().await;
    eventually("it tells where", async || server.log().contains("metrics_address=")).await;
    let mut stub = server.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    stub.store(replace(&session, j!({}))).await.unwrap();
    stub.store(replace(&session, j!({}))).await.unwrap_err();
    stub.look(&session.id).await.unwrap();

    let told = scrape(&server);
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    for line in [
        r#"sessiond_call_duration_seconds_count{method="Save",code="Ok"} 2"#,
        r#"sessiond_call_duration_seconds_count{method="Save",code="Aborted"} 1"#,
        r#"sessiond_call_duration_seconds_count{method="Open",code="Ok"} 1"#,
        "sessiond_ready 1",
        "sessiond_build_info",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    assert!(!told.contains(&session.handle), "not even a handle");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_nothing_is_served() {
    let server = Server::start(&[]).await;
    server.ready().await;
    assert!(!server.log().contains("metrics"));
}
