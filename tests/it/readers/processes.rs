//! The readers in other languages: long-lived processes that read batches of messages.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// The longest that a reader may take for a batch.
const PATIENCE: Duration = Duration::from_secs(120);

/// A reader in a process of its own, which ends when this is dropped.
pub(super) struct Reader {
    pub(super) name: &'static str,
    _process: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Reader {
    /// Python's protobuf library (upb).
    pub(super) fn python() -> Self {
        let python = env::var_os("SESSIOND_TEST_PYTHON").expect(
            "SESSIOND_TEST_PYTHON names no Python with tests/python/requirements.txt: run scripts/test, which makes one",
        );
        let mut command = Command::new(python);
        command.arg(tests().join("python/structs.py"));
        Self::start("python", command)
    }

    /// Go's protobuf library; `None` without Go.
    pub(super) async fn go() -> Option<Self> {
        let version = Command::new("go").arg("version").stdout(Stdio::null()).status().await;
        if !version.is_ok_and(|status| status.success()) {
            println!("SKIPPED: the reader in Go, because there is no `go` on PATH");
            return None;
        }
        let program = tests().join("../target/test-go/structs");
        let mut build = Command::new("go");
        build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg(".");
        let built = build.current_dir(tests().join("go/structs")).status().await.expect("go starts");
        assert!(built.success(), "tests/go/structs does not build; the first time it downloads its modules");
        Some(Self::start("go", Command::new(program)))
    }

    fn start(name: &'static str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("the reader in {name} starts: {error}"));
        let to = process.stdin.take().expect("its stdin");
        let from = process.stdout.take().expect("its stdout");
        Self { name, _process: process, to, from }
    }

    /// Sends a batch. The reader takes all of it before it answers, so that neither waits for the other.
    pub(super) async fn send(&mut self, batch: &[Vec<u8>]) {
        let messages: Vec<u8> = batch.iter().flat_map(|message| [&length(message)[..], message].concat()).collect();
        let sent = timeout(PATIENCE, self.to.write_all(&[&length(&messages)[..], &messages].concat())).await;
        sent.expect("the reader takes the batch before the deadline")
            .expect("the reader lives; its stderr says why not");
    }

    /// The forms of the messages of the batch that was sent.
    pub(super) async fn forms(&mut self) -> Vec<Vec<u8>> {
        let answer = timeout(PATIENCE, async {
            let mut forms = vec![0; self.from.read_u32().await? as usize];
            self.from.read_exact(&mut forms).await.map(|_| forms)
        });
        let answer = answer.await.expect("the reader answers before the deadline");
        let answer = answer.expect("the reader lives; its stderr says why not");
        let mut rest = &answer[..];
        let mut forms = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let (form, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            forms.push(form.to_vec());
            rest = after;
        }
        forms
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("a batch is small").to_be_bytes()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
