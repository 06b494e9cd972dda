//! Who the master is, as the Sentinels tell it. Each is listened to on a connection of its own: it tells at once when the
//! master changes, and is asked besides, as what is told unasked may be missed. Where they differ, the one with the newest
//! configuration is believed: an old master acknowledges writes for seconds after it was deposed, and loses them all.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{Pipeline, PushInfo, PushKind, RedisResult, Value, from_redis_value};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use super::{
    access::{Access, Trouble},
    connection::Group,
    pipe::Pipe,
    rights::MissingRight,
    url::Address,
};

/// How long a Sentinel may take to be connected to, and to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// How often a Sentinel is asked that tells nothing by itself; and one that could not be reached.
const INTERVAL: Duration = Duration::from_secs(1);

/// The least time between two questions to one Sentinel, however many calls fail.
const SPACING: Duration = Duration::from_millis(50);

/// How long to wait until most of the Sentinels were asked.
const PATIENCE: Duration = Duration::from_millis(500);

/// What makes a Sentinel worth asking: the first when all is over; the others, on the one that leads the failover, when the
/// new master is one, and when the failover begins.
const EVENTS: [&str; 3] = ["+switch-master", "+promoted-slave", BEGINS];

/// A failover begins. From here on what the old master acknowledges may be lost, also what a replica has confirmed: that one
/// may not be the one that is promoted. So nothing is written until there is a new master, or it was given up.
const BEGINS: &str = "+try-failover";

/// How long a failover may hold up writes. One that takes longer is in trouble; then the old master is worth a try.
const HOLD: Duration = Duration::from_secs(5);

/// The Sentinels of one master.
pub(super) struct Sentinels {
    addresses: Vec<Address>,
    /// The master's name.
    name: String,
    access: Access,
    /// The connections to the master.
    group: Arc<Group>,
    known: watch::Sender<Known>,
    /// Asks all Sentinels now.
    doubts: watch::Sender<()>,
}

/// What they told.
#[derive(Debug)]
struct Known {
    /// By Sentinel; nothing where one was not asked yet.
    told: Vec<Option<Result<View, Trouble>>>,
    /// By Sentinel: whether it leads a failover that has no new master yet.
    failing_over: Vec<bool>,
    /// The word that is believed.
    master: Option<View>,
}

/// Where the master is, and since which change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    epoch: u64,
    master: Address,
}

impl Known {
    /// The word to believe: the newest one that was ever told, though whoever told it may be gone, since a Sentinel that was
    /// cut off with the old master goes on naming that. An older one only if most of the Sentinels say so: they were made anew.
    fn best(&self) -> Option<&View> {
        let views = || self.told.iter().flatten().flatten();
        let newest = views().max_by_key(|view| view.epoch);
        match (&self.master, newest) {
            (Some(known), Some(newest)) if newest.epoch <= known.epoch => {
                let other = views().find(|view| {
                    let says_so = views().filter(|other| other == view).count();
                    **view != *known && says_so * 2 > self.told.len()
                });
                Some(other.unwrap_or(known))
            }
            (known, newest) => newest.or(known.as_ref()),
        }
    }

    /// Whether most of them were asked, successfully or not.
    fn is_settled(&self) -> bool {
        self.told.iter().flatten().count() * 2 > self.told.len()
    }

    fn trouble(&self) -> Option<&Trouble> {
        self.told.iter().flatten().find_map(|told| told.as_ref().err())
    }
}

impl Sentinels {
    /// Begins to listen, as long as the set of tasks is there. Must be called within a runtime.
    pub(super) fn listen(
        addresses: Vec<Address>,
        name: String,
        access: Access,
        group: Arc<Group>,
    ) -> (Arc<Self>, JoinSet<()>) {
        let (told, failing_over) = (vec![None; addresses.len()], vec![false; addresses.len()]);
        let known = watch::Sender::new(Known { told, failing_over, master: None });
        let sentinels = Arc::new(Self { addresses, name, access, group, known, doubts: watch::Sender::new(()) });
        let mut tasks = JoinSet::new();
        for at in 0..sentinels.addresses.len() {
            tasks.spawn(Arc::clone(&sentinels).follow(at));
        }
        (sentinels, tasks)
    }

    /// Where the master is, by the last word of any; whoever connects sees whether it still is one.
    pub(super) async fn master(&self) -> Result<Address, Trouble> {
        let mut known = self.known.subscribe();
        let settled = known.wait_for(|known| known.master.is_some() && known.is_settled());
        // Without most of them, one will do.
        let _ = timeout(PATIENCE, settled).await;
        let known = self.known.borrow();
        known.master.as_ref().map(|view| view.master.clone()).ok_or_else(|| {
            let trouble = known.trouble().map_or("not in time", |trouble| &trouble.0);
            Trouble(format!("no Sentinel tells where the master is: {trouble}").into())
        })
    }

    /// What is known may be wrong: all are asked.
    pub(super) fn doubt(&self) {
        self.doubts.send_replace(());
    }

    /// Listens to one Sentinel for ever.
    async fn follow(self: Arc<Self>, at: usize) {
        let mut doubts = self.doubts.subscribe();
        loop {
            let trouble = match self.listen_to(at, &mut doubts).await {
                Err(trouble) => trouble,
                Ok(never) => match never {},
            };
            debug!(sentinel = %self.addresses[at], %trouble, "a Sentinel cannot be asked");
            self.known.send_modify(|known| known.told[at] = Some(Err(trouble)));
            sleep(INTERVAL).await;
        }
    }

    async fn listen_to(&self, at: usize, doubts: &mut watch::Receiver<()>) -> Result<Infallible, Trouble> {
        let address = &self.addresses[at];
        let late = |_| Trouble::said("no reply before the deadline").at(address);
        let refused = |trouble: Trouble| trouble.at(address);
        let told = Arc::new(Notify::new());
        let tells = Arc::clone(&told);
        let (group, about) = (Arc::clone(&self.group), format!("master {} ", self.name));
        let began = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&began);
        let pushed = move |push: PushInfo| {
            if let (PushKind::Message, [Value::BulkString(channel), Value::BulkString(event)]) =
                (&push.kind, &push.data[..])
                && channel == BEGINS.as_bytes()
                && event.starts_with(about.as_bytes())
            {
                // At once: the question comes some moments later.
                group.hold(Some(Instant::now() + HOLD));
                begins.store(true, Ordering::Relaxed);
            }
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                tells.notify_one();
            }
        };
        let (sentinel, _) = self.access.connect(address, Instant::now() + ANSWER, pushed).await?;
        let mut subscribe = Pipeline::with_capacity(EVENTS.len());
        for event in EVENTS {
            subscribe.cmd("SUBSCRIBE").arg(event);
        }
        let subscribed = timeout(ANSWER, sentinel.ask(subscribe.cmd_iter())).await.map_err(late)?;
        let answers = subscribed.map_err(Trouble::from).map_err(refused)?;
        for (channel, answer) in EVENTS.iter().zip(answers) {
            answer.extract_error().map_err(|error| match MissingRight::of(&error) {
                Some(MissingRight::Channel) => Trouble(
                    format!("this user of the Sentinel may not subscribe to {channel}: grant &{channel} (SECURITY.md)")
                        .into(),
                ),
                _ => refused(error.into()),
            })?;
        }
        loop {
            let (view, failing_over) = timeout(ANSWER, self.ask(&sentinel)).await.map_err(late)?.map_err(refused)?;
            self.learn(at, view, began.swap(false, Ordering::Relaxed), failing_over);
            sleep(SPACING).await;
            tokio::select! {
                () = told.notified() => {}
                _ = doubts.changed() => {}
                () = sleep(INTERVAL) => {}
            }
        }
    }

    /// What a Sentinel tells, and whether it leads a failover that has no new master yet.
    async fn ask(&self, sentinel: &Pipe) -> Result<(View, bool), Trouble> {
        // The epoch first: a failover between the two gives a new address of an old epoch, which is not believed yet.
        let mut questions = Pipeline::with_capacity(2);
        questions.cmd("SENTINEL").arg("MASTER").arg(&self.name);
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let answers = sentinel.ask(questions.cmd_iter()).await?;
        let answers: RedisResult<Vec<Value>> = answers.into_iter().map(Value::extract_error).collect();
        let answers = answers.map_err(|error| {
            let is_unknown = error.detail().is_some_and(|detail| detail.contains("No such master"));
            let unknown = || Trouble(format!("the Sentinels know no master named {}", self.name).into());
            if is_unknown { unknown() } else { error.into() }
        })?;
        let told: RedisResult<(HashMap<String, String>, (String, u16))> =
            from_redis_value(Value::Array(answers)).map_err(Into::into);
        let (fields, (host, port)) = told?;
        let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        let epoch = epoch.ok_or_else(|| Trouble::said("a Sentinel told no config-epoch"))?;
        // Once there is a new master, the address told differs from the one that the failover began with.
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let is_old = field("ip") == host && field("port") == port.to_string();
        let failing_over = field("flags").contains("failover_in_progress") && is_old;
        Ok((View { epoch, master: Address { host, port } }, failing_over))
    }

    /// Takes a Sentinel's word in; and whether it told that a failover begins, and whether it still leads one. If the master is
    /// another one now, the connections to the old one are dropped.
    fn learn(&self, at: usize, view: View, began: bool, failing_over: bool) {
        let mut deposed = None;
        self.known.send_modify(|known| {
            known.told[at] = Some(Ok(view));
            let best = known.best().cloned();
            let before = mem::replace(&mut known.master, best);
            let is_another = |before: &View| known.master.as_ref().is_some_and(|view| view.master != before.master);
            deposed = before.filter(is_another);
            let before = mem::replace(&mut known.failing_over[at], failing_over);
            if deposed.is_some() {
                known.failing_over.fill(false);
            }
            let is_over = !known.failing_over.contains(&true);
            if failing_over && !before && !is_over {
                self.group.hold(Some(Instant::now() + HOLD));
            } else if is_over && (before || began || deposed.is_some()) {
                self.group.hold(None);
            }
        });
        if let Some(deposed) = deposed {
            info!(deposed = %deposed.master, "the Sentinels have another master now");
            self.group.retire();
        }
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels").field("addresses", &self.addresses).field("name", &self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(epoch: u64, host: &str) -> View {
        View { epoch, master: Address { host: host.to_owned(), port: 6379 } }
    }

    fn believed(known: Option<View>, told: [Option<View>; 3]) -> Option<View> {
        let told = told.map(|view| Some(view.ok_or_else(|| Trouble::said("gone")))).to_vec();
        Known { told, failing_over: vec![false; 3], master: known }.best().cloned()
    }

    #[test]
    fn the_newest_word_is_believed() {
        let told = [Some(view(4, "old")), Some(view(5, "new")), Some(view(5, "new"))];
        assert_eq!(believed(None, told.clone()), Some(view(5, "new")));
        assert_eq!(believed(Some(view(4, "old")), told), Some(view(5, "new")));
    }

    #[test]
    fn a_sentinel_that_was_cut_off_deposes_nobody_when_the_others_are_gone() {
        for told in [[Some(view(4, "old")), None, None], [None, None, None]] {
            assert_eq!(believed(Some(view(5, "new")), told), Some(view(5, "new")));
        }
    }

    #[test]
    fn an_older_word_counts_if_most_say_so() {
        let told = [Some(view(0, "anew")), Some(view(0, "anew")), None];
        assert_eq!(believed(Some(view(5, "new")), told), Some(view(0, "anew")));
    }

    #[test]
    fn of_one_epoch_the_word_that_is_known_stays() {
        let told = [Some(view(4, "old")), Some(view(4, "new")), Some(view(4, "old"))];
        assert_eq!(believed(Some(view(4, "old")), told), Some(view(4, "old")));
    }
}
