//! Requests of careless callers: of the contract as it was before `replace_all` and `removed_keys`, and of loaders that drop
//! what they do not know or what is misspelled. None of them removes anything that they do not name.
//!
//! Each round makes a well-meant request, drops a random part of it, sends it, and compares the stored session before and
//! after. A failure prints the seed and the request.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::Duration;
use serde_json::{Map, Value, json as j};
use sessiond_proto::v1::{SaveRequest, SaveResponse, Session};
use sessiond_tests::{Calls, Dice, Stub, World, create, data, is_outage, json, on_both_stores, reason, rounds};
use tonic::{Code, Status};

use crate::raw;

on_both_stores!(
    no_careless_request_removes_or_changes_what_it_does_not_name,
    an_update_that_says_nothing_of_what_it_changes_is_refused,
);

const KEYS: [&str; 6] = ["", "cart", "role", "theme", "user", "visits"];

type Content = Map<String, Value>;

/// The data of a stored session.
fn content(session: &Session) -> Content {
    match json(session.data.as_ref().expect("data is always set")) {
        Value::Object(content) => content,
        _ => unreachable!("data is an object"),
    }
}

fn any_content(dice: &mut Dice) -> Content {
    any_keys(dice).into_iter().map(|key| (key, any_value(dice))).collect()
}

fn any_value(dice: &mut Dice) -> Value {
    [j!(null), j!(""), j!({}), j!([]), j!("admin"), j!({"role": "admin"}), j!(dice.below(1000))][dice.below(7)].clone()
}

fn any_keys(dice: &mut Dice) -> Vec<String> {
    KEYS.iter().filter(|_| dice.below(5) < 2).map(|key| (*key).to_owned()).collect()
}

// ---- well-meant requests ---------------------------------------------------------------------------------------------

/// A request, and the keys that it is meant to remove and to do nothing else, if that is what it is for.
struct Meant {
    request: SaveRequest,
    removal: Option<Vec<String>>,
}

/// What a caller means to do, in the contract's words of today or of before.
fn meant(dice: &mut Dice, session: &Session, stale: &str) -> Meant {
    let mut after = content(session);
    let (mut request, mut removal) = (SaveRequest::default(), None);
    let mut held = true;
    match dice.below(8) {
        // Keys changed; at times others are removed in the same request.
        0 | 1 => {
            request.changed_keys = any_keys(dice);
            for key in &request.changed_keys {
                after.insert(key.clone(), any_value(dice));
            }
            if dice.once_in(2) {
                request.removed_keys = any_keys(dice);
                request.removed_keys.retain(|key| !request.changed_keys.contains(key));
            }
        }
        // A privilege is taken away, in every way that ever was one.
        2 | 3 => {
            let keys = match dice.once_in(2) {
                true => vec!["role".to_owned()],
                false => any_keys(dice),
            };
            after.retain(|key, _| !keys.contains(key));
            match dice.below(4) {
                0 => request.replace_all = true,
                1 => request.changed_keys = keys.clone(),
                _ => request.removed_keys = keys.clone(),
            }
            held = dice.once_in(2);
            removal = Some(keys);
        }
        // Everything replaced, or emptied.
        4 => {
            request.replace_all = true;
            after = if dice.once_in(2) { Content::new() } else { any_content(dice) };
        }
        // Nothing changed: all of the data or none of it comes back, and no key is named.
        5 => after = if dice.once_in(2) { Content::new() } else { after },
        // A login or a logout, with data that changed or not.
        6 => {
            request.rotate = true;
            request.subject = Some(["", "ada"][dice.below(2)].to_owned());
            if dice.once_in(2) {
                request.changed_keys = vec!["user".to_owned()];
                after.insert("user".to_owned(), any_value(dice));
            } else if dice.once_in(2) {
                after.clear();
            }
        }
        // Only the times.
        _ => held = false,
    }
    if dice.once_in(6) {
        request.idle_timeout = Some(Duration { seconds: 3600 + dice.below(3600) as i64, nanos: 0 });
        removal = None;
    }
    if dice.once_in(6) {
        request.lifetime = Some(Duration { seconds: 36_000 + dice.below(3600) as i64, nanos: 0 });
        removal = None;
    }
    let etag = [&session.etag[..], &session.etag, "*", "", stale, "W/\"1\""][dice.below(6)].to_owned();
    let held = held.then(|| data(Value::Object(after)));
    request.session = Some(Session { data: held, etag, id: session.id.clone(), ..Default::default() });
    request.omit_data = dice.once_in(6);
    Meant { request, removal }
}

// ---- what is lost on the way -----------------------------------------------------------------------------------------

/// Drops parts of a request, as a loader does that does not know the fields or their spelling: whole fields, and at times single
/// `names` of keys.
fn drop_some(dice: &mut Dice, request: &mut SaveRequest, names: bool) {
    let session = request.session.as_mut().expect("it was set");
    for part in 0..10 {
        if !dice.once_in(4) {
            continue;
        }
        match part {
            0 => session.data = None,
            // A plain object given as a Struct, which some libraries encode as an empty one.
            1 => session.data = session.data.take().map(|_| data(j!({}))),
            2 => session.etag.clear(),
            3 => request.changed_keys.clear(),
            4 => request.removed_keys.clear(),
            5 => request.replace_all = false,
            6 => request.rotate = false,
            7 => request.subject = None,
            8 => (request.idle_timeout, request.lifetime) = (None, None),
            // A name that is misspelled, and one that is lost.
            _ if names => {
                request.changed_keys.iter_mut().take(1).for_each(|key| key.push('s'));
                request.removed_keys.pop();
            }
            _ => {}
        }
    }
    if dice.once_in(20) {
        session.id.clear();
    }
}

/// Sends the request with what a careless caller may send along: fields that the schema does not know.
async fn send(dice: &mut Dice, world: &World, request: &SaveRequest) -> Result<Session, Status> {
    let unknown = [vec![], raw::varint(77, 1), raw::bytes(100, "changedKeys")][dice.below(3)].clone();
    let message = [request.encode_to_vec(), unknown].concat();
    let answer = raw::call(world.server.channel(), "Save", message).await?;
    Ok(SaveResponse::decode(answer).expect("a SaveResponse").session.expect("Save always sets the session"))
}

// ---- what may become of the session ----------------------------------------------------------------------------------

/// What the request says of the data: all of it replaced, or some keys stored and some removed.
fn applied(before: &Content, request: &SaveRequest) -> Content {
    let sent = request.session.as_ref().and_then(|session| session.data.as_ref());
    let sent = sent.map_or_else(Content::new, |data| match json(data) {
        Value::Object(sent) => sent,
        _ => unreachable!("data is an object"),
    });
    if request.replace_all {
        return sent;
    }
    let mut after = before.clone();
    for key in &request.changed_keys {
        after.insert(key.clone(), sent.get(key).expect("a changed key is held by the data").clone());
    }
    after.retain(|key, _| !request.removed_keys.contains(key));
    after
}

fn changes_nothing(request: &SaveRequest) -> bool {
    let SaveRequest { changed_keys, removed_keys, replace_all, rotate, subject, idle_timeout, lifetime, .. } = request;
    changed_keys.is_empty()
        && removed_keys.is_empty()
        && !(*replace_all || *rotate)
        && subject.is_none()
        && idle_timeout.is_none()
        && lifetime.is_none()
}

/// The request in words that show no id.
fn shown(request: &SaveRequest) -> String {
    let SaveRequest { changed_keys, removed_keys, replace_all, rotate, subject, .. } = request;
    let session = request.session.as_ref().expect("it was set");
    let data = session.data.as_ref().map(json);
    format!(
        "data {data:?}, changed_keys {changed_keys:?}, removed_keys {removed_keys:?}, replace_all {replace_all}, rotate \
         {rotate}, subject {subject:?}, etag {:?}, update {}",
        session.etag,
        !session.id.is_empty()
    )
}

// ---- the tests -------------------------------------------------------------------------------------------------------

/// A stored session, and an etag that is stale by now.
struct Stored {
    session: Session,
    stale: String,
}

impl Stored {
    async fn new(dice: &mut Dice, stub: &mut Stub) -> Self {
        let session = stub.store(create(Value::Object(any_content(dice)))).await.unwrap();
        Self { stale: session.etag.clone(), session }
    }

    /// Follows the session to its id and etag after a Save.
    async fn follow(&mut self, stub: &mut Stub, id: &str) {
        let session = stub.look(id).await.expect("the session is there");
        if session.etag != self.session.etag {
            self.stale = std::mem::replace(&mut self.session, session).etag;
        }
    }
}

async fn no_careless_request_removes_or_changes_what_it_does_not_name(world: World) {
    let mut dice = Dice::new("careless requests");
    let mut stub = world.stub();
    let mut stored = Stored::new(&mut dice, &mut stub).await;
    let mut counts = BTreeMap::<String, usize>::new();
    for round in 0..rounds(if world.redis.is_some() { 10_000 } else { 40_000 }) {
        if dice.once_in(10) {
            stored = Stored::new(&mut dice, &mut stub).await;
        }
        let Meant { mut request, removal } = meant(&mut dice, &stored.session, &stored.stale);
        if !dice.once_in(10) {
            drop_some(&mut dice, &mut request, removal.is_none());
        }
        let what = || format!("round {round}: {}", shown(&request));
        let before = stored.session.clone();
        let answer = send(&mut dice, &world, &request).await;
        let outcome = answer.as_ref().map_or_else(reason, |_| "OK".to_owned());
        *counts.entry(outcome).or_default() += 1;

        if answer.as_ref().is_err_and(is_outage) {
            // The machine stood still: whether the request was applied is not known.
            stored = Stored::new(&mut dice, &mut stub).await;
            continue;
        }
        let is_update = !request.session.as_ref().unwrap().id.is_empty();
        let saved = match answer {
            Ok(saved) => saved,
            Err(status) => {
                assert!(matches!(status.code(), Code::InvalidArgument | Code::Aborted), "{}: {status:?}", what());
                let after = stub.look(&before.id).await.expect("it is still there");
                assert!((&after.data, &after.etag) == (&before.data, &before.etag), "{}: something changed", what());
                continue;
            }
        };
        if !is_update {
            let created = stub.look(&saved.id).await.expect("it is there");
            assert_eq!(content(&created), content(request.session.as_ref().unwrap()), "{}", what());
            let after = stub.look(&before.id).await.expect("the other one is, too");
            assert!((&after.data, &after.etag) == (&before.data, &before.etag), "{}: another changed", what());
            continue;
        }
        assert!(!changes_nothing(&request), "{}: it says nothing of what it changes, and is answered OK", what());
        stored.follow(&mut stub, &saved.id).await;
        let subject = request.subject.as_ref().unwrap_or(&before.subject);
        assert_eq!(&stored.session.subject, subject, "{}", what());
        let (before, after) = (content(&before), content(&stored.session));
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            let named = request.replace_all || request.removed_keys.contains(key);
            assert!(named, "{}: {key:?} was removed, and nothing said so", what());
        }
        assert_eq!(after, applied(&before, &request), "{}", what());
        assert!(request.omit_data || content(&saved) == after, "{}: the answer differs", what());
        // Whoever only takes something away is not answered OK while it is there.
        for key in removal.iter().flatten() {
            assert!(!after.contains_key(key), "{}: {key:?} is still there", what());
        }
    }
    println!("{}: {counts:?}", world.name());
    for outcome in ["OK", "INVALID_FIELD", "SESSION_CHANGED"] {
        assert!(counts.contains_key(outcome), "no request was answered {outcome}: {counts:?}");
    }
}

async fn an_update_that_says_nothing_of_what_it_changes_is_refused(world: World) {
    let mut stub = world.stub();
    let session = stub.store(create(j!({"role": "admin", "cart": ["tea"]}))).await.unwrap();
    for held in [None, Some(j!({})), Some(j!({"cart": ["tea"]})), Some(j!({"role": "admin", "cart": ["tea"]}))] {
        for etag in [&session.etag[..], "*", "", "W/\"1\""] {
            for rotate in [false, true] {
                if rotate && held.is_none() {
                    continue;
                }
                let session = Session { data: held.clone().map(data), etag: etag.to_owned(), ..session.clone() };
                let request = SaveRequest { session: Some(session), rotate, ..Default::default() };
                let refused = stub.store(request).await.expect_err("it says nothing of what it changes");
                assert_eq!((refused.code(), &reason(&refused)[..]), (Code::InvalidArgument, "INVALID_FIELD"));
            }
        }
    }
    let after = stub.look(&session.id).await.unwrap();
    assert!((after.data, after.etag) == (session.data, session.etag), "something changed");
}
