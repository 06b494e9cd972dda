//! What is done on a connection: a script is run, a node is asked how it is. Where, and how often, is up to `link`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

use super::{
    connection::Connection,
    rights::MissingRight,
    role::Role,
    scripts::{self, Reply, Script},
};
use crate::{
    session::Time,
    store::{Attempt, StoreError},
};

/// How much earlier than the attempt a WAIT ends, so that its answer is still heard.
const WAIT_MARGIN: Duration = Duration::from_millis(20);

/// Something to do on a connection; if need be, again on another.
pub(super) trait Act: Sync {
    type Answer: Send;

    /// Does it, from this moment on.
    fn act(
        &self,
        connection: &Connection,
        attempt: Attempt,
        now: Instant,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// Whether it writes: then not while another node is being made the master.
    const WRITES: bool = false;

    /// Whether it needs a connection that nobody else uses meanwhile.
    const ALONE: bool = false;
}

/// Why an act on a connection came to nothing.
pub(super) enum Failure {
    Redis(RedisError),
    Answer(Problem),
    Store(StoreError),
    /// The Redis user lacks a right.
    Denied(MissingRight),
}

/// Why an answer cannot be used.
#[derive(Debug)]
pub(super) enum Problem {
    /// It belongs to another question, and so may the next one on that connection.
    Astray,
    /// It comes from a Redis that is no master.
    Replica,
    /// It is none that was promised.
    Unreadable(&'static str),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Answer(problem)
    }
}

/// A script, to be run on a key.
pub(super) struct Run<'a, F, const CONFIRM: bool> {
    pub(super) script: &'a Script,
    pub(super) key: &'a str,
    /// Where the next question's number comes from.
    pub(super) numbers: &'a AtomicU64,
    /// With `CONFIRM`: so many replicas must have what it wrote.
    pub(super) replicas: u16,
    /// Adds what comes behind what all scripts are told.
    pub(super) add: F,
}

impl<F: Fn(&mut Cmd) + Sync, const CONFIRM: bool> Act for Run<'_, F, CONFIRM> {
    type Answer = Reply;

    const WRITES: bool = true;
    const ALONE: bool = CONFIRM;

    async fn act(&self, connection: &Connection, attempt: Attempt, _: Instant) -> Result<Reply, Failure> {
        // Only now, as the connection has told Redis's time; and rounded down, as that makes a repeat more likely seen.
        let since = connection.clock().at(attempt.since).before(Duration::from_millis(1));
        let mut reply = self.ask(connection, attempt, since).await?;
        if matches!(reply, Reply::Late) {
            // Nothing was written. Either time is up, or Redis's clock was set: the answer told its time, so once more. By a
            // clock that was set ahead the operation would look younger than it is.
            let since = since.min(connection.clock().at(attempt.since));
            reply = self.ask(connection, attempt, since).await?;
        }
        if matches!(reply, Reply::Late) {
            return Err(Failure::Store(StoreError::Unavailable("the command came too late".to_owned())));
        }
        if CONFIRM && reply.must_last() {
            self.confirm(connection, attempt).await?;
        }
        Ok(reply)
    }
}

impl<F: Fn(&mut Cmd), const CONFIRM: bool> Run<'_, F, CONFIRM> {
    async fn ask(&self, connection: &Connection, attempt: Attempt, since: Time) -> Result<Reply, Failure> {
        let until = connection.clock().at(attempt.until);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let command = |name: &str, script: &str| {
            let mut command = Cmd::with_capacity(24, 1024);
            command.arg(name).arg(script).arg(1).arg(self.key).arg(until.0).arg(since.0);
            command.arg(number).arg(if CONFIRM { "1" } else { "" });
            (self.add)(&mut command);
            command
        };
        let script = self.script;
        let answer = match connection.request(&command("EVALSHA", &script.sha)).await {
            // Flushed, or a node that never saw it: this way it is run and cached in one.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                connection.request(&command("EVAL", &script.text)).await
            }
            answer => answer,
        };
        let mut could_write = true;
        let answer = match answer {
            // Redis refused before the script could look. What needs no memory (a repeat, a conflict, a session that is not
            // there) is answered all the same; what would write fails here, too, and then there is no room for it.
            Err(error) if error.code() == Some("OOM") => {
                could_write = false;
                let looked = connection.request(&command("EVAL", &script.read_only)).await;
                // A script that must not write and would have written is an ERR.
                looked.map_err(|again| if again.code() == Some("ERR") { error } else { again })
            }
            answer => answer,
        };
        let answer = answer.map_err(|error| match MissingRight::of_script(&error, &script.text) {
            Some(right) => Failure::Denied(right),
            None => error.into(),
        })?;
        let (now, reply) = scripts::parse(answer, number)?;
        connection.clock().learn(now);
        // A replica runs what may not write, and all scripts where replica-read-only is off.
        if !could_write || reply.denies() {
            confirm_primary(connection).await?;
        }
        if CONFIRM && reply.must_last() && !could_write {
            let why = "Redis is out of memory: a repeat cannot be confirmed".to_owned();
            return Err(Failure::Store(StoreError::WritesRefused(why)));
        }
        Ok(reply)
    }

    /// Waits until so many replicas have what was just written on this connection, which nobody else uses.
    async fn confirm(&self, connection: &Connection, attempt: Attempt) -> Result<(), Failure> {
        let left = attempt.until.saturating_duration_since(Instant::now()).saturating_sub(WAIT_MARGIN);
        let mut wait = Cmd::new();
        // Zero would be for ever.
        wait.arg("WAIT").arg(self.replicas).arg(left.as_millis().max(1) as u64);
        let answer = connection.request(&wait).await.map_err(|error| match MissingRight::of(&error) {
            Some(right) => Failure::Denied(right),
            // A primary that becomes a replica meanwhile reports it with an error of its own.
            None if is_servers(&error) => Problem::Replica.into(),
            None => error.into(),
        })?;
        match answer {
            Value::Int(replicas) if replicas >= self.replicas.into() => Ok(()),
            Value::Int(_) => Err(Failure::Store(StoreError::WritesRefused(
                "written, but not confirmed by as many replicas as --confirm-replicas asks for".to_owned(),
            ))),
            _ => Err(Problem::Astray.into()),
        }
    }
}

/// The question whether sessions can be opened and saved here. (A master that has too few replicas, or cannot write its
/// snapshot, refuses to save for now; that is no better on any other node, and opening works.)
pub(super) struct Ping;

impl Act for Ping {
    type Answer = ();

    async fn act(&self, connection: &Connection, _: Attempt, _: Instant) -> Result<(), Failure> {
        let mut questions = Pipeline::with_capacity(2);
        // One that still loads its data refuses a PING, and answers the other.
        questions.cmd("PING").cmd("HELLO");
        let now = Instant::now();
        let answers = connection.request_all(&questions).await?;
        learn_role(connection, now, answers.last())
    }
}

/// Confirms on the same connection that its node is a primary, now that it has replied that there is no session. One round
/// trip.
///
/// # Errors
/// When it is a replica, or the connection fails.
pub(super) async fn confirm_primary(connection: &Connection) -> Result<(), Failure> {
    let now = Instant::now();
    let hello = connection.request(&redis::cmd("HELLO")).await?;
    learn_role(connection, now, Some(&hello))
}

/// Takes in the reply to a `HELLO` that was sent at this moment.
///
/// # Errors
/// When the node is a replica, or the reply is not one to `HELLO`.
pub(super) fn learn_role(connection: &Connection, sent: Instant, hello: Option<&Value>) -> Result<(), Failure> {
    match hello.and_then(Role::of) {
        Some(Role::Primary) => {
            connection.lease().renew(sent);
            Ok(())
        }
        Some(_) => Err(Problem::Replica.into()),
        None => Err(Problem::Astray.into()),
    }
}

/// The question what a node says of itself.
pub(super) struct Info;

impl Act for Info {
    type Answer = String;

    async fn act(&self, connection: &Connection, _: Attempt, _: Instant) -> Result<String, Failure> {
        let mut ask = Cmd::new();
        ask.arg("INFO").arg(&["server", "memory", "persistence", "replication"]);
        let told = connection.request(&ask).await?;
        Ok(redis::from_redis_value(told).map_err(|_| Problem::Unreadable("INFO is no text"))?)
    }
}

/// Whether Redis itself said so.
pub(super) fn is_servers(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}
