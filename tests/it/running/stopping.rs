//! SIGTERM and Ctrl-C: not ready, no new connections, the calls under way end, exit code 0.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::process::Signal;
use serde_json::json as j;
use sessiond_proto::v1::{OpenRequest, Session};
use sessiond_tests::{Calls, Server, Stub, TestRedis, World, change, create, eventually, json, on_both_stores};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};
use tonic::{Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use super::health::{READINESS, watch};
use crate::raw;

on_both_stores!(told_to_stop_it_ends_soon_and_well, a_call_under_way_ends_before_the_server_does,);

mod with_a_short_drain {
    use super::*;
    on_both_stores!(
        with ["--drain", "1s"],
        a_connection_that_never_says_a_word_holds_no_stop,
        a_call_that_never_ends_holds_no_stop_longer_than_the_drain,
    );
}

/// Much less than the default drain.
const SOON: Duration = Duration::from_secs(8);

async fn told_to_stop_it_ends_soon_and_well(world: World) {
    let mut server = world.server;
    for signal in [Signal::TERM, Signal::INT] {
        server.ready().await;
        // Connections that stay open and idle, as callers have them.
        let mut stubs = [server.stub(), server.stub(), server.stub()];
        for stub in &mut stubs {
            stub.store(create(j!({}))).await.unwrap();
        }
        let mut watches = Vec::new();
        for name in READINESS.iter().chain(&["liveness"]) {
            let mut told = watch(&server, name).await;
            assert_eq!(told.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
            watches.push((*name, told));
        }

        let stopping = Instant::now();
        server.signal(signal);
        for (name, mut told) in watches {
            let mut last = None;
            // The end of the stream comes before the end of its connection, which would be an error.
            while let Some(answer) = told.message().await.unwrap_or_else(|error| panic!("{name}: {error}")) {
                last = Some(answer.status());
            }
            if name != "liveness" {
                assert_eq!(last, Some(ServingStatus::NotServing), "{name:?} is told before its watch ends");
            }
        }
        assert_eq!(server.ended().await, Some(0), "by {signal:?}");
        assert!(stopping.elapsed() < SOON, "{:?} to end with nothing to do", stopping.elapsed());
        assert!(server.log().lines().last().unwrap_or_default().ends_with("stopped"), "{}", server.log());

        let store = world.redis.as_ref().map_or("memory".to_owned(), TestRedis::url);
        server = Server::start(&["--store", &store]).await;
    }
}

/// A Save whose head is there and whose message is not: under way for as long as the test likes.
struct HalfSave {
    message: mpsc::Sender<Vec<u8>>,
    answer: JoinHandle<Result<Bytes, Status>>,
}

impl HalfSave {
    async fn begin(server: &Server) -> Self {
        let channel = server.channel();
        let (message, messages) = mpsc::channel(1);
        let (tell, told) = oneshot::channel();
        let messages = Asked { messages, tell: Some(tell) };
        let answer = tokio::spawn(raw::stream(channel.clone(), "Save", Request::new(messages)));
        told.await.expect("the message is asked for, which is after its head was sent");
        // On one connection heads come in order: once this is answered, the server has the one before it.
        Stub::new(channel).open(OpenRequest::default()).await.unwrap();
        Self { message, answer }
    }
}

/// Messages that tell when the first of them is asked for.
struct Asked {
    messages: mpsc::Receiver<Vec<u8>>,
    tell: Option<oneshot::Sender<()>>,
}

impl tokio_stream::Stream for Asked {
    type Item = Vec<u8>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(());
        }
        self.messages.poll_recv(context)
    }
}

async fn a_call_under_way_ends_before_the_server_does(world: World) {
    let mut server = world.server;
    let half = HalfSave::begin(&server).await;
    server.signal(Signal::TERM);
    eventually("it says that it stops", async || server.log().contains("stopping: not ready any more")).await;
    eventually("no new connection is taken", async || TcpStream::connect(server.address()).await.is_err()).await;

    // A session, in it data.
    let save = raw::bytes(1, raw::bytes(2, raw::entry("a", raw::text("kept"))));
    half.message.send(save).await.unwrap();
    drop(half.message);
    let answer = half.answer.await.unwrap().expect("the call ends well");
    assert!(!answer.is_empty());
    assert_eq!(server.ended().await, Some(0));
    if let Some(redis) = &world.redis {
        assert_eq!(redis.command::<usize>(&["DBSIZE"]).await, 1, "what was acknowledged is there");
    }
}

async fn a_connection_that_never_says_a_word_holds_no_stop(world: World) {
    let mut server = world.server;
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    // Connections are taken in order.
    server.stub().open(OpenRequest::default()).await.unwrap();
    let stopping = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    assert!(stopping.elapsed() < SOON, "{:?}, and --drain is 1s", stopping.elapsed());
}

/// A scanner, or a peer that lost power: keepalive begins only behind the first words.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_never_says_a_word_is_closed() {
    use tokio::io::AsyncReadExt;
    let world = World::memory(&[]).await;
    let mut silent = TcpStream::connect(world.server.address()).await.unwrap();
    let mut heard = Vec::new();
    let ended = tokio::time::timeout(sessiond_tests::PATIENCE, silent.read_to_end(&mut heard)).await;
    assert!(ended.is_ok(), "it is still open after {:?}", sessiond_tests::PATIENCE);
}

async fn a_call_that_never_ends_holds_no_stop_longer_than_the_drain(world: World) {
    let mut server = world.server;
    let half = HalfSave::begin(&server).await;
    let stopping = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    assert!(stopping.elapsed() < SOON, "{:?}, and --drain is 1s", stopping.elapsed());
    half.answer.await.unwrap().expect_err("it was cut");
}

#[tokio::test]
async fn a_redis_that_is_silent_holds_no_stop() {
    let mut world = World::redis(&[]).await;
    let mut stub = world.stub();
    let session = stub.store(create(j!({}))).await.unwrap();
    world.redis.as_ref().unwrap().signal(Signal::STOP);
    let waiting = tokio::spawn(async move { stub.store(change(&session, &["a"], j!({"a": 1}))).await });
    let stopping = Instant::now();
    world.server.signal(Signal::TERM);
    assert_eq!(world.server.ended().await, Some(0));
    assert!(stopping.elapsed() < SOON, "{:?} to end", stopping.elapsed());
    waiting.await.unwrap().expect_err("nobody answered");
    world.redis.as_ref().unwrap().signal(Signal::CONT);
}

/// Promise P1 across a stop: what was acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_acknowledged_save() {
    const CALLERS: usize = 8;
    const SAVES: usize = 400;
    let mut world = World::redis(&[]).await;
    let saved = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    let mut sessions: Vec<Session> = Vec::new();
    for caller in 0..CALLERS {
        let mut stub = world.stub();
        // Two callers each share a session, so that Saves also meet.
        if caller % 2 == 0 {
            sessions.push(stub.store(create(j!({}))).await.unwrap());
        }
        let (session, saved) = (sessions[caller / 2].clone(), Arc::clone(&saved));
        callers.spawn(async move {
            let mut kept = Vec::new();
            for save in 0..SAVES {
                let tag = format!("{caller}-{save}");
                if stub.store(change(&session, &[&tag], j!({&tag: true}))).await.is_err() {
                    return (session, kept, true);
                }
                saved.fetch_add(1, Ordering::Relaxed);
                kept.push(tag);
            }
            (session, kept, false)
        });
    }
    eventually("there is load", async || saved.load(Ordering::Relaxed) >= 40 * CALLERS).await;
    world.server.signal(Signal::TERM);
    assert_eq!(world.server.ended().await, Some(0));

    let again = Server::start(&["--store", &world.redis.as_ref().unwrap().url()]).await;
    again.ready().await;
    let mut stub = again.stub();
    let (mut cut, mut looked_up) = (0, 0);
    while let Some(caller) = callers.join_next().await {
        let (session, kept, was_cut) = caller.unwrap();
        let data = json(&stub.look(&session.id).await.expect("the session is there").data.unwrap());
        let lost: Vec<_> = kept.iter().filter(|tag| data.get(tag) != Some(&j!(true))).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        cut += usize::from(was_cut);
        looked_up += kept.len();
    }
    assert!(cut > 0, "the stop came while callers were saving");
    println!("{looked_up} acknowledged Saves are there; {cut} of {CALLERS} callers were cut off");
}
