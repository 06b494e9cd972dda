//! Fields that are wrong by themselves, fields that contradict each other, and whatever a cookie could carry.

use prost_types::Duration;
use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, OpenRequest, SaveRequest, Session};
use sessiond_tests::{Calls, World, change, create, json, keep, on_both_stores, reason, replace};
use tonic::Code;

use super::Bystander;

on_both_stores!(
    a_duration_that_is_out_of_range_or_too_short_is_refused,
    an_idle_timeout_above_the_ceiling_is_cut,
    a_subject_has_at_most_256_bytes,
    a_subject_does_not_change_without_a_rotate,
    a_subject_in_the_session_of_a_create_is_refused,
    key_names_are_at_most_1024,
    what_the_wire_forbids_is_refused,
    all_that_is_wrong_is_named_at_once,
    a_request_id_is_a_random_uuid,
    an_etag_that_cannot_be_read_is_stale,
    whatever_a_cookie_carries_is_no_error_to_open_or_destroy,
);

const MAX_IDLE: i64 = 31 * 24 * 3600;

fn lasting(request: SaveRequest, seconds: i64, nanos: i32) -> SaveRequest {
    SaveRequest { idle_timeout: Some(Duration { seconds, nanos }), ..request }
}

async fn a_duration_that_is_out_of_range_or_too_short_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    for (seconds, nanos) in [
        (0, 0),
        (0, 999_999_999),
        (-1, 0),
        (-1, -500_000_000),
        (0, -1),
        (i64::MIN, 0),
        // Nanoseconds that are no fraction of a second, or of another sign.
        (1, -1),
        (2, 1_000_000_000),
        (3600, i32::MAX),
        (3600, i32::MIN),
        // More than ten thousand years.
        (315_576_000_001, 0),
        (i64::MAX, 0),
    ] {
        let session = bystander.session.clone();
        for request in [create(j!({})), replace(&session, j!({})), change(&session, &["a"], j!({"a": 1}))] {
            let lifetime = Some(Duration { seconds, nanos });
            bystander.refuses(SaveRequest { lifetime, ..request.clone() }, &["lifetime"]).await;
            bystander.refuses(lasting(request, seconds, nanos), &["idle_timeout"]).await;
        }
    }
}

async fn an_idle_timeout_above_the_ceiling_is_cut(world: World) {
    let mut stub = world.stub();
    let cut = Some(Duration { seconds: MAX_IDLE, nanos: 0 });
    for seconds in [MAX_IDLE + 1, 315_576_000_000] {
        let saved = stub.store(lasting(create(j!({})), seconds, 0)).await.unwrap();
        assert_eq!(saved.idle_timeout, cut, "the answer tells");
        assert_eq!(stub.look(&saved.id).await.unwrap().idle_timeout, cut);
        let short = stub.store(lasting(replace(&saved, j!({})), 1, 0)).await.unwrap();
        assert_eq!(short.idle_timeout, Some(Duration { seconds: 1, nanos: 0 }), "one second is enough");
        let long = stub.store(lasting(replace(&short, j!({})), seconds, 0)).await.unwrap();
        assert_eq!(long.idle_timeout, cut);
    }
}

fn of(subject: &str, request: SaveRequest) -> SaveRequest {
    SaveRequest { subject: Some(subject.to_owned()), ..request }
}

async fn a_subject_has_at_most_256_bytes(world: World) {
    let mut bystander = Bystander::of(world).await;
    for subject in ["x".repeat(257), "é".repeat(129), "x".repeat(10 << 10)] {
        let rotate = SaveRequest { rotate: true, ..replace(&bystander.session, j!({})) };
        bystander.refuses(of(&subject, create(j!({}))), &["subject"]).await;
        bystander.refuses(of(&subject, rotate), &["subject"]).await;
    }
    for subject in ["x".repeat(256), "é".repeat(128), "\0\r\n\u{10ffff}".to_owned()] {
        let saved = bystander.stub.store(of(&subject, create(j!({})))).await.unwrap();
        assert_eq!(bystander.stub.look(&saved.id).await.unwrap().subject, subject);
    }
}

async fn a_subject_does_not_change_without_a_rotate(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    bystander.refuses(of("ada", replace(&session, j!({}))), &["subject"]).await;
    bystander.refuses(of("ada", change(&session, &["a"], j!({"a": 1}))), &["subject"]).await;
    // The one it has already is no change; with a rotate, another one is fine.
    let stub = &mut bystander.stub;
    let session = stub.store(of("", replace(&session, j!({})))).await.unwrap();
    let ada = SaveRequest { rotate: true, ..of("ada", replace(&session, j!({}))) };
    let session = stub.store(ada).await.unwrap();
    let session = stub.store(of("ada", replace(&session, j!({})))).await.unwrap();
    for other in ["", "Ada"] {
        let refused = stub.store(of(other, replace(&session, j!({})))).await.unwrap_err();
        assert_eq!((refused.code(), super::violations(&refused)), (Code::InvalidArgument, vec!["subject".to_owned()]));
    }
    assert_eq!(stub.look(&session.id).await.unwrap().subject, "ada");
}

async fn a_subject_in_the_session_of_a_create_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    let mut request = create(j!({}));
    request.session.as_mut().unwrap().subject = "ada".to_owned();
    bystander.refuses(request.clone(), &["session.subject"]).await;
    bystander.refuses(of("ada", request), &["session.subject"]).await;
    // On update it is what Open gave, and ignored.
    let session = Session { subject: "mallory".to_owned(), ..bystander.session.clone() };
    assert_eq!(bystander.stub.store(replace(&session, j!({}))).await.unwrap().subject, "");
}

async fn key_names_are_at_most_1024(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    let names = |count: usize| (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>();
    let values = |count: usize| serde_json::Value::Object(names(count).into_iter().map(|key| (key, j!(1))).collect());
    let changing = |count: usize, request: SaveRequest| SaveRequest { changed_keys: names(count), ..request };
    let removing = |count: usize| SaveRequest { removed_keys: names(count), ..keep(&session) };
    for count in [1025, 100_000] {
        bystander.refuses(changing(count, create(j!({}))), &["changed_keys"]).await;
        bystander.refuses(changing(count, change(&session, &["k1"], j!({"k1": 1}))), &["changed_keys"]).await;
        bystander.refuses(removing(count), &["removed_keys"]).await;
    }
    let stub = &mut bystander.stub;
    let saved = stub.store(changing(1024, change(&session, &["k1"], values(1024)))).await.unwrap();
    assert_eq!(json(&saved.data.unwrap()).as_object().unwrap().len(), 1025);
    let saved = stub.store(removing(1024)).await.unwrap();
    assert_eq!(json(&saved.data.unwrap()), j!({"who": "bystander"}));
}

async fn what_the_wire_forbids_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = bystander.session.clone();
    let with = |session: Session| SaveRequest { session: Some(session), ..Default::default() };
    let of = |id: &str, etag: &str, from: SaveRequest| {
        let (id, etag) = (id.to_owned(), etag.to_owned());
        with(Session { id, etag, ..from.session.unwrap() })
    };
    let full = replace(&session, j!({"a": 1}));
    for (what, request, fields) in [
        ("no session", SaveRequest::default(), ["session"]),
        ("an etag without an id", of("", &session.etag, full.clone()), ["session.id"]),
        ("any etag without an id", of("", "*", full), ["session.id"]),
        ("a create without data", with(Session::default()), ["session.data"]),
    ] {
        println!("{what}");
        bystander.refuses(request, &fields).await;
    }
}

async fn all_that_is_wrong_is_named_at_once(world: World) {
    let mut bystander = Bystander::of(world).await;
    let session = Session { id: bystander.session.id.clone(), ..Default::default() };
    let request = SaveRequest {
        session: Some(session),
        changed_keys: vec!["a".to_owned()],
        removed_keys: vec!["a".to_owned()],
        subject: Some("x".repeat(257)),
        idle_timeout: Some(Duration { seconds: 0, nanos: 0 }),
        lifetime: Some(Duration { seconds: 0, nanos: 1 }),
        request_id: "1".to_owned(),
        ..Default::default()
    };
    let fields = ["subject", "idle_timeout", "lifetime", "request_id", "removed_keys", "session.data"];
    bystander.refuses(request, &fields).await;
}

async fn a_request_id_is_a_random_uuid(world: World) {
    let mut bystander = Bystander::of(world).await;
    let v4 = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    for wrong in [
        "1",
        " ",
        "f47ac10b-58cc-4372-a567-0e02b2c3d47",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479 ",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        // Versions 1, 5 and 7: guessable, or the same again.
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "2ed6657d-e927-568b-95e1-2665a8aea6a2",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        // A trace id.
        "4bf92f3577b34da6a3ce929d0e0e4736f0",
    ] {
        let session = bystander.session.clone();
        for request in [create(j!({})), replace(&session, j!({}))] {
            let request = SaveRequest { request_id: wrong.to_owned(), ..request };
            let status = bystander.refuses(request, &["request_id"]).await;
            assert!(wrong.len() < 2 || !status.message().contains(wrong), "it is secret, and not to be quoted");
        }
    }
    let request = SaveRequest { request_id: v4.to_owned(), ..create(j!({})) };
    bystander.stub.store(request).await.unwrap();
}

async fn an_etag_that_cannot_be_read_is_stale(world: World) {
    let mut bystander = Bystander::of(world).await;
    let id = bystander.session.id.clone();
    for etag in ["x", " ", "\"", "W/\"1\"", "**", "1", "\0", "é", &"9".repeat(64), &"x".repeat(10_000)] {
        let session = Session { etag: etag.to_owned(), ..bystander.session.clone() };
        bystander.refuses_as(replace(&session, j!({})), Code::Aborted, "SESSION_CHANGED").await;
        let destroy = DestroyRequest { id: id.clone(), etag: etag.to_owned() };
        let status = bystander.stub.destroy(destroy).await.unwrap_err();
        assert_eq!((status.code(), &reason(&status)[..]), (Code::Aborted, "SESSION_CHANGED"));
        bystander.is_untouched().await;
    }
}

async fn whatever_a_cookie_carries_is_no_error_to_open_or_destroy(world: World) {
    let mut bystander = Bystander::of(world).await;
    let id = bystander.session.id.clone();
    let (handle, secret) = id.split_once('.').unwrap();
    let parts = [&handle[..8], &handle[8..12], &handle[12..16], &handle[16..20], &handle[20..]];
    let hyphenated = parts.join("-");
    let padded = format!("{id}=");
    for cookie in [
        "",
        " ",
        "0",
        "null",
        "undefined",
        "\0",
        &"\0".repeat(65),
        &"x".repeat(65),
        &"x".repeat(8 << 10),
        &format!("{id}{}", "x".repeat(8 << 10)),
        "séßión-ключ-会话-🍪",
        &"🍪".repeat(65),
        &format!("{hyphenated}.{secret}"),
        &format!("{{{hyphenated}}}.{secret}"),
        &format!("urn:uuid:{hyphenated}.{secret}"),
        &format!("{}.{secret}", handle.to_uppercase()),
        &id.to_uppercase(),
        &format!("{handle}.{}", secret.to_lowercase()),
        handle,
        &format!("{handle}."),
        &format!(".{secret}"),
        secret,
        &id[..64],
        &format!("{id}\0"),
        &format!("{id} "),
        &format!(" {id}"),
        &format!("{id}\r\n"),
        &format!("\"{id}\""),
        &format!("{handle}%2E{secret}"),
        &padded,
        &id.replacen('.', "\0", 1),
        &format!("{secret}.{handle}"),
        "*",
        "../../etc/passwd",
        "session:default:*",
        "'; FLUSHALL; --",
    ] {
        let opened = bystander.stub.open(OpenRequest { id: cookie.to_owned(), no_renew: false }).await;
        let session = opened.expect("Open of anything is OK").into_inner().session.expect("it sets the session");
        let empty = Session { data: Some(Default::default()), ..Default::default() };
        assert!(session == empty, "Open of {cookie:?} is a new session");

        bystander.stub.end(cookie).await.expect("Destroy of anything is OK");
        let destroy = DestroyRequest { id: cookie.to_owned(), etag: bystander.session.etag.clone() };
        bystander.stub.destroy(destroy).await.expect("with an etag, too");
        bystander.is_untouched().await;
        // Without an id, Save is a create.
        if cookie.is_empty() {
            continue;
        }
        for etag in [bystander.session.etag.clone(), "*".to_owned()] {
            let session = Session { id: cookie.to_owned(), etag, ..Default::default() };
            let blind = Session { etag: String::new(), ..session.clone() };
            for request in [
                replace(&session, j!({"a": 1})),
                change(&session, &["a"], j!({"a": 1})),
                change(&blind, &["a"], j!({})),
                SaveRequest { rotate: true, ..keep(&session) },
            ] {
                bystander.refuses_as(request, Code::NotFound, "SESSION_NOT_FOUND").await;
            }
        }
    }
}
