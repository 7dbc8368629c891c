//! Worlds in which keys come and go, and some coordinators' clocks are slow.
//!
//! Deletes are purged within a second, while claims of idempotent writes fix stamps that may be behind what was purged.
//! Nothing else is wrong, so every one of them has to succeed.

use std::time::Duration;

use pairdb::quorum::ConflictPolicy;

use super::{Fault, FaultStep, World};
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 15;

const HOUR_MS: i64 = 3_600_000;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_purged(&mut self) {
        let rng = &mut Rng::new(self.seed, "keys come and go");
        if !rng.chance(PERMILLE) {
            return;
        }
        self.calm_down();
        self.disk.sync_interval_ms = None;
        self.storage_nodes = 3;
        self.coordinators = self.coordinators.max(2);
        self.replica.tombstone_grace = Duration::from_millis(50);
        self.coordinator.anti_entropy_pause = Duration::from_millis(100);
        self.coordinator.anti_entropy_period = Duration::from_millis(200);
        self.coordinator.probe_interval = Duration::from_secs(30);
        self.chaos_ms = self.chaos_ms.max(15_000);
        self.clients.truncate(4);
        for tenant in &mut self.tenants {
            tenant.replication_factor = 3;
            tenant.conflict_policy = ConflictPolicy::LastWriteWins;
            tenant.keys = rng.pick(&[1, 1, 2]);
        }
        for client in &mut self.clients {
            client.operations = client.operations.clamp(20, 60);
            client.think_ms_max = 4_000;
            (client.writes, client.deletes, client.reads) = (3, 3, 1);
            client.context_permille = 0;
            client.idempotency_permille = 600;
            client.cancel_permille = 0;
            client.mistake_permille = 0;
            client.retries = 0;
            client.sticky = true;
        }
        // After they have asked how other clocks go; they ask again half a minute later.
        let slow = self.coordinators().into_iter().skip(1);
        let chaos_ms = self.chaos_ms;
        self.clocks.clear();
        self.faults = slow
            .map(|who| {
                FaultStep::new(
                    0,
                    chaos_ms,
                    Fault::ClockJump {
                        who,
                        by_ms: -HOUR_MS,
                    },
                )
            })
            .collect();
    }
}
