//! The servers behind the addresses, each with one HTTP/2 connection, and which of them gets a call.
//!
//! Of two picked at random the one with fewer calls under way gets it. One that could not be reached rests for a while,
//! longer each time, so that a dead server costs its share of calls once and not for ever. Names are looked up again
//! while calls come; nothing runs while none does.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tonic::transport::{Channel, Endpoint};
use tracing::{debug, warn};

use super::address::{Address, LookUp, Place, resolve};
use crate::Error;

/// How long a server rests after its first failure; twice as long after each further one.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// So many deadlines in a row run out before a connection is thought dead and made anew: a black hole says nothing.
const SILENCES: u32 = 3;

/// One server.
pub(super) struct Node {
    place: Place,
    pub(super) channel: Channel,
    under_way: AtomicU32,
    /// Until when it rests, in milliseconds of [`Nodes::epoch`].
    rests_until: AtomicU64,
    failures: AtomicU32,
    silences: AtomicU32,
}

impl Node {
    fn new(place: &Place, endpoint: impl Fn(&Place) -> Endpoint) -> Arc<Self> {
        Arc::new(Self {
            place: place.clone(),
            channel: endpoint(place).connect_lazy(),
            under_way: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            silences: AtomicU32::new(0),
        })
    }
}

/// A call under way on a node.
pub(super) struct Turn(pub(super) Arc<Node>);

impl Turn {
    fn new(node: &Arc<Node>) -> Self {
        node.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(node))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What became of a call, as far as its server is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered, whatever it said.
    Answered,
    /// It could not be reached, or the connection broke.
    Lost,
    /// The deadline ran out without a word from it.
    Silent,
}

/// How often names are looked up again while calls come.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// How a server is connected to.
pub(super) type Connect = Box<dyn Fn(&Place) -> Endpoint + Send + Sync>;

/// All servers.
pub(super) struct Nodes {
    addresses: Vec<Arc<Address>>,
    connect: Connect,
    look_up: LookUp,
    epoch: Instant,
    list: Mutex<List>,
    looking_up: AtomicBool,
    /// Makes callers that find no list wait for the one who looks up.
    first: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct List {
    nodes: Arc<[Arc<Node>]>,
    looked_up: Option<Instant>,
}

impl Nodes {
    pub(super) fn new(addresses: Vec<Address>, connect: Connect, look_up: LookUp) -> Self {
        Self {
            addresses: addresses.into_iter().map(Arc::new).collect(),
            connect,
            look_up,
            epoch: Instant::now(),
            list: Mutex::default(),
            looking_up: AtomicBool::new(false),
            first: tokio::sync::Mutex::default(),
        }
    }

    /// The node for the next call, another one than `not` if there is a choice.
    pub(super) async fn turn(self: &Arc<Self>, not: Option<&Node>) -> Result<Turn, Error> {
        let (nodes, age) = self.current();
        let Some(age) = age else {
            let nodes = self.first_list().await?;
            return Ok(self.pick(&nodes, not));
        };
        if age > LOOK_UP_EVERY {
            self.look_up_beside();
        }
        Ok(self.pick(&nodes, not))
    }

    fn current(&self) -> (Arc<[Arc<Node>]>, Option<Duration>) {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&list.nodes), list.looked_up.map(|then| then.elapsed()))
    }

    /// Waits for the first list, which one caller makes.
    async fn first_list(&self) -> Result<Arc<[Arc<Node>]>, Error> {
        let _turn = self.first.lock().await;
        if let (nodes, Some(_)) = self.current() {
            return Ok(nodes);
        }
        self.look_up_now().await.map_err(Error::unreachable)?;
        Ok(self.current().0)
    }

    /// Looks the names up again while the calls go on with what is known.
    fn look_up_beside(self: &Arc<Self>) {
        let may_change = self.addresses.iter().any(|address| address.is_name());
        if !may_change || self.looking_up.swap(true, Ordering::AcqRel) {
            return;
        }
        let nodes = Arc::clone(self);
        tokio::spawn(async move {
            // What was known stays known: a name server that is down takes nobody with it.
            if let Err(error) = nodes.look_up_now().await {
                warn!(%error, "the session service's name cannot be looked up: going on with what is known");
                nodes.list.lock().unwrap_or_else(PoisonError::into_inner).looked_up = Some(Instant::now());
            }
            nodes.looking_up.store(false, Ordering::Release);
        });
    }

    async fn look_up_now(&self) -> io::Result<()> {
        let places = resolve(&self.addresses, &self.look_up).await?;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |place: &Place| list.nodes.iter().find(|node| node.place == *place).cloned();
        let nodes: Arc<[_]> =
            places.iter().map(|place| known(place).unwrap_or_else(|| Node::new(place, &self.connect))).collect();
        debug!(servers = nodes.len(), "looked up the session service");
        *list = List { nodes, looked_up: Some(Instant::now()) };
        Ok(())
    }

    fn pick(&self, nodes: &[Arc<Node>], not: Option<&Node>) -> Turn {
        let now = self.epoch.elapsed().as_millis() as u64;
        let rests_until = |node: &&Arc<Node>| node.rests_until.load(Ordering::Relaxed);
        let fits = || {
            let another = |node: &&Arc<Node>| not.is_none_or(|not| !std::ptr::eq(Arc::as_ptr(node), not));
            nodes.iter().filter(move |node| rests_until(node) <= now && another(node))
        };
        let chosen = match fits().count() {
            // All rest: the one whose rest ends first is tried, so that an outage ends as soon as it ends.
            0 => nodes.iter().min_by_key(rests_until),
            fit => {
                let any = || fits().nth(fastrand::usize(..fit));
                [any(), any()].into_iter().flatten().min_by_key(|node| node.under_way.load(Ordering::Relaxed))
            }
        };
        Turn::new(chosen.expect("a looked-up list is never empty"))
    }

    /// Hears what became of a call.
    pub(super) fn heard(self: &Arc<Self>, node: &Arc<Node>, verdict: Verdict) {
        match verdict {
            Verdict::Answered => {
                // Mostly so already: then nothing is written that other threads would have to fetch.
                if node.failures.load(Ordering::Relaxed) + node.silences.load(Ordering::Relaxed) > 0 {
                    node.failures.store(0, Ordering::Relaxed);
                    node.silences.store(0, Ordering::Relaxed);
                    node.rests_until.store(0, Ordering::Relaxed);
                }
            }
            Verdict::Lost => {
                self.rest(node);
                // It may have moved: whoever restarts it may have given it another address.
                if self.current().1.is_some_and(|age| age > FIRST_REST) {
                    self.look_up_beside();
                }
            }
            Verdict::Silent => {
                if node.silences.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCES {
                    self.rest(node);
                    self.replace(node);
                }
            }
        }
    }

    fn rest(&self, node: &Node) {
        if node.rests_until.load(Ordering::Relaxed) > self.epoch.elapsed().as_millis() as u64 {
            // One broken connection fails many calls: it counts once.
            return;
        }
        let failures = node.failures.fetch_add(1, Ordering::Relaxed).min(10);
        let rest = (FIRST_REST * 2u32.pow(failures)).min(LONGEST_REST);
        let until = self.epoch.elapsed() + rest;
        node.rests_until.store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Gives a silent server a new connection: the old one may wait for minutes for what will never come.
    fn replace(&self, silent: &Arc<Node>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.nodes.iter().any(|node| Arc::ptr_eq(node, silent)) {
            return;
        }
        debug!(server = %silent.place.1, "a session server does not answer: trying a new connection");
        let fresh = Node::new(&silent.place, &self.connect);
        fresh.failures.store(silent.failures.load(Ordering::Relaxed), Ordering::Relaxed);
        fresh.rests_until.store(silent.rests_until.load(Ordering::Relaxed), Ordering::Relaxed);
        list.nodes = list
            .nodes
            .iter()
            .map(|node| if Arc::ptr_eq(node, silent) { Arc::clone(&fresh) } else { Arc::clone(node) })
            .collect();
    }
}
