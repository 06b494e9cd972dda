//! docs/raw-grpc.md: the Python of the page runs as it stands there, against a real sessiond, through restarts and through
//! connections that fall silent.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sessiond_proto::v1::{OpenRequest, session_service_client::SessionServiceClient};
use sessiond_tests::{
    Calls, Server, TestRedis, World, eventually, reserved_port,
    web::{Browser, Sessiond},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};
use tonic::transport::Endpoint;

/// The timeout of a call, as the page sets it.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What a loaded machine may add to a bound.
const SLACK: Duration = Duration::from_secs(2);

/// The name of the shop's cookie.
const COOKIE: &str = "__Host-id";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

fn python() -> PathBuf {
    let python = env::var_os("SESSIOND_TEST_PYTHON");
    python.expect("SESSIOND_TEST_PYTHON is set by scripts/test").into()
}

/// The code blocks of a language on the page, in order.
fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string(repository().join("docs/raw-grpc.md")).expect("the page");
    let opening = format!("\n```{language}\n");
    page.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// A folder with the page's Python files, and with the stubs that the page's command generates.
async fn files_of_the_page() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for block in blocks("python") {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# "));
        let name = name.expect("the first line of each Python block names its file");
        fs::write(folder.path().join(name), &block).expect("the file is written");
    }
    std::os::unix::fs::symlink(repository().join("proto"), folder.path().join("proto")).expect("a link to the schema");
    let [command] = &blocks("sh")[..] else { panic!("the page has one command, which generates the stubs") };
    let command = command.strip_prefix("python ").expect("it runs Python");
    let script = format!("{} {command}", python().display());
    let status = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).status().await;
    assert!(status.expect("a shell").success(), "the page's command fails: {script}");
    folder
}

/// The page's shop, as a process.
struct Shop {
    _process: Child,
    _folder: TempDir,
    address: SocketAddr,
}

impl Shop {
    async fn open(sessiond: &str) -> Self {
        let folder = files_of_the_page().await;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, reserved_port()));
        let process = Command::new(python())
            .arg("shop.py")
            .current_dir(folder.path())
            .env("SESSIOND", sessiond)
            .env("PORT", address.port().to_string())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Python starts");
        eventually("the shop is open", async || TcpStream::connect(address).await.is_ok()).await;
        Self { _process: process, _folder: folder, address }
    }

    fn browser(&self) -> Browser {
        Browser::new(self.address)
    }
}

/// The time until the cart is shown again.
async fn time_until_ok(browser: &Browser, bound: Duration) -> Duration {
    let begin = Instant::now();
    loop {
        let page = browser.get("/").await;
        if page.status == 200 {
            assert_eq!(page.text(), "tea");
            return begin.elapsed();
        }
        assert_eq!(page.status, 503);
        assert!(begin.elapsed() < bound, "still 503 after {:?}", begin.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_of_the_page_keeps_carts_and_signs_in_and_out() {
    let world = World::memory(&[]).await;
    let shop = Shop::open(&world.server.address().to_string()).await;
    let (browser, mut stub) = (shop.browser(), world.stub());

    assert_eq!(browser.get("/").await.ok(), "");
    assert_eq!(browser.cookie(COOKIE), None, "looking creates no session");
    browser.post("/empty").await.ok();
    assert_eq!(browser.cookie(COOKIE), None, "removing nothing creates no session");

    assert_eq!(browser.post("/add").await.ok(), "tea");
    let first = browser.cookie(COOKIE).expect("a new session has a cookie");
    let again = browser.post("/add").await;
    assert_eq!(again.ok(), "tea, tea");
    assert!(again.set_cookies().is_empty(), "the id is not new");

    assert_eq!(browser.post("/login").await.ok(), "hello ada");
    let second = browser.cookie(COOKIE).expect("it is signed in");
    assert_ne!(first, second);
    assert!(stub.look(&first).await.is_none(), "the login replaced the first id");
    assert_eq!(browser.get("/").await.ok(), "tea, tea");

    browser.post("/empty").await.ok();
    assert_eq!(browser.get("/").await.ok(), "");
    let session = stub.look(&second).await.expect("it lives on");
    assert!(session.data.expect("always set").decode().unwrap().fields.is_empty(), "the key was removed");

    let other_tab = browser.copy();
    browser.post("/logout").await.ok();
    assert_eq!(browser.cookie(COOKIE), None);
    assert!(stub.look(&second).await.is_none());
    assert_eq!(other_tab.get("/").await.ok(), "");
    assert_eq!(other_tab.cookie(COOKIE), Some(second), "an empty Open removes no cookie");

    // A visitor who is new when they sign in.
    let newcomer = shop.browser();
    assert_eq!(newcomer.post("/login").await.ok(), "hello ada");
    assert_eq!(stub.look(&newcomer.cookie(COOKIE).unwrap()).await.unwrap().subject, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_changes_repeats_errors_and_tags_of_the_page_are_so() {
    let world = World::memory(&[]).await;
    let folder = files_of_the_page().await;
    let status = Command::new(python())
        .arg(repository().join("tests/python/raw_grpc.py"))
        .arg(repository())
        .current_dir(folder.path())
        .env("SESSIOND", world.server.address().to_string())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(Duration::from_secs(60), status).await.expect("it ends before its deadline");
    assert!(status.expect("Python starts").success(), "its stderr names the check that failed");
}

/// Accepts and closes the connections to an address, and records when they came.
struct Attempts {
    begin: Instant,
    times: Arc<Mutex<Vec<Instant>>>,
    accepting: JoinHandle<()>,
}

impl Attempts {
    async fn at(url: &str) -> Self {
        let listener = TcpListener::bind(url.trim_start_matches("http://")).await.expect("the address is free");
        let times = Arc::<Mutex<Vec<Instant>>>::default();
        let record = Arc::clone(&times);
        let accepting = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                record.lock().expect("not poisoned").push(Instant::now());
            }
        });
        Self { begin: Instant::now(), times, accepting }
    }

    /// Frees the address, and returns the longest time without an attempt until now.
    async fn longest_pause(self) -> Duration {
        self.accepting.abort();
        // The listener is closed when the task has ended.
        let _ = self.accepting.await;
        let times = self.times.lock().expect("not poisoned");
        let all: Vec<_> = [self.begin].into_iter().chain(times.iter().copied()).chain([Instant::now()]).collect();
        all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// After an outage in which gRPC's default backoff grows to several seconds, the shop is back within about one second.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_channel_of_the_page_a_shop_is_back_a_second_after_the_server() {
    let redis = TestRedis::start().await;
    let mut sessiond = Sessiond::start(&["--store", &redis.url()]).await;
    let shop = Shop::open(sessiond.url().trim_start_matches("http://")).await;
    let browser = shop.browser();
    browser.post("/add").await.ok();
    let cookie = browser.cookie(COOKIE);

    sessiond.kill();
    let attempts = Attempts::at(sessiond.url()).await;
    while attempts.begin.elapsed() < Duration::from_secs(11) {
        let called = Instant::now();
        let page = browser.get("/").await;
        assert_eq!(page.status, 503);
        assert_eq!(page.header("retry-after"), Some("1"));
        assert!(called.elapsed() < TIMEOUT + SLACK, "an outage took {:?}", called.elapsed());
        assert_eq!(browser.cookie(COOKIE), cookie, "an outage leaves the cookie alone");
    }
    // The page's backoff grows to 1 s, give or take a fifth; gRPC's own is beyond 3 s by now.
    let longest = attempts.longest_pause().await;
    assert!(longest < Duration::from_millis(2_500), "the channel paused for {longest:?}");

    sessiond.come_back().await;
    let took = time_until_ok(&browser, Duration::from_secs(20)).await;
    assert!(took < Duration::from_millis(1_200) + SLACK, "the shop was back after {took:?}");
}

/// A TCP proxy whose connections fall silent when told: they stay open, and forward nothing.
struct Proxy {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    silenced: watch::Sender<usize>,
}

impl Proxy {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let connections = Arc::<AtomicUsize>::default();
        let silenced = watch::Sender::new(0);
        let (count, silence) = (Arc::clone(&connections), silenced.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                let server = TcpStream::connect(target).await.expect("the server is there");
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(forward(from_client, to_server, number, silence.clone()));
                tokio::spawn(forward(from_server, to_client, number, silence.clone()));
            }
        });
        Self { address, connections, silenced }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// All connections so far forward nothing from now on.
    fn silence(&self) {
        self.silenced.send_replace(self.connections());
    }
}

/// Forwards bytes until the connection ends. Once it is silenced it reads on, and forwards nothing.
async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    number: usize,
    silenced: watch::Receiver<usize>,
) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if number > *silenced.borrow() && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_channel_of_the_page_a_silent_connection_costs_a_deadline_and_is_replaced() {
    let world = World::memory(&[]).await;
    let proxy = Proxy::to(world.server.address()).await;
    let shop = Shop::open(&proxy.address.to_string()).await;
    let browser = shop.browser();
    browser.post("/add").await.ok();
    assert_eq!(proxy.connections(), 1);

    proxy.silence();
    let called = Instant::now();
    assert_eq!(browser.get("/").await.status, 503);
    assert!(called.elapsed() < TIMEOUT + SLACK, "a silent connection took {:?}", called.elapsed());

    // Keepalive of 10 s, and 2 s for the answer; without it the connection hangs for minutes.
    let took = time_until_ok(&browser, Duration::from_secs(60)).await;
    assert!(took < Duration::from_secs(12) + TIMEOUT + SLACK, "the connection was replaced after {took:?}");
    assert_eq!(proxy.connections(), 2);
}

/// gRPC servers often close the connections of clients that ping a lot without calls (`too_many_pings`).
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pings_all_the_time_without_calls_keeps_its_connection() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let proxy = Proxy::to(server.address()).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", proxy.address)).unwrap();
    let endpoint = endpoint.http2_keep_alive_interval(Duration::from_millis(20)).keep_alive_while_idle(true);
    let mut stub = SessionServiceClient::new(endpoint.connect().await.unwrap());
    stub.open(OpenRequest::default()).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    stub.open(OpenRequest::default()).await.unwrap();
    assert_eq!(proxy.connections(), 1);
}
