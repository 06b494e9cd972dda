//! The embedded store, for development and tests: sessions in a map, and gone with the process. It keeps every promise of
//! [`Store`], on a clock that tests can drive. `save` is long on purpose: it is read beside `redis/lua/save.lua`, step by step.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Attempt, Change, Claim, Create, Created, Destroyed, Expected, Found, Lifetime, RENEW_PART, REPEAT_WINDOW, Save,
    Saved, Store, StoreError, TOMBSTONE,
};
use crate::{
    clock::Clock,
    session::{App, Handle, Record, Ring, ShortMark, Time},
};

/// Sessions in memory. Clones share them.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    /// Many maps, so that threads seldom wait for one another.
    shards: [Mutex<Slots>; 16],
    hasher: RandomState,
    /// Bytes in use, about.
    used: AtomicUsize,
    capacity: usize,
    /// The most marks of a session.
    max_marks: usize,
    /// No slot expires before this moment (milliseconds): sweeping earlier would find nothing.
    earliest: AtomicU64,
}

type Key = (App, Handle);

/// By application, and only then by handle: so a slot needs no room for its application.
#[derive(Debug, Default)]
struct Slots(HashMap<App, HashMap<Handle, Slot>>);

impl Slots {
    fn get(&self, (app, handle): &Key) -> Option<&Slot> {
        self.0.get(app)?.get(handle)
    }

    fn get_mut(&mut self, (app, handle): &Key) -> Option<&mut Slot> {
        self.0.get_mut(app)?.get_mut(handle)
    }

    fn insert(&mut self, (app, handle): Key, slot: Slot) -> Option<Slot> {
        self.0.entry(app).or_default().insert(handle, slot)
    }

    fn retain(&mut self, mut keep: impl FnMut(&Slot) -> bool) {
        self.0.values_mut().for_each(|slots| slots.retain(|_, slot| keep(slot)));
    }

    fn len(&self) -> usize {
        self.0.values().map(HashMap::len).sum()
    }
}

#[derive(Debug)]
struct Slot {
    expire_time: Time,
    /// `None` is a tombstone.
    record: Option<Box<Record>>,
}

impl Slot {
    fn size(&self) -> usize {
        let marks = |r: &Record| r.ring.slots.capacity() * mem::size_of::<(ShortMark, Time)>();
        let kept = |r: &Record| mem::size_of::<Record>() + marks(r) + r.subject.len() + r.data.len();
        mem::size_of::<(Handle, Self)>() + self.record.as_deref().map_or(0, kept)
    }
}

impl MemoryStore {
    /// An empty store that holds about `capacity` bytes.
    pub fn new(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        Self::with_marks(clock, capacity, Ring::MAX)
    }

    /// A store whose rings hold this many marks at most instead of [`Ring::MAX`]: tests reach that edge in a few steps.
    #[doc(hidden)]
    pub fn with_marks(clock: Arc<dyn Clock>, capacity: usize, max_marks: usize) -> Self {
        Self(Arc::new(Inner {
            clock,
            shards: Default::default(),
            hasher: RandomState::new(),
            used: AtomicUsize::new(0),
            capacity,
            max_marks,
            earliest: AtomicU64::new(u64::MAX),
        }))
    }

    /// How many entries are held, tombstones and what is expired but not yet swept included.
    pub fn entries(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// A living session's record with all its marks, of which [`Store::open`] shows the newest. For tests.
    #[doc(hidden)]
    pub fn kept(&self, claim: &Claim) -> Option<Record> {
        let key = key(claim);
        let shard = self.shard(&key);
        alive(&shard, &key, self.0.clock.now()).map(|(record, _)| record.clone())
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Slots> {
        let at = self.0.hasher.hash_one(key) as usize % self.0.shards.len();
        lock(&self.0.shards[at])
    }

    fn now(&self, attempt: Attempt) -> Result<Time, StoreError> {
        if Instant::now() >= attempt.until {
            return Err(StoreError::Unavailable("too late".to_owned()));
        }
        Ok(self.0.clock.now())
    }

    /// Puts a slot in place; the caller holds the shard's lock.
    fn put(&self, shard: &mut Slots, key: Key, mut slot: Slot) {
        // What an answer shares with a record would outlive the answer.
        slot.record.iter_mut().for_each(|record| record.data = record.data.unshared());
        self.account(&slot, 0);
        if let Some(old) = shard.insert(key, slot) {
            self.0.used.fetch_sub(old.size(), Ordering::Relaxed);
        }
    }

    /// Notes a slot that is new or changed, and had this size before.
    fn account(&self, slot: &Slot, before: usize) {
        self.0.used.fetch_add(slot.size(), Ordering::Relaxed);
        self.0.used.fetch_sub(before, Ordering::Relaxed);
        self.0.earliest.fetch_min(slot.expire_time.0, Ordering::Relaxed);
    }

    /// Makes sure there is room for `bytes` more, sweeping what is expired if need be. Takes every lock in turn.
    fn make_room(&self, bytes: usize, now: Time) -> Result<(), StoreError> {
        let fits = || self.0.used.load(Ordering::Relaxed) + bytes <= self.0.capacity;
        if !fits() && self.0.earliest.load(Ordering::Relaxed) <= now.0 {
            self.0.earliest.store(u64::MAX, Ordering::Relaxed);
            for shard in &self.0.shards {
                lock(shard).retain(|slot| {
                    let lives = now < slot.expire_time;
                    if lives {
                        self.0.earliest.fetch_min(slot.expire_time.0, Ordering::Relaxed);
                    } else {
                        self.0.used.fetch_sub(slot.size(), Ordering::Relaxed);
                    }
                    lives
                });
            }
        }
        let full = || StoreError::Full(format!("{} bytes are in use", self.0.used.load(Ordering::Relaxed)));
        if fits() { Ok(()) } else { Err(full()) }
    }
}

/// A panic under a lock cannot leave a map half-changed: nothing that can panic stands between the steps of a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(claim: &Claim) -> Key {
    (claim.app.clone(), claim.handle)
}

/// The living record under a key.
fn alive<'a>(shard: &'a Slots, key: &Key, now: Time) -> Option<(&'a Record, Time)> {
    let slot = shard.get(key).filter(|slot| now < slot.expire_time)?;
    Some((slot.record.as_deref()?, slot.expire_time))
}

/// What an answer shows of a record. A hot session has thousands of marks, which are not copied.
fn found(record: &Record, expire_time: Time, now: Time) -> Found {
    let record =
        Record { ring: record.ring.cut(), subject: record.subject.clone(), data: record.data.clone(), ..*record };
    Found { record, expire_time, now }
}

/// Whether the version expected is one that the ring still reaches back to: then an operation that was applied since left
/// its mark there.
fn pins(expected: Expected, record: &Record) -> bool {
    let Expected::Etag(etag) = expected else { return false };
    let Some(back) = record.version.checked_sub(etag.version) else { return false };
    match record.ring.slots.get(back as usize) {
        Some((mark, _)) => *mark == etag.mark,
        None => back == record.ring.slots.len() as u64,
    }
}

impl Store for MemoryStore {
    async fn open(&self, claim: &Claim, attempt: Attempt) -> Result<Option<Found>, StoreError> {
        let (now, key) = (self.now(attempt)?, key(claim));
        let shard = self.shard(&key);
        let proven = alive(&shard, &key, now).filter(|(record, _)| record.current == claim.hash);
        Ok(proven.map(|(record, expire_time)| found(record, expire_time, now)))
    }

    async fn renew(&self, claim: &Claim, attempt: Attempt) -> Result<(), StoreError> {
        let (now, key) = (self.now(attempt)?, key(claim));
        let mut shard = self.shard(&key);
        let Some(slot) = shard.get_mut(&key).filter(|slot| now < slot.expire_time) else { return Ok(()) };
        let Some(record) = slot.record.as_ref().filter(|record| record.current == claim.hash) else { return Ok(()) };
        let renewed = record.expiry(now);
        if renewed.since(slot.expire_time) * RENEW_PART > renewed.since(now) {
            slot.expire_time = renewed;
        }
        Ok(())
    }

    async fn create(&self, create: Create, attempt: Attempt) -> Result<Created, StoreError> {
        let now = self.now(attempt)?;
        let key = (create.app.clone(), create.handle);
        let record = create.record(now);
        let found = found(&record, record.expiry(now), now);
        let slot = Slot { expire_time: found.expire_time, record: Some(Box::new(record)) };
        let room = self.make_room(slot.size(), now);

        let mut shard = self.shard(&key);
        match shard.get(&key).filter(|slot| now < slot.expire_time) {
            Some(Slot { record: Some(there), expire_time }) => {
                let recent = now <= there.mint_time.after(REPEAT_WINDOW);
                Ok(if recent { Created::Exists(self::found(there, *expire_time, now)) } else { Created::Unknown })
            }
            Some(Slot { record: None, .. }) => Ok(Created::Gone),
            None => {
                room?;
                self.put(&mut shard, key, slot);
                Ok(Created::Stored(found))
            }
        }
    }

    async fn save(&self, save: Save, attempt: Attempt) -> Result<Saved, StoreError> {
        let (now, key) = (self.now(attempt)?, key(&save.claim));
        // A Save may add at most this much. Looked for before the lock, as sweeping takes every lock.
        let grows = match &save.change {
            Change::Keep => 0,
            Change::Replace(data) => data.len(),
            Change::Merge(changes) => changes.iter().filter_map(|c| c.entry.as_ref()).map(|e| e.len()).sum(),
        } + mem::size_of::<(ShortMark, Time)>();
        let room = self.make_room(grows, now);
        let mut shard = self.shard(&key);
        let Some(slot) = shard.get_mut(&key).filter(|slot| now < slot.expire_time) else { return Ok(Saved::Missing) };
        let (before, expire_time) = (slot.size(), slot.expire_time);
        let Some(record) = slot.record.as_deref_mut() else { return Ok(Saved::Missing) };

        // Rounded down: that an operation can have come earlier than it did only makes a repeat of it more likely seen.
        let since = now.before(attempt.since.elapsed() + Duration::from_millis(1));
        let marked = record.ring.position(save.mark).is_some();
        let forgotten = !pins(save.expected, record) && record.ring.floor >= since;
        let shown = |record: &Record, expire_time| {
            let mut shown = found(record, expire_time, now);
            if !save.want_data {
                shown.record.data = Default::default();
            }
            shown
        };
        if record.current != save.claim.hash {
            if record.previous != Some(save.claim.hash) {
                return Ok(Saved::Missing);
            }
            let recent = now <= record.mint_time.after(REPEAT_WINDOW);
            let found = (recent && save.rotate.is_some()).then(|| Box::new(shown(record, expire_time)));
            return Ok(Saved::Replaced { found, maybe_applied: marked || forgotten });
        }
        if marked {
            return Ok(Saved::Repeat(shown(record, expire_time)));
        }
        if forgotten {
            return Ok(Saved::Unknown);
        }
        if save.rotate.is_none() && save.subject.as_ref().is_some_and(|subject| *subject != record.subject) {
            return Ok(Saved::SubjectNeedsRotate);
        }
        let merges = matches!(save.change, Change::Merge(_));
        let replaces = matches!(save.change, Change::Replace(_));
        if replaces && save.expected != Expected::Any && !save.expected.is(record.etag()) {
            return Ok(Saved::Conflict);
        }
        let data = match &save.change {
            Change::Keep => record.data.clone(),
            Change::Replace(data) => data.clone(),
            Change::Merge(changes) => record.data.merge(changes),
        };
        if merges && data.len() > save.max_bytes {
            return Ok(Saved::TooLarge);
        }
        if data.len() > record.data.len() || record.ring.grows(now) {
            room?;
        }

        record.version += 1;
        record.ring.push_within(save.mark, now, self.0.max_marks);
        // What an answer shares with a record would outlive the answer.
        record.data = data.unshared();
        if let Some(idle_timeout) = save.idle_timeout {
            record.idle_timeout = idle_timeout;
        }
        if let Some(mint) = save.rotate {
            record.previous = Some(mem::replace(&mut record.current, mint.hash));
            record.salt = mint.salt;
            record.mint_time = now;
        }
        match save.lifetime {
            Some(Lifetime::Begin(lifetime)) => record.deadline = now.after(lifetime),
            Some(Lifetime::Shorten(lifetime)) => record.deadline = record.deadline.min(now.after(lifetime)),
            None => {}
        }
        if let Some(subject) = save.subject.clone() {
            record.subject = subject;
        }
        let expire_time = record.expiry(now);
        let stored = shown(record, expire_time);
        slot.expire_time = expire_time;
        self.account(slot, before);
        Ok(Saved::Stored(stored))
    }

    async fn destroy(&self, claim: &Claim, expected: Expected, attempt: Attempt) -> Result<Destroyed, StoreError> {
        let (now, key) = (self.now(attempt)?, key(claim));
        let mut shard = self.shard(&key);
        let Some((record, _)) = alive(&shard, &key, now) else { return Ok(Destroyed::Gone) };
        let fits = if record.current == claim.hash {
            expected == Expected::Any || expected.is(record.etag())
        } else if record.previous == Some(claim.hash) && now <= record.mint_time.after(REPEAT_WINDOW) {
            expected == Expected::Any
        } else {
            return Ok(Destroyed::Gone);
        };
        if !fits {
            return Ok(Destroyed::Conflict);
        }
        self.put(&mut shard, key, Slot { expire_time: now.after(TOMBSTONE), record: None });
        Ok(Destroyed::Gone)
    }

    async fn ping(&self, _: Attempt) -> Result<(), StoreError> {
        Ok(())
    }
}
