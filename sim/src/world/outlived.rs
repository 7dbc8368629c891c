//! Worlds in which a coordinator has far more patience than the others, and outlives with it the disk of an owner.
//!
//! Its messages are late, by more than the others' time-outs. An owner accepts a write of it, loses its disk, and is
//! refilled by another coordinator, for whom all that is long over. Then the patient one has a second owner join the
//! write: it must not count the first one any more, since nobody gave it back what nobody else had.

use std::time::Duration;

use super::{Fault, FaultStep, TimeoutPlan, World};
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 20;
/// More than a message takes.
const PATIENCE_MS: u64 = 15_000;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_outlived(&mut self) {
        let rng = &mut Rng::new(self.seed, "a patient coordinator");
        if !rng.chance(PERMILLE) {
            return;
        }
        self.calm_down();
        self.storage_nodes = 3;
        self.coordinators = 2;
        self.partitions = 1;
        self.chaos_ms = 25_000;
        self.disk.sync_interval_ms = None;
        let short = Duration::from_millis(200);
        self.coordinator.write_timeout = short;
        self.coordinator.read_timeout = short;
        self.coordinator.stamp_patience_min = Duration::from_secs(8);
        self.coordinator.probe_interval = Duration::from_millis(200);
        self.coordinator.anti_entropy_pause = Duration::from_millis(100);
        self.coordinator.anti_entropy_period = Duration::from_secs(10);
        self.replica.hint_pause_min = Duration::from_secs(4);
        self.replica.hint_pause_max = Duration::from_secs(5);
        self.clocks.clear();
        let [_, patient] = self.coordinators()[..] else {
            return;
        };
        self.timeouts = vec![TimeoutPlan {
            who: patient,
            timeout_ms: PATIENCE_MS,
        }];
        self.tenants.truncate(2);
        for tenant in &mut self.tenants {
            tenant.replication_factor = 3;
            tenant.keys = 2;
        }
        self.be_patient_or_curious(rng);
        let [loses, missed] = rng.sample(&self.storage(), 2)[..] else {
            return;
        };
        let late = Fault::Slow {
            who: Some(patient),
            permille: 700,
            late_ms_max: 3_000,
        };
        let cut = Fault::Partition {
            from: vec![patient],
            to: vec![missed],
            both_ways: true,
            refused: true,
        };
        self.faults = vec![
            FaultStep::new(0, self.chaos_ms, late),
            FaultStep::new(0, self.chaos_ms, cut),
        ];
        let mut at_ms = 3_000;
        while at_ms < self.chaos_ms - 4_000 {
            let lost = Fault::LoseDisk { who: loses };
            self.faults.push(FaultStep::new(at_ms, 50, lost));
            at_ms += rng.between(2_500, 4_500);
        }
    }

    /// The first clients, whose coordinator is the hasty one, read; the others write.
    fn be_patient_or_curious(&mut self, rng: &mut Rng) {
        while self.clients.len() < 6 {
            self.clients.push(self.clients[0].clone());
        }
        self.clients.truncate(6);
        for (number, client) in (1_u8..).zip(&mut self.clients) {
            client.consistency = [0, 1, 0];
            client.sticky = true;
            client.cancel_permille = 0;
            client.idempotency_permille = 0;
            client.context_permille = 0;
            client.floor_permille = 0;
            client.retries = 0;
            client.updates = 0;
            // Clients begin at the coordinator after their own number's.
            let patient = number % 2 + 1 == 2;
            if patient {
                (client.writes, client.reads, client.deletes) = (1, 0, 0);
                client.timeout_ms = PATIENCE_MS;
                client.think_ms_max = rng.pick(&[200, 1_000]);
                client.operations = 100;
            } else {
                (client.writes, client.reads, client.deletes) = (0, 1, 0);
                client.timeout_ms = 200;
                client.think_ms_max = 50;
                client.operations = 700;
            }
        }
    }
}
