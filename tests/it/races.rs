//! Races through the API: many callers with connections of their own, each round a new session, chance with a seed that is
//! printed. Every writer brings a tag of its own into the session, so that at the end it can be told what became of each
//! acknowledged Save; and a session counts its Saves, so that none was applied twice. Each race prints its figures, and is
//! run on both stores, through three services on one Redis, and through this build and the previous one on one Redis. Where
//! there are several services, the callers of a round go to different ones.
//!
//! `rounds` says how many: 10,000 of each race with `scripts/test --long`, a few per cent otherwise.
//!
//! - `saves`: P1, Save against Save, whole maps and changed keys mixed.
//! - `hot`: P1 and P5, a thousand Saves at once.
//! - `destroys`: P2, Save and rotate against Destroy.
//! - `rotates`: P1 and P3, Save against rotate, rotate against rotate.
//! - `repeats`: P5, all of it with answers that get lost and requests that are repeated.

mod destroys;
mod hot;
mod repeats;
mod rotates;
mod saves;

use std::{
    collections::BTreeMap,
    fmt,
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Map, Value, json as j};
use sessiond_proto::v1::{OpenRequest, SaveRequest, Session};
use sessiond_tests::{Calls, Dice, Stub, World, again, change, is_outage, json, reason, replace, request_id, rounds};
use tokio::task::JoinSet;
use tonic::Status;

/// Rounds at a time.
const AT_ONCE: usize = 8;

/// Callers in each round, over as many connections.
const CALLERS: usize = 4;

/// Those who take part in one round.
type Callers = [Stub; CALLERS];

/// What came of a race.
#[derive(Default)]
struct Figures {
    /// Whatever a race counts beside.
    counts: BTreeMap<&'static str, usize>,
    /// Acknowledged, and not there at the end.
    lost: Vec<String>,
    /// Dead, and there at the end.
    revived: Vec<String>,
    /// One request with two effects.
    twice: Vec<String>,
}

impl Figures {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        other.counts.into_iter().for_each(|(what, times)| *self.counts.entry(what).or_default() += times);
        self.lost.extend(other.lost);
        self.revived.extend(other.revived);
        self.twice.extend(other.twice);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in &self.counts {
            write!(f, "{times} {what}, ")?;
        }
        write!(f, "lost {}, revived {}, applied twice {}", self.lost.len(), self.revived.len(), self.twice.len())
    }
}

/// Runs the race, prints its figures, and fails if anything was lost, revived or applied twice.
async fn race<F>(world: &World, what: &str, round: impl Fn(Callers, Dice) -> F + Copy + Send + 'static)
where
    F: Future<Output = Figures> + Send,
{
    let store = world.name();
    let (dice, all, next) = (Dice::new(&format!("{what}, {store}")), rounds(10_000), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let callers: Callers = std::array::from_fn(|_| world.stub());
        let (dice, next) = (dice.clone(), Arc::clone(&next));
        lanes.spawn(async move {
            let mut figures = Figures::default();
            while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < all) {
                figures += round(callers.clone(), dice.split(number)).await;
            }
            figures
        });
    }
    let mut figures = Figures::default();
    lanes.join_all().await.into_iter().for_each(|lane| figures += lane);
    println!("{what}, {store}: {all} rounds, {figures}");
    let faults: Vec<_> = [&figures.lost, &figures.revived, &figures.twice].into_iter().flatten().take(10).collect();
    assert!(faults.is_empty(), "{figures}: {faults:#?}");
}

/// Lets the others go first, for a random while.
async fn dawdle(dice: &mut Dice) {
    if dice.once_in(4) {
        tokio::time::sleep(std::time::Duration::from_millis(1 + dice.below(3) as u64)).await;
    }
    for _ in 0..dice.below(40) {
        tokio::task::yield_now().await;
    }
}

/// The data that a session begins with.
fn blank() -> Value {
    j!({"list": []})
}

/// What the session holds.
fn map(session: &Session) -> Map<String, Value> {
    let Value::Object(map) = json(session.data.as_ref().expect("the answer holds the data")) else { unreachable!() };
    map
}

/// For any version.
fn any(session: &Session) -> Session {
    Session { etag: "*".to_owned(), ..session.clone() }
}

/// A Save that brings the tag in as a key of its own.
fn tag_as_key(session: &Session, tag: &str) -> SaveRequest {
    change(session, &[tag], j!({ tag: true }))
}

/// A Save that brings the tag in at the end of the list, in the whole map as the caller knows it.
fn tag_in_list(session: &Session, known: &Map<String, Value>, tag: &str) -> SaveRequest {
    let mut map = known.clone();
    map["list"].as_array_mut().expect("a list").push(tag.into());
    replace(session, map.into())
}

/// How often each tag is there, as a key or in the list.
fn tags(session: &Session) -> BTreeMap<String, usize> {
    let mut map = map(session);
    let list = map.remove("list").expect("the list is never removed");
    let listed = list.as_array().expect("a list").iter().map(|tag| tag.as_str().expect("a tag").to_owned());
    let mut tags = BTreeMap::new();
    listed.chain(map.into_iter().map(|(key, _)| key)).for_each(|tag| *tags.entry(tag).or_default() += 1);
    tags
}

/// How often the session was saved, its create included. An etag begins with it, which is no caller's business; here it
/// tells whether an operation was applied twice that cannot be seen in the data.
fn version(session: &Session) -> usize {
    let (version, _) = session.etag.split_once('-').expect("version and mark");
    usize::from_str_radix(version, 16).expect("a hexadecimal number")
}

/// Holds what is stored against what was acknowledged and what was refused. Others may be there or not.
fn audit(figures: &mut Figures, session: &Session, acknowledged: &[String], refused: &[String]) {
    let tags = tags(session);
    let name = &session.handle;
    for tag in acknowledged.iter().filter(|tag| !tags.contains_key(*tag)) {
        figures.lost.push(format!("{name}: {tag} was acknowledged and is not there"));
    }
    for tag in refused.iter().filter(|tag| tags.contains_key(*tag)) {
        figures.twice.push(format!("{name}: {tag} was refused and is there"));
    }
    for (tag, times) in tags.iter().filter(|(_, times)| **times > 1) {
        figures.twice.push(format!("{name}: {tag} is there {times} times"));
    }
    let saves = version(session) - 1;
    if saves != tags.len() {
        figures.twice.push(format!("{name}: {saves} Saves were applied, of {} requests", tags.len()));
    }
}

/// Whether the refusal is this one.
fn is(status: &Status, expected: &str) -> bool {
    reason(status) == expected
}

/// The session, if it lives.
async fn look(stub: &Stub, id: &str) -> Option<Session> {
    loop {
        match stub.clone().open(OpenRequest { id: id.to_owned(), no_renew: false }).await {
            Ok(answer) => return answer.into_inner().session.filter(|session| !session.id.is_empty()),
            Err(status) => assert!(is_outage(&status), "{status:?}"),
        }
    }
}

/// Saves, under a request id of its own if it has none.
async fn save(stub: &Stub, mut request: SaveRequest) -> Result<Session, Status> {
    if request.request_id.is_empty() {
        request.request_id = request_id();
    }
    let mut answer = stub.clone().store(request.clone()).await;
    while answer.as_ref().is_err_and(is_outage) {
        answer = stub.clone().store(again(&request)).await;
    }
    answer
}

/// Destroys.
async fn end(stub: &Stub, id: &str) {
    while let Err(status) = stub.clone().end(id).await {
        assert!(is_outage(&status), "{status:?}");
    }
}
