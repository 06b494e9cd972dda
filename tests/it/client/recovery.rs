//! A service that is not there yet, and one that comes back.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use sessiond_client::Save;
use sessiond_tests::{World, poll_pause, reserved_port};

use super::{
    SessionClient, client_of, id,
    scripted::{Answer, Scripted},
};

/// However long it was away.
const SOON: Duration = Duration::from_secs(1);

/// Listens on this port, once whoever had it before is gone.
async fn listener(port: u16) -> TcpListener {
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return listener,
            Err(_) => poll_pause().await,
        }
    }
}

/// Calls for so long, and every call fails as an outage.
async fn is_out(client: &SessionClient, how_long: Duration) -> usize {
    let since = Instant::now();
    let mut calls = 0;
    while since.elapsed() < how_long {
        let error = client.open(&id()).await.expect_err("nobody is there");
        assert!(error.is_outage());
        calls += 1;
        poll_pause().await;
    }
    calls
}

/// Calls until a call succeeds, and gives how long that took.
async fn is_back(client: &SessionClient) -> Duration {
    let since = Instant::now();
    while client.open(&id()).await.is_err() {
        assert!(since.elapsed() < 10 * SOON, "it does not find back");
        poll_pause().await;
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_service_that_is_not_there_waits_for_it() {
    let port = reserved_port();
    let client = SessionClient::new(&format!("127.0.0.1:{port}")).expect("it is an address");
    client.open(&id()).await.expect_err("nobody is there");
    let _server = Scripted::start_on(listener(port).await, None, |_| Answer::Fine);
    client.open(&id()).await.expect("the first call after that works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_when_it_ends() {
    let port = reserved_port();
    let client = SessionClient::new(&format!("127.0.0.1:{port}")).unwrap();
    for away in [200, 3_000] {
        let server = Scripted::start_on(listener(port).await, None, |_| Answer::Fine);
        println!("found within {:?}", is_back(&client).await);
        drop(server);
        // Connections end a moment after the server was told to.
        while client.open(&id()).await.is_ok() {
            poll_pause().await;
        }
        let failed = is_out(&client, Duration::from_millis(away)).await;
        let _server = Scripted::start_on(listener(port).await, None, |_| Answer::Fine);
        let took = is_back(&client).await;
        println!("away for {away} ms, {failed} calls failed: back within {took:?}");
        assert!(took < SOON, "{took:?}");
    }
}

/// A client in a `static` meets a new runtime with every test of an application.
#[test]
fn a_client_outlives_the_runtime_of_its_first_call() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let elsewhere = tokio::runtime::Runtime::new().expect("a runtime");
    let world = elsewhere.block_on(World::memory(&[]));
    let client = client_of(&world);
    for _ in 0..5 {
        let opened = runtime().block_on(client.open(&id()));
        assert!(opened.expect("every runtime will do").is_none());
    }
}

/// All were gone, and rest for long: the one that is back is found all the same, whichever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_is_enough() {
    let comes_back = async |which: usize| {
        let ports = [reserved_port(), reserved_port(), reserved_port()];
        let client = SessionClient::new(&ports.map(|port| format!("127.0.0.1:{port}")).join(",")).unwrap();
        let failed = is_out(&client, Duration::from_secs(8)).await;
        let _server = Scripted::start_on(listener(ports[which]).await, None, |_| Answer::Fine);
        let took = is_back(&client).await;
        println!("{failed} calls failed in 8 s, server {which} of three came back: found within {took:?}");
        assert!(took < SOON, "{took:?}");
    };
    tokio::join!(comes_back(0), comes_back(1), comes_back(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_is_used_again_at_once() {
    let world = World::memory(&[]).await;
    let client = SessionClient::new(&world.server.address().to_string()).unwrap();
    let session = client_of(&world).save(Save::create()).await.unwrap();
    world.server.signal(Signal::STOP);
    let failed = is_out(&client, Duration::from_secs(3)).await;
    world.server.signal(Signal::CONT);
    let took = is_back(&client).await;
    println!("stood still for 3 s, {failed} calls failed: back within {took:?}");
    assert!(took < SOON, "{took:?}");
    assert!(client.open(session.id()).await.unwrap().is_some(), "everybody is still signed in");
}
