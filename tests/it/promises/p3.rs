//! P3: only ids the server minted open anything.

use std::sync::Arc;

use serde_json::json as j;
use sessiond::session::{App, SessionId};
use sessiond_proto::v1::{OpenRequest, SaveRequest, Session};
use sessiond_tests::{Calls, Dice, Stub, World, change, create, on_both_stores, reason, replace, request_id, rounds};
use tokio::task::JoinSet;

use super::{answer, key, open, refused};

on_both_stores!(
    p3_no_forged_id_opens_anything,
    p3_an_id_that_a_visitor_chose_is_never_adopted,
    p3_an_id_that_was_rotated_away_opens_nothing,
);

/// Forgers at a time.
const FORGERS: usize = 16;

async fn p3_no_forged_id_opens_anything(world: World) {
    let mut stub = world.stub();
    let mut living = Vec::new();
    let mut replaced = Vec::new();
    for n in 0..32 {
        let old = stub.store(create(j!({ "n": n }))).await.unwrap();
        living.push(if n % 2 == 0 {
            let rotate = SaveRequest { rotate: true, ..replace(&old, j!({ "n": n })) };
            replaced.push(old.id);
            stub.store(rotate).await.unwrap()
        } else {
            old
        });
    }
    let (living, replaced) = (Arc::new(living), Arc::new(replaced));
    let dice = Dice::new("forged ids");
    let mut forgers = JoinSet::new();
    for n in 0..FORGERS {
        let tries = rounds(100_000).div_ceil(FORGERS);
        forgers.spawn(forge_and_try(world.stub(), dice.split(n), tries, Arc::clone(&living), Arc::clone(&replaced)));
    }
    let tried: usize = forgers.join_all().await.into_iter().sum();
    for session in living.iter() {
        assert_eq!(open(&mut stub, &session.id).await.etag, session.etag, "untouched");
    }
    println!("P3: {tried} forged ids, opened 0");
}

/// Opens forged ids; some of them are tried with a Save and a Destroy, too. Gives how many it tried.
async fn forge_and_try(
    mut stub: Stub,
    mut dice: Dice,
    tries: usize,
    living: Arc<Vec<Session>>,
    replaced: Arc<Vec<String>>,
) -> usize {
    let empty = Session { data: Some(Default::default()), ..Default::default() };
    for _ in 0..tries {
        let (how, id) = loop {
            let (how, id) = forge(&mut dice, &living, &replaced);
            if living.iter().all(|session| session.id != id) {
                break (how, id);
            }
        };
        let (answer, _) = answer(&mut stub, &id, dice.once_in(2)).await;
        assert!(answer == empty, "{how}: an empty session, and nothing else said");
        // Without an id it would create.
        if dice.once_in(10) && !id.is_empty() {
            let any = Session { id: id.clone(), etag: "*".to_owned(), ..Default::default() };
            assert_eq!(refused(stub.store(change(&any, &["n"], j!({}))).await), "SESSION_NOT_FOUND", "{how}");
            // What a rotate has just replaced logs out, so that a racing logout wins.
            if how != "rotated away" {
                stub.end(&id).await.expect("Destroy of a wrong id is no error");
            }
        }
    }
    tries
}

/// An id that was never minted, or is no more, and how it was come by.
fn forge(dice: &mut Dice, living: &[Session], replaced: &[String]) -> (&'static str, String) {
    let id = &living[dice.below(living.len())].id;
    let other = &living[dice.below(living.len())].id;
    let (handle, secret) = id.split_once('.').unwrap();
    let at = dice.below(id.len());
    let with = |at: usize, new: char| format!("{}{new}{}", &id[..at], &id[at + 1..]);
    let byte = id.as_bytes()[at];
    let hyphenated = uuid::Uuid::try_parse(handle).unwrap().hyphenated().to_string();
    match dice.below(16) {
        0 => ("truncated", id[..at].to_owned()),
        1 => ("truncated in front", id[at + 1..].to_owned()),
        2 => ("with something behind", format!("{id}{}", ["A", "=", " ", "\n", "\0", ".", &id[..at]][dice.below(7)])),
        3 => ("with something in front", format!("{}{id}", [" ", "\t", "0", "session:", "\u{feff}"][dice.below(5)])),
        4 => ("in upper case", format!("{}.{secret}", handle.to_uppercase())),
        5 => {
            let flipped = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
            ("with one letter's case changed", with(at, flipped.into()))
        }
        6 => ("hyphenated", format!("{hyphenated}.{secret}")),
        7 => (
            "as another spelling of a UUID",
            format!("{}.{secret}", [format!("{{{hyphenated}}}"), format!("urn:uuid:{hyphenated}")][dice.below(2)]),
        ),
        8 => ("with one bit flipped", with(at, (byte ^ (1 << dice.below(7))).into())),
        9 => ("with one digit changed", with(at, char::from(b"0123456789abcdefABCXYZ-_"[dice.below(24)]))),
        10 | 11 => ("handle of one, secret of another", format!("{handle}.{}", other.split_once('.').unwrap().1)),
        12 => ("rotated away", replaced[dice.below(replaced.len())].clone()),
        13 => ("in the other base64", format!("{handle}.{}", secret.replace('-', "+").replace('_', "/"))),
        14 => ("joined otherwise", format!("{handle}{}{secret}", ["", ":", "%2E", "..", "\u{ff0e}"][dice.below(5)])),
        _ => {
            const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let guess: String = (0..32).map(|_| char::from(DIGITS[dice.below(64)])).collect();
            ("guessed", format!("{handle}.{guess}"))
        }
    }
}

async fn p3_an_id_that_a_visitor_chose_is_never_adopted(world: World) {
    let mut stub = world.stub();
    let chosen = format!("{}.{}", "0123456789abcdef".repeat(2), "AAAA".repeat(8));
    assert!(stub.look(&chosen).await.is_none());
    for etag in ["*", "1-0123456789abcdef"] {
        let session = Session { id: chosen.clone(), etag: etag.to_owned(), ..Default::default() };
        for save in [replace(&session, j!({"a": 1})), change(&session, &["a"], j!({"a": 1}))] {
            for rotate in [false, true] {
                let save = SaveRequest { rotate, request_id: request_id(), ..save.clone() };
                assert_eq!(refused(stub.store(save).await), "SESSION_NOT_FOUND");
            }
        }
    }
    // Nor as the name of a new one.
    let session = Session { id: chosen.clone(), ..Default::default() };
    assert_eq!(refused(stub.store(replace(&session, j!({"a": 1}))).await), "INVALID_FIELD");
    assert!(stub.look(&chosen).await.is_none());
    let handle = Session { handle: chosen[..32].to_owned(), ..Default::default() };
    let made = stub.store(replace(&handle, j!({"a": 1}))).await.unwrap();
    assert_ne!(made.handle, handle.handle, "what is output only is not read");
}

async fn p3_an_id_that_was_rotated_away_opens_nothing(world: World) {
    let mut stub = world.stub();
    let old = stub.store(create(j!({"a": 1}))).await.unwrap();
    let new = stub.store(SaveRequest { rotate: true, ..replace(&old, j!({"a": 2})) }).await.unwrap();
    assert_eq!((old.handle, &old.id[..32]), (new.handle.clone(), &new.id[..32]), "the public name stays");
    assert_ne!(old.id, new.id);
    assert!(stub.look(&old.id).await.is_none(), "from the next call on");
    assert_eq!(open(&mut stub, &new.id).await.etag, new.etag);
}

/// Whoever can write to Redis can destroy, but not make an id open another session than its own.
#[tokio::test]
async fn p3_a_record_copied_under_another_handle_opens_nothing() {
    let world = World::redis(&[]).await;
    let (redis, mut stub) = (world.redis.as_ref().unwrap(), world.stub());
    let mine = stub.store(create(j!({"whose": "mine"}))).await.unwrap();
    let theirs = stub.store(create(j!({"whose": "theirs"}))).await.unwrap();

    assert_eq!(redis.command::<u64>(&["COPY", &key(&theirs), &key(&mine), "REPLACE"]).await, 1);
    let crossed = format!("{}.{}", mine.handle, theirs.id.split_once('.').unwrap().1);
    for id in [&mine.id, &crossed] {
        // A record that names another handle is a reply gone astray: nobody can tell whether the session is there.
        let answer = stub.open(OpenRequest { id: id.clone(), no_renew: false }).await;
        assert_eq!(reason(&answer.expect_err("it opens nothing")), "STORE_UNAVAILABLE");
    }
    assert_eq!(super::stored(&open(&mut stub, &theirs.id).await), j!({"whose": "theirs"}), "the next call is answered");

    // Under a handle that is nobody's.
    let nobodys = "0".repeat(32);
    let copied = redis.command::<u64>(&["COPY", &key(&theirs), &format!("session:default:{nobodys}")]).await;
    assert_eq!(copied, 1);
    let crossed = format!("{nobodys}.{}", theirs.id.split_once('.').unwrap().1);
    assert!(stub.open(OpenRequest { id: crossed, no_renew: false }).await.is_err());
}

/// The hash in a record is for one application: the very same id and handle open nothing in another.
#[tokio::test]
async fn p3_a_record_of_another_application_opens_nothing_under_the_same_handle() {
    const HASH: usize = 74;
    let world = World::redis(&[]).await;
    let (redis, mut stub) = (world.redis.as_ref().unwrap(), world.stub());
    let session = stub.store(create(j!({"a": 1}))).await.unwrap();
    let id = SessionId::parse(&session.id).unwrap();
    let hash = |app: &App| id.secret.hash(app, id.handle).0;
    let set = async |hash: [u8; 32]| {
        let mut command = ::redis::cmd("SETRANGE");
        command.arg(key(&session)).arg(HASH).arg(&hash);
        command.exec_async(&mut redis.connection().await).await.unwrap();
    };
    let record: Vec<u8> = redis.command(&["GET", &key(&session)]).await;
    assert_eq!(record[HASH..HASH + 32], hash(&App::unnamed()), "here the record keeps the hash");

    set(hash(&App::new("other").unwrap())).await;
    assert!(stub.look(&session.id).await.is_none());
    assert_eq!(refused(stub.store(change(&session, &["a"], j!({}))).await), "SESSION_NOT_FOUND");
    stub.end(&session.id).await.unwrap();

    set(hash(&App::unnamed())).await;
    assert_eq!(open(&mut stub, &session.id).await.etag, session.etag, "none of it changed anything");
}
