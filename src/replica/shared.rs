//! What the node's handles and loops share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;
use futures::lock::Mutex as AsyncMutex;

use super::ReplicaSettings;
use super::batch::HintChange;
use super::damaged::DamagedRecords;
use super::fences::{Asked, DurableFences, Fences};
use super::hints::Hints;
use super::identity::{Identity, Resumed};
use super::mutation::Mutation;
use super::older_callers::OlderCallers;
use super::queue::Queue;
use super::read::Read;
use super::throttle::Throttle;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, NodeId, PartitionId};
use crate::ports::{Clock, Refusal, ReplicaWorld, Stop, StorageError};
use crate::version::Actor;

/// Exchanges of trees that go on together: each of them mostly waits for its peer and for disks. They share the records
/// that may be in memory for it, which may have some MiB each.
pub(super) const SYNC_LANES: usize = 4;

pub(super) struct Shared<W> {
    pub(super) world: W,
    pub(super) node: NodeId,
    pub(super) mutations: Queue<Mutation>,
    pub(super) reads: Queue<Read>,
    /// Which epochs are refused. Durable; only the mutation loop sets it.
    fences: DurableFences,
    /// Whether it was ever asked to fence a partition. Durable; only the mutation loop sets it.
    owners_change: AtomicBool,
    /// The newest epoch that anybody named, or that is not refused; by this one it asks others. In memory only.
    known: AtomicU64,
    /// The newest epoch that the metadata store told of, or that was known at the start.
    told: AtomicU64,
    pub(super) settings: ReplicaSettings,
    /// The hints that it holds for other nodes.
    pub(super) hints: Hints,
    /// Whether every record is in a digest.
    pub(super) digested: AtomicBool,
    /// One look through many records at a time, so that requests don't wait behind them.
    pub(super) looking: AsyncMutex<()>,
    /// One exchange with a peer at a time in each lane; a partition has its lane.
    pub(super) syncing: [AsyncMutex<()>; SYNC_LANES],
    pub(super) throttle: Throttle,
    /// Whether it lost its disk and counts for no quorum yet. Durable; only the mutation loop sets it.
    refilling: AtomicBool,
    /// Odd while it is not known what the engine holds; another number whenever that may have changed.
    view: AtomicU64,
    /// Ends what runs beside requests.
    pub(super) stop: Stop,
    /// How often a damaged record was met.
    pub(super) damaged: AtomicU64,
    /// Who of its callers is of an older release.
    pub(super) older_callers: OlderCallers,
    /// Which records these were.
    pub(super) damaged_records: DamagedRecords,
    status: Mutex<Status>,
    reads_finished: Mutex<Option<oneshot::Receiver<()>>>,
}

/// How the node is; all of it durable.
pub(super) struct Status {
    pub(super) incarnations: Vec<Actor>,
    /// Since when it has been refilled, if it is: Unix milliseconds by its wall clock, the same after a restart.
    pub(super) refilling_since_ms: u64,
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
        resumed: &Resumed,
        hints: Hints,
        digested: bool,
        refilling_since_ms: u64,
        reads_finished: oneshot::Receiver<()>,
    ) -> Self {
        let Resumed {
            identity, fences, ..
        } = resumed;
        let fences = DurableFences::new(identity.epoch, fences);
        let known = fences.newest().0;
        let status = Status {
            incarnations: identity.incarnations.clone(),
            refilling_since_ms,
            refuses_writes: None,
            stopped: None,
        };
        Self {
            world,
            node: identity.node.clone(),
            mutations: Queue::new(settings.queue_max, settings.queue_bytes_max),
            reads: Queue::new(settings.queue_max, settings.queue_bytes_max),
            fences,
            owners_change: AtomicBool::new(identity.owners_change),
            known: AtomicU64::new(known),
            told: AtomicU64::new(known),
            settings: *settings,
            hints,
            digested: AtomicBool::new(digested),
            looking: AsyncMutex::new(()),
            syncing: std::array::from_fn(|_| AsyncMutex::new(())),
            throttle: Throttle::new(settings.upkeep_bytes_per_second),
            refilling: AtomicBool::new(identity.refilling),
            view: AtomicU64::new(0),
            stop: Stop::new(),
            damaged: AtomicU64::new(0),
            damaged_records: DamagedRecords::default(),
            older_callers: OlderCallers::default(),
            status: Mutex::new(status),
            reads_finished: Mutex::new(Some(reads_finished)),
        }
    }

    /// The newest epoch that was heard of; nothing is refused that names it.
    pub(super) fn known(&self) -> Epoch {
        Epoch(self.known.load(Ordering::Acquire))
    }

    /// The newest epoch for which any older one is refused.
    pub(super) fn refuses_below(&self) -> Epoch {
        self.fences.newest()
    }

    /// Whether it has handed over this partition, as far as this epoch knows.
    pub(super) fn leaves_by(&self, partition: PartitionId, epoch: Epoch) -> bool {
        self.fences.leaves_by(partition, epoch)
    }

    /// Whether it has handed over this partition.
    pub(super) fn is_leaving(&self, partition: PartitionId) -> bool {
        self.fences.is_leaving(partition)
    }

    /// Takes note of an epoch. Returns whether it is a newer one. Refuses no older ones for it: a step of one partition
    /// must not disturb requests to others.
    pub(super) fn hear(&self, epoch: Epoch) -> bool {
        epoch > self.known() && self.known.fetch_max(epoch.0, Ordering::AcqRel) < epoch.0
    }

    /// Forgets later epochs than `epoch`, as far as none is refused for them.
    pub(super) fn forget_later(&self, epoch: Epoch) {
        self.known.fetch_min(epoch.0, Ordering::AcqRel);
        self.hear(self.refuses_below());
    }

    pub(super) fn is_refilling(&self) -> bool {
        self.refilling.load(Ordering::Acquire)
    }

    /// The metadata store told of this one.
    pub(super) fn told_of(&self, published: Epoch) {
        self.told.store(published.0, Ordering::Release);
    }

    /// What is about to be read counts as long as this holds; see [`Shared::is_still`].
    pub(super) fn view(&self) -> Result<u64, Refusal> {
        match self.view.load(Ordering::Acquire) {
            view if view.is_multiple_of(2) => Ok(view),
            _ => Err(opened_again()),
        }
    }

    /// What was read since `view` was taken may be answered with. If not, the engine was opened again meanwhile, and
    /// may lack what this node counts for.
    pub(super) fn is_still(&self, view: u64) -> Result<(), Refusal> {
        match self.view()? == view {
            true => Ok(()),
            false => Err(opened_again()),
        }
    }

    /// What the engine holds is not known from now on.
    pub(super) fn close_view(&self) {
        self.view.fetch_or(1, Ordering::AcqRel);
    }

    /// It is known, and all that follows from it.
    pub(super) fn open_view(&self) {
        let view = self.view.load(Ordering::Acquire) | 1;
        self.view.store(view.wrapping_add(1), Ordering::Release);
    }

    /// Refuses what was routed by an older epoch, or by one that can't be; and who knows too little.
    pub(super) fn admit(&self, asked: &Asked) -> Result<(), Refusal> {
        asked.of_who_knows(self.owners_change.load(Ordering::Acquire))?;
        self.fences.admit(asked)?;
        self.believe(asked.epoch)
    }

    /// Refuses an epoch that can't be. Nobody else checks one before older ones are refused for it.
    pub(super) fn believe(&self, epoch: Epoch) -> Result<(), Refusal> {
        let told = Epoch(self.told.load(Ordering::Acquire));
        let known = told.max(self.known());
        if epoch <= known || epoch.is_plausible(told) || mutant::on(Mutant::AnyEpochBelieved) {
            return Ok(());
        }
        marks::reached(Mark::EpochImpossible);
        let words = format!("there is no epoch {epoch}; the metadata store told of {told}");
        Err(Refusal::Unavailable(words))
    }

    /// Shows what has become durable.
    pub(super) fn publish(&self, identity: &Identity, fences: &Fences) {
        self.fences.show(identity.epoch, fences);
        self.owners_change
            .store(identity.owners_change, Ordering::Release);
        self.hear(self.refuses_below());
        self.refilling.store(identity.refilling, Ordering::Release);
        self.status()
            .incarnations
            .clone_from(&identity.incarnations);
    }

    /// Keeps count of the hints.
    pub(super) fn account(&self, changes: Vec<HintChange>) {
        let clock = self.world.clock();
        for change in changes {
            match change {
                HintChange::Left(target) => {
                    marks::reached(Mark::HintNoted);
                    let first_try = clock.now() + self.settings.hint_pause_min;
                    self.hints.left(&target, clock.wall_ms(), first_try);
                }
                HintChange::Dropped(target) => self.hints.dropped(&target),
            }
        }
        debug_assert_eq!(self.check_hints(), Ok(()));
    }

    /// Whether the count of the hints is sound.
    pub(super) fn check_hints(&self) -> Result<(), &'static str> {
        let pause_max = self
            .settings
            .hint_pause_max
            .max(self.settings.hint_pause_min);
        self.hints.validate(self.world.clock().now(), pause_max)
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

fn opened_again() -> Refusal {
    Refusal::Unavailable("the node opens its data again".into())
}
