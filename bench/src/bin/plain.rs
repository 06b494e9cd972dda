//! What `sessiond-bench` measures as it comes out of the box, each in a process of its own and with the system's allocator:
//! it starts them by itself. Each tells its address, and ends with its standard input.

use std::{env, net::SocketAddr};

use sessiond_bench::{direct, echo::Echo, textbook::Textbook};
use sessiond_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use tokio::io::AsyncReadExt;
use tonic::transport::{Server, server::TcpIncoming};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo"] => serve(Echo::default()).await,
        ["textbook", redis] => serve(Textbook::open(redis).await?).await,
        ["direct", redis] => direct::run(redis).await,
        _ => anyhow::bail!("this is a part of `cargo run --release -p sessiond-bench`"),
    }
}

async fn serve(service: impl SessionService) -> anyhow::Result<()> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?);
    let server = Server::builder().add_service(SessionServiceServer::new(service));
    let end = async {
        let _ = tokio::io::stdin().read(&mut [0; 1]).await;
    };
    Ok(server.serve_with_incoming_shutdown(incoming, end).await?)
}
