//! What is asked of whoever runs the Redis: looked at when it is first met, and said in the log.

use sessiond_tests::{Calls, Server, TestRedis, create, eventually, reserved_port};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::lives;

#[tokio::test]
async fn a_redis_that_evicts_is_refused_unless_told_otherwise() {
    let redis = TestRedis::start().await;
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let mut server = Server::start(&["--store", &redis.url()]).await;
    assert_eq!(server.ended().await, Some(1));
    let log = server.log();
    assert!(log.contains("set maxmemory-policy noeviction, or start with --allow-eviction"), "{log}");

    let allowed = Server::start(&["--store", &redis.url(), "--allow-eviction"]).await;
    lives(&allowed).await;
    assert!(allowed.log().contains("logs visitors out at random"), "{}", allowed.log());
}

/// The checks wait for the Redis, as everything does. One that changes later ends nothing.
#[tokio::test]
async fn what_comes_late_is_checked_at_first_contact() {
    let port = reserved_port();
    let url = format!("redis://127.0.0.1:{port}");
    let mut late = Server::start(&["--store", &url]).await;
    eventually("it tries on", async || late.log().contains("not ready")).await;
    let mut redis = TestRedis::start_on_with(port, &["--save", "", "--maxmemory-policy", "volatile-ttl"]).await;
    assert_eq!(late.ended().await, Some(1));

    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let server = Server::start(&["--store", &url]).await;
    lives(&server).await;
    redis.kill();
    eventually("it is not ready", async || !is_ready(&server).await).await;
    // As it was started: it evicts again.
    redis.come_back().await;
    lives(&server).await;
    assert!(server.log().contains("the store is not what it was"), "{}", server.log());
}

async fn is_ready(server: &Server) -> bool {
    let answer = HealthClient::new(server.channel()).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status == 1)
}

#[tokio::test]
async fn what_is_a_risk_is_said_and_what_is_none_is_not() {
    let at_risk = TestRedis::start().await;
    let replica_of = ["--save", "", "--replicaof", "127.0.0.1", &at_risk.port().to_string()];
    let replica = TestRedis::start_with(&replica_of).await;
    eventually("it follows", async || {
        replica.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up")
    })
    .await;
    let server = Server::start(&["--store", &at_risk.url()]).await;
    server.ready().await;
    for risk in ["writes no append-only file", "set min-replicas-to-write 1"] {
        assert!(server.log().contains(risk), "{}", server.log());
    }
    let good = TestRedis::start_with(&["--appendonly", "yes"]).await;
    let server = Server::start(&["--store", &good.url()]).await;
    server.ready().await;
    assert!(!server.log().contains("WARN"), "{}", server.log());
    assert!(server.log().contains("found Redis"), "{}", server.log());
}

#[tokio::test]
async fn a_replica_is_no_store_until_it_is_the_master() {
    let master = TestRedis::start().await;
    let replica = TestRedis::start_with(&["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
    let server = Server::start(&["--store", &replica.url()]).await;
    eventually("it says so", async || server.log().contains("it is a replica")).await;
    assert!(!is_ready(&server).await);
    let _: String = replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    lives(&server).await;
    let _: String = replica.command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    let mut stub = server.stub();
    eventually("nothing can be saved", async || stub.store(create(serde_json::json!({}))).await.is_err()).await;
    eventually("it is not ready", async || !is_ready(&server).await).await;
}

#[tokio::test]
async fn who_names_the_wrong_kind_of_redis_is_told_the_right_one() {
    let redis = TestRedis::start().await;
    let cluster = redis.url().replace("redis://", "redis+cluster://");
    let server = Server::start(&["--store", &cluster]).await;
    eventually("it says so", async || server.log().contains("it is not of a cluster: give --store redis://")).await;

    let of_cluster = TestRedis::start_with(&["--cluster-enabled", "yes"]).await;
    let mut server = Server::start(&["--store", &of_cluster.url()]).await;
    assert_eq!(server.ended().await, Some(1));
    assert!(server.log().contains("give --store redis+cluster://"), "{}", server.log());
}
