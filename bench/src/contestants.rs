//! The processes that are measured. All are started at the beginning and idle while others are measured.

use std::{env, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::Context;
use sessiond_tests::{Server, TestRedis, built};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{direct::Told, load::Time, plan::Who};

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

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = timeout(PATIENCE, self.output.next_line()).await.context("it says nothing")?;
        line?.context("it has ended")
    }
}

/// All of them, and their Redis.
pub struct Contestants {
    /// The Redis that all of them share.
    pub redis: TestRedis,
    redis_pid: u32,
    on_redis: Server,
    on_memory: Server,
    echo: Part,
    tuned: Part,
    textbook: Part,
    direct: Part,
}

impl Contestants {
    /// Builds what is not built, and starts them.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let this = env::current_exe()?;
        let plain = built(&["-p", "sessiond-bench", "--bin", "plain"]).join("plain");
        let redis = TestRedis::start().await;
        let url = redis.url();
        let redis_pid = process_of(&redis).await?;
        let on_redis = Server::start(&["--store", &url]).await;
        on_redis.ready().await;
        let on_memory = Server::start(&[]).await;
        on_memory.ready().await;
        Ok(Self {
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

    fn part(&self, who: Who) -> Result<&Part, &Server> {
        match who {
            Who::Echo => Ok(&self.echo),
            Who::Tuned => Ok(&self.tuned),
            Who::Textbook => Ok(&self.textbook),
            Who::Direct => Ok(&self.direct),
            Who::Redis => Err(&self.on_redis),
            Who::Memory => Err(&self.on_memory),
        }
    }

    /// The number of its process.
    pub fn pid(&self, who: Who) -> u32 {
        self.part(who).map_or_else(Server::pid, |part| part.pid)
    }

    /// Where it listens.
    pub fn address(&self, who: Who) -> SocketAddr {
        self.part(who).map_or_else(Server::address, |part| part.address)
    }

    /// The number of Redis's process.
    pub fn redis_pid(&self) -> u32 {
        self.redis_pid
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
        let Part { input, .. } = &mut self.direct;
        let load = format!("{callers} {} {} {size}\n", time.warm.as_micros(), time.run.as_micros());
        input.write_all(load.as_bytes()).await?;
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
