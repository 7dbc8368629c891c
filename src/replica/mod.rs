//! The storage node: accepts writes, joins records, reads them.
//!
//! ```text
//! accept, join, adopt ─► bounded queue ─► mutation loop: read the keys, apply in order, commit once, answer all
//! read                ─► bounded queue ─► read loop: one engine read for all that wait
//! ```
//!
//! One loop makes all changes, so *read the record, accept or join, make it durable* is one step for each key, and all
//! that waited while a commit was under way shares the next one. Nothing is answered before it is durable.
//!
//! Invariants:
//! - a dot is given once: counters are reserved durably before they are used, and an incarnation ends when the node
//!   can't prove that it holds all it gave out (see [`identity`]);
//! - an owner applies a write once, however often it is asked (see [`accept`]);
//! - once it was answered that older epochs are refused, for one partition or for all, they are refused for ever (see
//!   [`fences`]); so an epoch that is far from all that the metadata store told of is not answered to. That somebody
//!   names a newer epoch fences nothing;
//! - a tree is dropped only by the epoch by which the node was told that it leaves its partition, and not once somebody
//!   relies on the node again;
//! - a caller that knows nothing of changes of owners is served no more once the node was asked to fence a partition;
//! - what a node that lost its disk says counts for no quorum before it has got everything back;
//! - a stored record that fails its checksum is not served, and replaced by nothing less than what all other owners
//!   hold;
//! - after a failed commit no write is accepted until the engine was opened again and all that is known of what it
//!   holds was read again from it, as after an unclean stop: nobody knows what became of that commit;
//! - a node that can't write starts all the same, and reads.
//!
//! What this is not: it knows no quorum and no policy. It is told what to overwrite, whom to compare with, and who
//! missed what; other nodes it knows only from that.
//!
//! Papers: Preguiça, Baquero, Almeida, Fonte, Gonçalves: *Dotted Version Vectors* (2012). Gawlick, Kinkade: *Varieties
//! of Concurrency Control in IMS/VS Fast Path* (1985), for group commit.

mod accept;
mod adopt;
mod batch;
mod crowd;
mod damaged;
mod digested;
mod drop_tree;
mod error;
mod fences;
mod handler;
mod handoff;
mod heal;
mod hints;
mod identity;
mod known;
mod leading;
mod leaves;
mod ledger;
mod maintenance;
mod maintenance_change;
mod mutation;
mod mutations;
mod older_callers;
mod queue;
mod read;
mod reads;
mod rebuild;
mod recent;
mod settings;
mod shared;
mod slot;
mod sync;
mod throttle;
mod tombstone_state;
mod tombstones;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::channel::oneshot;

use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, NodeId};
use crate::ports::{
    Caller, Clock, JoinSource, NodeReport, Operation, RecordKey, Refusal, Release, ReplicaWorld,
    Reply, Request, Space, Spawn, StorageEngine, StorageError,
};
use crate::version::{Actor, Stamp};

use fences::{About, Asked};
use known::Known;
use maintenance_change::MaintenanceChange;
use mutation::{Change, Mutation};
use queue::{Rejected, rejected};
use read::Read;
use shared::Shared;

pub use error::OpenError;
pub use settings::ReplicaSettings;

/// The engine takes no longer keys; the front takes far shorter ones.
const KEY_LEN_MAX: usize = u16::MAX as usize;

/// A storage node. Copies are one node; its loops end with the last copy, or when it is stopped.
pub struct Replica<W: ReplicaWorld> {
    handle: Arc<Handle<W>>,
}

struct Handle<W: ReplicaWorld> {
    shared: Arc<Shared<W>>,
}

impl<W: ReplicaWorld> Clone for Replica<W> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<W: ReplicaWorld> Drop for Handle<W> {
    fn drop(&mut self) {
        self.shared.mutations.close(None);
        self.shared.reads.close(None);
        self.shared.stop.now();
    }
}

impl<W: ReplicaWorld> Replica<W> {
    /// Opens the node `node` on the world's storage engine and starts its loops. Its identity is durable when this
    /// returns.
    ///
    /// # Errors
    /// When the engine fails, or holds another node's data, or an identity that can't be read.
    pub async fn open(
        world: W,
        node: NodeId,
        settings: ReplicaSettings,
    ) -> Result<Self, OpenError> {
        let known = Known::load(&world, &node).await?;
        let (finished, when_finished) = oneshot::channel();
        let shared = Arc::new(Shared::new(
            world.clone(),
            &settings,
            &known.resumed,
            known.hints,
            known.digested == digested::ALL,
            known.refilling_since_ms,
            when_finished,
        ));
        let digested = known.digested;
        world.spawner().keep(
            "replica mutations",
            mutations::run(
                Arc::clone(&shared),
                settings,
                known.resumed,
                digested,
                known.purged,
            ),
        );
        world.spawner().keep(
            "replica reads",
            reads::run(Arc::clone(&shared), settings, finished),
        );
        let weak = || Arc::downgrade(&shared);
        if digested < digested::ALL {
            world
                .spawner()
                .keep("replica digests", digested::run(weak()));
        }
        world.spawner().keep("replica hints", handoff::run(weak()));
        Ok(Self {
            handle: Arc::new(Handle { shared }),
        })
    }

    /// Does what `request` asks for. The request is taken on when the future is first polled; from then on it is done
    /// whether or not anybody waits.
    pub fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static + use<W> {
        self.handle_from(Caller::default(), request)
    }

    /// The same for a caller that may be of an older version. One that knows nothing of changes of owners is served as
    /// the version before did it, until the node is first asked to fence a partition. Then it only learns how the node
    /// is.
    pub fn handle_from(
        &self,
        caller: Caller,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static + use<W> {
        let shared = Arc::clone(&self.handle.shared);
        async move {
            let release = shared.spoken_with(&caller);
            release.answer(shared.answer(release, request).await)
        }
    }

    /// The release that it speaks.
    #[must_use]
    pub fn speaks(&self) -> Release {
        self.handle.shared.world.speaks()
    }

    /// Its name.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.handle.shared.node
    }

    /// Its current incarnation, which may end while it runs.
    #[must_use]
    pub fn incarnation(&self) -> Actor {
        self.handle.shared.status().incarnation()
    }

    /// Whether it lost its disk and counts for no quorum yet.
    #[must_use]
    pub fn is_refilling(&self) -> bool {
        self.handle.shared.is_refilling()
    }

    /// Why it takes no writes, if it takes none.
    #[must_use]
    pub fn refuses_writes(&self) -> Option<String> {
        self.handle.shared.status().refuses_writes.clone()
    }

    /// How often it met a damaged record since it started.
    #[must_use]
    pub fn damaged_records(&self) -> u64 {
        self.handle.shared.damaged.load(Ordering::Relaxed)
    }

    /// The newest epoch that it knows. It refuses none that is as new.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.handle.shared.known()
    }

    /// The metadata store told of `epoch`. Older ones are refused only when somebody asks for that.
    pub fn learn_epoch(&self, epoch: Epoch) {
        let shared = &self.handle.shared;
        shared.told_of(epoch);
        shared.hear(epoch);
    }

    /// Comes back from an epoch that can't be: where it refuses those below a later one than the next after
    /// `published`, which the metadata store has now, it refuses those below that next one from now on. Whatever it
    /// promised to somebody who is changing the topology, it promised for no later one. Does nothing when it knows no
    /// later one itself.
    ///
    /// # Errors
    /// When it can't write.
    pub async fn reset_epoch(&self, published: Epoch) -> Result<(), Refusal> {
        let shared = &self.handle.shared;
        shared.told_of(published);
        let to = published.next().unwrap_or(published);
        let (answer, answered) = oneshot::channel();
        shared.mutations.push_anyway(Mutation {
            asked: None,
            change: Change::Reset { to, answer },
        }); // if not, nobody answers
        let reset = answered.await;
        reset.unwrap_or_else(|_| Err(Refusal::Unavailable("the node is stopping".into())))?;
        shared.forget_later(to);
        Ok(())
    }

    /// Refuses new work, finishes what is queued, and marks the stop as clean: the next start keeps the incarnation.
    ///
    /// # Errors
    /// When the engine fails, or the node was stopped before and that did not succeed or has not ended yet.
    pub async fn stop(&self) -> Result<(), StorageError> {
        let shared = &self.handle.shared;
        let (answer, answered) = oneshot::channel();
        let accepted = shared.mutations.close(Some(Mutation {
            asked: None,
            change: Change::Stop { answer },
        }));
        shared.reads.close(None);
        shared.stop.now();
        if !accepted {
            let stopped = shared.status().stopped.clone();
            return stopped
                .unwrap_or_else(|| Err(StorageError::Failed("the node is stopping".into())));
        }
        let stopped = answered.await;
        shared.reads_finished().await;
        stopped.unwrap_or_else(|_| Err(StorageError::Failed("the node's loop has ended".into())))
    }
}

impl<W: ReplicaWorld> Shared<W> {
    async fn answer(&self, caller: Release, request: Request) -> Result<Reply, Refusal> {
        if request.node != self.node {
            return Err(Refusal::WrongNode {
                actual: self.node.clone(),
            });
        }
        let epoch = request.epoch;
        let operation = self.world.speaks().question(request.operation);
        let operation =
            operation.ok_or_else(|| Refusal::Malformed("nothing is asked for".into()))?;
        if caller == Release::BeforeChangesOfOwners && !matches!(operation, Operation::Probe) {
            marks::reached(Mark::OlderServed);
            self.take_on(caller, epoch).await?;
        }
        let (answer, answered) = oneshot::channel();
        let mut about = About::Node;
        let change = match operation {
            Operation::Probe => return self.report().await,
            Operation::Maintenance(maintenance) => {
                return self.maintenance(caller, epoch, *maintenance).await;
            }
            Operation::Read { key } => return self.find(caller, epoch, key).await,
            Operation::Accept(request) => {
                check_key(request.key.as_bytes())?;
                about = About::Partition(request.key.partition());
                Change::Accept { request, answer }
            }
            Operation::Join {
                key,
                record,
                judged,
                source,
            } => {
                check_key(key.as_bytes())?;
                let partition = key.partition();
                if source == JoinSource::Handoff && self.is_leaving(partition) {
                    return Err(Refusal::HandedOver);
                }
                about = About::Partition(partition);
                Change::Join {
                    key,
                    record,
                    judged,
                    source,
                    answer,
                }
            }
            Operation::AdoptEpochIfEmpty {
                epoch: next,
                is_new,
            } => {
                self.believe(next)?;
                Change::AdoptIfEmpty {
                    epoch: epoch.max(next),
                    is_new,
                    answer,
                }
            }
        };
        let asked = Asked {
            caller,
            epoch,
            about,
        };
        self.admit(&asked)?;
        self.hear(epoch);
        if buggify::on(Site::QueueFull) {
            return Err(rejected(Rejected::Full));
        }
        let asked = Some(asked);
        let cost = change.cost();
        self.mutations
            .push(Mutation { asked, change }, cost)
            .map_err(rejected)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Refusal::StorageFailed("the node's loop has ended".into())))
    }

    /// The release that is spoken with a caller. Whoever looks for processes to upgrade is told of older ones.
    fn spoken_with(&self, caller: &Caller) -> Release {
        let speaks = self.world.speaks();
        if caller.release < speaks && !caller.name.is_empty() {
            self.older_callers
                .saw(&caller.name, self.world.clock().now());
        }
        caller.release.min(speaks)
    }

    /// Refuses epochs before `epoch` from now on. A caller that knows nothing of fences takes it that whoever answered
    /// by an epoch does so: its proof that a node was refilled rests on that.
    async fn take_on(&self, caller: Release, epoch: Epoch) -> Result<(), Refusal> {
        let asked = Asked {
            caller,
            epoch,
            about: About::Node,
        };
        self.admit(&asked)?;
        if epoch > self.refuses_below() {
            let fence = MaintenanceChange::Fence {
                epoch,
                partitions: None,
                leaving: false,
                horizon: Stamp::ZERO,
            };
            self.maintain(Some(asked), fence).await?;
        }
        Ok(())
    }

    /// Reads the record of a key, by the read loop.
    async fn find(&self, caller: Release, epoch: Epoch, key: RecordKey) -> Result<Reply, Refusal> {
        check_key(key.as_bytes())?;
        let about = About::Partition(key.partition());
        let asked = Asked {
            caller,
            epoch,
            about,
        };
        self.admit(&asked)?;
        if self.hear(epoch) {
            marks::reached(Mark::EpochLearned);
        }
        if buggify::on(Site::QueueFull) {
            return Err(rejected(Rejected::Full));
        }
        let view = self.view()?;
        // As it is before anything is read: what is read now may lack what comes back meanwhile.
        let counts = !self.is_refilling() || mutant::on(Mutant::RefillingCounts);
        let (answer, answered) = oneshot::channel();
        let cost = key.as_bytes().len();
        self.reads
            .push(Read { asked, key, answer }, cost)
            .map_err(rejected)?;
        let found = answered
            .await
            .unwrap_or_else(|_| Err(Refusal::Unavailable("the node stopped".into())));
        self.is_still(view)?;
        match counts {
            true => found,
            false => found.map(|found| Reply::Refilling(Box::new(found))),
        }
    }

    async fn report(&self) -> Result<Reply, Refusal> {
        let keys = self.world.storage().approximate_count(Space::Records).await;
        let keys = keys.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let tombstones = self
            .world
            .storage()
            .approximate_count(Space::Tombstones)
            .await;
        let tombstones = tombstones.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let hints = self.hints.report();
        let status = self.status();
        Ok(Reply::Report(NodeReport {
            node: self.node.clone(),
            incarnations: status.incarnations.clone(),
            epoch: self.refuses_below(),
            wall_ms: self.world.clock().wall_ms(),
            keys,
            disk_used_percent: self.world.storage().disk_used_percent(),
            refuses_writes: status.refuses_writes.clone(),
            tombstones,
            hints,
            refilling: self.is_refilling().then(|| {
                let now_ms = self.world.clock().wall_ms();
                Duration::from_millis(now_ms.saturating_sub(status.refilling_since_ms))
            }),
            release: self.world.speaks(),
            older_callers: self.older_callers.recent(self.world.clock().now()),
        }))
    }
}

fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.len() > KEY_LEN_MAX {
        return Err(Refusal::Malformed(format!(
            "a record key of {} bytes; at most {KEY_LEN_MAX} are stored",
            key.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod lost_test;
#[cfg(test)]
mod maintenance_test;
#[cfg(test)]
#[path = "replica_test.rs"]
mod tests;
