//! The client whose calls block: all that `client.rs` shows of the other one, by the very same tests.

#[path = "client/caller.rs"]
mod caller;
#[path = "client/life.rs"]
mod life;
#[path = "client/deadlines.rs"]
mod limits;
#[path = "client/lost.rs"]
mod lost;
#[path = "client/many.rs"]
mod many;
#[path = "client/reasons.rs"]
mod reasons;
#[path = "client/recovery.rs"]
mod recovery;
#[path = "client/refused.rs"]
mod refused;
#[path = "client/repeats.rs"]
mod repeats;
#[path = "client/saves.rs"]
mod saves;
#[path = "client/scripted.rs"]
mod scripted;
#[path = "client/strangers.rs"]
mod strangers;

use sessiond_client::{
    ConfigError, Deadlines, Error, Save, Session, SessionClientBuilder as Inner, SessionId, blocking,
};
use sessiond_tests::World;
use tokio::task::spawn_blocking;

use crate::client::{ID, PATIENT, deadlines, id, told};

/// A client that waits as long as it takes.
fn patient(address: impl ToString) -> SessionClient {
    patiently(address).build().expect("an address")
}

fn patiently(address: impl ToString) -> SessionClientBuilder {
    SessionClient::builder().address(address.to_string()).deadlines(PATIENT)
}

fn client_of(world: &World) -> SessionClient {
    patient(world.server.address())
}

/// The client that blocks, on threads of which the tests' runtime has as many as it needs.
#[derive(Clone, Debug)]
struct SessionClient(blocking::SessionClient);

macro_rules! calls {
    ($($name:ident($what:ident: $given:ty) -> $answer:ty;)*) => {
        impl SessionClient {$(
            async fn $name(&self, $what: $given) -> Result<$answer, Error> {
                let (client, $what) = (self.0.clone(), $what.to_owned());
                spawn_blocking(move || client.$name(&$what)).await.expect("no call panics")
            }
        )*}
    };
}

calls! {
    open(id: &SessionId) -> Option<Session>;
    peek(id: &SessionId) -> Option<Session>;
    destroy(id: &SessionId) -> ();
    destroy_unchanged(session: &Session) -> ();
    was_replaced(id: &SessionId) -> bool;
}

impl SessionClient {
    fn new(address: &str) -> Result<Self, ConfigError> {
        blocking::SessionClient::new(address).map(Self)
    }

    fn builder() -> SessionClientBuilder {
        SessionClientBuilder(Inner::default())
    }

    async fn save(&self, save: Save) -> Result<Session, Error> {
        let client = self.0.clone();
        spawn_blocking(move || client.save(save)).await.expect("no call panics")
    }
}

/// What makes it.
#[derive(Clone)]
struct SessionClientBuilder(Inner);

impl SessionClientBuilder {
    fn address(self, address: impl Into<String>) -> Self {
        Self(self.0.address(address))
    }

    fn token(self, token: impl Into<String>) -> Self {
        Self(self.0.token(token))
    }

    fn allow_plaintext_token(self) -> Self {
        Self(self.0.allow_plaintext_token())
    }

    fn certificate_authority(self, pem: impl Into<Vec<u8>>) -> Self {
        Self(self.0.certificate_authority(pem))
    }

    fn deadlines(self, deadlines: Deadlines) -> Self {
        Self(self.0.deadlines(deadlines))
    }

    fn build(self) -> Result<SessionClient, ConfigError> {
        self.0.build_blocking().map(SessionClient)
    }
}
