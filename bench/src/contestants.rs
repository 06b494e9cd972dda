//! The processes that are measured. All are started at the beginning and idle while others are measured.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use sessiond_tests::{Authority, Server, TestRedis, built, poll_pause, reserved_port};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    direct::Told,
    load::Time,
    plan::{Cell, Who},
};

/// The longest that a process's word is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process of the bench's own: it tells its address when it listens, and ends when its input does.
pub struct Part {
    _process: Child,
    pid: u32,
    address: SocketAddr,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts this binary with these arguments.
    ///
    /// # Errors
    /// When it does not start, or tells no address.
    pub async fn start(binary: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut process = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let input = process.stdin.take().context("its input is piped")?;
        let output = BufReader::new(process.stdout.take().context("its output is piped")?).lines();
        let pid = process.id().context("it runs")?;
        let mut part = Self { _process: process, pid, address: SocketAddr::from(([127, 0, 0, 1], 0)), input, output };
        part.address = part.line().await?.parse().with_context(|| format!("{arguments:?} tells no address"))?;
        Ok(part)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says this line to it.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.input.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// The next line that it says.
    ///
    /// # Errors
    /// When it says nothing for long, or has ended.
    pub async fn line(&mut self) -> anyhow::Result<String> {
        let line = timeout(PATIENCE, self.output.next_line()).await.context("it says nothing")?;
        line?.context("it has ended")
    }
}

/// The binary of what is measured as it comes out of the box, built if it was not.
pub(crate) fn plain() -> PathBuf {
    built(&["-p", "sessiond-bench", "--bin", "plain"]).join("plain")
}

/// Another build of sessiond.
struct Other {
    _process: Child,
    pid: u32,
    address: SocketAddr,
}

impl Other {
    async fn start(binary: &Path, store: &str) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], reserved_port()));
        let process = Command::new(binary)
            .args(["--listen", &address.to_string(), "--store", store])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let pid = process.id().context("it runs")?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                poll_pause().await;
            }
        };
        timeout(PATIENCE, listens).await.with_context(|| format!("{} does not listen", binary.display()))?;
        Ok(Self { _process: process, pid, address })
    }
}

/// sessiond on a Redis of its own, which is run in another way than the one that all others share.
struct Apart {
    server: Server,
    _redis: TestRedis,
    redis_pid: u32,
    /// Its files are read again for each connection.
    _authority: Option<Authority>,
}

impl Apart {
    async fn over_tls() -> anyhow::Result<Self> {
        let authority = Authority::new("sessiond-bench");
        let (redis, url) = authority.redis(false).await;
        let ca = authority.text("ca.pem");
        Self::on(redis, &["--store", &url, "--redis-ca-file", &ca], Some(authority)).await
    }

    async fn with_aof() -> anyhow::Result<Self> {
        let kept = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
        // A rewrite of the file would fall into one turn and not into the others.
        let redis = TestRedis::start_with(&[&kept[..], &["--auto-aof-rewrite-percentage", "0"]].concat()).await;
        let url = redis.url();
        Self::on(redis, &["--store", &url], None).await
    }

    async fn on(redis: TestRedis, arguments: &[&str], authority: Option<Authority>) -> anyhow::Result<Self> {
        let server = Server::start(arguments).await;
        server.ready().await;
        Ok(Self { redis_pid: process_of(&redis).await?, server, _redis: redis, _authority: authority })
    }
}

/// All of them, and their Redis.
pub struct Contestants {
    /// The Redis that all of them share.
    pub redis: TestRedis,
    redis_pid: u32,
    on_redis: Server,
    on_memory: Server,
    other: Option<Other>,
    apart: HashMap<Who, Apart>,
    echo: Part,
    tuned: Part,
    textbook: Part,
    direct: Part,
}

impl Contestants {
    /// Builds what is not built, and starts what these cells need; and another build of sessiond, if there is one to compare
    /// with.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(cells: &[Cell], other: Option<&Path>) -> anyhow::Result<Self> {
        let this = env::current_exe()?;
        let plain = plain();
        let redis = TestRedis::start().await;
        let url = redis.url();
        let redis_pid = process_of(&redis).await?;
        let on_redis = Server::start(&["--store", &url]).await;
        on_redis.ready().await;
        let on_memory = Server::start(&[]).await;
        on_memory.ready().await;
        let other = match other {
            Some(binary) => Some(Other::start(binary, &url).await?),
            None => None,
        };
        let mut apart = HashMap::new();
        let is_measured = |who| cells.iter().any(|cell| cell.who == who);
        if is_measured(Who::Tls) {
            apart.insert(Who::Tls, Apart::over_tls().await?);
        }
        if is_measured(Who::Aof) {
            apart.insert(Who::Aof, Apart::with_aof().await?);
        }
        Ok(Self {
            other,
            apart,
            echo: Part::start(&plain, &["echo"]).await?,
            tuned: Part::start(&this, &["tuned-echo"]).await?,
            textbook: Part::start(&plain, &["textbook", &url]).await?,
            direct: Part::start(&plain, &["direct", &url]).await?,
            redis,
            redis_pid,
            on_redis,
            on_memory,
        })
    }

    /// The number of its process, and where it listens.
    pub fn place(&self, who: Who) -> (u32, SocketAddr) {
        let of_part = |part: &Part| (part.pid, part.address);
        let of_server = |server: &Server| (server.pid(), server.address());
        if let Some(apart) = self.apart.get(&who) {
            return of_server(&apart.server);
        }
        match (who, &self.other) {
            (Who::Echo, _) => of_part(&self.echo),
            (Who::Tuned, _) => of_part(&self.tuned),
            (Who::Textbook, _) => of_part(&self.textbook),
            (Who::Direct, _) => of_part(&self.direct),
            (Who::Memory, _) => of_server(&self.on_memory),
            (Who::Other, Some(other)) => (other.pid, other.address),
            // No plan has the others where they are not running.
            (Who::Redis | Who::Other | Who::Tls | Who::Aof, _) => of_server(&self.on_redis),
        }
    }

    /// The number of the process of its Redis; of the shared one, if it needs none.
    pub fn redis_pid(&self, who: Who) -> u32 {
        self.apart.get(&who).map_or(self.redis_pid, |apart| apart.redis_pid)
    }

    /// Has the application that asks Redis by itself do so. `mark` is called when its measuring begins and when it ends.
    ///
    /// # Errors
    /// When it fails.
    pub async fn direct(
        &mut self,
        callers: usize,
        time: Time,
        size: usize,
        mut mark: impl FnMut() -> std::io::Result<()>,
    ) -> anyhow::Result<Told> {
        let load = format!("{callers} {} {} {size}", time.warm.as_micros(), time.run.as_micros());
        self.direct.say(&load).await?;
        for word in ["begun", "ended"] {
            let line = self.direct.line().await?;
            anyhow::ensure!(line == word, "direct says {line:?} instead of {word:?}");
            mark()?;
        }
        Ok(serde_json::from_str(&self.direct.line().await?)?)
    }
}

/// The number of a Redis's process.
///
/// # Errors
/// When Redis does not tell.
pub async fn process_of(redis: &TestRedis) -> anyhow::Result<u32> {
    let info: String = redis.try_command(&["INFO", "server"]).await?;
    let line = info.lines().find_map(|line| line.strip_prefix("process_id:")).context("Redis tells its process")?;
    Ok(line.trim().parse()?)
}
