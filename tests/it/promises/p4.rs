//! P4: looking costs nothing.

use std::collections::BTreeMap;

use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, Session};
use sessiond_tests::{Calls, Dice, Stub, TestRedis, World, create, on_both_stores, rounds};
use tokio::task::JoinSet;

use super::{answer, open};

on_both_stores!(p4_opening_without_a_valid_id_writes_nothing, p4_destroying_an_unknown_id_writes_nothing);

/// Bots at a time.
const BOTS: usize = 16;

/// What a Redis that is only looked at is asked. (Ours are `INFO` and `DBSIZE`; the service greets, pings and reads.)
const READS: [&str; 10] =
    ["get", "pexpiretime", "ping", "role", "time", "hello", "client|setinfo", "script|load", "info", "dbsize"];

async fn p4_opening_without_a_valid_id_writes_nothing(world: World) {
    let mut stub = world.stub();
    let living = stub.store(create(j!({"a": 1}))).await.unwrap();
    let before = state(&world).await;

    let dice = Dice::new("ids of bots");
    let mut bots = JoinSet::new();
    for n in 0..BOTS {
        bots.spawn(open_nothing(world.stub(), dice.split(n), rounds(100_000).div_ceil(BOTS)));
    }
    let asked: [usize; 3] =
        bots.join_all().await.into_iter().fold([0; 3], |sum, more| std::array::from_fn(|n| sum[n] + more[n]));

    if let (Some((size, commands)), Some((size_after, commands_after))) = (before, state(&world).await) {
        assert_eq!(size, size_after, "DBSIZE");
        for (command, calls) in &commands_after {
            let before = commands.get(command).unwrap_or(&0);
            assert!(calls == before || READS.contains(&&command[..]), "{command} was called {} times", calls - before);
        }
        let gets = commands_after["get"] - commands.get("get").unwrap_or(&0);
        assert!(gets <= asked[2] as u64, "what cannot be an id is not even asked for");
    }
    assert_eq!(open(&mut stub, &living.id).await.etag, living.etag);
    let [empty, malformed, unknown] = asked;
    println!(
        "P4: {} Opens ({empty} empty, {malformed} malformed, {unknown} unknown), nothing written",
        asked.iter().sum::<usize>()
    );
}

/// Opens without an id, with a malformed and with an unknown one; gives how many of each.
async fn open_nothing(mut stub: Stub, mut dice: Dice, times: usize) -> [usize; 3] {
    let nothing = Session { data: Some(Default::default()), ..Default::default() };
    let mut asked = [0; 3];
    for _ in 0..times {
        let kind = dice.below(3);
        let id = match kind {
            0 => String::new(),
            1 => malformed(&mut dice),
            _ => unknown(&mut dice),
        };
        let (answer, times) = answer(&mut stub, &id, dice.once_in(2)).await;
        assert!(answer == nothing);
        asked[kind] += times;
    }
    asked
}

fn unknown(dice: &mut Dice) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let secret: String = (0..32).map(|_| char::from(DIGITS[dice.below(64)])).collect();
    format!("{:016x}{:016x}.{secret}", dice.throw(), dice.throw())
}

fn malformed(dice: &mut Dice) -> String {
    let id = unknown(dice);
    match dice.below(6) {
        0 => "x".repeat(1 + dice.below(8192)),
        1 => id[..dice.below(64) + 1].to_owned(),
        2 => uuid::Uuid::from_u64_pair(dice.throw(), dice.throw()).to_string(),
        3 => id.replace('.', "\0"),
        4 => "п\u{202e}🍪".repeat(1 + dice.below(20)),
        _ => id + "=",
    }
}

async fn p4_destroying_an_unknown_id_writes_nothing(world: World) {
    let mut stub = world.stub();
    let living = stub.store(create(j!({"a": 1}))).await.unwrap();
    let before = state(&world).await;
    let mut dice = Dice::new("ids of bots");
    for n in 0..rounds(10_000) {
        let id = match n % 4 {
            0 => String::new(),
            1 => malformed(&mut dice),
            2 => unknown(&mut dice),
            // The handle is public and proves nothing.
            _ => format!("{}{}", living.handle, &unknown(&mut dice)[32..]),
        };
        let etag = ["", "*", &living.etag, "stale"][dice.below(4)].to_owned();
        stub.destroy(DestroyRequest { id, etag }).await.expect("it is no error");
    }
    if let (Some((size, commands)), Some((size_after, commands_after))) = (before, state(&world).await) {
        assert_eq!(size, size_after, "DBSIZE");
        for write in ["set", "setex", "psetex", "del", "unlink", "pexpireat", "expire"] {
            assert_eq!(commands.get(write), commands_after.get(write), "{write}");
        }
    }
    assert_eq!(open(&mut stub, &living.id).await.etag, living.etag);
}

/// How many keys there are, and how often each command was called; `None` where there is no Redis.
async fn state(world: &World) -> Option<(u64, BTreeMap<String, u64>)> {
    let redis: &TestRedis = world.redis.as_ref()?;
    let stats: String = redis.command(&["INFO", "commandstats"]).await;
    let calls = |line: &str| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((command.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    Some((redis.command(&["DBSIZE"]).await, stats.lines().filter_map(calls).collect()))
}
