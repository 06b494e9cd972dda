//! Environment variables: what a blank one means, and which one a refusal names.

use std::process::Output;

use clap::CommandFactory;
use serde_json::json as j;
use sessiond::config::Config;
use sessiond_tests::{Calls, Server, TestRedis, command, create, eventually};

/// What docker compose and Helm produce for a value that is not set.
const BLANKS: [&str; 3] = ["", " ", " \t\n"];

/// The variables that may not be blank: without them sessiond would be less safe than was meant.
const NEVER_BLANK: [&str; 6] = [
    "SESSIOND_STORE",
    "SESSIOND_REDIS_PASSWORD_FILE",
    "SESSIOND_SENTINEL_PASSWORD_FILE",
    "SESSIOND_REDIS_CA_FILE",
    "SESSIOND_REDIS_CERT_FILE",
    "SESSIOND_REDIS_KEY_FILE",
];

/// All variables that set a flag.
fn variables() -> Vec<String> {
    let flags = Config::command();
    flags.get_arguments().filter_map(|flag| Some(flag.get_env()?.to_string_lossy().into_owned())).collect()
}

fn refusal(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_variable_means_unset() {
    let may_be_blank: Vec<_> = variables().into_iter().filter(|name| !NEVER_BLANK.contains(&&name[..])).collect();
    assert!(may_be_blank.len() >= 14, "{may_be_blank:?}");
    for blank in BLANKS {
        let redis = TestRedis::start().await;
        let blanks: Vec<_> = may_be_blank.iter().map(|name| (&name[..], blank)).collect();
        let server = Server::listening("127.0.0.1:0", &["--store", &redis.url()], &blanks).await;
        server.ready().await;
        // The defaults of the key prefix and of the idle timeout.
        let session = server.stub().store(create(j!({"a": 1}))).await.unwrap();
        let keys: Vec<String> = redis.command(&["KEYS", "*"]).await;
        assert!(keys.iter().any(|key| key.starts_with("session:") && key.contains(&session.handle)), "{keys:?}");
        assert_eq!(session.idle_timeout.unwrap().seconds, 24 * 3600);
        assert!(!server.log().contains("metrics"), "nobody asked for metrics");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_address_is_the_default_one() {
    let output = command(&["--metrics-listen", "192.0.2.1:1"]).env("SESSIOND_LISTEN", " ").output().unwrap();
    // Whether or not port 50051 is free here: it is what was tried, or the address after it.
    let said = refusal(&output, 1);
    assert!(said.contains("127.0.0.1:50051 (--listen)") || said.contains("192.0.2.1:1 (--metrics-listen)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_log_filter_logs_as_none_does() {
    for blank in BLANKS {
        // It waits for the first line, which is at info.
        Server::start_logging(&[], blank).await;
    }
    let server = Server::start_logging(&[], "sessiond=loud").await;
    eventually("it says so", async || server.log().contains("RUST_LOG")).await;
}

#[test]
fn a_blank_variable_that_is_safer_set_is_refused_by_name() {
    for name in NEVER_BLANK {
        assert!(variables().iter().any(|variable| variable == name), "{name} is no variable any more");
        for blank in BLANKS {
            let output = command(&["--listen", "127.0.0.1:0"]).env(name, blank).output().unwrap();
            let said = refusal(&output, 2);
            assert!(said.contains(&format!("{name} is blank")), "{said}");
        }
    }
    // The flag wins, so what the variable holds does not matter; and help is help.
    for argument in [&["--store", "memory", "--confirm-replicas", "1"][..], &["--store=memory", "--confirm-replicas=1"]]
    {
        let output = command(argument).env("SESSIOND_STORE", "").output().unwrap();
        assert!(refusal(&output, 2).contains("--confirm-replicas is for a Redis"));
    }
    let output = command(&["--help"]).env("SESSIOND_STORE", "").env("SESSIOND_DRAIN", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("SESSIOND_STORE") && help.contains("SESSIOND_DRAIN"), "{help}");
}

#[test]
fn a_refusal_names_the_variable_if_a_variable_was_the_source() {
    /// Variables, arguments, what the refusal says, and the exit code.
    type Case = (&'static [(&'static str, &'static str)], &'static [&'static str], &'static str, i32);
    let cases: [Case; 12] = [
        // Refused by one flag's own rules.
        (&[("SESSIOND_IDLE_TIMEOUT", "0s")], &[], "'SESSIOND_IDLE_TIMEOUT (environment)': must be more than zero", 2),
        (&[("SESSIOND_SHARDS", "many")], &[], "'SESSIOND_SHARDS (environment)'", 2),
        (&[("SESSIOND_LOG_FORMAT", "xml")], &[], "'SESSIOND_LOG_FORMAT (environment)'", 2),
        (&[("SESSIOND_CONFIRM_REPLICAS", "17")], &[], "'SESSIOND_CONFIRM_REPLICAS (environment)'", 2),
        (&[("SESSIOND_STORE", "redis://:hunter2@h:port")], &[], "invalid value for 'SESSIOND_STORE (environment)'", 2),
        // Refused together with others.
        (&[("SESSIOND_IDLE_TIMEOUT", "40d")], &[], "SESSIOND_IDLE_TIMEOUT (environment) (40d) is above --max-idle", 2),
        (
            &[("SESSIOND_MAX_IDLE_TIMEOUT", "1h")],
            &["--idle-timeout", "2h"],
            "--idle-timeout (2h) is above SESSIOND_MAX_IDLE_TIMEOUT (environment) (1h)",
            2,
        ),
        (&[("SESSIOND_REDIS_CA_FILE", "ca.pem")], &[], "SESSIOND_REDIS_CA_FILE (environment) is for a Redis", 2),
        (&[("SESSIOND_STORE", "redis://hunter2@h")], &[], "SESSIOND_STORE (environment) names a user", 2),
        (&[("SESSIOND_REDIS_CERT_FILE", "c.pem")], &[], "SESSIOND_REDIS_CERT_FILE (environment)", 2),
        // Refused when tried.
        (&[("SESSIOND_LISTEN", "nowhere")], &[], "cannot listen on nowhere (SESSIOND_LISTEN (environment))", 1),
        // A flag is named where a flag was the source, whatever the variable says.
        (&[("SESSIOND_IDLE_TIMEOUT", "1h")], &["--idle-timeout=0s"], "'--idle-timeout <TIME>': must be more", 2),
    ];
    for (variables, arguments, says, code) in cases {
        let output = command(arguments).envs(variables.iter().copied()).output().unwrap();
        let said = refusal(&output, code);
        assert!(said.contains(says), "{variables:?} {arguments:?}: not {says:?} but {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_refused_by_name() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    for name in ["SESSIOND_LISTEN", "SESSIOND_IDLE_TIMEOUT", "SESSIOND_STORE"] {
        let output = command(&[]).env(name, OsStr::from_bytes(b"\xff")).output().unwrap();
        let said = refusal(&output, 2);
        assert!(said.contains(&format!("{name} (environment)")) && said.contains("UTF-8"), "{said}");
    }
}
