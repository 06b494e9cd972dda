//! What answers at the address may not be sessiond at all: then nothing that it says is about a session.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use sessiond_client::{ConfigError, Error, Save};
use sessiond_tests::reserved_port;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Status};

use super::{SessionClient, id, patient, scripted::Scripted, told};

/// Someone who treats every connection so. Ends with the test's runtime.
async fn someone(meets: impl AsyncFn(TcpStream) + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    let meeting = async move {
        loop {
            let (connection, _) = listener.accept().await.expect("somebody comes");
            let meets = meets.clone();
            tokio::task::spawn_local(async move { meets(connection).await });
        }
    };
    tokio::task::spawn_local(meeting);
    address
}

/// None of the calls takes this for an answer about a session.
async fn says_nothing_of_sessions(client: &SessionClient, who: &str) -> Vec<Error> {
    let errors = vec![
        client.open(&id()).await.map(drop).expect_err(who),
        client.save(Save::create()).await.map(drop).expect_err(who),
        client.save(Save::of(&id()).rotate()).await.map(drop).expect_err(who),
        client.destroy(&id()).await.expect_err(who),
    ];
    for error in &errors {
        let about_no_session =
            matches!(error, Error::Unavailable { .. } | Error::Unimplemented(_) | Error::Internal(_));
        assert!(about_no_session, "{who}: {}", told(error));
    }
    errors
}

/// In a set of tasks that need not be `Send`.
async fn locally(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

/// What an HTTP/2 server says first, and then nothing but this.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[tokio::test]
async fn whoever_is_not_sessiond_is_an_outage() {
    locally(async {
        for (who, first, then_closes) in [
            ("one that closes at once", &b""[..], true),
            ("an HTTP/1 server", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", true),
            ("an HTTP/1 server that stays", b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false),
            ("an SMTP server", b"220 mail.example.com ESMTP\r\n", false),
            ("one that sends whatever", &[0xa5; 4_096], false),
            ("one that stops in mid-frame", &SETTINGS[..5], true),
            ("one that greets and goes", SETTINGS, true),
        ] {
            let address = someone(async move |mut connection| {
                let _ = connection.write_all(first).await;
                if !then_closes {
                    // It listens until the other side has enough.
                    while connection.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0) {}
                }
            })
            .await;
            let begun = Instant::now();
            for error in says_nothing_of_sessions(&patient(address), who).await {
                assert!(error.is_outage(), "{who}: {}", told(&error));
            }
            println!("{who}: told within {:?}", begun.elapsed());
            assert!(begun.elapsed() < Duration::from_secs(10), "{who} took {:?}", begun.elapsed());
        }
    })
    .await;
}

#[tokio::test]
async fn one_that_never_speaks_is_an_outage_within_the_deadline() {
    locally(async {
        let silent =
            someone(async |mut connection| while connection.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0) {})
                .await;
        let begun = Instant::now();
        let client = SessionClient::new(&silent.to_string()).unwrap();
        for error in says_nothing_of_sessions(&client, "silence").await {
            assert!(error.is_outage());
        }
        assert!(begun.elapsed() < Duration::from_millis(300 + 500 + 500 + 1_000 + 1_000), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn nobody_at_all_is_an_outage_with_a_cause() {
    let client = patient(format!("127.0.0.1:{}", reserved_port()));
    let begun = Instant::now();
    for error in says_nothing_of_sessions(&client, "nobody").await {
        assert!(error.is_outage() && told(&error).contains("refused"), "{}", told(&error));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "it waited for {:?}", begun.elapsed());
    // RFC 6761: a name that never stands for anything.
    let error = patient("sessiond.invalid:50051").open(&id()).await.unwrap_err();
    assert!(error.is_outage(), "{}", told(&error));
}

#[tokio::test]
async fn other_grpc_services_and_proxies_say_nothing_of_sessions() {
    for code in [
        Code::Unimplemented,
        Code::NotFound,
        Code::Aborted,
        Code::InvalidArgument,
        Code::ResourceExhausted,
        Code::OutOfRange,
        Code::Unknown,
        Code::Internal,
        Code::Unavailable,
    ] {
        let server = Scripted::refusing(Status::new(code, "SESSION_NOT_FOUND"));
        says_nothing_of_sessions(&patient(server.address()), &format!("{code:?}")).await;
    }
}

#[test]
fn what_is_no_address_is_told_so() {
    for wrong in [
        "",
        "sessiond",
        "localhost",
        "http://localhost",
        "redis://a:1",
        "http://a:1/x",
        "http://me@a:1",
        "a:b",
        "a:1,,b:1",
    ] {
        let error = SessionClient::new(wrong).map(drop).expect_err(wrong);
        assert!(matches!(error, ConfigError::Address(_)), "{wrong}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("HOST:PORT") && text.contains("is no address"), "{wrong}: {text}");
    }
    for right in ["localhost:1", "[::1]:1", "http://[::1]:1/", "HTTP://a:1", "https://a:1", "a:1, b:2", " a:1 "] {
        SessionClient::new(right).expect(right);
    }
}
