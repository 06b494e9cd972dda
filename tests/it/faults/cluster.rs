//! A node of a cluster fails over, or is killed; and every slot moves to another node while the load runs.

use std::time::Duration;

use sessiond_tests::{
    Server, eventually,
    faults::{
        load::{Audit, Figures, Load, Repeats},
        topology::Cluster,
    },
};

use super::{OUTAGE, begin, for_a_while, is_long, tell};

/// What sessiond may add: from when the cluster serves all slots again until no call fails any more.
const RECOVERY: Duration = Duration::from_secs(3);

const RATE: u32 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// `CLUSTER FAILOVER`.
    Asked,
    Killed,
    /// Every slot goes to the next master.
    Resharded,
}

/// Runs the load with the fault in its middle. Returns also for how long calls failed after the cluster served all slots
/// again: how long the nodes need for that is theirs.
async fn with(fault: Fault) -> (Figures, Audit, Duration) {
    let what = format!("Cluster, {fault:?}");
    let (_quiet, dice) = begin(&what).await;
    let mut all = Cluster::start(&[]).await;
    let server = Server::start(&["--store", &all.url()]).await;
    server.ready().await;
    let load = Load::new(&[&server], 200, Repeats::Never).await;
    let running = load.start(RATE, &dice);
    for_a_while(Duration::from_secs(1)).await;

    let began = load.now();
    match fault {
        Fault::Asked => all.failover(all.replica_of(0).await).await,
        Fault::Killed => all.kill(0),
        Fault::Resharded => {
            let keys = all.reshard().await;
            println!("{what}: {keys} keys moved in {:?}", load.now() - began);
        }
    }
    eventually("all slots are served", async || all.is_served().await).await;
    let served = load.now();
    println!("{what}: all slots are served {:?} after the fault", served - began);
    let mut recovered = served;
    // Two thirds of the sessions are served all the while: it is over when no call fails any more.
    eventually("no call fails any more", async || {
        let failed = running.last_outage();
        recovered = failed.map_or(served, |last| last.max(served));
        failed.is_none_or(|last| load.now() - last > Duration::from_millis(500))
    })
    .await;
    for_a_while(Duration::from_secs(if is_long() { 5 } else { 1 })).await;
    if fault == Fault::Killed && is_long() {
        all.come_back(0).await;
        all.whole().await;
        for_a_while(Duration::from_secs(1)).await;
    }
    let figures = running.stop().await;
    let audit = load.audit().await;
    let outage = recovered - served;
    tell(&what, &figures, &audit);
    println!("{what}: the last call failed {outage:?} after all slots were served");
    assert_eq!(figures.others(&OUTAGE), 0, "{figures}");
    assert!(audit.twice.is_empty() && audit.wrong.is_empty(), "{audit}: {:#?}", audit.samples());
    (figures, audit, outage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_every_slot_moves_and_nobody_notices() {
    let (figures, audit, _) = with(Fault::Resharded).await;
    assert_eq!(figures.outages(), 0, "{figures}");
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_again_after_a_node_was_killed() {
    let (_, _, outage) = with(Fault::Killed).await;
    assert!(outage <= RECOVERY, "calls failed for {outage:?}");
}

/// The master waits until its replica has everything: so nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_failover_that_was_asked_for_loses_nothing() {
    let (_, audit, outage) = with(Fault::Asked).await;
    assert!(audit.is_clean(), "{audit}: {:#?}", audit.samples());
    assert!(outage <= RECOVERY, "calls failed for {outage:?}");
}
