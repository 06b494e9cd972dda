//! Memory and Redis are twins: random programs of operations, run step by step on both, get the same answers and leave the
//! same sessions. What the suite says in sentences, this says of everything that nobody thought of; in return it leaves
//! alone what hangs on the clock alone (expiry, windows), which only the suite can drive.
//!
//! A failure prints the program's seed; `SESSIOND_TESTS_SEED=<seed>` runs that program alone. The file is long, as the generator has a few lines for each kind of operation.

use std::{
    env,
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use sessiond::{
    clock::ManualClock,
    session::{App, Etag, Handle, Mint, Record, Ring, Salt, SecretHash, ShortMark, Time, millis},
    store::{
        Attempt, Change, Claim, Create, Created, Destroyed, Expected, Found, Lifetime, Save, Saved, Store,
        memory::MemoryStore,
    },
};
use sessiond_tests::{
    rounds,
    store_suite::{HOUR, Host, RedisHost, Visitor, any_app, attempt, attempt_since, data, key_change},
};
use uuid::Uuid;

/// Operations in a program.
const STEPS: usize = 40;

/// Chance that gives the same again for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.roll() as u8)
    }

    fn mint(&mut self) -> Mint {
        Mint { salt: Salt(self.bytes()), hash: SecretHash(self.bytes()) }
    }
}

/// One operation, the same for both stores.
#[derive(Clone, Debug)]
enum Step {
    Open(Claim),
    Renew(Claim),
    Create(Create),
    Save(Save),
    Destroy(Claim, Expected),
}

/// All that a program has used so far, to use it again: rightly or not.
struct Known {
    apps: [App; 2],
    handles: Vec<Handle>,
    hashes: Vec<SecretHash>,
    marks: Vec<ShortMark>,
    etags: Vec<Etag>,
    /// The hash that was last stored for a handle, so that most operations are the owner's.
    owners: Vec<(Handle, SecretHash)>,
    done: Vec<Step>,
}

impl Known {
    fn claim(&self, dice: &mut Dice) -> Claim {
        let app = self.apps[usize::from(dice.once_in(20))].clone();
        // Mostly the newest session.
        let newest = self.owners[self.owners.len() - 1];
        let (handle, hash) = if dice.once_in(4) { *dice.pick(&self.owners) } else { newest };
        match dice.below(12) {
            0 => Claim { app, handle, hash: SecretHash(dice.bytes()) },
            1 | 2 => Claim { app, handle, hash: *dice.pick(&self.hashes) },
            _ => Claim { app, handle, hash },
        }
    }

    fn expected(&self, dice: &mut Dice) -> Expected {
        match dice.below(10) {
            0 => Expected::Unreadable,
            1..4 => Expected::Any,
            4 => Expected::Etag(Etag { mark: ShortMark(dice.bytes()), ..*dice.pick(&self.etags) }),
            5..7 => Expected::Etag(*dice.pick(&self.etags)),
            // Mostly a recent one.
            _ => Expected::Etag(self.etags[self.etags.len().saturating_sub(1 + dice.below(3))]),
        }
    }

    fn mark(&self, dice: &mut Dice) -> ShortMark {
        if dice.once_in(6) { *dice.pick(&self.marks) } else { ShortMark(dice.bytes()) }
    }

    fn subject(&self, dice: &mut Dice) -> Box<str> {
        (*dice.pick(&["", "", "ada", "äöü"])).into()
    }

    fn change(&self, dice: &mut Dice) -> Change {
        const KEYS: [&str; 6] = ["", "a", "b", "aa", "long", "z"];
        let long = "x".repeat(dice.below(300));
        let value = |dice: &mut Dice| dice.pick(&["", "1", &long]).to_string();
        let mut keys: Vec<&str> = KEYS.into_iter().filter(|_| dice.once_in(2)).collect();
        let rotate = dice.below(KEYS.len()).min(keys.len());
        keys.rotate_left(rotate);
        match dice.below(4) {
            0 => Change::Keep,
            1 => {
                let entries: Vec<_> = keys.iter().map(|key| (*key, value(dice))).collect();
                Change::Replace(data(&entries.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>()))
            }
            _ => {
                let changes = keys.iter().map(|key| {
                    let removed = dice.once_in(3);
                    let value = value(dice);
                    key_change(key, (!removed).then_some(value.as_str()))
                });
                Change::Merge(changes.collect())
            }
        }
    }

    fn step(&mut self, dice: &mut Dice) -> Step {
        let step = match dice.below(20) {
            _ if self.done.is_empty() => Step::Create(self.create(dice)),
            0 => Step::Open(self.claim(dice)),
            1 => Step::Renew(self.claim(dice)),
            2 | 3 => Step::Create(self.create(dice)),
            4 if dice.once_in(3) => Step::Destroy(self.claim(dice), self.expected(dice)),
            // The very same as before: a repeat, late or not.
            5..8 => dice.pick(&self.done).clone(),
            _ => Step::Save(self.save(dice)),
        };
        self.done.push(step.clone());
        step
    }

    /// The newest session, for the one who holds it.
    fn owner(&self) -> Claim {
        let (handle, hash) = self.owners[self.owners.len() - 1];
        Claim { app: self.apps[0].clone(), handle, hash }
    }

    /// A Save that is stored whatever was before.
    fn others_save(&mut self, dice: &mut Dice) -> Step {
        let claim = self.owner();
        let expected = Expected::Etag(self.etags[self.etags.len() - 1]);
        let mark = ShortMark(dice.bytes());
        self.marks.push(mark);
        let step = Step::Save(Save {
            claim,
            mark,
            expected,
            change: Change::Merge(vec![key_change("others", Some("1"))]),
            rotate: None,
            subject: None,
            lifetime: None,
            idle_timeout: None,
            max_bytes: 1 << 16,
            want_data: true,
        });
        self.done.push(step.clone());
        step
    }

    fn create(&mut self, dice: &mut Dice) -> Create {
        if dice.once_in(2) {
            self.handles.push(Handle(Uuid::from_bytes(dice.bytes())));
        }
        let create = Create {
            app: self.apps[0].clone(),
            handle: *dice.pick(&self.handles),
            mark: self.mark(dice),
            mint: dice.mint(),
            subject: self.subject(dice),
            data: match self.change(dice) {
                Change::Replace(data) => data,
                _ => data(&[("a", "1"), ("b", "2")]),
            },
            idle_timeout: HOUR * (1 + dice.below(3) as u32),
            lifetime: HOUR * (10 + dice.below(3) as u32),
        };
        self.marks.push(create.mark);
        create
    }

    fn save(&mut self, dice: &mut Dice) -> Save {
        let rotate = dice.once_in(6).then(|| dice.mint());
        let save = Save {
            claim: self.claim(dice),
            mark: self.mark(dice),
            expected: self.expected(dice),
            change: self.change(dice),
            rotate,
            subject: dice.once_in(4).then(|| self.subject(dice)),
            lifetime: match (rotate, dice.below(4)) {
                (Some(_), 0 | 1) => Some(Lifetime::Begin(HOUR * (20 + dice.below(3) as u32))),
                (_, 2) => Some(Lifetime::Shorten(HOUR * (6 + dice.below(8) as u32))),
                _ => None,
            },
            idle_timeout: dice.once_in(5).then(|| HOUR * (4 + dice.below(3) as u32)),
            max_bytes: if dice.once_in(6) { dice.below(200) } else { 1 << 16 },
            want_data: !dice.once_in(4),
        };
        self.marks.push(save.mark);
        save
    }

    /// Takes in what a step did.
    fn learn(&mut self, found: Option<&Found>) {
        let Some(Found { record, .. }) = found else { return };
        self.hashes.push(record.current);
        self.etags.push(record.etag());
        match self.owners.iter_mut().find(|(handle, _)| *handle == record.handle) {
            Some(owner) => owner.1 = record.current,
            None => self.owners.push((record.handle, record.current)),
        }
    }
}

/// An answer in words that both stores share: all of it but times, and those in whole hours from now.
async fn run<S: Store>(store: &S, step: &Step, attempt: Attempt) -> (String, Option<Found>) {
    let answers = "the store answers";
    match step.clone() {
        Step::Open(claim) => match store.open(&claim, attempt).await.expect(answers) {
            Some(found) => (format!("open {}", told(&found)), Some(found)),
            None => ("no session".to_owned(), None),
        },
        Step::Renew(claim) => {
            store.renew(&claim, attempt).await.expect(answers);
            ("done".to_owned(), None)
        }
        Step::Create(create) => match store.create(create, attempt).await.expect(answers) {
            Created::Stored(found) => (format!("created {}", told(&found)), Some(found)),
            Created::Exists(found) => (format!("exists {}", told(&found)), Some(found)),
            other @ (Created::Unknown | Created::Gone) => (format!("{other:?}"), None),
        },
        Step::Save(save) => match store.save(save, attempt).await.expect(answers) {
            Saved::Stored(found) => (format!("stored {}", told(&found)), Some(found)),
            Saved::Repeat(found) => (format!("repeat {}", told(&found)), Some(found)),
            Saved::Replaced { found: Some(found), maybe_applied } => {
                (format!("replaced, maybe {maybe_applied} {}", told(&found)), Some(*found))
            }
            other => (format!("{other:?}"), None),
        },
        Step::Destroy(claim, expected) => {
            let destroyed: Destroyed = store.destroy(&claim, expected, attempt).await.expect(answers);
            (format!("{destroyed:?}"), None)
        }
    }
}

fn told(found: &Found) -> String {
    let Record { handle, version, ref ring, ref subject, ref data, idle_timeout, .. } = found.record;
    let mut text =
        format!("{handle} version {version} etag {} subject {subject:?} idle {idle_timeout:?}", found.record.etag());
    let record = &found.record;
    let previous = record.previous.map_or([0; 32], |hash| hash.0);
    for (name, bytes) in [("salt", &record.salt.0), ("current", &record.current.0), ("previous", &previous)] {
        let _ = write!(text, " {name} {}", hex(bytes));
    }
    let _ = write!(text, " data {}", hex(data.as_bytes()));
    let marks: Vec<String> = ring.slots.iter().map(|(mark, _)| hex(&mark.0)).collect();
    let _ = write!(text, " marks {marks:?} fell {}", ring.floor != Time(0));
    let hours = |time: Time| (millis(time.since(found.now)) + millis(HOUR) / 2) / millis(HOUR);
    let _ = write!(text, " ends in {} h, at most {} h", hours(found.expire_time), hours(record.deadline));
    assert!(record.mint_time <= found.now && record.create_time <= record.mint_time);
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Runs one program on both, and says what kinds of answers it got; `None` if it took so long that marks may have grown old
/// on Redis's clock and not on the other: then it proves nothing.
async fn program(host: &RedisHost, redis: &impl Store, seed: u64) -> Option<Vec<String>> {
    let begin = Instant::now();
    let in_time = || begin.elapsed() < Ring::SPAN / 2;
    let mut dice = Dice(seed);
    let clock = Arc::new(ManualClock::new(Time(1_700_000_000_000)));
    let memory = MemoryStore::new(Arc::clone(&clock) as _, 1 << 24);
    let handle = Handle(Uuid::from_bytes(dice.bytes()));
    let hash = SecretHash(dice.bytes());
    let etag = Etag { version: 1, mark: ShortMark(dice.bytes()) };
    let mut known = Known {
        // Two applications of this program's own: Redis is shared.
        apps: [any_app(), any_app()],
        handles: vec![handle],
        hashes: vec![hash, SecretHash([0; 32])],
        marks: vec![etag.mark, ShortMark([0; 8])],
        etags: vec![etag],
        owners: vec![(handle, hash)],
        done: Vec::new(),
    };
    let mut kinds = Vec::new();
    // In some programs one session's ring is nearly full, or has run over, when they begin.
    let others = if seed.is_multiple_of(4) { 4 + dice.below(8) } else { 0 };
    for number in 0..STEPS + others {
        clock.advance(Duration::from_millis(1));
        if number == 1 && others > 0 {
            let claim = known.owner();
            let marks: Vec<_> = (0..Ring::MAX - 8).map(|_| ShortMark(dice.bytes())).collect();
            let memory = Visitor { store: memory.clone(), claim: claim.clone() };
            for mark in &marks {
                memory.stored(Save { mark: *mark, ..memory.keep() }).await;
            }
            host.others_saved(&claim, &marks).await;
            known.marks.extend([marks[0], marks[marks.len() - 1]]);
            known.learn(memory.look().await.as_ref());
        }
        let step = match number {
            1.. if number <= others => known.others_save(&mut dice),
            _ => known.step(&mut dice),
        };
        // Received after all that was stored, or before any of it: what lies between hangs on the clock.
        let long_ago = dice.once_in(3);
        let since_now = Attempt { since: Instant::now() + HOUR, ..attempt() };
        let attempt = || if long_ago { attempt_since(HOUR) } else { since_now };
        let (there, found) = run(&memory, &step, attempt()).await;
        let (here, _) = run(redis, &step, attempt()).await;
        if here != there && !in_time() {
            return None;
        }
        assert_eq!(here, there, "left Redis, right memory: seed {seed}, step {number}: {step:?}, long ago: {long_ago}");
        kinds.push(there.split(' ').next().unwrap_or_default().to_owned());
        known.learn(found.as_ref());
        // And what it left behind, told to the owner.
        if let Some(record) = found.map(|found| found.record) {
            let look = Step::Open(Claim { app: known.apps[0].clone(), handle: record.handle, hash: record.current });
            let (there, _) = run(&memory, &look, attempt()).await;
            let (here, _) = run(redis, &look, attempt()).await;
            if here != there && !in_time() {
                return None;
            }
            assert_eq!(here, there, "left Redis, right memory: seed {seed}, after step {number}: {step:?}");
        }
    }
    Some(kinds)
}

/// Runs one program until it proves something.
async fn proven(host: &RedisHost, redis: &impl Store, seed: u64) -> Vec<String> {
    for _ in 0..10 {
        if let Some(kinds) = program(host, redis, seed).await {
            return kinds;
        }
    }
    panic!("seed {seed}: {STEPS} steps take longer than they should");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_redis_give_the_same_answers_to_the_same_programs() {
    let host = RedisHost::start().await;
    let redis = host.store();
    if let Ok(seed) = env::var("SESSIOND_TESTS_SEED") {
        let kinds = proven(&host, &redis, seed.parse().expect("SESSIOND_TESTS_SEED is a number")).await;
        println!("{kinds:?}");
        return;
    }
    // The same programs each time, so that a failure is everybody's: more of them in the long form.
    let programs = rounds(10_000);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..programs as u64 {
        for kind in proven(&host, &redis, seed).await {
            *counts.entry(kind).or_default() += 1;
        }
    }
    println!("{programs} programs, answers by kind: {counts:?}");
    let kinds = [
        "Conflict",
        "Gone",
        "Missing",
        "Replaced",
        "SubjectNeedsRotate",
        "TooLarge",
        "Unknown",
        "created",
        "done",
        "exists",
        "no",
        "open",
        "repeat",
        "replaced,",
        "stored",
    ];
    for kind in kinds {
        assert!(counts.get(kind).is_some_and(|count| *count >= 10), "too few programs met {kind}: {counts:?}");
    }
}
