//! Proves that sessions can be kept here before readiness says so: runs what serving runs on a session of its own, and removes
//! it. A right that the Redis user lacks, a proxy that lets only some commands through, or a reader that does not see what was
//! written would otherwise be found by the first visitors.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use super::{
    RedisStore,
    acts::{Act, Failure},
    connection::Connection,
    keys,
    rights::MissingRight,
};
use crate::{
    session::{App, Data, Mint, RequestId, Salt, SecretHash, ShortMark},
    store::{Attempt, Change, Claim, Create, Created, Expected, Lifetime, Save, Saved, Store, StoreError},
};

/// How long the probe's session lives if it cannot be removed. Whole seconds: it is stored by SETEX.
const LIFE: Duration = Duration::from_secs(1);

/// To what a Save shortens it. Not whole seconds, so that this Save stores it by PSETEX.
const SHORT_LIFE: Duration = Duration::from_millis(900);

/// How long each step may take.
const STEP: Duration = Duration::from_secs(1);

/// How many handles are drawn at most to find one for each node of a cluster. A node with a single slot is missed once in
/// three thousand probes; it is then not probed.
const DRAWS: usize = 8 * 16384;

/// Removes the key: a time to live that is over deletes at once, and needs no right but those that the other scripts need.
/// Sent by EVAL, which serving needs after a SCRIPT FLUSH.
const REMOVE: &str = "#!lua flags=allow-oom\nreturn redis.call('PEXPIREAT', KEYS[1], 1)";

impl RedisStore {
    /// Runs the probe on each node that sessions lie on.
    ///
    /// # Errors
    /// The first error that only an operator can mend; otherwise [`StoreError::Unavailable`] if no node could be probed. That a
    /// node takes no writes for now, or has no room, is no error: readiness does not depend on it.
    pub(super) async fn probe_nodes(&self) -> Result<(), StoreError> {
        let claims = self.link.one_per_node(DRAWS, || self.draw()).await?;
        let mut unavailable = None;
        let mut proven = false;
        for outcome in join_all(claims.iter().map(|claim| self.probe_node(claim))).await {
            match outcome {
                Ok(()) => proven = true,
                Err(error @ StoreError::Unavailable(_)) => unavailable = Some(error),
                Err(error) => return Err(error),
            }
        }
        if proven { Ok(()) } else { Err(unavailable.unwrap_or_else(no_node)) }
    }

    /// A fresh handle, with the hash of a secret that nobody knows; and the key.
    fn draw(&self) -> (String, Claim) {
        let app = App::unnamed();
        let handle = RequestId(random()).handle(&app);
        let key = keys::session(&self.prefix, &app, handle);
        (key, Claim { app, handle, hash: SecretHash(random()) })
    }

    async fn probe_node(&self, claim: &Claim) -> Result<(), StoreError> {
        // First of all, so that nothing is stored that cannot be removed again.
        self.remove(claim).await?;
        let outcome = self.live(claim).await;
        self.remove(claim).await?;
        outcome
    }

    /// The life of the probe's session.
    async fn live(&self, claim: &Claim) -> Result<(), StoreError> {
        let begun = Instant::now();
        let create = Create {
            app: claim.app.clone(),
            handle: claim.handle,
            mark: ShortMark(random()),
            mint: Mint { salt: Salt(random()), hash: claim.hash },
            subject: "".into(),
            data: Data::default(),
            idle_timeout: LIFE,
            lifetime: LIFE,
        };
        let stored = match writable(self.create(create, attempt()).await)? {
            // Exists: the answer to the first sending was lost.
            Some(Created::Stored(_) | Created::Exists(_)) => true,
            Some(Created::Unknown | Created::Gone) => return Err(unexpected("its handle is taken")),
            None => false,
        };
        // Where a step takes long, the session has expired before the next one, which then proves the rights all the same.
        let must_live = || stored && begun.elapsed() < SHORT_LIFE;
        if self.open(claim, attempt()).await?.is_none() && must_live() {
            return Err(unexpected("it was created and cannot be opened; a proxy may send reads to replicas"));
        }
        let save = Save {
            claim: claim.clone(),
            mark: ShortMark(random()),
            expected: Expected::Any,
            change: Change::Keep,
            rotate: None,
            subject: None,
            lifetime: Some(Lifetime::Shorten(SHORT_LIFE)),
            idle_timeout: None,
            max_bytes: usize::from(u16::MAX),
            want_data: false,
        };
        match writable(self.save(save, attempt()).await)? {
            None | Some(Saved::Stored(_) | Saved::Repeat(_)) => {}
            Some(Saved::Missing) if !must_live() => {}
            Some(_) => return Err(unexpected("it was created and cannot be saved")),
        }
        writable(self.renew(claim, attempt()).await)?;
        writable(self.destroy(claim, Expected::Any, attempt()).await)?;
        Ok(())
    }

    async fn remove(&self, claim: &Claim) -> Result<(), StoreError> {
        let key = self.key(claim);
        let remove = Remove { key: &key, asking: self.terms.is_cluster };
        writable(self.link.within(&key, attempt(), &remove).await).map(drop)
    }
}

/// Removes the probe's session and its tombstone.
struct Remove<'a> {
    key: &'a str,
    /// Whether ASKING is sent first. The key's own node ignores it; a node that a slot is being moved to needs it.
    asking: bool,
}

impl Act for Remove<'_> {
    type Answer = ();

    const WRITES: bool = true;

    async fn act(&self, connection: &Connection, _: Attempt, _: Instant) -> Result<(), Failure> {
        let mut eval = redis::cmd("EVAL");
        eval.arg(REMOVE).arg(1).arg(self.key);
        let asking = self.asking.then(|| connection.clone().asking());
        match asking.as_ref().unwrap_or(connection).request(&eval).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match MissingRight::of_script(&error, REMOVE) {
                Some(right) => Failure::Denied(right),
                None => error.into(),
            }),
        }
    }
}

/// A step of the probe's own, which begins now.
fn attempt() -> Attempt {
    let since = Instant::now();
    Attempt { since, until: since + STEP }
}

/// What came of a step; `None` where the node takes no writes for now or has no room.
fn writable<T>(outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match outcome {
        Ok(answer) => Ok(Some(answer)),
        Err(StoreError::Full(_) | StoreError::WritesRefused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unexpected(what: &str) -> StoreError {
    StoreError::Broken(format!("the session of the readiness probe: {what}"))
}

fn no_node() -> StoreError {
    StoreError::Unavailable("no node has a slot".to_owned())
}

/// Bytes that differ from probe to probe and cannot be guessed: each process seeds them from the operating system.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let state = RandomState::new();
    for (number, part) in bytes.chunks_mut(8).enumerate() {
        part.copy_from_slice(&state.hash_one(number).to_ne_bytes()[..part.len()]);
    }
    bytes
}
