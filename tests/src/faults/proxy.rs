//! A TCP proxy in front of a Redis that does to its connections what networks do, and to its answers what no network
//! should: told when, by dice with a seed, and counting what it did, so that a test can tell a fault that was survived
//! from one that never happened. (Long: what it can do, how it is told to, and one connection's two directions.)

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::resp::Replies;
use crate::Dice;

/// Who connects from here is one of the Redis nodes among themselves (`bind-source-addr`), and not a client. (Linux has all
/// of 127.0.0.0/8 on loopback; elsewhere it must be set up.)
pub const NODES: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How long an answer waits for one of another connection to be swapped with.
const SWAP: Duration = Duration::from_millis(20);

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It forwards.
    Fair,
    /// Connections are closed, and so is every new one.
    Cut,
    /// What is sent is taken, and not forwarded until this ends; nobody is told.
    BlackHole,
    /// Everything takes so long, in each direction.
    Slow(Duration),
}

/// What happens to answers, each with this many in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mischief {
    /// The answer is lost, and its connection with it.
    pub drop_and_cut: usize,
    /// The answer is lost; the next one is taken for it, and so on for ever.
    pub slide: usize,
    /// The answer is swapped with one of another connection.
    pub swap: usize,
}

/// What a proxy did.
#[derive(Debug, Default)]
pub struct Done {
    /// Connections taken.
    pub connections: AtomicUsize,
    /// Answers lost together with their connection.
    pub dropped: AtomicUsize,
    /// Answers lost silently.
    pub slid: AtomicUsize,
    /// Answers that went to another connection.
    pub swapped: AtomicUsize,
    /// Bytes held back by a black hole.
    pub held: AtomicUsize,
}

impl Done {
    /// Answers lost together with their connection.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Answers lost silently.
    pub fn slid(&self) -> usize {
        self.slid.load(Ordering::Relaxed)
    }

    /// Answers that went to another connection.
    pub fn swapped(&self) -> usize {
        self.swapped.load(Ordering::Relaxed)
    }

    /// Bytes held back by a black hole.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// A proxy. It ends with this value, and all its connections with it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: AbortHandle,
    connections: Arc<Mutex<JoinSet<()>>>,
}

struct Shared {
    target: watch::Sender<SocketAddr>,
    clients: watch::Sender<Weather>,
    nodes: watch::Sender<Weather>,
    mischief: Mutex<Mischief>,
    dice: Dice,
    waiting: Mutex<Option<Waiting>>,
    done: Done,
    numbers: AtomicU64,
}

/// An answer that waits to be swapped.
struct Waiting {
    connection: u64,
    bytes: Vec<u8>,
    instead: oneshot::Sender<Vec<u8>>,
}

impl Proxy {
    /// A proxy to this port of 127.0.0.1, on a reserved port of its own.
    pub async fn to(port: u16, dice: &Dice) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, crate::reserved_port()));
        Self::at(address, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), dice).await
    }

    /// A proxy at this address.
    pub async fn at(address: SocketAddr, target: SocketAddr, dice: &Dice) -> Self {
        let listener = TcpListener::bind(address).await.expect("the proxy's port is free");
        let shared = Arc::new(Shared {
            target: watch::Sender::new(target),
            clients: watch::Sender::new(Weather::Fair),
            nodes: watch::Sender::new(Weather::Fair),
            mischief: Mutex::default(),
            dice: dice.clone(),
            waiting: Mutex::default(),
            done: Done::default(),
            numbers: AtomicU64::new(0),
        });
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared), Arc::clone(&connections))).abort_handle();
        Self { address, shared, listening, connections }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where new connections lead from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        self.shared.target.send_replace(target);
    }

    /// What becomes of clients' connections from now on.
    pub fn clients(&self, weather: Weather) {
        self.shared.clients.send_replace(weather);
    }

    /// What becomes of the connections of the nodes among themselves from now on: see [`NODES`].
    pub fn nodes(&self, weather: Weather) {
        self.shared.nodes.send_replace(weather);
    }

    /// What becomes of answers from now on.
    pub fn mischief(&self, mischief: Mischief) {
        *lock(&self.shared.mischief) = mischief;
    }

    /// What it has done so far.
    pub fn done(&self) -> &Done {
        &self.shared.done
    }

    /// The address is gone: who connects is refused, and connections that are there hear nothing more.
    pub fn vanish(&self) {
        self.clients(Weather::BlackHole);
        self.nodes(Weather::BlackHole);
        self.listening.abort();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        lock(&self.connections).abort_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, connections: Arc<Mutex<JoinSet<()>>>) {
    while let Ok((near, from)) = listener.accept().await {
        shared.done.connections.fetch_add(1, Ordering::Relaxed);
        let is_node = from.ip() == NODES;
        let shared = Arc::clone(&shared);
        let mut connections = lock(&connections);
        while connections.try_join_next().is_some() {}
        connections.spawn(async move { relay(near, shared, is_node).await });
    }
}

/// Carries one connection until either side ends it, or a cut does.
async fn relay(near: TcpStream, shared: Arc<Shared>, is_node: bool) {
    let mut weather = if is_node { shared.nodes.subscribe() } else { shared.clients.subscribe() };
    if *weather.borrow() == Weather::Cut {
        return;
    }
    // A black hole forwards not even the wish to connect.
    if weather.wait_for(|weather| *weather != Weather::BlackHole).await.is_err() {
        return;
    }
    let target = *shared.target.borrow();
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = near.set_nodelay(true).and(far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
    let mut cut = weather.clone();
    tokio::select! {
        () = questions(near_in, far_out, weather.clone(), &shared) => {}
        () = answers(far_in, near_out, weather, &shared, number, is_node) => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

async fn questions(from: OwnedReadHalf, to: OwnedWriteHalf, weather: watch::Receiver<Weather>, shared: &Shared) {
    let mut line = Line::new(from, to, weather);
    while let Some(bytes) = line.next(&shared.done).await {
        if line.to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn answers(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
    shared: &Shared,
    number: u64,
    is_node: bool,
) {
    let mut line = Line::new(from, to, weather);
    let (mut replies, mut dice) = (Replies::default(), shared.dice.split(number as usize));
    while let Some(bytes) = line.next(&shared.done).await {
        // Nodes speak of replication, which is no RESP.
        if is_node {
            if line.to.write_all(&bytes).await.is_err() {
                return;
            }
            continue;
        }
        replies.take(&bytes);
        let mut out = Vec::with_capacity(bytes.len());
        while let Some(reply) = replies.next() {
            let mischief = *lock(&shared.mischief);
            let one_of = |count: usize, dice: &mut Dice| count > 0 && dice.below(1000) < count;
            if reply.is_push {
                out.extend(reply.bytes);
            } else if one_of(mischief.drop_and_cut, &mut dice) {
                shared.done.dropped.fetch_add(1, Ordering::Relaxed);
                let _ = line.to.write_all(&out).await;
                return;
            } else if one_of(mischief.slide, &mut dice) {
                shared.done.slid.fetch_add(1, Ordering::Relaxed);
            } else if one_of(mischief.swap, &mut dice) {
                // What came before must not wait with it.
                if line.to.write_all(&std::mem::take(&mut out)).await.is_err() {
                    return;
                }
                out.extend(swapped(shared, number, reply.bytes).await);
            } else {
                out.extend(reply.bytes);
            }
        }
        if line.to.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// The answer of another connection instead of this one, if there is one soon; else this one.
async fn swapped(shared: &Shared, connection: u64, bytes: Vec<u8>) -> Vec<u8> {
    let receiver = {
        let mut waiting = lock(&shared.waiting);
        match waiting.take() {
            Some(other) if other.connection != connection && !other.instead.is_closed() => {
                shared.done.swapped.fetch_add(2, Ordering::Relaxed);
                let Waiting { bytes: theirs, instead, .. } = other;
                let _ = instead.send(bytes);
                return theirs;
            }
            _ => {}
        }
        let (instead, receiver) = oneshot::channel();
        *waiting = Some(Waiting { connection, bytes: bytes.clone(), instead });
        receiver
    };
    tokio::pin!(receiver);
    if let Ok(Ok(theirs)) = timeout(SWAP, &mut receiver).await {
        return theirs;
    }
    // Whoever holds the lock decides: either it was swapped by now, or it will not be.
    let mut waiting = lock(&shared.waiting);
    match receiver.try_recv() {
        Ok(theirs) => theirs,
        Err(_) => {
            if waiting.as_ref().is_some_and(|waiting| waiting.connection == connection) {
                *waiting = None;
            }
            bytes
        }
    }
}

/// One direction of a connection, under its weather.
struct Line {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
    /// What was read, and when it is due.
    queue: VecDeque<(Instant, Vec<u8>)>,
    ended: bool,
}

impl Line {
    fn new(from: OwnedReadHalf, to: OwnedWriteHalf, weather: watch::Receiver<Weather>) -> Self {
        Self { from, to, weather, queue: VecDeque::new(), ended: false }
    }

    /// The next bytes to forward, when they are due; `None` when there are no more.
    async fn next(&mut self, done: &Done) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let weather = *self.weather.borrow_and_update();
            let due = match (weather, self.queue.front()) {
                (Weather::BlackHole, _) | (_, None) => None,
                (_, Some((due, _))) => Some(*due),
            };
            if due.is_some_and(|due| due <= Instant::now()) {
                return self.queue.pop_front().map(|(_, bytes)| bytes);
            }
            if self.ended && self.queue.is_empty() && weather != Weather::BlackHole {
                return None;
            }
            tokio::select! {
                changed = self.weather.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
                read = self.from.read(&mut buffer), if !self.ended => match read {
                    Ok(0) | Err(_) => self.ended = true,
                    Ok(count) => {
                        let delay = match weather {
                            Weather::Slow(delay) => delay,
                            Weather::BlackHole => {
                                done.held.fetch_add(count, Ordering::Relaxed);
                                Duration::ZERO
                            }
                            _ => Duration::ZERO,
                        };
                        self.queue.push_back((Instant::now() + delay, buffer[..count].to_vec()));
                    }
                },
            }
        }
    }
}
