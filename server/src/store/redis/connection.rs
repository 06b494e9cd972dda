//! The connections: how the pool makes one, and when it is of no more use. bb8-redis's own manager cannot tell a dead
//! connection and cannot be given timeouts; this one can.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bb8_redis::bb8::{ErrorSink, ManageConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use tokio::time::timeout;
use tracing::debug;

use super::{clock::RedisClock, scripts::Scripts};
use crate::session::{Time, millis};

/// How long making a connection may take, greeting included.
const CONNECT: Duration = Duration::from_secs(1);

/// After so long with questions and no answer, a connection is given up: a black hole closes nothing. By time and not by
/// count, as calls are pipelined: a short pause of Redis is many timeouts at once.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection younger than this is kept even if it leads to a replica: a new one would lead there, too.
const YOUNG: Duration = Duration::from_millis(250);

/// How long written bytes may stay unacknowledged before the kernel gives up.
const USER_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes connections for the pool.
pub(super) struct Manager {
    info: ConnectionInfo,
    clock: Arc<RedisClock>,
    scripts: Arc<Scripts>,
    troubles: Troubles,
}

/// Why the pool could last not make a connection: who waits for one in vain is only told that it took too long.
#[derive(Clone, Debug, Default)]
pub(super) struct Troubles(Arc<Mutex<Option<String>>>);

impl Troubles {
    pub(super) fn last(&self) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        format!("no connection to Redis: {}", last.as_deref().unwrap_or("not in time"))
    }

    fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ErrorSink<RedisError> for Troubles {
    fn sink(&self, error: RedisError) {
        let told = told(&error);
        debug!(error = told, "no connection to Redis");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<RedisError>> {
        Box::new(self.clone())
    }
}

/// A connection that many calls use at once. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Connection {
    redis: MultiplexedConnection,
    health: Arc<Health>,
}

#[derive(Debug)]
struct Health {
    born: Instant,
    broken: AtomicBool,
    /// When the oldest question was asked that timed out since the last answer, in milliseconds from `born`; 0 is none.
    silent_since: AtomicU64,
}

impl Manager {
    pub(super) fn new(info: ConnectionInfo, clock: Arc<RedisClock>, scripts: Arc<Scripts>, troubles: Troubles) -> Self {
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(USER_TIMEOUT);
        // RESP3 tells at once when the connection is lost; RESP2 only with the next command.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Self { info: info.set_tcp_settings(tcp).set_redis_settings(settings), clock, scripts, troubles }
    }

    async fn greet(&self) -> RedisResult<Connection> {
        let health =
            Arc::new(Health { born: Instant::now(), broken: AtomicBool::new(false), silent_since: AtomicU64::new(0) });
        let watched = Arc::clone(&health);
        let config = AsyncConnectionConfig::new()
            // Every call has its own end; a second timer each would only cost.
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    watched.broken.store(true, Ordering::Relaxed);
                }
                Ok::<_, redis::aio::SendError>(())
            });
        let client = Client::open(self.info.clone())?;
        let redis = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut connection = Connection { redis, health };

        let mut greeting = Pipeline::new();
        for script in self.scripts.all() {
            greeting.cmd("SCRIPT").arg("LOAD").arg(&script.text);
        }
        greeting.cmd("TIME");
        let answers = connection.request_all(&greeting).await.map_err(too_old)?;
        let time = answers.last().and_then(time).ok_or((ErrorKind::UnexpectedReturnType, "TIME told no time"))?;
        self.clock.learn(time);
        self.troubles.over();
        Ok(connection)
    }
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = RedisError;

    async fn connect(&self) -> RedisResult<Connection> {
        let silent = || RedisError::from((ErrorKind::Io, "Redis did not answer in time"));
        timeout(CONNECT, self.greet()).await.map_err(|_| silent())?
    }

    async fn is_valid(&self, connection: &mut Connection) -> RedisResult<()> {
        connection.request(&redis::cmd("PING")).await.map(drop)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_broken()
    }
}

impl Connection {
    pub(super) async fn request(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.redis.req_packed_command(command).await?.extract_error()
    }

    /// The answers to all the commands, sent in one write. One error among them is an error of all.
    pub(super) async fn request_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let answers = self.redis.req_packed_commands(commands, 0, commands.len()).await?;
        answers.into_iter().map(Value::extract_error).collect()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.health.broken.load(Ordering::Relaxed)
    }

    /// The pool shall give it to no one any more.
    pub(super) fn mark_broken(&self) {
        self.health.broken.store(true, Ordering::Relaxed);
    }

    /// An answer came, whatever it said.
    pub(super) fn answered(&self) {
        self.health.silent_since.store(0, Ordering::Relaxed);
    }

    /// No answer came in time to what was asked then.
    pub(super) fn timed_out(&self, asked: Instant) {
        let asked = millis(asked.saturating_duration_since(self.health.born)).max(1);
        let none = self.health.silent_since.compare_exchange(0, asked, Ordering::Relaxed, Ordering::Relaxed);
        let since = none.err().map_or(asked, |since| since.min(asked));
        if millis(self.health.born.elapsed()).saturating_sub(since) >= millis(SILENCE) {
            self.mark_broken();
        }
    }

    /// A command failed. Where the connection is lost, or leads to a Redis that is not (or no longer) the one to write
    /// to, the next call makes a new one.
    pub(super) fn failed(&self, error: &RedisError) {
        let elsewhere = matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING"));
        let elsewhere = elsewhere && self.health.born.elapsed() > YOUNG;
        if elsewhere || error.is_io_error() || error.is_unrecoverable_error() {
            self.mark_broken();
        }
    }
}

/// A Redis before 7.0 does not know `#!lua`, and says so in words that help nobody.
fn too_old(error: RedisError) -> RedisError {
    if error.detail().is_some_and(|detail| detail.contains("compiling script")) {
        return (ErrorKind::InvalidClientConfig, TOO_OLD).into();
    }
    error
}

const TOO_OLD: &str = "it cannot run the scripts: Redis 7.0 or newer, or Valkey, is needed";

/// An error in words that are safe to log: what a server says may quote the arguments of a command, and so a password.
fn told(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::Io => error.to_string(),
        ErrorKind::InvalidClientConfig if error.category() == TOO_OLD => TOO_OLD.to_owned(),
        _ => error.code().map_or_else(|| error.category().to_owned(), |code| format!("it answered {code}")),
    }
}

/// What `TIME` told, in milliseconds.
pub(super) fn time(answer: &Value) -> Option<Time> {
    let Value::Array(parts) = answer else { return None };
    let [Value::BulkString(seconds), Value::BulkString(micros)] = &parts[..] else { return None };
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
    Some(Time(number(seconds)? * 1000 + number(micros)? / 1000))
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manager(..)")
    }
}
