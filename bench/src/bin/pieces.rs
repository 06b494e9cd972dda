//! The hot pieces by themselves: what each costs in nanoseconds, so that a change that makes one dearer sees it.
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
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use sessiond::session::{App, Data, Handle, KeyChange, MarkBuilder, RequestId, Salt, Secret, SecretHash, SessionId};
use sessiond_bench::{figures::Figure, wire};
use sessiond_proto::{
    RawStruct,
    v1::{OpenResponse, Session},
};
use uuid::Uuid;

// As sessiond has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: usize = 200;
const BATCH: Duration = Duration::from_millis(1);

/// Prints what one run of this costs.
fn piece<T>(name: &str, mut run: impl FnMut() -> T) {
    if !env::args().nth(1).is_none_or(|text| name.contains(&text)) {
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

fn main() {
    println!("| piece | ns | from, to |\n|---|---|---|");
    ids();
    for size in [512, 16_384] {
        data(size);
    }
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
