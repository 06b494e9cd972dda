//! Addresses to listen on, with and without IPv6.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
};

use sessiond_proto::v1::{OpenRequest, session_service_client::SessionServiceClient};
use sessiond_tests::{Server, eventually, faults::ipv6::Ipv6};
use tonic::transport::Channel;

const BOTH: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether this machine has IPv6. Prints that the test is skipped if not.
fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        eprintln!("SKIPPED: nothing was tried by IPv6, as this machine has none");
    }
    has
}

/// Whether gRPC is served there.
async fn serves(address: IpAddr, server: &Server) -> bool {
    let url = format!("http://{}", SocketAddr::new(address, server.address().port()));
    match Channel::from_shared(url).expect("a URL").connect().await {
        Ok(channel) => SessionServiceClient::new(channel).open(OpenRequest::default()).await.is_ok(),
        Err(_) => false,
    }
}

/// Whether metrics are served there.
async fn counts(address: IpAddr, server: &Server) -> bool {
    eventually("the metrics address is logged", async || server.log().contains("metrics_address=")).await;
    let log = server.log();
    let (_, rest) = log.split_once("metrics_address=").unwrap();
    let listening: SocketAddr = rest.split_whitespace().next().unwrap().parse().unwrap();
    let Ok(mut socket) = TcpStream::connect(SocketAddr::new(address, listening.port())) else { return false };
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: sessiond\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200")
}

const WILDCARDS: [&str; 2] = ["--metrics-listen", "[::]:0"];

#[tokio::test(flavor = "multi_thread")]
async fn the_ipv6_wildcard_is_reached_by_ipv4_and_by_ipv6() {
    if !has_ipv6() {
        return;
    }
    let server = Server::listening("[::]:0", &WILDCARDS, &[]).await;
    for address in BOTH {
        assert!(serves(address, &server).await, "gRPC is not reached by {address}");
        assert!(counts(address, &server).await, "metrics are not reached by {address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ipv6_wildcard_is_reached_by_ipv4_even_where_the_system_keeps_them_apart() {
    if !has_ipv6() {
        return;
    }
    let server = Ipv6::Only.server("[::]:0", &WILDCARDS).await;
    for address in BOTH {
        assert!(serves(address, &server).await, "gRPC is not reached by {address}");
        assert!(counts(address, &server).await, "metrics are not reached by {address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ipv6_wildcard_is_ipv4_alone_on_a_machine_without_ipv6() {
    let server = Ipv6::Absent.server("[::]:0", &WILDCARDS).await;
    assert_eq!(server.address().ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    assert!(serves(BOTH[0], &server).await && counts(BOTH[0], &server).await);
    assert!(server.log().contains("listening on 0.0.0.0 instead of [::]"), "it says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_address_is_served_as_given() {
    if !has_ipv6() {
        return;
    }
    let server = Server::listening("[::1]:0", &["--metrics-listen", "[::1]:0"], &[]).await;
    assert!(serves(BOTH[1], &server).await && counts(BOTH[1], &server).await);
    assert!(!serves(BOTH[0], &server).await, "IPv4 was not asked for");
}

#[test]
fn the_image_and_the_manifest_listen_on_the_ipv6_wildcard() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(read("Dockerfile").contains("ENV SESSIOND_LISTEN=[::]:50051"));
    assert!(
        read("deploy/kubernetes/sessiond.yaml")
            .contains("- name: SESSIOND_LISTEN\n              value: \"[::]:50051\"")
    );
}
