//! Sentinels and a cluster by themselves: what the bench does to them must happen, or nothing that survives it is proved.

use std::time::{Duration, Instant};

use sessiond_tests::{
    eventually,
    faults::topology::{Cluster, Sentinels},
};

use tokio::time::timeout;

use super::{begin, is_long};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_another_master_when_theirs_is_cut_off_or_asked_away_or_killed() {
    let (_quiet, dice) = begin("the bench's Sentinels").await;
    let began = Instant::now();
    let mut all = Sentinels::start(&[], &dice).await;
    println!("Sentinels: ready after {:?}", began.elapsed());
    let first = all.master().await.expect("there is a master");
    all.cut_off_from_nodes(first);
    let second = all.master_after(first).await;
    println!("Sentinels: another master after {:?}, the first one cut off", began.elapsed());
    let role: Vec<redis::Value> = all.node(first).command(&["ROLE"]).await;
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()), "nobody told it");
    if !is_long() {
        return;
    }
    all.heal();
    all.whole().await;
    let mut third = None;
    // Sentinels give a failover up that begins before they find a replica good again.
    while third.is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "no failover after {:?}", began.elapsed());
        all.failover().await;
        third = timeout(Duration::from_secs(7), all.master_after(second)).await.ok();
    }
    let third = third.expect("it was waited for");
    all.whole().await;
    all.kill(third);
    all.master_after(third).await;
    all.come_back(third).await;
    all.whole().await;
    println!("Sentinels: failed over, killed and whole again after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moves_every_slot_and_fails_over() {
    let (_quiet, _) = begin("the bench's cluster").await;
    let began = Instant::now();
    let mut all = Cluster::start(&[]).await;
    println!("cluster: ready after {:?}", began.elapsed());
    all.reshard().await;
    println!("cluster: every slot moved after {:?}", began.elapsed());
    let replica = all.replica_of(0).await;
    all.failover(replica).await;
    all.whole().await;
    if !is_long() {
        return;
    }
    all.kill(1);
    eventually("its replica is a master", async || all.masters().await.len() == 3).await;
    println!("cluster: another master after {:?}", began.elapsed());
    all.come_back(1).await;
    all.whole().await;
}
