//! Redis is there and cannot serve: it sleeps, runs somebody's script, loads, may not write. Every call that needs it ends
//! by its deadline, and says that it is an outage and when to try again.

use std::{fs, time::Duration};

use rustix::process::Signal;
use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, OpenRequest, Session};
use sessiond_tests::{Calls, Server, Stub, TestRedis, change, create, eventually, reserved_port};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::errors::outages::{is_an_outage, is_one_outage};

/// A Redis that may be put to sleep, and a sessiond on it, with a session.
async fn world(arguments: &[&str]) -> (TestRedis, Server, Stub, Session) {
    let redis = TestRedis::start_on_with(reserved_port(), arguments).await;
    let server = Server::start(&["--store", &redis.url()]).await;
    server.ready().await;
    let mut stub = server.stub();
    let session = stub.store(create(j!({"a": 1}))).await.expect("all is well");
    (redis, server, stub, session)
}

/// Runs a command that keeps Redis from everything else, and waits until it does.
async fn occupy(redis: &TestRedis, command: &[&str]) -> JoinHandle<()> {
    let mut connection = redis.connection().await;
    let mut busy = redis::Cmd::new();
    command.iter().for_each(|part| {
        busy.arg(part);
    });
    let task = tokio::spawn(async move {
        // It answers when it is over, or never.
        let _ = busy.exec_async(&mut connection).await;
    });
    eventually("Redis is busy", async || {
        let ping = redis.try_command::<String>(&["PING"]);
        !matches!(tokio::time::timeout(Duration::from_millis(100), ping).await, Ok(Ok(_)))
    })
    .await;
    task
}

async fn works_again(stub: &mut Stub) {
    eventually("sessiond works again", async || stub.store(create(j!({}))).await.is_ok()).await;
}

#[tokio::test]
async fn p7_a_redis_that_sleeps_is_an_outage() {
    let (redis, server, mut stub, session) = world(&["--save", "", "--enable-debug-command", "local"]).await;
    let sleep = occupy(&redis, &["DEBUG", "SLEEP", "5"]).await;
    is_an_outage(&server, &session.id).await;
    is_an_outage(&server, &session.id).await;
    sleep.await.expect("it ends");
    works_again(&mut stub).await;
}

#[tokio::test]
async fn p7_a_redis_that_runs_somebodys_script_is_an_outage() {
    // From then on Redis says BUSY; before, nothing.
    let (redis, server, mut stub, session) = world(&["--save", "", "--busy-reply-threshold", "3000"]).await;
    let script = occupy(&redis, &["EVAL", "while true do end", "0"]).await;
    is_an_outage(&server, &session.id).await;
    eventually("Redis says BUSY", async || {
        redis.try_command::<String>(&["PING"]).await.is_err_and(|error| error.code() == Some("BUSY"))
    })
    .await;
    is_an_outage(&server, &session.id).await;
    let _: String = redis.command(&["SCRIPT", "KILL"]).await;
    script.await.expect("it ends");
    works_again(&mut stub).await;
}

#[tokio::test]
async fn p7_a_redis_that_loads_is_an_outage() {
    let (mut redis, server, mut stub, session) = world(&["--save", "", "--key-load-delay", "0"]).await;
    for _ in 0..300 {
        stub.store(create(j!({}))).await.expect("all is well");
    }
    let _: String = redis.command(&["SAVE"]).await;
    redis.kill();
    // 20 ms a key, and a look at who asks after every few bytes.
    redis.start_again_with(&["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]);
    eventually("Redis says LOADING", async || {
        redis.try_command::<String>(&["PING"]).await.is_err_and(|error| error.code() == Some("LOADING"))
    })
    .await;
    is_an_outage(&server, &session.id).await;
    works_again(&mut stub).await;
    assert!(stub.look(&session.id).await.is_some(), "it was kept");
}

/// Every call that writes is refused as an outage, and Opens are answered.
async fn writes_are_an_outage(stub: &mut Stub, session: &Session) {
    let writes: [Result<(), Status>; 3] = [
        stub.store(create(j!({}))).await.map(drop),
        stub.store(change(session, &["a"], j!({"a": 2}))).await.map(drop),
        stub.destroy(DestroyRequest { id: session.id.clone(), etag: String::new() }).await.map(drop),
    ];
    for (call, answer) in ["create", "change", "destroy"].iter().zip(writes) {
        is_one_outage(call, answer);
    }
    assert!(stub.look(&session.id).await.is_some(), "whoever only reads is served");
}

#[tokio::test]
async fn p7_a_redis_that_became_a_replica_is_an_outage_for_reads_too() {
    let (redis, server, mut stub, session) = world(&["--save", ""]).await;
    let nobody = reserved_port().to_string();
    let _: String = redis.command(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    eventually("reads are refused", async || {
        let request = OpenRequest { id: session.id.clone(), no_renew: false };
        stub.open(request).await.is_err()
    })
    .await;
    for _ in 0..2 {
        is_an_outage(&server, &session.id).await;
    }
    let _: String = redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    works_again(&mut stub).await;
    assert!(stub.look(&session.id).await.is_some(), "it is still there");
}

#[tokio::test]
async fn p7_a_redis_that_cannot_save_to_its_disk_is_an_outage_for_writes() {
    let (redis, _server, mut stub, session) = world(&["--save", "3600 1000000"]).await;
    // Its folder is gone: so is every wish to save there.
    fs::remove_dir_all(redis.folder()).expect("it can be removed");
    let _: String = redis.command(&["BGSAVE"]).await;
    eventually("Redis says MISCONF", async || {
        let refused = redis.try_command::<String>(&["SET", "probe", "1"]).await;
        refused.is_err_and(|error| error.code() == Some("MISCONF"))
    })
    .await;
    writes_are_an_outage(&mut stub, &session).await;
    let _: String = redis.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await;
    works_again(&mut stub).await;
}

#[tokio::test]
async fn a_frozen_redis_is_told_apart_from_none_by_nobody() {
    let redis = TestRedis::start().await;
    redis.signal(Signal::STOP);
    let server = Server::start(&["--store", &redis.url()]).await;
    is_an_outage(&server, "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef").await;
    redis.signal(Signal::CONT);
    server.ready().await;
}
