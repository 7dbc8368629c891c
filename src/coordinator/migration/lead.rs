//! Carries out the change of owners that is under way, and begins the next one.
//!
//! One coordinator at a time leads, by a lease. A lease keeps nothing safe, and need not: a step is a compare-and-set
//! of the topology, what comes before it are fences and joins, and a copy is dropped only by the epoch by which its
//! node was told that it leaves. Whoever leads next begins with what is stored, at whatever instruction the last one
//! stopped.
//!
//! It works in *turns*: looks at the stored topology, does for as many partitions as time allows what their states need
//! ([`super::advance`]), and publishes one epoch for all that may step. A partition that waits for a node holds up no
//! other one. While a turn lasts the lease is renewed; one that has lost it stops where it is.
//!
//! Invariant: a migration is called completed only when its end is published.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::CoordinatorError;
use super::super::convergence::Progress;
use super::super::exchange::Exchange;
use super::super::metadata::{Lease, Metadata};
use super::super::settings::CoordinatorSettings;
use super::super::tenants::TenantCache;
use super::super::topologies::Topologies;
use super::memory::Memory;
use super::progress::{MigrationBoard, MigrationGauges};
use super::stored::{open_migrations, started};
use super::turn::{Outcome, TURN_MAX};
use super::window::Window;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{MoveState, Topology, TopologyChange};
use crate::ports::{
    Change, Clock, CoordinatorWorld, MetadataStore, Migration, MigrationStatus, Random, Stop,
    StoreError,
};

/// What the lease is called.
const LEASE: &str = "migrations";

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
    /// How many partitions it works on at the same time.
    pub(super) window: Mutex<Window>,
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
            window: Mutex::default(),
        }
    }

    /// Leads, while this coordinator has the lease, until `stop`.
    pub(in crate::coordinator) async fn lead(&self, stop: &Stop) {
        let lease = Lease {
            name: LEASE,
            holder: self.world.random().next_u64(),
            lasts: self.settings.anti_entropy_lease.max(TURN_MAX * 2),
        };
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
            self.look_at_rest();
            leads = self.metadata.holds(lease).await;
            if !leads {
                memory = Memory::default();
                self.look_on().await;
                continue;
            }
            let turn = self.metadata.while_held(lease, self.turn(&mut memory));
            match stop.or(turn).await {
                None => break,
                Some(None) => tracing::info!("another coordinator leads changes of owners now"),
                Some(Some(Ok(outcome))) => {
                    failed.clear();
                    if outcome.went_on {
                        rest /= 8;
                    }
                }
                Some(Some(Err(error))) => {
                    let error = error.to_string();
                    if error != failed {
                        tracing::warn!(error, "a migration can't go on now");
                    }
                    failed = error;
                }
            }
        }
        if leads {
            self.metadata.let_go(lease).await;
        }
    }

    /// Learns how fast the nodes answer while nothing moves, whoever leads.
    fn look_at_rest(&self) {
        let routing = self.topologies.routing();
        if routing.topology().change.is_none() {
            self.window().rest(routing.answers_of_nodes());
        }
    }

    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody else leads, or nobody does: what there is to do is shown all the same, as it was when the metadata
    /// store last told.
    async fn look_on(&self) {
        let now = self.world.clock().now();
        let before = self.board.gauges(now);
        let (mut open, mut pending) = (before.open, before.pending);
        if let Ok(found) = open_migrations(&self.metadata).await {
            let is_pending = |it: &&Migration| it.status == MigrationStatus::Pending;
            open = found.len() as u64;
            pending = found.iter().filter(is_pending).count() as u64;
        }
        let gauges = MigrationGauges {
            open,
            pending,
            ..MigrationGauges::default()
        };
        self.board.update(gauges, now);
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
                let Some(migration) = self.migration_of(&change).await? else {
                    return Ok(Outcome::default());
                };
                if !memory.is_of(&change) {
                    *memory = self.remembered(&change, &migration).await?;
                }
                // Who gave up a node goes on: others own what that had.
                let leads_back = change.given_up.is_empty();
                if migration.cancel && !change.cancelled && leads_back {
                    return self.cancel(&stored).await;
                }
                if let Some(outcome) = self.amend(&stored, &routing, &change, memory).await? {
                    return Ok(outcome);
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

    pub(super) fn unix_seconds(&self) -> i64 {
        i64::try_from(self.world.clock().wall_ms() / 1000).unwrap_or(i64::MAX)
    }
}
