//! gRPC clients in other languages, each in a process of its own: grpcio (Python) and grpc-go.

use std::{env, path::Path, process::Stdio};

use serde::Deserialize;
use serde_json::{Value, json as j};
use sessiond_tests::Server;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener},
    process::Command,
    task::AbortHandle,
};

pub(super) const OPEN: &str = "/sessiond.v1.SessionService/Open";
pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";

/// How the calls of one order ended: the status and the reason of the last one.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) reason: String,
}

/// One channel, and what is called through it.
pub(super) fn order(target: &str, authority: &str, method: &str, metadata_bytes: usize) -> Value {
    // Several calls: from the second on, a client refers to what it sent before.
    j!({"target": target, "authority": authority, "method": method, "times": 3, "metadata_bytes": metadata_bytes})
}

/// Carries out the orders by grpcio.
pub(super) async fn python(orders: &[Value]) -> Vec<Answer> {
    let python = env::var_os("SESSIOND_TEST_PYTHON").expect("SESSIOND_TEST_PYTHON is set by scripts/test");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/caller.py");
    run(Command::new(python).arg(script), orders).await
}

/// Carries out the orders by grpc-go; `None` where there is no Go.
pub(super) async fn go(orders: &[Value]) -> Option<Vec<Answer>> {
    let present = Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    if !present.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: grpc-go made no calls, as there is no Go on PATH");
        return None;
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    Some(run(Command::new("go").args(["run", "./caller"]).current_dir(module), orders).await)
}

async fn run(command: &mut Command, orders: &[Value]) -> Vec<Answer> {
    let ran = command.arg(Value::from(orders).to_string()).kill_on_drop(true).output().await.expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    let answers: Vec<Answer> = out.lines().map(|line| serde_json::from_str(line).expect("an answer")).collect();
    assert_eq!(answers.len(), orders.len(), "{out}\n{err}");
    answers
}

/// A Unix socket that leads to a sessiond.
struct Socket {
    folder: TempDir,
    forwarding: AbortHandle,
}

impl Socket {
    fn to(server: &Server) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("sessiond.sock")).expect("a Unix socket");
        let address = server.address();
        let forwarding = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(address).await.expect("sessiond listens");
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { folder, forwarding: forwarding.abort_handle() }
    }

    fn path(&self) -> String {
        self.folder.path().join("sessiond.sock").to_string_lossy().into_owned()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

/// Targets and authorities that gRPC clients are given in practice, of which most are no authority by RFC 3986.
fn channels(server: &Server, socket: &Socket) -> Vec<Value> {
    let (address, port, path) = (server.address().to_string(), server.address().port(), socket.path());
    let long = format!("/var/run/{}/sessiond.sock", "a-long-name/".repeat(20));
    let mut orders = vec![
        order(&address, "", OPEN, 0),
        order(&format!("unix:{path}"), "", OPEN, 0),
        order(&format!("unix:{path}"), &path, OPEN, 0),
        // As the targets `passthrough:///` and `unix:` of other clients have it.
        order(&address, &path.replace('/', "%2F"), OPEN, 0),
    ];
    let authorities =
        ["[::1]:50051,[::2]:50051", "a b", "sessiond.example/team", "x^y`z{|}", "sessiond.example", &long];
    orders.extend(authorities.map(|authority| order(&address, authority, OPEN, 0)));
    orders.push(order(&address, &format!("127.0.0.1:{port},127.0.0.2:{port}"), CHECK, 0));
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_is_served_whatever_authority_it_sends() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let socket = Socket::to(&server);
    let mut orders = channels(&server, &socket);
    // Only the first answers; the authority names both.
    let port = server.address().port();
    orders.push(order(&format!("ipv4:127.0.0.1:{port},127.0.0.2:{port}"), "", OPEN, 0));
    for (answer, order) in python(&orders).await.iter().zip(&orders) {
        assert_eq!(answer.code, "OK", "{order}: {}", answer.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_go_is_served_whatever_authority_it_sends() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let socket = Socket::to(&server);
    let mut orders = channels(&server, &socket);
    orders.push(order(&format!("passthrough:///{}", server.address()), "", OPEN, 0));
    let Some(answers) = go(&orders).await else { return };
    for (answer, order) in answers.iter().zip(&orders) {
        assert_eq!(answer.code, "OK", "{order}: {}", answer.message);
    }
}
