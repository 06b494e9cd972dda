//! The nodes of a store: one, the master that Sentinels name, or a cluster's. The calls are the same for all three.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::task::JoinSet;

use super::{
    access::{Access, TlsFiles},
    cluster::Cluster,
    connection::Group,
    node::{Common, Node, Place},
    options::RedisOptions,
    scripts::Scripts,
    sentinel::Sentinels,
    url::{Address, RedisUrl, Topology},
};
use crate::store::StoreError;

/// The nodes of a store. What keeps them known ends with it.
#[derive(Debug)]
pub(super) struct Nodes {
    kind: Kind,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
enum Kind {
    One(Arc<Node>),
    Master(Arc<Node>, Arc<Sentinels>),
    Cluster(Arc<Cluster>),
}

/// Where a command goes.
pub(super) enum Route {
    /// To whoever has the key.
    Owner,
    /// To a node that the key is just being moved to.
    Asking(Arc<Node>),
}

/// How Redis is spoken to, and how its Sentinels are.
pub(super) fn access(url: &RedisUrl, options: &RedisOptions) -> (Access, Access) {
    let tls = url.tls.then(|| TlsFiles { ca: options.ca_file.clone(), identity: options.identity.clone() });
    let password_file = options.password_file.clone();
    let redis = Access { settings: url.settings.clone(), password_file, tls: tls.clone() };
    let sentinels = Access { settings: Default::default(), password_file: options.sentinel_password_file.clone(), tls };
    (redis, sentinels)
}

impl Nodes {
    /// Nodes that are connected to when they are first used. Must be called within a runtime.
    pub(super) fn open(url: &RedisUrl, options: &RedisOptions, scripts: &Arc<Scripts>) -> Self {
        let (access, sentinels) = access(url, options);
        let common = Common { access, scripts: Arc::clone(scripts) };
        let hosts = url.hosts.clone();
        let (kind, tasks) = match &url.topology {
            Topology::Node => {
                // A URL has one host at least, and this kind has no more.
                let place = Place::At(url.hosts[0].clone());
                (Kind::One(Arc::new(Node::new(&common, place, Arc::new(Group::new())))), JoinSet::new())
            }
            Topology::Sentinel(name) => {
                let group = Arc::new(Group::new());
                let (sentinels, tasks) = Sentinels::listen(hosts, name.clone(), sentinels, Arc::clone(&group));
                let node = Node::new(&common, Place::Master(Arc::clone(&sentinels)), group);
                (Kind::Master(Arc::new(node), sentinels), tasks)
            }
            Topology::Cluster => {
                let (cluster, tasks) = Cluster::keep(hosts, common);
                (Kind::Cluster(cluster), tasks)
            }
        };
        Self { kind, _tasks: tasks }
    }

    /// The node that a command about this key goes to.
    pub(super) async fn owner(&self, key: &str) -> Result<Arc<Node>, StoreError> {
        match &self.kind {
            Kind::One(node) | Kind::Master(node, _) => Ok(Arc::clone(node)),
            Kind::Cluster(cluster) => cluster.owner(key).await,
        }
    }

    /// All nodes that sessions lie on.
    pub(super) async fn all(&self) -> Result<Vec<Arc<Node>>, StoreError> {
        match &self.kind {
            Kind::One(node) | Kind::Master(node, _) => Ok(vec![Arc::clone(node)]),
            Kind::Cluster(cluster) => cluster.nodes().await,
        }
    }

    /// Something for each node that sessions lie on: keys, with what belongs to each, are drawn until every node owns one. After
    /// so many draws in vain, a node that owns almost no slot goes without.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the nodes are not known.
    pub(super) async fn one_per_node<T>(
        &self,
        draws: usize,
        mut draw: impl FnMut() -> (String, T),
    ) -> Result<Vec<T>, StoreError> {
        let mut without = self.all().await?;
        let mut drawn = Vec::with_capacity(without.len());
        for _ in 0..draws {
            if without.is_empty() {
                break;
            }
            let (key, of_key) = draw();
            // A slot that no node serves is no reason to stop.
            let Ok(owner) = self.owner(&key).await else { continue };
            if let Some(at) = without.iter().position(|node| Arc::ptr_eq(node, &owner)) {
                without.swap_remove(at);
                drawn.push(of_key);
            }
        }
        Ok(drawn)
    }

    /// What is known of the nodes may be wrong.
    pub(super) fn doubt(&self) {
        match &self.kind {
            Kind::One(_) => {}
            Kind::Master(_, sentinels) => sentinels.doubt(),
            Kind::Cluster(cluster) => cluster.doubt(),
        }
    }

    /// Where an error of this node's points to, if it does.
    pub(super) fn follow(&self, error: &RedisError, from: &Node) -> Option<Route> {
        let Kind::Cluster(cluster) = &self.kind else { return None };
        let (text, slot) = error.redirect_node()?;
        let address = Address::pointed(text, from.address()?)?;
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => {
                cluster.moved(slot, address);
                Some(Route::Owner)
            }
            ErrorKind::Server(ServerErrorKind::Ask) => Some(Route::Asking(cluster.node(address))),
            _ => None,
        }
    }
}
