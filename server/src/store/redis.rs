//! Sessions in Redis (7.0 or newer, or Valkey): the only room that knows a Redis command.
//!
//! Opening is a pipelined GET and PEXPIRETIME, followed by a HELLO where these find no session: a replica may lack it, and
//! only a primary may say that there is none. Everything that writes is one script, because what decides (is the secret
//! right, is the version the expected one, was this applied before) and what is decided must not come apart; a
//! MULTI would not do, as keys can expire in the middle of it. Each is one round trip, and one more where it finds no session.
//!
//! - [`keys`]: what a key looks like, with a transcript.
//! - `record`: how a record lies in its string; `lua/record.lua` is its other half.
//! - `scripts`: the scripts, each a file with its contract in the header.
//! - `link`: the way to Redis and back, what its errors mean, and when a question is asked again; `acts`: what is asked.
//! - `nodes`: which node has a key: the one there is, the master that Sentinels name (`sentinel`), or one of a cluster
//!   (`cluster`).
//! - `node`: the pools of connections to one; `connection`: when one counts as broken; `access`: how one is made.
//! - `pipe`: how many ask on one connection; `resp`: how answers are read; `cause`: why a connection or a request failed.
//! - `role`: whether a node is a primary, and how long a connection trusts that.
//! - `clock`: what this process knows of a node's clock.
//! - `options`: how to connect to Redis; `checks`: what is asked of its operator; `probe`: proof that sessions can be kept there;
//!   `rights`: which right of the Redis user is missing.

mod access;
mod acts;
mod cause;
mod checks;
mod clock;
mod cluster;
mod connection;
pub mod keys;
mod link;
mod node;
mod nodes;
mod options;
mod pipe;
mod probe;
mod record;
mod resp;
mod rights;
mod role;
mod scripts;
mod sentinel;
mod url;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};

use self::{
    acts::{Act, Failure, Problem, confirm_primary, learn_role},
    checks::Terms,
    connection::Connection,
    link::Link,
    scripts::{Reply, Status},
    url::Topology,
};
use super::{
    Attempt, Change, Claim, Create, Created, Destroyed, Expected, Fitness, Found, Lifetime, RENEW_PART, REPEAT_WINDOW,
    Save, Saved, Store, StoreError, TOMBSTONE,
};
use crate::session::{Data, Record, Time, millis};

pub use self::{options::RedisOptions, url::RedisUrl};

/// Reads a record as it lies in Redis; `None` is what holds no session. A door for the bench alone, which times it.
#[doc(hidden)]
pub fn read_record(bytes: Bytes) -> Option<Record> {
    record::decode(bytes).ok().flatten()
}

/// Sessions in Redis. Belongs to the runtime that opened it; clones share its connections.
#[derive(Clone, Debug)]
pub struct RedisStore {
    link: Link,
    prefix: Arc<str>,
    terms: Terms,
}

impl RedisStore {
    /// A store that connects when it is first used, and again whenever it must. Must be called within a runtime.
    pub fn open(url: &RedisUrl, options: &RedisOptions) -> Self {
        Self {
            link: Link::open(url, options),
            prefix: Arc::clone(&options.prefix),
            terms: Terms {
                is_cluster: url.topology == Topology::Cluster,
                allow_eviction: options.allow_eviction,
                confirm_replicas: options.confirm_replicas,
            },
        }
    }

    fn key(&self, claim: &Claim) -> String {
        keys::session(&self.prefix, &claim.app, claim.handle)
    }
}

/// Adds the version expected: a sign, a version, a mark.
fn add_expected(command: &mut Cmd, expected: Expected) {
    match expected {
        Expected::Any => command.arg("*").arg("").arg(""),
        Expected::Unreadable => command.arg("?").arg("").arg(""),
        Expected::Etag(etag) => command.arg("=").arg(etag.version).arg(&etag.mark.0),
    };
}

/// Adds a span in milliseconds, or nothing as an empty argument.
fn add_span(command: &mut Cmd, span: Option<Duration>) {
    match span {
        Some(span) => command.arg(millis(span)),
        None => command.arg(""),
    };
}

/// Adds what becomes of the absolute deadline: how, and a span in milliseconds.
fn add_lifetime(command: &mut Cmd, lifetime: Option<Lifetime>) {
    match lifetime {
        Some(Lifetime::Begin(span)) => command.arg("BEGIN").arg(millis(span)),
        Some(Lifetime::Shorten(span)) => command.arg("SHORTEN").arg(millis(span)),
        None => command.arg("").arg(""),
    };
}

fn add_change(command: &mut Cmd, change: &Change) {
    match change {
        Change::Keep => {
            command.arg("KEEP");
        }
        Change::Replace(data) => {
            command.arg("REPLACE").arg(data.as_bytes());
        }
        Change::Merge(changes) => {
            command.arg("MERGE");
            for change in changes {
                command.arg(&change.key[..]).arg(change.entry.as_deref().unwrap_or_default());
            }
        }
    }
}

/// A request for a session. What is found is served by a node that was a primary within the last second; that nothing is
/// found is reported only by a node that is a primary after the GET.
struct Look<'a> {
    key: &'a str,
    claim: &'a Claim,
}

impl Act for Look<'_> {
    type Answer = Option<Found>;

    async fn act(&self, connection: &Connection, _: Attempt, now: Instant) -> Result<Option<Found>, Failure> {
        let mut commands = Pipeline::with_capacity(4);
        for name in ["GET", "PEXPIRETIME"] {
            let mut command = Cmd::with_capacity(2, 16 + self.key.len());
            command.arg(name).arg(self.key);
            commands.add_command(command);
        }
        let asks_time = connection.clock().is_stale(now);
        if asks_time {
            commands.cmd("TIME");
        }
        let confirms_role = connection.lease().is_due(now);
        if confirms_role {
            commands.cmd("HELLO");
        }
        let mut answers = connection.request_all(&commands).await?;
        if confirms_role {
            learn_role(connection, now, answers.pop().as_ref())?;
        }
        if asks_time && let Some(now) = answers.pop().as_ref().and_then(connection::time) {
            connection.clock().learn(now);
        }
        let found = self.read(answers, connection.clock().at(now))?;
        if found.is_none() && !confirms_role {
            confirm_primary(connection).await?;
        }
        Ok(found)
    }
}

impl Look<'_> {
    /// The session in the replies to GET and PEXPIRETIME.
    fn read(&self, answers: Vec<Value>, now: Time) -> Result<Option<Found>, Failure> {
        let (bytes, expiry) = match <[Value; 2]>::try_from(answers) {
            Ok([Value::Nil, Value::Int(-2)]) => return Ok(None),
            // It would live for ever, which no session may.
            Ok([Value::BulkString(_), Value::Int(-1)]) => return Ok(None),
            Ok([Value::BulkString(bytes), Value::Int(expiry)]) => (bytes, expiry),
            _ => return Err(Problem::Astray.into()),
        };
        // The two contradict each other: it came or went in between, or one of them belongs to another question.
        let expiry = u64::try_from(expiry).map_err(|_| Problem::Astray)?;
        let Some(record) = record::decode(bytes.into())? else { return Ok(None) };
        if record.handle != self.claim.handle {
            return Err(Problem::Astray.into());
        }
        Ok((record.current == self.claim.hash).then_some(Found { record, expire_time: Time(expiry), now }))
    }
}

impl Store for RedisStore {
    async fn open(&self, claim: &Claim, attempt: Attempt) -> Result<Option<Found>, StoreError> {
        let key = self.key(claim);
        self.link.within(&key, attempt, &Look { key: &key, claim }).await
    }

    async fn renew(&self, claim: &Claim, attempt: Attempt) -> Result<(), StoreError> {
        let add = |command: &mut Cmd| {
            command.arg(&claim.hash.0).arg(RENEW_PART);
        };
        match self.link.run(&self.link.scripts.renew, &self.key(claim), attempt, add).await? {
            Reply::Bare(Status::Done) => Ok(()),
            reply => Err(broken(&reply)),
        }
    }

    async fn create(&self, create: Create, attempt: Attempt) -> Result<Created, StoreError> {
        let key = keys::session(&self.prefix, &create.app, create.handle);
        let add = |command: &mut Cmd| {
            command.arg(create.handle.0.as_bytes()).arg(&create.mark.0);
            command.arg(&create.mint.salt.0).arg(&create.mint.hash.0).arg(create.subject.as_bytes());
            command.arg(millis(create.idle_timeout)).arg(millis(create.lifetime)).arg(millis(REPEAT_WINDOW));
            command.arg(create.data.as_bytes());
        };
        match self.link.run(&self.link.scripts.create, &key, attempt, add).await? {
            Reply::About(Status::Stored, found) => Ok(Created::Stored(with_data(*found, create.data))),
            Reply::About(Status::Exists, found) => Ok(Created::Exists(*found)),
            Reply::Bare(Status::Unknown) => Ok(Created::Unknown),
            Reply::Bare(Status::Gone) => Ok(Created::Gone),
            reply => Err(broken(&reply)),
        }
    }

    async fn save(&self, save: Save, attempt: Attempt) -> Result<Saved, StoreError> {
        let key = self.key(&save.claim);
        let add = |command: &mut Cmd| {
            command.arg(&save.claim.hash.0).arg(&save.mark.0);
            add_expected(command, save.expected);
            match &save.rotate {
                Some(mint) => command.arg(&mint.salt.0).arg(&mint.hash.0),
                None => command.arg("").arg(""),
            };
            add_lifetime(command, save.lifetime);
            command.arg(millis(REPEAT_WINDOW));
            match &save.subject {
                Some(subject) => command.arg("1").arg(subject.as_bytes()),
                None => command.arg("").arg(""),
            };
            add_span(command, save.idle_timeout);
            command.arg(save.max_bytes).arg(if save.want_data { "1" } else { "" });
            add_change(command, &save.change);
        };
        let script = &self.link.scripts.save;
        let reply = match save.rotate {
            Some(_) => self.link.run_to_last(script, &key, attempt, add).await?,
            None => self.link.run(script, &key, attempt, add).await?,
        };
        match reply {
            Reply::About(Status::Stored, found) => Ok(Saved::Stored(match save.change {
                Change::Replace(data) if save.want_data => with_data(*found, data),
                _ => *found,
            })),
            Reply::About(Status::Repeat, found) => Ok(Saved::Repeat(*found)),
            Reply::About(Status::Replaced, found) => Ok(Saved::Replaced { found: Some(found), maybe_applied: false }),
            Reply::About(Status::ReplacedMaybeApplied, found) => {
                Ok(Saved::Replaced { found: Some(found), maybe_applied: true })
            }
            Reply::Bare(Status::Replaced) => Ok(Saved::Replaced { found: None, maybe_applied: false }),
            Reply::Bare(Status::ReplacedMaybeApplied) => Ok(Saved::Replaced { found: None, maybe_applied: true }),
            Reply::Bare(Status::Missing) => Ok(Saved::Missing),
            Reply::Bare(Status::Unknown) => Ok(Saved::Unknown),
            Reply::Bare(Status::SubjectNeedsRotate) => Ok(Saved::SubjectNeedsRotate),
            Reply::Bare(Status::Conflict) => Ok(Saved::Conflict),
            Reply::Bare(Status::TooLarge) => Ok(Saved::TooLarge),
            reply => Err(broken(&reply)),
        }
    }

    async fn destroy(&self, claim: &Claim, expected: Expected, attempt: Attempt) -> Result<Destroyed, StoreError> {
        let add = |command: &mut Cmd| {
            command.arg(&claim.hash.0);
            add_expected(command, expected);
            command.arg(millis(REPEAT_WINDOW)).arg(TOMBSTONE.as_secs());
        };
        match self.link.run_to_last(&self.link.scripts.destroy, &self.key(claim), attempt, add).await? {
            Reply::Bare(Status::Done | Status::Absent) => Ok(Destroyed::Gone),
            Reply::Bare(Status::Conflict) => Ok(Destroyed::Conflict),
            reply => Err(broken(&reply)),
        }
    }

    async fn ping(&self, attempt: Attempt) -> Result<(), StoreError> {
        self.link.ping(attempt).await
    }

    async fn check(&self, attempt: Attempt) -> Result<Fitness, StoreError> {
        let told = self.link.info(attempt).await?;
        let out_of_reach = |told: &Result<String, StoreError>| matches!(told, Err(StoreError::Unavailable(_)));
        if told.iter().all(out_of_reach) {
            return Err(StoreError::Unavailable("no node tells how it is set up".to_owned()));
        }
        Ok(self.terms.judge(&told))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.probe_nodes().await
    }
}

fn with_data(mut found: Found, data: Data) -> Found {
    found.record.data = data;
    found
}

fn broken(reply: &Reply) -> StoreError {
    let status = match reply {
        Reply::Late => None,
        Reply::Bare(status) | Reply::About(status, _) => Some(status),
    };
    StoreError::Broken(format!("a script answered {status:?}, which is not its to say"))
}
