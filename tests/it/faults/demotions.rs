//! An endpoint moves to a promoted replica, and the old primary lives on as a replica. Connections that were made before
//! still lead to it. Only the primary may say that there is no session, and what a replica holds is served for about a
//! second at most. Reads go through one sessiond, creates and destroys through another one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, OpenRequest, Session};
use sessiond_tests::{
    Calls, Dice, Server, Stub, TestRedis, change, create, eventually,
    faults::{
        proxy::{Proxy, Weather},
        topology::{Cluster, Sentinels},
    },
    reserved_port,
};
use tokio::{task::JoinSet, time::interval};
use tonic::Code;

use super::{begin, for_a_while, is_long};

/// Sessions that exist before the endpoint moves.
const SESSIONS: usize = 300;

/// Reads, destroys and creates per second.
const RATES: [u64; 3] = [200, 20, 20];

/// A read that starts later than this after the old node first reports the role of a replica must not find a session that
/// was destroyed before the read started.
const BOUND: Duration = Duration::from_secs(2);

/// So many reads of destroyed sessions must start later than that.
const ENOUGH: usize = 50;

/// How the old primary lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aftermath {
    /// It replicates from the new primary.
    Follows,
    /// It is a replica whose link is down: its data stays as it was.
    Stale,
}

/// What is known of one session.
#[derive(Clone, Copy)]
struct Fate {
    created: Instant,
    destroy_sent: Option<Instant>,
    destroyed: Option<Instant>,
}

/// One read that was answered.
struct Read {
    id: String,
    start: Instant,
    end: Instant,
    found: bool,
}

#[derive(Default)]
struct Ledger {
    fates: HashMap<String, Fate>,
    living: Vec<String>,
    destroyed: Vec<String>,
    reads: Vec<Read>,
    unavailable: usize,
}

impl Ledger {
    /// Whether the read started later than [`BOUND`] after the demotion, and after its session was destroyed.
    fn is_late_and_destroyed(&self, read: &Read, demoted: Instant) -> bool {
        read.start > demoted + BOUND && self.fates[&read.id].destroyed.is_some_and(|then| then < read.start)
    }
}

type Shared = Arc<Mutex<Ledger>>;

fn lock(ledger: &Shared) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn create_one(mut writer: Stub, ledger: Shared) {
    let Ok(answer) = writer.save(create(j!({"a": 1}))).await else { return };
    let id = answer.into_inner().session.expect("Save always sets the session").id;
    let fate = Fate { created: Instant::now(), destroy_sent: None, destroyed: None };
    let mut ledger = lock(&ledger);
    ledger.fates.insert(id.clone(), fate);
    ledger.living.push(id);
}

async fn destroy_one(mut writer: Stub, ledger: Shared, mut dice: Dice) {
    let id = {
        let mut ledger = lock(&ledger);
        let at = dice.below(ledger.living.len());
        let id = ledger.living.swap_remove(at);
        ledger.fates.get_mut(&id).expect("it is known").destroy_sent = Some(Instant::now());
        id
    };
    if writer.destroy(DestroyRequest { id: id.clone(), etag: String::new() }).await.is_ok() {
        let mut ledger = lock(&ledger);
        ledger.fates.get_mut(&id).expect("it is known").destroyed = Some(Instant::now());
        ledger.destroyed.push(id);
    }
}

/// Reads a living session or one that was destroyed lately, each half of the time.
async fn read_one(mut reader: Stub, ledger: Shared, mut dice: Dice) {
    let id = {
        let ledger = lock(&ledger);
        let ids = if dice.once_in(2) && !ledger.destroyed.is_empty() { &ledger.destroyed } else { &ledger.living };
        ids[ids.len() - 1 - dice.below(ids.len().min(100))].clone()
    };
    let start = Instant::now();
    let answer = reader.open(OpenRequest { id: id.clone(), no_renew: true }).await;
    let end = Instant::now();
    match answer {
        Ok(answer) => {
            let found = answer.into_inner().session.is_some_and(|session| !session.id.is_empty());
            lock(&ledger).reads.push(Read { id, start, end, found });
        }
        Err(_) => lock(&ledger).unavailable += 1,
    }
}

/// Runs the load while `demote` demotes the old primary, and then until enough was read to judge by. Returns what became of
/// it, and when the old primary was first seen to be a replica.
async fn under_load(
    reader: &Server,
    writer: &Server,
    dice: &Dice,
    demote: impl Future<Output = Instant>,
) -> (Shared, Instant) {
    let ledger = Shared::default();
    let stub = writer.stub();
    eventually("the sessions are created", async || {
        let missing = SESSIONS - lock(&ledger).living.len();
        let some = (0..missing.min(16)).map(|_| create_one(stub.clone(), Arc::clone(&ledger)));
        some.collect::<JoinSet<()>>().join_all().await;
        lock(&ledger).living.len() == SESSIONS
    })
    .await;
    let loads = async {
        let mut calls = JoinSet::new();
        let (reader, writer) = (reader.stub(), writer.stub());
        let [mut reads, mut destroys, mut creates] = RATES.map(|rate| interval(Duration::from_millis(1000 / rate)));
        for number in 0.. {
            let (ledger, dice) = (Arc::clone(&ledger), dice.split(number));
            tokio::select! {
                _ = reads.tick() => calls.spawn(read_one(reader.clone(), ledger, dice)),
                _ = destroys.tick() => calls.spawn(destroy_one(writer.clone(), ledger, dice)),
                _ = creates.tick() => calls.spawn(create_one(writer.clone(), ledger)),
            };
            while calls.try_join_next().is_some() {}
        }
    };
    let demotes = async {
        for_a_while(Duration::from_secs(1)).await;
        let demoted = demote.await;
        for_a_while(Duration::from_secs(if is_long() { 20 } else { 3 })).await;
        // A loaded machine needs longer for as many reads.
        eventually("enough destroyed sessions were read", async || {
            let ledger = lock(&ledger);
            ledger.reads.iter().filter(|read| ledger.is_late_and_destroyed(read, demoted)).count() >= ENOUGH
        })
        .await;
        demoted
    };
    let demoted = tokio::select! {
        demoted = demotes => demoted,
        () = loads => unreachable!("the load has no end"),
    };
    (ledger, demoted)
}

/// Holds what was read against what was written. `demoted` is when the old node first reported the role of a replica.
fn judge(what: &str, ledger: &Shared, demoted: Instant) {
    let ledger = lock(ledger);
    let (mut lost, mut stale, mut oldest, mut late) = (0, 0, Duration::ZERO, 0);
    for read in &ledger.reads {
        let fate = ledger.fates[&read.id];
        let lived = fate.created < read.start && fate.destroy_sent.is_none_or(|sent| sent > read.end);
        let was_destroyed = fate.destroyed.is_some_and(|then| then < read.start);
        let since = read.start.saturating_duration_since(demoted);
        lost += usize::from(lived && !read.found);
        if was_destroyed && read.found {
            oldest = oldest.max(since);
            stale += usize::from(since > BOUND);
        }
        late += usize::from(ledger.is_late_and_destroyed(read, demoted));
    }
    println!(
        "{what}: {} reads answered, {} unavailable; a living session was absent {lost} times; a destroyed one was opened \
         {stale} times from {BOUND:?} after the demotion, of {late} reads of destroyed ones (the last that found one started \
         {oldest:?} after it)",
        ledger.reads.len(),
        ledger.unavailable
    );
    assert_eq!(lost, 0, "a living session was answered as absent");
    assert_eq!(stale, 0, "a destroyed session was opened");
}

async fn has_role(node: &TestRedis, role: &str) -> bool {
    let reply = node.try_command::<Vec<redis::Value>>(&["ROLE"]).await.unwrap_or_default();
    reply.first() == Some(&redis::Value::BulkString(role.into()))
}

async fn is_replica(node: &TestRedis) -> bool {
    has_role(node, "slave").await
}

async fn is_primary(node: &TestRedis) -> bool {
    has_role(node, "master").await
}

/// Runs a command until it succeeds: on a loaded machine its reply may come too late.
async fn run(node: &TestRedis, command: &[&str]) {
    eventually("the command succeeds", async || node.try_command::<String>(command).await.is_ok()).await;
}

async fn follows(replica: &TestRedis) {
    eventually("it replicates", async || {
        let info = replica.try_command::<String>(&["INFO", "replication"]).await;
        info.is_ok_and(|info| info.contains("master_link_status:up"))
    })
    .await;
}

/// Hands the role over without loss (`FAILOVER`), moves the endpoint, and cuts the replication link if asked. Gives when the
/// old primary first reported to be a replica.
async fn hand_over(old: &TestRedis, new: &TestRedis, announced: u16, endpoint: &Proxy, then: Aftermath) -> Instant {
    // The old primary knows a moment later than the replica that replication is up.
    eventually("the failover begins", async || {
        let failover = ["FAILOVER", "TO", "127.0.0.1", &announced.to_string(), "TIMEOUT", "10000"];
        old.try_command::<String>(&failover).await.is_ok() || is_replica(old).await
    })
    .await;
    eventually("the roles have changed", async || is_replica(old).await && is_primary(new).await).await;
    let demoted = Instant::now();
    if then == Aftermath::Stale {
        run(old, &["REPLICAOF", "127.0.0.1", &reserved_port().to_string()]).await;
    }
    endpoint.lead_to(([127, 0, 0, 1], new.port()).into());
    demoted
}

async fn with_a_node(then: Aftermath) {
    let what = format!("node, the old primary: {then:?}");
    let (_quiet, dice) = begin(&what).await;
    let (old, new) = (TestRedis::start().await, TestRedis::start().await);
    run(&new, &["REPLICAOF", "127.0.0.1", &old.port().to_string()]).await;
    follows(&new).await;
    let endpoint = Proxy::to(old.port(), &dice).await;
    let (reader, writer) = servers(&endpoint.url()).await;
    let demote = hand_over(&old, &new, new.port(), &endpoint, then);
    let (ledger, demoted) = under_load(&reader, &writer, &dice, demote).await;
    judge(&what, &ledger, demoted);
}

async fn servers(url: &str) -> (Server, Server) {
    let arguments = ["--store", url, "--shards", "2"];
    let (reader, writer) = (Server::start(&arguments).await, Server::start(&arguments).await);
    reader.ready().await;
    writer.ready().await;
    (reader, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_moves_from_a_stale_node_hides_no_living_session_and_revives_no_destroyed_one() {
    with_a_node(Aftermath::Stale).await;
    if is_long() {
        with_a_node(Aftermath::Follows).await;
    }
}

/// A sessiond whose shard's connection leads to the old primary, which was demoted meanwhile and is stale; one that leads to
/// the new primary; and when the old one was seen to be a replica.
struct Behind {
    behind: Server,
    ahead: Server,
    /// Created before the demotion, so that both nodes have it.
    session: Session,
    demoted: Instant,
    _nodes: (TestRedis, TestRedis, Proxy),
}

impl Behind {
    /// `settings` are given to the old primary before it is demoted.
    async fn start(dice: &Dice, settings: &[(&str, &str)]) -> Self {
        let (old, new) = (TestRedis::start().await, TestRedis::start().await);
        run(&new, &["REPLICAOF", "127.0.0.1", &old.port().to_string()]).await;
        follows(&new).await;
        let endpoint = Proxy::to(old.port(), dice).await;
        let behind = Server::start(&["--store", &endpoint.url(), "--shards", "1"]).await;
        behind.ready().await;
        let session = behind.stub().store(create(j!({}))).await.expect("it is created at the old primary");
        assert!(behind.stub().look(&session.id).await.is_some(), "it is there");
        for (name, value) in settings {
            run(&old, &["CONFIG", "SET", name, value]).await;
        }
        let demoted = hand_over(&old, &new, new.port(), &endpoint, Aftermath::Stale).await;
        let ahead = Server::start(&["--store", &new.url(), "--shards", "1"]).await;
        ahead.ready().await;
        Self { behind, ahead, session, demoted, _nodes: (old, new, endpoint) }
    }
}

/// Every Open finds its session, so no miss and no write tells of the demotion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_only_finds_sessions_leaves_a_demoted_node_within_a_second() {
    for is_idle in [false, true] {
        let (_quiet, dice) = begin(&format!("a shard that only reads, idle: {is_idle}")).await;
        let world = Behind::start(&dice, &[]).await;
        let mut stub = world.behind.stub();
        world.ahead.stub().end(&world.session.id).await.expect("it is destroyed at the new primary");
        if is_idle {
            // An idle connection is not polled: the first Open on it must tell by itself.
            tokio::time::sleep_until((world.demoted + Duration::from_millis(1100)).into()).await;
        }
        let mut last = Duration::ZERO;
        eventually("it is not found", async || {
            let start = world.demoted.elapsed();
            let request = OpenRequest { id: world.session.id.clone(), no_renew: true };
            // On a loaded machine the new connection may take longer than a call waits for one.
            let Ok(answer) = stub.open(request).await else { return false };
            let found = answer.into_inner().session.is_some_and(|session| !session.id.is_empty());
            last = if found { start } else { last };
            !found
        })
        .await;
        println!("idle: {is_idle}: the last Open that found it began {last:?} after the demotion");
        assert!(last <= Duration::from_millis(1100), "{last:?}");
    }
}

/// A replica that may be written to (`replica-read-only no`) runs every script, and one that is out of memory too, as far as
/// the script writes nothing: it does not know the session that was created at the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_may_be_written_to_denies_no_session_and_acknowledges_no_logout() {
    let writable = [("replica-read-only", "no"), ("replica-ignore-maxmemory", "no"), ("maxmemory", "1")];
    for settings in [&writable[..1], &writable] {
        let (_quiet, dice) = begin(&format!("a writable replica, {settings:?}")).await;
        let world = Behind::start(&dice, settings).await;
        let (mut stub, mut ahead) = (world.behind.stub(), world.ahead.stub());
        let saved = ahead.store(create(j!({}))).await.expect("it is created");
        let destroyed = ahead.store(create(j!({}))).await.expect("it is created");
        eventually("it is destroyed", async || stub.end(&destroyed.id).await.is_ok()).await;
        assert!(ahead.look(&destroyed.id).await.is_none(), "{settings:?}: the logout was only acknowledged");
        eventually("it is saved", async || match stub.store(change(&saved, &["a"], j!({"a": 1}))).await {
            Ok(_) => true,
            // On a loaded machine the new connection may take longer than a call waits for one.
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{settings:?}: {status:?}");
                false
            }
        })
        .await;
    }
}

/// The Sentinels stand still, so that nobody but the node itself tells that it was demoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_demoted_behind_the_sentinels_back_hides_and_revives_no_session() {
    let what = "Sentinel, the old primary: Stale";
    let (_quiet, dice) = begin(what).await;
    let all = Sentinels::start(&[], &dice).await;
    let (reader, writer) = servers(&all.url()).await;
    let (old, new) = (all.node(0), all.node(1));
    let (ledger, demoted) = under_load(&reader, &writer, &dice, async {
        all.signal_sentinels(Signal::STOP);
        hand_over(old, new, all.proxy(1).address().port(), all.proxy(0), Aftermath::Stale).await
    })
    .await;
    all.signal_sentinels(Signal::CONT);
    judge(what, &ledger, demoted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_endpoint_moves_hides_no_living_session_and_revives_no_destroyed_one() {
    let what = "cluster, the old primary: Stale";
    let (_quiet, dice) = begin(what).await;
    let all = Cluster::start_behind_proxies(&[], &dice).await;
    let (reader, writer) = servers(&all.url()).await;
    let replica = all.replica_of(0).await;
    let (ledger, demoted) = under_load(&reader, &writer, &dice, async {
        all.failover(replica).await;
        eventually("the old primary is a replica", async || is_replica(all.node(0)).await).await;
        let demoted = Instant::now();
        all.proxy(replica).nodes(Weather::Cut);
        all.proxy(0).lead_to(([127, 0, 0, 1], all.node(replica).port()).into());
        demoted
    })
    .await;
    judge(what, &ledger, demoted);
}
