//! Worlds in which one thing is wrong and nothing else: what the cluster is bound to put up with.
//!
//! Where everything is wrong at once, nothing that is refused can be called a broken promise. A few worlds are drawn so
//! that one storage node is gone, cut off (from all, or from coordinators only), slow, full or stuck for most of the
//! time, or the topology gets one epoch after the other, and all else is fine; there every quorum operation has to
//! succeed, and in time.

use std::time::Duration;

use super::{Fault, FaultStep, World};
use crate::rng::Rng;

/// A pause that no run is long enough for: owners are not compared, and hints have to do what they can alone.
pub const NEVER: Duration = Duration::from_secs(3_600);

/// How many worlds of a thousand.
const PERMILLE: u32 = 100;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_but_one_thing_wrong(&mut self) {
        let rng = &mut Rng::new(self.seed, "one thing wrong");
        if !rng.chance(PERMILLE) {
            return;
        }
        self.calm_down();
        for client in &mut self.clients {
            client.operations = client.operations.max(80);
            client.think_ms_max = client.think_ms_max.min(100);
        }
        let unaided = rng.chance(500);
        if unaided {
            self.coordinator.anti_entropy_pause = NEVER;
            self.disk.sync_interval_ms = None; // who loses power then has to be compared
        }
        let who = rng.pick(&self.storage());
        let chaos_ms = self.chaos_ms;
        let mut others = self.storage();
        others.extend(self.coordinators());
        others.retain(|other| *other != who);
        let slow = Fault::Slow {
            who: Some(who),
            permille: 1_000,
            late_ms_max: rng.log_between(500, 4_000),
        };
        let cut_off = |refused| Fault::Partition {
            from: vec![who],
            to: others.clone(),
            both_ways: true,
            refused,
        };
        // What it misses the others bring it while more is missed: hints are delivered, slowly, and noted at once.
        let out_of_coordinators_reach = Fault::Partition {
            from: vec![who],
            to: self.coordinators(),
            both_ways: true,
            refused: true,
        };
        let epochs = |share| FaultStep::new(chaos_ms * share / 10, 1, Fault::NewEpoch);
        let (fault, at_ms) = match rng.below(12) {
            _ if unaided && rng.chance(500) => (out_of_coordinators_reach, 0),
            0..=2 => (slow, 0),
            3 => (cut_off(true), chaos_ms / 5),
            4 | 5 => (cut_off(false), chaos_ms / 5),
            6 => (Fault::Crash { who }, chaos_ms / 5),
            7 => (Fault::FullDisk { who }, chaos_ms / 5),
            8 | 9 => (Fault::StuckDisk { who }, chaos_ms / 5),
            _ => {
                self.faults = (1..10).map(epochs).collect();
                return;
            }
        };
        let for_ms = chaos_ms - at_ms;
        if matches!(&fault, Fault::Partition { to, .. } if *to != others) {
            let late_ms_max = rng.log_between(20, 200);
            let slow_disk = Fault::SlowDisk { who, late_ms_max };
            self.faults.push(FaultStep::new(at_ms, for_ms, slow_disk));
        }
        self.faults.push(FaultStep::new(at_ms, for_ms, fault));
    }
}
