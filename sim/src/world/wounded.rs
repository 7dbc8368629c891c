//! Worlds in which a record is damaged while something else is wrong.
//!
//! Either another owner is out of reach, and comes back: what the damaged record counted for may be there and nowhere
//! else, so it is not replaced by less than what all the others hold. Or another owner loses its disk: the damaged
//! record must not keep it from getting back all else, and is replaced afterwards.

use std::time::Duration;

use super::{Fault, FaultStep, World};
use crate::endpoint::Endpoint;
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 20;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_wounded(&mut self) {
        let rng = &mut Rng::new(self.seed, "a record is damaged");
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
        self.timeouts.clear();
        for tenant in &mut self.tenants {
            tenant.replication_factor = 3;
            tenant.keys = tenant.keys.min(2);
        }
        for client in &mut self.clients {
            client.timeout_ms = 500;
            client.think_ms_max = client.think_ms_max.min(100);
            client.operations = client.operations.max(150);
            (client.writes, client.reads) = (client.writes.max(1), client.reads.max(4));
        }
        let [keeps, damaged, missed] = rng.sample(&self.storage(), 3)[..] else {
            return;
        };
        let quarter = self.chaos_ms / 4;
        let at_ms = quarter + rng.between(0, 300);
        let corrupt = FaultStep::new(at_ms, 0, Fault::CorruptRecord { who: damaged });
        self.faults = match rng.chance(500) {
            true => vec![
                FaultStep::new(0, at_ms, self.all_but(missed)),
                corrupt,
                FaultStep::new(at_ms, 2 * quarter, self.all_but(keeps)),
            ],
            false => vec![
                corrupt,
                FaultStep::new(at_ms + 50, 100, Fault::LoseDisk { who: keeps }),
            ],
        };
        if rng.chance(300) {
            // Two that are refilled, each with a damaged record: neither waits for the other.
            let again = FaultStep::new(at_ms, 0, Fault::CorruptRecord { who: keeps });
            let lost = [damaged, keeps].map(|who| {
                let commits = rng.between(1, 3) as u32;
                FaultStep::new(at_ms + 20, 100, Fault::DamagedJournal { who, commits })
            });
            let corrupt = FaultStep::new(at_ms, 0, Fault::CorruptRecord { who: damaged });
            self.faults = [corrupt, again].into_iter().chain(lost).collect();
        }
    }

    /// Cuts one off from everybody.
    fn all_but(&self, who: Endpoint) -> Fault {
        let everybody = self.storage().into_iter().chain(self.coordinators());
        Fault::Partition {
            from: vec![who],
            to: everybody.filter(|other| *other != who).collect(),
            both_ways: true,
            refused: true,
        }
    }
}
