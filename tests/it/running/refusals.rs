//! What sessiond says when it cannot start, and what it never says.

use std::{net::TcpListener, process::Output};

use rustix::process::Signal;
use sessiond_tests::{Server, TestRedis, command, eventually};

const PASSWORD: &str = "hunter2";

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("sessiond runs")
}

/// It ends with this code, says this on stderr and nothing on stdout, and shows no password.
fn refuses(output: &Output, code: i32, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(says), "not {says:?} but {stderr}");
    assert!(output.stdout.is_empty());
    assert!(!stderr.contains(PASSWORD), "{stderr}");
}

#[test]
fn a_refusal_says_what_is_wrong_and_how_to_mend_it() {
    for (arguments, says) in [
        (&["--store", "memcached://host"][..], "expected `memory`, or redis://"),
        (&["--store", ""], "expected `memory`, or redis://"),
        (&["--store", "rediss://host", "--redis-ca-file", "nowhere"], "cannot read nowhere"),
        (&["--store", "redis+sentinel://:hunter2@host"], "names no master: expected redis+sentinel://"),
        (&["--store", "redis://hunter2@host"], "--store names a user and no password"),
        (&["--confirm-replicas", "1"], "--confirm-replicas is for a Redis: give one with --store"),
        (&["--store", "redis://:hunter2@host:port"], "expected redis://[[user]:password@]host[:port][/database]"),
        (&["--store", "redis://:hunter2@host/db"], "expected redis://[[user]:password@]host[:port][/database]"),
        (&["--store", "http://:hunter2@host"], "expected `memory`, or redis://"),
        (&["--idle-timeout", "0s"], "must be more than zero"),
        (&["--max-idle-timeout", "0s"], "must be more than zero"),
        (&["--max-lifetime", "0"], "must be more than zero"),
        (&["--deadline", "0ms"], "must be more than zero"),
        (&["--drain", "0s"], "must be more than zero"),
        (&["--idle-timeout", "soon"], "write for example 30s, 15m or 24h"),
        (
            &["--idle-timeout", "40d"],
            "--idle-timeout (40d) is above --max-idle-timeout (31d): lower the one or raise the other",
        ),
        (&["--max-lifetime", "1h"], "is above --max-lifetime (1h)"),
        (&["--max-idle-timeout", "101d"], "--max-idle-timeout is more than 100d"),
        (&["--max-session-bytes", "2MiB"], "must be from 1B to 900KiB"),
        (&["--shards", "0"], "--shards"),
        (&["--key-prefix", "{a}"], "must have no braces"),
        (&["--log-format", "xml"], "text, json"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["serve-me"], "serve-me"),
    ] {
        refuses(&run(arguments), 2, says);
    }
    // Whether an address will do is found out only by trying.
    for (listen, says) in [
        ("nowhere", "HOST:PORT, for example 127.0.0.1:50051"),
        ("127.0.0.1:70000", "HOST:PORT, for example 127.0.0.1:50051"),
        ("192.0.2.1:50051", "this machine has no such address"),
    ] {
        refuses(&run(&["--listen", listen]), 1, says);
    }
}

#[test]
fn an_address_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address, "--store", "redis://:hunter2@127.0.0.1"]);
    refuses(&output, 1, &format!("cannot listen on {address}"));
    refuses(&output, 1, "something listens there already: stop it, or choose another");
}

#[test]
fn a_variable_is_refused_as_its_flag_is() {
    for (name, value, says) in [
        ("SESSIOND_STORE", "redis://:hunter2@host:port", "expected redis://"),
        ("SESSIOND_STORE", "hunter2", "expected `memory`, or redis://"),
        ("SESSIOND_IDLE_TIMEOUT", "0s", "must be more than zero"),
        ("SESSIOND_IDLE_TIMEOUT", "40d", "is above --max-idle-timeout"),
        ("SESSIOND_SHARDS", "many", "'SESSIOND_SHARDS (environment)'"),
    ] {
        refuses(&command(&[]).env(name, value).output().unwrap(), 2, says);
    }
}

#[test]
fn help_names_every_flag_with_its_variable() {
    let output = command(&["--help"]).env("SESSIOND_STORE", "redis://:hunter2@host").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(!help.contains(PASSWORD), "{help}");
    // A flag, and all that is said of it up to the next.
    let flags: Vec<_> = help.split("\n      --").skip(1).collect();
    assert!(flags.len() >= 12, "{help}");
    for text in flags {
        let (name, _) = text.split_once(char::is_whitespace).unwrap();
        let variable = format!("[env: SESSIOND_{}", name.to_uppercase().replace('-', "_"));
        assert!(text.contains(&variable), "no {variable} in {text}");
        assert!(text.lines().nth(1).is_some_and(|line| line.trim().len() > 20), "nothing is said of --{name}");
    }
    for flag in ["-h, --help", "-V, --version"] {
        assert!(help.contains(flag));
    }
    let version = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert_eq!(version.trim(), format!("sessiond {}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn no_log_shows_the_stores_password_whether_it_is_right_or_wrong() {
    let redis = TestRedis::start().await;
    let address = redis.url().replace("redis://", "");
    let _: String = redis.command(&["CONFIG", "SET", "requirepass", PASSWORD]).await;

    let url = format!("redis://:{PASSWORD}@{address}");
    let mut right = Server::start_logging(&["--store", &url], "trace").await;
    right.ready().await;
    assert!(right.log().contains(&format!("redis://:***@{address}")), "the first line says where sessions are kept");

    let mut wrong = Server::start_logging(&["--store", &format!("redis://ada:x{PASSWORD}@{address}")], "trace").await;
    eventually("it says so", async || wrong.log().contains("not ready; retrying")).await;
    assert!(wrong.log().contains(&format!("redis://ada:***@{address}")));
    for server in [&mut right, &mut wrong] {
        server.signal(Signal::TERM);
        assert_eq!(server.ended().await, Some(0));
        assert!(!server.log().contains(PASSWORD), "the log shows the password");
    }
}

/// redis-rs greets with the password among the arguments, and a server that does not know the command quotes them.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_shows_the_stores_password_even_if_redis_quotes_it() {
    let redis = TestRedis::start_with(&["--rename-command", "HELLO", "", "--save", ""]).await;
    let _: String = redis.command(&["CONFIG", "SET", "requirepass", PASSWORD]).await;
    let url = redis.url().replace("//", &format!("//:{PASSWORD}@"));
    let server = Server::start_logging(&["--store", &url], "trace").await;
    eventually("sessiond says that it cannot ask", async || server.log().contains("not ready")).await;
    assert!(!server.log().contains(PASSWORD), "the password is in the log");
}
