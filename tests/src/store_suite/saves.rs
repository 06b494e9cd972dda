//! What a Save of a living session changes, and when it is refused. A refusal has written nothing.

use std::time::Duration;

use sessiond::{
    session::{Data, Etag, Ring, ShortMark},
    store::{Change, Expected, Save, Saved, Store},
};

use super::{DAY, HOUR, Host, Visitor, any_create, any_hash, any_mark, any_mint, attempt_since, data, key_change};
use crate::assert_is;

/// P1: each Save makes one version more, and the etag tells which Save was the last.
pub async fn p1_a_save_adds_one_to_the_version_and_its_mark_to_the_etag(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    for version in 2..=20 {
        let save = Save { expected: Expected::Etag(ada.etag().await), ..ada.keep() };
        let mark = save.mark;
        let found = ada.stored(save).await;
        assert_eq!(found.record.etag(), Etag { version, mark });
        assert_eq!(ada.there().await.record, found.record, "what is told is what is stored");
    }
}

/// Keep keeps, Replace replaces, by version or whatever is there; empty data is data.
pub async fn a_save_keeps_or_replaces_the_data(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let first = ada.there().await.record;
    let kept = ada.stored(Save { expected: Expected::Etag(first.etag()), ..ada.keep() }).await.record;
    assert_eq!(kept.data, first.data);
    assert_eq!((kept.subject, kept.idle_timeout, kept.current), (first.subject, first.idle_timeout, first.current));
    let whole = data(&[("b", "2"), ("a", "1")]);
    let replaced = ada.stored(ada.replace(ada.etag().await, whole.clone())).await;
    assert_eq!(replaced.record.data, whole);
    let any = Save { change: Change::Replace(data(&[("c", "3")])), ..ada.keep() };
    assert_eq!(ada.stored(any).await.record.data, data(&[("c", "3")]));
    let emptied = ada.stored(ada.replace(ada.etag().await, Data::default())).await;
    assert!(emptied.record.data.is_empty());
    assert!(ada.there().await.record.data.is_empty(), "and it lives");
}

/// A changed key keeps its place, a removed one leaves, a new one comes last, and every other stays as it was.
pub async fn a_merge_changes_the_named_keys_and_nothing_else(host: impl Host) {
    // Lengths around the borders of one and two bytes of a varint; keys that are parts of other keys; an empty one.
    let (long, longer, key) = ("x".repeat(127), "y".repeat(16_384), "k".repeat(130));
    let stored = data(&[("a", "1"), ("", &long), ("aa", "2"), ("b", &longer), (&key, "3")]);
    let ada = Visitor::create(host.store(), super::Create { data: stored, ..any_create() }).await;
    let first = ada.merge(&[("new", Some("n")), ("aa", None), ("", Some("e")), ("absent", None), (&key, Some(&long))]);
    let wanted = data(&[("a", "1"), ("", "e"), ("b", &longer), (&key, &long), ("new", "n")]);
    assert_eq!(ada.stored(first).await.record.data, wanted);
    assert_eq!(ada.there().await.record.data, wanted);
    let all = ada.merge(&[("a", None), ("", None), ("b", None), (&key, None), ("new", None)]);
    assert!(ada.stored(all).await.record.data.is_empty());
    assert!(ada.stored(ada.merge(&[])).await.record.data.is_empty(), "no key is named, so none changes");
    let again = ada.stored(ada.merge(&[("z", Some("1")), ("y", Some("2"))])).await;
    assert_eq!(again.record.data, data(&[("z", "1"), ("y", "2")]), "new keys come in the order they are named");
}

/// The limit holds for what a merge makes of the data; at the limit it fits.
pub async fn a_merge_that_grows_too_large_writes_nothing(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let before = ada.there().await;
    let change = [("more", Some("milk"))];
    let size = before.record.data.merge(&[key_change("more", Some("milk"))]).len();
    let save = Save { max_bytes: size - 1, ..ada.merge(&change) };
    assert_is!(ada.save(save).await, Saved::TooLarge, "one byte too many");
    let after = ada.there().await;
    assert_eq!((after.record, after.expire_time), (before.record, before.expire_time));
    ada.stored(Save { max_bytes: size, ..ada.merge(&change) }).await;
}

/// P1: a Save that replaces the data is refused where another version is stored than it expects: an older, a newer, another
/// Save's.
pub async fn p1_a_stale_version_conflicts_and_writes_nothing(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let stale = ada.etag().await;
    ada.stored(ada.keep()).await;
    let before = ada.there().await;
    let etag = before.record.etag();
    let newer = Etag { version: etag.version + 1, ..etag };
    let other = Etag { mark: any_mark(), ..etag };
    for wrong in [stale, newer, other] {
        let replace = ada.replace(wrong, data(&[]));
        assert_is!(ada.save(replace.clone()).await, Saved::Conflict, "{wrong:?} is not stored");
        let rotate = Save { mark: any_mark(), rotate: ada.rotate().rotate, ..replace };
        assert_is!(ada.save(rotate).await, Saved::Conflict, "{wrong:?} is not stored");
    }
    let after = ada.there().await;
    assert_eq!((after.record, after.expire_time), (before.record, before.expire_time));
}

/// P1: a Save that keeps the data overwrites nobody, so it is stored whatever version it expects: a login does not fail
/// because another request saved in between.
pub async fn p1_a_save_that_keeps_the_data_goes_by_no_version(host: impl Host) {
    let mut ada = Visitor::new(host.store()).await;
    let stale = ada.etag().await;
    ada.stored(ada.merge(&[("theirs", Some("1"))])).await;
    let before = ada.there().await.record.data;
    for expected in [Expected::Etag(stale), Expected::Unreadable, Expected::Any] {
        ada.stored(Save { expected, idle_timeout: Some(HOUR), ..ada.keep() }).await;
        let rotate = ada.rotate();
        ada = ada.rotated(Save { expected, ..rotate }).await;
    }
    assert_eq!(ada.there().await.record.data, before);
}

/// P1: a merge is stored whatever the version, and overwrites only the keys it names.
pub async fn p1_a_merge_goes_by_no_version(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let stale = ada.etag().await;
    for (key, expected) in
        [("a", Expected::Etag(stale)), ("b", Expected::Etag(stale)), ("c", Expected::Unreadable), ("d", Expected::Any)]
    {
        ada.stored(Save { expected, ..ada.merge(&[(key, Some("1"))]) }).await;
    }
    let wanted = data(&[("cart", "tea"), ("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
    assert_eq!(ada.there().await.record.data, wanted);
}

/// An etag that cannot be read is stale where the data is to be replaced.
pub async fn an_unreadable_version_matches_none(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let before = ada.there().await;
    let save = Save { expected: Expected::Unreadable, change: Change::Replace(data(&[])), ..ada.keep() };
    assert_is!(ada.save(save).await, Saved::Conflict, "an unreadable version is stale");
    assert_eq!(ada.there().await.record, before.record);
}

/// Who is logged in changes with a new id, or not at all; saying the same again is no change.
pub async fn a_subject_changes_only_with_a_rotate(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let before = ada.there().await;
    let login = Save { subject: Some("ada".into()), ..ada.keep() };
    assert_is!(ada.save(login).await, Saved::SubjectNeedsRotate, "a login needs a new id");
    assert_eq!(ada.there().await.record, before.record);
    ada.stored(Save { subject: Some("".into()), ..ada.keep() }).await;

    let long = "ä".repeat(128);
    let ada = ada.rotated(Save { subject: Some(long.as_str().into()), ..ada.rotate() }).await;
    assert_eq!(&*ada.there().await.record.subject, long);
    let same = Save { subject: Some(long.as_str().into()), ..ada.merge(&[("a", Some("1"))]) };
    assert_eq!(ada.stored(same).await.record.data, data(&[("cart", "tea"), ("a", "1")]));
    let logout = Save { subject: Some("".into()), ..ada.keep() };
    assert_is!(ada.save(logout).await, Saved::SubjectNeedsRotate, "so does the end of a login");
    let ada = ada.rotated(Save { subject: Some("".into()), ..ada.rotate() }).await;
    let ada = ada.rotated(ada.rotate()).await;
    let after = ada.there().await.record;
    assert_eq!((&*after.subject, after.data), ("", data(&[("cart", "tea"), ("a", "1")])));
}

/// P3: from the rotate on the old secret opens nothing, and the new one all.
pub async fn p3_a_rotated_session_opens_with_the_new_secret_alone(host: impl Host) {
    let old = Visitor::new(host.store()).await;
    let before = old.there().await.record;
    let mint = any_mint();
    let new = old.rotated(Save { rotate: Some(mint), ..old.merge(&[("a", Some("1"))]) }).await;
    assert_is!(old.look().await, None, "the old secret opens nothing");
    let expiry = new.there().await.expire_time;
    host.pass(Duration::from_millis(20)).await;
    old.renew().await;
    assert_eq!(new.there().await.expire_time, expiry, "the old secret renews nothing");
    let after = new.there().await.record;
    assert_eq!((after.salt, after.current, after.previous), (mint.salt, mint.hash, Some(before.current)));
    assert_eq!((after.handle, after.version), (before.handle, before.version + 1));
    assert_eq!(after.data, data(&[("cart", "tea"), ("a", "1")]), "a rotate is a Save like any other");
}

/// A Save of a session that never was finds none, and makes none.
pub async fn a_save_never_creates(host: impl Host) {
    let nobody = Visitor { store: host.store(), claim: Visitor::new(host.store()).await.claim };
    let nobody = Visitor { claim: super::Claim { handle: super::any_handle(), ..nobody.claim }, ..nobody };
    let etag = Etag { version: 1, mark: ShortMark([0; 8]) };
    let saves = [nobody.keep(), nobody.replace(etag, data(&[])), nobody.merge(&[("a", Some("1"))]), nobody.rotate()];
    for save in saves {
        assert_is!(nobody.save(save).await, Saved::Missing, "there is none");
        assert_is!(nobody.look().await, None, "and none was made");
    }
    assert_eq!(host.entries().await, 1, "the one that was there");
}

/// Unwanted data is left out of the answer, and only there.
pub async fn the_answer_holds_the_data_only_if_wanted(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let changes = [ada.keep().change, Change::Replace(data(&[("b", "2")])), ada.merge(&[("c", Some("3"))]).change];
    for change in changes {
        let unwanted = Save { want_data: false, change, ..ada.keep() };
        let found = ada.stored(unwanted.clone()).await;
        assert!(found.record.data.is_empty(), "not wanted");
        let stored = ada.there().await.record;
        assert!(!stored.data.is_empty(), "but stored");
        assert_eq!(found.record.etag(), stored.etag());
        assert_is!(ada.save(unwanted.clone()).await, Saved::Repeat(found) if found.record.data.is_empty(), "a repeat, without");
        let wanted = Save { want_data: true, ..unwanted };
        assert_is!(ada.save(wanted).await, Saved::Repeat(found) if found.record.data == stored.data, "a repeat, with");
    }
}

/// Where several reasons to refuse come together, the first of the documented order is told.
pub async fn the_first_reason_that_fits_is_the_answer(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let stale = ada.etag().await;
    let applied = ada.keep();
    // Older than all that the ring keeps, so that it pins nothing.
    ada.others_save(1).await;
    host.pass(Ring::SPAN).await;
    ada.others_save(9).await;
    ada.stored(Save { expected: Expected::Etag(ada.etag().await), ..applied.clone() }).await;
    let bad = Save {
        subject: Some("ada".into()),
        expected: Expected::Etag(stale),
        change: Change::Replace(data(&[])),
        max_bytes: 0,
        ..ada.keep()
    };
    let long_ago = attempt_since(DAY);
    let save = async |save: Save| ada.store.save(save, long_ago).await.expect("the store answers");
    let stranger = super::Claim { hash: any_hash(), ..ada.claim.clone() };
    let marked = Save { mark: applied.mark, ..bad.clone() };
    assert_is!(save(Save { claim: stranger, ..marked.clone() }).await, Saved::Missing, "the proof comes first");
    assert_is!(save(marked).await, Saved::Repeat(_), "then whether it was applied");
    assert_is!(save(bad.clone()).await, Saved::Unknown, "then whether that can be told");
    assert_is!(ada.save(bad.clone()).await, Saved::SubjectNeedsRotate, "then the subject");
    let stale = Save { subject: None, ..bad };
    assert_is!(ada.save(stale).await, Saved::Conflict, "then the version");
}
