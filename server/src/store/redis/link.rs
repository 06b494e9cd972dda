//! Sends each request to the node that owns its key, before its deadline, and returns the reply or an error whose meaning is
//! known. A request is sent again where that is safe and useful: all scripts are safe to run twice. So a lost connection, a
//! demoted primary and a slot that moved cost a call time, and fail it only if its deadline passes.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{Either, join_all, ready},
};
use redis::Cmd;
use tracing::warn;

use super::{
    acts::{Act, Failure, Info, Ping, Problem, Run, is_servers},
    cause,
    connection::Connection,
    node::Node,
    nodes::{Nodes, Route},
    options::RedisOptions,
    rights::MissingRight,
    scripts::{Reply, Script, Scripts},
    url::RedisUrl,
};
use crate::{
    deadline::{Deadlines, Late},
    session::Ring,
    store::{Attempt, MAX_BUDGET, StoreError},
};

/// How often a question is asked again for a lost connection, and for an odd answer; more would be a storm in an outage.
const RESENDS: usize = 2;

/// The most that the clock of a new master may be ahead of the old one's, which stamped the marks, without a request that is
/// sent again being taken for a new one.
const CLOCKS: Duration = Duration::from_millis(2500);

// Every mark that such a request may have left is still in the ring.
const _: () = assert!(MAX_BUDGET.as_millis() + CLOCKS.as_millis() < Ring::SPAN.as_millis());

/// How often a question follows where a cluster's nodes point. While slots move, twice is usual.
const REDIRECTS: usize = 6;

/// The way to Redis. Belongs to the runtime that opened it; clones share its connections.
#[derive(Clone)]
pub(super) struct Link {
    nodes: Arc<Nodes>,
    /// What every key begins with.
    prefix: Arc<str>,
    pub(super) scripts: Arc<Scripts>,
    /// The next question's number.
    number: Arc<AtomicU64>,
    deadlines: Deadlines,
    confirm_replicas: u16,
}

/// A question that is under way.
struct Question<'a> {
    connection: Connection,
    nodes: &'a Nodes,
    asked: Instant,
    until: Instant,
    /// Whether it tells something of the connection if the answer does not come in time.
    tells_silence: bool,
    answered: bool,
}

impl<'a> Question<'a> {
    fn new(connection: Connection, nodes: &'a Nodes, attempt: Attempt) -> Self {
        let asked = Instant::now();
        Self { connection, nodes, asked, until: attempt.until, tells_silence: true, answered: false }
    }

    /// There is an answer.
    fn answered(&mut self) -> &Connection {
        self.answered = true;
        self.connection.answered();
        &self.connection
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        // Whoever asked may have gone before the time was over.
        if self.answered || Instant::now() < self.until {
            return;
        }
        if self.tells_silence {
            self.connection.timed_out(self.asked);
        }
        if self.connection.is_broken() {
            self.nodes.doubt();
        }
    }
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

/// Redis is unavailable at this connection's address.
fn unavailable(connection: &Connection, why: &str) -> StoreError {
    StoreError::Unavailable(format!("{}: {why}", connection.address()))
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
        let deadlines = Deadlines::default();
        let prefix = Arc::clone(&options.prefix);
        Self { nodes, prefix, scripts, number, deadlines, confirm_replicas: options.confirm_replicas }
    }

    /// Does something about a key within the attempt's time: until there is an answer, or no use in asking.
    pub(super) async fn within<A: Act>(&self, key: &str, attempt: Attempt, act: &A) -> Result<A::Answer, StoreError> {
        self.in_time(attempt, self.persist(key, attempt, act)).await
    }

    /// Has this done, or given up when the attempt's time is over.
    fn in_time<T>(
        &self,
        attempt: Attempt,
        act: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        let now = Instant::now();
        if now >= attempt.until {
            return Either::Left(ready(Err(late())));
        }
        let done = self.deadlines.within(now, attempt.until, act);
        Either::Right(done.map(|done| done.unwrap_or_else(|Late| Err(late()))))
    }

    async fn persist<A: Act>(&self, key: &str, mut attempt: Attempt, act: &A) -> Result<A::Answer, StoreError> {
        let (mut route, mut resends, mut checks, mut redirects) = (Route::Owner, RESENDS, RESENDS, REDIRECTS);
        let resent_since = attempt.since.checked_sub(CLOCKS).unwrap_or(attempt.since);
        loop {
            let (node, asking) = match &route {
                Route::Owner => (self.nodes.owner(key).await?, false),
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
                    attempt.since = resent_since;
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
        if A::WRITES && node.group().is_held() {
            node.group().free().await;
        }
        let unreachable = |error| {
            self.nodes.doubt();
            (error, None)
        };
        let (connection, mut held) = if A::ALONE {
            // That all are in use tells nothing of the node.
            let held = node.alone().await.map_err(|error| (error, None))?;
            (held.connection(), Some(held))
        } else {
            (node.shared().await.map_err(unreachable)?, None)
        };
        let connection = if asking { connection.asking() } else { connection };
        let mut question = Question::new(connection, &self.nodes, attempt);
        // What waits for replicas may be late by itself.
        question.tells_silence = !A::ALONE;
        let asked = question.asked;
        let outcome = act.act(&question.connection, attempt, asked).await;
        let connection = question.answered();
        if let Some(held) = &mut held {
            held.ended();
        }
        match outcome {
            // It may have been lost with its master; where it was not, the answer is the same.
            Ok(_) if connection.is_retired() || (A::WRITES && node.group().is_held()) => {
                let why = format!("{}: the primary was demoted", connection.address());
                Err((StoreError::Unavailable(why), Some(Again::Resend)))
            }
            Ok(answer) => Ok(answer),
            Err(failure) => Err(self.judge(failure, node, connection)),
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
        self.within(key, attempt, &self.a_run::<_, false>(script, key, add)).await
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
        self.within(key, attempt, &self.a_run::<_, true>(script, key, add)).await
    }

    fn a_run<'a, F, const CONFIRM: bool>(&'a self, script: &'a Script, key: &'a str, add: F) -> Run<'a, F, CONFIRM> {
        Run { script, key, numbers: &self.number, replicas: self.confirm_replicas, add }
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

    /// Something for each node that sessions lie on, by a key that the node owns; `draw` makes keys until each has one, at most
    /// so many. See [`Nodes::one_per_node`].
    pub(super) async fn one_per_node<T>(
        &self,
        draws: usize,
        draw: impl FnMut() -> (String, T),
    ) -> Result<Vec<T>, StoreError> {
        self.nodes.one_per_node(draws, draw).await
    }

    async fn on_all<A: Act>(
        &self,
        attempt: Attempt,
        act: &A,
    ) -> Result<Vec<Result<A::Answer, StoreError>>, StoreError> {
        let nodes = self.in_time(attempt, self.nodes.all()).await?;
        // One that is late is not to hide what the others say.
        let ask = |node| async move { self.on(node, attempt, false, act).await.map_err(|(why, _)| why) };
        Ok(join_all(nodes.iter().map(|node| self.in_time(attempt, ask(node)))).await)
    }

    /// The node is a replica, which replied with this.
    fn demoted(&self, why: &str, connection: &Connection) -> (StoreError, Option<Again>) {
        self.nodes.doubt();
        connection.demoted();
        (unavailable(connection, why), Some(Again::Resend))
    }

    fn denied(&self, right: &MissingRight) -> StoreError {
        StoreError::Denied(right.advice(&self.prefix))
    }

    /// What a failure means, and where to ask again; a connection that is of no more use is marked so.
    fn judge(&self, failure: Failure, node: &Node, connection: &Connection) -> (StoreError, Option<Again>) {
        let error = match failure {
            Failure::Store(error) => return (error, None),
            Failure::Denied(right) => return (self.denied(&right), None),
            Failure::Answer(Problem::Unreadable(what)) => return odd(what, connection),
            Failure::Answer(Problem::Replica) => return self.demoted("it is a replica", connection),
            Failure::Answer(Problem::Astray) => {
                connection.mark_broken();
                warn!(address = %connection.address(), "dropped a Redis connection: a reply belongs to another request");
                return (unavailable(connection, "a reply belongs to another request"), Some(Again::Resend));
            }
            Failure::Redis(error) => error,
        };
        if !is_servers(&error) {
            let lost = error.is_io_error() || error.is_unrecoverable_error();
            if lost {
                connection.lost();
                self.nodes.doubt();
            }
            return (unavailable(connection, &cause::of(&error)), lost.then_some(Again::Resend));
        }
        if let Some(route) = self.nodes.follow(&error, node) {
            let error = StoreError::Unavailable("the cluster is moving this session about".to_owned());
            return (error, Some(Again::Redirect(route)));
        }
        if let Some(right) = MissingRight::of(&error) {
            return (self.denied(&right), None);
        }
        let why = cause::of(&error);
        match error.code().unwrap_or_default() {
            "OOM" => (StoreError::Full("Redis is out of memory".to_owned()), None),
            "READONLY" | "MASTERDOWN" if connection.is_old() => self.demoted(&why, connection),
            "LOADING" if connection.is_old() => {
                self.nodes.doubt();
                connection.lost();
                (unavailable(connection, &why), Some(Again::Resend))
            }
            "READONLY" | "MASTERDOWN" | "LOADING" | "CLUSTERDOWN" => {
                self.nodes.doubt();
                (unavailable(connection, &why), None)
            }
            "NOREPLICAS" | "MISCONF" => (StoreError::WritesRefused(why.into_owned()), None),
            "BUSY" | "TRYAGAIN" | "NOAUTH" | "WRONGPASS" => (unavailable(connection, &why), None),
            _ => odd(&why, connection),
        }
    }
}

/// An answer that nobody promised. It may have been another question's: so it is asked again, on another connection.
fn odd(what: &str, connection: &Connection) -> (StoreError, Option<Again>) {
    connection.mark_broken();
    (StoreError::Broken(what.to_owned()), Some(Again::Check))
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}
