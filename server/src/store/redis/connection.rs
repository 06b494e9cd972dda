//! A connection, and when it is of no more use. One in use that is lost, leads elsewhere or says nothing takes all the others
//! to its node with it: what became of it has become of them, or will with their next call.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use tokio::{sync::watch, time::timeout_at};
use tracing::warn;

use super::{clock::RedisClock, pipe::Pipe, role::Lease, url::Address};
use crate::session::{Time, millis};

/// After so long with questions and no answer, a connection is given up: a black hole closes nothing. By time and not by
/// count, as calls are pipelined: a short pause of Redis is many timeouts at once.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection younger than this is kept whatever error its node replies with: a new one would lead to the same node.
const YOUNG: Duration = Duration::from_millis(250);

/// A connection that many calls use at once. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Connection {
    pipe: Pipe,
    health: Arc<Health>,
    /// Whether this clone asks a node of a cluster for what is just being moved to it.
    asking: bool,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Health {
    born: Instant,
    /// Whether an answer to a call ever came on it. What becomes of one before tells nothing of the others: a server may
    /// refuse it, or close the one that stands by and is never used.
    used: AtomicBool,
    broken: AtomicBool,
    /// Whether its node was found to be no master any more: what it acknowledged last may be lost.
    retired: AtomicBool,
    /// When the oldest question was asked that timed out since the last answer, in milliseconds from `born`; 0 is none.
    silent_since: AtomicU64,
    /// The clock of the Redis that it leads to: its own, as the master may be another one with the next connection.
    clock: RedisClock,
    /// When its node last reported that it is a primary.
    lease: Lease,
    /// Where its node is.
    address: Address,
    group: Arc<Group>,
}

/// All the connections to one node.
#[derive(Debug)]
pub(super) struct Group {
    members: Mutex<Vec<Weak<Health>>>,
    /// How often they were dropped; whoever makes a connection meanwhile begins anew.
    drops: watch::Sender<u64>,
    /// Until when nothing is to be written, as another node is being made the master: what this one acknowledges is lost.
    holds: watch::Sender<Option<Instant>>,
}

impl Group {
    pub(super) fn new() -> Self {
        Self { members: Mutex::default(), drops: watch::Sender::new(0), holds: watch::Sender::new(None) }
    }

    /// The health of a new member.
    pub(super) fn admit(self: &Arc<Self>, address: Address) -> Arc<Health> {
        let health = Arc::new(Health {
            born: Instant::now(),
            lease: Lease::new(),
            address,
            used: AtomicBool::new(false),
            clock: RedisClock::new(),
            broken: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            silent_since: AtomicU64::new(0),
            group: Arc::clone(self),
        });
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&health));
        health
    }

    /// Tells when the connections are dropped from now on.
    pub(super) fn drops(&self) -> watch::Receiver<u64> {
        self.drops.subscribe()
    }

    /// Drops all connections: the next call makes a new one.
    pub(super) fn drop_all(&self) {
        self.each(|member| member.broken.store(true, Ordering::Relaxed));
        self.drops.send_modify(|drops| *drops += 1);
    }

    /// Drops all connections, as this node is not the one to write to any more.
    pub(super) fn retire(&self) {
        self.each(|member| member.retired.store(true, Ordering::Relaxed));
        self.drop_all();
    }

    /// Nothing is to be written until this moment, or from now on anything.
    pub(super) fn hold(&self, until: Option<Instant>) {
        self.holds.send_replace(until);
    }

    /// Whether nothing is to be written now.
    pub(super) fn is_held(&self) -> bool {
        self.holds.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until something may be written.
    pub(super) async fn free(&self) {
        let mut holds = self.holds.subscribe();
        while let Some(until) = { *holds.borrow_and_update() }.filter(|until| Instant::now() < *until) {
            // Either it is over sooner, or that was the most it could take.
            let _ = timeout_at(until.into(), holds.changed()).await;
        }
    }

    fn each(&self, act: impl Fn(&Health)) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().filter_map(Weak::upgrade).for_each(|member| act(&member));
    }
}

impl Health {
    /// The connection is lost, or was found to be of no use: all of its node's are dropped, but once only, and not those
    /// that were made since.
    pub(super) fn lost(&self) {
        let is_first = !self.broken.swap(true, Ordering::Relaxed);
        if is_first && self.used.load(Ordering::Relaxed) {
            self.group.drop_all();
        }
    }
}

impl Connection {
    pub(super) fn new(pipe: Pipe, health: Arc<Health>) -> Self {
        Self { pipe, health, asking: false }
    }

    /// The same, to ask a node of a cluster for what is just being moved to it.
    pub(super) fn asking(self) -> Self {
        Self { asking: true, ..self }
    }

    /// Where its node is.
    pub(super) fn address(&self) -> &Address {
        &self.health.address
    }

    /// When its node last reported that it is a primary.
    pub(super) fn lease(&self) -> &Lease {
        &self.health.lease
    }

    /// The clock of the Redis that it leads to.
    pub(super) fn clock(&self) -> &RedisClock {
        &self.health.clock
    }

    pub(super) async fn request(&self, command: &Cmd) -> RedisResult<Value> {
        let answers = self.ask(std::iter::once(command)).await?;
        // As many answers as there are commands.
        answers.into_iter().next_back().unwrap_or(Value::Nil).extract_error()
    }

    /// The answers to all the commands, sent in one write. One error among them is an error of all.
    pub(super) async fn request_all(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.ask(commands.cmd_iter()).await?.into_iter().map(Value::extract_error).collect()
    }

    async fn ask<'c>(&self, commands: impl Iterator<Item = &'c Cmd>) -> RedisResult<Vec<Value>> {
        if !self.asking {
            return self.pipe.ask(commands).await;
        }
        let asking = cmd("ASKING");
        let mut replies = self.pipe.ask(commands.flat_map(|command| [&asking, command])).await?.into_iter();
        let mut answers = Vec::with_capacity(replies.len() / 2);
        while let (Some(asked), Some(answer)) = (replies.next(), replies.next()) {
            // Where ASKING was refused, the command was answered as if the slot were not being moved.
            answers.push(if matches!(asked, Value::ServerError(_)) { asked } else { answer });
        }
        Ok(answers)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.health.broken.load(Ordering::Relaxed)
    }

    /// Whether its node was found to be no master any more.
    pub(super) fn is_retired(&self) -> bool {
        self.health.retired.load(Ordering::Relaxed)
    }

    /// The pool shall give it to no one any more: what came on it was another's.
    pub(super) fn mark_broken(&self) {
        self.health.broken.store(true, Ordering::Relaxed);
    }

    /// It is lost, and with it all the others.
    pub(super) fn lost(&self) {
        self.health.lost();
    }

    /// Its node is a replica: drops all connections to that node, and discards the replies that are still to come on them.
    pub(super) fn demoted(&self) {
        // Once only, and not those that were made since.
        if !self.health.retired.swap(true, Ordering::Relaxed) {
            warn!(address = %self.health.address, "this Redis node is a replica now: dropped all connections to it");
            self.health.group.retire();
        }
    }

    /// Whether it was made long enough ago that a new connection could lead to another node.
    pub(super) fn is_old(&self) -> bool {
        self.health.born.elapsed() > YOUNG
    }

    /// An answer came, whatever it said.
    pub(super) fn answered(&self) {
        self.health.silent_since.store(0, Ordering::Relaxed);
        self.health.used.store(true, Ordering::Relaxed);
    }

    /// No answer came in time to what was asked then.
    pub(super) fn timed_out(&self, asked: Instant) {
        let asked = millis(asked.saturating_duration_since(self.health.born)).max(1);
        let none = self.health.silent_since.compare_exchange(0, asked, Ordering::Relaxed, Ordering::Relaxed);
        let since = none.err().map_or(asked, |since| since.min(asked));
        if millis(self.health.born.elapsed()).saturating_sub(since) >= millis(SILENCE) {
            self.lost();
        }
    }
}

/// What `TIME` told, in milliseconds.
pub(super) fn time(answer: &Value) -> Option<Time> {
    let Value::Array(parts) = answer else { return None };
    let [Value::BulkString(seconds), Value::BulkString(micros)] = &parts[..] else { return None };
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
    Some(Time(number(seconds)? * 1000 + number(micros)? / 1000))
}
