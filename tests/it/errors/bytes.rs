//! Requests that are none: too many bytes, the wrong ones, or some that never come.

use std::time::Duration;

use serde_json::json as j;
use sessiond_tests::{World, on_both_stores, reason};
use tonic::{Code, Request, Status};

use super::{Bystander, limit_bytes};
use crate::raw;

on_both_stores!(
    a_message_over_a_mebibyte_is_refused_with_the_limit,
    bytes_that_are_no_message_are_refused,
    a_body_that_is_no_message_is_refused,
    an_empty_message_is_one_without_fields,
);

mod with_a_long_deadline {
    use super::*;
    on_both_stores!(
        with ["--deadline", "60s"],
        a_caller_that_never_ends_its_message_is_told_when_its_own_deadline_ends
    );
}

mod with_a_short_deadline {
    use super::*;
    on_both_stores!(
        with ["--deadline", "1s"],
        a_caller_that_never_ends_its_message_is_told_when_the_servers_deadline_ends
    );
}

const METHODS: [&str; 3] = ["Open", "Save", "Destroy"];

fn is(status: &Status, code: Code, why: &str) {
    assert_eq!((status.code(), &reason(status)[..]), (code, why), "{status:?}");
}

async fn a_message_over_a_mebibyte_is_refused_with_the_limit(world: World) {
    let mut bystander = Bystander::of(world).await;
    let limit = 1 << 20;
    // A field that nobody knows, which with tag and length makes a message of that size.
    let message = |size: usize| raw::bytes(1000, "x".repeat(size - 5));
    assert_eq!(message(limit).len(), limit);
    for method in METHODS {
        for size in [limit + 1, 3 * limit] {
            let status = raw::call(bystander.world.server.channel(), method, message(size)).await.unwrap_err();
            is(&status, Code::InvalidArgument, "SESSION_TOO_LARGE");
            assert_eq!(limit_bytes(&status), limit.to_string());
        }
    }
    bystander.is_untouched().await;
    raw::call(bystander.world.server.channel(), "Open", message(limit)).await.expect("what just fits is read");
}

async fn bytes_that_are_no_message_are_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    let not_utf_8 = raw::bytes(1, b"\xff\xfe");
    let cut = raw::bytes(1, "x".repeat(100))[..50].to_vec();
    let entry = raw::entry("a", raw::text("b"));
    let cut_entry = [raw::varint(1, 1), entry[..entry.len() - 1].to_vec()].concat();
    let every = |message: &[u8]| METHODS.map(|method| (method, message.to_vec())).to_vec();
    let mut requests = [
        every(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        every(b"GET / HTTP/1.1\r\n\r\n"),
        every(b"{\"id\": \"x\"}"),
        every(&cut),
        // The first field as a number, where all three have a string or a message.
        every(&raw::varint(1, 1)),
        every(&[raw::varint(20, 1), vec![0x0f]].concat()),
    ]
    .concat();
    requests.extend([
        ("Open", not_utf_8.clone()),
        ("Destroy", not_utf_8.clone()),
        // The message of another call, whose id is no session.
        ("Save", raw::bytes(1, "7".repeat(65))),
        // Data whose entries are groups, or end before their time; an etag that is a number.
        ("Save", raw::bytes(1, raw::bytes(2, raw::group(1, "")))),
        ("Save", raw::bytes(1, raw::bytes(2, cut_entry))),
        ("Save", raw::bytes(1, raw::bytes(2, &entry[..entry.len() - 1]))),
        ("Save", raw::bytes(1, raw::varint(3, 1))),
        // A name, a subject and a request id that are not UTF-8.
        ("Save", raw::bytes(2, b"\xff")),
        ("Save", raw::bytes(4, b"\xff")),
        ("Save", raw::bytes(6, b"\xff")),
    ]);
    for (method, message) in requests {
        let channel = bystander.world.server.channel();
        let Err(status) = raw::call(channel, method, message.clone()).await else {
            panic!("{method} took {message:02x?}")
        };
        is(&status, Code::InvalidArgument, "INVALID_FIELD");
    }
    bystander.is_untouched().await;
}

async fn a_body_that_is_no_message_is_refused(world: World) {
    let mut bystander = Bystander::of(world).await;
    for method in METHODS {
        // Nothing; half of a frame's head; a frame that says 100 bytes and has fewer; one that claims to be compressed.
        for body in ["", "\0\0", "\0\0\0\0\x64too short", "\x02\0\0\0\x01x"] {
            let status = raw::body(bystander.world.server.channel(), method, body).await;
            is(&status, Code::InvalidArgument, "INVALID_FIELD");
        }
    }
    bystander.is_untouched().await;
}

async fn an_empty_message_is_one_without_fields(world: World) {
    let mut bystander = Bystander::of(world).await;
    let channel = || bystander.world.server.channel();
    assert_eq!(raw::call(channel(), "Destroy", vec![]).await.unwrap(), "");
    // A session, in it data, and nothing in either.
    assert_eq!(raw::call(channel(), "Open", vec![]).await.unwrap()[..], raw::bytes(1, raw::bytes(2, "")));
    let status = raw::call(channel(), "Save", vec![]).await.unwrap_err();
    is(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(super::violations(&status), ["session"]);
    bystander.is_untouched().await;
    assert_eq!(sessiond_tests::json(&bystander.session.data.unwrap()), j!({"who": "bystander"}));
}

async fn a_caller_that_never_ends_its_message_is_told_when_its_own_deadline_ends(world: World) {
    never_ends(world, Some(Duration::from_secs(4))).await;
}

async fn a_caller_that_never_ends_its_message_is_told_when_the_servers_deadline_ends(world: World) {
    never_ends(world, None).await;
}

async fn never_ends(world: World, deadline: Option<Duration>) {
    let mut bystander = Bystander::of(world).await;
    let call = async |method| {
        let mut request = Request::new(tokio_stream::pending());
        deadline.into_iter().for_each(|deadline| request.set_timeout(deadline));
        raw::stream(bystander.world.server.channel(), method, request).await.unwrap_err()
    };
    let (a, b, c) = tokio::join!(call("Open"), call("Save"), call("Destroy"));
    [a, b, c].iter().for_each(|status| is(status, Code::DeadlineExceeded, "DEADLINE"));
    bystander.is_untouched().await;
}
