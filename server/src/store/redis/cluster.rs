//! Which node of a cluster has which key: the map of slots, and where a node points by MOVED and ASK. Every command here has one
//! key, so that is all a cluster needs.
//!
//! redis-rs has a cluster client, with retries and an overall timeout. It does not fit, as it sends the same bytes again to
//! another node: here each command carries a "not after" in the clock of the node that answers. ARCHITECTURE.md gives the reasons
//! for a layer of our own.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crc16::{State, XMODEM};
use futures_util::future::join_all;
use redis::{Pipeline, Value, from_redis_value};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use super::{
    access::Trouble,
    connection::{Connection, Group},
    node::{Common, Node, Place},
    url::Address,
};
use crate::store::StoreError;

/// The slots of every cluster.
const SLOTS: u16 = 16384;

/// How long a node may take to tell its map.
const ANSWER: Duration = Duration::from_millis(500);

/// How often the map is looked at when nobody doubts it.
const INTERVAL: Duration = Duration::from_secs(10);

/// The least time between two looks, however many calls fail.
const SPACING: Duration = Duration::from_millis(200);

/// How long a call waits for the first map.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a node is kept that was pointed to and that the map does not name.
const KEPT: Duration = Duration::from_secs(60);

/// A cluster, as one shard sees it.
pub(super) struct Cluster {
    seeds: Vec<Address>,
    common: Common,
    map: watch::Sender<Map>,
    doubts: watch::Sender<()>,
}

#[derive(Default)]
struct Map {
    /// By slot; empty before the first look.
    owners: Vec<Option<Arc<Node>>>,
    nodes: HashMap<Address, Known>,
    /// Where else the cluster can be asked.
    replicas: Vec<Address>,
    trouble: Option<Trouble>,
}

struct Known {
    node: Arc<Node>,
    /// When the map named it last, or another node pointed to it.
    named: Instant,
}

/// What a node told of the cluster.
struct View {
    /// Whether it sees all slots served, and how new its view is: the greater the better.
    standing: (bool, u64),
    /// From slot, to slot, master.
    ranges: Vec<(u16, u16, Address)>,
    replicas: Vec<Address>,
}

/// The slot of a key. Ours have no braces, so the whole key counts.
fn slot(key: &str) -> u16 {
    State::<XMODEM>::calculate(key.as_bytes()) % SLOTS
}

impl Cluster {
    /// Begins to keep the map, as long as the set of tasks is there. Must be called within a runtime.
    pub(super) fn keep(seeds: Vec<Address>, common: Common) -> (Arc<Self>, JoinSet<()>) {
        let cluster =
            Arc::new(Self { seeds, common, map: watch::Sender::new(Map::default()), doubts: watch::Sender::new(()) });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&cluster).follow());
        (cluster, tasks)
    }

    /// The node that has this key, as far as is known.
    pub(super) async fn owner(&self, key: &str) -> Result<Arc<Node>, StoreError> {
        self.known().await?;
        let owner = self.map.borrow().owners[usize::from(slot(key))].clone();
        owner.ok_or_else(|| {
            self.doubt();
            StoreError::Unavailable("no node of the cluster has this slot".to_owned())
        })
    }

    /// All masters.
    pub(super) async fn nodes(&self) -> Result<Vec<Arc<Node>>, StoreError> {
        self.known().await?;
        let map = self.map.borrow();
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for owner in map.owners.iter().flatten() {
            if !nodes.iter().any(|node| Arc::ptr_eq(node, owner)) {
                nodes.push(Arc::clone(owner));
            }
        }
        Ok(nodes)
    }

    /// Waits for the first map.
    async fn known(&self) -> Result<(), StoreError> {
        if !self.map.borrow().owners.is_empty() {
            return Ok(());
        }
        let mut map = self.map.subscribe();
        let known = timeout(PATIENCE, map.wait_for(|map| !map.owners.is_empty())).await;
        known.map(drop).map_err(|_| {
            let map = self.map.borrow();
            let trouble = map.trouble.as_ref().map_or("not in time", |trouble| &trouble.0);
            StoreError::Unavailable(format!("no node of the cluster tells its map: {trouble}"))
        })
    }

    /// What is known may be wrong: the map is looked at.
    pub(super) fn doubt(&self) {
        self.doubts.send_replace(());
    }

    /// A slot has another master.
    pub(super) fn moved(&self, slot: u16, address: Address) {
        self.map.send_modify(|map| {
            let node = self.named(map, address);
            if let Some(owner) = map.owners.get_mut(usize::from(slot)) {
                *owner = Some(node);
            }
        });
        self.doubt();
    }

    /// The node that another one pointed to.
    pub(super) fn node(&self, address: Address) -> Arc<Node> {
        let mut node = None;
        self.map.send_if_modified(|map| {
            node = Some(self.named(map, address.clone()));
            false
        });
        node.unwrap_or_else(|| Arc::new(self.make(address)))
    }

    fn named(&self, map: &mut Map, address: Address) -> Arc<Node> {
        let known = map.nodes.entry(address);
        let known = known
            .or_insert_with_key(|address| Known { node: Arc::new(self.make(address.clone())), named: Instant::now() });
        known.named = Instant::now();
        Arc::clone(&known.node)
    }

    fn make(&self, address: Address) -> Node {
        Node::new(&self.common, Place::At(address), Arc::new(Group::new()))
    }

    /// Keeps the map for ever.
    async fn follow(self: Arc<Self>) {
        let mut doubts = self.doubts.subscribe();
        loop {
            match self.look().await {
                Ok(view) => self.learn(view),
                Err(trouble) => {
                    debug!(%trouble, "no node of the cluster tells its map");
                    self.map.send_modify(|map| map.trouble = Some(trouble));
                }
            }
            sleep(SPACING).await;
            if !self.map.borrow().owners.is_empty() {
                tokio::select! {
                    _ = doubts.changed() => {}
                    () = sleep(INTERVAL) => {}
                }
            }
        }
    }

    /// The best view of the masters that are known; without any, of whichever node can be reached.
    async fn look(&self) -> Result<View, Trouble> {
        let (known, mut others) = {
            let map = self.map.borrow();
            let known: Vec<_> = map.nodes.iter().map(|(at, known)| (at.clone(), Arc::clone(&known.node))).collect();
            (known, map.replicas.clone())
        };
        let asked = known.iter().map(|(address, node)| async move {
            let connection = node.shared().await.map_err(|error| Trouble(error.to_string().into()))?;
            ask(&connection, address).await
        });
        let mut told = join_all(asked.map(in_time)).await;
        // A master that was cut off goes on telling what was, and that all is not well.
        if told.iter().flatten().any(|view| view.standing.0) {
            return best(told);
        }
        // A master that was demoted is refused as a connection of its pool, and may still be the only node that is known.
        let failed = known.iter().zip(&told).filter(|(_, told)| told.is_err()).map(|((address, _), _)| address);
        let seeds = self.seeds.iter().filter(|seed| !known.iter().any(|(address, _)| address == *seed));
        others.extend(failed.chain(seeds).cloned());
        let asked = others.iter().map(|address| async move {
            let (pipe, _) = self.common.access.connect(address, Instant::now() + ANSWER, drop).await?;
            let connection = Connection::new(pipe, Arc::new(Group::new()).admit(address.clone()));
            in_time(ask(&connection, address)).await.map_err(|trouble| trouble.at(address))
        });
        told.extend(join_all(asked).await);
        best(told)
    }

    fn learn(&self, view: View) {
        self.map.send_modify(|map| {
            let is_first = map.owners.is_empty();
            let mut owners = vec![None; usize::from(SLOTS)];
            for (from, to, address) in view.ranges {
                let node = self.named(map, address);
                if let Some(owners) = owners.get_mut(usize::from(from)..=usize::from(to)) {
                    owners.fill(Some(node));
                }
            }
            map.owners = owners;
            map.nodes.retain(|_, known| known.named.elapsed() < KEPT);
            map.replicas = view.replicas;
            map.trouble = None;
            if is_first {
                info!(masters = map.nodes.len(), replicas = map.replicas.len(), "the cluster's map is known");
            }
        });
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    timeout(ANSWER, asked).await.unwrap_or_else(|_| Err(Trouble::said("no reply before the deadline")))
}

/// Whoever was cut off goes on telling what was.
fn best(told: Vec<Result<View, Trouble>>) -> Result<View, Trouble> {
    let (mut best, mut trouble): (Option<View>, _) = (None, None);
    for told in told {
        match told {
            Ok(view) if best.as_ref().is_none_or(|best| best.standing < view.standing) => best = Some(view),
            Ok(_) => {}
            Err(error) => trouble = Some(error),
        }
    }
    best.ok_or_else(|| trouble.unwrap_or_else(|| Trouble::said("no node is known")))
}

/// What a node, found at this address, tells of its cluster.
async fn ask(connection: &Connection, at: &Address) -> Result<View, Trouble> {
    let mut questions = Pipeline::new();
    questions.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let answers = connection.request_all(&questions).await.map_err(|error| {
        let is_none = error.detail().is_some_and(|detail| detail.contains("cluster support disabled"));
        if is_none { Trouble::said("it is not of a cluster: give --store redis://host:port") } else { error.into() }
    })?;
    let other = || Trouble::said("CLUSTER answered otherwise than was expected");
    let [info, slots] = <[Value; 2]>::try_from(answers).map_err(|_| other())?;
    let info: String = from_redis_value(info).map_err(|_| other())?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let epoch = field("cluster_current_epoch:").and_then(|epoch| epoch.trim().parse().ok()).unwrap_or_default();
    let standing = (field("cluster_state:").is_some_and(|state| state.trim() == "ok"), epoch);

    let mut view = View { standing, ranges: Vec::new(), replicas: Vec::new() };
    let Value::Array(slots) = slots else { return Err(other()) };
    for range in slots {
        let Value::Array(range) = range else { return Err(other()) };
        let [Value::Int(from), Value::Int(to), nodes @ ..] = &range[..] else { return Err(other()) };
        let (Ok(from), Ok(to)) = (u16::try_from(*from), u16::try_from(*to)) else { return Err(other()) };
        let mut nodes = nodes.iter().map(|node| address_of(node, at));
        let master = nodes.next().flatten().ok_or_else(other)?;
        view.ranges.push((from, to, master));
        for replica in nodes.flatten() {
            if !view.replicas.contains(&replica) {
                view.replicas.push(replica);
            }
        }
    }
    if view.ranges.is_empty() { Err(Trouble::said("no slot of the cluster is served")) } else { Ok(view) }
}

/// The address in an entry of CLUSTER SLOTS. A node that does not know its own name is where it was asked.
fn address_of(node: &Value, asked_at: &Address) -> Option<Address> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), ..] = &parts[..] else { return None };
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
        _ => String::new(),
    };
    Some(Address::told(&host, u16::try_from(*port).ok()?, asked_at))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("seeds", &self.seeds).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example, and one seen with CLUSTER KEYSLOT.
    #[test]
    fn a_slot_is_that_of_the_specification() {
        assert_eq!(State::<XMODEM>::calculate(b"123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12182);
    }

    #[test]
    fn the_newest_view_is_believed_and_rather_one_that_sees_all_slots_served() {
        let view = |ok, epoch| View { standing: (ok, epoch), ranges: Vec::new(), replicas: Vec::new() };
        let told = vec![Ok(view(true, 3)), Err(Trouble::said("gone")), Ok(view(true, 7)), Ok(view(false, 9))];
        assert_eq!(best(told).ok().map(|view| view.standing), Some((true, 7)));
        assert_eq!(
            best(vec![Err(Trouble::said("gone"))]).err().map(|trouble| trouble.to_string()).as_deref(),
            Some("gone")
        );
    }
}
