//! Carries out the change of owners that is under way, and begins the next one.
//!
//! One coordinator at a time leads, by a lease. A lease keeps nothing safe, and need not: a step is a compare-and-set
//! of the topology, what comes before it are fences and joins, and a copy is dropped only by the epoch by which its
//! node was told that it leaves. Whoever leads next begins with what is stored, at whatever instruction the last one
//! stopped.
//!
//! It works in *turns*: looks at the stored topology, does for as many partitions as time allows what their states need
//! ([`super::steps`], [`super::copy`], [`super::clean`]), and publishes one epoch for all that may step. A partition
//! that waits for a node holds up no other one.
//!
//! Invariants:
//! - no partition steps by what was shown before a node that took part lost its disk;
//! - a migration is called completed only when its end is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::super::CoordinatorError;
use super::super::ask::ask;
use super::super::convergence::Progress;
use super::super::exchange::Exchange;
use super::super::metadata::Metadata;
use super::super::routing::Routing;
use super::super::settings::CoordinatorSettings;
use super::super::tenants::TenantCache;
use super::super::topologies::Topologies;
use super::progress::{MigrationBoard, MigrationGauges};
use super::steps::{Factors, Participants, Readiness};
use super::stored::{all_tenants, open_migrations, started};
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Move, MoveState, NodeId, PartitionId, Topology, TopologyChange};
use crate::ports::{
    Change, Checkpoint, Clock, CoordinatorWorld, Instant, LeaseOutcome, MetadataStore, Migration,
    MigrationStatus, Probe, Random, Stop, StoreError,
};
use crate::version::Actor;

/// What the lease is called.
const LEASE: &str = "migrations";
/// No more partitions are begun in a turn after this time.
const TURN_MAX: Duration = Duration::from_secs(5);
/// Partitions that are copied at the same time.
const PARTITIONS_AT_ONCE: usize = 8;
/// Partitions that are on their way at most, those left out that wait for a node. With fewer a change would take more
/// epochs; with more each would take longer, and writes to it need both sets of owners meanwhile.
const UNDER_WAY_MAX: usize = 256;

/// See the [module](self).
pub(in crate::coordinator) struct Leader<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) metadata: Arc<Metadata<W>>,
    pub(super) topologies: Arc<Topologies<W>>,
    pub(super) tenants: Arc<TenantCache<W>>,
    pub(super) exchange: Exchange<W>,
    /// How it goes on, for metrics.
    pub(in crate::coordinator) board: Arc<MigrationBoard>,
}

/// What who leads remembers of the change under way. Nothing of it is needed by who leads next.
#[derive(Default)]
pub(super) struct Memory {
    /// Of which change, and whether it had been cancelled.
    of: Option<(crate::placement::ChangeId, bool)>,
    /// Partitions whose old copies are gone, and are noted as such.
    pub(super) cleaned: BTreeSet<PartitionId>,
    /// Records and bytes that were exchanged for partitions that are not noted yet.
    pub(super) moved: BTreeMap<PartitionId, (u64, u64)>,
    /// Partitions that are handed over, whose new owners know how far back writes may be that they never heard of.
    pub(super) horizons: BTreeSet<PartitionId>,
    /// Those of partitions that are.
    noted: (u64, u64),
    /// When all that was moved is paid for.
    paid_at: Instant,
    /// Where copying is to go on: the first partition to which the last turn did not come.
    next: Option<PartitionId>,
    /// When something last moved, and how far it was then.
    moved_at: Instant,
    far: Option<(u64, [usize; 4])>,
}

/// One turn: what it goes by.
pub(super) struct Turn<'a> {
    pub(super) routing: Arc<Routing>,
    pub(super) change: &'a TopologyChange,
    pub(super) factors: Factors,
    /// The incarnation of each node that answers and counts, by index.
    pub(super) there: BTreeMap<u16, Actor>,
    /// No more partitions are begun after this.
    pub(super) until: Instant,
    /// How many bytes may be moved in a second.
    pace: Option<u64>,
    /// When all that was moved is paid for at this pace: until then no partition is begun.
    paid_at: Mutex<Instant>,
}

impl Turn<'_> {
    pub(super) fn is_given_up(&self, node: u16) -> bool {
        self.change.given_up.contains(&self.routing.node(node).id)
    }

    pub(super) fn name(&self, node: u16) -> &NodeId {
        &self.routing.node(node).id
    }

    /// So many bytes were moved.
    pub(super) fn owe(&self, bytes: u64, now: Instant) {
        if let Some(pace) = self.pace {
            let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_at = (*paid_at).max(now) + takes(bytes, pace);
        }
    }

    /// Whether it has to wait, to keep to the pace.
    pub(super) fn owes(&self, now: Instant) -> bool {
        self.pace.is_some() && self.paid_at() > now
    }

    fn paid_at(&self) -> Instant {
        *self.paid_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long so many bytes take at a pace of so many in a second; a day at most.
fn takes(bytes: u64, pace: u64) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(pace.max(1));
    u64::try_from(nanos)
        .map_or(DAY, Duration::from_nanos)
        .min(DAY)
}

/// What a turn came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// Something has changed: there is no need to rest.
    pub(super) went_on: bool,
    waits_for: Option<String>,
}

impl<W: CoordinatorWorld> Leader<W> {
    pub(in crate::coordinator) fn new(
        world: W,
        settings: Arc<CoordinatorSettings>,
        metadata: Arc<Metadata<W>>,
        topologies: Arc<Topologies<W>>,
        tenants: Arc<TenantCache<W>>,
    ) -> Self {
        let exchange = Exchange {
            world: world.clone(),
            progress: Arc::<Progress>::default(),
        };
        Self {
            world,
            settings,
            metadata,
            topologies,
            tenants,
            exchange,
            board: Arc::default(),
        }
    }

    /// Leads, while this coordinator has the lease, until `stop`.
    pub(in crate::coordinator) async fn lead(&self, stop: &Stop) {
        let holder = self.world.random().next_u64();
        let mut memory = Memory::default();
        let mut leads = false;
        let mut failed = String::new();
        let mut rest = self.settings.probe_interval;
        loop {
            // Not all coordinators at once.
            let jitter = Duration::from_nanos(self.world.random().next_u64() % 250_000_000);
            let pause = self.world.clock().sleep(rest + jitter.min(rest));
            if stop.or(pause).await.is_none() {
                break;
            }
            rest = self.settings.probe_interval;
            leads = self.leads(holder).await;
            if !leads {
                memory = Memory::default();
                let now = self.world.clock().now();
                self.board.update(MigrationGauges::default(), now);
                continue;
            }
            match stop.or(self.turn(&mut memory)).await {
                None => break,
                Some(Ok(outcome)) => {
                    failed.clear();
                    if outcome.went_on {
                        rest /= 8;
                    }
                }
                Some(Err(error)) => {
                    let error = error.to_string();
                    if error != failed {
                        tracing::warn!(error, "a migration can't go on now");
                    }
                    failed = error;
                }
            }
        }
        if leads {
            let deadline = self.metadata.deadline();
            let release = self.metadata.store().release_lease(LEASE, holder);
            let _ = self.metadata.in_time(deadline, release).await; // it ends by itself
        }
    }

    /// Takes or renews the lease.
    async fn leads(&self, holder: u64) -> bool {
        let lease = self.settings.anti_entropy_lease.max(TURN_MAX * 2);
        let acquire = self.metadata.store().acquire_lease(LEASE, holder, lease);
        let outcome = self.metadata.in_time(self.metadata.deadline(), acquire);
        matches!(outcome.await, Ok(LeaseOutcome::Held))
    }

    async fn turn(&self, memory: &mut Memory) -> Result<Outcome, CoordinatorError> {
        let stored = self.topologies.fetch(self.metadata.deadline()).await?;
        let routing = self.topologies.routing();
        if routing.epoch() > stored.epoch {
            // A store that failed over to a copy: what is in use is published once more.
            self.topologies.next_epoch().await?;
            return Ok(Outcome::default());
        }
        if *routing.topology() != stored {
            return Ok(Outcome::default()); // something newer already
        }
        match stored.change.clone() {
            None => {
                self.show(None, None, memory).await?;
                let went_on = self.begin_next(&stored).await?;
                Ok(Outcome {
                    went_on,
                    ..Outcome::default()
                })
            }
            Some(change) => {
                let is_new = memory.of != Some((change.id.clone(), change.cancelled));
                if is_new {
                    *memory = self.remembered(&change).await?;
                }
                let Some(migration) = self.migration_of(&change).await? else {
                    return Ok(Outcome::default());
                };
                // Who gave up a node goes on: others own what that had.
                let leads_back = change.given_up.is_empty();
                if migration.cancel && !change.cancelled && leads_back {
                    return self.cancel(&stored).await;
                }
                let outcome = self.advance(&stored, &routing, &change, &migration, memory);
                let outcome = outcome.await?;
                self.tell(migration, &change, &outcome, memory).await?;
                self.show(Some(&change), outcome.waits_for.clone(), memory)
                    .await?;
                Ok(outcome)
            }
        }
    }

    /// What was noted of a change.
    async fn remembered(&self, change: &TopologyChange) -> Result<Memory, StoreError> {
        let checkpoints = self.metadata.store().migration_checkpoints(&change.id);
        let checkpoints = self
            .metadata
            .in_time(self.metadata.deadline(), checkpoints)
            .await?;
        let sum = |of: fn(&Checkpoint) -> u64| checkpoints.iter().map(of).sum();
        Ok(Memory {
            of: Some((change.id.clone(), change.cancelled)),
            noted: (sum(|it| it.keys), sum(|it| it.bytes)),
            // Those of before a cancelled change led back say nothing of the way back.
            cleaned: match change.cancelled {
                true => BTreeSet::new(),
                false => checkpoints.iter().map(|it| it.partition).collect(),
            },
            moved_at: self.world.clock().now(),
            ..Memory::default()
        })
    }

    /// The migration that a change carries out. The change is what counts: should its migration not be stored as under
    /// way yet, it is now.
    async fn migration_of(&self, change: &TopologyChange) -> Result<Option<Migration>, StoreError> {
        let deadline = self.metadata.deadline();
        let found = self.metadata.store().migration(&change.id);
        let Some(migration) = self.metadata.in_time(deadline, found).await? else {
            tracing::error!(migration = %change.id, "the metadata store has lost a migration that is under way");
            return Ok(None);
        };
        if migration.status == MigrationStatus::InProgress {
            return Ok(Some(migration));
        }
        let under_way = started(migration, change, self.unix_seconds());
        self.update(under_way).await
    }

    /// Stores a migration; `None`: somebody else changed it meanwhile.
    pub(super) async fn update(
        &self,
        migration: Migration,
    ) -> Result<Option<Migration>, StoreError> {
        let updated = self.metadata.store().update_migration(migration);
        let updated = self.metadata.in_time(self.metadata.deadline(), updated);
        Ok(match updated.await? {
            Change::Made(migration) => Some(migration),
            Change::Conflict(_) => None,
        })
    }

    /// Has the change lead back to where it began.
    async fn cancel(&self, stored: &Topology) -> Result<Outcome, CoordinatorError> {
        let mut next = match stored.cancelled() {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "a migration can't be cancelled");
                return Ok(Outcome::default());
            }
        };
        if mutant::on(Mutant::CancelForgetsPartition)
            && let Some(change) = &mut next.change
        {
            let mut moves = Arc::make_mut(change).moves.iter_mut();
            let waiting = moves.find(|moving| moving.state == MoveState::Waiting);
            waiting
                .into_iter()
                .for_each(|it| it.state = MoveState::Moved);
        }
        marks::reached(Mark::MigrationCancelled);
        self.publish(stored, next).await
    }

    /// Publishes the next topology, unless somebody else was first.
    pub(super) async fn publish(
        &self,
        stored: &Topology,
        next: Topology,
    ) -> Result<Outcome, CoordinatorError> {
        let deadline = self.metadata.deadline();
        let clock = self.world.clock();
        buggify::pause(Site::PauseBeforeStep, |pause| clock.sleep(pause)).await;
        let change = self
            .topologies
            .replace(stored.epoch, next.clone(), deadline);
        match change.await? {
            Change::Made(_) => {}
            Change::Conflict(Some(other)) if mutant::on(Mutant::StepsUnguarded) => {
                let unguarded = next.at(other.epoch.next().unwrap_or(other.epoch));
                let deadline = self.metadata.deadline();
                self.topologies
                    .replace(other.epoch, unguarded, deadline)
                    .await?;
            }
            Change::Conflict(_) => {
                marks::reached(Mark::StepOvertaken);
                return Ok(Outcome::default());
            }
        }
        Ok(Outcome {
            went_on: true,
            ..Outcome::default()
        })
    }

    /// Does what the states of the partitions need, and publishes what may step.
    async fn advance(
        &self,
        stored: &Topology,
        routing: &Arc<Routing>,
        change: &TopologyChange,
        migration: &Migration,
        memory: &mut Memory,
    ) -> Result<Outcome, CoordinatorError> {
        if migration.bytes_per_second == Some(0) {
            return Ok(Outcome {
                waits_for: Some("another pace than 0, at which it rests".into()),
                ..Outcome::default()
            });
        }
        let mut turn = Turn {
            routing: Arc::clone(routing),
            change,
            factors: self.factors(change).await?,
            there: self.incarnations(routing).await,
            until: self.world.clock().now() + TURN_MAX,
            pace: migration.bytes_per_second,
            paid_at: Mutex::new(memory.paid_at),
        };
        let mut waits = Waits::default();
        let fenced = self.fence(&turn, change, memory).await;
        // A tenant that is created from now on writes by the epochs that were just demanded.
        turn.factors = self.factors(change).await?;
        let (ready, mut under_way) = self.copy_all(&turn, &fenced, memory, &mut waits).await;
        // Copying may take all of its time, and leaves none to this.
        turn.until = self.world.clock().now() + TURN_MAX;
        let cleaned = self.clean_all(&turn, memory, &mut waits).await;
        memory.paid_at = turn.paid_at();
        self.note(change, cleaned, memory).await?;
        let mut step = self.still_there(&turn, ready).await;
        under_way -= step.len().min(under_way);
        let under_way_max = match buggify::on(Site::FewPartitionsMove) {
            true => 2,
            false => UNDER_WAY_MAX,
        };
        for moving in &change.moves {
            if under_way >= under_way_max {
                break;
            }
            if moving.state == MoveState::Waiting {
                match turn.missing(moving) {
                    None => {
                        step.insert(moving.partition);
                        under_way += 1;
                    }
                    Some(node) => waits.add(&turn, node),
                }
            }
        }
        let waits_for = waits.told();
        if step.is_empty() {
            if change.is_moved() && memory.cleaned.len() == change.moves.len() {
                return self.end(stored, change, migration).await;
            }
            let went_on = false;
            return Ok(Outcome { went_on, waits_for });
        }
        let next = stored.stepped(&step).map_err(super::refused::refused)?;
        marks::reached(Mark::PartitionsStepped);
        let published = self.publish(stored, next).await?;
        Ok(Outcome {
            waits_for,
            ..published
        })
    }

    /// The replication factors in use.
    async fn factors(&self, change: &TopologyChange) -> Result<Factors, CoordinatorError> {
        let tenants = all_tenants(&self.metadata).await?;
        let now = tenants.iter().map(|tenant| tenant.replication_factor);
        let changing = change.factors.iter().flat_map(|it| [it.from, it.to]);
        Ok(now.chain(changing).collect())
    }

    /// Who answers now and counts, by index.
    async fn incarnations(&self, routing: &Arc<Routing>) -> BTreeMap<u16, Actor> {
        let answering = (0..).zip(routing.nodes());
        let answering = answering.filter(|(_, (_, health))| health.answers());
        let probes: Vec<_> = answering
            .map(|(index, _)| self.incarnation(routing, index))
            .collect();
        let answers = futures::future::join_all(probes).await;
        answers.into_iter().flatten().collect()
    }

    async fn incarnation(&self, routing: &Arc<Routing>, index: u16) -> Option<(u16, Actor)> {
        let report = ask(&self.world, routing, index, Probe).await.ok()?;
        let incarnation = *report.incarnations.last()?;
        let counts = report.refilling.is_none() || mutant::on(Mutant::ProofOutlivesDisk);
        counts.then_some((index, incarnation))
    }

    /// Whether none of these nodes has lost its disk since the turn began.
    pub(super) async fn are_who_they_were(&self, turn: &Turn<'_>, nodes: &[u16]) -> bool {
        let probes: Vec<_> = nodes
            .iter()
            .map(|index| self.incarnation(&turn.routing, *index))
            .collect();
        let answers = futures::future::join_all(probes).await;
        let is_same = |(index, incarnation)| turn.there.get(&index) == Some(&incarnation);
        answers
            .into_iter()
            .all(|answer| answer.is_some_and(is_same))
    }

    /// Exchanges what all owners hold of partitions that are on their way. Returns those that may step, with who took
    /// part, and how many are on their way and wait for nobody.
    async fn copy_all(
        &self,
        turn: &Turn<'_>,
        fenced: &BTreeSet<(u16, PartitionId)>,
        memory: &mut Memory,
        waits: &mut Waits,
    ) -> (Vec<(PartitionId, Vec<u16>)>, usize) {
        let mut copies = Vec::new();
        let states = [MoveState::Copying, MoveState::HandingOver];
        let moves = turn.change.moves.iter();
        for moving in moves.filter(|moving| states.contains(&moving.state)) {
            let participants = turn.participants(moving);
            let is_there = |node| fenced.contains(&(node, moving.partition));
            match participants.readiness(moving, &turn.factors, is_there) {
                Readiness::Ready(nodes) => copies.push((moving, nodes)),
                Readiness::Needs(node) => waits.add(turn, node),
            }
        }
        let under_way = copies.len();
        // Not always the same first: some may take all the time that there is, and come to nothing.
        let next = copies.partition_point(|(moving, _)| Some(moving.partition) < memory.next);
        copies.rotate_left(next);
        let order: Vec<PartitionId> = copies.iter().map(|(moving, _)| moving.partition).collect();
        let copied: Vec<BoxFuture<'_, _>> = copies
            .into_iter()
            .map(|(moving, nodes)| {
                let copied = async move {
                    let copied = self.copy(turn, moving, &nodes).await;
                    (moving, nodes, copied)
                };
                copied.boxed()
            })
            .collect();
        // What is begun together is owed for together.
        let at_once = turn.pace.map_or(PARTITIONS_AT_ONCE, |_| 1);
        let mut copied = futures::stream::iter(copied).buffer_unordered(at_once);
        let mut ready = Vec::new();
        let mut left: BTreeSet<PartitionId> = BTreeSet::new();
        while let Some((moving, nodes, copied)) = copied.next().await {
            let moved = memory.moved.entry(moving.partition).or_default();
            moved.0 += copied.moved.0;
            moved.1 += copied.moved.1;
            match copied.unproved {
                None => ready.push((moving.partition, nodes)),
                Some(_) if copied.is_left => drop(left.insert(moving.partition)),
                Some(why) => waits.because(why),
            }
        }
        let next = order.into_iter().find(|partition| left.contains(partition));
        memory.next = next;
        (ready, under_way)
    }

    /// Those of these partitions of which all who took part are still who they were.
    async fn still_there(
        &self,
        turn: &Turn<'_>,
        ready: Vec<(PartitionId, Vec<u16>)>,
    ) -> BTreeSet<PartitionId> {
        if ready.is_empty() {
            return BTreeSet::new();
        }
        let now = self.incarnations(&turn.routing).await;
        let is_same = |node: &u16| now.get(node) == turn.there.get(node);
        let same = ready.into_iter().filter(|(_, nodes)| {
            nodes.iter().all(is_same) || mutant::on(Mutant::ProofOutlivesDisk)
        });
        same.map(|(partition, _)| partition).collect()
    }

    /// Notes partitions that are done.
    async fn note(
        &self,
        change: &TopologyChange,
        cleaned: BTreeSet<PartitionId>,
        memory: &mut Memory,
    ) -> Result<(), StoreError> {
        if cleaned.is_empty() {
            return Ok(());
        }
        let checkpoint = |partition: &PartitionId| {
            let (keys, bytes) = memory.moved.get(partition).copied().unwrap_or_default();
            Checkpoint {
                partition: *partition,
                keys,
                bytes,
            }
        };
        let checkpoints: Vec<Checkpoint> = cleaned.iter().map(checkpoint).collect();
        let store = self.metadata.store();
        let noted = store.checkpoint_migration(&change.id, checkpoints);
        self.metadata
            .in_time(self.metadata.deadline(), noted)
            .await?;
        for partition in cleaned {
            let (keys, bytes) = memory.moved.remove(&partition).unwrap_or_default();
            memory.noted = (memory.noted.0 + keys, memory.noted.1 + bytes);
            memory.cleaned.insert(partition);
        }
        Ok(())
    }

    /// Writes down how far the change has come, if that is news.
    async fn tell(
        &self,
        mut migration: Migration,
        change: &TopologyChange,
        outcome: &Outcome,
        memory: &Memory,
    ) -> Result<(), StoreError> {
        let before = migration.clone();
        let moving = memory.moved.values();
        let (keys, bytes) = moving.fold(memory.noted, |all, it| (all.0 + it.0, all.1 + it.1));
        let progress = &mut migration.progress;
        progress.partitions = change.moves.len() as u64;
        progress.partitions_done = memory.cleaned.len() as u64;
        progress.keys = progress.keys.max(keys);
        progress.bytes = progress.bytes.max(bytes);
        migration.waits_for.clone_from(&outcome.waits_for);
        let is_over = !migration.status.is_open() || migration.ended_at.is_some();
        if is_over || migration == before {
            return Ok(());
        }
        self.update(migration).await?; // if somebody else changed it, it is told in the next turn
        Ok(())
    }

    /// Has metrics tell how it goes on.
    async fn show(
        &self,
        change: Option<&TopologyChange>,
        waits_for: Option<String>,
        memory: &mut Memory,
    ) -> Result<(), StoreError> {
        let open = open_migrations(&self.metadata).await?;
        let is_pending = |it: &&Migration| it.status == MigrationStatus::Pending;
        let count = |state| change.map_or(0, |change| change.in_state(state));
        let states = MoveState::ALL.map(count);
        let moving = memory.moved.values();
        let keys = moving.fold(memory.noted.0, |all, it| all + it.0);
        let now = self.world.clock().now();
        let far = Some((keys + memory.cleaned.len() as u64, states));
        // One that was told to rest does not stand still.
        let rests = change.is_some_and(|change| {
            let mut open = open.iter();
            open.any(|it| it.id == change.id && it.bytes_per_second == Some(0))
        });
        if memory.far != far || open.is_empty() || rests {
            (memory.far, memory.moved_at) = (far, now);
        }
        let [waiting, copying, handing_over, moved] = states.map(|count| count as u64);
        let gauges = MigrationGauges {
            open: open.len() as u64,
            pending: open.iter().filter(is_pending).count() as u64,
            waiting,
            copying,
            handing_over,
            moved,
            stalled_seconds: now.since(memory.moved_at).as_secs(),
            leads: true,
            waits_for,
            ..MigrationGauges::default()
        };
        self.board.update(gauges, now);
        Ok(())
    }

    pub(super) fn unix_seconds(&self) -> i64 {
        i64::try_from(self.world.clock().wall_ms() / 1000).unwrap_or(i64::MAX)
    }
}

impl Turn<'_> {
    pub(super) fn participants(&self, moving: &Move) -> Participants {
        Participants::of(moving, &self.factors, |node| self.is_given_up(node))
    }

    /// A node that a partition needs and that can't be had.
    fn missing(&self, moving: &Move) -> Option<u16> {
        let participants = self.participants(moving);
        participants
            .all()
            .find(|node| !self.there.contains_key(node))
    }
}

/// What partitions wait for.
#[derive(Default)]
pub(super) struct Waits {
    /// So many for each node.
    nodes: BTreeMap<NodeId, usize>,
    other: Option<String>,
}

impl Waits {
    /// A partition needs this node.
    pub(super) fn add(&mut self, turn: &Turn<'_>, node: u16) {
        marks::reached(Mark::PartitionBlocked);
        *self.nodes.entry(turn.name(node).clone()).or_default() += 1;
    }

    /// A partition waits for something else.
    pub(super) fn because(&mut self, why: String) {
        self.other = Some(why);
    }

    /// In words, and what would help.
    fn told(self) -> Option<String> {
        let nodes = self.nodes.iter().map(|(node, partitions)| {
            format!(
                "{node}, which does not answer or is being refilled, for {partitions} partitions"
            )
        });
        let nodes: Vec<String> = nodes.collect();
        match nodes.is_empty() {
            true => self.other,
            false => Some(format!(
                "{}; start it, on an empty directory under its name if its disk is lost",
                nodes.join("; ")
            )),
        }
    }
}
