//! The way to Redis and back: a question goes out on a shared connection, within its attempt's time, and what comes back
//! is an answer, or an error whose meaning is known. A script that Redis has forgotten, that comes too late by a clock that
//! was set, or that finds no memory is asked once more, in the way that fits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bb8_redis::bb8;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use tokio::time::timeout_at;

use super::{
    clock::RedisClock,
    connection::{Connection, Manager, Troubles},
    scripts::{self, Reply, Script, Scripts},
    url::RedisUrl,
};
use crate::{
    session::Time,
    store::{Attempt, StoreError},
};

/// Connections per shard. One carries all that one core can ask for; the second is there while the first is replaced.
const CONNECTIONS: u32 = 2;

/// How long to wait for a connection when there is none: about what making one takes. Longer, and calls pile up.
const CHECKOUT: Duration = Duration::from_millis(250);

/// The way to Redis. Belongs to the runtime that opened it; clones share its connections.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pool: bb8::Pool<Manager>,
    pub(super) clock: Arc<RedisClock>,
    pub(super) scripts: Arc<Scripts>,
    troubles: Troubles,
}

impl Link {
    /// A link that connects when it is first used, and again whenever it must. Must be called within a runtime.
    pub(super) fn open(url: &RedisUrl) -> Self {
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
        Self { pool, clock, scripts, troubles }
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
    pub(super) async fn within<T>(
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
    pub(super) async fn run(
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
    pub(super) fn failed(&self, connection: &Connection, error: &RedisError) -> StoreError {
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
    pub(super) fn unexpected(&self, connection: &Connection, problem: Problem) -> StoreError {
        match problem {
            Problem::Astray => {
                connection.mark_broken();
                StoreError::Unavailable("a reply for another session".to_owned())
            }
            Problem::Unreadable(what) => StoreError::Broken(what.to_owned()),
        }
    }
}

/// Whether Redis itself said so.
fn is_servers(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Why an answer cannot be used.
#[derive(Debug)]
pub(super) enum Problem {
    /// It is about another session.
    Astray,
    /// It is none that was promised.
    Unreadable(&'static str),
}
