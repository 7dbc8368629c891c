//! Worlds in which a node loses its disk, or its last commits, after deletes were purged, and clients come back with
//! what was deleted.
//!
//! What was purged is known only from what each owner keeps of it. A client whose idempotent write was answered by
//! nobody sends it once more, seconds later: meanwhile it was made, seen, deleted and purged, and the node that accepts
//! it anew has lost its disk and been refilled. The write must not be made a second time.

use std::time::Duration;

use pairdb::coordinator::IdempotencyOutage;
use pairdb::quorum::ConflictPolicy;

use super::{Fault, FaultStep, World};
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 40;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_forgotten(&mut self) {
        let rng = &mut Rng::new(self.seed, "what was purged is forgotten");
        if !rng.chance(PERMILLE) {
            return;
        }
        self.calm_down();
        self.disk.sync_interval_ms = None;
        self.storage_nodes = 3;
        self.chaos_ms = 25_000;
        self.clocks.clear();
        self.timeouts.clear();
        self.replica.tombstone_grace = Duration::from_millis(20);
        self.coordinator.anti_entropy_pause = Duration::from_millis(100);
        self.coordinator.anti_entropy_period = Duration::from_millis(200);
        self.coordinator.probe_interval = Duration::from_millis(100);
        self.coordinator.claim_lease = Duration::from_millis(50);
        self.coordinator.idempotency_outage = IdempotencyOutage::Refuse;
        self.tenants.truncate(2);
        for tenant in &mut self.tenants {
            tenant.replication_factor = 3;
            tenant.conflict_policy = ConflictPolicy::LastWriteWins;
            tenant.keys = 2;
        }
        self.come_and_go(rng);
        let late = Fault::Duplicate {
            permille: 300,
            late_ms_max: 2_000,
        };
        self.faults.push(FaultStep::new(0, self.chaos_ms, late));
        let who = rng.pick(&self.storage());
        let mut at_ms = 2_000;
        while at_ms < self.chaos_ms - 3_000 {
            // With its last commits alone the node loses a purge, and what was purged is there again.
            let lost = match rng.chance(500) {
                true => Fault::LoseDisk { who },
                false => Fault::DamagedJournal {
                    who,
                    commits: rng.between(1, 8) as u32,
                },
            };
            self.faults.push(FaultStep::new(at_ms, 50, lost));
            at_ms += rng.between(2_500, 4_000);
        }
    }

    /// Clients write and go away, and come back; others read, and delete.
    fn come_and_go(&mut self, rng: &mut Rng) {
        while self.clients.len() < 6 {
            self.clients.push(self.clients[0].clone());
        }
        self.clients.truncate(6);
        for (number, client) in (0..).zip(&mut self.clients) {
            client.consistency = [0, 1, 0];
            (client.context_permille, client.floor_permille) = (0, 0);
            (client.repeat_permille, client.mistake_permille) = (0, 0);
            client.updates = 0;
            client.operations = 400;
            if number < 4 {
                (client.writes, client.reads, client.deletes) = (1, 0, 0);
                client.think_ms_max = 1_000;
                client.idempotency_permille = 1_000;
                client.cancel_permille = 700;
                client.retries = 4;
                client.retry_pause_ms_max = rng.pick(&[3_000, 6_000]);
            } else {
                (client.writes, client.reads, client.deletes) = (0, 4, 1);
                client.think_ms_max = 150;
                client.idempotency_permille = 0;
                client.cancel_permille = 0;
            }
        }
    }
}
