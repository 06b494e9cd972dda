//! The way to Redis swallows everything and tells nobody, and is mended; then Redis is gone, and its name leads to another
//! one, at another address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use sessiond_tests::{
    TestRedis, eventually,
    faults::{
        load::{Load, Repeats},
        names::{NAME, Names},
        proxy::{Proxy, Weather},
    },
    reserved_port,
};

use super::{OUTAGE, begin, for_a_while, is_long, tell, writes_flow};

/// From then on writes must flow within this time.
const RECOVERY: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_a_black_hole_that_ends_and_a_redis_that_moves_house_are_recovered_from() {
    let what = "black hole, then another address";
    let (_quiet, dice) = begin(what).await;
    let (here, there) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 3));
    let old = TestRedis::start().await;
    let port = reserved_port();
    let proxy = Proxy::at((here, port).into(), (here, old.port()).into(), &dice).await;
    let names = Names::mean(here);
    let server = names.server(&["--store", &format!("redis://{NAME}:{port}")]).await;
    server.ready().await;
    let load = Load::new(&[&server], 200, Repeats::Never).await;
    let running = load.start(500, &dice);
    for_a_while(Duration::from_millis(500)).await;

    proxy.clients(Weather::BlackHole);
    for_a_while(Duration::from_secs(if is_long() { 10 } else { 2 })).await;
    let healed = load.now();
    proxy.clients(Weather::Fair);
    writes_flow(&running, healed).await;
    for_a_while(Duration::from_secs(1)).await;

    // The other one has what this one had.
    let new = TestRedis::start().await;
    let _: String = new.command(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]).await;
    eventually("the other Redis has it all", async || {
        let info: String = new.command(&["INFO", "replication"]).await;
        info.contains("master_link_status:up")
    })
    .await;
    proxy.vanish();
    for_a_while(Duration::from_secs(1)).await;
    let _: String = new.command(&["REPLICAOF", "NO", "ONE"]).await;
    let _moved = Proxy::at((there, port).into(), SocketAddr::from((here, new.port())), &dice).await;
    let moved = load.now();
    names.now_mean(there);
    writes_flow(&running, moved).await;
    for_a_while(Duration::from_secs(1)).await;

    let figures = running.stop().await;
    let audit = load.audit().await;
    let [healed, moved] = [healed, moved].map(|then| figures.first_write_after(then).expect("writes flow again"));
    tell(what, &figures, &audit);
    println!(
        "{what}: first write {healed:?} after it healed, {moved:?} after it moved; {} bytes held",
        proxy.done().held()
    );
    assert!(proxy.done().held() > 0, "the hole swallowed nothing");
    // Replication was whole when the old one vanished; what was sent to it afterwards was never acknowledged.
    assert!(audit.is_clean() && audit.vanished.is_empty(), "{audit}: {:#?}", audit.samples());
    assert_eq!(figures.others(&OUTAGE), 0, "{figures}");
    assert!(healed <= RECOVERY && moved <= RECOVERY, "{healed:?} after it healed, {moved:?} after it moved");
}
