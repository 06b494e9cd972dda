//! P5: retries are safe. An answer that was lost is one that the test holds back from its application, which sends the
//! same request again; what it held back is what the repeat must say.

mod creates;
mod rotates;
mod saves;

use serde_json::json as j;
use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{Calls, Stub, change, request_id};

/// The request with a request id of its own.
fn repeatable(request: SaveRequest) -> SaveRequest {
    SaveRequest { request_id: request_id(), ..request }
}

/// For any version.
fn any(session: &Session) -> Session {
    Session { etag: "*".to_owned(), ..session.clone() }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Whether two answers say the same of a session, in every field. When it ends may be told a few milliseconds apart: a
/// Save tells when it shall end, Redis then knows when it does.
fn same(one: &Session, other: &Session) -> bool {
    let end = |session: &Session| {
        let end = session.expire_time.as_ref().expect("it is told");
        end.seconds * 1000 + i64::from(end.nanos) / 1_000_000
    };
    let alike = Session { expire_time: one.expire_time, ..other.clone() };
    alike == *one && (end(one) - end(other)).abs() <= 10
}

/// How often the session was saved, as its etag counts (which is no one's business but a test's).
fn version(session: &Session) -> u64 {
    u64::from_str_radix(session.etag.split_once('-').expect("version and mark").0, 16).expect("a number")
}

/// The newest etag after so many Saves by someone else.
async fn others_save(stub: &mut Stub, session: &Session, times: usize) -> Session {
    let mut newest = session.clone();
    for n in 0..times {
        newest = stub.store(change(&newest, &["theirs"], j!({ "theirs": n }))).await.unwrap();
    }
    newest
}
