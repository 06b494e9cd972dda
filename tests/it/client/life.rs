//! Everything that can be asked of a session, against the real service on both stores.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json as j};
use sessiond_client::{Error, Map, Save, Session, Value};
use sessiond_tests::{World, eventually, on_both_stores, poll_pause};

use super::{SessionClient, client_of, id};

on_both_stores!(
    what_is_saved_is_what_is_opened,
    a_save_given_again_is_one_and_a_clone_is_another,
    a_change_is_its_keys_and_nothing_else,
    the_whole_is_replaced_only_if_nobody_was_faster,
    a_rotate_gives_a_new_id_and_the_old_one_is_dead,
    who_is_signed_in_changes_with_the_id,
    an_idle_timeout_is_kept_and_cut,
    a_destroyed_session_stays_so,
    a_session_that_was_not_opened_can_be_changed,
    opening_renews_and_peeking_does_not,
);

/// The data of a session as one value, to be compared.
fn json(session: &Session) -> Json {
    session.data().iter().map(|(key, value)| (key.clone(), value.to::<Json>().expect("JSON"))).collect()
}

/// What the session is for whoever opens it now.
async fn stored(client: &SessionClient, session: &Session) -> Session {
    let opened = client.peek(session.id()).await.unwrap().expect("it is there");
    assert_eq!((opened.handle(), opened.create_time()), (session.handle(), session.create_time()));
    opened
}

async fn what_is_saved_is_what_is_opened(world: World) {
    let client = client_of(&world);
    let cart = BTreeMap::from([("tea", 2), ("milk", 1)]);
    let save = Save::create()
        .set("cart", &cart)
        .and_then(|save| save.set("visits", &((1_u64 << 53) - 1)))
        .and_then(|save| save.set("rate", &-0.25))
        .and_then(|save| save.set("name", "Ada \u{1f980}"))
        .and_then(|save| save.set("nobody", &None::<u8>))
        .and_then(|save| save.set("pair", &(true, 'x')))
        .unwrap();
    let saved = client.save(save).await.unwrap();
    let opened = client.open(saved.id()).await.unwrap().expect("it was saved");
    for session in [&saved, &opened] {
        assert_eq!(session.get::<BTreeMap<String, u8>>("cart").unwrap().unwrap()["tea"], 2);
        assert_eq!(session.get("visits").unwrap(), Some((1_u64 << 53) - 1));
        assert_eq!(session.get("rate").unwrap(), Some(-0.25));
        assert_eq!(session.get("name").unwrap(), Some("Ada \u{1f980}".to_owned()));
        assert_eq!(session.get::<Option<u8>>("nobody").unwrap(), Some(None));
        assert_eq!(session.get("pair").unwrap(), Some((true, 'x')));
        assert_eq!(session.get::<String>("nothing").unwrap(), None);
        assert!(session.get::<String>("cart").is_err(), "it is no text");
        assert_eq!((session.handle(), session.subject()), (saved.id().handle(), None));
        assert!(session.expire_time() > session.create_time());
    }
    assert!(saved.data() == opened.data());
    assert!(client.open(&id()).await.unwrap().is_none() && client.peek(&id()).await.unwrap().is_none());

    let too_big = Save::create().set("number", &(1_u64 << 54)).expect_err("a double would round it");
    assert!(too_big.to_string().contains("2^53"), "{too_big}");
}

async fn a_save_given_again_is_one_and_a_clone_is_another(world: World) {
    let client = client_of(&world);
    let create = Save::create().set("a", &1).unwrap();
    let (again, clone) = (create.again(), create.clone());
    let once = client.save(create).await.unwrap();
    let twice = client.save(again).await.unwrap();
    assert!(once.id() == twice.id());
    assert!(client.save(clone).await.unwrap().id() != once.id(), "two visitors must not meet in one session");
    let rotate = once.change().rotate();
    let again = rotate.again();
    let once = client.save(rotate).await.unwrap();
    let twice = client.save(again).await.unwrap();
    assert!(once.id() == twice.id());
    assert_eq!(json(&stored(&client, &twice).await), j!({"a": 1}));
}

async fn a_change_is_its_keys_and_nothing_else(world: World) {
    let client = client_of(&world);
    let first = client.save(Save::create().set("a", &1).unwrap().set("b", &1).unwrap()).await.unwrap();
    // Somebody else, who opened it at the same time.
    let others = client.save(first.change().set("a", &2).unwrap().set("c", &2).unwrap()).await.unwrap();
    assert_eq!(json(&others), j!({"a": 2, "b": 1, "c": 2}));
    // What others did does not refuse it, and its answer knows what it knew.
    let ours = client.save(first.change().set("b", &3).unwrap().remove("a").remove("none")).await.unwrap();
    assert_eq!(json(&ours), j!({"b": 3}));
    let now = stored(&client, &ours).await;
    assert_eq!(json(&now), j!({"b": 3, "c": 2}));
    // Nor does it hold what others wrote for its own when it goes on.
    let further = client.save(ours.change().set("d", &4).unwrap()).await.unwrap();
    assert_eq!(json(&stored(&client, &further).await), j!({"b": 3, "c": 2, "d": 4}));
    // The last word of several on one key.
    let last = client.save(further.change().set("d", &5).unwrap().remove("d").set("d", &6).unwrap()).await.unwrap();
    assert_eq!(last.get("d").unwrap(), Some(6));
    assert_eq!(json(&stored(&client, &last).await)["d"], 6);
}

async fn the_whole_is_replaced_only_if_nobody_was_faster(world: World) {
    let client = client_of(&world);
    let data = |n: i32| Map::from([("n".to_owned(), Value::of(&n).unwrap())]);
    let first = client.save(Save::create().replace_data(data(1)).set("more", "too").unwrap()).await.unwrap();
    assert_eq!(json(&first), j!({"n": 1, "more": "too"}));
    let second = client.save(first.change().replace_data(data(2))).await.unwrap();
    assert_eq!(json(&second), j!({"n": 2}));
    let late = client.save(first.change().replace_data(data(3))).await.unwrap_err();
    assert!(matches!(late, Error::Changed), "{late:?}");
    // By a change of keys it is not known any more what is stored: then nothing whole can be written over it.
    let blind = client.save(first.change().set("k", &1).unwrap()).await.unwrap();
    let unknown = client.save(blind.change().replace_data(data(4))).await.unwrap_err();
    assert!(matches!(unknown, Error::Changed), "{unknown:?}");
    assert_eq!(json(&stored(&client, &first).await), j!({"n": 2, "k": 1}));
    let newest = stored(&client, &first).await;
    let emptied = client.save(newest.change().replace_data(Map::new())).await.unwrap();
    assert_eq!(json(&stored(&client, &emptied).await), j!({}));
}

async fn a_rotate_gives_a_new_id_and_the_old_one_is_dead(world: World) {
    let client = client_of(&world);
    let old = client.save(Save::create().set("a", &1).unwrap()).await.unwrap();
    let new = client.save(old.change().rotate().set("b", &2).unwrap()).await.unwrap();
    assert!(new.id() != old.id());
    assert_eq!(new.handle(), old.handle());
    assert_eq!((json(&new), json(&stored(&client, &new).await)), (j!({"a": 1, "b": 2}), j!({"a": 1, "b": 2})));
    assert!(client.open(old.id()).await.unwrap().is_none());
    let dead = client.save(old.change().set("c", &3).unwrap()).await.unwrap_err();
    assert!(matches!(dead, Error::NotFound), "{dead:?}");
    assert!(client.was_replaced(old.id()).await.unwrap());
    assert!(!client.was_replaced(&id()).await.unwrap(), "that one never was");
    // Whoever asked has changed nothing.
    let only_rotated = client.save(new.change().rotate()).await.unwrap();
    assert_eq!(json(&stored(&client, &only_rotated).await), j!({"a": 1, "b": 2}));
    client.destroy(only_rotated.id()).await.unwrap();
    assert!(!client.was_replaced(only_rotated.id()).await.unwrap(), "it was destroyed");
}

async fn who_is_signed_in_changes_with_the_id(world: World) {
    let client = client_of(&world);
    let visitor = client.save(Save::create()).await.unwrap();
    assert_eq!((visitor.subject(), json(&visitor)), (None, j!({})));
    let ada = client.save(visitor.change().rotate().subject("ada")).await.unwrap();
    assert_eq!((ada.subject(), stored(&client, &ada).await.subject()), (Some("ada"), Some("ada")));
    // The same one again changes nothing.
    client.save(ada.change().subject("ada")).await.unwrap();
    let nobody = client.save(ada.change().rotate().subject("")).await.unwrap();
    assert_eq!((nobody.subject(), stored(&client, &nobody).await.subject()), (None, None));
    let bob = client.save(Save::create().subject("bob")).await.unwrap();
    assert_eq!(bob.subject(), Some("bob"));
}

async fn an_idle_timeout_is_kept_and_cut(world: World) {
    let client = client_of(&world);
    let minute = client.save(Save::create().idle_timeout(Duration::from_millis(60_500))).await.unwrap();
    assert_eq!(minute.idle_timeout(), Duration::from_millis(60_500));
    // Redis counts from its own view of now, at times a millisecond off.
    let life = minute.expire_time().duration_since(minute.create_time()).unwrap();
    assert!(life.abs_diff(minute.idle_timeout()) <= Duration::from_millis(2), "{life:?}");
    let kept = client.save(minute.change().set("a", &1).unwrap()).await.unwrap();
    assert_eq!(kept.idle_timeout(), minute.idle_timeout());
    let longest = client.save(kept.change().idle_timeout(Duration::MAX)).await.unwrap();
    assert!(
        longest.idle_timeout() > minute.idle_timeout() && longest.idle_timeout() < Duration::from_secs(1_000_000_000)
    );
    assert_eq!(stored(&client, &longest).await.idle_timeout(), longest.idle_timeout());
}

async fn a_destroyed_session_stays_so(world: World) {
    let client = client_of(&world);
    let session = client.save(Save::create().set("a", &1).unwrap()).await.unwrap();
    let newer = client.save(session.change().set("a", &2).unwrap()).await.unwrap();
    let changed = client.destroy_unchanged(&session).await.unwrap_err();
    assert!(matches!(changed, Error::Changed), "{changed:?}");
    // One whose last Save did not learn what is stored was changed as well, by whoever wrote that.
    let blind = client.save(session.change().set("b", &1).unwrap()).await.unwrap();
    assert!(matches!(client.destroy_unchanged(&blind).await, Err(Error::Changed)));
    let newest = stored(&client, &newer).await;
    client.destroy_unchanged(&newest).await.unwrap();
    assert!(client.open(newest.id()).await.unwrap().is_none());

    let session = client.save(Save::create()).await.unwrap();
    client.save(session.change().set("a", &2).unwrap()).await.unwrap();
    client.destroy(session.id()).await.expect("a logout always wins");
    client.destroy(session.id()).await.expect("there is nothing left to do");
    client.destroy(&id()).await.expect("and here there never was");
    for save in [session.change().set("a", &3).unwrap(), session.change().rotate(), Save::of(session.id()).subject("")]
    {
        let gone = client.save(save).await.unwrap_err();
        assert!(matches!(gone, Error::NotFound), "{gone:?}");
    }
    assert!(client.open(session.id()).await.unwrap().is_none());
}

async fn a_session_that_was_not_opened_can_be_changed(world: World) {
    let client = client_of(&world);
    let session = client.save(Save::create().set("a", &1).unwrap()).await.unwrap();
    let changed = client.save(Save::of(session.id()).set("b", &2).unwrap()).await.unwrap();
    assert_eq!(json(&changed), j!({"b": 2}), "it knows only what it saved");
    assert_eq!(json(&stored(&client, &session).await), j!({"a": 1, "b": 2}));
    let whole = Map::from([("c".to_owned(), Value::of(&3).unwrap())]);
    client.save(Save::of(session.id()).replace_data(whole)).await.expect("whatever is there");
    let rotated = client.save(Save::of(session.id()).rotate()).await.unwrap();
    assert_eq!(json(&stored(&client, &rotated).await), j!({"c": 3}));
    let nobody = client.save(Save::of(&id()).set("a", &1).unwrap()).await.unwrap_err();
    assert!(matches!(nobody, Error::NotFound), "{nobody:?}");
}

async fn opening_renews_and_peeking_does_not(world: World) {
    let client = client_of(&world);
    let session = client.save(Save::create().idle_timeout(Duration::from_secs(10))).await.unwrap();
    // It is renewed in steps of a tenth.
    let looking = Instant::now();
    while looking.elapsed() < Duration::from_millis(1_200) {
        assert_eq!(stored(&client, &session).await.expire_time(), session.expire_time());
        poll_pause().await;
    }
    client.open(session.id()).await.unwrap().expect("it lives");
    eventually("it is renewed", async || stored(&client, &session).await.expire_time() > session.expire_time()).await;

    let brief = client.save(Save::create().idle_timeout(Duration::from_secs(1))).await.unwrap();
    eventually("peeking keeps nobody alive", async || client.peek(brief.id()).await.unwrap().is_none()).await;
}
