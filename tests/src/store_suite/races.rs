//! The promises under contention, counted: each race runs many rounds, each with a session of its own, and tallies what
//! went wrong. A sentence of the suite is a race whose tally is clean; the naive store's tallies are printed (`it/stores.rs`).
//!
//! Seven races that share their few words: that is why they stay in one file.

use std::{pin::Pin, sync::Arc, time::Duration};

use sessiond::store::{Change, Create, Created, Expected, Save, Saved, Store};
use tokio::sync::Barrier;

use super::{Host, Visitor, any_create, any_mint, attempt, data, value};
use crate::rounds;

/// Rounds of each race in the long form; there are seven races, so more than 10,000 for each store.
const ROUNDS: usize = 1_500;

/// What came of a race.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rounds run.
    pub rounds: usize,
    /// Changes that the store acknowledged.
    pub acknowledged: usize,
    /// Acknowledged, and not in the session (P1).
    pub lost: usize,
    /// There after a Destroy that was acknowledged, or opened by a secret that was replaced (P2, P3).
    pub revived: usize,
    /// Applied more often than once, or though refused (P5).
    pub twice: usize,
    /// Refused though nothing stood against it.
    pub refused: usize,
}

impl Tally {
    /// Nothing went wrong.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.revived, self.twice, self.refused) == (0, 0, 0, 0)
    }

    fn must_be_clean(self, race: &str) {
        println!("{race}: {self:?}");
        assert!(self.is_clean(), "{race}: {self:?}");
        assert!(self.acknowledged >= self.rounds, "{race}: something happened in every round: {self:?}");
    }
}

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs the tasks at once: none begins before all are there.
async fn together<T: Send + 'static>(tasks: Vec<Task<T>>) -> Vec<T> {
    let start = Arc::new(Barrier::new(tasks.len()));
    let running: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in running {
        results.push(task.await.expect("no task panics"));
    }
    results
}

/// As many stores as there are writers: each has connections of its own.
fn stores<H: Host>(host: &H, number: usize) -> Vec<H::Store> {
    (0..number).map(|_| host.store()).collect()
}

/// The same visitor at another store of the same host.
fn at<S: Store>(visitor: &Visitor<S>, store: &S) -> Visitor<S> {
    Visitor { store: store.clone(), claim: visitor.claim.clone() }
}

fn times(text: &str, tag: &str) -> usize {
    text.split(',').filter(|there| *there == tag).count()
}

/// Save against save, by version: each writer reads, appends and saves, and reads again where the version was stale.
pub async fn appends<H: Host>(host: &H, rounds: usize) -> Tally {
    const WRITERS: usize = 3;
    const APPENDS: usize = 3;
    let stores = stores(host, WRITERS);
    let mut tally = Tally { rounds, ..Tally::default() };
    for _ in 0..rounds {
        let ada = Visitor::create(stores[0].clone(), Create { data: data(&[("log", "")]), ..any_create() }).await;
        let writers = stores.iter().enumerate().map(|(writer, store)| {
            let ada = at(&ada, store);
            Box::pin(async move {
                let mut acknowledged = Vec::new();
                for number in 0..APPENDS {
                    let tag = format!("{writer}-{number}");
                    while !append(&ada, &tag).await {}
                    acknowledged.push(tag);
                }
                acknowledged
            }) as Task<Vec<String>>
        });
        let tags: Vec<String> = together(writers.collect()).await.concat();
        let log = ada.look().await.map(|found| value(&found.record.data, "log").unwrap_or_default().to_owned());
        let log = log.unwrap_or_default();
        tally.acknowledged += tags.len();
        for tag in tags {
            match times(&log, &tag) {
                0 => tally.lost += 1,
                more => tally.twice += more - 1,
            }
        }
    }
    tally
}

/// One try to append: true if it is in the session now, as far as its writer can know.
async fn append<S: Store>(ada: &Visitor<S>, tag: &str) -> bool {
    let there = ada.there().await.record;
    let log = value(&there.data, "log").unwrap_or_default();
    if times(log, tag) > 0 {
        // After an unknown outcome, one looks again.
        return true;
    }
    match ada.save(ada.replace(there.etag(), data(&[("log", &format!("{log},{tag}"))]))).await {
        Saved::Stored(_) => true,
        Saved::Conflict | Saved::Unknown => false,
        other => panic!("a fresh Save with the right secret is stored or conflicts, not {other:?}"),
    }
}

/// Save against save, by keys: twenty requests that all opened the same version, each changes a key of its own.
pub async fn merges<H: Host>(host: &H, rounds: usize) -> Tally {
    let stores = stores(host, 20);
    let keys: Vec<String> = (0..stores.len()).map(|writer| format!("key-{writer}")).collect();
    let mut tally = Tally { rounds, ..Tally::default() };
    for _ in 0..rounds {
        let ada = Visitor::new(stores[0].clone()).await;
        let opened = Expected::Etag(ada.etag().await);
        let writers = stores.iter().zip(&keys).map(|(store, key)| {
            let (ada, key) = (at(&ada, store), key.clone());
            Box::pin(async move {
                let save = Save { expected: opened, ..ada.merge(&[(&key, Some("there"))]) };
                matches!(ada.save(save).await, Saved::Stored(_))
            }) as Task<bool>
        });
        let stored = together(writers.collect()).await;
        let there = ada.there().await.record.data;
        for (key, stored) in keys.iter().zip(stored) {
            let there = value(&there, key).is_some();
            tally.acknowledged += usize::from(stored);
            tally.refused += usize::from(!stored);
            tally.lost += usize::from(stored && !there);
            tally.twice += usize::from(!stored && there);
        }
    }
    tally
}

/// Save against destroy: two Saves (a change, a whole map, a rotate by turns) beside a Destroy.
pub async fn saves_and_a_destroy<H: Host>(host: &H, rounds: usize) -> Tally {
    let stores = stores(host, 3);
    let mut tally = Tally { rounds, ..Tally::default() };
    for round in 0..rounds {
        let ada = Visitor::new(stores[0].clone()).await;
        let change = ada.merge(&[("late", Some("1"))]);
        let whole = Save { change: Change::Replace(data(&[("late", "2")])), ..ada.keep() };
        let saves = [[change.clone(), whole.clone()], [ada.rotate(), change], [whole, ada.rotate()]][round % 3].clone();
        let mut hashes = vec![ada.claim.hash];
        hashes.extend(saves.iter().filter_map(|save| Some(save.rotate?.hash)));
        let destroyer = at(&ada, &stores[2]);
        let mut tasks: Vec<Task<()>> = vec![Box::pin(async move {
            destroyer.destroy(Expected::Any).await;
        })];
        for (save, store) in saves.into_iter().zip(&stores) {
            let ada = at(&ada, store);
            tasks.push(Box::pin(async move {
                // Stored before the Destroy, or refused after it: both are right.
                ada.save(save).await;
            }));
        }
        together(tasks).await;
        tally.acknowledged += 1;
        for hash in hashes {
            tally.revived += usize::from(ada.showing(hash).look().await.is_some());
        }
    }
    tally
}

/// Rotate against save: what is acknowledged is there under the new secret, what is refused is not, the old secret is dead.
pub async fn a_rotate_and_a_save<H: Host>(host: &H, rounds: usize) -> Tally {
    let stores = stores(host, 2);
    let mut tally = Tally { rounds, ..Tally::default() };
    for _ in 0..rounds {
        let old = Visitor::new(stores[0].clone()).await;
        let rotate = old.rotate();
        let new = old.showing(rotate.rotate.expect("a rotate").hash);
        let change = old.merge(&[("beside", Some("1"))]);
        let tasks = [rotate, change].into_iter().zip(&stores).map(|(save, store)| {
            let old = at(&old, store);
            Box::pin(async move { old.save(save).await }) as Task<Saved>
        });
        let answers = together(tasks.collect()).await;
        let [rotated, changed] = [&answers[0], &answers[1]].map(|answer| matches!(answer, Saved::Stored(_)));
        let found = new.look().await;
        let there = found.as_ref().is_some_and(|found| value(&found.record.data, "beside").is_some());
        tally.acknowledged += usize::from(rotated) + usize::from(changed);
        tally.refused += usize::from(!rotated);
        tally.lost += usize::from(rotated && found.is_none()) + usize::from(changed && !there);
        tally.twice += usize::from(!changed && there);
        tally.revived += usize::from(old.look().await.is_some());
    }
    tally
}

/// Renew against destroy. Many sessions are let grow old enough together that a renewal is worth its write.
pub async fn renewals_and_a_destroy<H: Host>(host: &H, rounds: usize) -> Tally {
    const BATCH: usize = 60;
    let stores = stores(host, 3);
    let mut tally = Tally { rounds, ..Tally::default() };
    for begin in (0..rounds).step_by(BATCH) {
        let mut sessions = Vec::new();
        for _ in begin..rounds.min(begin + BATCH) {
            let create = Create { idle_timeout: Duration::from_secs(5), ..any_create() };
            sessions.push((Visitor::create(stores[0].clone(), create.clone()).await, create));
        }
        host.pass(Duration::from_millis(600)).await;
        for (ada, create) in sessions {
            let mut tasks: Vec<Task<()>> = Vec::new();
            for (number, store) in stores.iter().enumerate() {
                let ada = at(&ada, store);
                tasks.push(match number {
                    0 => Box::pin(async move {
                        ada.destroy(Expected::Any).await;
                    }),
                    _ => Box::pin(async move { ada.renew().await }),
                });
            }
            together(tasks).await;
            tally.acknowledged += 1;
            tally.revived += usize::from(ada.look().await.is_some());
            // The create's repeat, held up until now: the tombstone stands, whoever renewed.
            let held_up = ada.store.create(create, attempt()).await.expect("the store answers");
            tally.revived += usize::from(!matches!(held_up, Created::Gone));
        }
    }
    tally
}

/// One create, four times at once, each attempt with the secret that it drew: one session, and one secret for all.
pub async fn repeated_creates<H: Host>(host: &H, rounds: usize) -> Tally {
    let stores = stores(host, 4);
    let mut tally = Tally { rounds, ..Tally::default() };
    for _ in 0..rounds {
        let create = any_create();
        let attempts: Vec<Create> = stores.iter().map(|_| Create { mint: any_mint(), ..create.clone() }).collect();
        let tasks = attempts.iter().zip(&stores).map(|(create, store)| {
            let (create, store) = (create.clone(), store.clone());
            Box::pin(async move { store.create(create, attempt()).await.expect("the store answers") }) as Task<Created>
        });
        let answers = together(tasks.collect()).await;
        let mut told = Vec::new();
        for (answer, attempt) in answers.iter().zip(&attempts) {
            match answer {
                Created::Stored(_) => {
                    tally.acknowledged += 1;
                    tally.twice += told.len().min(1);
                    told.push(attempt.mint.hash);
                }
                Created::Exists(_) => {}
                Created::Unknown | Created::Gone => tally.refused += 1,
            }
        }
        for answer in &answers {
            if let Created::Exists(found) = answer {
                // Told the secret of the one that was stored; any other would be a cookie that opens nothing.
                tally.lost += usize::from(!told.contains(&found.record.current));
            }
        }
        for attempt in attempts {
            let claim = super::Claim { app: create.app.clone(), handle: create.handle, hash: attempt.mint.hash };
            let opens = Visitor { store: stores[0].clone(), claim }.look().await.is_some();
            let told = told.contains(&attempt.mint.hash);
            tally.lost += usize::from(told && !opens);
            tally.revived += usize::from(!told && opens);
        }
    }
    tally
}

/// One Save, four times at once (a change and a rotate by turns): applied once, and every attempt is told so.
pub async fn repeated_saves<H: Host>(host: &H, rounds: usize) -> Tally {
    let stores = stores(host, 4);
    let mut tally = Tally { rounds, ..Tally::default() };
    for round in 0..rounds {
        let ada = Visitor::new(stores[0].clone()).await;
        let rotates = round % 2 == 1;
        let operation = if rotates { ada.rotate() } else { ada.merge(&[("once", Some("1"))]) };
        let attempts: Vec<Save> =
            stores.iter().map(|_| Save { rotate: rotates.then(any_mint), ..operation.clone() }).collect();
        let tasks = attempts.iter().zip(&stores).map(|(save, store)| {
            let (save, ada) = (save.clone(), at(&ada, store));
            Box::pin(async move { ada.save(save).await }) as Task<Saved>
        });
        let answers = together(tasks.collect()).await;
        let applied: Vec<usize> = (0..answers.len()).filter(|at| matches!(answers[*at], Saved::Stored(_))).collect();
        tally.acknowledged += applied.len();
        tally.twice += applied.len().saturating_sub(1);
        let Some(first) = applied.first() else {
            tally.refused += 1;
            continue;
        };
        let current = attempts[*first].rotate.map_or(ada.claim.hash, |mint| mint.hash);
        for answer in &answers {
            let told = match answer {
                Saved::Stored(_) => true,
                Saved::Repeat(_) => !rotates,
                Saved::Replaced { found: Some(found), maybe_applied: true } => {
                    rotates && found.record.current == current
                }
                _ => false,
            };
            tally.refused += usize::from(!told);
        }
        match ada.showing(current).look().await {
            Some(found) => tally.twice += usize::from(found.record.version != 2),
            None => tally.lost += 1,
        }
    }
    tally
}

/// P1: of the appends that the store acknowledged, each is there once.
pub async fn p1_parallel_appends_by_version_are_all_there(host: impl Host) {
    appends(&host, rounds(ROUNDS)).await.must_be_clean("save against save, by version");
}

/// P1: parallel changes of different keys never stand in each other's way.
pub async fn p1_parallel_merges_of_different_keys_all_succeed_at_once(host: impl Host) {
    merges(&host, rounds(ROUNDS)).await.must_be_clean("save against save, by keys");
}

/// P2: after the Destroy nothing opens, by no secret.
pub async fn p2_no_save_brings_back_what_is_destroyed_beside_it(host: impl Host) {
    saves_and_a_destroy(&host, rounds(ROUNDS)).await.must_be_clean("save against destroy");
}

/// P1, P3: a Save beside a rotate came before it, or was refused.
pub async fn p1_a_save_beside_a_rotate_is_in_the_session_or_was_refused(host: impl Host) {
    a_rotate_and_a_save(&host, rounds(ROUNDS)).await.must_be_clean("rotate against save");
}

/// P2: after the Destroy nothing opens, and the tombstone stands.
pub async fn p2_no_renewal_brings_back_what_is_destroyed_beside_it(host: impl Host) {
    renewals_and_a_destroy(&host, rounds(ROUNDS)).await.must_be_clean("renew against destroy");
}

/// P5: one create makes one session, however often it comes.
pub async fn p5_creates_repeated_in_parallel_make_one_session_with_one_secret(host: impl Host) {
    repeated_creates(&host, rounds(ROUNDS)).await.must_be_clean("create against its repeats");
}

/// P5: one Save is applied once, however often it comes.
pub async fn p5_saves_repeated_in_parallel_are_applied_once(host: impl Host) {
    repeated_saves(&host, rounds(ROUNDS)).await.must_be_clean("save against its repeats");
}
