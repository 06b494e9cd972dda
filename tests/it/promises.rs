//! The promises P1 to P8, each in a file of its own and each test under its promise's name: through the API of a real
//! process, on both stores. The races are in `races.rs`; P7 is about outages, and P9 waits for the front door.

mod p1;
mod p2;
mod p3;
mod p4;
mod p5;
mod p6;
mod p8;

use sessiond_proto::v1::{OpenRequest, Session};
use sessiond_tests::{Calls, Stub, TestRedis, is_outage, json, reason};
use tonic::Status;

/// The session's data as JSON.
fn stored(session: &Session) -> serde_json::Value {
    json(session.data.as_ref().expect("the answer holds the data"))
}

/// The session's one key in Redis.
fn key(session: &Session) -> String {
    format!("session:default:{}", session.handle)
}

/// The reason of a refusal.
fn refused(answer: Result<Session, Status>) -> String {
    reason(&answer.expect_err("it is refused"))
}

/// What Open answers to this id, asked again for as long as the machine is too slow; and how often it was asked.
async fn answer(stub: &mut Stub, id: &str, no_renew: bool) -> (Session, usize) {
    for asked in 1.. {
        match stub.open(OpenRequest { id: id.to_owned(), no_renew }).await {
            Ok(answer) => return (answer.into_inner().session.expect("Open always sets the session"), asked),
            Err(status) => assert!(is_outage(&status), "{status:?}"),
        }
    }
    unreachable!("in the end there is an answer")
}

/// Whether a tombstone is all that is left of the session.
async fn is_tombstone(redis: &TestRedis, session: &Session) -> bool {
    redis.command::<Vec<u8>>(&["GET", &key(session)]).await.starts_with(b"T")
}

/// Opens a session that is there.
async fn open(stub: &mut Stub, id: &str) -> Session {
    stub.look(id).await.expect("it is there")
}
