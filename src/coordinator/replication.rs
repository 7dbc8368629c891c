//! Reads and writes of records at their owners: what the two share.
//!
//! [`write`](super::write) and [`read`](super::read) put the plans of one operation together, pass after pass while the
//! topology changes under them. What is decided is in the plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cluster_clock::ClusterClock;
use super::crowded::Crowded;
use super::repair::Repairs;
use super::request::ClockEntry;
use super::settings::CoordinatorSettings;
use super::topologies::Topologies;
use crate::buggify::{self, Site};
use crate::ports::{Clock, CoordinatorWorld, Instant, RecordKey, SiblingLimits};
use crate::version::{Record, Stamp, VersionVector};

/// How often an operation goes back to the start because the topology changed under it.
pub(super) const TOPOLOGY_RETRIES_MAX: usize = 4;

/// See the [module](self).
pub(super) struct Replication<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) topologies: Arc<Topologies<W>>,
    pub(super) repairs: Arc<Repairs<W>>,
    pub(super) stamps: Arc<ClusterClock>,
    pub(super) crowded: Crowded,
    /// Reads that had to repair before they answered.
    pub(super) blocking_repairs: AtomicU64,
}

impl<W: CoordinatorWorld> Replication<W> {
    pub(super) fn clock(&self) -> &W::Clock {
        self.world.clock()
    }

    /// The next stamp.
    pub(super) fn next_stamp(&self) -> Stamp {
        self.stamps.tick(self.clock().wall_ms())
    }

    /// A stamp above `greatest`; `None` at the end of time.
    pub(super) fn stamp_above(&self, greatest: Stamp) -> Option<Stamp> {
        self.stamps.tick_above(greatest, self.clock().wall_ms())
    }

    /// Looks at a record that was read or written.
    pub(super) fn look_at_siblings(&self, key: &RecordKey, record: &Record, limits: SiblingLimits) {
        self.crowded
            .look_at(key, record, limits, self.clock().now());
    }

    /// A version vector as people read it.
    pub(super) fn readable_clock(&self, seen: &VersionVector) -> Vec<ClockEntry> {
        let routing = self.topologies.routing();
        let entries = seen.iter().map(|(actor, counter)| ClockEntry {
            node: routing.actor_name(actor),
            counter,
        });
        entries.collect()
    }

    /// Where the simulation makes pauses.
    pub(super) async fn maybe_pause(&self, site: Site, deadline: Instant) {
        let clock = self.clock();
        buggify::pause(site, |pause| {
            clock.sleep_until(deadline.min(clock.now() + pause))
        })
        .await;
    }

    pub(super) fn repaired_before_answer(&self) {
        self.blocking_repairs.fetch_add(1, Ordering::Relaxed);
    }
}
