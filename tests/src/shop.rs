//! The client's example as its visitors meet it: the shop in a process of its own, and a Chromium to visit it with.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
};

use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{Server, eventually, processes::built};

/// `cargo run -p sessiond-client --example axum`, on a port of its own.
pub struct Shop {
    process: Process,
    url: String,
}

impl Shop {
    /// Opens it, with its sessions in this service.
    pub async fn open(sessiond: &Server) -> Self {
        let mut command = Command::new(example());
        command.env("LISTEN", "127.0.0.1:0").env("SESSIOND_ADDRESS", sessiond.address().to_string());
        let mut process = Process::start(command);
        let port = process.told("http://127.0.0.1:").await.unwrap_or_else(|| panic!("no shop: {}", process.said()));
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All that it has said so far.
    pub fn log(&self) -> String {
        self.process.said()
    }
}

/// A headless Chromium and a chromedriver that commands it.
pub struct Chromium {
    driver: Process,
    browser: Process,
    webdriver: String,
    debugger: String,
}

impl Chromium {
    /// Starts both. Where they are not installed it says so, past the capture of the tests' output, and gives `None`.
    pub async fn start() -> Option<Self> {
        let browser = named("CHROMIUM", &["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]);
        let (Some(browser), Some(driver)) = (browser, named("CHROMEDRIVER", &["chromedriver"])) else {
            let _ = writeln!(
                io::stderr(),
                "\nSKIPPED, NOT PASSED: {}: it needs a browser. Install chromium and chromedriver (Debian: apt-get install \
                 chromium chromium-driver), or run scripts/test, which does so where it may.",
                thread::current().name().unwrap_or("a test")
            );
            return None;
        };
        let mut command = Command::new(browser);
        command.args([
            "--headless",
            "--remote-debugging-port=0",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            // Containers have little shared memory.
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-gpu",
            "--disable-sync",
            "--password-store=basic",
        ]);
        if geteuid().is_root() {
            // Its sandbox refuses root, who in a container is nobody.
            command.arg("--no-sandbox");
        }
        let profile = tempfile::tempdir().expect("a temporary folder");
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut browser = Process::start_in(command, profile);
        let debugger = browser.told("DevTools listening on ws://127.0.0.1:").await;
        let debugger = debugger.unwrap_or_else(|| panic!("no browser: {}", browser.said()));

        let (driver, webdriver) = Self::command_with(&driver).await;
        Some(Self {
            driver,
            browser,
            webdriver: format!("http://127.0.0.1:{webdriver}"),
            debugger: format!("127.0.0.1:{debugger}"),
        })
    }

    /// Starts a chromedriver, and gives its port.
    async fn command_with(driver: &Path) -> (Process, u16) {
        // It takes a free port of IPv6 and then wants the same one of IPv4, which may be taken: then it ends.
        for _ in 0..5 {
            let mut command = Command::new(driver);
            command.arg("--port=0");
            let mut driver = Process::start(command);
            if let Some(port) = driver.told("started successfully on port ").await {
                return (driver, port);
            }
        }
        panic!("chromedriver does not start");
    }

    /// Where chromedriver listens.
    pub fn webdriver(&self) -> &str {
        &self.webdriver
    }

    /// What to ask of chromedriver, so that it commands this Chromium and starts none of its own.
    pub fn capabilities(&self) -> Map<String, Value> {
        let options = json!({ "debuggerAddress": self.debugger });
        Map::from_iter([("goog:chromeOptions".to_owned(), options)])
    }

    /// Has the browser end by itself, with the processes that it started. (Of those that were killed somebody else has to take
    /// notice, and in a container there may be nobody.)
    pub async fn close(mut self) {
        kill_process(Pid::from_child(&self.browser.child), Signal::TERM).expect("it runs");
        eventually("the browser ends", async || self.browser.child.try_wait().expect("its state is known").is_some())
            .await;
    }

    /// What both have said so far.
    pub fn log(&self) -> String {
        format!("{}\n{}", self.browser.said(), self.driver.said())
    }
}

/// A process with all that it starts itself, which ends when this goes out of scope.
struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    fn start(command: Command) -> Self {
        Self::start_in(command, tempfile::tempdir().expect("a temporary folder"))
    }

    fn start_in(mut command: Command, folder: TempDir) -> Self {
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let both = log.try_clone().expect("the same file");
        // Browsers leave things behind.
        command.env("TMPDIR", folder.path());
        command.stdin(Stdio::null()).stdout(log).stderr(both).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, folder }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it has told its port, after these words; `None` if it ends instead.
    async fn told(&mut self, words: &str) -> Option<u16> {
        let mut port = None;
        eventually(words, async || {
            let ended = self.child.try_wait().expect("its state is known").is_some();
            let said = self.said();
            port = said.split_once(words).and_then(|(_, rest)| {
                let (port, _) = rest.split_once(|next: char| !next.is_ascii_digit())?;
                port.parse().ok()
            });
            port.is_some() || ended
        })
        .await;
        port
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The whole group: a browser is a dozen processes.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The program that this variable names, or the first of these on PATH.
fn named(variable: &str, names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &&str| env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    let chosen = env::var_os(variable).filter(|path| !path.is_empty());
    chosen.map(PathBuf::from).or_else(|| names.iter().find_map(on_path))
}

fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    // Of the whole workspace, whose features `cargo test` has just built its dependencies with.
    EXAMPLE.get_or_init(|| built(&["--workspace", "--example", "axum"]).join("examples/axum"))
}
