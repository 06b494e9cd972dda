//! The hot pieces by themselves: what each costs in nanoseconds, so that a change that makes one dearer sees it.
//!
//! Records are read as a real sessiond wrote them to a Redis of this bench's own. What writes them is Lua in Redis: its price is
//! in "Redis CPU" of the large bench.
//!
//! ```sh
//! cargo run --release -p sessiond-bench --bin pieces [-- TEXT]
//! ```
//!
//! Each is run in batches of about a millisecond, and what is printed is the median of the batches, with the least and the
//! most. With TEXT, only those whose name contains it.

use std::{
    env,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use prost::Message;
use sessiond::{
    grpc::unary::{self, Reply},
    session::{App, Data, Handle, KeyChange, MarkBuilder, RequestId, Salt, Secret, SecretHash, SessionId},
    store::redis::read_record,
};
use sessiond_bench::{
    figures::Figure,
    load::{self, Callers, Time, Work},
    plan::HALF,
    run, wire,
    wire::Method,
};
use sessiond_proto::{
    RawStruct,
    v1::{DestroyResponse, OpenRequest, OpenResponse, SaveRequest, Session},
};
use sessiond_tests::World;
use tokio::task::LocalSet;
use tonic::Status;
use uuid::Uuid;

// As sessiond has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 2] = [HALF, 16_384];
const BATCHES: usize = 200;
const BATCH: Duration = Duration::from_millis(1);

/// Whether a piece of this name is asked for.
fn is_asked_for(name: &str) -> bool {
    env::args().nth(1).is_none_or(|text| name.contains(&text))
}

/// Prints what one run of this costs.
fn piece<T>(name: &str, mut run: impl FnMut() -> T) {
    if !is_asked_for(name) {
        return;
    }
    let mut batch = |runs: u32| {
        let begun = Instant::now();
        (0..runs).for_each(|_| drop(black_box(run())));
        begun.elapsed()
    };
    let mut runs = 1;
    while batch(runs) < BATCH {
        runs *= 2;
    }
    let nanos = (0..BATCHES).map(|_| batch(runs).as_secs_f64() * 1e9 / f64::from(runs));
    let Some(Figure { median, low, high }) = Figure::of(nanos) else { return };
    println!("| {name} | {median:.0} | {low:.0}, {high:.0} |");
}

fn main() -> anyhow::Result<()> {
    println!("| piece | ns | from, to |\n|---|---|---|");
    ids();
    for size in SIZES {
        data(size);
        frames(size);
    }
    // Nobody looks into the data, so its size makes no difference.
    for marks in [1, 8] {
        let name = format!("record, ring of {marks}: read");
        // Only then a Redis is started.
        if is_asked_for(&name) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let record = runtime.block_on(LocalSet::new().run_until(record(HALF, marks)))?;
            piece(&name, || read_record(black_box(&record).clone()));
        }
    }
    Ok(())
}

fn ids() {
    let (app, handle) = (App::unnamed(), Handle(Uuid::from_u128(7)));
    let (salt, request) = (Salt([7; 32]), RequestId([7; 16]));
    let mark = || MarkBuilder::new("create", &request).field(&[7; 64]).finish();
    let secret = Secret::mint(&salt, &app, handle, &mark());
    let hash = secret.hash(&app, handle);
    let other = SecretHash([7; 32]);
    let text = SessionId { handle, secret: Secret::mint(&salt, &app, handle, &mark()) }.reveal();
    piece("id: read", || SessionId::parse(black_box(&text)));
    piece("id: refuse what is none", || SessionId::parse(black_box(&text[1..])));
    piece("id: spell", || SessionId::parse(&text).map(|id| id.reveal()));
    piece("secret: hash", || black_box(&secret).hash(&app, handle));
    piece("secret: compare hashes", || black_box(&hash) == black_box(&other));
    piece("id: read, hash and compare", || {
        SessionId::parse(black_box(&text)).is_some_and(|id| id.secret.hash(&app, id.handle) == *black_box(&hash))
    });
    piece("secret: mint", || Secret::mint(black_box(&salt), &app, handle, &mark()));
}

fn data(size: usize) {
    let body = Bytes::from(wire::data(size).encode_to_vec());
    let stored = Data::from_framed(body.clone());
    let key = Bytes::from_static(b"key-4");
    let entry = stored.entries().find(|(entry, _)| entry.key == key).map(|(_, frame)| Bytes::copy_from_slice(frame));
    let change = [KeyChange { key, entry }];
    piece(&format!("data of {size} bytes: read off the wire"), || <RawStruct as Message>::decode(black_box(&body[..])));
    piece(&format!("data of {size} bytes: split into entries"), || black_box(&stored).entries().count());
    piece(&format!("data of {size} bytes: merge one key"), || black_box(&stored).merge(&change));
    let answer = OpenResponse {
        session: Some(Session { id: "i".repeat(65), data: Some(RawStruct::from(body)), ..Session::default() }),
    };
    piece(&format!("data of {size} bytes: write an answer"), || black_box(&answer).encode_to_vec());
}

/// Between a body and an answer: what a call costs beside HTTP/2 and what it is about.
fn frames(size: usize) {
    let id = format!("{:032x}.{}", 7, "A".repeat(32));
    let (open, save) = (wire::open(&id), wire::replace(&id, wire::data(size)));
    let nothing = || std::future::ready(Ok::<_, Status>(DestroyResponse {}));
    if size == SIZES[0] {
        piece("frames: read an Open, answer nothing", || answered(&open, |_: OpenRequest| nothing()));
    }
    piece(&format!("frames: read a Save of {size} bytes, answer nothing"), || {
        answered(&save, |_: SaveRequest| nothing())
    });
    let data = Bytes::from(wire::data(size).encode_to_vec());
    piece(&format!("frames: read an Open, answer {size} bytes"), || {
        // The handler's own work, which is little.
        let session = Session { id: id.clone(), data: Some(RawStruct::from(data.clone())), ..Session::default() };
        answered(&open, |_: OpenRequest| std::future::ready(Ok(OpenResponse { session: Some(session) })))
    });
}

/// Answers a body as sessiond does; how long the answer's message is.
fn answered<M, A, F>(request: &Bytes, handle: impl FnOnce(M) -> F) -> usize
where
    M: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let context = &mut Context::from_waker(Waker::noop());
    let answer = pin!(unary::answer(Full::new(black_box(request).clone()), handle));
    // All of the request is there, and the handler waits for nothing.
    let Poll::Ready(answer) = answer.poll(context) else { unreachable!("it waits for nothing") };
    let Reply::Message(message) = answer.into_body() else { panic!("it was refused") };
    message.len()
}

/// A record as it lies in Redis after so many Saves.
async fn record(size: usize, marks: usize) -> anyhow::Result<Bytes> {
    let world = World::redis(&[]).await;
    let address = world.server.address();
    let id = run::create(address, size, 1).await?.remove(0);
    let save = wire::replace(&id, wire::data(size));
    let saves = Work::once(vec![(Method::Save, save); marks - 1], 0..1024);
    let callers = Callers { connections: 1, in_flight: 1, wander: false };
    let time = Time { warm: Duration::ZERO, run: Duration::from_secs(20) };
    load::run(address, callers, saves, time, || Ok(())).await?;
    let redis = world.redis.as_ref().expect("its world has one");
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).await;
    let record: Vec<u8> = redis.command(&["GET", &keys[0]]).await;
    let record = Bytes::from(record);
    let read = read_record(record.clone()).map(|record| record.ring.slots.len());
    anyhow::ensure!(read == Some(marks), "a record of {marks} marks has {read:?}");
    Ok(record)
}
