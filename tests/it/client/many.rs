//! Many servers: calls are spread over them, and one that dies is not missed.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sessiond_client::Error;
use sessiond_tests::{PATIENCE, eventually, reserved_port};
use tokio::task::JoinSet;

use super::{
    SessionClient, deadlines, id, patient, patiently,
    scripted::{Answer, Scripted},
};

/// Callers who call all the time.
struct Traffic {
    callers: JoinSet<()>,
    figures: Arc<Figures>,
}

#[derive(Default)]
struct Figures {
    stop: AtomicBool,
    calls: AtomicUsize,
    failed: AtomicUsize,
    slowest_us: AtomicUsize,
}

impl Traffic {
    fn of(client: &SessionClient, callers: usize) -> Self {
        let figures = Arc::<Figures>::default();
        let caller = |client: SessionClient, figures: Arc<Figures>| async move {
            while !figures.stop.load(Ordering::SeqCst) {
                let begun = Instant::now();
                if client.open(&id()).await.is_err() {
                    figures.failed.fetch_add(1, Ordering::SeqCst);
                }
                figures.slowest_us.fetch_max(begun.elapsed().as_micros() as usize, Ordering::SeqCst);
                figures.calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        let callers = (0..callers).map(|_| caller(client.clone(), Arc::clone(&figures))).collect();
        Self { callers, figures }
    }

    /// Waits for so many more calls.
    async fn goes_on(&mut self, calls: usize) {
        let until = self.figures.calls.load(Ordering::SeqCst) + calls;
        eventually("calls go on", async || {
            assert!(self.callers.try_join_next().is_none(), "they go on for as long as they may");
            self.figures.calls.load(Ordering::SeqCst) >= until
        })
        .await;
    }

    fn failed(&self) -> usize {
        self.figures.failed.load(Ordering::SeqCst)
    }

    fn slowest(&self) -> Duration {
        Duration::from_micros(self.figures.slowest_us.swap(0, Ordering::SeqCst) as u64)
    }

    async fn ends(mut self) {
        self.figures.stop.store(true, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.expect("it ends");
        }
    }
}

fn addresses(servers: &[&Scripted]) -> String {
    servers.iter().map(|server| server.address().to_string()).collect::<Vec<_>>().join(",")
}

/// How many of the calls since last asked went where.
fn shares(servers: &[&Scripted]) -> Vec<usize> {
    servers.iter().map(|server| server.asked().len()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_share_the_calls() {
    const CALLS: usize = 3_000;
    let servers = [Scripted::fine(), Scripted::fine(), Scripted::fine()];
    let servers = servers.each_ref();
    // One caller, who never has two calls under way, and many.
    for callers in [1, 16] {
        let client = patient(addresses(&servers));
        let callers: JoinSet<_> = (0..callers)
            .map(|_| {
                let client = client.clone();
                async move {
                    for _ in 0..CALLS / callers {
                        client.open(&id()).await.unwrap();
                    }
                }
            })
            .collect();
        callers.join_all().await;
        let shares = shares(&servers);
        println!("{shares:?} of {CALLS} calls");
        assert!(shares.iter().all(|share| (CALLS / 5..=CALLS * 47 / 100).contains(share)), "{shares:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_is_not_missed_and_is_welcome_back() {
    let port = reserved_port();
    let listener = || TcpListener::bind(("127.0.0.1", port));
    let [one, two] = [Scripted::fine(), Scripted::fine()];
    let three = Scripted::start_on(listener().unwrap(), None, |_| Answer::Fine);
    let mut traffic = Traffic::of(&patient(addresses(&[&one, &two, &three])), 8);
    traffic.goes_on(500).await;
    assert!(shares(&[&one, &two, &three]).into_iter().all(|share| share > 0));
    println!("with three servers the slowest call took {:?}", traffic.slowest());

    drop(three);
    traffic.goes_on(2_000).await;
    let shares = shares(&[&one, &two]);
    println!("without the third {shares:?}, the slowest call took {:?}", traffic.slowest());
    assert_eq!(traffic.failed(), 0, "nobody saw that");
    assert!(shares.iter().all(|share| *share > 600), "the others have its share: {shares:?}");

    // Away for long enough that it rests for long.
    let away = Instant::now();
    eventually("it was away for a while", async || away.elapsed() > Duration::from_secs(3)).await;
    let three = Scripted::start_on(listener().unwrap(), None, |_| Answer::Fine);
    let back = Instant::now();
    eventually("it gets calls again", async || !three.asked().is_empty()).await;
    println!("it has calls again after {:?}", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(6), "{:?}", back.elapsed());
    three.asked();
    traffic.goes_on(1_000).await;
    let share = three.asked().len();
    assert!(share > 150, "its share of 1000 is {share}");
    assert_eq!(traffic.failed(), 0, "nobody saw that");
    traffic.ends().await;
}

#[tokio::test]
async fn a_dead_address_beside_a_living_one_is_not_seen() {
    let living = Scripted::fine();
    // Asked often enough that the dead one is tried again and again.
    for _ in 0..20 {
        let client = patient(format!("127.0.0.1:{},{}", reserved_port(), living.address()));
        for _ in 0..50 {
            let begun = Instant::now();
            client.open(&id()).await.expect("one of them lives");
            assert!(begun.elapsed() < PATIENCE / 4, "it took {:?}", begun.elapsed());
        }
    }
    // A name that stands for the living one, and for the same port of ::1 perhaps.
    let client = patient(format!("localhost:{}", living.address().port()));
    for _ in 0..50 {
        client.open(&id()).await.expect("one of them lives");
    }
    // A name that stands for nothing.
    let client = patient(format!("sessiond.invalid:1,{}", living.address()));
    client.open(&id()).await.expect("one of them lives");
}

/// Takes connections and says nothing, as a machine that was unplugged.
fn black_hole() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

#[tokio::test]
async fn one_that_never_answers_rests_after_three_deadlines() {
    let (hole, living) = (black_hole(), Scripted::fine());
    let client = patiently(format!("{},{}", hole.local_addr().unwrap(), living.address()));
    let client = client.deadlines(deadlines(Duration::from_millis(200))).build().unwrap();
    for silences in 0..3 {
        // Every other call goes there, unless it rests.
        let mut in_between = 0;
        while client.open(&id()).await.is_ok() {
            in_between += 1;
            assert!(in_between < 40, "it rests after {silences}");
        }
    }
    // The first rest is 100 ms.
    let resting = Instant::now();
    while resting.elapsed() < Duration::from_millis(90) {
        let answer = client.open(&id()).await;
        assert!(answer.is_ok() || resting.elapsed() > Duration::from_millis(100), "it does not rest");
    }
}

/// What a black hole costs those who call: one deadline for each time that it is tried again, less and less often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_answers_costs_less_and_less() {
    let (hole, living) = (black_hole(), Scripted::fine());
    let client = patiently(format!("{},{}", hole.local_addr().unwrap(), living.address()));
    // So long that the living one is in time even on a slow machine.
    let client = client.deadlines(deadlines(Duration::from_secs(1))).build().unwrap();
    let begun = Instant::now();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while begun.elapsed() < Duration::from_secs(12) {
                    if let Err(error) = client.open(&id()).await {
                        assert!(matches!(error, Error::Unavailable { .. }));
                        failed.push(begun.elapsed());
                    }
                }
                failed
            })
        })
        .collect();
    let mut failed = Vec::new();
    for caller in callers {
        failed.extend(caller.await.unwrap());
    }
    let late = failed.iter().filter(|at| **at > Duration::from_secs(6)).count();
    let answered = living.asked().len();
    println!("{} calls failed and {answered} did not in 12 s, {late} of them in the last 6 s", failed.len());
    assert!(failed.len() <= 16 && late <= 6, "{} failed, {late} of them late", failed.len());
}
