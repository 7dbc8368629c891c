//! Worlds in which a node loses its disk, or what it committed or answered last, while another owner is out of reach.
//!
//! What was acknowledged without the third owner is then held by none that can be asked: the node that lost it must not
//! pass for one that has nothing to tell. Then the other owner is there again, and all of it has to be given back.

use std::time::Duration;

use super::{Fault, FaultStep, World};
use crate::endpoint::Endpoint;
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 20;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_refilled(&mut self) {
        let rng = &mut Rng::new(self.seed, "a node is refilled");
        if !rng.chance(PERMILLE) {
            return;
        }
        self.calm_down();
        self.storage_nodes = 3;
        self.disk.sync_interval_ms = None;
        self.coordinator.write_timeout = Duration::from_millis(500);
        self.coordinator.read_timeout = Duration::from_millis(500);
        self.coordinator.anti_entropy_pause = Duration::from_millis(100);
        self.clocks.clear();
        for tenant in &mut self.tenants {
            tenant.replication_factor = 3;
        }
        for client in &mut self.clients {
            client.timeout_ms = 500;
            client.think_ms_max = client.think_ms_max.min(100);
            client.operations = client.operations.max(100);
        }
        let [keeps, loses, missed] = rng.sample(&self.storage(), 3)[..] else {
            return;
        };
        let quarter = self.chaos_ms / 4;
        let loss = match rng.below(4) {
            0 | 1 => Fault::LoseDisk { who: loses },
            2 => Fault::DamagedJournal {
                who: loses,
                commits: rng.between(1, 64) as u32,
            },
            _ => {
                self.disk.sync_interval_ms = Some(rng.log_between(200, 10_000));
                Fault::Crash { who: loses }
            }
        };
        let alone = |who: Endpoint| Fault::Partition {
            from: vec![who],
            to: self
                .storage()
                .into_iter()
                .chain(self.coordinators())
                .filter(|other| *other != who)
                .collect(),
            both_ways: true,
            refused: true,
        };
        let at_ms = quarter + rng.between(0, 300);
        self.faults = vec![
            FaultStep::new(0, at_ms, alone(missed)),
            FaultStep::new(at_ms, 100, loss),
            FaultStep::new(at_ms, 2 * quarter, alone(keeps)),
        ];
    }
}
