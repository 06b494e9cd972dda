//! The rights of a Redis user: the lines of SECURITY.md are enough and hold nothing superfluous, and readiness waits until every
//! right is there that serving needs.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use futures_util::future::join_all;
use serde_json::json as j;
use sessiond_proto::v1::SaveRequest;
use sessiond_tests::{
    Calls, Dice, Server, TestRedis, change, create, eventually,
    faults::topology::{Cluster, Sentinels},
    reason, reserved_port,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::lives;

/// The lines of SECURITY.md that begin so, as the words that redis-cli takes.
fn documented(beginning: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("SECURITY.md");
    let text = fs::read_to_string(path).expect("SECURITY.md");
    let code = text.split('`').flat_map(str::lines).map(str::trim).filter(|line| line.starts_with(beginning));
    let lines: Vec<Vec<String>> = code.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    assert!(!lines.is_empty(), "SECURITY.md has no line {beginning:?}");
    lines
}

/// The documented line that grants this right to `sessiond`.
fn granting(right: &str) -> Vec<String> {
    let lines = documented("ACL SETUSER sessiond");
    lines.into_iter().find(|line| line.iter().any(|word| word == right)).expect("a line grants it")
}

/// The documented line for any one Redis.
fn basic() -> Vec<String> {
    granting("+evalsha")
}

fn is_right(word: &str) -> bool {
    word.starts_with(['+', '&'])
}

/// This line for a user of another name.
fn named(line: &[String], name: &str) -> Vec<String> {
    let mut line = line.to_vec();
    name.clone_into(&mut line[2]);
    line
}

/// This line without one word.
fn without(line: &[String], word: &str) -> Vec<String> {
    let rest: Vec<_> = line.iter().filter(|other| *other != word).cloned().collect();
    assert_eq!(rest.len() + 1, line.len(), "{word} is in the line once");
    rest
}

async fn run(redis: &TestRedis, line: &[String]) {
    let words: Vec<_> = line.iter().map(String::as_str).collect();
    let () = redis.command(&words).await;
}

/// The URL, for this user.
fn as_user(url: &str, name: &str) -> String {
    url.replacen("://", &format!("://{name}:PASSWORD@"), 1)
}

async fn is_ready(server: &Server) -> bool {
    let answer = HealthClient::new(server.channel()).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status == 1)
}

/// Waits until the log names this, while readiness stays off.
async fn not_ready_for(server: &Server, what: &str) {
    eventually(&format!("the log names {what:?}"), async || {
        assert!(!is_ready(server).await, "it is ready without {what}: {}", server.log());
        server.log().contains(what)
    })
    .await;
    assert!(!server.log().contains("ready: sessions"), "it was ready without {what}: {}", server.log());
    assert!(!server.log().contains("PASSWORD"), "a password is in the log");
}

/// What the log says of a missing right.
fn advice(right: &str) -> String {
    format!("grant {right} ")
}

/// Everything that serving does: a session with an odd lifetime is created, opened, saved, rotated, renewed and destroyed, also
/// with scripts that Redis has forgotten.
async fn serves(server: &Server, forget: impl AsyncFnOnce()) {
    let mut stub = server.stub();
    let brief = prost_types::Duration { seconds: 5, nanos: 500_000_000 };
    let created = SaveRequest { idle_timeout: Some(brief), ..create(j!({"a": 1})) };
    let session = stub.store(created).await.unwrap();
    forget().await;
    let session = stub.store(change(&session, &["b"], j!({"b": 2}))).await.unwrap();
    let login = SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..change(&session, &["c"], j!({"c": 3})) };
    let session = stub.store(login).await.unwrap();
    let end = session.expire_time;
    eventually("an Open renews it", async || stub.look(&session.id).await.expect("it lives").expire_time != end).await;
    stub.end(&session.id).await.unwrap();
    assert!(stub.look(&session.id).await.is_none());
}

async fn nothing_was_denied(redis: &TestRedis) {
    let denied: Vec<redis::Value> = redis.command(&["ACL", "LOG"]).await;
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_documented_rights_a_redis_serves() {
    let redis = TestRedis::start().await;
    run(&redis, &basic()).await;
    run(&redis, &granting("+select")).await;
    for database in ["", "/3"] {
        let server = Server::start(&["--store", &(as_user(&redis.url(), "sessiond") + database)]).await;
        server.ready().await;
        serves(&server, async || {
            let () = redis.command(&["SCRIPT", "FLUSH"]).await;
        })
        .await;
    }
    nothing_was_denied(&redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_documented_rights_replicas_confirm() {
    let master = TestRedis::start().await;
    let replica = TestRedis::start_with(&["--save", "", "--replicaof", "127.0.0.1", &master.port().to_string()]).await;
    eventually("it follows", async || {
        replica.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up")
    })
    .await;
    let (basic, wait) = (basic(), granting("+wait"));
    for (name, lines) in [("sessiond", &[&basic, &wait][..]), ("nowait", &[&basic])] {
        for line in lines {
            run(&master, &named(line, name)).await;
        }
    }
    let start =
        async |name| Server::start(&["--store", &as_user(&master.url(), name), "--confirm-replicas", "1"]).await;
    let server = start("sessiond").await;
    server.ready().await;
    serves(&server, async || {}).await;
    nothing_was_denied(&master).await;
    not_ready_for(&start("nowait").await, &advice("+wait")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_right_a_redis_is_not_ready_and_the_log_names_it_until_it_is_granted() {
    let redis = TestRedis::start().await;
    let line = basic();
    let rights: Vec<_> = line.iter().filter(|word| is_right(word)).collect();
    assert!(rights.len() > 10, "{line:?}");
    join_all(rights.into_iter().enumerate().map(async |(number, right)| {
        let name = format!("user{number}");
        run(&redis, &named(&without(&line, right), &name)).await;
        let server = Server::start(&["--store", &as_user(&redis.url(), &name)]).await;
        if right == "+info" {
            // Without it, what is risky cannot be seen: that is said, and serving does not need it.
            server.ready().await;
            assert!(server.log().contains(&advice(right)), "{}", server.log());
            return;
        }
        not_ready_for(&server, &advice(right)).await;
        let () = redis.command(&["ACL", "SETUSER", &name, right]).await;
        lives(&server).await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_pattern_that_does_not_match_the_prefix_is_named() {
    let redis = TestRedis::start().await;
    run(&redis, &basic()).await;
    let url = as_user(&redis.url(), "sessiond");
    let server = Server::start(&["--store", &url, "--key-prefix", "shop:"]).await;
    not_ready_for(&server, "grant ~shop:* or change --key-prefix").await;
    let () = redis.command(&["ACL", "SETUSER", "sessiond", "~shop:*"]).await;
    lives(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_that_was_lost_comes_back_only_with_every_right() {
    let redis_port = reserved_port();
    let mut redis = TestRedis::start_on(redis_port).await;
    run(&redis, &basic()).await;
    let server = Server::start(&["--store", &as_user(&redis.url(), "sessiond")]).await;
    lives(&server).await;
    redis.kill();
    eventually("it is not ready", async || !is_ready(&server).await).await;
    // It has forgotten its users.
    redis.come_back().await;
    run(&redis, &without(&basic(), "+psetex")).await;
    eventually("the log names it", async || {
        assert!(!is_ready(&server).await, "{}", server.log());
        server.log().contains(&advice("+psetex"))
    })
    .await;
    let () = redis.command(&["ACL", "SETUSER", "sessiond", "+psetex"]).await;
    lives(&server).await;
    assert_eq!(server.log().matches("psetex").count(), 1, "said once an outage: {}", server.log());
}

/// While it is ready nothing is probed: the calls themselves report what is missing, and cannot flood the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_later_is_named_by_the_calls_that_need_it() {
    const CALLS: usize = 200;
    let redis = TestRedis::start().await;
    run(&redis, &basic()).await;
    let server = Server::start(&["--store", &as_user(&redis.url(), "sessiond")]).await;
    server.ready().await;
    let mut stub = server.stub();
    let session = stub.store(create(j!({}))).await.unwrap();
    for (right, error) in [("setex", "SETEX"), ("get", "GET"), ("evalsha", "EVALSHA")] {
        let () = redis.command(&["ACL", "SETUSER", "sessiond", &format!("-{right}")]).await;
        let begun = Instant::now();
        let mut open = server.stub();
        for _ in 0..CALLS {
            let status = match right {
                "get" => {
                    open.open(sessiond_proto::v1::OpenRequest { id: session.id.clone(), no_renew: true }).await.err()
                }
                _ => stub.store(create(j!({}))).await.err(),
            };
            assert_eq!(reason(&status.expect("it is denied")), "INTERNAL");
        }
        let spent = begun.elapsed().as_secs() as usize;
        eventually("the log names it", async || {
            let _ = stub.store(create(j!({}))).await;
            let open = sessiond_proto::v1::OpenRequest { id: session.id.clone(), no_renew: true };
            let _ = stub.open(open).await;
            server.log().contains(&format!("may not run {error}: grant +{right} "))
        })
        .await;
        let lines = server.log().matches(&advice(&format!("+{right}"))).count();
        assert!(lines <= spent + 3, "{lines} lines in {spent} s");
        let () = redis.command(&["ACL", "SETUSER", "sessiond", &format!("+{right}")]).await;
    }
    lives(&server).await;
}

/// That it cannot be written to for now is no better anywhere else, and opening works.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_no_writes_for_now_is_ready() {
    let full = TestRedis::start_with(&["--save", "", "--maxmemory", "1"]).await;
    let without_replicas = TestRedis::start_with(&["--save", "", "--min-replicas-to-write", "1"]).await;
    let unconfirmed = TestRedis::start().await;
    for (redis, arguments) in [(&full, &[][..]), (&without_replicas, &[]), (&unconfirmed, &["--confirm-replicas", "1"])]
    {
        run(redis, &basic()).await;
        run(redis, &granting("+wait")).await;
        let url = as_user(&redis.url(), "sessiond");
        Server::start(&[&["--store", &url], arguments].concat()).await.ready().await;
        // What needs no memory and no replica is proven all the same.
        run(redis, &named(&without(&basic(), "+get"), "blind")).await;
        let blind = Server::start(&[&["--store", &as_user(&redis.url(), "blind")], arguments].concat()).await;
        not_ready_for(&blind, &advice("+get")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_documented_rights_a_cluster_serves_and_fails_over_and_without_one_it_is_not_ready() {
    let cluster = Cluster::start(&[]).await;
    let (basic, more) = (basic(), granting("+asking"));
    let everywhere = async |line: &[String]| {
        for number in 0..6 {
            run(cluster.node(number), line).await;
        }
    };
    everywhere(&basic).await;
    everywhere(&more).await;
    let server = Server::start(&["--store", &as_user(&cluster.url(), "sessiond")]).await;
    server.ready().await;
    for number in cluster.masters().await {
        let stats: String = cluster.node(number).command(&["INFO", "commandstats"]).await;
        assert!(stats.contains("cmdstat_setex:calls="), "it was probed: {stats}");
        assert_eq!(cluster.node(number).command::<usize>(&["DBSIZE"]).await, 0, "and nothing is left of it");
    }
    for _ in 0..10 {
        serves(&server, async || {}).await;
    }
    let master = cluster.masters().await[0];
    cluster.failover(cluster.replica_of(master).await).await;
    for _ in 0..10 {
        serves(&server, async || {}).await;
    }
    for number in 0..6 {
        nothing_was_denied(cluster.node(number)).await;
    }

    // Missing everywhere, or at one master alone.
    for right in more.iter().filter(|word| is_right(word)) {
        let name = format!("without{}", right.len());
        everywhere(&named(&basic, &name)).await;
        everywhere(&named(&without(&more, right), &name)).await;
        not_ready_for(&Server::start(&["--store", &as_user(&cluster.url(), &name)]).await, &advice(right)).await;
    }
    everywhere(&named(&basic, "onemaster")).await;
    everywhere(&named(&more, "onemaster")).await;
    let master = cluster.node(cluster.masters().await[1]);
    let () = master.command(&["ACL", "SETUSER", "onemaster", "-getrange"]).await;
    let server = Server::start(&["--store", &as_user(&cluster.url(), "onemaster")]).await;
    not_ready_for(&server, &advice("+getrange")).await;
    let () = master.command(&["ACL", "SETUSER", "onemaster", "+getrange"]).await;
    lives(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_documented_rights_sentinels_serve_and_fail_over_and_without_one_it_is_not_ready() {
    let dice = Dice::new("Sentinels with few rights");
    let mut trio = Sentinels::start(&[], &dice).await;
    for number in 0..3 {
        run(trio.node(number), &basic()).await;
    }
    let on_sentinels = documented("ACL SETUSER sentinels").into_iter().chain(documented("SENTINEL CONFIG SET"));
    for line in on_sentinels {
        trio.on_sentinels(&line).await;
    }
    let mut line = documented("ACL SETUSER default").remove(0);
    // The bench looks at the Sentinels as the same user, and knows no password: any one will do. The rights are as documented.
    line.iter_mut().filter(|word| *word == ">PASSWORD").for_each(|word| "nopass".clone_into(word));
    trio.on_sentinels(&line).await;
    eventually("the Sentinels still know each other", async || trio.is_whole().await).await;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password").to_string_lossy().into_owned();
    fs::write(&file, "PASSWORD\n").expect("it can be written");
    let url = as_user(&trio.url(), "sessiond");
    let arguments = ["--store", &url, "--sentinel-password-file", &file];
    let server = Server::start(&arguments).await;
    server.ready().await;
    serves(&server, async || {}).await;
    let old = trio.master().await.expect("there is a master");
    trio.kill(old);
    trio.master_after(old).await;
    server.ready().await;
    serves(&server, async || {}).await;
    for number in (0..3).filter(|number| *number != old) {
        nothing_was_denied(trio.node(number)).await;
    }

    let rights: Vec<_> = line.iter().filter(|word| is_right(word)).collect();
    assert!(rights.len() > 5, "{line:?}");
    for right in rights {
        trio.on_sentinels(&without(&line, right)).await;
        not_ready_for(&Server::start(&arguments).await, &advice(right)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_probe() {
    let redis = TestRedis::start().await;
    let server = Server::start(&["--store", &redis.url()]).await;
    server.ready().await;
    let stats: String = redis.command(&["INFO", "commandstats"]).await;
    let calls: BTreeMap<_, _> = stats.lines().filter_map(|line| line.split_once(":calls=")).collect();
    for command in ["evalsha", "eval", "get", "getrange", "setex", "psetex", "pexpireat", "pexpiretime"] {
        assert!(calls.contains_key(&format!("cmdstat_{command}")[..]), "{command} was not probed: {stats}");
    }
    assert_eq!(redis.command::<usize>(&["DBSIZE"]).await, 0);
}
