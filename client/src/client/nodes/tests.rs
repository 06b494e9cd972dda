use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicUsize,
};

use tokio::sync::Semaphore;

use super::*;

/// What leads there is not looked at here.
type Nodes = super::Nodes<()>;

/// A name server that says what a test tells it to, as soon as it may.
struct Dns {
    records: Mutex<BTreeMap<&'static str, Vec<u16>>>,
    asked: AtomicUsize,
    may_answer: Semaphore,
}

impl Dns {
    /// Servers behind these addresses; of the names that it does not know it says so.
    fn with(records: &[(&'static str, &[u16])], addresses: &str) -> (Arc<Self>, Arc<Nodes>) {
        let dns = Arc::new(Self {
            records: Mutex::default(),
            asked: AtomicUsize::new(0),
            may_answer: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        dns.now_says(records);
        let asked = Arc::clone(&dns);
        let look_up: LookUp = Box::new(move |address| {
            let (dns, name) = (Arc::clone(&asked), address.name().to_owned());
            Box::pin(async move {
                dns.asked.fetch_add(1, Ordering::SeqCst);
                drop(dns.may_answer.acquire().await);
                let records = dns.records.lock().expect("nobody failed");
                let ports = records.get(&name[..]).ok_or(io::ErrorKind::TimedOut)?;
                Ok(ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect())
            })
        });
        let beside: Beside = |work| drop(tokio::spawn(work));
        let addresses = Address::read_all(addresses).expect("addresses");
        (dns, Arc::new(Nodes::new(addresses, Box::new(|_| ()), beside, look_up)))
    }

    fn now_says(&self, records: &[(&'static str, &[u16])]) {
        let records = records.iter().map(|(name, ports)| (*name, ports.to_vec())).collect();
        *self.records.lock().expect("nobody failed") = records;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Nodes {
    async fn a_turn(self: &Arc<Self>) -> Turn<()> {
        match self.turn(None) {
            Some(turn) => turn,
            None => self.first_turn().await.expect("there is a server"),
        }
    }

    /// The ports of those who get calls.
    async fn who(self: &Arc<Self>) -> BTreeSet<u16> {
        let mut who = BTreeSet::new();
        for _ in 0..100 {
            who.insert(self.a_turn().await.0.place.1.port());
        }
        who
    }

    /// As if the last look-up had been so long ago.
    fn grow_older(&self, by: Duration) {
        let mut list = self.list.lock().expect("nobody failed");
        list.looked_up = list.looked_up.map(|then| then.checked_sub(by).expect("this machine is older"));
    }

    fn node(&self, port: u16) -> Arc<Node<()>> {
        let nodes = self.current().0;
        Arc::clone(nodes.iter().find(|node| node.place.1.port() == port).expect("it is known"))
    }
}

/// Lets the others go on until it is so.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn a_name_is_all_that_it_stands_for() {
    let (dns, nodes) = Dns::with(&[("a", &[1, 2, 3]), ("b", &[9])], "a:1,b:1,127.0.0.1:5");
    assert!(nodes.turn(None).is_none(), "nothing is known before the first call");
    assert_eq!(nodes.who().await, [1, 2, 3, 5, 9].into());
    assert_eq!(dns.asked(), 2, "each name once");
    let (dns, nodes) = Dns::with(&[], "127.0.0.1:5,[::1]:6");
    assert_eq!(nodes.who().await, [5, 6].into());
    nodes.grow_older(LOOK_UP_EVERY * 2);
    nodes.who().await;
    assert_eq!(dns.asked(), 0, "there is no name to look up");
}

#[tokio::test]
async fn first_callers_together_look_up_once() {
    let (dns, nodes) = Dns::with(&[("a", &[1])], "a:1");
    dns.may_answer.forget_permits(Semaphore::MAX_PERMITS);
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let nodes = Arc::clone(&nodes);
            tokio::spawn(async move { nodes.first_turn().await.is_ok() })
        })
        .collect();
    until(|| nodes.looked.receiver_count() == 50).await;
    dns.may_answer.add_permits(1);
    for caller in callers {
        assert!(caller.await.expect("it ends"));
    }
    assert_eq!(dns.asked(), 1);
}

/// A name server that is slower than every deadline is still heard.
#[tokio::test]
async fn a_look_up_outlives_the_call_that_began_it() {
    let (dns, nodes) = Dns::with(&[("a", &[1])], "a:1");
    dns.may_answer.forget_permits(Semaphore::MAX_PERMITS);
    for _ in 0..3 {
        tokio::select! {
            biased;
            _ = nodes.first_turn() => panic!("nobody was found"),
            () = until(|| dns.asked() == 1) => {}
        }
    }
    dns.may_answer.add_permits(1);
    until(|| nodes.turn(None).is_some()).await;
    assert_eq!(dns.asked(), 1);
}

#[tokio::test]
async fn a_first_look_up_that_fails_is_an_outage_and_the_next_call_looks_again() {
    let (dns, nodes) = Dns::with(&[], "a:1");
    for asked in 1..=2 {
        let error = nodes.first_turn().await.map(drop).expect_err("nobody is known");
        assert!(error.is_outage() && format!("{error:?}").contains("TimedOut"), "{error:?}");
        assert_eq!(dns.asked(), asked);
    }
    dns.now_says(&[("a", &[])]);
    let error = nodes.first_turn().await.map(drop).expect_err("nobody is known");
    assert!(format!("{error:?}").contains("has no address"), "{error:?}");
    dns.now_says(&[("a", &[7])]);
    assert_eq!(nodes.who().await, [7].into());
}

/// Its runtime may end before it: then nobody waits for it for ever.
#[test]
fn a_look_up_that_is_broken_off_is_begun_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (dns, nodes) = Dns::with(&[("a", &[1])], "a:1");
    dns.may_answer.forget_permits(Semaphore::MAX_PERMITS);
    runtime().block_on(async {
        nodes.look_up_beside();
        until(|| dns.asked() == 1).await;
    });
    dns.may_answer.add_permits(1);
    assert_eq!(runtime().block_on(nodes.who()), [1].into());
}

#[tokio::test]
async fn new_records_are_taken_over_while_calls_come() {
    let (dns, nodes) = Dns::with(&[("a", &[1, 2])], "a:1");
    assert_eq!(nodes.who().await, [1, 2].into());
    let (stays, goes) = (nodes.node(2), nodes.node(1));
    let under_way = Turn::new(&goes);
    dns.now_says(&[("a", &[2, 3])]);
    nodes.grow_older(LOOK_UP_EVERY - Duration::from_secs(1));
    assert_eq!(nodes.who().await, [1, 2].into(), "it is not time yet");
    nodes.grow_older(Duration::from_secs(1));
    drop(nodes.a_turn().await);
    until(|| nodes.current().1.is_some_and(|age| age < LOOK_UP_EVERY)).await;
    assert_eq!(nodes.who().await, [2, 3].into());
    assert_eq!(dns.asked(), 2);
    assert!(Arc::ptr_eq(&nodes.node(2), &stays), "it keeps its connection");
    // Whoever still waits for an answer has the connection until it comes, and nobody else does.
    drop(goes);
    assert_eq!(Arc::strong_count(&under_way.0), 1);
    nodes.heard(&under_way.0, Verdict::Silent);
    nodes.heard(&under_way.0, Verdict::Lost);
    assert_eq!(nodes.who().await, [2, 3].into(), "what becomes of it brings nobody back");
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_stands_for_what_it_stood_for() {
    let (dns, nodes) = Dns::with(&[("a", &[1, 2]), ("b", &[8])], "a:1,b:1");
    nodes.who().await;
    // One name fails, both do, the answer is empty.
    let failures: [&[(&'static str, &[u16])]; 3] = [&[("b", &[9])], &[], &[("a", &[]), ("b", &[])]];
    for (n, records) in failures.into_iter().enumerate() {
        dns.now_says(records);
        nodes.grow_older(LOOK_UP_EVERY);
        drop(nodes.a_turn().await);
        until(|| nodes.current().1.is_some_and(|age| age < LOOK_UP_EVERY)).await;
        assert_eq!(nodes.who().await, [1, 2, 9].into());
        assert_eq!(dns.asked(), 4 + 2 * n, "it is not asked again at once");
    }
}

#[tokio::test]
async fn a_server_that_is_lost_may_have_moved() {
    let (dns, nodes) = Dns::with(&[("a", &[1])], "a:1");
    nodes.who().await;
    dns.now_says(&[("a", &[2])]);
    nodes.heard(&nodes.node(1), Verdict::Lost);
    assert!(!nodes.looking_up.load(Ordering::SeqCst), "it was looked up only just now");
    nodes.grow_older(FIRST_REST * 2);
    nodes.heard(&nodes.node(1), Verdict::Lost);
    until(|| nodes.current().0[0].place.1.port() == 2).await;
    assert_eq!(dns.asked(), 2);
}

#[tokio::test]
async fn a_lost_server_rests_longer_each_time_until_it_answers() {
    let (_, nodes) = Dns::with(&[], "127.0.0.1:1,127.0.0.1:2");
    nodes.who().await;
    let rests_for = || {
        let until = nodes.node(1).rests_until.load(Ordering::SeqCst);
        until.saturating_sub(nodes.epoch.elapsed().as_millis() as u64)
    };
    for longest in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        let lost = nodes.node(1);
        for _ in 0..3 {
            // One broken connection fails many calls, and counts once.
            nodes.heard(&lost, Verdict::Lost);
        }
        assert!((longest / 2..=longest).contains(&rests_for()), "{} of {longest} ms", rests_for());
        assert_eq!(nodes.who().await, [2].into());
        // As if it had rested.
        nodes.node(1).rests_until.store(0, Ordering::SeqCst);
    }
    // One call tries it, and until it answers no other does.
    let trying = Turn::new(&nodes.node(1));
    assert_eq!(nodes.who().await, [2].into());
    nodes.heard(&trying.0, Verdict::Answered);
    assert_eq!(nodes.who().await, [1, 2].into());
    nodes.heard(&trying.0, Verdict::Lost);
    assert!(rests_for() <= 100, "all is forgotten");
}

#[tokio::test]
async fn three_silences_in_a_row_are_one_loss_and_a_new_connection() {
    let (_, nodes) = Dns::with(&[], "127.0.0.1:1,127.0.0.1:2");
    nodes.who().await;
    let silent = nodes.node(1);
    for _ in 0..5 {
        nodes.heard(&silent, Verdict::Silent);
        nodes.heard(&silent, Verdict::Silent);
        nodes.heard(&silent, Verdict::Answered);
    }
    assert_eq!(nodes.who().await, [1, 2].into(), "slow is not dead");
    for _ in 0..3 {
        nodes.heard(&silent, Verdict::Silent);
    }
    assert_eq!(nodes.who().await, [2].into());
    let fresh = nodes.node(1);
    assert!(!Arc::ptr_eq(&fresh, &silent));
    // After its rest one more is enough, until it has answered.
    fresh.rests_until.store(0, Ordering::SeqCst);
    nodes.heard(&fresh, Verdict::Silent);
    assert_eq!(nodes.who().await, [2].into());
    assert_eq!(nodes.node(1).failures.load(Ordering::SeqCst), 2, "and it rests for longer");
}

#[tokio::test]
async fn a_repeat_goes_elsewhere_and_when_all_rest_calls_go_anywhere() {
    let (_, nodes) = Dns::with(&[], "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3");
    nodes.who().await;
    let first = nodes.node(1);
    for _ in 0..100 {
        let turn = nodes.turn(Some(&first)).expect("it is known who is there");
        assert_ne!(turn.0.place.1.port(), 1);
    }
    for port in [1, 2, 3] {
        nodes.heard(&nodes.node(port), Verdict::Lost);
    }
    assert_eq!(nodes.who().await, [1, 2, 3].into(), "whoever comes back is found");
}

#[tokio::test]
async fn of_two_the_one_with_less_to_do_gets_the_call() {
    let (_, nodes) = Dns::with(&[], "127.0.0.1:1,127.0.0.1:2");
    nodes.who().await;
    let turns: Vec<_> = (0..1_000).map(|_| nodes.turn(None).expect("it is known who is there")).collect();
    let firsts = turns.iter().filter(|turn| turn.0.place.1.port() == 1).count();
    assert!((450..=550).contains(&firsts), "{firsts} of 1000 calls under way");
    drop(turns);
    assert!([1, 2].iter().all(|port| nodes.node(*port).under_way.load(Ordering::SeqCst) == 0));
}

/// Who fits may change while one is chosen.
#[test]
fn there_is_always_somebody_to_ask() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (_, nodes) = Dns::with(&[], "127.0.0.1:1,127.0.0.1:2");
    runtime.block_on(nodes.who());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _runtime = runtime.enter();
                for n in 0..2_000 {
                    let turn = nodes.turn(None).expect("it is known who is there");
                    nodes.heard(&turn.0, if n % 2 == 0 { Verdict::Lost } else { Verdict::Answered });
                }
            });
        }
    });
}
