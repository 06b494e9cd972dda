//! Sessions in Redis (7.0 or newer, or Valkey): the only room that knows a Redis command.
//!
//! Opening is a pipelined GET and PEXPIRETIME. Everything that writes is one script, because what decides (is the secret
//! right, is the version the expected one, was this applied before) and what is decided must not come apart; a
//! MULTI would not do, as keys can expire in the middle of it. Each is one round trip.
//!
//! - [`keys`]: what a key looks like, with a transcript.
//! - `record`: how a record lies in its string; `lua/record.lua` is its other half.
//! - `scripts`: the scripts, each a file with its contract in the header.
//! - `connection`: the pool's manager, and when a connection counts as broken.
//! - `clock`: what this process knows of Redis's clock.

mod clock;
mod connection;
pub mod keys;
mod record;
mod scripts;
mod url;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bb8_redis::bb8;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::time::timeout_at;

use self::{
    clock::RedisClock,
    connection::{Connection, Manager, Troubles},
    scripts::{Reply, Script, Scripts, Status},
};
use super::{
    Attempt, Change, Claim, Create, Created, Destroyed, Expected, Found, RENEW_PART, REPEAT_WINDOW, Save, Saved, Store,
    StoreError, TOMBSTONE,
};
use crate::session::{Data, Time, millis};

pub use self::url::RedisUrl;

/// Connections per shard. One carries all that one core can ask for; the second is there while the first is replaced.
const CONNECTIONS: u32 = 2;

/// How long to wait for a connection when there is none: about what making one takes. Longer, and calls pile up.
const CHECKOUT: Duration = Duration::from_millis(250);

/// Sessions in Redis. Belongs to the runtime that opened it; clones share its connections.
#[derive(Clone, Debug)]
pub struct RedisStore {
    pool: bb8::Pool<Manager>,
    clock: Arc<RedisClock>,
    scripts: Arc<Scripts>,
    troubles: Troubles,
    prefix: Arc<str>,
}

impl RedisStore {
    /// A store that connects when it is first used, and again whenever it must. Must be called within a runtime.
    pub fn open(url: &RedisUrl, prefix: &str) -> Self {
        let (clock, scripts) = (Arc::new(RedisClock::new()), Arc::new(Scripts::new()));
        let troubles = Troubles::default();
        let manager = Manager::new(url.info().clone(), Arc::clone(&clock), Arc::clone(&scripts), troubles.clone());
        let pool = bb8::Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(CONNECTIONS)
            .connection_timeout(CHECKOUT)
            // A PING before every command would double the round trips; `checkout` looks at the broken mark instead.
            .test_on_check_out(false)
            // A multiplexed connection is as good old as new.
            .max_lifetime(None)
            .idle_timeout(None)
            // One connection for all, as long as it is well: what goes out together is one write.
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .error_sink(Box::new(troubles.clone()))
            .build_unchecked(manager);
        Self { pool, clock, scripts, troubles, prefix: prefix.into() }
    }

    /// A connection to use beside others: it is cloned and given back at once, so that calls are pipelined on it.
    async fn checkout(&self) -> Result<Connection, StoreError> {
        loop {
            let connection = self.pool.get().await.map_err(|_| StoreError::Unavailable(self.troubles.last()))?;
            // A broken one leaves the pool as it is given back.
            if !connection.is_broken() {
                return Ok(connection.clone());
            }
        }
    }

    /// Does something on a connection within the attempt's time.
    async fn within<T>(
        &self,
        attempt: Attempt,
        act: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let late = || StoreError::Unavailable("no answer in time".to_owned());
        if Instant::now() >= attempt.until {
            return Err(late());
        }
        let mut connection = timeout_at(attempt.until.into(), self.checkout()).await.map_err(|_| late())??;
        let asked = Instant::now();
        match timeout_at(attempt.until.into(), act(&mut connection)).await {
            Ok(result) => {
                connection.answered();
                result
            }
            Err(_) => {
                connection.timed_out(asked);
                Err(late())
            }
        }
    }

    /// Runs a script on a key. What `add` adds comes behind the attempt's times.
    async fn run(
        &self,
        script: &Script,
        key: &str,
        attempt: Attempt,
        add: impl Fn(&mut Cmd),
    ) -> Result<Reply, StoreError> {
        self.within(attempt, async |connection| {
            // Only now, as the connection has told Redis's time; and rounded down, as that makes a repeat more likely seen.
            let since = self.clock.at(attempt.since).before(Duration::from_millis(1));
            let mut reply = self.ask(connection, script, key, attempt, since, &add).await?;
            if matches!(reply, Reply::Late) {
                // Nothing was written. Either time is up, or Redis's clock was set: the answer told its time, so once more.
                // By a clock that was set ahead the operation would look younger than it is.
                let since = since.min(self.clock.at(attempt.since));
                reply = self.ask(connection, script, key, attempt, since, &add).await?;
            }
            match reply {
                Reply::Late => Err(StoreError::Unavailable("the command came too late".to_owned())),
                reply => Ok(reply),
            }
        })
        .await
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        script: &Script,
        key: &str,
        attempt: Attempt,
        since: Time,
        add: impl Fn(&mut Cmd),
    ) -> Result<Reply, StoreError> {
        let until = self.clock.at(attempt.until);
        let command = |name: &str, script: &str| {
            let mut command = Cmd::with_capacity(24, 1024);
            command.arg(name).arg(script).arg(1).arg(key).arg(until.0).arg(since.0);
            add(&mut command);
            command
        };
        let answer = match connection.request(&command("EVALSHA", &script.sha)).await {
            // Flushed, or a node that never saw it: this way it is run and cached in one.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                connection.request(&command("EVAL", &script.text)).await
            }
            answer => answer,
        };
        let answer = match answer {
            // Redis refused before the script could look. What needs no memory (a repeat, a conflict, a session that is not
            // there) is answered all the same; what would write fails here, too, and then there is no room for it.
            Err(error) if error.code() == Some("OOM") => {
                let looked = connection.request(&command("EVAL", &script.read_only)).await;
                looked.map_err(|again| if is_servers(&again) { error } else { again })
            }
            answer => answer,
        };
        let answer = answer.map_err(|error| self.failed(connection, &error))?;
        let (now, reply) = scripts::parse(answer, key).map_err(|problem| self.unexpected(connection, problem))?;
        self.clock.learn(now);
        Ok(reply)
    }

    /// What a failed command means; a connection that is of no more use is marked so.
    fn failed(&self, connection: &Connection, error: &RedisError) -> StoreError {
        connection.failed(error);
        if !is_servers(error) {
            return StoreError::Unavailable(error.category().to_owned());
        }
        // The text of a server's error may quote an argument: only its code is told.
        let code = error.code().unwrap_or("an error without a code").to_owned();
        match code.as_str() {
            "OOM" => StoreError::Full("Redis is out of memory".to_owned()),
            "LOADING" | "MASTERDOWN" | "READONLY" | "NOREPLICAS" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MISCONF"
            | "NOAUTH" | "WRONGPASS" => StoreError::Unavailable(code),
            // A command that the user may not run is the operator's to mend: it must be seen in the log.
            "NOPERM" => {
                StoreError::Broken("NOPERM: this Redis user may not run all that is needed (SECURITY.md)".to_owned())
            }
            _ => StoreError::Broken(code),
        }
    }

    /// What an answer means that fits no promise. One about another session came astray, and so may the next on that
    /// connection.
    fn unexpected(&self, connection: &Connection, problem: Problem) -> StoreError {
        match problem {
            Problem::Astray => {
                connection.mark_broken();
                StoreError::Unavailable("a reply for another session".to_owned())
            }
            Problem::Unreadable(what) => StoreError::Broken(what.to_owned()),
        }
    }

    fn key(&self, claim: &Claim) -> String {
        keys::session(&self.prefix, &claim.app, claim.handle)
    }
}

/// Whether Redis itself said so.
fn is_servers(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Why an answer cannot be used.
#[derive(Debug)]
enum Problem {
    /// It is about another session.
    Astray,
    /// It is none that was promised.
    Unreadable(&'static str),
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

impl Store for RedisStore {
    async fn open(&self, claim: &Claim, attempt: Attempt) -> Result<Option<Found>, StoreError> {
        let key = self.key(claim);
        self.within(attempt, async |connection| {
            let mut commands = Pipeline::with_capacity(3);
            commands.cmd("GET").arg(&key).cmd("PEXPIRETIME").arg(&key);
            let asks_time = self.clock.is_stale();
            if asks_time {
                commands.cmd("TIME");
            }
            let mut answers =
                connection.request_all(&commands).await.map_err(|error| self.failed(connection, &error))?;
            if asks_time {
                answers.pop().as_ref().and_then(connection::time).into_iter().for_each(|now| self.clock.learn(now));
            }
            let (bytes, expiry) = match <[Value; 2]>::try_from(answers) {
                Ok([Value::Nil, Value::Int(_)]) => return Ok(None),
                Ok([Value::BulkString(bytes), Value::Int(expiry)]) => (bytes, expiry),
                _ => return Err(StoreError::Broken("GET and PEXPIRETIME answered otherwise".to_owned())),
            };
            // -1 would live for ever, which no session may; -2 has ended in between.
            let Ok(expiry) = u64::try_from(expiry) else { return Ok(None) };
            let record = record::decode(bytes.into()).map_err(|problem| self.unexpected(connection, problem))?;
            let Some(record) = record else { return Ok(None) };
            if record.handle != claim.handle {
                return Err(self.unexpected(connection, Problem::Astray));
            }
            let now = self.clock.at(Instant::now());
            let expire_time = Time(expiry);
            Ok((record.current == claim.hash).then_some(Found { record, expire_time, now }))
        })
        .await
    }

    async fn renew(&self, claim: &Claim, attempt: Attempt) -> Result<(), StoreError> {
        let add = |command: &mut Cmd| {
            command.arg(&claim.hash.0).arg(RENEW_PART);
        };
        match self.run(&self.scripts.renew, &self.key(claim), attempt, add).await? {
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
        match self.run(&self.scripts.create, &key, attempt, add).await? {
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
            add_span(command, save.lifetime);
            command.arg(millis(REPEAT_WINDOW));
            match &save.subject {
                Some(subject) => command.arg("1").arg(subject.as_bytes()),
                None => command.arg("").arg(""),
            };
            add_span(command, save.idle_timeout);
            command.arg(save.max_bytes).arg(if save.want_data { "1" } else { "" });
            add_change(command, &save.change);
        };
        match self.run(&self.scripts.save, &key, attempt, add).await? {
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
        match self.run(&self.scripts.destroy, &self.key(claim), attempt, add).await? {
            Reply::Bare(Status::Done) => Ok(Destroyed::Gone),
            Reply::Bare(Status::Conflict) => Ok(Destroyed::Conflict),
            reply => Err(broken(&reply)),
        }
    }

    async fn ping(&self, attempt: Attempt) -> Result<(), StoreError> {
        self.within(attempt, async |connection| {
            let answer = connection.request(&redis::cmd("PING")).await;
            answer.map(drop).map_err(|error| self.failed(connection, &error))
        })
        .await
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
