//! What is kept, and what should not be.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value};
use sessiond_proto::v1::{OpenRequest, Session};
use tokio::task::JoinSet;

use super::ledger::{Life, When, lock};
use crate::{PATIENCE, Stub, is_outage, json, poll_pause};

/// Sessions looked at at once.
const AT_ONCE: usize = 16;

/// What the ledger and the store do not agree on.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Sessions there ever were.
    pub sessions: usize,
    /// Saves that were acknowledged, to sessions that should live; creates among them.
    pub acknowledged: usize,
    /// Of these, what is not there.
    pub lost: Vec<Lost>,
    /// Ends that were acknowledged.
    pub destroyed: usize,
    /// Of these, sessions that open.
    pub revived: Vec<Lost>,
    /// Ids whose replacement was acknowledged.
    pub replaced: usize,
    /// Of these, ids that open something.
    pub usable: Vec<Lost>,
    /// Operations with two effects, or with one though they were refused.
    pub twice: Vec<String>,
    /// Operations that were refused as of an unknown id, and had been applied two ids ago.
    pub in_doubt: Vec<String>,
    /// Answers that were about another session.
    pub wrong: Vec<String>,
    /// Opens that found nothing though nothing had ended it.
    pub vanished: Vec<String>,
    /// Dead sessions that were opened or saved, while the load ran.
    pub dead_meanwhile: Vec<String>,
    /// Sessions of which nothing can be told, as a call ended in doubt.
    pub adrift: usize,
}

/// Something that was acknowledged and did not stay so.
#[derive(Clone, Debug)]
pub struct Lost {
    /// What.
    pub what: String,
    /// When it was asked for.
    pub sent: Duration,
    /// When it was acknowledged.
    pub acknowledged: Duration,
}

impl Lost {
    fn new(what: String, when: When) -> Self {
        Self { what, sent: when.sent, acknowledged: when.acknowledged }
    }
}

impl Audit {
    /// Nothing was lost, and nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.is_sane()
    }

    /// Whatever was lost: nothing that is dead lives, nothing was done twice, and nobody saw another's session.
    pub fn is_sane(&self) -> bool {
        self.revived.is_empty()
            && self.usable.is_empty()
            && self.dead_meanwhile.is_empty()
            && self.twice.is_empty()
            && self.wrong.is_empty()
    }

    /// How long before the fault that took it the oldest of what was lost had been acknowledged: the first of these after it
    /// was asked for. What was lost without a fault is as old as can be.
    pub fn oldest_loss(&self, faults: &[Duration]) -> Duration {
        let ages = self.losses().map(|lost| {
            let next = faults.iter().filter(|fault| **fault >= lost.sent).min();
            // Who reads an answer late may do so after the fault.
            next.map_or(Duration::MAX, |fault| fault.saturating_sub(lost.acknowledged))
        });
        ages.max().unwrap_or_default()
    }

    /// When the first and the last was acknowledged of what was lost, in seconds from this moment.
    pub fn span_of_losses(&self, from: Duration) -> Option<(f64, f64)> {
        let times = || self.losses().map(|lost| lost.acknowledged.as_secs_f64() - from.as_secs_f64());
        Some((times().min_by(f64::total_cmp)?, times().max_by(f64::total_cmp)?))
    }

    fn losses(&self) -> impl Iterator<Item = &Lost> {
        self.lost.iter().chain(&self.revived).chain(&self.usable)
    }

    /// A few of what was found, to tell with a failure.
    pub fn samples(&self) -> Vec<String> {
        let told = [&self.lost, &self.revived, &self.usable]
            .into_iter()
            .flat_map(|losses| losses.iter().take(5).map(|lost| format!("{} ({:?})", lost.what, lost.acknowledged)));
        let others = [&self.twice, &self.wrong, &self.vanished, &self.dead_meanwhile];
        told.chain(others.into_iter().flat_map(|others| others.iter().take(5).cloned())).collect()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions: lost {} of {} Saves, revived {} of {}, old ids usable {} of {}, applied twice {}, \
             in doubt {}, wrong session {}, vanished {}, dead meanwhile {}, adrift {}",
            self.sessions,
            self.lost.len(),
            self.acknowledged,
            self.revived.len(),
            self.destroyed,
            self.usable.len(),
            self.replaced,
            self.twice.len(),
            self.in_doubt.len(),
            self.wrong.len(),
            self.vanished.len(),
            self.dead_meanwhile.len(),
            self.adrift,
        )
    }
}

pub(super) async fn audit(stubs: &[Stub], lives: &[Arc<Life>], seen: Audit) -> Audit {
    let mut lanes = JoinSet::new();
    let (lives, next): (Arc<[Arc<Life>]>, _) = (lives.into(), Arc::<AtomicUsize>::default());
    for lane in 0..AT_ONCE {
        let (stub, lives, next) = (stubs[lane % stubs.len()].clone(), Arc::clone(&lives), Arc::clone(&next));
        lanes.spawn(async move {
            let mut audit = Audit::default();
            while let Some(life) = lives.get(next.fetch_add(1, Ordering::Relaxed)) {
                audit.look_at(&stub, life).await;
            }
            audit
        });
    }
    let mut whole = seen;
    for audit in lanes.join_all().await {
        whole.add(audit);
    }
    whole
}

impl Audit {
    fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.acknowledged += other.acknowledged;
        self.lost.extend(other.lost);
        self.destroyed += other.destroyed;
        self.revived.extend(other.revived);
        self.replaced += other.replaced;
        self.usable.extend(other.usable);
        self.twice.extend(other.twice);
        self.in_doubt.extend(other.in_doubt);
        self.wrong.extend(other.wrong);
        self.adrift += other.adrift;
    }

    async fn look_at(&mut self, stub: &Stub, life: &Life) {
        self.sessions += 1;
        // The account is taken out of its lock: nobody writes to it any more.
        let (id, born, acknowledged, refused, replaced, died, is_adrift) = {
            let account = lock(&life.account);
            (
                account.id.clone(),
                account.born,
                account.acknowledged.clone(),
                account.refused.clone(),
                account.replaced.clone(),
                account.died,
                account.is_adrift,
            )
        };
        let mut found = look(stub, &id).await;
        let is_found = found.is_some();
        for (old, when) in replaced.iter().rev() {
            self.replaced += 1;
            if let Some(session) = look(stub, old).await {
                self.usable.push(Lost::new(format!("{}: an id opens that was replaced", life.name), *when));
                // Where the rotate alone was lost, the rest is under the old id.
                found = found.or(Some(session));
            }
        }
        if let Some(session) = &found
            && map(session).get("name").is_none_or(|name| *name != life.name[..])
        {
            self.wrong.push(format!("{} opens {}", life.name, session.handle));
        }
        if let Some(died) = died {
            self.destroyed += 1;
            // By an older id: that is a rotate lost, and counted as one. Its end was asked for by an id that opens nothing.
            if is_found {
                self.revived.push(Lost::new(format!("{}: it opens", life.name), died));
            }
        } else if is_adrift {
            self.adrift += 1;
        } else {
            self.acknowledged += acknowledged.len() + 1;
            self.compare(life, found.as_ref(), born, &acknowledged, &refused);
        }
    }

    fn compare(
        &mut self,
        life: &Life,
        found: Option<&Session>,
        born: When,
        acknowledged: &[(String, When)],
        refused: &[(String, usize)],
    ) {
        let name = &life.name;
        let Some(session) = found else {
            self.lost.push(Lost::new(format!("{name}: its create"), born));
            let all = acknowledged.iter().map(|(tag, when)| Lost::new(format!("{name}: {tag}"), *when));
            self.lost.extend(all);
            return;
        };
        let tags = tags(session);
        for (tag, when) in acknowledged.iter().filter(|(tag, _)| !tags.contains_key(tag)) {
            self.lost.push(Lost::new(format!("{name}: {tag}"), *when));
        }
        for (tag, replaced) in refused.iter().filter(|(tag, _)| tags.contains_key(tag)) {
            let what =
                format!("{name}: {tag} was refused and is there; the id was replaced {replaced} times meanwhile");
            if *replaced < 2 { &mut self.twice } else { &mut self.in_doubt }.push(what);
        }
        for (tag, times) in tags.iter().filter(|(_, times)| **times > 1) {
            self.twice.push(format!("{name}: {tag} is there {times} times"));
        }
        // A session counts its Saves, in its version; and each brings one tag.
        let saves = version(session) - 1;
        if saves != tags.len() {
            self.twice.push(format!("{name}: {saves} Saves were applied, of {} requests", tags.len()));
        }
    }
}

async fn look(stub: &Stub, id: &str) -> Option<Session> {
    let until = Instant::now() + PATIENCE;
    loop {
        match stub.clone().open(OpenRequest { id: id.to_owned(), no_renew: true }).await {
            Ok(answer) => return answer.into_inner().session.filter(|session| !session.id.is_empty()),
            Err(status) => assert!(is_outage(&status) && Instant::now() < until, "the audit cannot open: {status:?}"),
        }
        poll_pause().await;
    }
}

fn map(session: &Session) -> Map<String, Value> {
    match session.data.as_ref().map(json) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn tags(session: &Session) -> BTreeMap<String, usize> {
    let mut map = map(session);
    map.remove("name");
    let list = map.remove("list").unwrap_or_default();
    let listed = list.as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned));
    let mut tags = BTreeMap::new();
    listed.chain(map.into_iter().map(|(key, _)| key)).for_each(|tag| *tags.entry(tag).or_default() += 1);
    tags
}

/// How often the session was saved, its create included: an etag begins with it, which is no caller's business.
fn version(session: &Session) -> usize {
    let (version, _) = session.etag.split_once('-').expect("version and mark");
    usize::from_str_radix(version, 16).expect("a hexadecimal number")
}
