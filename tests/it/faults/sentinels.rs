//! The master of a Sentinel trio fails over, is killed, is cut off from the others. Writes must flow again soon. What
//! replication had not carried over yet is lost; how much that is, by setting, is what these runs print. Where sessiond
//! waits for a replica (`--confirm-replicas 1`), no logout is undone and no replaced id comes back.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sessiond_tests::{
    Server,
    faults::{
        load::{Load, Repeats},
        topology::Sentinels,
    },
};

use super::{OUTAGE, begin, for_a_while, is_long, tell};

/// What sessiond may add: from the Sentinels' announcement of a new master until a write is acknowledged, and at no time after
/// that a longer gap between two. How long the Sentinels need to find one is theirs.
const RECOVERY: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// `SENTINEL FAILOVER`.
    Asked,
    Killed,
    /// From the replicas and the Sentinels, while sessiond still reaches it.
    CutOff,
    /// From sessiond, while the replicas and the Sentinels still reach it: no failover comes, and it must end.
    CutOffFromClients,
    /// It stands still until another one is the master, and then goes on as if nothing had happened.
    Frozen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Default,
    /// The master takes no writes without a replica that was there two seconds ago.
    MinReplicas,
    /// sessiond acknowledges no logout and no new id before a replica has it.
    Confirm,
    /// The same, before both replicas have it: an acknowledgement by the one that is not promoted does not help.
    ConfirmBoth,
}

async fn fails_over(fault: Fault, setting: Setting) {
    let what = format!("Sentinel, {fault:?}, {setting:?}");
    let (_quiet, dice) = begin(&what).await;
    let of_redis: &[&str] = match setting {
        Setting::MinReplicas => &["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"],
        _ => &[],
    };
    let of_sessiond: &[&str] = match setting {
        Setting::Confirm => &["--confirm-replicas", "1"],
        Setting::ConfirmBoth => &["--confirm-replicas", "2"],
        Setting::Default | Setting::MinReplicas => &[],
    };
    let mut all = Sentinels::start(of_redis, &dice).await;
    let server = Server::start(&[&["--store", &all.url()], of_sessiond].concat()).await;
    server.ready().await;
    let old = all.master().await.expect("there is a master");
    let load = Load::new(&[&server], 200, Repeats::Never).await;
    let running = load.start(500, &dice);
    for_a_while(Duration::from_secs(1)).await;

    let mut announcements = all.announcements().await;
    let (began, began_at) = (load.now(), Instant::now());
    match fault {
        Fault::Asked => all.failover().await,
        Fault::Killed => all.kill(old),
        Fault::CutOff => all.cut_off_from_nodes(old),
        Fault::CutOffFromClients => all.cut_off_from_clients(old),
        Fault::Frozen => all.signal(old, Signal::STOP),
    }
    let served = if fault == Fault::CutOffFromClients {
        for_a_while(Duration::from_secs(2)).await;
        all.heal();
        load.now()
    } else {
        let new = all.master_after(old).await;
        println!("{what}: the Sentinels name node {new} {:?} after the fault", load.now() - began);
        let announced = began + announcements.first().await.saturating_duration_since(began_at);
        println!("{what}: the first Sentinel announced it {:?} after the fault", announced - began);
        if setting == Setting::MinReplicas {
            // Until then the new master itself refuses writes.
            all.has_replicas(new).await;
            load.now()
        } else {
            announced
        }
    };
    if fault == Fault::Frozen {
        all.signal(old, Signal::CONT);
    }
    for_a_while(Duration::from_secs(if is_long() { 5 } else { 2 })).await;
    if is_long() {
        // The old one is back, and learns that it is a replica now.
        all.heal();
        if fault == Fault::Killed {
            all.come_back(old).await;
        }
        all.whole().await;
        for_a_while(Duration::from_secs(1)).await;
    }
    let ended = load.now();
    let figures = running.stop().await;
    let audit = load.audit().await;
    let gap = figures.longest_gap(served).max(ended.saturating_sub(figures.last_write()));
    let whole = figures.longest_gap(began);
    tell(&what, &figures, &audit);
    println!(
        "{what}: longest gap between writes {whole:?} after the fault, {gap:?} after there was a master to write to"
    );
    if let Some((first, last)) = audit.span_of_losses(began) {
        println!("{what}: what was lost was acknowledged from {first:+.2} s to {last:+.2} s of the fault");
    }
    assert_eq!(figures.others(&OUTAGE), 0, "{figures}");
    assert!(audit.twice.is_empty() && audit.wrong.is_empty(), "{audit}: {:#?}", audit.samples());
    if matches!(setting, Setting::Confirm | Setting::ConfirmBoth) {
        assert!(audit.revived.is_empty() && audit.usable.is_empty(), "{audit}: {:#?}", audit.samples());
    }
    let bound = RECOVERY + figures.lag(1000);
    assert!(gap <= bound, "no write was acknowledged for {gap:?}, over {bound:?}");
}

/// Each test is one fault; of the settings, the one given in the short form, all in the long one.
async fn fails_over_in_every_setting(fault: Fault, short: Setting) {
    for setting in [Setting::Default, Setting::MinReplicas, Setting::Confirm, Setting::ConfirmBoth] {
        if is_long() || setting == short {
            fails_over(fault, setting).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_flow_again_after_a_failover_that_was_asked_for() {
    fails_over_in_every_setting(Fault::Asked, Setting::Confirm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_flow_again_after_the_master_was_killed() {
    fails_over_in_every_setting(Fault::Killed, Setting::Default).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_no_logout_is_undone_by_a_master_that_was_cut_off() {
    fails_over_in_every_setting(Fault::CutOff, Setting::Confirm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_flow_again_when_the_way_to_the_master_is_mended() {
    if is_long() {
        fails_over_in_every_setting(Fault::CutOffFromClients, Setting::Default).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_no_logout_is_undone_by_a_master_that_stood_still() {
    if is_long() {
        fails_over_in_every_setting(Fault::Frozen, Setting::Confirm).await;
    }
}
