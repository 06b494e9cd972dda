//! What is refused, with which code and reason, and that nothing is written then.
//!
//! - `data`: sizes, depths, and bytes that are no JSON object.
//! - `modes`: how an update says what it changes, and that nothing is ever emptied by omission.
//! - `fields`: every other field, and what a cookie could carry.
//! - `bytes`: requests that are none.
//! - `outages`: a store that is dead, frozen or full, a server that has too much to do; and every reason there is.

mod bytes;
mod data;
mod fields;
mod modes;
pub(crate) mod outages;

use serde_json::json as j;
use sessiond_proto::v1::{OpenRequest, SaveRequest, Session};
use sessiond_tests::{Calls, Stub, World, create, reason};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A session that lives while others are refused, and what is stored of it: no refusal may change that.
struct Bystander {
    world: World,
    stub: Stub,
    session: Session,
    before: Traces,
}

/// All that can be seen of a session from outside, without renewing it; on Redis, what is stored.
#[derive(PartialEq)]
struct Traces {
    session: Option<Session>,
    stored: Option<(usize, Vec<u8>, i64)>,
}

impl Bystander {
    async fn of(world: World) -> Self {
        let mut stub = world.stub();
        let session = stub.store(create(j!({"who": "bystander"}))).await.unwrap();
        let before = traces(&world, &mut stub, &session).await;
        Self { world, stub, session, before }
    }

    /// It can still be opened, is as it was, and nothing else is stored.
    async fn is_untouched(&mut self) {
        let now = traces(&self.world, &mut self.stub, &self.session).await;
        assert!(now == self.before, "something was written");
    }

    /// The Save is refused for these fields, all of them named, and nothing is written.
    async fn refuses(&mut self, request: SaveRequest, fields: &[&str]) -> Status {
        let status = self.refuses_as(request, Code::InvalidArgument, "INVALID_FIELD").await;
        assert_eq!(violations(&status), fields, "{}", status.message());
        status
    }

    /// The Save is refused so, and nothing is written.
    async fn refuses_as(&mut self, request: SaveRequest, code: Code, why: &str) -> Status {
        let status = self.stub.store(request).await.expect_err("it is refused");
        assert_eq!((status.code(), &reason(&status)[..]), (code, why), "{status:?}");
        self.is_untouched().await;
        status
    }

    /// The Save is refused as too large, with the limit in the metadata, and nothing is written.
    async fn refuses_as_too_large(&mut self, request: SaveRequest, limit: usize) {
        let status = self.refuses_as(request, Code::InvalidArgument, "SESSION_TOO_LARGE").await;
        assert_eq!(limit_bytes(&status), limit.to_string());
    }
}

async fn traces(world: &World, stub: &mut Stub, session: &Session) -> Traces {
    let opened = stub.open(OpenRequest { id: session.id.clone(), no_renew: true }).await.unwrap();
    let mut stored = None;
    if let Some(redis) = &world.redis {
        let key = format!("session:default:{}", session.handle);
        let record: Vec<u8> = redis.command(&["GET", &key]).await;
        assert!(!record.is_empty(), "{key} is not where it was");
        stored = Some((redis.command(&["DBSIZE"]).await, record, redis.command(&["PEXPIRETIME", &key]).await));
    }
    Traces { session: opened.into_inner().session, stored }
}

/// The fields that a refusal names.
fn violations(status: &Status) -> Vec<String> {
    let request = status.get_details_bad_request();
    let violations = request.map_or_else(Vec::new, |request| request.field_violations);
    assert!(violations.iter().all(|violation| !violation.description.is_empty()), "{status:?} says nothing");
    violations.into_iter().map(|violation| violation.field).collect()
}

/// The limit that a refusal names.
fn limit_bytes(status: &Status) -> String {
    status.get_details_error_info().and_then(|info| info.metadata.get("limit_bytes").cloned()).unwrap_or_default()
}
