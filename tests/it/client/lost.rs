//! Connections that break and servers that are killed in mid-call: the call is made again, and takes effect once.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::process::Signal;
use sessiond_client::{Save, Session};
use sessiond_tests::{Dice, Server, World, rounds};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{SessionClient, client_of, patient, patiently};

/// Where a connection is cut.
#[derive(Clone, Copy)]
enum Cut {
    Nowhere,
    /// The service never sees the request.
    Request,
    /// The service has begun to answer, and nobody hears it.
    Answer,
}

/// A relay to the service that cuts a connection when told to.
struct Relay {
    address: SocketAddr,
    next: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (next, cuts) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let relay = Self { address, next: Arc::clone(&next), cuts: Arc::clone(&cuts) };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(server).await.expect("the service is there");
                tokio::spawn(relay_between(near, far, Arc::clone(&next), Arc::clone(&cuts)));
            }
        });
        relay
    }

    /// Cuts the connection that is used next.
    fn cut(&self, at: Cut) {
        self.next.store(at as usize, Ordering::SeqCst);
    }

    fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn relay_between(mut near: TcpStream, mut far: TcpStream, next: Arc<AtomicUsize>, cuts: Arc<AtomicUsize>) {
    let (mut request, mut answer) = ([0; 16 << 10], [0; 16 << 10]);
    let cut = |at: Cut| {
        let (at, nowhere) = (at as usize, Cut::Nowhere as usize);
        next.compare_exchange(at, nowhere, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    };
    loop {
        tokio::select! {
            read = near.read(&mut request) => {
                let Ok(read @ 1..) = read else { return };
                if cut(Cut::Request) { break }
                if far.write_all(&request[..read]).await.is_err() { return }
            }
            read = far.read(&mut answer) => {
                let Ok(read @ 1..) = read else { return };
                if cut(Cut::Answer) { break }
                if near.write_all(&answer[..read]).await.is_err() { return }
            }
        }
    }
    // By turns as a crash and as an end in good order.
    if cuts.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
        near.set_zero_linger().expect("the socket is there");
    }
}

async fn sessions_in(world: &World) -> usize {
    world.redis.as_ref().expect("a world with Redis").command(&["DBSIZE"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_whose_connection_breaks_takes_effect_once() {
    const ROUNDS: usize = 200;
    let world = World::redis(&[]).await;
    let relay = Relay::to(world.server.address()).await;
    let mut list = client_of(&world).save(Save::create().set("list", &[0; 0]).unwrap()).await.unwrap();
    let mut created = 1;
    for round in 0..ROUNDS {
        // Each has a budget of its own for repeats, and a connection.
        let client = patient(relay.address);
        list = client.open(list.id()).await.unwrap().expect("it is there");
        relay.cut([Cut::Request, Cut::Answer][round % 2]);
        // Were it applied twice, or a repeat not known for one, it would be refused: it pins its version.
        let mut data = list.data().clone();
        let mut numbers = list.get::<Vec<usize>>("list").unwrap().unwrap();
        numbers.push(round);
        data.extend([("list".to_owned(), sessiond_client::Value::of(&numbers).unwrap())]);
        let save = list.change().replace_data(data);
        list = client.save(if round % 5 == 0 { save.rotate() } else { save }).await.expect("it is repeated");
        assert_eq!(relay.cuts(), 2 * round + 1, "the connection was cut");

        let client = patient(relay.address);
        client.peek(list.id()).await.unwrap();
        relay.cut([Cut::Answer, Cut::Request][round / 2 % 2]);
        if round % 2 == 0 {
            client.save(Save::create()).await.expect("it is repeated");
            created += 1;
        } else {
            client.destroy(&super::id()).await.expect("it is repeated");
        }
        assert_eq!(relay.cuts(), 2 * round + 2, "the connection was cut");
    }
    let now = client_of(&world).open(list.id()).await.unwrap().expect("it is there");
    assert_eq!(now.get::<Vec<usize>>("list").unwrap().unwrap(), (0..ROUNDS).collect::<Vec<_>>());
    assert_eq!(sessions_in(&world).await, created, "one session for each create");
    println!("{} connections cut, {ROUNDS} changes and {created} creates took effect once", relay.cuts());
}

/// Creates sessions and changes the last one until the victim is gone and a while longer; that one, and how many of each.
async fn busy(client: SessionClient, gone: Arc<AtomicUsize>) -> (Session, usize, usize) {
    let mut session = client.save(Save::create()).await.expect("somebody is there");
    let (mut saved, mut created, mut after) = (0, 1, 0);
    while after < 5 {
        after += gone.load(Ordering::SeqCst);
        session =
            client.save(session.change().set(&saved.to_string(), &true).unwrap()).await.expect("somebody is there");
        saved += 1;
        client.save(Save::create()).await.expect("somebody is there");
        created += 1;
    }
    (session, saved, created)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_mid_call_costs_no_call() {
    const CALLERS: usize = 6;
    let world = World::redis(&[]).await;
    let url = world.redis.as_ref().unwrap().url();
    let mut dice = Dice::new("when a server is killed");
    let (mut sessions, mut calls) = (0, 0);
    for _ in 0..rounds(500) {
        let mut victim = Server::start(&["--store", &url]).await;
        victim.ready().await;
        let addresses = format!("{},{}", world.server.address(), victim.address());
        let client = patiently(addresses).build().unwrap();
        let gone = Arc::<AtomicUsize>::default();
        let callers = (0..CALLERS).map(|_| tokio::spawn(busy(client.clone(), Arc::clone(&gone))));
        let callers: Vec<_> = callers.collect();
        for _ in 0..5 + dice.below(40) {
            client.peek(&super::id()).await.unwrap();
        }
        victim.signal(Signal::KILL);
        victim.ended().await;
        gone.store(1, Ordering::SeqCst);
        for caller in callers {
            let (session, saved, created) = caller.await.unwrap();
            let now = client.open(session.id()).await.unwrap().expect("it is there");
            assert_eq!(now.data().len(), saved, "every Save that was answered is there");
            (sessions, calls) = (sessions + created, calls + saved + created);
        }
        assert_eq!(sessions_in(&world).await, sessions, "one session for each create");
    }
    println!("{} servers killed during {calls} Saves: all of them took effect once", rounds(500));
}
