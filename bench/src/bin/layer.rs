//! What a session costs a web application: the CPU of one request that reads its session, through this project's axum layer and
//! through `tower-sessions` with its Redis store, in the same axum handler, side by side in one run.
//!
//! ```sh
//! cargo run --release -p sessiond-bench --bin layer [-- ROUNDS]
//! ```
//!
//! Each application is a process of its own, and tells its own CPU time. They take turns, a few thousand requests each, and
//! what is printed is the median over the rounds, with the spread. "Of its own" is less what the same handler costs without
//! any session.

use std::{
    env,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use rustix::time::{ClockId, clock_gettime};
use sessiond_client::{
    CookiePolicy, SessionClient,
    axum::{Session, SessionLayer},
};
use sessiond_tests::{Server, TestRedis};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tower_sessions::SessionManagerLayer;
use tower_sessions_redis_store::{
    RedisStore,
    fred::{clients::Pool, interfaces::ClientLike, types::config::Config},
};

// The same for all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keep-alive connections with one request under way each.
const CONNECTIONS: usize = 32;
const REQUESTS: usize = 8_000;
const ROUNDS: usize = 15;

/// What a session holds: ten keys, about half a KiB.
fn entries() -> impl Iterator<Item = (String, String)> {
    (0..10).map(|number| (format!("key-{number}"), format!("{number}").repeat(40)))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--serve", which, store] => serve(which, store).await,
        [rounds] => compare(rounds.parse().expect("a number of rounds")).await,
        [] => compare(ROUNDS).await,
        _ => panic!("cargo run --release -p sessiond-bench --bin layer [-- ROUNDS]"),
    }
}

// ---- the applications ----

async fn serve(which: &str, store: &str) {
    let app = match which {
        "none" => {
            Router::new().route("/fill", get(|| async { "filled" })).route("/read", get(|| async { "4".repeat(40) }))
        }
        "sessiond" => ours(store),
        "tower-sessions" => theirs(store).await,
        _ => panic!("no such application"),
    };
    let app = app.route("/cpu", get(|| async { cpu().as_nanos().to_string() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("it has an address"));
    axum::serve(listener, app).await.expect("it serves");
}

fn ours(address: &str) -> Router {
    async fn fill(session: Session) -> &'static str {
        entries().for_each(|(key, value)| session.insert(&key, value).expect("it can be kept"));
        "filled"
    }
    async fn read(session: Session) -> String {
        session.get("key-4").expect("it is text").expect("it is there")
    }
    let client = SessionClient::new(address).expect("an address");
    let layer = SessionLayer::new(client).cookie(CookiePolicy::default());
    Router::new().route("/fill", get(fill)).route("/read", get(read)).layer(layer)
}

async fn theirs(url: &str) -> Router {
    async fn fill(session: tower_sessions::Session) -> &'static str {
        for (key, value) in entries() {
            session.insert(&key, value).await.expect("it can be kept");
        }
        "filled"
    }
    async fn read(session: tower_sessions::Session) -> String {
        session.get("key-4").await.expect("it is text").expect("it is there")
    }
    // As its documentation shows it.
    let pool = Pool::new(Config::from_url(url).expect("a URL"), None, None, None, 6).expect("a pool");
    pool.connect();
    pool.wait_for_connect().await.expect("Redis answers");
    let layer = SessionManagerLayer::new(RedisStore::new(pool));
    Router::new().route("/fill", get(fill)).route("/read", get(read)).layer(layer)
}

/// The CPU time of this process so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

// ---- the comparison ----

struct App {
    name: &'static str,
    _process: Child,
    address: SocketAddr,
    cookie: String,
    micros: Vec<f64>,
    rate: Vec<f64>,
}

impl App {
    async fn start(name: &'static str, store: &str) -> Self {
        let mut process = Command::new(env::current_exe().expect("this binary"))
            .args(["--serve", name, store])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut address = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut address).await.expect("it tells its address");
        let address = address.trim().parse().expect("an address");
        let mut app =
            Self { name, _process: process, address, cookie: String::new(), micros: Vec::new(), rate: Vec::new() };
        let (head, _) = ask(&mut app.connect().await, &app.request("/fill")).await;
        app.cookie = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned())
            .unwrap_or_default();
        app
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream
    }

    fn request(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\ncookie: {}\r\n\r\n", self.cookie)
    }

    async fn cpu(&self) -> Duration {
        let (_, body) = ask(&mut self.connect().await, &self.request("/cpu")).await;
        Duration::from_nanos(body.parse().expect("nanoseconds"))
    }

    /// One turn: so many reads over all connections.
    async fn turn(&mut self) {
        let request = self.request("/read");
        let (before, begun) = (self.cpu().await, Instant::now());
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let (mut stream, request) = (self.connect().await, request.clone());
            clients.push(tokio::spawn(async move {
                for _ in 0..REQUESTS / CONNECTIONS {
                    let (head, body) = ask(&mut stream, &request).await;
                    assert!(head.starts_with("HTTP/1.1 200") && body == "4".repeat(40), "{head}");
                }
            }));
        }
        for client in clients {
            client.await.expect("every answer is right");
        }
        let took = begun.elapsed();
        let used = self.cpu().await - before;
        self.micros.push(used.as_secs_f64() * 1e6 / REQUESTS as f64);
        self.rate.push(REQUESTS as f64 / took.as_secs_f64());
    }
}

/// Sends a request, and reads head and body of its answer.
async fn ask(stream: &mut TcpStream, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).await.expect("it takes the request");
    let mut answer = Vec::with_capacity(512);
    loop {
        assert!(stream.read_buf(&mut answer).await.expect("it answers") > 0, "it hung up");
        let text = str::from_utf8(&answer).expect("it is text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if body.len() == length.parse::<usize>().expect("a number") {
            return (head.to_owned(), body.to_owned());
        }
    }
}

async fn compare(rounds: usize) {
    let redis = TestRedis::start().await;
    let server = Server::start(&["--store", &redis.url()]).await;
    server.ready().await;
    let mut apps = [
        App::start("none", "-").await,
        App::start("sessiond", &format!("http://{}", server.address())).await,
        App::start("tower-sessions", &redis.url()).await,
    ];
    // The first round warms up, and does not count.
    for round in 0..=rounds {
        for turn in 0..apps.len() {
            apps[(round + turn) % 3].turn().await;
        }
        if round == 0 {
            apps.iter_mut().for_each(|app| (app.micros.clear(), app.rate.clear()).1);
        }
    }
    println!(
        "{rounds} rounds of {REQUESTS} requests over {CONNECTIONS} connections; CPU of the web application alone\n"
    );
    println!("| application | CPU per request (µs) | from, to | of its own (µs) | requests/s |");
    println!("|---|---|---|---|---|");
    let base = median(&apps[0].micros);
    for app in &apps {
        let (low, high) = spread(&app.micros);
        let micros = median(&app.micros);
        println!(
            "| {} | {micros:.1} | {low:.1}, {high:.1} | {:.1} | {:.0} |",
            app.name,
            micros - base,
            median(&app.rate)
        );
    }
    let own = |app: &App| median(&app.micros) - base;
    // Round by round, so that what disturbs one round disturbs both of its sides.
    let ratios: Vec<f64> = (0..rounds)
        .map(|round| {
            let [none, ours, theirs] = [0, 1, 2].map(|app: usize| apps[app].micros[round]);
            (ours - none) / (theirs - none)
        })
        .collect();
    let (low, high) = spread(&ratios);
    println!(
        "\nthe layer's own CPU, sessiond / tower-sessions: {:.2} (rounds: {:.2}, from {low:.2} to {high:.2})",
        own(&apps[1]) / own(&apps[2]),
        median(&ratios)
    );
    println!("the whole request, sessiond / tower-sessions: {:.2}", median(&apps[1].micros) / median(&apps[2].micros));
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)))
}
