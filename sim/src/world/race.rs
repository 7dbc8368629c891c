//! Worlds in which coordinators that see different owners race for few keys.
//!
//! Each coordinator is cut off from some of the storage nodes at any time, and from others a second later. A majority
//! can always be reached, so nearly everything succeeds, at owners that missed what the others have: one coordinator's
//! owner accepts a write while it lacks the one that another coordinator's owners have acknowledged, and who reads can
//! tell.

use super::{Fault, FaultStep, World};
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 30;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_a_race(&mut self) {
        let rng = &mut Rng::new(self.seed, "a race");
        if rng.chance(PERMILLE) {
            self.race(rng);
        }
    }

    /// Makes it such a world.
    pub(super) fn race(&mut self, rng: &mut Rng) {
        if rng.chance(500) {
            // What is always there hides what it gets in the way of.
            self.faults.clear();
            self.buggify.clear();
        }
        self.coordinators = self.coordinators.max(2);
        self.coordinator.in_flight_max = self.coordinator.in_flight_max.max(10_000);
        self.replica.queue_max = self.replica.queue_max.max(64);
        self.replica.siblings_max = self.replica.siblings_max.max(256);
        self.replica.siblings_bytes_max = self.replica.siblings_bytes_max.max(4 << 20);
        for tenant in &mut self.tenants {
            tenant.replication_factor = tenant.replication_factor.max(3);
            tenant.keys = rng.pick(&[1, 1, 2]);
        }
        self.clients.truncate(6);
        let deletes = rng.pick(&[0, 1]);
        let updates = rng.pick(&[0, 1, 2]);
        let think_ms_max = rng.pick(&[100, 300, 300]);
        for client in &mut self.clients {
            client.writes = 2;
            client.reads = 2;
            client.deletes = deletes;
            client.updates = updates;
            client.consistency = [0, 1, 0];
            client.think_ms_max = think_ms_max;
            client.cancel_permille = 0;
            client.idempotency_permille /= 4;
        }
        let cuts = self.cuts(rng);
        self.faults.extend(cuts);
        self.faults.sort_by_key(|step| step.at_ms);
    }

    /// Each coordinator is cut off from some storage nodes, then from others.
    fn cuts(&self, rng: &mut Rng) -> Vec<FaultStep> {
        let refused = rng.chance(700);
        let for_ms_max = rng.pick(&[500, 2_000]);
        let mut cuts = Vec::new();
        for coordinator in self.coordinators() {
            let mut at_ms = self.chaos_ms / 8 + 200;
            while at_ms < self.chaos_ms {
                let count = usize::from(self.storage_nodes / 3);
                let for_ms = rng.between(200, for_ms_max);
                let cut = Fault::Partition {
                    from: vec![coordinator],
                    to: rng.sample(&self.storage(), count),
                    both_ways: true,
                    refused,
                };
                cuts.push(FaultStep::new(at_ms, for_ms, cut));
                at_ms += for_ms + rng.between(0, 200);
            }
        }
        cuts
    }
}
