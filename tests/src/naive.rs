//! A store as it is written everywhere: GET, change in the process, SETEX; DEL to log out. It is the classic Flask snippet in
//! the shape of our trait, and does its honest best there: it verifies secrets, compares versions, knows the last mark. The
//! suite must fail on it, or the suite proves nothing; see `it/stores.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use sessiond::{
    session::{Data, Handle, Record, Ring, Salt, SecretHash, ShortMark, Time, millis},
    store::{
        Attempt, Change, Claim, Create, Created, Destroyed, Expected, Found, Lifetime, RENEW_PART, Save, Saved, Store,
        StoreError,
    },
};
use tokio::sync::OnceCell;

use crate::store_suite::{Host, RedisHost, redis_pass};

mod served;

pub use served::NaiveServer;

/// Sessions in Redis, read, changed and written by three different commands.
#[derive(Clone)]
pub struct NaiveStore {
    url: String,
    /// Made in the runtime that first uses it, as a connection lives there.
    connection: Arc<OnceCell<MultiplexedConnection>>,
}

impl NaiveStore {
    /// A store that connects when it is first used.
    pub fn open(url: String) -> Self {
        Self { url, connection: Arc::default() }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, StoreError> {
        let connect = async || {
            redis::Client::open(&*self.url).map_err(broken)?.get_multiplexed_async_connection().await.map_err(broken)
        };
        self.connection.get_or_try_init(connect).await.cloned()
    }

    async fn now(&self, attempt: Attempt) -> Result<Time, StoreError> {
        if Instant::now() >= attempt.until {
            return Err(StoreError::Unavailable("too late".to_owned()));
        }
        let (seconds, micros): (u64, u64) =
            redis::cmd("TIME").query_async(&mut self.connection().await?).await.map_err(broken)?;
        Ok(Time(seconds * 1000 + micros / 1000))
    }

    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let value: Option<Vec<u8>> = self.connection().await?.get(key).await.map_err(broken)?;
        Ok(value.map(|value| decode(value.into())))
    }

    async fn set(&self, key: &str, record: &Record, now: Time) -> Result<Found, StoreError> {
        let expire_time = record.expiry(now);
        let left = millis(expire_time.since(now)).max(1);
        let () = self.connection().await?.pset_ex(key, encode(record), left).await.map_err(broken)?;
        Ok(Found { record: record.clone(), expire_time, now })
    }

    async fn expiry(&self, key: &str) -> Result<Time, StoreError> {
        let expiry: i64 =
            redis::cmd("PEXPIRETIME").arg(key).query_async(&mut self.connection().await?).await.map_err(broken)?;
        Ok(Time(expiry.try_into().unwrap_or_default()))
    }
}

impl Store for NaiveStore {
    async fn open(&self, claim: &Claim, attempt: Attempt) -> Result<Option<Found>, StoreError> {
        let (now, key) = (self.now(attempt).await?, RedisHost::key(claim));
        let record = self.get(&key).await?.filter(|record| record.current == claim.hash);
        let Some(record) = record else { return Ok(None) };
        Ok(Some(Found { record, expire_time: self.expiry(&key).await?, now }))
    }

    async fn renew(&self, claim: &Claim, attempt: Attempt) -> Result<(), StoreError> {
        let (now, key) = (self.now(attempt).await?, RedisHost::key(claim));
        let Some(found) = self.open(claim, attempt).await? else { return Ok(()) };
        let renewed = found.record.expiry(now);
        if renewed.since(found.expire_time) * RENEW_PART > renewed.since(now) {
            // As `SESSION_REFRESH_EACH_REQUEST` does it: what was read is written again.
            self.set(&key, &found.record, now).await?;
        }
        Ok(())
    }

    async fn create(&self, create: Create, attempt: Attempt) -> Result<Created, StoreError> {
        let now = self.now(attempt).await?;
        let claim = Claim { app: create.app.clone(), handle: create.handle, hash: create.mint.hash };
        let key = RedisHost::key(&claim);
        if let Some(record) = self.get(&key).await? {
            return Ok(Created::Exists(Found { record, expire_time: self.expiry(&key).await?, now }));
        }
        let record = create.record(now);
        Ok(Created::Stored(self.set(&key, &record, now).await?))
    }

    async fn save(&self, save: Save, attempt: Attempt) -> Result<Saved, StoreError> {
        let (now, key) = (self.now(attempt).await?, RedisHost::key(&save.claim));
        let Some(mut record) = self.get(&key).await?.filter(|record| record.current == save.claim.hash) else {
            return Ok(Saved::Missing);
        };
        if record.ring.newest() == save.mark {
            return Ok(Saved::Repeat(Found { expire_time: self.expiry(&key).await?, record, now }));
        }
        if save.rotate.is_none() && save.subject.as_ref().is_some_and(|subject| *subject != record.subject) {
            return Ok(Saved::SubjectNeedsRotate);
        }
        let merges = matches!(save.change, Change::Merge(_));
        let replaces = matches!(save.change, Change::Replace(_));
        if replaces && save.expected != Expected::Any && !save.expected.is(record.etag()) {
            return Ok(Saved::Conflict);
        }
        record.data = match &save.change {
            Change::Keep => record.data,
            Change::Replace(data) => data.clone(),
            Change::Merge(changes) => record.data.merge(changes),
        };
        if merges && record.data.len() > save.max_bytes {
            return Ok(Saved::TooLarge);
        }
        record.version += 1;
        record.ring = Ring::default();
        record.ring.push(save.mark, now);
        record.subject = save.subject.unwrap_or(record.subject);
        record.idle_timeout = save.idle_timeout.unwrap_or(record.idle_timeout);
        if let Some(mint) = save.rotate {
            (record.current, record.salt, record.mint_time) = (mint.hash, mint.salt, now);
            match save.lifetime {
                Some(Lifetime::Begin(lifetime)) => record.deadline = now.after(lifetime),
                Some(Lifetime::Shorten(lifetime)) => record.deadline = record.deadline.min(now.after(lifetime)),
                None => {}
            }
        }
        let mut found = self.set(&key, &record, now).await?;
        if !save.want_data {
            found.record.data = Data::default();
        }
        Ok(Saved::Stored(found))
    }

    async fn destroy(&self, claim: &Claim, expected: Expected, attempt: Attempt) -> Result<Destroyed, StoreError> {
        let Some(found) = self.open(claim, attempt).await? else { return Ok(Destroyed::Gone) };
        if expected != Expected::Any && !expected.is(found.record.etag()) {
            return Ok(Destroyed::Conflict);
        }
        let () = self.connection().await?.del(RedisHost::key(claim)).await.map_err(broken)?;
        Ok(Destroyed::Gone)
    }

    async fn ping(&self, _: Attempt) -> Result<(), StoreError> {
        redis::cmd("PING").exec_async(&mut self.connection().await?).await.map_err(broken)
    }
}

fn broken(error: redis::RedisError) -> StoreError {
    if error.is_timeout() || error.is_io_error() {
        return StoreError::Unavailable(error.category().to_owned());
    }
    StoreError::Broken(error.category().to_owned())
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_slice(record.handle.0.as_bytes());
    let (Time(deadline), Time(created), Time(minted)) = (record.deadline, record.create_time, record.mint_time);
    for number in [record.version, deadline, created, minted, millis(record.idle_timeout), record.subject.len() as u64]
    {
        bytes.put_u64(number);
    }
    bytes.put_slice(&record.salt.0);
    bytes.put_slice(&record.current.0);
    bytes.put_slice(&record.ring.newest().0);
    bytes.put_u64(record.ring.slots.front().map_or(0, |(_, at)| at.0));
    bytes.put_slice(record.subject.as_bytes());
    bytes.put_slice(record.data.as_bytes());
    bytes.to_vec()
}

fn decode(mut bytes: Bytes) -> Record {
    let handle = Handle(uuid::Uuid::from_bytes(array(&mut bytes)));
    let [version, deadline, created, minted, idle, subject] = std::array::from_fn(|_| bytes.get_u64());
    let (salt, current) = (Salt(array(&mut bytes)), SecretHash(array(&mut bytes)));
    let mark = ShortMark(array(&mut bytes));
    let mut ring = Ring::default();
    ring.push(mark, Time(bytes.get_u64()));
    let subject = bytes.split_to(usize::try_from(subject).expect("it was a length"));
    Record {
        handle,
        version,
        deadline: Time(deadline),
        create_time: Time(created),
        idle_timeout: Duration::from_millis(idle),
        salt,
        current,
        previous: None,
        mint_time: Time(minted),
        ring,
        subject: String::from_utf8_lossy(&subject).into_owned().into(),
        data: Data::from_framed(bytes),
    }
}

fn array<const N: usize>(bytes: &mut Bytes) -> [u8; N] {
    let mut array = [0; N];
    bytes.copy_to_slice(&mut array);
    array
}

/// The naive store, on a Redis of its own.
pub struct NaiveHost(RedisHost);

impl Host for NaiveHost {
    type Store = NaiveStore;

    async fn start() -> Self {
        Self(RedisHost::start().await)
    }

    fn store(&self) -> NaiveStore {
        NaiveStore {
            url: self.0.redis.url(),
            connection: Arc::new(OnceCell::new_with(Some(self.0.connection.clone()))),
        }
    }

    async fn pass(&self, span: Duration) {
        redis_pass(&mut self.0.connection.clone(), span).await;
    }

    async fn outlive_window(&self, _: &Claim) {
        // It knows none: a create is a repeat for ever.
    }

    async fn outlive_tombstone(&self, _: &Claim) {
        // It leaves none.
    }

    async fn others_saved(&self, _: &Claim, _: &[ShortMark]) {
        // It keeps one mark.
    }

    async fn entries(&self) -> usize {
        self.0.entries().await
    }
}
