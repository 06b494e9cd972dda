//! An operation that comes twice (P5): by its mark, by what a rotate or create minted, and what is told where neither can say.
//! (A list of sentences, as long as there are ways to come twice.)
//!
//! `attempt_since` stands for an operation that came to the server, or whose first attempt may have come, a while ago.

use std::time::Duration;

use sessiond::{
    session::{Etag, Ring, Time},
    store::{Attempt, Create, Created, Destroyed, Expected, Save, Saved, Store},
};

use super::{HOUR, Host, Visitor, any_create, any_mark, any_mint, attempt, attempt_since, data};
use crate::assert_is;

/// What Redis's clock and ours may differ by when both are read a moment apart, with much to spare.
const APART: Duration = Duration::from_millis(200);

async fn save<S: Store>(visitor: &Visitor<S>, save: Save, attempt: Attempt) -> Saved {
    visitor.store.save(save, attempt).await.expect("the store answers")
}

/// P5: as long as fewer than eight others saved since, the mark tells, however old it is.
pub async fn p5_a_repeat_is_recognised_up_to_eight_saves_back(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let bob = Visitor::new(host.store()).await;
    let any = ada.merge(&[("once", Some("1"))]);
    let pinned = Save { expected: Expected::Etag(bob.etag().await), ..bob.merge(&[("once", Some("1"))]) };
    ada.stored(any.clone()).await;
    bob.stored(pinned.clone()).await;
    host.pass(Ring::SPAN).await;
    for (visitor, operation) in [(ada, any), (bob, pinned)] {
        for others in 0..Ring::KEPT {
            let before = visitor.there().await.record;
            let answer = save(&visitor, operation.clone(), attempt_since(HOUR)).await;
            assert_is!(answer, Saved::Repeat(found) if found.record == before, "{others} saved since");
            assert_eq!(visitor.there().await.record, before, "it was not applied again");
            visitor.others_save(1).await;
        }
        let answer = save(&visitor, operation, attempt_since(HOUR)).await;
        assert_is!(answer, Saved::Unknown, "eight saved since: the ring cannot tell any more");
    }
}

/// P5: a mark that is younger than any operation may be late is kept next to the eight, up to 4,000 of them: so no parallel
/// Save is taken for another's repeat.
pub async fn p5_a_young_mark_is_kept_beside_the_eight(host: impl Host) {
    // On a machine so slow that the marks grow old meanwhile, this proves nothing: then once more.
    for _ in 0..5 {
        let ada = Visitor::new(host.store()).await;
        let operation = ada.keep();
        let begin = ada.stored(operation.clone()).await.now;
        let others: Vec<_> = (0..Ring::MAX - 2).map(|_| any_mark()).collect();
        host.others_saved(&ada.claim, &others).await;
        ada.others_save(1).await;
        let told = save(&ada, operation.clone(), attempt_since(HOUR)).await;
        ada.others_save(1).await;
        let forgotten = save(&ada, operation, attempt_since(HOUR)).await;
        if ada.there().await.now.since(begin) < Ring::SPAN / 2 {
            assert_is!(told, Saved::Repeat(_), "3,999 saved since");
            assert_is!(forgotten, Saved::Unknown, "4,000 saved since");
            return;
        }
    }
    panic!("a few Saves take longer than they should");
}

/// P5: a repeat is answered with what is there now, other writers' changes included; and it does not renew.
pub async fn p5_a_repeat_sees_the_session_as_it_stands_and_renews_nothing(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let operation = ada.replace(ada.etag().await, data(&[("a", "1")]));
    ada.stored(operation.clone()).await;
    ada.stored(ada.merge(&[("b", Some("2"))])).await;
    let before = ada.there().await;
    host.pass(Duration::from_millis(20)).await;
    let Saved::Repeat(found) = ada.save(operation).await else { panic!("its mark is there") };
    assert_eq!((&found.record, found.expire_time), (&before.record, before.expire_time));
    assert_eq!(found.record.data, data(&[("a", "1"), ("b", "2")]));
    assert_eq!(ada.there().await.expire_time, before.expire_time);
}

/// P5: a create's mark is in the ring like every other.
pub async fn p5_the_mark_of_the_create_is_one_of_the_eight(host: impl Host) {
    let create = any_create();
    let ada = Visitor::create(host.store(), create.clone()).await;
    let marked = Save { mark: create.mark, ..ada.keep() };
    host.pass(Ring::SPAN).await;
    ada.others_save(7).await;
    assert_is!(ada.save(marked.clone()).await, Saved::Repeat(_), "seven saved since");
    ada.others_save(1).await;
    assert_is!(save(&ada, marked, attempt_since(HOUR)).await, Saved::Unknown, "eight saved since");
}

/// P5: marks belong to a session; and a mark of zeros is a mark like any other.
pub async fn p5_the_same_mark_on_another_session_is_another_operation(host: impl Host) {
    let (ada, bob) = (Visitor::new(host.store()).await, Visitor::new(host.store()).await);
    let zeros = sessiond::session::ShortMark([0; 8]);
    for mark in [any_mark(), zeros] {
        ada.stored(Save { mark, ..ada.keep() }).await;
        bob.stored(Save { mark, ..bob.keep() }).await;
        assert_is!(ada.save(Save { mark, ..ada.keep() }).await, Saved::Repeat(_), "the second time");
    }
}

/// P5, rule 2: what pins no version is new only if the ring reaches back to when it may first have come.
pub async fn p5_a_save_of_any_version_is_unknown_where_the_ring_does_not_reach_back(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let unpinned =
        [ada.keep(), ada.merge(&[("a", Some("1"))]), Save { expected: Expected::Unreadable, ..ada.merge(&[]) }];
    host.pass(Ring::SPAN).await;
    ada.others_save(7).await;
    assert_eq!(ada.there().await.record.ring.floor, Time(0), "nothing fell out yet: the ring tells all");
    let long_ago = save(&ada, ada.keep(), attempt_since(HOUR)).await;
    assert_is!(long_ago, Saved::Stored(_), "however long ago it may have come");

    let before = ada.there().await.record;
    assert_eq!(before.ring.floor, before.create_time, "now the create's mark fell out");
    for operation in unpinned {
        for ago in [HOUR, Ring::SPAN + Duration::from_secs(5)] {
            let answer = save(&ada, operation.clone(), attempt_since(ago)).await;
            assert_is!(answer, Saved::Unknown, "it may have come before the floor");
        }
        assert_eq!(ada.there().await.record, before, "nothing was written");
    }
    // Well after the floor: Redis and this process need not agree on the millisecond.
    let answer = save(&ada, ada.keep(), attempt_since(APART)).await;
    assert_is!(answer, Saved::Stored(_), "it came after the floor: its mark would be there");
}

/// P5: a Save for a version up to eight behind is judged by the ring, however long ago it came; for an older one by rule 2.
pub async fn p5_a_version_eight_behind_is_pinned_and_nine_behind_is_not(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let mut etags = vec![ada.etag().await];
    for _ in 0..20 {
        ada.others_save(1).await;
        etags.insert(0, ada.etag().await);
    }
    host.pass(Ring::SPAN).await;
    ada.others_save(1).await;
    let before = ada.there().await.record;
    for (at, etag) in etags.iter().enumerate() {
        let behind = at + 1;
        let replace = ada.replace(*etag, data(&[("n", "1")]));
        let long_ago = save(&ada, replace.clone(), attempt_since(HOUR)).await;
        if behind <= Ring::KEPT {
            assert_is!(long_ago, Saved::Conflict, "{behind} behind: surely not applied, and stale");
        } else {
            assert_is!(long_ago, Saved::Unknown, "{behind} behind: it may have been applied");
            assert_is!(ada.save(replace).await, Saved::Conflict, "{behind} behind: received just now, it was not");
        }
        assert_eq!(ada.there().await.record, before, "nothing was written");
    }
    let merge = || Save { expected: Expected::Etag(etags[Ring::KEPT - 1]), ..ada.merge(&[("m", Some("1"))]) };
    assert_is!(save(&ada, merge(), attempt_since(HOUR)).await, Saved::Stored(_), "eight behind is pinned");
    assert_is!(save(&ada, merge(), attempt_since(HOUR)).await, Saved::Unknown, "nine behind may have been applied");
    assert_is!(ada.save(merge()).await, Saved::Stored(_), "received just now, it was not");
}

/// P5: a version that the ring covers pins only with its mark: a timeline that the store lost says nothing.
pub async fn p5_a_version_of_another_timeline_is_not_pinned(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    ada.others_save(10).await;
    host.pass(Ring::SPAN).await;
    ada.others_save(1).await;
    let etag = ada.etag().await;
    for behind in 0..8 {
        let foreign = Etag { version: etag.version - behind, mark: any_mark() };
        let merge = Save { expected: Expected::Etag(foreign), ..ada.merge(&[("m", Some("1"))]) };
        assert_is!(
            save(&ada, merge, attempt_since(HOUR)).await,
            Saved::Unknown,
            "{behind} behind, on another timeline"
        );
    }
    let ahead = Etag { version: etag.version + 1, ..etag };
    let merge = Save { expected: Expected::Etag(ahead), ..ada.merge(&[("m", Some("1"))]) };
    assert_is!(save(&ada, merge, attempt_since(HOUR)).await, Saved::Unknown, "a version that is not there yet");
}

/// P5: within the window a second create gets the session as it stands (the rules tell whose it is); later it gets nothing.
pub async fn p5_a_create_that_meets_its_handle_is_told_so_and_writes_nothing(host: impl Host) {
    let first = any_create();
    let ada = Visitor::create(host.store(), first.clone()).await;
    let again = Create { mint: any_mint(), data: data(&[("other", "1")]), subject: "eve".into(), ..first };
    for others in 0..3 {
        let there = ada.there().await;
        let met = ada.store.create(again.clone(), attempt()).await.expect("the store answers");
        assert_is!(met, Created::Exists(found) if found.record == there.record, "{others} saved since, and it exists");
        assert_eq!(ada.there().await.expire_time, there.expire_time, "nothing is renewed");
        ada.others_save(1).await;
    }
    let before = ada.there().await;
    host.outlive_window(&ada.claim).await;
    let late = ada.store.create(again.clone(), attempt()).await.expect("the store answers");
    assert_is!(late, Created::Unknown, "too long ago to tell");
    assert_eq!(ada.there().await.record.data, before.record.data);

    // A rotate mints anew, and the window begins anew with it.
    let ada = ada.rotated(ada.rotate()).await;
    let met = ada.store.create(again, attempt()).await.expect("the store answers");
    assert_is!(met, Created::Exists(found) if found.record.current == ada.claim.hash, "minted a moment ago");
}

/// P5: the repeat of a rotate shows the replaced secret, and within the window gets the record by which it proves itself.
pub async fn p5_the_repeat_of_a_rotate_gets_what_proves_it(host: impl Host) {
    let old = Visitor::new(host.store()).await;
    let operation = old.rotate();
    let new = old.rotated(operation.clone()).await;
    let repeat = Save { rotate: Some(any_mint()), ..operation };
    for others in 0..Ring::KEPT {
        let there = new.there().await;
        let Saved::Replaced { found: Some(found), maybe_applied } = old.save(repeat.clone()).await else {
            panic!("{others} saved since: the replaced secret, a rotate, within the window")
        };
        assert!(maybe_applied, "its mark is there");
        assert_eq!((found.record, found.expire_time), (there.record.clone(), there.expire_time));
        assert_eq!(new.there().await.record, there.record, "nothing was written");
        new.others_save(1).await;
    }
    let unwanted = Save { want_data: false, ..repeat.clone() };
    let answer = save(&old, unwanted, attempt_since(HOUR)).await;
    assert_is!(answer, Saved::Replaced { found: Some(found), maybe_applied: true } if found.record.data.is_empty(), "no data is wanted");

    host.outlive_window(&new.claim).await;
    let answer = save(&old, repeat, attempt_since(HOUR)).await;
    assert_is!(answer, Saved::Replaced { found: None, maybe_applied: true }, "the window is over");
}

/// P3: to a Save that is no rotate, the replaced secret shows nothing of what came after.
pub async fn p3_the_replaced_secret_sees_nothing_but_for_a_rotate(host: impl Host) {
    let old = Visitor::new(host.store()).await;
    let etag = old.etag().await;
    let new = old.rotated(Save { subject: Some("ada".into()), ..old.rotate() }).await;
    let before = new.there().await;
    for save in [old.keep(), old.replace(etag, data(&[])), old.merge(&[("a", Some("1"))])] {
        let answer = old.save(save).await;
        assert_is!(answer, Saved::Replaced { found: None, maybe_applied: false }, "it sees nothing");
    }
    let answer = old.save(old.rotate()).await;
    assert_is!(
        answer,
        Saved::Replaced { found: Some(_), maybe_applied: false },
        "only the rules can tell whose rotate it is"
    );
    let after = new.there().await;
    assert_eq!((after.record, after.expire_time), (before.record, before.expire_time), "nothing was written");
}

/// P5: with the replaced secret, a mark in the ring or a floor as in rule 2 means that it may have been applied.
pub async fn p5_the_replaced_secret_is_told_whether_its_save_may_have_been_applied(host: impl Host) {
    let old = Visitor::new(host.store()).await;
    let stale = old.etag().await;
    let applied = old.merge(&[("a", Some("1"))]);
    old.stored(applied.clone()).await;
    let new = old.rotated(old.rotate()).await;
    let maybe = async |operation: Save, attempt| match save(&old, operation, attempt).await {
        Saved::Replaced { found: None, maybe_applied } => maybe_applied,
        other => panic!("the secret was replaced, not {other:?}"),
    };
    assert!(maybe(applied.clone(), attempt()).await, "its mark is there");
    assert!(!maybe(old.keep(), attempt_since(HOUR)).await, "nothing fell out: it was not applied");
    host.pass(Ring::SPAN).await;
    new.others_save(8).await;
    assert!(maybe(applied, attempt_since(HOUR)).await, "its mark fell out");
    assert!(maybe(old.keep(), attempt_since(HOUR)).await, "it may have come before the floor");
    assert!(!maybe(old.keep(), attempt()).await, "it came after the floor");
    let pinned = Save { expected: Expected::Etag(stale), ..old.keep() };
    assert!(maybe(pinned, attempt_since(HOUR)).await, "more than eight behind pins nothing");
    let pinned = Save { expected: Expected::Etag(new.etag().await), ..old.keep() };
    assert!(!maybe(pinned, attempt_since(HOUR)).await, "a version that the ring covers");
}

/// P2: a logout that raced a rotate wins, within the window; a Destroy that named a version is told that it changed.
pub async fn p2_the_replaced_secret_destroys_for_a_while_unless_it_names_a_version(host: impl Host) {
    let old = Visitor::new(host.store()).await;
    let etag = old.etag().await;
    let new = old.rotated(old.rotate()).await;
    for named in [Expected::Etag(etag), Expected::Etag(new.etag().await), Expected::Unreadable] {
        assert_eq!(old.destroy(named).await, Destroyed::Conflict, "{named:?}");
        new.there().await;
    }
    assert_eq!(old.destroy(Expected::Any).await, Destroyed::Gone);
    assert_is!(new.look().await, None, "the session ended");

    let old = Visitor::new(host.store()).await;
    let new = old.rotated(old.rotate()).await;
    host.outlive_window(&new.claim).await;
    for expected in [Expected::Any, Expected::Etag(etag)] {
        assert_eq!(old.destroy(expected).await, Destroyed::Gone, "told that it is gone,");
        new.there().await;
    }
}

/// P3: only the last replaced secret is remembered.
pub async fn p3_a_secret_replaced_twice_is_a_wrong_one(host: impl Host) {
    let first = Visitor::new(host.store()).await;
    let operation = first.rotate();
    let second = first.rotated(operation.clone()).await;
    let third = second.rotated(second.rotate()).await;
    assert_is!(first.save(operation).await, Saved::Missing, "a wrong secret");
    assert_eq!(first.destroy(Expected::Any).await, Destroyed::Gone);
    third.there().await;
    assert_eq!(second.destroy(Expected::Any).await, Destroyed::Gone);
    assert_is!(third.look().await, None, "the last replaced one does end it");
}
