//! One Redis that commands go to, and the pools of connections to it. bb8-redis's own manager cannot tell a dead connection,
//! cannot be given timeouts, and knows one address for ever; this one can, and asks where the node is each time.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bb8_redis::bb8::{self, ManageConnection};
use futures_util::FutureExt;
use redis::{Pipeline, PushInfo, PushKind};
use tokio::time::timeout_at;
use tracing::debug;

use super::{
    access::{Access, Trouble},
    connection::{Connection, Group, time},
    role::Role,
    scripts::Scripts,
    sentinel::Sentinels,
    url::Address,
};
use crate::store::StoreError;

/// How long making a connection may take, greeting included.
const CONNECT: Duration = Duration::from_secs(1);

/// Connections per shard and node. One carries all that one core can ask for; the second is there while the first is
/// replaced.
const SHARED: u32 = 2;

/// Connections besides that are used by one call at a time: for what has to wait on its own connection.
const ALONE: u32 = 8;

/// How long such a connection is kept unused.
const ALONE_IDLE: Duration = Duration::from_secs(60);

/// How long to wait for a connection when there is none: about what making one takes. Longer, and calls pile up.
const CHECKOUT: Duration = Duration::from_millis(250);

/// One Redis that commands go to.
pub(super) struct Node {
    shared: bb8::Pool<Manager>,
    /// The one of these that calls share.
    in_use: Mutex<Option<Connection>>,
    /// Where something has to wait on its own connection.
    alone: bb8::Pool<Manager>,
    place: Place,
    group: Arc<Group>,
    troubles: Troubles,
}

/// Where a node is.
#[derive(Clone)]
pub(super) enum Place {
    /// There.
    At(Address),
    /// Where the Sentinels say that the master is.
    Master(Arc<Sentinels>),
}

/// What every node of a store has in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) access: Access,
    pub(super) scripts: Arc<Scripts>,
}

/// Makes connections for the pools.
struct Manager {
    common: Common,
    place: Place,
    group: Arc<Group>,
    troubles: Troubles,
}

/// Why the pool could last not make a connection: who waits for one in vain is only told that it took too long.
#[derive(Clone, Debug, Default)]
struct Troubles(Arc<Mutex<Option<Trouble>>>);

impl Node {
    /// A node that is connected to when it is first used, and again whenever it must. Must be called within a runtime.
    pub(super) fn new(common: &Common, place: Place, group: Arc<Group>) -> Self {
        let troubles = Troubles::default();
        let pool = |size: u32, idle: u32| {
            let (common, place) = (common.clone(), place.clone());
            let manager = Manager { common, place, group: Arc::clone(&group), troubles: troubles.clone() };
            let builder = bb8::Pool::builder()
                .max_size(size)
                .min_idle(idle)
                .connection_timeout(CHECKOUT)
                // A PING before every command would double the round trips; `checkout` looks at the broken mark instead.
                .test_on_check_out(false)
                // A multiplexed connection is as good old as new.
                .max_lifetime(None)
                .idle_timeout((idle == 0).then_some(ALONE_IDLE))
                // One connection for all, as long as it is well: what goes out together is one write.
                .queue_strategy(bb8::QueueStrategy::Lifo);
            builder.build_unchecked(manager)
        };
        let (shared, alone) = (pool(SHARED, SHARED), pool(ALONE, 0));
        Self { shared, in_use: Mutex::default(), alone, place, group, troubles }
    }

    /// A connection to use beside others, so that calls are pipelined on it: the same one until it is broken. Only then is the
    /// pool asked for the next one, which is cloned and given back at once.
    pub(super) async fn shared(&self) -> Result<Connection, StoreError> {
        let in_use = || self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = in_use().as_ref().filter(|connection| !connection.is_broken()) {
            return Ok(connection.clone());
        }
        let pooled = self.from(&self.shared).await?;
        // The broken one may lie below it in the pool, and leaves that only as it is given back.
        drop(self.shared.get().now_or_never());
        *in_use() = Some(pooled.clone());
        Ok(pooled.clone())
    }

    /// A connection that nobody else uses until it is dropped.
    pub(super) async fn alone(&self) -> Result<Alone<'_>, StoreError> {
        let pooled = self.from(&self.alone).await.map_err(|error| {
            let are_many = self.alone.state().connections == ALONE;
            let many = || StoreError::Unavailable("too many calls wait for replicas at once".to_owned());
            if are_many { many() } else { error }
        })?;
        Ok(Alone { pooled, ended: false })
    }

    async fn from<'a>(
        &'a self,
        pool: &'a bb8::Pool<Manager>,
    ) -> Result<bb8::PooledConnection<'a, Manager>, StoreError> {
        loop {
            let connection = pool.get().await.map_err(|_| StoreError::Unavailable(self.troubles.last()))?;
            // A broken one leaves the pool as it is given back.
            if !connection.is_broken() {
                return Ok(connection);
            }
        }
    }

    /// All the connections to it.
    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// Where it is, if that never changes.
    pub(super) fn address(&self) -> Option<&Address> {
        match &self.place {
            Place::At(address) => Some(address),
            Place::Master(_) => None,
        }
    }
}

/// A connection taken out of its pool. It goes back only if what was begun on it has ended: whoever took it next would stand
/// behind a WAIT that nobody waits for.
pub(super) struct Alone<'a> {
    pooled: bb8::PooledConnection<'a, Manager>,
    ended: bool,
}

impl Alone<'_> {
    pub(super) fn connection(&self) -> Connection {
        self.pooled.clone()
    }

    /// What was begun has ended.
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.pooled.mark_broken();
        }
    }
}

impl Manager {
    /// Makes a connection to the node if it is a primary.
    async fn greet(&self) -> Result<Connection, Trouble> {
        let address = match &self.place {
            Place::At(address) => address.clone(),
            Place::Master(sentinels) => sentinels.master().await?,
        };
        let until = Instant::now() + CONNECT;
        let health = self.group.admit(address.clone());
        let watched = Arc::downgrade(&health);
        let lost = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection
                && let Some(health) = watched.upgrade()
            {
                health.lost();
            }
        };
        let (pipe, role) = self.common.access.connect(&address, until, lost).await?;
        // Also where Sentinels or a cluster named the node: what they report is some moments old.
        if role != Some(Role::Primary) {
            let why = match role {
                Some(Role::Sentinel) => "it is a Sentinel: give --store redis+sentinel://host:port/master",
                Some(Role::Replica) => "it is a replica, and only a primary is used",
                _ => "its reply to HELLO names no role",
            };
            return Err(Trouble::said(why).at(&address));
        }
        let connection = Connection::new(pipe, health);

        let mut greeting = Pipeline::new();
        for script in self.common.scripts.all() {
            greeting.cmd("SCRIPT").arg("LOAD").arg(&script.text);
        }
        greeting.cmd("TIME");
        let asked = Instant::now();
        let answers = timeout_at(until.into(), connection.request_all(&greeting)).await;
        let answers = answers.map_err(|_| Trouble::said("no reply to SCRIPT LOAD before the deadline"));
        let answers =
            answers.and_then(|answers| answers.map_err(Trouble::from)).map_err(|trouble| trouble.at(&address))?;
        let time = answers.last().and_then(time);
        let time = time.ok_or_else(|| Trouble::said("the reply to TIME is not a time").at(&address))?;
        debug!(%address, after = ?asked.elapsed(), "connected to Redis");
        connection.clock().learn(time);
        Ok(connection)
    }
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = Trouble;

    async fn connect(&self) -> Result<Connection, Trouble> {
        let mut drops = self.group.drops();
        let greeted = tokio::select! {
            greeted = self.greet() => greeted,
            // Says less than what was the trouble before.
            _ = drops.changed() => return Err(Trouble::said("the node's connections were dropped meanwhile")),
        };
        self.troubles.note(greeted.as_ref().err());
        greeted
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), Trouble> {
        connection.request(&redis::cmd("PING")).await.map(drop).map_err(Trouble::from)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_broken()
    }
}

impl Troubles {
    fn last(&self) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref().map_or("not before the deadline", |trouble| &trouble.0);
        format!("no connection to Redis: {last}")
    }

    /// How the last try to connect ended.
    fn note(&self, trouble: Option<&Trouble>) {
        if let Some(trouble) = trouble {
            debug!(%trouble, "cannot connect to Redis");
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble.cloned();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node(..)")
    }
}
