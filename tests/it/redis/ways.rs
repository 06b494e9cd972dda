//! The ways to a Redis: TLS, users, passwords, and what is told where one of them is wrong.

use std::{fs, path::Path};

use sessiond_tests::{Authority, Calls, Dice, Server, TestRedis, create, eventually, faults::topology::Sentinels};

use super::lives;

const PASSWORD: &str = "hunter2-and-more";

/// Waits until the log says why Redis cannot be asked.
async fn says(server: &Server, why: &str) {
    eventually(&format!("it says {why:?}"), async || server.log().contains(why)).await;
    assert!(!server.log().contains(PASSWORD), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_redis_is_one_that_the_authority_knows() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (redis, url) = ours.redis(false).await;
    lives(&Server::start(&["--store", &url, "--redis-ca-file", &ours.text("ca.pem")]).await).await;
    let stranger = Server::start(&["--store", &url, "--redis-ca-file", &theirs.text("ca.pem")]).await;
    says(&stranger, "invalid peer certificate").await;
    let public = Server::start(&["--store", &url]).await;
    says(&public, "invalid peer certificate").await;
    let other_name =
        Server::start(&["--store", &url.replace("127.0.0.1", "localhost"), "--redis-ca-file", &ours.text("ca.pem")])
            .await;
    says(&other_name, "invalid peer certificate").await;
    let plain = Server::start(&["--store", &url.replace("rediss", "redis")]).await;
    says(&plain, "not ready").await;
    drop(redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new("ours");
    let (redis, url) = authority.redis(true).await;
    let (ca, cert, key) = (authority.text("ca.pem"), authority.text("client.pem"), authority.text("client.key"));
    let arguments = ["--store", &url, "--redis-ca-file", &ca];
    let shown = [&arguments[..], &["--redis-cert-file", &cert, "--redis-key-file", &key]].concat();
    lives(&Server::start(&shown).await).await;
    says(&Server::start(&arguments).await, "not ready").await;
    drop(redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_file_may_be_changed_while_it_runs() {
    let redis = TestRedis::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    let set = async |password: &str| {
        let user = format!("ACL SETUSER ada on resetpass >{password} allkeys allchannels allcommands");
        let () = redis.command(&user.split(' ').collect::<Vec<_>>()).await;
        fs::write(&file, format!("{password}\n")).expect("it can be written");
    };
    set(PASSWORD).await;
    let url = redis.url().replace("//", "//ada@");
    let server = Server::start(&["--store", &url, "--redis-password-file", &path(&file)]).await;
    lives(&server).await;

    set(&format!("{PASSWORD}-2")).await;
    // Whoever is connected stays so; the next connections need the new one.
    let () = redis.command(&["CLIENT", "KILL", "USER", "ada"]).await;
    let mut stub = server.stub();
    eventually("it is connected again", async || stub.store(create(serde_json::json!({}))).await.is_ok()).await;
    assert!(!server.log().contains(PASSWORD), "a password is in the log");
}

fn path(file: &Path) -> String {
    file.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_may_ask_for_a_password_of_their_own() {
    let dice = Dice::new("Sentinels with a password");
    let sentinels = Sentinels::start(&[], &dice).await;
    sentinels.require_password(PASSWORD).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).expect("it can be written");
    let url = sentinels.url();
    lives(&Server::start(&["--store", &url, "--sentinel-password-file", &path(&file)]).await).await;
    let without = Server::start(&["--store", &url]).await;
    says(&without, "no Sentinel tells where the master is: 127.0.0.1:").await;
    says(&without, "NOAUTH: a password is required").await;
    let unknown = url.replace("/mymaster", "/another");
    let server = Server::start(&["--store", &unknown, "--sentinel-password-file", &path(&file)]).await;
    says(&server, "the Sentinels know no master named another").await;
}
