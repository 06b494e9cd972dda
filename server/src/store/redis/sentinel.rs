//! Who the master is, as the Sentinels tell it. Each is listened to on a connection of its own: it tells at once when the
//! master changes, and is asked besides, as what is told unasked may be missed. Where they differ, the one with the newest
//! configuration is believed: an old master acknowledges writes for seconds after it was deposed, and loses them all.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use redis::{Cmd, PushInfo, PushKind, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use super::{
    access::{Access, Trouble},
    connection::Group,
    url::Address,
};

/// How long a Sentinel may take to be connected to, and to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// How often a Sentinel is asked that tells nothing by itself; and one that could not be reached.
const INTERVAL: Duration = Duration::from_secs(1);

/// The least time between two questions to one Sentinel, however many calls fail.
const SPACING: Duration = Duration::from_millis(50);

/// How long to wait for any Sentinel's word before the last known master is tried.
const PATIENCE: Duration = Duration::from_millis(500);

/// What makes a Sentinel worth asking: the second is some moments earlier, on the one that leads the failover.
const EVENTS: [&str; 2] = ["+switch-master", "+promoted-slave"];

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
    /// The last word of any.
    master: Option<Address>,
}

/// Where the master is, and since which change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    epoch: u64,
    master: Address,
}

impl Known {
    fn newest(&self) -> Option<&View> {
        self.told.iter().flatten().flatten().max_by_key(|view| view.epoch)
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
        let told = vec![None; addresses.len()];
        let known = watch::Sender::new(Known { told, master: None });
        let sentinels = Arc::new(Self { addresses, name, access, group, known, doubts: watch::Sender::new(()) });
        let mut tasks = JoinSet::new();
        for at in 0..sentinels.addresses.len() {
            tasks.spawn(Arc::clone(&sentinels).follow(at));
        }
        (sentinels, tasks)
    }

    /// Where the master is. Without any Sentinel's word, where it was: whoever connects sees whether it still is one.
    pub(super) async fn master(&self) -> Result<Address, Trouble> {
        let mut known = self.known.subscribe();
        let newest = async {
            let known = known.wait_for(|known| known.newest().is_some()).await.ok()?;
            known.newest().map(|view| view.master.clone())
        };
        if let Ok(Some(master)) = timeout(PATIENCE, newest).await {
            return Ok(master);
        }
        let known = self.known.borrow();
        known.master.clone().ok_or_else(|| {
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
            self.learn(at, Err(trouble));
            sleep(INTERVAL).await;
        }
    }

    async fn listen_to(
        &self,
        at: usize,
        doubts: &mut watch::Receiver<()>,
    ) -> Result<std::convert::Infallible, Trouble> {
        let late = |_| Trouble::said("a Sentinel did not answer in time");
        let told = Arc::new(Notify::new());
        let tells = Arc::clone(&told);
        let pushed = move |push: PushInfo| {
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                tells.notify_one();
            }
        };
        let mut sentinel = timeout(ANSWER, self.access.connect(&self.addresses[at], pushed)).await.map_err(late)??;
        timeout(ANSWER, sentinel.subscribe(&EVENTS[..])).await.map_err(late)??;
        loop {
            let view = timeout(ANSWER, self.ask(&mut sentinel)).await.map_err(late)??;
            self.learn(at, Ok(view));
            sleep(SPACING).await;
            tokio::select! {
                () = told.notified() => {}
                _ = doubts.changed() => {}
                () = sleep(INTERVAL) => {}
            }
        }
    }

    async fn ask(&self, sentinel: &mut MultiplexedConnection) -> Result<View, Trouble> {
        let mut ask = Cmd::new();
        ask.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let address: Option<(String, u16)> = ask.query_async(sentinel).await?;
        let unknown = || Trouble(format!("the Sentinels know no master named {:?}", self.name).into());
        let (host, port) = address.ok_or_else(unknown)?;
        let mut ask = Cmd::new();
        ask.arg("SENTINEL").arg("MASTER").arg(&self.name);
        let master: HashMap<String, String> = ask.query_async(sentinel).await?;
        let epoch = master.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        let epoch = epoch.ok_or_else(|| Trouble::said("a Sentinel told no config-epoch"))?;
        Ok(View { epoch, master: Address { host, port } })
    }

    /// Takes a Sentinel's word in. If the master is another one now, the connections to the old one are dropped.
    fn learn(&self, at: usize, told: Result<View, Trouble>) {
        let mut deposed = None;
        self.known.send_modify(|known| {
            known.told[at] = Some(told);
            let newest = known.newest().map(|view| view.master.clone());
            if newest.is_some() && newest != known.master {
                deposed = known.master.take();
                known.master = newest;
            }
        });
        if let Some(deposed) = deposed {
            info!(%deposed, "the Sentinels have another master now");
            self.group.retire();
        }
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels").field("addresses", &self.addresses).field("name", &self.name).finish()
    }
}
