//! Connections are let in however many come at once, and spread evenly over the shards. No answer tells which shard gave it; on
//! Linux the kernel tells which epoll instance, of which each shard has its own, waits for which socket.
#![cfg(target_os = "linux")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use sessiond_proto::v1::OpenRequest;
use sessiond_tests::{Server, Stub, World, eventually};
use tokio::{net::TcpStream, time::timeout};

/// The inodes of the sockets that are connections to this server.
fn connections(process: &Path, port: u16) -> BTreeSet<String> {
    let established = "01";
    let table = fs::read_to_string(process.join("net/tcp")).expect("the kernel's table of connections");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[1].ends_with(&format!(":{port:04X}")) && row[3] == established)
        .map(|row| row[9].to_owned())
        .collect()
}

/// How many client connections each shard has, fewest first; shards without any are not among them.
fn spread(server: &Server) -> Vec<usize> {
    let process = Path::new("/proc").join(server.pid().to_string());
    let connections = connections(&process, server.address().port());
    let target = |number: &str| fs::read_link(process.join("fd").join(number)).unwrap_or_default();
    let of_epoll = |number: &str| -> BTreeSet<String> {
        let info = fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
        let watched = info.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next());
        let inode = |path: PathBuf| Some(path.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
        watched.filter_map(|number| inode(target(number))).filter(|inode| connections.contains(inode)).collect()
    };
    let descriptors = fs::read_dir(process.join("fd")).expect("its descriptors").flatten();
    let numbers = descriptors.filter_map(|descriptor| descriptor.file_name().into_string().ok());
    let epolls = numbers.filter(|number| target(number) == Path::new("anon_inode:[eventpoll]"));
    // A runtime holds its epoll instance by two descriptors: what they wait for is the same.
    let shards: BTreeSet<_> = epolls.map(|number| of_epoll(&number)).filter(|sockets| !sockets.is_empty()).collect();
    let mut spread: Vec<_> = shards.iter().map(BTreeSet::len).collect();
    spread.sort_unstable();
    spread
}

#[tokio::test]
async fn new_connections_spread_evenly_over_the_shards() {
    let server = Server::start(&["--shards", "4"]).await;
    server.ready().await;
    eventually("no connection is left", async || spread(&server).is_empty()).await;
    let mut stubs: Vec<Stub> = std::iter::repeat_with(|| server.stub()).take(20).collect();
    for stub in &mut stubs {
        stub.open(OpenRequest::default()).await.unwrap();
    }
    assert_eq!(spread(&server), [5, 5, 5, 5]);
    // Where connections have ended, new ones find their place.
    stubs.truncate(10);
    eventually("ten have ended", async || spread(&server).iter().sum::<usize>() == 10).await;
    for _ in 0..10 {
        let mut stub = server.stub();
        stub.open(OpenRequest::default()).await.unwrap();
        stubs.push(stub);
    }
    assert_eq!(spread(&server), [5, 5, 5, 5]);
}

/// All clients at once, as after a restart: whom the kernel turns away tries again only after a second.
#[tokio::test]
async fn a_crowd_that_comes_at_once_is_let_in() {
    const CROWD: usize = 300;
    let server = World::memory(&[]).await.server;
    // It takes none meanwhile.
    server.signal(Signal::STOP);
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let comes = timeout(Duration::from_millis(800), TcpStream::connect(server.address())).await;
        crowd.push(comes.unwrap_or_else(|_| panic!("number {number} has to try again")).unwrap());
    }
    server.signal(Signal::CONT);
    server.stub().open(OpenRequest::default()).await.unwrap();
}
