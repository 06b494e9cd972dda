//! Redis as it is run: over TLS, with users and passwords in files, behind Sentinels that ask for a password, with users of few
//! rights, and set up in ways that make it unfit or a risk.

mod confirms;
mod fitness;
mod rights;
mod ways;

use sessiond_tests::{Calls, Server, create};

/// A whole life: what is created opens, and what is destroyed does not.
async fn lives(server: &Server) {
    server.ready().await;
    let mut stub = server.stub();
    let session = stub.store(create(serde_json::json!({"cart": ["tea"]}))).await.expect("it is created");
    assert!(stub.look(&session.id).await.is_some());
    stub.end(&session.id).await.expect("it is destroyed");
    assert!(stub.look(&session.id).await.is_none());
}
