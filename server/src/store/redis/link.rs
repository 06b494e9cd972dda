//! The way to Redis and back: a question goes to the node that has the key, within its attempt's time, and what comes back is
//! an answer, or an error whose meaning is known. A question is asked again where that is safe and of use: all scripts are
//! safe to run twice. So a lost connection, a master that was deposed and a slot that moved cost a call time, and fail
//! it only if that runs out.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::time::timeout_at;
use tracing::warn;

use super::{
    connection::Connection,
    node::Node,
    nodes::{Nodes, Route},
    scripts::{self, Reply, Script, Scripts},
    url::RedisUrl,
};
use crate::{
    session::Time,
    store::{Attempt, StoreError, redis::RedisOptions},
};

/// How often a question is asked again for a lost connection, and for an odd answer; more would be a storm in an outage.
const RESENDS: usize = 2;

/// By so much the clock of a new master may be ahead of the old one's, that stamped the marks, before a question that is asked
/// again could be taken for a new one. Less than what the ring of marks covers, so that none is refused for it.
const CLOCKS: Duration = Duration::from_millis(2500);

/// How often a question follows where a cluster's nodes point. While slots move, twice is usual.
const REDIRECTS: usize = 6;

/// How much earlier than the attempt a WAIT ends, so that its answer is still heard.
const WAIT_MARGIN: Duration = Duration::from_millis(20);

/// The way to Redis. Belongs to the runtime that opened it; clones share its connections.
#[derive(Clone)]
pub(super) struct Link {
    nodes: Arc<Nodes>,
    pub(super) scripts: Arc<Scripts>,
    /// The next question's number.
    number: Arc<AtomicU64>,
    confirm_replicas: u16,
}

/// Something to do on a connection; if need be, again on another.
pub(super) trait Act: Sync {
    type Answer: Send;

    /// Does it.
    fn act(
        &self,
        connection: &mut Connection,
        attempt: Attempt,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// Whether it writes: then not while another node is being made the master.
    const WRITES: bool = false;

    /// Whether it needs a connection that nobody else uses meanwhile.
    const ALONE: bool = false;
}

/// A script, to be run on a key.
struct Run<'a, F, const CONFIRM: bool> {
    link: &'a Link,
    script: &'a Script,
    key: &'a str,
    add: F,
}

/// Why an act on a connection came to nothing.
pub(super) enum Failure {
    Redis(RedisError),
    Answer(Problem),
    Store(StoreError),
}

/// Why a question may be asked again.
enum Again {
    /// The connection was lost, or led to no master.
    Resend,
    /// The answer was odd.
    Check,
    /// The node pointed there.
    Redirect(Route),
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

fn late() -> StoreError {
    StoreError::Unavailable("no answer in time".to_owned())
}

impl Link {
    /// A link that connects when it is first used, and again whenever it must. Must be called within a runtime.
    pub(super) fn open(url: &RedisUrl, options: &RedisOptions) -> Self {
        let scripts = Arc::new(Scripts::new());
        let nodes = Arc::new(Nodes::open(url, options, &scripts));
        // From anywhere: an answer that a proxy mixed up between two processes is not to have the right number by chance.
        let number = Arc::new(AtomicU64::new(RandomState::new().hash_one(std::process::id())));
        Self { nodes, scripts, number, confirm_replicas: options.confirm_replicas }
    }

    /// Does something about a key within the attempt's time: until there is an answer, or no use in asking.
    pub(super) async fn within<A: Act>(&self, key: &str, attempt: Attempt, act: &A) -> Result<A::Answer, StoreError> {
        let (mut route, mut resends, mut checks, mut redirects) = (Route::Owner, RESENDS, RESENDS, REDIRECTS);
        let mut attempt = attempt;
        loop {
            let (node, asking) = match &route {
                Route::Owner => {
                    let owner = timeout_at(attempt.until.into(), self.nodes.owner(key)).await;
                    (owner.map_err(|_| late())??, false)
                }
                Route::Asking(node) => (Arc::clone(node), true),
            };
            let (error, again) = match self.on(&node, attempt, asking, act).await {
                Ok(answer) => return Ok(answer),
                Err(gone) => gone,
            };
            let left = match again {
                Some(Again::Resend) => &mut resends,
                Some(Again::Check) => &mut checks,
                Some(Again::Redirect(_)) => &mut redirects,
                None => return Err(error),
            };
            if *left == 0 || Instant::now() >= attempt.until {
                return Err(error);
            }
            *left -= 1;
            route = match again {
                Some(Again::Redirect(to)) => to,
                _ => {
                    attempt.since = attempt.since.checked_sub(CLOCKS).unwrap_or(attempt.since);
                    Route::Owner
                }
            };
        }
    }

    /// Asks one node. If that fails: why, and where to ask again, if there is any use in it.
    async fn on<A: Act>(
        &self,
        node: &Node,
        attempt: Attempt,
        asking: bool,
        act: &A,
    ) -> Result<A::Answer, (StoreError, Option<Again>)> {
        let until = attempt.until.into();
        if Instant::now() >= attempt.until {
            return Err((late(), None));
        }
        let in_time = |_| (late(), None);
        if A::WRITES && node.group().is_held() {
            timeout_at(until, node.group().free()).await.map_err(in_time)?;
        }
        let unreachable = |error| {
            self.nodes.doubt();
            (error, None)
        };
        let (connection, mut held) = if A::ALONE {
            // That all are in use tells nothing of the node.
            let held = timeout_at(until, node.alone()).await.map_err(in_time)?.map_err(|error| (error, None))?;
            (held.connection(), Some(held))
        } else {
            (timeout_at(until, node.shared()).await.map_err(in_time)?.map_err(unreachable)?, None)
        };
        let mut connection = if asking { connection.asking() } else { connection };
        let asked = Instant::now();
        let Ok(outcome) = timeout_at(until, act.act(&mut connection, attempt)).await else {
            // What waits for replicas may be late by itself.
            if !A::ALONE {
                connection.timed_out(asked);
            }
            if connection.is_broken() {
                self.nodes.doubt();
            }
            return Err((late(), None));
        };
        if let Some(held) = &mut held {
            held.ended();
        }
        connection.answered();
        match outcome {
            // It may have been lost with its master; where it was not, the answer is the same.
            Ok(_) if connection.is_retired() || (A::WRITES && node.group().is_held()) => {
                Err((StoreError::Unavailable("the master was deposed".to_owned()), Some(Again::Resend)))
            }
            Ok(answer) => Ok(answer),
            Err(failure) => Err(self.judge(failure, node, &connection)),
        }
    }

    /// Runs a script on a key. What `add` adds comes behind what all scripts are told.
    pub(super) async fn run(
        &self,
        script: &Script,
        key: &str,
        attempt: Attempt,
        add: impl Fn(&mut Cmd) + Sync,
    ) -> Result<Reply, StoreError> {
        self.within(key, attempt, &Run::<_, false> { link: self, script, key, add }).await
    }

    /// The same for what must not get lost with the master: it waits for the replicas that `--confirm-replicas` asks for.
    pub(super) async fn run_to_last(
        &self,
        script: &Script,
        key: &str,
        attempt: Attempt,
        add: impl Fn(&mut Cmd) + Sync,
    ) -> Result<Reply, StoreError> {
        if self.confirm_replicas == 0 {
            return self.run(script, key, attempt, add).await;
        }
        self.within(key, attempt, &Run::<_, true> { link: self, script, key, add }).await
    }

    /// Answers if one node at least can be asked.
    pub(super) async fn ping(&self, attempt: Attempt) -> Result<(), StoreError> {
        let mut error = None;
        for answer in self.on_all(attempt, &Ping).await? {
            match answer {
                Ok(()) => return Ok(()),
                Err(why) => error = Some(why),
            }
        }
        Err(error.unwrap_or_else(|| StoreError::Unavailable("the cluster has no nodes".to_owned())))
    }

    /// What each node says of itself (`INFO`).
    pub(super) async fn info(&self, attempt: Attempt) -> Result<Vec<Result<String, StoreError>>, StoreError> {
        self.on_all(attempt, &Info).await
    }

    async fn on_all<A: Act>(
        &self,
        attempt: Attempt,
        act: &A,
    ) -> Result<Vec<Result<A::Answer, StoreError>>, StoreError> {
        let nodes = timeout_at(attempt.until.into(), self.nodes.all()).await.map_err(|_| late())??;
        let asked = nodes.iter().map(|node| async { self.on(node, attempt, false, act).await.map_err(|(why, _)| why) });
        Ok(join_all(asked).await)
    }

    /// The connection leads to a Redis that is not, or not yet, the one to write to.
    fn elsewhere(&self, code: &str, connection: &Connection) -> (StoreError, Option<Again>) {
        self.nodes.doubt();
        let again = connection.leads_elsewhere().then_some(Again::Resend);
        (StoreError::Unavailable(code.to_owned()), again)
    }

    /// What a failure means, and where to ask again; a connection that is of no more use is marked so.
    fn judge(&self, failure: Failure, node: &Node, connection: &Connection) -> (StoreError, Option<Again>) {
        let error = match failure {
            Failure::Store(error) => return (error, None),
            Failure::Answer(Problem::Unreadable(what)) => return odd(what, connection),
            Failure::Answer(Problem::Replica) => return self.elsewhere("READONLY", connection),
            Failure::Answer(Problem::Astray) => {
                connection.mark_broken();
                warn!("an answer of Redis's belonged to another question; its connection is given up");
                return (StoreError::Unavailable("a reply for another question".to_owned()), Some(Again::Resend));
            }
            Failure::Redis(error) => error,
        };
        if !is_servers(&error) {
            let lost = error.is_io_error() || error.is_unrecoverable_error();
            if lost {
                connection.lost();
                self.nodes.doubt();
            }
            return (StoreError::Unavailable(error.category().to_owned()), lost.then_some(Again::Resend));
        }
        if let Some(route) = self.nodes.follow(&error, node) {
            let error = StoreError::Unavailable("the cluster is moving this session about".to_owned());
            return (error, Some(Again::Redirect(route)));
        }
        // The text of a server's error may quote an argument: only its code is told.
        let code = error.code().unwrap_or("an error without a code").to_owned();
        match code.as_str() {
            "OOM" => (StoreError::Full("Redis is out of memory".to_owned()), None),
            "READONLY" | "MASTERDOWN" | "LOADING" => self.elsewhere(&code, connection),
            "CLUSTERDOWN" => {
                self.nodes.doubt();
                (StoreError::Unavailable(code), None)
            }
            "NOREPLICAS" | "BUSY" | "TRYAGAIN" | "MISCONF" | "NOAUTH" | "WRONGPASS" => {
                (StoreError::Unavailable(code), None)
            }
            // A command that the user may not run is the operator's to mend: it must be seen in the log.
            "NOPERM" => (
                StoreError::Broken("NOPERM: this Redis user may not run all that is needed (docs/redis.md)".to_owned()),
                None,
            ),
            _ => odd(&code, connection),
        }
    }
}

/// An answer that nobody promised. It may have been another question's: so it is asked again, on another connection.
fn odd(what: &str, connection: &Connection) -> (StoreError, Option<Again>) {
    connection.mark_broken();
    (StoreError::Broken(what.to_owned()), Some(Again::Check))
}

impl<F: Fn(&mut Cmd) + Sync, const CONFIRM: bool> Act for Run<'_, F, CONFIRM> {
    type Answer = Reply;

    const WRITES: bool = true;
    const ALONE: bool = CONFIRM;

    async fn act(&self, connection: &mut Connection, attempt: Attempt) -> Result<Reply, Failure> {
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
    async fn ask(&self, connection: &mut Connection, attempt: Attempt, since: Time) -> Result<Reply, Failure> {
        let until = connection.clock().at(attempt.until);
        let number = self.link.number.fetch_add(1, Ordering::Relaxed);
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
        let (now, reply) = scripts::parse(answer?, number)?;
        connection.clock().learn(now);
        if CONFIRM && reply.must_last() && !could_write {
            let why = "Redis is out of memory: a repeat cannot be confirmed".to_owned();
            return Err(Failure::Store(StoreError::Unavailable(why)));
        }
        Ok(reply)
    }

    /// Waits until so many replicas have what was just written on this connection, which nobody else uses.
    async fn confirm(&self, connection: &mut Connection, attempt: Attempt) -> Result<(), Failure> {
        let left = attempt.until.saturating_duration_since(Instant::now()).saturating_sub(WAIT_MARGIN);
        let mut wait = Cmd::new();
        // Zero would be for ever.
        wait.arg("WAIT").arg(self.link.confirm_replicas).arg(left.as_millis().max(1) as u64);
        let answer = connection.request(&wait).await.map_err(|error| {
            // A master that becomes a replica meanwhile says so in words of its own.
            if is_servers(&error) { Problem::Replica.into() } else { Failure::from(error) }
        })?;
        match answer {
            Value::Int(replicas) if replicas >= self.link.confirm_replicas.into() => Ok(()),
            Value::Int(_) => Err(Failure::Store(StoreError::Unavailable(
                "written, but not confirmed by as many replicas as --confirm-replicas asks for".to_owned(),
            ))),
            _ => Err(Problem::Astray.into()),
        }
    }
}

/// The question whether sessions can be opened and saved here. (A master that has too few replicas, or cannot write its
/// snapshot, refuses to save for now; that is no better on any other node, and opening works.)
struct Ping;

impl Act for Ping {
    type Answer = ();

    async fn act(&self, connection: &mut Connection, _: Attempt) -> Result<(), Failure> {
        let mut questions = Pipeline::with_capacity(2);
        // One that still loads its data refuses a PING, and answers the other.
        questions.cmd("PING").cmd("ROLE");
        let answers = connection.request_all(&questions).await?;
        if answers.last().is_some_and(is_master) { Ok(()) } else { Err(Problem::Replica.into()) }
    }
}

/// The question what a node says of itself.
struct Info;

impl Act for Info {
    type Answer = String;

    async fn act(&self, connection: &mut Connection, _: Attempt) -> Result<String, Failure> {
        let mut ask = Cmd::new();
        ask.arg("INFO").arg(&["server", "memory", "persistence", "replication"]);
        let told = connection.request(&ask).await?;
        Ok(redis::from_redis_value(told).map_err(|_| Problem::Unreadable("INFO is no text"))?)
    }
}

/// Whether an answer to `ROLE` is a master's.
pub(super) fn is_master(role: &Value) -> bool {
    matches!(role, Value::Array(parts) if parts.first() == Some(&Value::BulkString(b"master".to_vec())))
}

/// Whether Redis itself said so.
fn is_servers(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}
