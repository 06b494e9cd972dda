//! A session at the store: created, opened, renewed, destroyed, ended by time. (A list of sentences, so as long as there are.)

use std::time::{Duration, Instant};

use sessiond::{
    session::{Etag, Ring, ShortMark, Time},
    store::{Attempt, Created, Destroyed, Expected, Lifetime, RENEW_PART, Save, Saved, Store, StoreError},
};

use super::{DAY, HOUR, Host, Visitor, any_app, any_create, any_handle, any_hash, any_mint, attempt, data};
use crate::assert_is;

const MS: Duration = Duration::from_millis(1);

/// Redis counts an idle timeout from its own view of now, at times some milliseconds after the script's.
fn is_about(time: Time, wanted: Time) -> bool {
    time >= wanted && time.since(wanted) < 100 * MS
}

/// Opening gives back, field by field, what Create was given and what follows from it.
pub async fn what_is_created_is_what_opens(host: impl Host) {
    let create = super::Create { subject: "ada".into(), data: data(&[("", ""), ("é", "\0\r\n")]), ..any_create() };
    let store = host.store();
    let stored = match store.create(create.clone(), attempt()).await.expect("the store answers") {
        Created::Stored(found) => found,
        other => panic!("it is stored, not {other:?}"),
    };
    let claim = super::Claim { app: create.app.clone(), handle: create.handle, hash: create.mint.hash };
    let opened = Visitor { store, claim }.there().await;
    assert_eq!(opened.record, stored.record, "what is told at create is what opens");
    assert_eq!(opened.expire_time, stored.expire_time);

    let record = opened.record;
    assert_eq!((record.handle, record.version), (create.handle, 1));
    assert_eq!((record.subject, record.data), (create.subject, create.data));
    assert_eq!((record.salt, record.current, record.previous), (create.mint.salt, create.mint.hash, None));
    assert_eq!((record.idle_timeout, record.deadline), (HOUR, record.create_time.after(DAY)));
    assert_eq!((record.create_time, record.mint_time), (stored.now, stored.now));
    assert!(is_about(opened.expire_time, stored.now.after(HOUR)));
    let mut ring = Ring::default();
    ring.push(create.mark, stored.now);
    assert_eq!(record.ring, ring, "the create's mark is the only one");
}

/// P3: another secret, another application, another handle: nothing opens.
pub async fn p3_nothing_opens_but_the_right_secret_for_the_right_application(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    ada.there().await;
    let mut near = ada.claim.hash;
    near.0[31] ^= 1;
    for hash in [any_hash(), near, super::SecretHash([0; 32])] {
        assert_is!(ada.showing(hash).look().await, None, "a wrong secret opens nothing");
    }
    let mut elsewhere = ada.clone();
    elsewhere.claim.app = any_app();
    assert_is!(elsewhere.look().await, None, "the same id under another application opens nothing");
    let mut another = ada.clone();
    another.claim.handle = any_handle();
    assert_is!(another.look().await, None, "an unknown handle opens nothing");
}

/// P3: without the proof a Save is Missing, a Destroy does nothing, a renewal neither.
pub async fn p3_who_proves_nothing_changes_nothing(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let before = ada.there().await;
    host.pass(10 * MS).await;
    let mut elsewhere = ada.clone();
    elsewhere.claim.app = any_app();
    // No session has a previous secret of zeros, which is how a record says that it has none.
    for stranger in [ada.showing(any_hash()), ada.showing(super::SecretHash([0; 32])), elsewhere] {
        assert_is!(stranger.save(stranger.keep()).await, Saved::Missing, "a stranger's Save finds nothing");
        assert_is!(stranger.save(stranger.rotate()).await, Saved::Missing, "a stranger's rotate finds nothing");
        assert_eq!(stranger.destroy(Expected::Any).await, Destroyed::Gone);
        assert_eq!(stranger.destroy(Expected::Etag(before.record.etag())).await, Destroyed::Gone);
        stranger.renew().await;
    }
    let after = ada.there().await;
    assert_eq!((after.record, after.expire_time), (before.record, before.expire_time));
    assert_eq!(host.entries().await, 1, "and nothing was added");
}

/// P4: neither a visitor without a session nor one with a session writes by opening.
pub async fn p4_opening_writes_nothing(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let before = ada.there().await;
    host.pass(10 * MS).await;
    for _ in 0..100 {
        let mut bot = ada.showing(any_hash());
        assert!(bot.look().await.is_none());
        bot.claim.handle = any_handle();
        assert!(bot.look().await.is_none());
        ada.there().await;
    }
    let after = ada.there().await;
    assert_eq!((after.record, after.expire_time), (before.record, before.expire_time));
    assert_eq!(host.entries().await, 1, "no opening made an entry");
}

/// P2: after a Destroy nothing finds the session, and a second Destroy is no error.
pub async fn p2_a_destroyed_session_stays_destroyed(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let etag = ada.etag().await;
    assert_eq!(ada.destroy(Expected::Any).await, Destroyed::Gone);
    let held_up = [ada.keep(), ada.rotate(), ada.replace(etag, data(&[])), ada.merge(&[("a", Some("1"))])];
    for save in held_up {
        assert_is!(ada.save(save).await, Saved::Missing, "no Save brings it back");
        ada.renew().await;
        assert_is!(ada.look().await, None, "it is gone");
        assert_eq!(ada.destroy(Expected::Any).await, Destroyed::Gone);
    }
}

/// A Destroy that names a version ends that one only; one that cannot be read is none.
pub async fn a_destroy_may_name_the_version_it_is_meant_for(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let first = ada.etag().await;
    ada.stored(ada.keep()).await;
    let second = ada.etag().await;
    let forged = Etag { mark: ShortMark([0; 8]), ..second };
    for wrong in [Expected::Etag(first), Expected::Etag(forged), Expected::Unreadable] {
        assert_eq!(ada.destroy(wrong).await, Destroyed::Conflict, "{wrong:?}");
        assert_eq!(ada.etag().await, second, "nothing changed");
    }
    assert_eq!(ada.destroy(Expected::Etag(second)).await, Destroyed::Gone);
    assert_is!(ada.look().await, None, "it is gone");
}

/// P2: a create that was held up until after the Destroy does not bring the session back, as long as the tombstone stands.
pub async fn p2_a_tombstone_blocks_a_create_that_was_held_up(host: impl Host) {
    let create = any_create();
    let ada = Visitor::create(host.store(), create.clone()).await;
    ada.destroy(Expected::Any).await;
    for held_up in [create.clone(), super::Create { mint: any_mint(), ..create.clone() }] {
        let met = ada.store.create(held_up, attempt()).await.expect("the store answers");
        assert_is!(met, Created::Gone, "a tombstone is met");
        assert_is!(ada.look().await, None, "it is gone");
    }
    let elsewhere = super::Create { app: any_app(), ..create.clone() };
    Visitor::create(host.store(), elsewhere).await.there().await;

    host.outlive_tombstone(&ada.claim).await;
    Visitor::create(host.store(), create).await.there().await;
}

/// P6: not used, it lives up to its idle timeout and not beyond.
pub async fn p6_a_session_ends_when_it_is_not_used_for_its_idle_timeout(host: impl Host) {
    let create = super::Create { idle_timeout: 3000 * MS, ..any_create() };
    let ada = Visitor::create(host.store(), create.clone()).await;
    host.pass(1000 * MS).await;
    ada.there().await;
    host.pass(2000 * MS).await;
    assert_is!(ada.look().await, None, "its idle timeout is over");
    assert_is!(ada.save(ada.keep()).await, Saved::Missing, "it is gone for a Save too");
    assert_eq!(ada.destroy(Expected::Any).await, Destroyed::Gone);
    // What time ended leaves no tombstone: its name is free.
    Visitor::create(host.store(), create).await.there().await;
}

/// P6: neither Saves nor renewals carry a session past its absolute deadline.
pub async fn p6_a_session_ends_at_its_absolute_deadline_whatever_the_use(host: impl Host) {
    let create = super::Create { idle_timeout: 3000 * MS, lifetime: 4000 * MS, ..any_create() };
    let ada = Visitor::create(host.store(), create).await;
    let deadline = ada.there().await.record.deadline;
    host.pass(1200 * MS).await;
    ada.renew().await;
    assert_eq!(ada.there().await.expire_time, deadline, "the idle timeout would pass the deadline");
    for save in [Save { idle_timeout: Some(HOUR), ..ada.keep() }, ada.merge(&[("a", Some("1"))])] {
        assert_eq!(ada.stored(save).await.expire_time, deadline, "an hour would pass the deadline");
    }
    let ada = ada.rotated(ada.rotate()).await;
    ada.renew().await;
    assert_eq!(ada.there().await.expire_time, deadline, "a new id is not a new lifetime");
    host.pass(2800 * MS).await;
    assert_is!(ada.look().await, None, "its absolute lifetime is over");
    assert_is!(ada.save(ada.keep()).await, Saved::Missing, "it is gone for a Save too");
}

/// P6: a renewal counts the idle timeout from now, and only for the one who proves it.
pub async fn p6_a_renewal_extends_by_the_idle_timeout(host: impl Host) {
    let ada = Visitor::create(host.store(), super::Create { idle_timeout: 4000 * MS, ..any_create() }).await;
    let before = ada.there().await;
    host.pass(2000 * MS).await;
    ada.showing(any_hash()).renew().await;
    assert_eq!(ada.there().await.expire_time, before.expire_time, "who proves nothing renews nothing");
    ada.renew().await;
    let after = ada.there().await;
    let gained = after.expire_time.since(before.expire_time);
    assert!((2000 * MS..4000 * MS).contains(&gained), "about two seconds are gained, not {gained:?}");
    assert_eq!(after.record, before.record, "a renewal changes nothing else");
    host.pass(2500 * MS).await;
    ada.there().await;
}

/// P6: a renewal goes by what is stored when it comes, and never shortens by itself.
pub async fn p6_a_renewal_obeys_a_shortening_that_overtook_it(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let shortened = ada.stored(Save { idle_timeout: Some(2500 * MS), ..ada.keep() }).await;
    for pause in [0, 500] {
        host.pass(pause * MS).await;
        ada.renew().await;
        let now = ada.there().await;
        let gained = now.expire_time.since(shortened.expire_time);
        assert!(gained < 2500 * MS, "it goes by the new idle timeout, not by the hour: {gained:?}");
    }
    host.pass(2500 * MS).await;
    assert_is!(ada.look().await, None, "its idle timeout is over");
}

/// P2, P6: a renewal that comes too late, after time or a Destroy ended the session, changes nothing.
pub async fn p2_a_renewal_never_revives(host: impl Host) {
    let store = host.store();
    let ended = Visitor::create(store.clone(), super::Create { idle_timeout: 1000 * MS, ..any_create() }).await;
    let create = any_create();
    let destroyed = Visitor::create(store, create.clone()).await;
    destroyed.destroy(Expected::Any).await;
    host.pass(1000 * MS).await;
    for gone in [&ended, &destroyed] {
        gone.renew().await;
        assert_is!(gone.look().await, None, "it stays gone");
    }
    // Nor does it lengthen a tombstone: a host says how long one stands.
    host.outlive_tombstone(&destroyed.claim).await;
    Visitor::create(host.store(), create).await.there().await;
}

/// P6: at any rate of requests, each write gains more than a tenth of the life, to the last moment before the deadline.
pub async fn p6_a_renewal_writes_at_most_once_in_a_tenth_of_the_life(host: impl Host) {
    let (idle, life) = (2000 * MS, 3000 * MS);
    let ada = Visitor::create(host.store(), super::Create { idle_timeout: idle, lifetime: life, ..any_create() }).await;
    let mut last = ada.there().await;
    let mut writes = 0;
    loop {
        ada.renew().await;
        let Some(found) = ada.look().await else { break };
        let gained = found.expire_time.since(last.expire_time);
        if found.expire_time != last.expire_time {
            writes += 1;
            // The life that the renewal gave counts from the renewal, which was a moment before this look.
            let given = found.expire_time.since(found.now);
            assert!(gained * RENEW_PART > given, "{gained:?} gained of {given:?} is not worth a write");
            assert!(found.expire_time <= found.record.deadline, "the deadline stands");
        }
        last = found;
        host.pass(15 * MS).await;
    }
    assert_eq!(last.expire_time, last.record.deadline, "used all the time, it lives to its deadline");
    // A second until the deadline is in reach, a write per 200 ms; then the rest of the way.
    assert!((1..=9).contains(&writes), "{writes} writes");
}

/// P6: a Save counts the idle timeout from now, the new one if it brings one.
pub async fn p6_a_save_renews_and_takes_a_new_idle_timeout_at_once(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    host.pass(20 * MS).await;
    let kept = ada.stored(ada.keep()).await;
    assert!(is_about(kept.expire_time, kept.now.after(HOUR)));
    let shorter = ada.stored(Save { idle_timeout: Some(1500 * MS), ..ada.keep() }).await;
    assert_eq!(shorter.record.idle_timeout, 1500 * MS);
    assert!(is_about(shorter.expire_time, shorter.now.after(1500 * MS)));
    assert_eq!(ada.there().await.expire_time, shorter.expire_time);
}

/// P6: a rotate with a lifetime moves the deadline; whatever else is saved leaves it.
pub async fn p6_a_login_starts_a_new_absolute_lifetime_and_no_other_save_does(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let deadline = ada.there().await.record.deadline;
    host.pass(20 * MS).await;
    let saved = ada.stored(Save { idle_timeout: Some(2 * HOUR), ..ada.merge(&[("a", Some("1"))]) }).await;
    assert_eq!(saved.record.deadline, deadline);
    let ada = ada.rotated(ada.rotate()).await;
    assert_eq!(ada.there().await.record.deadline, deadline);
    let rotate = Save { lifetime: Some(Lifetime::Begin(2 * DAY)), subject: Some("ada".into()), ..ada.rotate() };
    let found = ada.stored(rotate).await;
    assert_eq!(found.record.deadline, found.now.after(2 * DAY));
    assert_eq!(found.record.mint_time, found.now);
    assert!(found.record.create_time < found.now, "it was created before");
}

/// From an attempt's end on, nothing is written for it, and the store gives up.
pub async fn nothing_is_written_after_the_attempts_end(host: impl Host) {
    let ada = Visitor::new(host.store()).await;
    let before = ada.there().await;
    host.pass(20 * MS).await;
    let now = Instant::now();
    let late = Attempt { since: now, until: now };
    let unavailable = |error: Option<StoreError>| matches!(error, Some(StoreError::Unavailable(_)));
    assert!(unavailable(ada.store.save(ada.keep(), late).await.err()));
    assert!(unavailable(ada.store.create(any_create(), late).await.err()));
    assert!(unavailable(ada.store.destroy(&ada.claim, Expected::Any, late).await.err()));
    assert!(unavailable(ada.store.renew(&ada.claim, late).await.err()));
    assert!(unavailable(ada.store.open(&ada.claim, late).await.err()));
    let after = ada.there().await;
    assert_eq!((after.record, after.expire_time), (before.record, before.expire_time));
    assert_eq!(host.entries().await, 1);
}

/// A store that can be asked says so.
pub async fn a_store_that_is_there_answers_a_ping(host: impl Host) {
    host.store().ping(attempt()).await.expect("it is there");
}
