//! P8: secrets stay secret. A thousand sessions are lived through, errors included, with everything logged that there is
//! to log; then log and Redis are searched for whatever could open one of them.

use std::{collections::HashMap, fs, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, OpenRequest, SaveRequest, Session};
use sessiond_tests::{Calls, Server, Stub, TestRedis, World, again, change, create, replace, request_id, rounds};
use tokio::{sync::Mutex, task::JoinSet};

use super::key;

/// Sessions, in either form: fewer would say less. Not all need to live through everything, as one such life fills 200 KB
/// of log.
const SESSIONS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_neither_a_dump_of_redis_nor_a_trace_of_all_calls_holds_a_secret() {
    // As it stands in memory, not packed: a search must be able to find what is there.
    let redis = TestRedis::start_with(&["--save", "", "--rdbcompression", "no"]).await;
    let server = Server::start_logging(&["--store", &redis.url()], "trace").await;
    server.ready().await;
    let world = World::of(server, Some(redis));
    let told = live(&world).await;
    let redis = world.redis.as_ref().unwrap();

    let mut dump = Vec::new();
    let mut connection = redis.connection().await;
    let keys: Vec<Vec<u8>> = redis.command(&["KEYS", "*"]).await;
    for key in &keys {
        let value: Vec<u8> = redis::cmd("DUMP").arg(key).query_async(&mut connection).await.unwrap();
        dump.extend([&key[..], b"\n", &value, b"\n"].concat());
    }
    redis.command::<()>(&["SAVE"]).await;
    let file = fs::read(redis.folder().join("dump.rdb")).unwrap();
    let log = world.server.log().into_bytes();
    println!("P8: {} keys, {} bytes of dump, {} of file, {} of log", keys.len(), dump.len(), file.len(), log.len());

    let secrets = Secrets::of(&told);
    for planted in [&told.ids[7], &told.request_ids[7]] {
        let found = secrets.plain.hit(format!("behind {planted}, before").as_bytes());
        assert!(found.is_some(), "what must not stand there would be found");
    }
    for (place, bytes) in [("the keys and values", &dump), ("the file", &file), ("the log", &log)] {
        let handles = told.handles.iter().filter(|handle| find(bytes, handle.as_bytes()).is_some()).take(10).count();
        assert_eq!(handles, 10, "what may stand in {place} is found there: the search works");
        secrets.stand_nowhere_in(place, bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_trace_of_all_calls_on_the_memory_store_holds_no_secret() {
    let server = Server::start_logging(&[], "trace").await;
    server.ready().await;
    let world = World::of(server, None);
    let told = live(&world).await;
    Secrets::of(&told).stand_nowhere_in("the log", world.server.log().as_bytes());
}

/// What the callers were told or sent, and must stand nowhere; and what may.
#[derive(Default)]
struct Told {
    ids: Vec<String>,
    request_ids: Vec<String>,
    handles: Vec<String>,
}

async fn live(world: &World) -> Told {
    let (told, eventful) = (Arc::new(Mutex::new(Told::default())), SESSIONS / rounds(SESSIONS));
    let mut lives = JoinSet::new();
    for _ in 0..8 {
        let (mut stub, told) = (world.stub(), Arc::clone(&told));
        lives.spawn(async move {
            for n in 0..SESSIONS / 8 {
                if n % eventful == 0 {
                    one_life(&mut stub, n, &told).await;
                } else {
                    one_visit(&mut stub, n, &told).await;
                }
            }
        });
    }
    lives.join_all().await;
    if let Some(redis) = &world.redis {
        break_redis(redis, &mut world.stub(), &told).await;
    }
    Arc::into_inner(told).expect("all have ended").into_inner()
}

async fn one_visit(stub: &mut Stub, n: usize, told: &Mutex<Told>) {
    let request_id = request_id();
    let session = stub.store(SaveRequest { request_id: request_id.clone(), ..create(j!({ "n": n })) }).await.unwrap();
    let mut told = told.lock().await;
    told.handles.push(session.handle);
    told.ids.push(session.id);
    told.request_ids.push(request_id);
}

async fn one_life(stub: &mut Stub, n: usize, told: &Mutex<Told>) {
    let ids: Vec<_> = (0..4).map(|_| request_id()).collect();
    let born = SaveRequest { request_id: ids[0].clone(), ..create(j!({ "n": n })) };
    let first = stub.store(born.clone()).await.unwrap();
    stub.store(again(&born)).await.unwrap();
    let opened = stub.look(&first.id).await.unwrap();
    let save = SaveRequest { request_id: ids[1].clone(), ..replace(&opened, j!({ "n": n, "more": "x".repeat(n) })) };
    let second = stub.store(save.clone()).await.unwrap();
    let rotate = SaveRequest {
        rotate: true,
        subject: Some("ada".to_owned()),
        request_id: ids[2].clone(),
        ..replace(&second, j!({}))
    };
    let third = stub.store(rotate.clone()).await.unwrap();
    stub.store(again(&rotate)).await.unwrap();

    // Refusals, and secrets where none belong.
    assert!(stub.look(&first.id).await.is_none());
    assert!(stub.look(&format!("{}=", third.id)).await.is_none());
    assert!(stub.store(again(&save)).await.is_err());
    assert!(stub.store(replace(&opened, j!({}))).await.is_err());
    assert!(stub.store(replace(&Session { etag: third.id.clone(), ..third.clone() }, j!({}))).await.is_err());
    assert!(stub.store(replace(&Session { etag: String::new(), ..third.clone() }, j!({}))).await.is_err());
    assert!(stub.store(SaveRequest { request_id: third.id.clone(), ..replace(&third, j!({})) }).await.is_err());
    let _ = stub.destroy(DestroyRequest { id: third.id.clone(), etag: first.id.clone() }).await.unwrap_err();
    if n.is_multiple_of(2) {
        stub.end(&third.id).await.unwrap();
        assert!(
            stub.store(SaveRequest { request_id: ids[3].clone(), ..change(&third, &["a"], j!({})) }).await.is_err()
        );
    }
    let mut told = told.lock().await;
    told.handles.push(third.handle.clone());
    told.ids.extend([first.id, third.id]);
    told.request_ids.extend(ids);
}

/// A Redis that is full, and one that holds what nobody wrote: the server's errors quote what they were sent.
async fn break_redis(redis: &TestRedis, stub: &mut Stub, told: &Mutex<Told>) {
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    let ids: Vec<_> = (0..4).map(|_| request_id()).collect();
    let save = |n: usize| SaveRequest { request_id: ids[n].clone(), ..change(&session, &["a"], j!({"a": 2})) };

    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(stub.store(save(0)).await.is_err());
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;

    redis.command::<u64>(&["SETRANGE", &key(&session), "1", "\t"]).await;
    assert!(stub.store(save(1)).await.is_err(), "a format of another day");
    assert!(stub.open(OpenRequest { id: session.id.clone(), no_renew: false }).await.is_err());

    redis.command::<u64>(&["DEL", &key(&session)]).await;
    redis.command::<u64>(&["RPUSH", &key(&session), "a list"]).await;
    assert!(stub.store(save(2)).await.is_err());
    assert!(stub.open(OpenRequest { id: session.id.clone(), no_renew: false }).await.is_err());
    assert!(stub.end(&session.id).await.is_err());
    redis.command::<u64>(&["DEL", &key(&session)]).await;

    let mut told = told.lock().await;
    told.ids.push(session.id);
    told.request_ids.extend(ids);
}

/// All spellings of all secrets, each by its first and its last `N` bytes: what a log cut short is found, too.
struct Needles<const N: usize>(HashMap<[u8; N], &'static str>);

impl<const N: usize> Needles<N> {
    fn add(&mut self, what: &'static str, bytes: &[u8]) {
        self.0.insert(*bytes.first_chunk().expect("long enough"), what);
        self.0.insert(*bytes.last_chunk().expect("long enough"), what);
    }

    /// What is found first, and what stands before it.
    fn hit(&self, bytes: &[u8]) -> Option<String> {
        // Most places are ruled out by three bytes, without asking the map.
        let mut begins = vec![false; 1 << 24];
        let after = |key: usize, byte: u8| (key << 8 | usize::from(byte)) & 0xff_ffff;
        self.0.keys().for_each(|needle| begins[needle[..3].iter().fold(0, |key, byte| after(key, *byte))] = true);
        let mut key = 0;
        let at = bytes.iter().enumerate().find_map(|(last, byte)| {
            key = after(key, *byte);
            let begun = if begins[key] { last.checked_sub(2)? } else { return None };
            self.0.contains_key(bytes[begun..].first_chunk()?).then_some(begun)
        })?;
        let before = String::from_utf8_lossy(&bytes[at.saturating_sub(300)..at]);
        Some(format!("{} stands at byte {at}, behind: {before}", self.0[&bytes[at..at + N]]))
    }
}

/// What must stand nowhere.
struct Secrets {
    plain: Needles<12>,
    /// As `Debug` writes bytes.
    numbers: Needles<36>,
}

impl Secrets {
    fn of(told: &Told) -> Self {
        let (mut plain, mut numbered) = (Needles(HashMap::new()), Needles(HashMap::new()));
        for id in &told.ids {
            let (_, secret) = id.split_once('.').expect("handle and secret");
            let raw = URL_SAFE_NO_PAD.decode(secret).expect("base64url");
            plain.add("a secret", secret.as_bytes());
            plain.add("the bytes of a secret", &raw);
            plain.add("the bytes of a secret in hex", hex(&raw).as_bytes());
            numbered.add("a secret in numbers", numbers(secret.as_bytes()).as_bytes());
            numbered.add("the bytes of a secret in numbers", numbers(&raw).as_bytes());
        }
        for request_id in &told.request_ids {
            let raw = uuid::Uuid::try_parse(request_id).expect("a UUID");
            plain.add("a request id", request_id.as_bytes());
            plain.add("a request id without hyphens", raw.as_simple().to_string().as_bytes());
            plain.add("the bytes of a request id", raw.as_bytes());
            numbered.add("a request id in numbers", numbers(request_id.as_bytes()).as_bytes());
            numbered.add("the bytes of a request id in numbers", numbers(raw.as_bytes()).as_bytes());
        }
        Self { plain, numbers: numbered }
    }

    fn stand_nowhere_in(&self, place: &str, bytes: &[u8]) {
        if let Some(hit) = self.plain.hit(bytes).or_else(|| self.numbers.hit(bytes)) {
            panic!("{place}: {hit}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn numbers(bytes: &[u8]) -> String {
    let all: Vec<_> = bytes.iter().map(u8::to_string).collect();
    all.join(", ")
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
