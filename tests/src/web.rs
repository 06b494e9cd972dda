//! The web as tests need it: an application on a real port, a browser whose cookies the test holds in its hand, and a gate
//! before sessiond that counts calls and holds them up.

mod browser;
mod gate;
mod sessiond;

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use tokio::{net::TcpListener, task::JoinHandle};

pub use browser::{Browser, Head, Page};
pub use gate::{Call, Gate, Held, Taken};
pub use sessiond::Sessiond;

/// An application that is served on a port of its own until this goes out of scope.
pub struct Site {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Site {
    /// Serves the application.
    pub async fn serve(app: Router) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("it has an address");
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, serving }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A browser that has never been there.
    pub fn browser(&self) -> Browser {
        Browser::new(self.address)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
