//! What only Redis can get wrong: values that nobody of ours wrote, records moved about, scripts forgotten, commands
//! delivered late. Seen and done behind the scenes, by plain commands.

use std::time::{Duration, Instant};

use redis::{FromRedisValue, cmd};
use rustix::process::Signal;
use sessiond::store::{Attempt, Created, Destroyed, Expected, Saved, Store, StoreError};

use super::{Host, RedisHost, Visitor, any_create, any_mark, attempt, data};
use crate::{assert_is, eventually};

impl RedisHost {
    async fn run<T: FromRedisValue>(&self, command: &mut redis::Cmd) -> T {
        command.query_async(&mut self.connection.clone()).await.expect("Redis does it")
    }
}

/// P6: a record that lost its TTL would live for ever, so it does not live at all.
pub async fn p6_a_record_without_an_end_is_not_alive(host: RedisHost) {
    let ada = Visitor::new(host.store()).await;
    let persisted: i64 = host.run(cmd("PERSIST").arg(RedisHost::key(&ada.claim))).await;
    assert_eq!(persisted, 1, "it had an end");
    assert_is!(ada.look().await, None, "it does not open");
    assert_is!(ada.save(ada.keep()).await, Saved::Missing, "nor is it saved");
    ada.renew().await;
    assert_eq!(ada.destroy(Expected::Any).await, Destroyed::Gone);
    let ttl: i64 = host.run(cmd("PTTL").arg(RedisHost::key(&ada.claim))).await;
    assert_eq!(ttl, -1, "and nothing gave it a life again");
}

/// P3: a record copied or moved under another handle is as a reply gone astray: it opens nothing, and nothing is written.
pub async fn p3_a_record_under_another_handle_opens_nothing(host: RedisHost) {
    for moved in [false, true] {
        let (ada, bob) = (Visitor::new(host.store()).await, Visitor::new(host.store()).await);
        let (from, to) = (RedisHost::key(&ada.claim), RedisHost::key(&bob.claim));
        if moved {
            host.run::<()>(cmd("RENAME").arg(&from).arg(&to)).await;
        } else {
            host.run::<i64>(cmd("COPY").arg(&from).arg(&to).arg("REPLACE")).await;
        }
        let there: Vec<u8> = host.run(cmd("GET").arg(&to)).await;
        // Whoever asks for bob's session, with bob's own secret or with the very hash that the record holds.
        for visitor in [bob.clone(), bob.showing(ada.claim.hash)] {
            let opened = visitor.store.open(&visitor.claim, attempt()).await;
            assert_is!(
                opened,
                Err(StoreError::Unavailable(_)),
                "a reply for another session says nothing about this one"
            );
        }
        // The scripts go by the hash, which covers the handle: nobody can show ada's for bob's session.
        assert_is!(bob.save(bob.keep()).await, Saved::Missing, "a Save finds nothing");
        bob.renew().await;
        assert_eq!(bob.destroy(Expected::Any).await, Destroyed::Gone);
        let after: Vec<u8> = host.run(cmd("GET").arg(&to)).await;
        assert_eq!(after, there, "nothing was written");
        assert_eq!(ada.look().await.is_some(), !moved, "where it was not moved away from, it opens");
    }
}

/// A value that is no record of ours is an error on every path: never a session, never overwritten, never a panic.
pub async fn a_foreign_value_under_a_key_is_an_error_and_no_session(host: RedisHost) {
    let whole = Visitor::new(host.store()).await;
    let record: Vec<u8> = host.run(cmd("GET").arg(RedisHost::key(&whole.claim))).await;
    let mut format = record.clone();
    format[1] = 9;
    let too_long = [150, 152, 154].map(|length| {
        let mut record = record.clone();
        record[length..length + 2].copy_from_slice(&[0xff, 0xff]);
        record
    });
    let [fields, subject, marks] = &too_long;
    let tombstone = [b"T\x09", &[0; 64][..]].concat();
    let values: [&[u8]; 10] = [b"", b"\0", b"hello", b"R", &record[..100], &format, fields, subject, marks, &tombstone];
    for foreign in values {
        let create = any_create();
        let ada = Visitor::create(host.store(), create.clone()).await;
        let key = RedisHost::key(&ada.claim);
        host.run::<()>(cmd("SET").arg(&key).arg(foreign).arg("EX").arg(60)).await;
        assert_is!(
            ada.store.open(&ada.claim, attempt()).await,
            Err(StoreError::Broken(_)),
            "{foreign:?} is not promised"
        );
        assert_is!(
            ada.store.save(ada.keep(), attempt()).await,
            Err(_) | Ok(Saved::Missing),
            "{foreign:?} is not saved"
        );
        let _ = ada.store.renew(&ada.claim, attempt()).await;
        let _ = ada.store.destroy(&ada.claim, Expected::Any, attempt()).await;
        let after: Vec<u8> = host.run(cmd("GET").arg(&key)).await;
        assert_eq!(after, foreign, "what is not ours is not written to");
    }
    // A key of another type altogether.
    let ada = Visitor::new(host.store()).await;
    let key = RedisHost::key(&ada.claim);
    host.run::<i64>(cmd("DEL").arg(&key)).await;
    host.run::<i64>(cmd("RPUSH").arg(&key).arg("a")).await;
    assert_is!(ada.store.open(&ada.claim, attempt()).await, Err(StoreError::Broken(_)), "a list is no session");
    assert_is!(ada.store.save(ada.keep(), attempt()).await, Err(StoreError::Broken(_)), "a list is no session");
    // And the store is as good as before.
    whole.there().await;
}

/// A Redis that forgot its scripts (restarted, failed over, flushed) is taught them again in the same call.
pub async fn a_flushed_script_cache_is_not_noticed(host: RedisHost) {
    let flush = async || host.run::<()>(cmd("SCRIPT").arg("FLUSH")).await;
    let store = host.store();
    store.ping(attempt()).await.expect("it is there");
    flush().await;
    let ada = Visitor::new(store).await;
    flush().await;
    ada.stored(ada.keep()).await;
    flush().await;
    ada.renew().await;
    flush().await;
    assert_eq!(ada.destroy(Expected::Any).await, Destroyed::Gone);
    assert_is!(ada.look().await, None, "it is gone");
}

/// P2: what waited in a frozen Redis until the caller was told UNAVAILABLE is refused when Redis goes on.
pub async fn p2_a_command_that_a_frozen_redis_delivers_late_writes_nothing(host: RedisHost) {
    let (ada, bob) = (Visitor::new(host.store()).await, Visitor::new(host.store()).await);
    let before = ada.there().await;
    bob.there().await;
    host.redis.signal(Signal::STOP);
    let begin = Instant::now();
    let short = Attempt { since: begin, until: begin + Duration::from_millis(300) };
    let create = any_create();
    let claim = super::Claim { app: create.app.clone(), handle: create.handle, hash: create.mint.hash };
    let save = ada.merge(&[("late", Some("1"))]);
    let (saved, destroyed, created, renewed, opened) = tokio::join!(
        ada.store.save(save.clone(), short),
        bob.store.destroy(&bob.claim, Expected::Any, short),
        bob.store.create(create.clone(), short),
        ada.store.renew(&ada.claim, short),
        ada.store.open(&ada.claim, short),
    );
    let took = begin.elapsed();
    assert_is!(saved, Err(StoreError::Unavailable(_)), "frozen");
    assert_is!(destroyed, Err(StoreError::Unavailable(_)), "frozen");
    assert_is!(created, Err(StoreError::Unavailable(_)), "frozen");
    assert_is!(renewed, Err(StoreError::Unavailable(_)), "frozen");
    assert_is!(opened, Err(StoreError::Unavailable(_)), "frozen");
    assert!(took < Duration::from_secs(2), "given up in time, not after {took:?}");
    host.redis.signal(Signal::CONT);

    // All that waited was executed before this answers on the same connections.
    eventually("the store answers again", async || ada.store.ping(attempt()).await.is_ok()).await;
    let executed: String = host.run(cmd("INFO").arg("commandstats")).await;
    assert!(executed.contains("cmdstat_evalsha:"), "the scripts did come: {executed}");
    let after = ada.there().await;
    assert_eq!((after.record, after.expire_time), (before.record, before.expire_time), "the Save came too late");
    bob.there().await;
    assert_is!(Visitor { store: host.store(), claim }.look().await, None, "so did the create");
    // And its repeat is no repeat, since the first was not applied.
    ada.stored(save).await;
    assert_is!(ada.store.create(create, attempt()).await, Ok(Created::Stored(_)), "nor is this");
}

/// P8: what lies in Redis is what the port was given, and that is hashes; of a mark eight bytes.
pub async fn p8_neither_secret_nor_request_is_needed_to_store_a_session(host: RedisHost) {
    let ada = Visitor::new(host.store()).await;
    let mark = any_mark();
    ada.stored(super::Save { mark, ..ada.replace(ada.etag().await, data(&[("a", "1")])) }).await;
    let record: Vec<u8> = host.run(cmd("GET").arg(RedisHost::key(&ada.claim))).await;
    let fixed = 156 + 2 * 14 + data(&[("a", "1")]).len();
    assert_eq!(
        record.len(),
        fixed,
        "the header holds salt, hashes and times; then come two marks, the subject, the data"
    );
    let has = |bytes: &[u8]| record.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(&ada.claim.hash.0) && has(&mark.0));
}
