//! The stores to test, each with its time and a look behind its scenes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sessiond::{
    clock::ManualClock,
    session::{Time, millis},
    store::{
        Claim, REPEAT_WINDOW, TOMBSTONE,
        memory::MemoryStore,
        redis::{RedisOptions, RedisStore, RedisUrl, keys},
    },
};

use super::Host;
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
    const MINT_TIME: usize = 140;
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

    async fn entries(&self) -> usize {
        redis::cmd("DBSIZE").query_async(&mut self.connection.clone()).await.expect("Redis answers")
    }
}
