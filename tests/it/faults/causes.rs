//! Why Redis cannot be used: the log line that reports the outage names the address and the last error received. A
//! password is never in it, whatever Redis quotes.

use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use sessiond_tests::{Authority, Server, TestRedis, eventually};

use super::for_a_while;

const PASSWORD: &str = "hunter2-and-more";

/// The most lines that one outage may write: one per distinct cause.
const LINES: usize = 8;

fn outages(server: &Server) -> Vec<String> {
    server.log().lines().filter(|line| line.contains("not ready")).map(str::to_owned).collect()
}

/// Waits until one line that reports the outage has all these parts.
async fn reports(server: &Server, parts: &[&str]) {
    eventually(&format!("the outage is reported with {parts:?}"), async || {
        outages(server).iter().any(|line| parts.iter().all(|part| line.contains(part)))
    })
    .await;
    assert!(!server.log().contains(PASSWORD), "a password is in the log");
}

/// A service on this store never gets ready and reports an outage with the address and all these parts.
async fn cannot_use(url: &str, arguments: &[&str], parts: &[&str]) {
    let address = url.rsplit(['/', '@']).next().expect("a URL has an address");
    let server = Server::start(&[&["--store", url], arguments].concat()).await;
    reports(&server, &[&[address], parts].concat()).await;
    for_a_while(Duration::from_secs(1)).await;
    let lines = outages(&server);
    assert!(lines.len() <= LINES, "{lines:#?}");
    // Whatever was logged of it, nothing says only that the connection is gone.
    assert!(!lines.iter().any(|line| line.contains("connection is lost")), "{lines:#?}");
}

#[tokio::test]
async fn a_redis_with_too_many_clients_is_reported_as_such() {
    let redis = TestRedis::start_with(&["--save", "", "--maxclients", "1"]).await;
    let mut only = None;
    eventually("the only client is in", async || {
        let client = redis::Client::open(redis.url()).expect("a URL");
        only = client.get_multiplexed_async_connection().await.ok();
        only.is_some()
    })
    .await;
    cannot_use(&redis.url(), &[], &["max number of clients reached"]).await;
}

#[tokio::test]
async fn a_running_service_that_finds_too_many_clients_reports_them_when_readiness_is_lost() {
    let redis = TestRedis::start().await;
    let server = Server::start(&["--store", &redis.url()]).await;
    server.ready().await;
    let mut only = redis.connection().await;
    for command in ["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal SKIPME yes"] {
        let mut words = redis::Cmd::new();
        command.split(' ').for_each(|word| {
            words.arg(word);
        });
        words.exec_async(&mut only).await.expect("the command succeeds");
    }
    let address = redis.url().replace("redis://", "");
    reports(&server, &[&address, "max number of clients reached"]).await;
}

/// An address of this machine that is not loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    // Nothing is sent: the kernel only chooses the address that it would send from.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

#[tokio::test]
async fn a_redis_in_protected_mode_is_reported_as_such() {
    let Some(own) = own_address() else {
        println!("skipped: this machine has loopback addresses only, which protected mode accepts");
        return;
    };
    let bound = ["--save", "", "--protected-mode", "yes", "--bind", "127.0.0.1", &own.to_string()];
    let redis = TestRedis::start_with(&bound).await;
    cannot_use(&format!("redis://{own}:{}", redis.port()), &[], &["DENIED", "protected mode"]).await;
}

#[tokio::test]
async fn a_redis_that_wants_a_client_certificate_is_reported_with_its_alert() {
    let authority = Authority::new("ours");
    let (_redis, url) = authority.redis(true).await;
    cannot_use(&url, &["--redis-ca-file", &authority.text("ca.pem")], &["TLS", "CertificateRequired"]).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_reported_as_such() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (_redis, url) = ours.redis(false).await;
    cannot_use(&url, &["--redis-ca-file", &theirs.text("ca.pem")], &["TLS", "invalid peer certificate"]).await;
}

/// Before the handshake Redis cannot say why it closes.
#[tokio::test]
async fn a_redis_with_tls_and_too_many_clients_is_reported_as_one_that_may_have_them() {
    let authority = Authority::new("ours");
    let (redis, url) = authority.redis(false).await;
    let mut only = redis.connection().await;
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxclients").arg(1).exec_async(&mut only).await.expect("the command succeeds");
    cannot_use(&url, &["--redis-ca-file", &authority.text("ca.pem")], &["TLS", "maxclients"]).await;
}

#[tokio::test]
async fn a_plain_client_on_a_tls_port_is_told_to_use_tls() {
    let authority = Authority::new("ours");
    let (_redis, url) = authority.redis(false).await;
    cannot_use(&url.replace("rediss", "redis"), &[], &["rediss://"]).await;
}

#[tokio::test]
async fn a_tls_client_on_a_plain_port_is_told_to_use_none() {
    let redis = TestRedis::start().await;
    cannot_use(&redis.url().replace("redis", "rediss"), &[], &["TLS", "redis://"]).await;
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_one_are_reported_as_such() {
    let redis = TestRedis::start().await;
    let _: String = redis.command(&["CONFIG", "SET", "requirepass", "right"]).await;
    cannot_use(&redis.url(), &[], &["NOAUTH"]).await;
    cannot_use(&redis.url().replace("//", &format!("//:{PASSWORD}@")), &[], &["WRONGPASS"]).await;
}

/// A server without HELLO quotes its arguments, and so the password.
#[tokio::test]
async fn a_server_that_does_not_know_hello_is_reported_without_the_password() {
    let redis = TestRedis::start_with(&["--rename-command", "HELLO", "", "--save", ""]).await;
    let _: String = redis.command(&["CONFIG", "SET", "requirepass", "right"]).await;
    cannot_use(&redis.url().replace("//", &format!("//:{PASSWORD}@")), &[], &["HELLO"]).await;
}

#[tokio::test]
async fn a_replica_is_reported_with_its_address() {
    let primary = TestRedis::start().await;
    let replica = TestRedis::start_with(&["--save", "", "--replicaof", "127.0.0.1", &primary.port().to_string()]).await;
    cannot_use(&replica.url(), &[], &["is a replica"]).await;
}
