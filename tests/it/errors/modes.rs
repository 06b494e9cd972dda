//! How a Save says what becomes of the data. An update names its mode, so that "nothing changed", a misspelled field or a lost
//! one never empties a session, and one form of request serves new and known visitors.

use serde_json::json as j;
use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{Calls, World, change, create, data, json, keep, on_both_stores, reason, replace};
use tonic::Code;

use super::Bystander;

on_both_stores!(
    nothing_changed_does_not_wipe_the_session,
    data_that_no_field_says_how_to_store_is_refused,
    an_update_that_changes_nothing_is_refused,
    a_login_with_empty_data_does_not_wipe_the_session,
    replace_all_replaces_the_whole_map,
    replace_all_needs_data_and_an_etag_and_no_key_names,
    a_changed_key_that_data_lacks_is_refused_by_name,
    removed_keys_are_removed_and_nothing_else,
    a_key_is_either_stored_or_removed,
    an_empty_etag_means_any_version,
    one_form_of_request_creates_and_updates,
    a_create_whose_changed_keys_do_not_fit_its_data_is_refused,
);

fn names(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// A Save as an application sends it that puts its opened session into the request and fills in nothing else.
fn as_opened(session: &Session, json: serde_json::Value) -> SaveRequest {
    SaveRequest { session: Some(Session { data: Some(data(json)), ..session.clone() }), ..Default::default() }
}

fn rotated(request: SaveRequest) -> SaveRequest {
    SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..request }
}

async fn nothing_changed_does_not_wipe_the_session(world: World) {
    let mut bystander = Bystander::of(world).await;
    let unchanged = SaveRequest { changed_keys: Vec::new(), ..as_opened(&bystander.session, j!({})) };
    let status = bystander.refuses(unchanged, &["session.data"]).await;
    assert!(status.message().contains("leave data unset if nothing in it changed"), "{}", status.message());
}

async fn data_that_no_field_says_how_to_store_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    let blind = Session { etag: String::new(), ..session.clone() };
    for (request, meant) in [
        (as_opened(&session, j!({"a": 1})), "name the keys that changed in changed_keys"),
        (as_opened(&blind, j!({"a": 1})), "to replace the whole map, set replace_all"),
        (as_opened(&blind, j!({})), "to remove every key, set replace_all"),
        (rotated(as_opened(&session, j!({"a": 1}))), "name the keys that changed in changed_keys"),
        (
            SaveRequest { removed_keys: names(&["who"]), ..as_opened(&session, j!({"who": "bystander"})) },
            "leave data unset if only the removed_keys change",
        ),
    ] {
        let status = bystander.refuses(request, &["session.data"]).await;
        assert!(status.message().contains(meant), "{}", status.message());
    }
}

async fn an_update_that_changes_nothing_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    for session in [Session { etag: String::new(), ..session.clone() }, session] {
        for omit_data in [false, true] {
            let request = SaveRequest { omit_data, request_id: sessiond_tests::request_id(), ..keep(&session) };
            let status = bystander.refuses(request, &["request"]).await;
            assert!(status.message().contains("changes nothing"), "{}", status.message());
        }
    }
}

async fn a_login_with_empty_data_does_not_wipe_the_session(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    bystander.refuses(rotated(as_opened(&session, j!({}))), &["session.data"]).await;
    let signed_in = bystander.stub.store(rotated(keep(&session))).await.unwrap();
    assert_eq!((json(&signed_in.data.unwrap()), &signed_in.subject[..]), (j!({"who": "bystander"}), "ada"));
}

async fn replace_all_replaces_the_whole_map(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({"a": 1, "b": 2}))).await.unwrap();
    let second = stub.store(replace(&first, j!({"b": 3, "c": 4}))).await.unwrap();
    assert_eq!(json(second.data.as_ref().unwrap()), j!({"b": 3, "c": 4}));
    let stale = stub.store(replace(&first, j!({}))).await.unwrap_err();
    assert_eq!((stale.code(), &reason(&stale)[..]), (Code::Aborted, "SESSION_CHANGED"));
    let any = Session { etag: "*".to_owned(), ..first };
    let emptied = stub.store(replace(&any, j!({}))).await.unwrap();
    assert_eq!(json(&emptied.data.unwrap()), j!({}), "emptied, and stored so");
    assert!(stub.look(&any.id).await.is_some());
}

async fn replace_all_needs_data_and_an_etag_and_no_key_names(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    let whole = replace(&session, j!({"a": 1}));
    let blind = Session { etag: String::new(), ..session.clone() };
    for (request, fields) in [
        (SaveRequest { replace_all: true, ..keep(&session) }, &["session.data"][..]),
        (replace(&blind, j!({"a": 1})), &["session.etag"]),
        (SaveRequest { replace_all: true, ..keep(&blind) }, &["session.etag", "session.data"]),
        (SaveRequest { changed_keys: names(&["a"]), ..whole.clone() }, &["replace_all"]),
        (SaveRequest { removed_keys: names(&["b"]), ..whole.clone() }, &["replace_all"]),
        (SaveRequest { changed_keys: names(&["a"]), removed_keys: names(&["b"]), ..whole }, &["replace_all"]),
    ] {
        bystander.refuses(request, fields).await;
    }
}

async fn a_changed_key_that_data_lacks_is_refused_by_name(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    let changing = |keys: &[&str], json| SaveRequest { changed_keys: names(keys), ..as_opened(&session, json) };
    for (request, says) in [
        (changing(&["who"], j!({})), "\"who\""),
        (changing(&["a", "role"], j!({"a": 1})), "\"role\""),
        (changing(&["Who"], j!({"who": "me"})), "\"Who\""),
        (changing(&["7", "6", "5", "4", "3", "2", "1"], j!({"7": 1})), "\"1\", \"2\", \"3\", \"4\", \"5\" and 1 more"),
    ] {
        let status = bystander.refuses(request, &["changed_keys"]).await;
        assert!(status.message().contains(says), "{}", status.message());
        assert!(status.message().contains("name the key in removed_keys"), "{}", status.message());
    }
    let nothing = SaveRequest { changed_keys: names(&["who"]), ..keep(&session) };
    bystander.refuses(nothing, &["session.data"]).await;
    // A key of any length is named in few words.
    let long = "k".repeat(100_000);
    let status = bystander.refuses(changing(&[&long], j!({})), &["changed_keys"]).await;
    assert!(status.message().len() < 400, "{}", status.message().len());
}

async fn removed_keys_are_removed_and_nothing_else(world: World) {
    let mut stub = world.stub();
    let session = stub.store(create(j!({"role": "admin", "cart": ["tea"], "": 1}))).await.unwrap();
    let removing = |keys: &[&str]| SaveRequest { removed_keys: names(keys), ..keep(&session) };
    let saved = stub.store(removing(&["role", "role", "never there"])).await.unwrap();
    assert_eq!(json(&saved.data.unwrap()), j!({"cart": ["tea"], "": 1}));
    // A stale etag is no obstacle, and what is stored goes together with what is removed.
    let both = SaveRequest { removed_keys: names(&[""]), ..change(&session, &["cart"], j!({"cart": [], "x": 1})) };
    let saved = stub.store(both).await.unwrap();
    assert_eq!(json(&saved.data.unwrap()), j!({"cart": []}));
    let saved = stub.store(removing(&["cart"])).await.unwrap();
    assert_eq!(json(&saved.data.unwrap()), j!({}), "the last key goes, and the session stays");
}

async fn a_key_is_either_stored_or_removed(world: World) {
    let mut bystander = Bystander::of(world).await;
    let both = SaveRequest {
        removed_keys: names(&["b", "who"]),
        ..change(&bystander.session, &["a", "who"], j!({"a": 1, "who": 2}))
    };
    let status = bystander.refuses(both, &["removed_keys"]).await;
    assert!(status.message().contains("\"who\""), "{}", status.message());
}

async fn an_empty_etag_means_any_version(world: World) {
    let mut stub = world.stub();
    let first = stub.store(create(j!({"a": 1, "b": 1}))).await.unwrap();
    let blind = Session { etag: String::new(), ..first.clone() };
    stub.store(change(&first, &["a"], j!({"a": 2}))).await.unwrap();
    let saved = stub.store(change(&blind, &["b"], j!({"b": 2}))).await.unwrap();
    assert_eq!(json(&saved.data.unwrap()), j!({"a": 2, "b": 2}));
    let idle_timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let saved = stub.store(SaveRequest { idle_timeout, ..keep(&blind) }).await.unwrap();
    assert_eq!(saved.idle_timeout, idle_timeout);
    // What `omit_data` leaves an etag out of goes on without a trap.
    let mine = SaveRequest { omit_data: true, ..change(&first, &["a"], j!({"a": 3})) };
    let saved = stub.store(mine).await.unwrap();
    assert_eq!(saved.etag, "", "another writer was in between");
    let saved = stub.store(change(&saved, &["c"], j!({"c": 1}))).await.unwrap();
    let rotated = stub.store(rotated(keep(&Session { etag: String::new(), ..saved }))).await.unwrap();
    assert_eq!(json(&rotated.data.unwrap()), j!({"a": 3, "b": 2, "c": 1}));
}

async fn one_form_of_request_creates_and_updates(world: World) {
    let mut stub = world.stub();
    for (removed, replace_all) in [(&[][..], false), (&["old"], false), (&[], true), (&["cart"], true)] {
        let request = |session: &Session, json| SaveRequest {
            changed_keys: names(&["cart"]),
            removed_keys: names(removed),
            ..as_opened(session, json)
        };
        // A new visitor's first change stores all of data, and so that nothing that the application set is lost.
        let first = SaveRequest { replace_all, ..request(&Session::default(), j!({"cart": ["tea"], "seen": 1})) };
        let created = stub.store(first).await.unwrap();
        assert_eq!(json(created.data.as_ref().unwrap()), j!({"cart": ["tea"], "seen": 1}));
        if removed == ["cart"] {
            continue;
        }
        let changed = stub.store(request(&created, j!({"cart": ["milk"], "seen": 2}))).await.unwrap();
        assert_eq!(json(&changed.data.unwrap()), j!({"cart": ["milk"], "seen": 1}));
    }
}

async fn a_create_whose_changed_keys_do_not_fit_its_data_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    for request in [create(j!({"a": 1})), SaveRequest { replace_all: true, ..create(j!({"a": 1})) }] {
        let request = SaveRequest { changed_keys: names(&["a", "cart"]), ..request };
        let status = bystander.refuses(request, &["changed_keys"]).await;
        assert!(status.message().contains("\"cart\""), "{}", status.message());
    }
    let nothing = SaveRequest { changed_keys: names(&["a"]), ..keep(&Session::default()) };
    bystander.refuses(nothing, &["session.data"]).await;
}
