//! Three masters with a replica each, and every slot moved from one to the next.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Pipeline, Value, aio::MultiplexedConnection};

use tokio::task::JoinSet;

use super::{is_master, node, told, words};
use crate::{
    Dice, PATIENCE, TestRedis, eventually,
    faults::proxy::{NODES as OF_NODES, Proxy},
    reserved_port,
};

/// After so long without an answer, a node is thought to be down.
pub const NODE_TIMEOUT: Duration = Duration::from_millis(1500);

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
const SLOTS: usize = 16384;

/// Connections to each master, to move slots by.
const AT_ONCE: usize = 32;

/// Slots moved at a time.
const BATCH: usize = 256;

/// A cluster of six.
pub struct Cluster {
    nodes: Vec<TestRedis>,
    /// One for each node, or none at all.
    proxies: Vec<Proxy>,
    ids: Vec<String>,
}

impl Cluster {
    /// Starts it and waits until it serves.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Vec::new()).await
    }

    /// Starts it with a proxy in front of each node: the nodes announce the proxies' addresses.
    pub async fn start_behind_proxies(arguments: &[&str], dice: &Dice) -> Self {
        let mut proxies = Vec::new();
        for number in 0..NODES {
            proxies.push(Proxy::to(0, &dice.split(number)).await);
        }
        Self::start_with(arguments, proxies).await
    }

    async fn start_with(arguments: &[&str], proxies: Vec<Proxy>) -> Self {
        let (mut nodes, mut buses, mut ids) = (Vec::<TestRedis>::new(), Vec::new(), Vec::<String>::new());
        for number in 0..NODES {
            let bus = reserved_port();
            let announced = proxies.get(number).map(|proxy| {
                let port = proxy.address().port();
                format!("--cluster-announce-ip 127.0.0.1 --cluster-announce-port {port} --bind-source-addr {OF_NODES}")
            });
            let announced = announced.unwrap_or_default();
            let line = format!(
                "{announced} --save --appendonly no --cluster-enabled yes --cluster-port {bus} --cluster-node-timeout {} \
                 --repl-diskless-sync-delay 0 --cluster-replica-validity-factor 0 \
                 --cluster-allow-replica-migration no",
                NODE_TIMEOUT.as_millis()
            );
            let redis = node(None, |_| {
                let mut words = words(&line);
                // An empty argument cannot be written in a line.
                let save = words.iter().position(|word| word == "--save").expect("it is in the line");
                words.insert(save + 1, String::new());
                words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
                words
            })
            .await;
            ids.push(redis.command(&["CLUSTER", "MYID"]).await);
            if let Some(proxy) = proxies.get(number) {
                proxy.lead_to(SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port())));
            }
            nodes.push(redis);
            buses.push(bus);
        }
        for (number, node) in nodes.iter().enumerate() {
            let _: String = node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            let port = proxies.first().map_or(nodes[0].port(), |proxy| proxy.address().port());
            let (port, bus) = (port.to_string(), buses[0].to_string());
            let _: String = node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        for (number, node) in nodes.iter().take(MASTERS).enumerate() {
            let [from, to] = [number, number + 1].map(|part| part * SLOTS / MASTERS);
            let _: String = node.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &(to - 1).to_string()]).await;
        }
        let all = Self { nodes, proxies, ids };
        eventually("the nodes have met", async || all.all_say("cluster_known_nodes", &NODES.to_string()).await).await;
        for number in MASTERS..NODES {
            let master = &all.ids[number - MASTERS];
            // It may not have heard yet that this is a master.
            eventually("it is a replica", async || {
                all.nodes[number].try_command::<String>(&["CLUSTER", "REPLICATE", master]).await.is_ok()
            })
            .await;
        }
        all.whole().await;
        all
    }

    async fn all_say(&self, what: &str, value: &str) -> bool {
        for node in &self.nodes {
            let info = node.try_command::<String>(&["CLUSTER", "INFO"]).await;
            if !info.is_ok_and(|info| told(&info, what).as_deref() == Some(value)) {
                return false;
            }
        }
        true
    }

    /// Waits until every node says that all is well, and every replica follows its master.
    pub async fn whole(&self) {
        eventually("the cluster is whole", async || {
            if !self.all_say("cluster_state", "ok").await {
                return false;
            }
            let mut following = 0;
            for node in &self.nodes {
                let info = node.try_command::<String>(&["INFO", "replication"]).await.unwrap_or_default();
                following += usize::from(told(&info, "master_link_status").as_deref() == Some("up"));
            }
            following == NODES - MASTERS
        })
        .await;
    }

    /// What sessiond is told: half of the nodes, as an operator would write it.
    pub fn url(&self) -> String {
        let port = |number: usize| self.proxies.get(number).map(|proxy| proxy.address().port());
        let some = (0..NODES).step_by(2).map(|number| port(number).unwrap_or(self.nodes[number].port()));
        let some: Vec<_> = some.map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}", some.join(","))
    }

    /// The numbers of the masters that say so themselves.
    pub async fn masters(&self) -> Vec<usize> {
        let mut masters = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if is_master(node).await {
                masters.push(number);
            }
        }
        masters
    }

    /// Whether there are three masters, and each says that all slots are served.
    pub async fn is_served(&self) -> bool {
        let masters = self.masters().await;
        for number in &masters {
            let info = self.nodes[*number].try_command::<String>(&["CLUSTER", "INFO"]).await;
            if !info.is_ok_and(|info| told(&info, "cluster_state").as_deref() == Some("ok")) {
                return false;
            }
        }
        masters.len() == MASTERS
    }

    /// The number of a replica of this master.
    pub async fn replica_of(&self, master: usize) -> usize {
        let mut replicas = Vec::<String>::new();
        // A replica may follow before the master has heard of it by gossip.
        eventually("the master knows its replica", async || {
            let known = self.nodes[master].try_command(&["CLUSTER", "REPLICAS", &self.ids[master]]).await;
            replicas = known.unwrap_or_default();
            !replicas.is_empty()
        })
        .await;
        let id = replicas[0].split(' ').next().expect("a line begins with an id");
        self.ids.iter().position(|known| known == id).expect("it is one of ours")
    }

    /// A node, by its number.
    pub fn node(&self, number: usize) -> &TestRedis {
        &self.nodes[number]
    }

    /// The proxy in front of a node.
    pub fn proxy(&self, number: usize) -> &Proxy {
        &self.proxies[number]
    }

    /// Asks a replica to take its master's place, in peace.
    pub async fn failover(&self, replica: usize) {
        let _: String = self.nodes[replica].command(&["CLUSTER", "FAILOVER"]).await;
        eventually("the replica is the master", async || is_master(&self.nodes[replica]).await).await;
    }

    /// Kills a node.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a node again that was killed.
    pub async fn come_back(&mut self, number: usize) {
        self.nodes[number].come_back().await;
    }

    /// Moves every slot of each master to the next one, keys and all, as `redis-cli --cluster reshard` does. Gives how many
    /// keys went with them.
    pub async fn reshard(&self) -> usize {
        let masters = self.masters().await;
        let mut connections = Vec::new();
        for master in &masters {
            let mut many = Vec::new();
            for _ in 0..AT_ONCE {
                many.push(patient_connection(&self.nodes[*master]).await);
            }
            connections.push(many);
        }
        // All at once who has what: else slots that came would go on with those that go.
        let mut owned = Vec::new();
        for (master, connection) in masters.iter().zip(&mut connections) {
            owned.push(slots_of(&self.ids[*master], &mut connection[0]).await);
        }
        let mut keys = 0;
        // In turns, so that no master is ever without a slot: it would become a replica.
        let mut batches: Vec<_> = owned.iter().map(|slots| slots.chunks(BATCH)).collect();
        loop {
            let mut is_over = true;
            for (from, batches) in batches.iter_mut().enumerate() {
                if let Some(batch) = batches.next() {
                    let to = (from + 1) % masters.len();
                    keys += self.shift(&masters, &mut connections, from, to, batch).await;
                    is_over = false;
                }
            }
            if is_over {
                return keys;
            }
        }
    }

    async fn shift(
        &self,
        masters: &[usize],
        connections: &mut [Vec<MultiplexedConnection>],
        from: usize,
        to: usize,
        slots: &[usize],
    ) -> usize {
        let (source, target) = (&self.ids[masters[from]], &self.ids[masters[to]]);
        // First the one that will take it: else a client is sent where nobody knows of it.
        for (number, state, of) in [(to, "IMPORTING", source), (from, "MIGRATING", target)] {
            set_slots(&connections[number], slots, state, of).await;
        }
        let mut count = Pipeline::new();
        for slot in slots {
            count.cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(*slot);
        }
        let mut moved = 0;
        // What is created while the slot moves is created at its new place.
        let counts: Vec<usize> = count.query_async(&mut connections[from][0]).await.expect("they are its slots");
        let port = self.nodes[masters[to]].port();
        for (slot, _) in slots.iter().zip(counts).filter(|(_, count)| *count > 0) {
            loop {
                let mut list = redis::cmd("CLUSTER");
                list.arg("GETKEYSINSLOT").arg(*slot).arg(10);
                let keys: Vec<String> = list.query_async(&mut connections[from][0]).await.expect("it is its slot");
                if keys.is_empty() {
                    break;
                }
                moved += keys.len();
                let mut migrate = redis::cmd("MIGRATE");
                migrate.arg("127.0.0.1").arg(port).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
                let _: Value = migrate.query_async(&mut connections[from][0]).await.expect("the keys move");
            }
        }
        // The new owner is told first: it alone may say that the slot is its own.
        for number in [to, from, 3 - to - from] {
            set_slots(&connections[number], slots, "NODE", target).await;
        }
        moved
    }
}

/// One that waits: Valkey answers SETSLOT when the replicas have it, too, and does nothing else on that connection.
async fn patient_connection(node: &TestRedis) -> MultiplexedConnection {
    let client = redis::Client::open(node.url()).expect("a URL");
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.expect("the node is up")
}

async fn set_slots(connections: &[MultiplexedConnection], slots: &[usize], state: &str, node: &str) {
    let mut parts = JoinSet::new();
    for (slots, connection) in slots.chunks(slots.len().div_ceil(connections.len())).zip(connections) {
        let mut commands = Pipeline::new();
        for slot in slots {
            commands.cmd("CLUSTER").arg("SETSLOT").arg(*slot).arg(state).arg(node);
        }
        let mut connection = connection.clone();
        parts.spawn(async move {
            let _: Vec<Value> = commands.query_async(&mut connection).await.expect("slots can be set");
        });
    }
    parts.join_all().await;
}

/// The slots of this node, as it says itself.
async fn slots_of(id: &str, connection: &mut MultiplexedConnection) -> Vec<usize> {
    let mut ask = redis::cmd("CLUSTER");
    let nodes: String = ask.arg("NODES").query_async(connection).await.expect("it knows the cluster");
    let line = nodes.lines().find(|line| line.starts_with(id)).expect("it knows itself");
    let ranges = line.split(' ').skip(8).filter(|range| !range.starts_with('['));
    ranges
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |digits: &str| digits.parse::<usize>().expect("a slot");
            number(first)..=number(last)
        })
        .collect()
}
