//! The log: one line a call where it is asked for, none where it is not, and JSON for collectors.

use rustix::process::Signal;
use serde_json::{Value, json as j};
use sessiond_proto::v1::Session;
use sessiond_tests::{Calls, Server, create, replace};

/// Six calls of every kind; the session that they were about, and the code that each was answered with.
async fn calls(server: &Server) -> (Session, [(&'static str, &'static str); 6]) {
    let mut stub = server.stub();
    assert!(stub.look("").await.is_none());
    let session = stub.store(create(j!({}))).await.unwrap();
    stub.look(&session.id).await.unwrap();
    stub.store(replace(&session, j!({"a": 1}))).await.unwrap();
    stub.store(replace(&session, j!({"a": 2}))).await.unwrap_err();
    stub.end(&session.id).await.unwrap();
    let codes =
        [("Open", "Ok"), ("Save", "Ok"), ("Open", "Ok"), ("Save", "Ok"), ("Save", "Aborted"), ("Destroy", "Ok")];
    (session, codes)
}

/// All that it logs from its start to its end, with these calls in between.
async fn log_of(arguments: &[&str], level: &str) -> (String, Session, [(&'static str, &'static str); 6]) {
    let mut server = Server::start_logging(arguments, level).await;
    server.ready().await;
    let (session, codes) = calls(&server).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    (server.log(), session, codes)
}

#[tokio::test]
async fn at_info_no_call_leaves_a_line() {
    for level in ["info", "sessiond=info"] {
        let (log, session, _) = log_of(&[], level).await;
        for word in ["SessionService", "answered", &session.handle] {
            assert!(!log.contains(word), "{log}");
        }
        let first = log.lines().next().unwrap_or_default();
        for word in ["sessiond listens", "address=127.0.0.1:", "store=memory", env!("CARGO_PKG_VERSION")] {
            assert!(first.contains(word), "{first}");
        }
        assert!(log.contains("sessions are kept in memory and die with this process"), "{log}");
    }
}

#[tokio::test]
async fn at_debug_each_call_is_one_line_with_method_handle_code_and_time() {
    let (log, session, codes) = log_of(&[], "sessiond=debug").await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("SessionService")).collect();
    assert_eq!(lines.len(), codes.len(), "{log}");
    for (at, (line, (method, code))) in lines.into_iter().zip(codes).enumerate() {
        assert!(line.contains(&format!("method=/sessiond.v1.SessionService/{method}")), "{line}");
        assert!(line.contains(&format!("code={code} ms=")), "{line}");
        // The first was about no session.
        assert_eq!(line.contains(&format!("handle={}", session.handle)), at > 0, "{line}");
    }
    assert!(!log.contains(&session.id), "an id is never logged");
}

#[tokio::test]
async fn as_json_each_line_is_an_object() {
    let (log, session, codes) = log_of(&["--log-format", "json"], "debug").await;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        for field in ["timestamp", "level", "target"] {
            assert!(line[field].is_string(), "{line}");
        }
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    assert_eq!(lines[0]["fields"]["message"], "sessiond listens");
    assert_eq!(lines[0]["fields"]["store"], "memory");
    let calls: Vec<_> = lines.iter().filter(|line| line["span"]["name"] == "rpc").collect();
    assert_eq!(calls.len(), codes.len(), "{log}");
    for (at, (line, (method, code))) in calls.into_iter().zip(codes).enumerate() {
        assert_eq!(line["span"]["method"], format!("/sessiond.v1.SessionService/{method}"));
        assert_eq!(line["fields"]["code"], code);
        assert!(line["fields"]["ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
        if at > 0 {
            assert_eq!(line["span"]["handle"], session.handle);
        }
    }
}
