//! Three Sentinels, a master and two replicas, each of the three behind a proxy: so a master can be cut off from the other
//! nodes while clients still reach it, and the other way round.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rustix::process::Signal;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{is_master, node, told, words};
use crate::{
    Dice, PATIENCE, TestRedis, eventually, eventually_within,
    faults::proxy::{NODES, Proxy, Weather},
};

/// After so long without an answer, a Sentinel thinks that a node is down.
pub const DOWN_AFTER: Duration = Duration::from_millis(1000);

/// A user of the Sentinels, without a password.
const OPERATOR: &str = "operator";
/// When the Sentinels announced a new master.
pub struct Announcements {
    first: watch::Receiver<Option<Instant>>,
    _listening: JoinSet<()>,
}

impl Announcements {
    /// When the first Sentinel announced a new master (`+switch-master`). Waits until one has.
    pub async fn first(&mut self) -> Instant {
        let first = timeout(PATIENCE, self.first.wait_for(Option::is_some)).await;
        let first = first.expect("a Sentinel announces a new master").expect("it is listened to");
        first.expect("it was waited for")
    }
}

/// A master, two replicas, and three Sentinels that watch them.
pub struct Sentinels {
    nodes: Vec<TestRedis>,
    proxies: Vec<Proxy>,
    sentinels: Vec<TestRedis>,
}

impl Sentinels {
    /// Starts all of them, with these arguments for the three that keep data, and waits until all know each other.
    pub async fn start(arguments: &[&str], dice: &Dice) -> Self {
        let (mut nodes, mut proxies) = (Vec::new(), Vec::<Proxy>::new());
        for number in 0..3 {
            // A proxy begins before its node, as the node tells others the proxy's address.
            let proxy = Proxy::to(0, &dice.split(number)).await;
            let announced = proxy.address().port();
            let master =
                proxies.first().map(|master: &Proxy| format!("--replicaof 127.0.0.1 {}", master.address().port()));
            let line = format!(
                "--save --appendonly no --repl-diskless-sync-delay 0 --repl-ping-replica-period 1 --replica-announce-ip \
                 127.0.0.1 --replica-announce-port {announced} --bind-source-addr {NODES} --enable-debug-command local {}",
                master.unwrap_or_default()
            );
            let redis = node(None, |_| {
                let mut words = words(&line);
                // An empty argument cannot be written in a line.
                words.insert(1, String::new());
                words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
                words
            })
            .await;
            proxy.lead_to(SocketAddr::from(([127, 0, 0, 1], redis.port())));
            proxies.push(proxy);
            nodes.push(redis);
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let conf = format!(
                "sentinel monitor mymaster 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds mymaster {}\n\
                 sentinel failover-timeout mymaster 3000\n\
                 sentinel parallel-syncs mymaster 2\n\
                 sentinel announce-ip 127.0.0.1\n\
                 bind-source-addr {NODES}\n",
                proxies[0].address().port(),
                DOWN_AFTER.as_millis(),
            );
            sentinels.push(node(Some(&conf), |_| words("--sentinel")).await);
        }
        let all = Self { nodes, proxies, sentinels };
        all.whole().await;
        all
    }

    /// Every Sentinel sees two other ones and two replicas that are up, and both replicas follow the master.
    pub async fn is_whole(&self) -> bool {
        for sentinel in &self.sentinels {
            let seen = sentinel.try_command::<Vec<String>>(&["SENTINEL", "MASTER", "mymaster"]).await;
            let Ok(seen) = seen else { return false };
            let field = |name: &str| seen.chunks(2).find(|pair| pair[0] == name).map_or("", |pair| &pair[1]);
            if (field("num-other-sentinels"), field("num-slaves"), field("flags")) != ("2", "2", "master") {
                return false;
            }
        }
        let mut following = 0;
        for node in &self.nodes {
            let Ok(info) = node.try_command::<String>(&["INFO", "replication"]).await else { return false };
            following += usize::from(told(&info, "master_link_status").as_deref() == Some("up"));
        }
        following == 2
    }

    /// Waits until [`Self::is_whole`]. On a loaded machine the Sentinels take each other for down again and again.
    pub async fn whole(&self) {
        eventually_within(3 * PATIENCE, "the Sentinels and all nodes are well", async || self.is_whole().await).await;
    }

    /// What sessiond is told.
    pub fn url(&self) -> String {
        let all: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/mymaster", all.join(","))
    }

    /// Has the Sentinels ask for a password from now on. (They no longer believe each other then: for tests of the way only.)
    pub async fn require_password(&self, password: &str) {
        for sentinel in &self.sentinels {
            let password = format!(">{password}");
            let _: String = sentinel.command(&["ACL", "SETUSER", "default", "resetpass", &password]).await;
        }
    }

    /// Runs this command on every Sentinel, as a user that keeps every right whatever the default user may do.
    pub async fn on_sentinels(&self, line: &[String]) {
        let words: Vec<_> = line.iter().map(String::as_str).collect();
        for sentinel in &self.sentinels {
            // Refused when an earlier command took that right from the default user: then the operator is there already.
            let operator = ["ACL", "SETUSER", OPERATOR, "on", "nopass", "allchannels", "allkeys", "+@all"];
            let _ = sentinel.try_command::<()>(&operator).await;
            let () = sentinel.command_as(OPERATOR, &words).await;
        }
    }

    /// The number of the master that the Sentinels name, if they agree, and if it says so itself.
    pub async fn master(&self) -> Option<usize> {
        let mut named = None;
        for sentinel in &self.sentinels {
            let asked = sentinel.try_command::<Vec<String>>(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]).await;
            let port: u16 = asked.ok()?.get(1)?.parse().ok()?;
            if named.replace(port).is_some_and(|before| before != port) {
                return None;
            }
        }
        let number = self.proxies.iter().position(|proxy| Some(proxy.address().port()) == named)?;
        is_master(&self.nodes[number]).await.then_some(number)
    }

    /// Waits until another one than this is the master, and gives its number.
    pub async fn master_after(&self, old: usize) -> usize {
        let mut new = old;
        eventually("there is another master", async || match self.master().await {
            Some(master) => {
                new = master;
                new != old
            }
            None => false,
        })
        .await;
        new
    }

    /// Subscribes to what the Sentinels announce from now on.
    pub async fn announcements(&self) -> Announcements {
        let (sender, first) = watch::channel(None);
        let mut listening = JoinSet::new();
        for sentinel in &self.sentinels {
            let client = redis::Client::open(sentinel.url()).expect("a URL");
            let mut subscribed = client.get_async_pubsub().await.expect("the Sentinel is up");
            subscribed.subscribe("+switch-master").await.expect("it can be subscribed to");
            let sender = sender.clone();
            listening.spawn(async move {
                if subscribed.on_message().next().await.is_some() {
                    let now = Instant::now();
                    sender.send_if_modified(|first| first.replace(first.unwrap_or(now)).is_none());
                }
            });
        }
        Announcements { first, _listening: listening }
    }

    /// Waits until as many replicas follow this node as it needs for a write (`min-replicas-to-write`).
    pub async fn has_replicas(&self, number: usize) {
        eventually("the new master has enough replicas to take writes", async || {
            let info = self.nodes[number].try_command::<String>(&["INFO", "replication"]).await.unwrap_or_default();
            told(&info, "min_slaves_good_slaves").is_none_or(|good| good != "0")
        })
        .await;
    }

    /// A node, by its number.
    pub fn node(&self, number: usize) -> &TestRedis {
        &self.nodes[number]
    }

    /// Kills a node.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a node again that was killed.
    pub async fn come_back(&mut self, number: usize) {
        self.nodes[number].come_back().await;
    }

    /// Freezes a node, or lets it go on.
    pub fn signal(&self, number: usize, signal: Signal) {
        self.nodes[number].signal(signal);
    }

    /// Freezes all Sentinels, or lets them go on.
    pub fn signal_sentinels(&self, signal: Signal) {
        for sentinel in &self.sentinels {
            sentinel.signal(signal);
        }
    }

    /// Asks a Sentinel for a failover, as an operator does.
    pub async fn failover(&self) {
        let asked = self.sentinels[0].try_command::<String>(&["SENTINEL", "FAILOVER", "mymaster"]).await;
        assert!(asked.is_ok() || asked.as_ref().is_err_and(|error| error.code() == Some("INPROG")), "{asked:?}");
    }

    /// The proxy in front of a node.
    pub fn proxy(&self, number: usize) -> &Proxy {
        &self.proxies[number]
    }

    /// Cuts a node off from the others and from the Sentinels, while clients still reach it.
    pub fn cut_off_from_nodes(&self, number: usize) {
        self.proxies[number].nodes(Weather::BlackHole);
    }

    /// Cuts a node off from clients, while the others and the Sentinels still reach it.
    pub fn cut_off_from_clients(&self, number: usize) {
        self.proxies[number].clients(Weather::BlackHole);
    }

    /// All can speak with all again.
    pub fn heal(&self) {
        for proxy in &self.proxies {
            proxy.nodes(Weather::Fair);
            proxy.clients(Weather::Fair);
        }
    }
}
