//! The repeat rules, checked as a model: every interleaving of commands that come late, twice or never, played on the real
//! code (`Sessions` over the memory store, a clock and a chance that the model drives), in small worlds.
//!
//! A world is a session (or none yet), a few operations of callers, each sent up to three times with one request id, and what
//! happens beside them: others' Saves, singly or in bursts that bring the ring of marks to its edges (8 old ones, and
//! [`MARKS`] young ones), a Destroy, and [`Ring::SPAN`] passing, after which what was received and not executed is refused. A sending is
//! *received* by a server (first sendings as such, later ones marked as repeats, as gRFC A6 has it) and some time later
//! *executed* by the store, or never; so what is executed may be older than what was executed before it. Answers may be lost:
//! nothing that a caller does here depends on one.
//!
//! After every step, in every state:
//! - P1: the data are exactly what the applied operations make of it, none missing, and none that was removed;
//! - P2: after the Destroy no id opens, and no answer says otherwise;
//! - P3: of all ids ever minted only the newest opens, and to another nothing is shown;
//! - P5: no operation is applied twice, an answer says OK only of one that is applied, "changed" only of one that is not, and
//!   gives each sending of it the same id; a repeat gives an etag only with the data that belong to it;
//! - P6: the absolute lifetime ends when the last login and the shortenings since then make it end.
//!
//! The file is long, as the world, what must hold in it and the search belong together.
//!
//! States are the same if they differ in nothing but the times' distances where only their order counts. The sizes of the
//! worlds and what was visited are printed (`--nocapture`); the long form searches the small ones to the end. Left out: what the
//! design leaves out, a first sending that reaches its server only after the repeat was applied and forgotten. That the
//! model would notice is shown by letting it in, and by breaking rule 2: three tests must find a double application.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fmt::Write,
    hash::{Hash, Hasher},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use sessiond::{
    clock::{Clock, ManualClock},
    random::Random,
    rules::{Error, Limits, SaveCommand, Session, Sessions, Target},
    session::{App, Etag, Record, RequestId, Ring, SecretHash, SessionId, ShortMark, Time, millis},
    store::{Attempt, Change, Claim, Expected, Found, Save, Saved, Store, memory::MemoryStore},
};
use sessiond_tests::{
    rounds,
    store_suite::{DAY, HOUR, data, key_change},
};

/// Between two events. Much more than the time that a step really takes, as `Attempt::since` is an instant of the real clock.
const TICK: Duration = Duration::from_millis(20);

/// How long a received sending may wait for its execution.
const BUDGET: Duration = Duration::from_secs(2);

/// The lifetime that a [`Kind::Shorten`] leaves.
const SHORT: Duration = HOUR.saturating_mul(4);

/// The most marks of a session in these worlds. [`Ring::MAX`] is 4,000, for which each of many thousand replays would need as
/// many Saves; that both stores keep so many is shown by `store_suite::repeats` and `twins`.
const MARKS: usize = 64;

/// A repeat may be one of a sending that was received as early as this before it.
const REPEATS: Duration = Duration::from_secs(60);

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    /// The whole map, for the version that the caller had seen.
    Whole,
    /// One key, with the etag that the caller had seen.
    Merge,
    /// One key, with `*`.
    MergeAny,
    /// One key, and "start" is removed, with `*`.
    Remove,
    /// One key, with `*`, and the absolute lifetime ends in [`SHORT`] at the latest.
    Shorten,
    /// One key, with `*`, and a new id; and with `login` a subject, so that a new lifetime begins.
    Rotate {
        login: bool,
    },
}

/// An operation and how often it is sent.
#[derive(Clone, Copy, Debug)]
struct Operation {
    kind: Kind,
    sendings: usize,
    omit_data: bool,
}

const fn sent(kind: Kind, sendings: usize) -> Operation {
    Operation { kind, sendings, omit_data: false }
}

const fn omitting(kind: Kind, sendings: usize) -> Operation {
    Operation { omit_data: true, ..sent(kind, sendings) }
}

/// A small world.
#[derive(Clone, Copy, Debug)]
struct World {
    name: &'static str,
    operations: &'static [Operation],
    /// What other writers save, in this order, each so many times at once.
    bursts: &'static [usize],
    destroy: bool,
    /// How often [`Ring::SPAN`] may pass.
    passes: usize,
    twist: Twist,
}

const PLAIN: World = World { name: "", operations: &[], bursts: &[], destroy: false, passes: 0, twist: Twist::None };

/// What the model lets in, or breaks, to show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twist {
    None,
    /// A first sending may reach its server after its repeat was applied: what the design leaves open.
    HeldUpBeforeTheServer,
    /// Repeats do not say that they are.
    RepeatsUnmarked,
    /// The store is told that everything was received when it is executed.
    SinceIsNow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Receive(usize, usize),
    Execute(usize, usize),
    Others,
    Destroy,
    Pass,
}

#[derive(Clone, Copy, Debug)]
enum Sending {
    Sent,
    Received(Time),
    Done,
}

/// Chance that is the same in every run.
#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            part.copy_from_slice(&number.to_le_bytes()[..part.len()]);
        }
    }
}

/// The memory store never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store waits for nothing"),
    }
}

/// What has happened to an operation.
struct Progress {
    command: Option<SaveCommand>,
    sendings: Vec<Sending>,
    applied: usize,
    /// The id that it minted.
    minted: Option<SessionId>,
}

/// A world under way, with all that its maker knows of it and no caller does.
struct Play {
    world: World,
    app: App,
    clock: Arc<ManualClock>,
    store: MemoryStore,
    sessions: Sessions<MemoryStore>,
    operations: Vec<Progress>,
    /// Every id ever minted; the last one is current.
    ids: Vec<SessionId>,
    /// The keys that must be there.
    keys: Vec<String>,
    /// When the absolute lifetime must end.
    deadline: Time,
    destroyed: bool,
    bursts: usize,
    others: u64,
    passes: usize,
}

impl Play {
    fn new(world: World) -> Self {
        let clock = Arc::new(ManualClock::new(Time(1_700_000_000_000)));
        let store = MemoryStore::with_marks(Arc::clone(&clock) as _, 1 << 24, MARKS);
        let limits =
            Limits { idle_timeout: HOUR, max_idle_timeout: HOUR, max_lifetime: DAY, max_session_bytes: 1 << 16 };
        let sessions = Sessions::new(store.clone(), limits, Arc::new(Counted(AtomicU64::new(1))));
        let operations = world.operations.iter().map(|operation| Progress {
            command: None,
            sendings: vec![Sending::Sent; operation.sendings],
            applied: 0,
            minted: None,
        });
        let mut play = Self {
            operations: operations.collect(),
            world,
            app: App::unnamed(),
            clock,
            store,
            sessions,
            ids: Vec::new(),
            keys: vec!["start".to_owned()],
            deadline: Time::default(),
            destroyed: false,
            bursts: 0,
            others: 0,
            passes: 0,
        };
        if world.operations.iter().all(|operation| operation.kind != Kind::Create) {
            let session =
                now(play.sessions.save(&play.app, play.creation(99), play.attempt(None))).expect("it is created");
            play.ids.push(session.id);
            play.deadline = play.time().after(DAY);
            // Everyone here opened the session at the start: the later their Save, the staler what they know.
            for number in 0..play.operations.len() {
                play.operations[number].command = Some(play.command(number));
            }
        }
        play
    }

    fn creation(&self, number: usize) -> SaveCommand {
        SaveCommand {
            target: Target::Create(data(&[("start", "1")])),
            subject: None,
            idle_timeout: None,
            lifetime: None,
            request_id: Some(RequestId([number as u8; 16])),
            omit_data: false,
        }
    }

    /// What the caller of an operation sends who opens the session now.
    fn command(&self, number: usize) -> SaveCommand {
        let Operation { kind, omit_data, .. } = self.world.operations[number];
        let command = SaveCommand { omit_data, ..self.creation(number) };
        if kind == Kind::Create {
            return command;
        }
        let record = self.look().expect("there is a session to open").record;
        let key = format!("key-{number}");
        let mut whole: Vec<(&str, &str)> = self.keys.iter().map(|key| (key.as_str(), "1")).collect();
        whole.push((&key, "1"));
        let change = match kind {
            Kind::Whole => Change::Replace(data(&whole)),
            Kind::Remove => Change::Merge(vec![key_change(&key, Some("1")), key_change("start", None)]),
            _ => Change::Merge(vec![key_change(&key, Some("1"))]),
        };
        let lifetime = (kind == Kind::Shorten).then_some(SHORT);
        let expected = match kind {
            Kind::Whole | Kind::Merge => Expected::Etag(record.etag()),
            _ => Expected::Any,
        };
        let rotate = matches!(kind, Kind::Rotate { .. });
        let subject = matches!(kind, Kind::Rotate { login: true }).then(|| format!("user-{number}").into());
        let id = self.ids.last().cloned();
        SaveCommand { target: Target::Update { id, expected, change, rotate }, subject, lifetime, ..command }
    }

    fn time(&self) -> Time {
        self.clock.now()
    }

    /// An attempt for a sending received then; for others' doings, now.
    fn attempt(&self, received: Option<(Time, bool)>) -> Attempt {
        let instant = Instant::now();
        let Some((received, is_repeat)) = received else { return Attempt { since: instant, until: instant + HOUR } };
        let mut ago = self.time().since(received);
        let until = if ago < BUDGET { instant + HOUR } else { instant };
        if is_repeat && self.world.twist != Twist::RepeatsUnmarked {
            ago += REPEATS;
        }
        if self.world.twist == Twist::SinceIsNow {
            ago = Duration::ZERO;
        }
        Attempt { since: instant.checked_sub(ago).expect("the machine has been up for so long"), until }
    }

    fn claim(&self, id: &SessionId) -> Claim {
        Claim { app: self.app.clone(), handle: id.handle, hash: id.secret.hash(&self.app, id.handle) }
    }

    fn open(&self, id: &SessionId) -> Option<Found> {
        now(self.store.open(&self.claim(id), self.attempt(None))).expect("the store answers")
    }

    /// The session as it stands.
    fn look(&self) -> Option<Found> {
        self.open(self.ids.last()?)
    }

    /// What can happen next.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let there = !self.ids.is_empty();
        for (number, progress) in self.operations.iter().enumerate() {
            // Who sends has opened the session: at the start, or by now.
            let opens = there && !self.destroyed;
            let possible = opens || progress.command.is_some() || self.world.operations[number].kind == Kind::Create;
            for (at, sending) in progress.sendings.iter().enumerate() {
                match sending {
                    Sending::Sent if possible => {
                        let held_up = at == 0 && progress.applied > 0;
                        if !held_up || self.world.twist == Twist::HeldUpBeforeTheServer {
                            events.push(Event::Receive(number, at));
                        }
                    }
                    Sending::Received(_) => events.push(Event::Execute(number, at)),
                    Sending::Sent | Sending::Done => {}
                }
            }
        }
        if there && !self.destroyed {
            if self.bursts < self.world.bursts.len() {
                events.push(Event::Others);
            }
            if self.world.destroy {
                events.push(Event::Destroy);
            }
        }
        if self.passes < self.world.passes {
            events.push(Event::Pass);
        }
        events
    }

    /// Lets it happen again, as it was right the first time.
    fn again(world: World, path: &[Event]) -> Self {
        let mut play = Self::new(world);
        for event in path {
            play.act(*event).expect("it was right the first time");
        }
        play
    }

    /// Lets it happen. What is wrong then, if anything.
    fn play(&mut self, event: Event) -> Result<(), String> {
        self.act(event)?;
        self.check()
    }

    fn act(&mut self, event: Event) -> Result<(), String> {
        self.clock.advance(TICK);
        match event {
            Event::Receive(number, at) => {
                if self.operations[number].command.is_none() {
                    self.operations[number].command = Some(self.command(number));
                }
                self.operations[number].sendings[at] = Sending::Received(self.time());
            }
            Event::Execute(number, at) => self.execute(number, at)?,
            Event::Others => self.others_save(self.world.bursts[self.bursts]),
            Event::Destroy => {
                let id = self.ids.last().cloned();
                now(self.sessions.destroy(&self.app, id, Expected::Any, self.attempt(None))).expect("it is destroyed");
                self.destroyed = true;
            }
            Event::Pass => {
                self.clock.advance(Ring::SPAN);
                self.passes += 1;
            }
        }
        Ok(())
    }

    /// Straight at the store, as these are many and only their number and their marks count.
    fn others_save(&mut self, times: usize) {
        self.bursts += 1;
        let mut etag = self.look().expect("it is there").record.etag();
        let claim = self.claim(self.ids.last().expect("it is there"));
        for _ in 0..times {
            self.others += 1;
            let save = Save {
                claim: claim.clone(),
                mark: ShortMark(self.others.to_be_bytes()),
                expected: Expected::Etag(etag),
                change: Change::Merge(vec![key_change("others", Some("1"))]),
                rotate: None,
                subject: None,
                lifetime: None,
                idle_timeout: None,
                max_bytes: 1 << 16,
                want_data: false,
            };
            match now(self.store.save(save, self.attempt(None))).expect("the store answers") {
                Saved::Stored(found) => etag = found.record.etag(),
                other => panic!("others' Saves are stored, not {other:?}"),
            }
        }
        self.expect_key("others");
    }

    fn expect_key(&mut self, key: &str) {
        if !self.keys.iter().any(|there| there == key) {
            self.keys.push(key.to_owned());
        }
    }

    fn execute(&mut self, number: usize, at: usize) -> Result<(), String> {
        let Sending::Received(received) = self.operations[number].sendings[at] else { panic!("it was received") };
        self.operations[number].sendings[at] = Sending::Done;
        let command = self.operations[number].command.clone().expect("it was received");
        let shown = match &command.target {
            Target::Create(_) => None,
            Target::Update { id, .. } => id.clone(),
        };
        let is_create = shown.is_none();
        let before = self.look();
        let answer = now(self.sessions.save(&self.app, command.clone(), self.attempt(Some((received, at > 0)))));

        // Whether it was applied by this, seen from outside: another version, or a session where none was.
        let id = answer.as_ref().ok().map(|session| session.id.clone());
        let after = self.look().or_else(|| self.open(id.as_ref()?));
        let version = |found: &Option<Found>| found.as_ref().map_or(0, |found| found.record.version);
        let applied = version(&after).saturating_sub(version(&before));
        if applied > 1 || version(&after) < version(&before) {
            return Err(format!("the version went from {} to {}", version(&before), version(&after)));
        }
        if applied == 1 {
            self.applied(number, &command, &answer)?;
        } else if before.as_ref().map(|found| &found.record) != after.as_ref().map(|found| &found.record) {
            return Err("it was changed, and the version stayed".to_owned());
        }
        self.answered(number, is_create, shown, answer, after)
    }

    /// An operation was applied: for the first time, and told so.
    fn applied(&mut self, number: usize, command: &SaveCommand, answer: &Result<Session, Error>) -> Result<(), String> {
        let progress = &mut self.operations[number];
        progress.applied += 1;
        if progress.applied > 1 {
            return Err(format!("operation {number} was applied twice (P5)"));
        }
        let Ok(session) = answer else { return Err(format!("applied, and refused as {answer:?}")) };
        let mints = match &command.target {
            Target::Create(_) => true,
            Target::Update { rotate, .. } => *rotate,
        };
        if mints {
            progress.minted = Some(session.id.clone());
            self.ids.push(session.id.clone());
        }
        let kind = self.world.operations[number].kind;
        if kind != Kind::Create {
            self.expect_key(&format!("key-{number}"));
        }
        match kind {
            Kind::Remove => self.keys.retain(|key| key != "start"),
            Kind::Create | Kind::Rotate { login: true } => self.deadline = self.time().after(DAY),
            Kind::Shorten => self.deadline = self.deadline.min(self.time().after(SHORT)),
            _ => {}
        }
        Ok(())
    }

    /// Whether an answer may be given as things stand.
    fn answered(
        &self,
        number: usize,
        is_create: bool,
        shown: Option<SessionId>,
        answer: Result<Session, Error>,
        after: Option<Found>,
    ) -> Result<(), String> {
        let Progress { applied, minted, .. } = &self.operations[number];
        let applied = *applied == 1;
        let current = self.ids.last();
        match answer {
            Ok(session) => {
                let Some(Found { record, .. }) = after else {
                    return Err("OK, and there is no session (P2)".to_owned());
                };
                if !applied {
                    return Err("OK, and it was never applied (P1)".to_owned());
                }
                if Some(&session.id) != current {
                    return Err("OK, with an id that does not open (P3)".to_owned());
                }
                if minted.is_some() && minted.as_ref() != Some(&session.id) {
                    return Err("a repeat got another's id (P3, P5)".to_owned());
                }
                if !is_create && minted.is_none() && shown.as_ref() != current {
                    return Err("an old id was shown what came after (P3)".to_owned());
                }
                let omits = self.world.operations[number].omit_data;
                Self::tells_the_truth(&session, &record, omits)
            }
            Err(Error::Changed) if applied => {
                Err("\"changed\" by itself: its caller would do it again (P5)".to_owned())
            }
            // It may be told that there is none only where there is none for the id it showed.
            Err(Error::NotFound) if after.is_some() && shown.is_some() && shown.as_ref() == current => {
                Err("\"not found\", and its id opens".to_owned())
            }
            Err(Error::NotFound) if after.is_some() && applied && minted.as_ref() == current => {
                Err("\"not found\", and the id that it minted opens".to_owned())
            }
            Err(Error::OutcomeUnknown) if self.is_sure(number) => {
                Err("nothing was forgotten, yet \"unknown\"".to_owned())
            }
            Err(Error::NotFound | Error::Changed | Error::OutcomeUnknown) => Ok(()),
            // Too late: the budget was over.
            Err(Error::Store(_)) if self.passes > 0 => Ok(()),
            Err(other) => Err(format!("nobody asked for {other:?}")),
        }
    }

    /// The etag in an answer belongs to what its caller then knows: the data in it, or else what it sent itself.
    fn tells_the_truth(session: &Session, record: &Record, omits: bool) -> Result<(), String> {
        match (&session.data, session.etag) {
            (Some(data), Some(etag)) if *data == record.data && etag == record.etag() => Ok(()),
            (None, None) if omits => Ok(()),
            // Without data, an etag is told only if the caller can know what is stored: nobody saved after it, nor between.
            (None, Some(etag)) if omits && etag == record.etag() => Ok(()),
            told => Err(format!("told {told:?} of version {}", record.version)),
        }
    }

    /// A first and only sending is never unknown while the ring holds all, and others' rotates stand aside.
    fn is_sure(&self, number: usize) -> bool {
        let alone = self.operations[number].sendings.len() == 1 && self.passes == 0;
        alone && self.others < 32 && self.world.operations[number].kind != Kind::Create
    }

    /// What holds in every state.
    fn check(&self) -> Result<(), String> {
        let newest = self.ids.len().wrapping_sub(1);
        for (number, id) in self.ids.iter().enumerate() {
            match self.open(id) {
                Some(_) if self.destroyed => return Err("it opens after its Destroy (P2)".to_owned()),
                Some(_) if number != newest => return Err("a replaced id opens (P3)".to_owned()),
                None if number == newest && !self.destroyed => return Err("the session is lost (P1)".to_owned()),
                Some(found) => {
                    if found.record.deadline != self.deadline {
                        return Err(format!(
                            "it lives until {:?}, not {:?} (P6)",
                            found.record.deadline, self.deadline
                        ));
                    }
                    let there = found.record.data;
                    let mut there: Vec<_> = there.entries().map(|(entry, _)| entry.key.to_vec()).collect();
                    let mut wanted: Vec<_> = self.keys.iter().map(|key| key.as_bytes().to_vec()).collect();
                    there.sort();
                    wanted.sort();
                    if there != wanted {
                        return Err(format!(
                            "there are {} keys, and {:?} were acknowledged (P1)",
                            there.len(),
                            self.keys
                        ));
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The state but for what makes no difference: names instead of secrets, and of times their order and their age in spans.
    fn fingerprint(&self) -> u64 {
        let kept = self.ids.last().and_then(|id| self.store.kept(&self.claim(id)));
        let mut times = Vec::new();
        if let Some(record) = &kept {
            times.extend(record.ring.slots.iter().map(|(_, at)| *at));
            times.extend([record.ring.floor, record.mint_time]);
        }
        let received = |sending: &Sending| if let Sending::Received(at) = sending { Some(*at) } else { None };
        times.extend(self.operations.iter().flat_map(|progress| progress.sendings.iter().filter_map(received)));
        times.sort();
        times.dedup();
        let order = |time: Time| {
            let age = self.time().since(time);
            (times.partition_point(|other| *other < time), millis(age) / millis(Ring::SPAN), age < BUDGET)
        };
        let mut text = format!("{} {} {} {} {:?}", self.destroyed, self.bursts, self.passes, self.ids.len(), self.keys);
        for progress in &self.operations {
            let minted = progress.minted.as_ref().and_then(|id| self.ids.iter().position(|other| other == id));
            let sendings: Vec<_> =
                progress.sendings.iter().map(|s| (matches!(s, Sending::Done), received(s).map(order))).collect();
            let seen = match progress.command.as_ref().map(|command| &command.target) {
                Some(Target::Update { id, expected: Expected::Etag(Etag { version, .. }), .. }) => {
                    (Some(*version), id.as_ref())
                }
                Some(Target::Update { id, .. }) => (None, id.as_ref()),
                _ => (None, None),
            };
            let id = seen.1.and_then(|id| self.ids.iter().position(|other| other == id));
            let _ = write!(text, " | {} {minted:?} {sendings:?} {:?} {id:?}", progress.applied, seen.0);
        }
        if let Some(record) = &kept {
            let name = |hash: SecretHash| self.ids.iter().position(|id| self.claim(id).hash == hash);
            let marks: Vec<_> = record.ring.slots.iter().map(|(mark, at)| (mark.0, order(*at))).collect();
            let _ = write!(
                text,
                " | {} {marks:?} {:?} {:?} {:?} {:?} {} {}",
                record.version,
                order(record.ring.floor),
                order(record.mint_time),
                record.previous.map(name),
                record.data.as_bytes(),
                record.subject,
                millis(record.deadline.since(self.time())) / millis(HOUR),
            );
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }
}

/// What a search came to.
#[derive(Debug, Default)]
struct Visited {
    states: usize,
    steps: usize,
    /// Whether there are more states than were allowed.
    cut: bool,
}

/// Plays every interleaving, up to so many states. There is no way back in a store, so each branch is played from the start.
fn search(world: World, most: usize) -> Result<Visited, String> {
    let mut seen = HashSet::new();
    let mut visited = Visited::default();
    let mut open: Vec<Vec<Event>> = vec![Vec::new()];
    while let Some(path) = open.pop() {
        if visited.states >= most {
            visited.cut = true;
            break;
        }
        let mut play = Some(Play::again(world, &path));
        visited.states += 1;
        let events = play.as_ref().map(Play::events).unwrap_or_default();
        for event in events {
            // The first branch goes on with what is there.
            let mut branch = play.take().unwrap_or_else(|| Play::again(world, &path));
            visited.steps += 1;
            let trace = || path.iter().copied().chain([event]).collect::<Vec<_>>();
            branch.play(event).map_err(|wrong| format!("{}: {wrong}, after {:?}", world.name, trace()))?;
            if seen.insert(branch.fingerprint()) {
                open.push(trace());
            }
        }
    }
    Ok(visited)
}

use Kind::{Create, Merge, MergeAny, Remove, Rotate, Shorten, Whole};

const LOGIN: Kind = Rotate { login: true };
const ROTATE: Kind = Rotate { login: false };

/// Small enough to be searched to the end in the long form; the short one cuts the larger of them short.
const SMALL: [World; 15] = [
    World { name: "two merges", operations: &[sent(Merge, 2), omitting(MergeAny, 2)], bursts: &[1], ..PLAIN },
    World { name: "two whole maps", operations: &[sent(Whole, 2), omitting(Whole, 2)], bursts: &[1], ..PLAIN },
    World { name: "a merge and the eight", operations: &[sent(MergeAny, 3)], bursts: &[7, 1, 1], passes: 1, ..PLAIN },
    World { name: "a merge and its etag", operations: &[sent(Merge, 3)], bursts: &[6, 1, 1, 1], passes: 1, ..PLAIN },
    World { name: "a whole map and the eight", operations: &[sent(Whole, 3)], bursts: &[7, 1, 1], passes: 1, ..PLAIN },
    World { name: "a merge and the young", operations: &[sent(MergeAny, 3)], bursts: &[MARKS - 2, 1, 1, 1], ..PLAIN },
    World { name: "a merge, a destroy", operations: &[sent(Merge, 2), sent(LOGIN, 2)], destroy: true, ..PLAIN },
    World { name: "a removal", operations: &[sent(Remove, 2), sent(Whole, 2)], bursts: &[1], ..PLAIN },
    World { name: "a removal and the eight", operations: &[sent(Remove, 3)], bursts: &[7, 1, 1], passes: 1, ..PLAIN },
    World { name: "a shortening", operations: &[sent(Shorten, 2), sent(LOGIN, 2)], bursts: &[1], passes: 1, ..PLAIN },
    World { name: "two rotates", operations: &[sent(LOGIN, 2), omitting(ROTATE, 2)], bursts: &[1], ..PLAIN },
    World { name: "a rotate and the eight", operations: &[sent(LOGIN, 3)], bursts: &[7, 1, 1], passes: 1, ..PLAIN },
    World { name: "a create", operations: &[sent(Create, 3)], bursts: &[1, 8], destroy: true, passes: 1, ..PLAIN },
    World { name: "a create and a login", operations: &[sent(Create, 2), sent(LOGIN, 2)], destroy: true, ..PLAIN },
    World {
        name: "a login, once",
        operations: &[sent(LOGIN, 1), sent(MergeAny, 1), sent(Whole, 1)],
        bursts: &[1],
        destroy: true,
        ..PLAIN
    },
];

/// Larger ones, of which each form visits a part: depth first, so that whole histories are among it.
const LARGE: [World; 6] = [
    World {
        name: "three merges",
        operations: &[sent(Merge, 2), omitting(MergeAny, 2), sent(Whole, 2)],
        bursts: &[1, 1],
        ..PLAIN
    },
    World {
        name: "two merges at the edge",
        operations: &[sent(MergeAny, 3), omitting(Merge, 2)],
        bursts: &[6, 1, 1, 1],
        passes: 2,
        ..PLAIN
    },
    World {
        name: "a merge and a login at the edge",
        operations: &[sent(MergeAny, 2), sent(LOGIN, 2)],
        bursts: &[6, 1, 1],
        destroy: true,
        passes: 1,
        ..PLAIN
    },
    World {
        name: "three rotates",
        operations: &[sent(LOGIN, 2), omitting(ROTATE, 2), sent(ROTATE, 2)],
        bursts: &[1],
        destroy: true,
        ..PLAIN
    },
    World {
        name: "a create, a login, a merge",
        operations: &[sent(Create, 2), sent(LOGIN, 2), sent(MergeAny, 2)],
        bursts: &[1],
        destroy: true,
        ..PLAIN
    },
    World {
        name: "two merges and the young",
        operations: &[sent(MergeAny, 2), sent(Merge, 2)],
        bursts: &[MARKS - 3, 1, 1, 1],
        passes: 1,
        ..PLAIN
    },
];

fn check(worlds: &[World], most: usize) {
    let mut states = 0;
    for world in worlds {
        let begin = Instant::now();
        let visited = search(*world, most).unwrap_or_else(|wrong| panic!("{wrong}"));
        let all = if visited.cut { "cut short" } else { "all" };
        println!(
            "visited {} states, {} steps ({all}) in {:?}: {}",
            visited.states,
            visited.steps,
            begin.elapsed(),
            world.name
        );
        states += visited.states;
    }
    println!("visited {states} states in {} worlds", worlds.len());
}

#[test]
fn p1_p2_p3_p5_hold_in_every_interleaving_of_late_lost_and_repeated_commands() {
    check(&SMALL, rounds(50_000));
}

#[test]
fn p1_p2_p3_p5_hold_in_larger_worlds() {
    check(&LARGE, rounds(25_000) / 2);
}

/// One operation that says of itself nothing about a version.
const MERGE: &[Operation] = &[sent(MergeAny, 2)];

fn must_find(world: World) {
    let wrong = search(world, 200_000).expect_err("the model notices");
    println!("found, as it must be: {wrong}");
    assert!(wrong.contains("applied twice (P5)"), "{wrong}");
}

#[test]
fn the_model_finds_what_the_design_leaves_open() {
    let twist = Twist::HeldUpBeforeTheServer;
    must_find(World { name: "held up", operations: MERGE, bursts: &[8], passes: 1, twist, ..PLAIN });
}

#[test]
fn the_model_finds_what_repeats_that_do_not_say_so_do() {
    let twist = Twist::RepeatsUnmarked;
    must_find(World { name: "unmarked", operations: MERGE, bursts: &[8], passes: 1, twist, ..PLAIN });
}

#[test]
fn the_model_finds_what_rule_2_prevents() {
    let twist = Twist::SinceIsNow;
    must_find(World { name: "since is now", operations: MERGE, bursts: &[MARKS], twist, ..PLAIN });
}
