//! What a storage node has to do with the metadata store: where it is listed, and which epoch it is.
//!
//! It needs the store for neither. What it has it serves, under the epoch that it remembers; so one that was part of a
//! cluster starts while the store is away, and looks for it until it is there. One that never was has nothing to serve,
//! and says what is wrong.
//!
//! A name belongs to one process at a time. Who starts under the name of a node that answers elsewhere is refused: it
//! would take over that one's address, and with it the keys that it has not got.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::sleep;

use super::exit::{Exit, Failure};
use super::serve::{self, ChosenMetadata, Namesakes, NodeWorld, StorageNode};
use crate::config::{Config, host_and_port};
use crate::placement::{Epoch, Node, NodeId, Topology};
use crate::ports::{Change, MetadataStore, StoreError};
use crate::replica::Replica;

/// How soon the store is looked for again.
const PAUSE: Duration = Duration::from_secs(2);

/// A node's place in the metadata store.
pub struct Membership {
    config: Config,
    id: NodeId,
    store: OnceCell<ChosenMetadata>,
    /// Whether it was part of the cluster when it took its place, as its log was told.
    was_listed: AtomicBool,
}

impl Membership {
    /// Of the node that the configuration names. Nothing is opened yet.
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let id = NodeId::new(config.storage.node_id.as_str());
        Ok(Self {
            config: config.clone(),
            id: id.map_err(|error| Failure::usage(error.to_string()))?,
            store: OnceCell::new(),
            was_listed: AtomicBool::new(true),
        })
    }

    /// The node.
    pub const fn id(&self) -> &NodeId {
        &self.id
    }

    /// The topology that the store has.
    pub async fn topology(&self) -> Result<Topology, Failure> {
        self.store().await?.topology().await.map_err(unavailable)
    }

    /// Takes the node's place in `found`, which is what [`Membership::topology`] gave. Returns whether it has it; if
    /// not, it is for [`Membership::keep`] to take.
    pub async fn take(
        &self,
        node: &StorageNode,
        found: Result<Topology, Failure>,
    ) -> Result<bool, Failure> {
        let was_member = node.replica().epoch() > Epoch::default();
        let taken = match found {
            Ok(topology) => self.join(&node.namesakes(), topology).await,
            Err(failure) => Err(failure),
        };
        match taken {
            Ok(()) => Ok(true),
            Err(failure) if was_member && failure.exit == Exit::Unavailable => {
                tracing::warn!(
                    node = %self.id,
                    cause = failure.message,
                    epoch = node.replica().epoch().0,
                    "starting without the metadata store; the node serves what it has"
                );
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Takes the node's place, unless it is `taken`, as soon as the store is there, and tells the node of every new
    /// epoch. Returns only when the node must not go on.
    pub async fn keep(
        &self,
        replica: &Replica<NodeWorld>,
        namesakes: &Namesakes,
        mut taken: bool,
    ) -> Failure {
        while !taken {
            sleep(PAUSE).await;
            let found = match self.topology().await {
                Ok(topology) => {
                    replica.learn_epoch(topology.epoch);
                    self.join(namesakes, topology).await
                }
                Err(failure) => Err(failure),
            };
            match found {
                Ok(()) => {
                    tracing::info!(node = %self.id, "the metadata store is there");
                    taken = true;
                }
                Err(failure) if failure.exit == Exit::Unavailable => {
                    tracing::warn!(cause = failure.message, "still without the metadata store");
                }
                Err(failure) => return failure,
            }
        }
        let mut place = Place {
            is_listed: self.was_listed.load(Ordering::Relaxed),
        };
        let seen = |topology: &Topology| {
            let is_listed = topology.node(&self.id).is_some();
            place.seen(is_listed, &self.id, topology.epoch);
        };
        match self.store().await {
            Ok(store) => StorageNode::follow_epochs(replica, store, seen).await,
            Err(failure) => failure,
        }
    }

    /// Ends all work on the store.
    pub async fn close(&self) {
        if let Some(store) = self.store.get() {
            store.close().await;
        }
    }

    async fn store(&self) -> Result<&ChosenMetadata, Failure> {
        let open = || serve::open_metadata(&self.config);
        self.store.get_or_try_init(open).await
    }

    fn tell_unlisted(&self, is_new: bool) {
        let node = &self.id;
        match (is_new, self.config.join.coordinator.as_str()) {
            (true, "") => {
                tracing::warn!(%node, "not part of the cluster yet; add it with `pairdb node add`");
            }
            (true, coordinator) => {
                tracing::info!(%node, coordinator, "not part of the cluster yet; asks to be added");
            }
            (false, _) => tracing::warn!(
                %node,
                "no member of the cluster, though its data was made ready for one: it left, or has not come yet \
                 (`pairdb migration list`). Nobody asks this node for anything, and it does not ask to be added again. \
                 To have it join anew, start it on an empty directory"
            ),
        }
    }

    /// Sees that nobody else has the node's name, and has the topology say where it is, if it is part of it.
    async fn join(&self, namesakes: &Namesakes, mut topology: Topology) -> Result<(), Failure> {
        let address = &self.config.storage.advertise;
        loop {
            let Some(listed) = topology.node(&self.id) else {
                self.was_listed.store(false, Ordering::Relaxed);
                self.tell_unlisted(namesakes.are_of_new().await);
                return Ok(());
            };
            let wanted = match address.as_str() {
                "" => None,
                address => Some(host_and_port(address).map_err(Failure::usage)?),
            };
            if wanted == Some((listed.host.clone(), listed.port)) {
                return Ok(());
            }
            if let Some(other) = namesakes.at(listed).await {
                return Err(in_use(listed, &other.short()));
            }
            let Some((host, port)) = wanted else {
                return Ok(());
            };
            let next = topology
                .relocated(&self.id, &host, port)
                .map_err(|error| Failure::usage(format!("--advertise: {error}")))?;
            let store = self.store().await?;
            let replaced = store.replace_topology(topology.epoch, next).await;
            topology = match replaced.map_err(unavailable)? {
                Change::Made(made) => {
                    let epoch = made.epoch.0;
                    tracing::info!(node = %self.id, address, epoch, "the node's address was changed");
                    return Ok(());
                }
                Change::Conflict(_) => self.topology().await?,
            };
        }
    }
}

/// Whether the node is part of the cluster, as its log was last told.
struct Place {
    is_listed: bool,
}

impl Place {
    /// Tells the log when that changes.
    fn seen(&mut self, is_listed: bool, node: &NodeId, epoch: Epoch) {
        match (std::mem::replace(&mut self.is_listed, is_listed), is_listed) {
            (true, false) => tracing::warn!(
                %node, epoch = epoch.0,
                "no member of the cluster any more: nobody asks this node for anything. Its process can be stopped, and its \
                 data directory removed. The name can join again with an empty one"
            ),
            (false, true) => {
                tracing::info!(%node, epoch = epoch.0, "part of the cluster now");
            }
            (true, true) | (false, false) => {}
        }
    }
}

fn unavailable(error: StoreError) -> Failure {
    Failure::new(Exit::Unavailable, "METADATA_STORE", error.to_string())
}

fn in_use(listed: &Node, incarnation: &str) -> Failure {
    let (id, address) = (&listed.id, listed.address());
    let problem = format!("{id} answers at {address}, with other data ({id}#{incarnation})");
    Failure::new(Exit::Conflict, "NAME_IN_USE", problem)
        .hint("stop that process first, or start this one under another --node-id")
}
