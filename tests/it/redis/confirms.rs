//! `--confirm-replicas`: a Destroy and a new id are acknowledged when a replica has them, and not before. Whoever is not told
//! so repeats, and is told when it is so.

use rustix::process::Signal;
use serde_json::json as j;
use sessiond_proto::v1::SaveRequest;
use sessiond_tests::{
    Calls, Server, Stub, TestRedis, again, change, create, eventually, faults::topology::Cluster, reason, replace,
    request_id,
};
use tonic::Code;

/// A master with one replica, and a service that waits for it, but not for long.
struct Pair {
    master: TestRedis,
    replica: TestRedis,
    server: Server,
}

impl Pair {
    async fn start() -> Self {
        let master = TestRedis::start_with(&["--save", "", "--repl-diskless-sync-delay", "0"]).await;
        let replica =
            TestRedis::start_with(&["--save", "", "--replicaof", "127.0.0.1", &master.port().to_string()]).await;
        eventually("it follows", async || {
            replica.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
        let server = Server::start(&["--store", &master.url(), "--confirm-replicas", "1", "--deadline", "500ms"]).await;
        server.ready().await;
        Self { master, replica, server }
    }

    fn stub(&self) -> Stub {
        self.server.stub()
    }

    /// The replica stands still: what the master has, it has not.
    fn freeze(&self) {
        self.replica.signal(Signal::STOP);
    }

    fn go_on(&self) {
        self.replica.signal(Signal::CONT);
    }
}

/// It is an outage, and not a refusal.
fn is_unconfirmed<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) {
    let status = answer.expect_err("no replica has it");
    assert_eq!((status.code(), &reason(&status)[..]), (Code::Unavailable, "STORE_UNAVAILABLE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_logout_is_acknowledged_when_a_replica_has_it() {
    let pair = Pair::start().await;
    let mut stub = pair.stub();
    let session = stub.store(create(j!({"a": 1}))).await.expect("a create waits for nobody");
    pair.freeze();
    // However often it is asked: the repeats write nothing new, and still must not be taken for confirmed.
    for _ in 0..3 {
        is_unconfirmed(stub.end(&session.id).await);
    }
    assert!(stub.look(&session.id).await.is_none(), "on the master it is gone");
    pair.go_on();
    eventually("the replica has it", async || stub.end(&session.id).await.is_ok()).await;
    let key = format!("session:default:{}", session.handle);
    let on_replica: Vec<u8> = pair.replica.command(&["GET", &key]).await;
    assert!(on_replica.starts_with(b"T"), "the replica has the tombstone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_new_id_is_given_when_a_replica_knows_that_the_old_one_is_dead() {
    let pair = Pair::start().await;
    let mut stub = pair.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    pair.freeze();
    let login = SaveRequest {
        rotate: true,
        subject: Some("ada".to_owned()),
        request_id: request_id(),
        ..replace(&session, j!({"a": 2}))
    };
    is_unconfirmed(stub.store(login.clone()).await);
    for _ in 0..2 {
        is_unconfirmed(stub.store(again(&login)).await);
    }
    assert!(stub.look(&session.id).await.is_none(), "the old id is dead on the master");
    // What is no logout and no new id waits for nobody.
    let other = stub.store(create(j!({}))).await.expect("a create waits for nobody");
    stub.store(change(&other, &["b"], j!({"b": 1}))).await.expect("nor does a Save");
    pair.go_on();
    let mut answer = None;
    eventually("the replica knows", async || {
        answer = stub.store(again(&login)).await.ok();
        answer.is_some()
    })
    .await;
    let answer = answer.expect("it was answered");
    let opened = stub.look(&answer.id).await.expect("the new id opens");
    assert_eq!((opened.subject.as_str(), opened.etag), ("ada", answer.etag), "and it was applied once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_is_answered_without_a_replica() {
    let pair = Pair::start().await;
    let mut stub = pair.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    stub.store(change(&session, &["b"], j!({"b": 1}))).await.unwrap();
    pair.freeze();
    let stale = stub.store(SaveRequest { rotate: true, ..replace(&session, j!({})) }).await.unwrap_err();
    assert_eq!(reason(&stale), "SESSION_CHANGED");
    let request = sessiond_proto::v1::DestroyRequest { id: session.id.clone(), etag: session.etag.clone() };
    let stale = stub.destroy(request).await.unwrap_err();
    assert_eq!(reason(&stale), "SESSION_CHANGED");
    stub.end("malformed").await.expect("it is not even asked for");
    let stranger = format!("{}{}", &session.id[..33], "A".repeat(32));
    stub.end(&stranger).await.expect("who proves nothing waits for nobody");
    pair.go_on();
    eventually("it is confirmed", async || stub.end(&session.id).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_master_that_is_deposed_while_a_logout_waits_is_an_outage() {
    let pair = Pair::start().await;
    let mut stub = pair.stub();
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    pair.freeze();
    let logout = tokio::spawn(async move { stub.end(&session.id).await });
    eventually("it waits", async || {
        pair.master.command::<String>(&["INFO", "clients"]).await.contains("blocked_clients:1")
    })
    .await;
    let _: String = pair.master.command(&["REPLICAOF", "127.0.0.1", &pair.replica.port().to_string()]).await;
    is_unconfirmed(logout.await.unwrap());
    pair.go_on();
}

/// The WAIT goes to the node that wrote, whichever that is.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_a_replica_of_the_sessions_own_master_confirms() {
    const SESSIONS: usize = 30;
    let cluster = Cluster::start(&[]).await;
    let server = Server::start(&["--store", &cluster.url(), "--confirm-replicas", "1"]).await;
    server.ready().await;
    let mut stub = server.stub();
    for _ in 0..SESSIONS {
        let session = stub.store(create(j!({}))).await.unwrap();
        let rotated = stub.store(SaveRequest { rotate: true, ..replace(&session, j!({})) }).await.unwrap();
        stub.end(&rotated.id).await.unwrap();
    }
    let mut tombstones = 0;
    for number in 0..6 {
        tombstones += cluster.node(number).command::<usize>(&["DBSIZE"]).await;
    }
    assert_eq!(tombstones, 2 * SESSIONS, "each on its master, and on a replica without having to wait for it");
}

/// Nobody waits on the connection that others use, and few wait at once: the rest are told soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_hold_nobody_up() {
    let pair = Pair::start().await;
    let mut stub = pair.stub();
    let mut sessions = Vec::new();
    for _ in 0..40 {
        sessions.push(stub.store(create(j!({}))).await.unwrap());
    }
    let bystander = stub.store(create(j!({}))).await.unwrap();
    pair.freeze();
    let mut logouts = tokio::task::JoinSet::new();
    for session in &sessions {
        let (mut stub, id) = (pair.stub(), session.id.clone());
        logouts.spawn(async move { stub.end(&id).await });
    }
    let begun = std::time::Instant::now();
    let mut opens = 0;
    while logouts.try_join_next().is_none() {
        stub.look(&bystander.id).await.expect("it opens all the while");
        opens += 1;
    }
    assert!(opens > 10, "{opens} Opens in {:?} beside the logouts", begun.elapsed());
    for answer in logouts.join_all().await {
        is_unconfirmed(answer);
    }
    pair.go_on();
    for session in &sessions {
        eventually("it is confirmed", async || stub.end(&session.id).await.is_ok()).await;
    }
}
