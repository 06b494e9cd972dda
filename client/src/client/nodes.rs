//! The servers behind the addresses, each with a channel that leads there, and which of them gets a call.
//!
//! Of two picked at random the one with fewer calls under way gets it. One that could not be reached, or let three deadlines
//! pass without a word, rests for a while, longer each time, and is then tried by one call at a time: so a dead server costs a
//! few calls and not its share for ever. Names are looked up again while calls come; nothing runs while none does.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{debug, warn};

use super::address::{Address, LookUp, Place, resolve};
use crate::Error;

/// How long a server rests after its first failure; twice as long after each further one.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// So many deadlines in a row run out before a connection is thought dead and made anew: a black hole says nothing.
const SILENCES: u32 = 3;

/// One server.
pub(super) struct Node<C> {
    place: Place,
    pub(super) channel: C,
    under_way: AtomicU32,
    /// Until when it rests, in milliseconds of [`Nodes::epoch`].
    rests_until: AtomicU64,
    failures: AtomicU32,
    silences: AtomicU32,
}

impl<C> Node<C> {
    fn new(place: &Place, connect: &Connect<C>) -> Arc<Self> {
        Arc::new(Self {
            place: place.clone(),
            channel: connect(place),
            under_way: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            silences: AtomicU32::new(0),
        })
    }
}

/// A call under way on a node.
pub(super) struct Turn<C>(pub(super) Arc<Node<C>>);

impl<C> Turn<C> {
    fn new(node: &Arc<Node<C>>) -> Self {
        node.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(node))
    }
}

impl<C> Drop for Turn<C> {
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
pub(super) type Connect<C> = Box<dyn Fn(&Place) -> C + Send + Sync>;

/// What goes on beside the calls.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Has work done beside the calls, where names may be looked up.
pub(super) type Beside = fn(Work);

/// All servers.
pub(super) struct Nodes<C> {
    addresses: Vec<Arc<Address>>,
    connect: Connect<C>,
    beside: Beside,
    look_up: LookUp,
    epoch: Instant,
    list: Mutex<List<C>>,
    looking_up: AtomicBool,
    /// Tells callers that find no list when a look-up has ended.
    looked: watch::Sender<()>,
}

/// The servers that are known.
type Known<C> = Arc<[Arc<Node<C>>]>;

struct List<C> {
    nodes: Known<C>,
    looked_up: Option<Instant>,
    /// Why there is none yet.
    failure: Option<Arc<io::Error>>,
}

/// A look-up under way. However it ends, even with its runtime, it is told.
struct Looking<C>(Arc<Nodes<C>>);

impl<C> Drop for Looking<C> {
    fn drop(&mut self) {
        self.0.looking_up.store(false, Ordering::Release);
        self.0.looked.send_replace(());
    }
}

impl<C: Send + Sync + 'static> Nodes<C> {
    pub(super) fn new(addresses: Vec<Address>, connect: Connect<C>, beside: Beside, look_up: LookUp) -> Self {
        Self {
            addresses: addresses.into_iter().map(Arc::new).collect(),
            connect,
            beside,
            look_up,
            epoch: Instant::now(),
            list: Mutex::new(List { nodes: Arc::new([]), looked_up: None, failure: None }),
            looking_up: AtomicBool::new(false),
            looked: watch::Sender::default(),
        }
    }

    /// The node for the next call, another one than `not` if there is a choice. `None` until names have been looked up.
    pub(super) fn turn(self: &Arc<Self>, not: Option<&Node<C>>) -> Option<Turn<C>> {
        let (nodes, age) = self.current();
        if age? > LOOK_UP_EVERY {
            self.look_up_beside();
        }
        Some(self.pick(&nodes, not))
    }

    fn current(&self) -> (Known<C>, Option<Duration>) {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&list.nodes), list.looked_up.map(|then| then.elapsed()))
    }

    /// The node for a first call: waits until names have been looked up, once for all callers. That goes on beyond the
    /// deadline of the call that began it, or a slow name server would never be heard.
    pub(super) async fn first_turn(self: &Arc<Self>) -> Result<Turn<C>, Error> {
        let mut looked = self.looked.subscribe();
        if self.current().1.is_none() {
            self.look_up_beside();
            looked.changed().await.map_err(Error::unreachable)?;
        }
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        match (list.looked_up, &list.failure) {
            (Some(_), _) => Ok(self.pick(&list.nodes, None)),
            (None, Some(failure)) => Err(Error::unreachable(Arc::clone(failure))),
            (None, None) => Err(Error::unreachable("the look-up of the session service's name was broken off")),
        }
    }

    /// Looks the names up again while the calls go on with what is known.
    fn look_up_beside(self: &Arc<Self>) {
        let has_names = self.addresses.iter().any(|address| address.is_name());
        let may_change = has_names || self.current().1.is_none();
        if !may_change || self.looking_up.swap(true, Ordering::AcqRel) {
            return;
        }
        let looking = Looking(Arc::clone(self));
        let work = async move { looking.0.look_up_now().await };
        if has_names {
            (self.beside)(Box::pin(work));
        } else {
            // There is nothing to wait for.
            let _ = pin!(work).poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    async fn look_up_now(&self) {
        // What was known stays known: a name server that is down takes nobody with it.
        let known: Vec<_> = self.current().0.iter().map(|node| node.place.clone()).collect();
        let (places, failure) = resolve(&self.addresses, &self.look_up, &known).await;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if places.is_empty() {
            list.failure = failure.map(Arc::new);
            return;
        }
        if let Some(error) = failure {
            warn!(%error, "the session service's name cannot be looked up: going on with what is known");
        }
        let known = |place: &Place| list.nodes.iter().find(|node| node.place == *place).cloned();
        let nodes: Arc<[_]> =
            places.iter().map(|place| known(place).unwrap_or_else(|| Node::new(place, &self.connect))).collect();
        debug!(servers = nodes.len(), "looked up the session service");
        *list = List { nodes, looked_up: Some(Instant::now()), failure: None };
    }

    fn pick(&self, nodes: &[Arc<Node<C>>], not: Option<&Node<C>>) -> Turn<C> {
        let now = self.epoch.elapsed().as_millis() as u64;
        let rests_until = |node: &&Arc<Node<C>>| node.rests_until.load(Ordering::Relaxed);
        let under_way = |node: &&Arc<Node<C>>| node.under_way.load(Ordering::Relaxed);
        let fits = |node: &&Arc<Node<C>>| {
            let another = not.is_none_or(|not| !std::ptr::eq(Arc::as_ptr(node), not));
            // One that failed last is tried by one call at a time, until it answers.
            let sound = node.failures.load(Ordering::Relaxed) == 0 || under_way(node) == 0;
            another && sound && rests_until(node) <= now
        };
        // In one pass, since who fits may change at any moment: each of the n that fit is either one with a chance of 1/n.
        let mut two = [None; 2];
        for (n, node) in nodes.iter().filter(fits).enumerate() {
            two.iter_mut().filter(|_| fastrand::usize(..=n) == 0).for_each(|one| *one = Some(node));
        }
        let chosen = match (two.into_iter().flatten().min_by_key(under_way), not) {
            (Some(chosen), _) => Some(chosen),
            // All rest: a first attempt goes anywhere, so that whoever is back is found as soon as it is; a repeat to the
            // one whose rest ends first, which mostly has failed least.
            (None, None) => fastrand::choice(nodes),
            (None, Some(_)) => nodes.iter().min_by_key(rests_until),
        };
        // `look_up_now` never leaves an empty list, and nobody asks before it left one.
        Turn::new(chosen.expect("a looked-up list is never empty"))
    }

    /// Hears what became of a call.
    pub(super) fn heard(self: &Arc<Self>, node: &Arc<Node<C>>, verdict: Verdict) {
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
                if self.rest(node) {
                    // What the connection lived on may be gone with it: another runtime of this process, for one.
                    self.replace(node);
                }
                // It may have moved: whoever restarts it may have given it another address.
                if self.current().1.is_some_and(|age| age > FIRST_REST) {
                    self.look_up_beside();
                }
            }
            Verdict::Silent => {
                if node.silences.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCES {
                    self.rest(node);
                    debug!(server = %node.place.1, "a session server does not answer: trying a new connection");
                    self.replace(node);
                }
            }
        }
    }

    /// Sends it to rest, if it does not rest yet.
    fn rest(&self, node: &Node<C>) -> bool {
        if node.rests_until.load(Ordering::Relaxed) > self.epoch.elapsed().as_millis() as u64 {
            // One broken connection fails many calls: it counts once.
            return false;
        }
        let failures = node.failures.fetch_add(1, Ordering::Relaxed).min(10);
        let rest = (FIRST_REST * 2u32.pow(failures)).min(LONGEST_REST);
        let until = self.epoch.elapsed() + rest;
        node.rests_until.store(until.as_millis() as u64, Ordering::Relaxed);
        true
    }

    /// Gives a server a new connection: the old one may wait for minutes for what will never come. Calls under way on that end
    /// as they will.
    fn replace(&self, silent: &Arc<Node<C>>) {
        let fresh = Node::new(&silent.place, &self.connect);
        fresh.failures.store(silent.failures.load(Ordering::Relaxed), Ordering::Relaxed);
        fresh.rests_until.store(silent.rests_until.load(Ordering::Relaxed), Ordering::Relaxed);
        // Until it answers, one more silence sends it back to rest.
        fresh.silences.store(silent.silences.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.nodes = list
            .nodes
            .iter()
            .map(|node| if Arc::ptr_eq(node, silent) { Arc::clone(&fresh) } else { Arc::clone(node) })
            .collect();
    }
}

#[cfg(test)]
mod tests;
