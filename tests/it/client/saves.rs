//! What a Save sends: nothing when nothing changed, every key by its name, and the times of the session.

use std::time::{Duration, SystemTime};

use sessiond_client::{Error, Map, Save, Session, Value};
use sessiond_tests::{World, eventually, on_both_stores};

use super::{
    SessionClient, client_of, id, patient,
    scripted::{Asked, Scripted},
};

on_both_stores!(
    a_save_that_changes_nothing_leaves_the_session_as_it_is,
    a_session_whose_version_is_unknown_is_changed_all_the_same,
    a_new_session_takes_more_keys_than_a_change_may_name,
    removing_keys_removes_them_and_nothing_else,
);

mod short_lived {
    sessiond_tests::on_both_stores!(
        with ["--max-lifetime", "600s", "--max-idle-timeout", "600s", "--idle-timeout", "600s"],
        a_lifetime_is_cut_and_later_only_brings_the_end_nearer,
    );

    use super::a_lifetime_is_cut_and_later_only_brings_the_end_nearer;
}

/// How far ahead a point in time was, seen from the session's creation.
fn seconds(session: &Session, time: SystemTime) -> u64 {
    time.duration_since(session.create_time()).expect("it is later").as_secs()
}

async fn stored(client: &SessionClient, session: &Session) -> Session {
    client.peek(session.id()).await.unwrap().expect("it is stored")
}

fn keys(session: &Session) -> Vec<&str> {
    session.data().keys().map(String::as_str).collect()
}

async fn a_save_that_changes_nothing_leaves_the_session_as_it_is(world: World) {
    let client = client_of(&world);
    let session = client.save(Save::create().set("cart", "tea").unwrap().subject("ada")).await.unwrap();
    let same = client.save(session.change()).await.unwrap();
    assert!(same.id() == session.id() && same.data() == session.data());
    assert_eq!((same.subject(), same.expire_time()), (Some("ada"), session.expire_time()));
    let named = client.save(Save::of(session.id())).await.unwrap();
    assert!(named.id() == session.id() && named.data() == session.data());
    assert!(stored(&client, &session).await.data() == session.data(), "nothing was wiped");
    let nobody = client.save(Save::of(&id())).await.unwrap_err();
    assert!(matches!(nobody, Error::NotFound), "{nobody:?}");
    // It goes on as if it had not been saved in between.
    client.save(same.change().replace_data(Map::new())).await.expect("its version is known");
}

#[tokio::test]
async fn a_save_that_changes_nothing_makes_no_call() {
    let server = Scripted::fine();
    let client = patient(server.address());
    let session = client.save(Save::create()).await.unwrap();
    server.asked();
    client.save(session.change()).await.unwrap();
    client.save(session.change().again()).await.unwrap();
    let asked: Vec<_> = server.asked().iter().map(|asked: &Asked| asked.method).collect();
    assert_eq!(asked, [""; 0]);
    client.save(Save::of(&id())).await.unwrap_err();
    let asked: Vec<_> = server.asked().iter().map(|asked: &Asked| asked.method).collect();
    assert_eq!(asked, ["open"], "there is no other way to know the session");
}

async fn a_session_whose_version_is_unknown_is_changed_all_the_same(world: World) {
    let client = client_of(&world);
    let first = client.save(Save::create().set("a", &1).unwrap()).await.unwrap();
    client.save(first.change().set("b", &2).unwrap()).await.unwrap();
    // The answer to this one has no etag: another writer came in between.
    let blind = client.save(first.change().set("c", &3).unwrap()).await.unwrap();
    let whole = client.save(blind.change().replace_data(Map::new())).await.unwrap_err();
    assert!(matches!(whole, Error::Changed), "a replacement needs the version: {whole:?}");
    for change in [
        blind.change().set("d", &4).unwrap(),
        blind.change().remove("b"),
        blind.change().idle_timeout(Duration::from_secs(60)),
        blind.change().lifetime(Duration::from_secs(60)),
        blind.change().rotate().subject("ada"),
    ] {
        let answer = client.save(change).await.unwrap();
        if answer.id() != blind.id() {
            assert_eq!(keys(&stored(&client, &answer).await), ["a", "c", "d"]);
        }
    }
}

async fn a_new_session_takes_more_keys_than_a_change_may_name(world: World) {
    let client = client_of(&world);
    let many = (0..1_500).fold(Save::create(), |save, n| save.set_value(&format!("key-{n}"), Value::Bool(true)));
    let session = client.save(many.remove("key-0")).await.unwrap();
    assert_eq!(stored(&client, &session).await.data().len(), 1_499);
}

async fn removing_keys_removes_them_and_nothing_else(world: World) {
    let client = client_of(&world);
    let session = client.save(Save::create().set("a", &1).unwrap().set("b", &2).unwrap()).await.unwrap();
    let left = client.save(session.change().remove("a").remove("nothing")).await.unwrap();
    assert_eq!((keys(&left), keys(&stored(&client, &left).await)), (vec!["b"], vec!["b"]));
    let left = client.save(left.change().remove("b").set("c", &3).unwrap()).await.unwrap();
    assert_eq!((keys(&left), keys(&stored(&client, &left).await)), (vec!["c"], vec!["c"]));
    // The last key: the session is empty, and still there.
    client.save(left.change().remove("c")).await.unwrap();
    assert_eq!(keys(&stored(&client, &left).await), [""; 0]);
}

async fn a_lifetime_is_cut_and_later_only_brings_the_end_nearer(world: World) {
    let client = client_of(&world);
    let span = Duration::from_secs;
    let end = async |session: &Session| seconds(session, stored(&client, session).await.expire_time());
    let cut = client.save(Save::create().lifetime(Duration::MAX)).await.unwrap();
    // The store counts milliseconds from its own view of now.
    assert!((599..=600).contains(&end(&cut).await), "cut to the service's maximum: {}", end(&cut).await);
    let session = client.save(Save::create().lifetime(span(300))).await.unwrap();
    assert!((299..=300).contains(&end(&session).await), "{}", end(&session).await);
    client.save(session.change().lifetime(span(500))).await.unwrap();
    assert!(end(&session).await <= 300, "it brings the end no further");
    client.save(session.change().lifetime(span(200)).set("a", &1).unwrap()).await.unwrap();
    let nearer = end(&session).await;
    assert!((199..300).contains(&nearer), "{nearer}");
    let rotated = client.save(session.change().rotate()).await.unwrap();
    assert_eq!(end(&rotated).await, nearer, "a new id alone keeps the end");
    let ada = client.save(rotated.change().rotate().subject("ada").lifetime(span(550))).await.unwrap();
    assert!(end(&ada).await > 500, "a login begins a new lifetime");
    for short in [Duration::ZERO, Duration::from_millis(999)] {
        let refused = client.save(ada.change().lifetime(short)).await.unwrap_err();
        assert!(matches!(&refused, Error::Refused(why) if why.contains("lifetime")), "{refused:?}");
    }
    let brief = client.save(Save::create().lifetime(span(1))).await.unwrap();
    eventually("it ends, however often it is opened", async || client.open(brief.id()).await.unwrap().is_none()).await;
}
