//! A load that keeps account. Calls begin when they are due, whether the ones before were answered or not, as visitors'
//! do; each session notes what was acknowledged to it and when; and in the end an audit holds what is stored against that.
//! (Long: one operation after another, each with what its answers mean for the ledger.)
//!
//! - `ledger`: what a session was promised.
//! - `figures`: what callers felt: codes, times, outages.
//! - `audit`: what is kept, and what should not be.

mod audit;
mod figures;
mod ledger;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, OpenRequest, SaveRequest, Session};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};
use tonic::{Code, Request, Status};

pub use self::{
    audit::{Audit, Lost},
    figures::Figures,
};
use self::{
    figures::{Call, code_of},
    ledger::{Account, Life, State, When, lock},
};
use crate::{Dice, Server, Stub, again, change, create, json, replace, request_id};

/// Connections to each server. On one there are at most 256 calls at once.
const CONNECTIONS: usize = 16;

/// Calls under way at once; what would be more is held back, and counted.
const AT_ONCE: usize = 4_000;

/// When the caller gives up; long after the server should have.
const PATIENCE: Duration = Duration::from_secs(6);

/// The pause before a repeat.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a call that nobody could answer is made again, as the same operation.
#[derive(Clone, Copy, Debug)]
pub enum Repeats {
    /// It is not: what came of it is not known.
    Never,
    /// It is, until this long after the first attempt.
    For(Duration),
}

/// What calls there are, in parts of a hundred; the rest are Opens.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Saves of a key.
    pub keys: usize,
    /// Saves of the whole map.
    pub wholes: usize,
    /// Rotates.
    pub rotates: usize,
    /// Destroys, after each of which a session is created.
    pub destroys: usize,
    /// Opens of what is dead: a destroyed session, an id that was replaced.
    pub dead: usize,
}

impl Default for Mix {
    fn default() -> Self {
        Self { keys: 35, wholes: 10, rotates: 6, destroys: 6, dead: 4 }
    }
}

/// Sessions, and what is done to them.
pub struct Load {
    shared: Arc<Shared>,
}

struct Shared {
    stubs: Vec<Stub>,
    began: Instant,
    repeats: Repeats,
    mix: Mix,
    /// The sessions that are used.
    slots: Vec<Mutex<Arc<Life>>>,
    /// All there ever were.
    lives: Mutex<Vec<Arc<Life>>>,
    /// What the audit cannot see any more.
    seen: Mutex<Audit>,
    figures: Mutex<Figures>,
    under_way: AtomicUsize,
    next: AtomicUsize,
}

/// A load that runs.
pub struct Running {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Load {
    /// So many sessions of these servers.
    pub async fn new(servers: &[&Server], sessions: usize, repeats: Repeats) -> Self {
        Self::mixed(servers, sessions, repeats, Mix::default()).await
    }

    /// The same, with another mix.
    pub async fn mixed(servers: &[&Server], sessions: usize, repeats: Repeats, mix: Mix) -> Self {
        let stubs: Vec<Stub> =
            servers.iter().flat_map(|server| std::iter::repeat_with(|| server.stub()).take(CONNECTIONS)).collect();
        let mut shared = Shared {
            stubs,
            began: Instant::now(),
            repeats: Repeats::For(PATIENCE),
            mix,
            slots: Vec::new(),
            lives: Mutex::default(),
            seen: Mutex::default(),
            figures: Mutex::default(),
            under_way: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        };
        for _ in 0..sessions {
            let life = shared.born().await.expect("a session is created");
            shared.slots.push(Mutex::new(life));
        }
        *lock(&shared.figures) = Figures::default();
        shared.repeats = repeats;
        Self { shared: Arc::new(shared) }
    }

    /// The time since it began, by which everything is told.
    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    /// Begins so many operations a second, until told to stop.
    pub fn start(&self, rate: u32, dice: &Dice) -> Running {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(generate(Arc::clone(&self.shared), rate, dice.split(usize::MAX - 1), stopped));
        Running { shared: Arc::clone(&self.shared), stop, task }
    }

    /// Does so many operations at most, so many at a time, each as soon as one before it has ended.
    pub async fn rounds(&self, rounds: usize, at_once: usize, dice: &Dice) -> Figures {
        let mut lanes = JoinSet::new();
        let next = Arc::<AtomicUsize>::default();
        for _ in 0..at_once {
            let (shared, next, dice) = (Arc::clone(&self.shared), Arc::clone(&next), dice.clone());
            lanes.spawn(async move {
                while let Some(round) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|round| *round < rounds) {
                    shared.operation(dice.split(round)).await;
                }
            });
        }
        lanes.join_all().await;
        std::mem::take(&mut *lock(&self.shared.figures))
    }

    /// Opens every session there ever was, by every id that it ever had.
    pub async fn audit(&self) -> Audit {
        let (lives, seen) = (lock(&self.shared.lives).clone(), lock(&self.shared.seen).clone());
        audit::audit(&self.shared.stubs, &lives, seen).await
    }
}

impl Running {
    /// Whether a write has been acknowledged since then.
    pub fn writes_since(&self, then: Duration) -> bool {
        lock(&self.shared.figures).first_write_after(then).is_some()
    }

    /// When the last call ended, so far, that was answered by nobody.
    pub fn last_outage(&self) -> Option<Duration> {
        lock(&self.shared.figures).last_outage()
    }

    /// Begins no more, waits for what is under way, and tells what callers felt.
    pub async fn stop(self) -> Figures {
        let _ = self.stop.send(true);
        let held_back = self.task.await.expect("the load does not fail");
        let mut figures = std::mem::take(&mut *lock(&self.shared.figures));
        figures.held_back = held_back;
        figures
    }
}

async fn generate(shared: Arc<Shared>, rate: u32, dice: Dice, mut stopped: watch::Receiver<bool>) -> usize {
    let (began, mut due, mut held_back) = (Instant::now(), 0, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut operations = JoinSet::new();
    loop {
        let planned = Instant::now();
        tokio::select! {
            at = tick.tick() => {
                let lag = at.into_std().max(planned).elapsed();
                lock(&shared.figures).lags.push(lag);
            }
            _ = stopped.changed() => break,
        }
        while due < (began.elapsed().as_secs_f64() * f64::from(rate)) as usize {
            if shared.under_way.load(Ordering::Relaxed) >= AT_ONCE {
                held_back += 1;
            } else {
                let (shared, dice) = (Arc::clone(&shared), dice.split(due));
                operations.spawn(async move { shared.operation(dice).await });
            }
            due += 1;
        }
        while operations.try_join_next().is_some() {}
    }
    operations.join_all().await;
    held_back
}

impl Shared {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn stub(&self) -> Stub {
        self.stubs[self.number() % self.stubs.len()].clone()
    }

    async fn operation(&self, mut dice: Dice) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let slot = &self.slots[dice.below(self.slots.len())];
        let life = Arc::clone(&lock(slot));
        let Mix { keys, wholes, rotates, destroys, dead } = self.mix;
        let mut part = dice.below(100);
        let mut is = |share: usize| {
            let yes = part < share;
            part = part.wrapping_sub(share);
            yes
        };
        if is(keys) {
            self.save_a_key(&life, dice.once_in(2)).await;
        } else if is(wholes) {
            self.save_the_map(&life).await;
        } else if is(rotates) {
            self.rotate(&life, slot).await;
        } else if is(destroys) {
            self.destroy(&life, slot).await;
        } else if is(dead) {
            self.open_what_is_dead(&mut dice).await;
        } else {
            self.open(&life).await;
        }
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// One attempt after the other, each noted, until it is answered or time is up.
    async fn insist<Q: Clone, A>(
        &self,
        request: &Q,
        is_write: bool,
        act: impl AsyncFn(Stub, Request<Q>) -> Result<A, Status>,
    ) -> Result<A, Status> {
        let first = Instant::now();
        let mut attempt = Request::new(request.clone());
        loop {
            attempt.set_timeout(PATIENCE);
            let start = self.now();
            let answer = act(self.stub(), attempt).await;
            let end = self.now();
            let code = answer.as_ref().err().map(code_of);
            let is_outage = answer.as_ref().is_err_and(is_no_answer);
            lock(&self.figures).note(Call { start, end, is_write, ok: code.is_none(), is_outage }, code);
            match self.repeats {
                Repeats::For(time) if is_outage && first.elapsed() < time => tokio::time::sleep(PAUSE).await,
                _ => {
                    lock(&self.figures).failed += usize::from(is_outage);
                    return answer;
                }
            }
            attempt = again(request);
        }
    }

    async fn look(&self, id: &str) -> Result<Option<Session>, Status> {
        let request = OpenRequest { id: id.to_owned(), no_renew: false };
        let answer = self.insist(&request, false, async |mut stub, request| stub.open(request).await).await?;
        Ok(answer.into_inner().session.filter(|session| !session.id.is_empty()))
    }

    async fn save(&self, request: SaveRequest) -> Result<Session, Status> {
        let request = SaveRequest { request_id: request_id(), ..request };
        let answer = self.insist(&request, true, async |mut stub, request| stub.save(request).await).await?;
        answer.into_inner().session.ok_or_else(|| Status::internal("Save always sets the session"))
    }

    /// An answer's data must be this session's, whatever happened on the way.
    fn check(&self, life: &Life, session: &Session) {
        let Some(data) = &session.data else { return };
        if json(data)["name"] != life.name || (!life.handle.is_empty() && session.handle != life.handle) {
            lock(&self.seen).wrong.push(format!("{} got {}", life.name, session.handle));
        }
    }

    async fn born(&self) -> Result<Arc<Life>, Status> {
        let name = format!("n{}-{}", self.number(), uuid::Uuid::new_v4().simple());
        let sent = self.now();
        let session = self.save(create(j!({"name": name, "list": []}))).await?;
        let life = Life {
            name,
            handle: session.handle.clone(),
            account: Mutex::new(Account::of(&session.id, When { sent, acknowledged: self.now() })),
        };
        self.check(&life, &session);
        let life = Arc::new(life);
        lock(&self.lives).push(Arc::clone(&life));
        Ok(life)
    }

    async fn open(&self, life: &Life) {
        let before = life.state();
        let Ok(found) = self.look(&before.id).await else { return };
        match found {
            Some(session) => {
                self.check(life, &session);
                if before.is_dead {
                    lock(&self.seen).dead_meanwhile.push(format!("{}: it opens", life.name));
                }
            }
            // Whoever replaced or ended it meanwhile knows why.
            None if before.is_settled && life.state() == before => {
                lock(&self.seen).vanished.push(format!("{}: an Open found nothing", life.name));
            }
            None => {}
        }
    }

    /// A Save of a tag by its key, for the version last known or for any.
    async fn save_a_key(&self, life: &Life, want_data: bool) {
        let (before, tag, sent) = (life.state(), format!("k{}", self.number()), self.now());
        let session = Session { id: before.id.clone(), etag: "*".to_owned(), ..Session::default() };
        let request = SaveRequest { omit_data: !want_data, ..change(&session, &[&tag], j!({ &tag: true })) };
        let answer = self.save(request).await;
        self.settle(life, &before, tag, sent, answer);
    }

    /// A Save of a tag in the list, in the whole map as it was just opened.
    async fn save_the_map(&self, life: &Life) {
        let before = life.state();
        let Ok(Some(session)) = self.look(&before.id).await else { return };
        self.check(life, &session);
        let tag = format!("l{}", self.number());
        let mut map = json(session.data.as_ref().expect("Open always sets the data"));
        let Some(list) = map["list"].as_array_mut() else { return };
        list.push(tag.clone().into());
        let sent = self.now();
        let answer = self.save(replace(&session, map)).await;
        self.settle(life, &before, tag, sent, answer);
    }

    fn settle(&self, life: &Life, before: &State, tag: String, sent: Duration, answer: Result<Session, Status>) {
        match answer {
            Ok(session) => {
                self.check(life, &session);
                if before.is_dead {
                    lock(&self.seen).dead_meanwhile.push(format!("{}: it was saved", life.name));
                }
                lock(&life.account).acknowledged.push((tag, When { sent, acknowledged: self.now() }));
            }
            Err(status) if is_refusal(&status) => {
                let mut account = lock(&life.account);
                let replaced = account.replaced.len() - before.replaced;
                account.refused.push((tag, replaced));
            }
            Err(_) => {}
        }
    }

    async fn rotate(&self, life: &Life, slot: &Mutex<Arc<Life>>) {
        let Some(id) = life.claim() else { return self.bury(life, slot).await };
        let tag = format!("r{}", self.number());
        let session = Session { id: id.clone(), etag: "*".to_owned(), ..Session::default() };
        let request = SaveRequest { rotate: true, ..change(&session, &[&tag], j!({ &tag: true })) };
        let sent = self.now();
        let answer = self.save(request).await;
        let when = When { sent, acknowledged: self.now() };
        match answer {
            Ok(new) => {
                self.check(life, &new);
                let mut account = lock(&life.account);
                account.acknowledged.push((tag, when));
                account.replaced.push((id, when));
                account.id = new.id;
                account.free();
            }
            Err(status) => {
                if is_refusal(&status) {
                    lock(&life.account).refused.push((tag, 0));
                }
                // Which id is the right one is not known, or nothing is as it was left.
                self.give_up(life, slot).await;
            }
        }
    }

    async fn destroy(&self, life: &Life, slot: &Mutex<Arc<Life>>) {
        let Some(id) = life.claim() else { return self.bury(life, slot).await };
        let request = DestroyRequest { id, etag: String::new() };
        let sent = self.now();
        let answer = self.insist(&request, true, async |mut stub, request| stub.destroy(request).await).await;
        if answer.is_err() {
            return self.give_up(life, slot).await;
        }
        lock(&life.account).die(When { sent, acknowledged: self.now() });
        self.replace(slot).await;
    }

    async fn give_up(&self, life: &Life, slot: &Mutex<Arc<Life>>) {
        lock(&life.account).is_adrift = true;
        self.replace(slot).await;
    }

    /// What is dead or adrift, and could not be replaced at once, is replaced now.
    async fn bury(&self, life: &Life, slot: &Mutex<Arc<Life>>) {
        if life.is_over() && lock(slot).name == life.name {
            self.replace(slot).await;
        }
    }

    /// Puts a new session in the place of one that is not used any more.
    async fn replace(&self, slot: &Mutex<Arc<Life>>) {
        // Else the next who would end or rotate it tries again: see `bury`.
        if let Ok(life) = self.born().await {
            *lock(slot) = life;
        }
    }

    async fn open_what_is_dead(&self, dice: &mut Dice) {
        let lives = lock(&self.lives).clone();
        // One of the last, where a fault has its best chance.
        let life = &lives[lives.len() - 1 - dice.below(lives.len().min(200))];
        let Some(id) = life.dead_id() else { return };
        if let Ok(Some(_)) = self.look(&id).await {
            lock(&self.seen).dead_meanwhile.push(format!("{}: a dead id opens", life.name));
        }
    }
}

/// Nobody could say anything: the store, the service or the way to it was down, or took too long.
fn is_no_answer(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
}

/// The service has looked, and said no: so it is not applied, and never was.
fn is_refusal(status: &Status) -> bool {
    let code = code_of(status);
    ["NOT_FOUND SESSION_NOT_FOUND", "ABORTED SESSION_CHANGED"].contains(&&code[..])
}
