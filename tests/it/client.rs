//! The Rust client: what it promises to an application, against the real service and against servers that answer as a
//! test tells them to.
//!
//! - `life`, `refused`: every operation on a session, and every way in which it is refused.
//! - `saves`: what a Save sends, and that it sends nothing when nothing changed.
//! - `repeats`, `deadlines`: what is asked again, when, how often; and what is never.
//! - `reasons`, `strangers`: what is made of every answer, even of one that is not sessiond's.
//! - `lost`: connections and servers that go in mid-call. `many`, `recovery`: many servers, and how outages end.
//! - `caller`: its token and TLS. `secrets`: what neither `Debug` nor a log ever shows.

// All but `secrets` a second time in `blocking.rs`, with the client that blocks.
mod caller;
mod deadlines;
mod life;
mod lost;
mod many;
mod reasons;
mod recovery;
mod refused;
mod repeats;
mod saves;
mod scripted;
mod secrets;
mod strangers;

use std::{error, fmt::Write, iter, time::Duration};

use sessiond_client::{Deadlines, Error, SessionClient, SessionClientBuilder, SessionId};
use sessiond_tests::World;

/// An id as the service would mint one, of a session that nobody has.
pub(super) const ID: &str = "0123456789abcdef0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";

pub(super) fn id() -> SessionId {
    SessionId::parse(ID).expect("it is spelt as one")
}

/// Deadlines that no test runs into, on a machine however slow.
pub(super) const PATIENT: Deadlines = deadlines(Duration::from_secs(20));

pub(super) const fn deadlines(each: Duration) -> Deadlines {
    Deadlines { open: each, save: each, destroy: each }
}

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

/// An error with all that lies below it, as an application's log would show it.
pub(super) fn told(error: &Error) -> String {
    let causes = iter::successors(error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |mut text, cause| {
        write!(text, ": {cause}").expect("text grows");
        text
    })
}
