//! How a coordinator is and what it has counted, for probes, metrics and people.
//!
//! What it is not: it decides nothing and keeps nothing; every part keeps its own figures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::anti_entropy::AntiEntropy;
use super::convergence_report::{ConvergenceReport, NodeConvergence};
use super::migration::{MigrationBoard, MigrationGauges};
use super::probes::Probes;
use super::replication::Replication;
use super::settings::CoordinatorSettings;
use super::tenants::TenantCache;
use super::topologies::Topologies;
use crate::placement::NodeId;
use crate::ports::{Clock, CoordinatorWorld, Instant};

/// See the [module](self).
pub struct Status<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) topologies: Arc<Topologies<W>>,
    pub(super) tenants: Arc<TenantCache<W>>,
    pub(super) probes: Arc<Probes<W>>,
    pub(super) replication: Arc<Replication<W>>,
    pub(super) anti_entropy: Arc<AntiEntropy<W>>,
    pub(super) migrations: Arc<MigrationBoard>,
}

impl<W: CoordinatorWorld> Status<W> {
    /// Hits and misses of the tenant cache since the start.
    #[must_use]
    pub fn tenant_cache(&self) -> (u64, u64) {
        self.tenants.hits_and_misses()
    }

    /// How many of the cached tenants have fewer replicas than their replication factor says, because there are fewer
    /// storage nodes.
    #[must_use]
    pub fn tenants_short_of_nodes(&self) -> usize {
        match self.topologies.routing().topology().nodes.len() {
            0 => 0, // nobody has any
            nodes => self.tenants.wanting(nodes),
        }
    }

    /// How many reads had to repair before they answered, since the start.
    #[must_use]
    pub fn blocking_repairs(&self) -> u64 {
        self.replication.blocking_repairs.load(Ordering::Relaxed)
    }

    /// How many keys were repaired in the background, since the start.
    #[must_use]
    pub fn repairs_done(&self) -> u64 {
        self.replication.repairs.done()
    }

    /// How many repairs did not fit into the queue or were given up, since the start.
    #[must_use]
    pub fn repairs_dropped(&self) -> u64 {
        self.replication.repairs.dropped()
    }

    /// How often a key with as many unresolved siblings as its tenant wants to be told of was read or written, since
    /// the start.
    #[must_use]
    pub fn crowded_keys(&self) -> u64 {
        self.replication.crowded.met()
    }

    /// How far each storage node's wall clock is ahead of the coordinator's, in milliseconds (negative: behind), and
    /// the median of that, as last probed.
    #[must_use]
    pub fn clock_offsets_ms(&self) -> (Vec<(NodeId, i64)>, Option<i64>) {
        self.replication.stamps.offsets_ms()
    }

    /// What maintenance has done and what is left to do.
    #[must_use]
    pub fn convergence_report(&self) -> ConvergenceReport {
        let routing = self.topologies.routing();
        let clock = self.world.clock();
        let now = clock.now();
        let trees = self.anti_entropy.convergence();
        let nodes = routing.nodes();
        let nodes = nodes.map(|(node, health)| NodeConvergence::of(node, health, now));
        ConvergenceReport {
            round_age: (trees.rounds > 0)
                .then(|| Duration::from_millis(clock.wall_ms().saturating_sub(trees.ended_ms))),
            repairs_queued: self.replication.repairs.waiting(),
            repairs_dropped: self.repairs_dropped(),
            nodes: nodes.collect(),
            trees,
        }
    }

    /// How the changes of owners go on, if this coordinator leads them.
    #[must_use]
    pub fn migration(&self) -> MigrationGauges {
        self.migrations.gauges(self.world.clock().now())
    }

    /// Asks all storage nodes how they are, and waits for those that answer soon. Whose
    /// [`asked_at`](NodeConvergence::asked_at) is not before the returned time has answered this question.
    pub async fn ask_nodes(&self) -> Instant {
        let asked = self.world.clock().now();
        self.probes.ask(asked + self.settings.probe_interval).await;
        asked
    }
}
