//! Worlds in which every key holds stamps ahead of all wall clocks: they were an hour fast, and were set right.
//!
//! From then on a write's stamp is the one after what its stamping owner holds, so coordinators that met the same stamp
//! propose the same next one, and an owner that missed a write leads to that write's own. Coordinators race in these
//! worlds, so that owners do miss writes.

use super::{ClockPlan, Fault, FaultStep, World};
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 60;
const HOUR_MS: i64 = 3_600_000;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_ahead_of_all_clocks(&mut self) {
        let rng = &mut Rng::new(self.seed, "ahead of all clocks");
        if !rng.chance(PERMILLE) {
            return;
        }
        self.race(rng);
        let mut processes = self.storage();
        processes.extend(self.coordinators());
        let fast = |who| ClockPlan {
            who,
            offset_ms: HOUR_MS,
            drift_ppm: 0,
        };
        self.clocks = processes.iter().copied().map(fast).collect();
        let at_ms = self.chaos_ms / 8;
        let chaos_ms = self.chaos_ms;
        let step = |at_ms, fault| FaultStep::new(at_ms, chaos_ms - at_ms, fault);
        let set_right = processes.iter().map(|who| Fault::ClockJump {
            who: *who,
            by_ms: -HOUR_MS,
        });
        self.faults
            .extend(set_right.map(|fault| step(at_ms, fault)));
        // Who starts anew has forgotten which stamps it gave out.
        let forget = self
            .coordinators()
            .into_iter()
            .map(|who| FaultStep::new(at_ms + 10, 100, Fault::Crash { who }));
        self.faults.extend(forget.collect::<Vec<_>>());
        self.faults.sort_by_key(|step| step.at_ms);
    }
}
