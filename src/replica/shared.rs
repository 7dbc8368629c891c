//! What the node's handles and loops share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

use super::ReplicaSettings;
use super::identity::Identity;
use super::mutations::Mutation;
use super::queue::Queue;
use super::reads::Read;
use crate::placement::{Epoch, NodeId};
use crate::ports::{Refusal, ReplicaWorld, StorageError};
use crate::sabotage::{self, Sabotage};
use crate::version::Actor;

pub(super) struct Shared<W> {
    pub(super) world: W,
    pub(super) node: NodeId,
    pub(super) mutations: Queue<Mutation>,
    pub(super) reads: Queue<Read>,
    /// The durable epoch. Only the mutation loop sets it.
    epoch: AtomicU64,
    /// How often a damaged record was met.
    pub(super) damaged: AtomicU64,
    status: Mutex<Status>,
    reads_finished: Mutex<Option<oneshot::Receiver<()>>>,
}

/// How the node is; all of it durable.
pub(super) struct Status {
    pub(super) incarnations: Vec<Actor>,
    /// Why it takes no writes.
    pub(super) refuses_writes: Option<String>,
    /// How the mutation loop ended.
    pub(super) stopped: Option<Result<(), StorageError>>,
}

impl Status {
    pub(super) fn incarnation(&self) -> Actor {
        *self.incarnations.last().expect("a node has an incarnation")
    }
}

impl<W: ReplicaWorld> Shared<W> {
    pub(super) fn new(
        world: W,
        settings: &ReplicaSettings,
        identity: &Identity,
        reads_finished: oneshot::Receiver<()>,
    ) -> Self {
        let status = Status {
            incarnations: identity.incarnations.clone(),
            refuses_writes: None,
            stopped: None,
        };
        Self {
            world,
            node: identity.node.clone(),
            mutations: Queue::new(settings.queue_max, settings.queue_bytes_max),
            reads: Queue::new(settings.queue_max, settings.queue_bytes_max),
            epoch: AtomicU64::new(identity.epoch.0),
            damaged: AtomicU64::new(0),
            status: Mutex::new(status),
            reads_finished: Mutex::new(Some(reads_finished)),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Refuses what was routed by an older epoch.
    pub(super) fn admit(&self, epoch: Epoch) -> Result<(), Refusal> {
        let current = self.epoch();
        if epoch < current && !sabotage::on(Sabotage::EpochNotChecked) {
            return Err(Refusal::StaleEpoch { current });
        }
        Ok(())
    }

    /// Shows what has become durable.
    pub(super) fn publish(&self, identity: &Identity) {
        self.epoch.store(identity.epoch.0, Ordering::Release);
        self.status()
            .incarnations
            .clone_from(&identity.incarnations);
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the read loop has ended.
    pub(super) async fn reads_finished(&self) {
        let finished = self
            .reads_finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(finished) = finished {
            let _ = finished.await; // dropped with the loop, never sent
        }
    }
}
