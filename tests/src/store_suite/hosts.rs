//! The stores to test, each with its time and a look behind its scenes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sessiond::{
    clock::ManualClock,
    session::{ShortMark, Time, millis},
    store::{
        Claim, REPEAT_WINDOW, Save, TOMBSTONE,
        memory::MemoryStore,
        redis::{RedisOptions, RedisStore, RedisUrl, keys},
    },
};

use super::{Host, Visitor};
use crate::{PATIENCE, TestRedis, poll_pause};

/// The memory store, on a clock that moves when it is told to.
#[derive(Debug)]
pub struct MemoryHost {
    clock: Arc<ManualClock>,
    store: MemoryStore,
}

impl Host for MemoryHost {
    type Store = MemoryStore;

    async fn start() -> Self {
        // Any moment will do that is later than every span a test counts back.
        let clock = Arc::new(ManualClock::new(Time(1_700_000_000_000)));
        Self { store: MemoryStore::new(Arc::clone(&clock) as _, 1 << 30), clock }
    }

    fn store(&self) -> MemoryStore {
        self.store.clone()
    }

    async fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }

    async fn outlive_window(&self, _: &Claim) {
        self.clock.advance(REPEAT_WINDOW + Duration::from_millis(1));
    }

    async fn outlive_tombstone(&self, _: &Claim) {
        self.clock.advance(TOMBSTONE);
    }

    async fn others_saved(&self, claim: &Claim, marks: &[ShortMark]) {
        let visitor = Visitor { store: self.store(), claim: claim.clone() };
        for mark in marks {
            visitor.stored(Save { mark: *mark, ..visitor.keep() }).await;
        }
    }

    async fn entries(&self) -> usize {
        self.store.entries()
    }
}

/// The Redis store, on a Redis of its own.
pub struct RedisHost {
    /// The Redis.
    pub redis: TestRedis,
    /// A plain connection to it, for looking behind the scenes.
    pub connection: redis::aio::MultiplexedConnection,
}

impl RedisHost {
    /// What stands before every key.
    pub const PREFIX: &str = "session:";

    /// Where a session's record lies.
    pub fn key(claim: &Claim) -> String {
        keys::session(Self::PREFIX, &claim.app, claim.handle)
    }

    /// What Redis's clock shows.
    pub async fn now(&self) -> Time {
        redis_time(&mut self.connection.clone()).await
    }

    /// Where in a record the time of the last mint lies (six bytes).
    const MINT_TIME: usize = 138;

    /// Where its version lies (six bytes).
    const VERSION: usize = 18;

    /// Where the lengths of its tagged fields and its subject and the number of its marks lie (two bytes each).
    const LENGTHS: usize = 150;

    /// A session's record, byte for byte.
    pub async fn record(&self, claim: &Claim) -> Vec<u8> {
        redis::cmd("GET").arg(Self::key(claim)).query_async(&mut self.connection.clone()).await.expect("Redis answers")
    }

    /// Puts another record in its place.
    pub async fn set_record(&self, claim: &Claim, record: &[u8]) {
        let mut set = redis::cmd("SET");
        set.arg(Self::key(claim)).arg(record).arg("KEEPTTL");
        set.exec_async(&mut self.connection.clone()).await.expect("Redis answers");
    }
}

/// Changes a big-endian number in a record.
fn edit(bytes: &mut [u8], change: impl FnOnce(u64) -> u64) {
    let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let changed = change(number).to_be_bytes();
    bytes.copy_from_slice(&changed[changed.len() - bytes.len()..]);
}

/// What a Redis's clock shows.
pub async fn redis_time(connection: &mut redis::aio::MultiplexedConnection) -> Time {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await.expect("Redis tells the time");
    Time(seconds * 1000 + micros / 1000)
}

/// Waits until a Redis's clock has moved on by this span.
pub async fn redis_pass(connection: &mut redis::aio::MultiplexedConnection, span: Duration) {
    // And a little more: Redis shows a key in its last millisecond, and counts a TTL from a view of now that is at times
    // some milliseconds late.
    let span = span + Duration::from_millis(20);
    let (until, patience) = (redis_time(connection).await.after(span), Instant::now() + span + PATIENCE);
    while redis_time(connection).await < until {
        assert!(Instant::now() < patience, "Redis's clock moves");
        poll_pause().await;
    }
}

impl Host for RedisHost {
    type Store = RedisStore;

    async fn start() -> Self {
        let redis = TestRedis::start().await;
        Self { connection: redis.connection().await, redis }
    }

    fn store(&self) -> RedisStore {
        let url: RedisUrl = self.redis.url().parse().expect("a Redis URL");
        RedisStore::open(&url, &RedisOptions::default())
    }

    async fn pass(&self, span: Duration) {
        redis_pass(&mut self.connection.clone(), span).await;
    }

    /// Nobody waits a minute: the record is made to look as if it had been minted before the window.
    async fn outlive_window(&self, claim: &Claim) {
        let minted = self.now().await.before(REPEAT_WINDOW + Duration::from_millis(1));
        let mut edit = redis::cmd("SETRANGE");
        edit.arg(Self::key(claim)).arg(Self::MINT_TIME).arg(&minted.0.to_be_bytes()[2..]);
        edit.exec_async(&mut self.connection.clone()).await.expect("the record is edited");
    }

    /// The tombstone's end comes now.
    async fn outlive_tombstone(&self, claim: &Claim) {
        let key = Self::key(claim);
        let mut connection = self.connection.clone();
        let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.expect("Redis answers");
        let whole = i64::try_from(millis(TOMBSTONE)).expect("a minute");
        assert!((whole - 5_000..=whole).contains(&left), "a tombstone stands for a minute, not {left} ms");
        redis::cmd("PEXPIRE").arg(&key).arg(0).exec_async(&mut connection).await.expect("Redis answers");
    }

    async fn others_saved(&self, claim: &Claim, marks: &[ShortMark]) {
        let (mut record, now) = (self.record(claim).await, self.now().await);
        let added = marks.len() as u64;
        edit(&mut record[Self::VERSION..Self::VERSION + 6], |version| version + added);
        let mut lengths = [0; 3];
        for (number, length) in lengths.iter_mut().enumerate() {
            let at = Self::LENGTHS + 2 * number;
            *length = usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
        }
        edit(&mut record[Self::LENGTHS + 4..Self::LENGTHS + 6], |count| count + added);
        let slots: Vec<u8> =
            marks.iter().rev().flat_map(|mark| mark.0.into_iter().chain(now.0.to_be_bytes()[2..].to_vec())).collect();
        let ring = Self::LENGTHS + 6 + lengths[0] + lengths[1];
        record.splice(ring..ring, slots);
        self.set_record(claim, &record).await;
    }

    async fn entries(&self) -> usize {
        redis::cmd("DBSIZE").query_async(&mut self.connection.clone()).await.expect("Redis answers")
    }
}
