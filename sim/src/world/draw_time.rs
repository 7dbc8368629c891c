//! Time as it is outside a simulation: timers that go off late, calls that end when somebody looks for them,
//! coordinators that don't agree how long anything may take, and monotonic clocks that stand still.

use std::time::Duration;

use pairdb::coordinator::CoordinatorSettings;

use super::{Fault, FaultStep, NEVER, OddPlan, TimePlan, World};
use crate::rng::Rng;

/// How many worlds of a thousand have a time that is not exact.
const INEXACT_PERMILLE: u32 = 500;
/// How many have coordinators with different settings.
const AT_ODDS_PERMILLE: u32 = 250;
/// How many of those where much goes wrong have clocks that stand still.
const STANDING_PERMILLE: u32 = 150;
/// Fewer faults say what a world is about.
const FAULTS_MIN: usize = 3;

impl World {
    /// Makes its time inexact, in some cases.
    pub(super) fn perhaps_inexact(&mut self) {
        let rng = &mut Rng::new(self.seed, "time");
        if rng.chance(INEXACT_PERMILLE) {
            self.time = TimePlan {
                timers_late_us_max: rng.pick(&[0, 100, 1_000, 5_000]),
                calls_late_us_max: rng.pick(&[0, 10_000, 10_000, 40_000]),
            };
        }
    }

    /// Sets coordinators differently, in some cases.
    pub(super) fn perhaps_at_odds(&mut self) {
        let rng = &mut Rng::new(self.seed, "at odds");
        if self.coordinators < 2 || !self.timeouts.is_empty() || !rng.chance(AT_ODDS_PERMILLE) {
            return;
        }
        for who in self.coordinators() {
            if rng.chance(600) {
                let coordinator = at_odds(&self.coordinator, rng);
                self.odd.push(OddPlan { who, coordinator });
            }
        }
    }

    /// Has monotonic clocks stand still now and then, in some cases where much else goes wrong.
    pub(super) fn perhaps_standing_clocks(&mut self) {
        let rng = &mut Rng::new(self.seed, "standing clocks");
        if self.faults.len() < FAULTS_MIN || !rng.chance(STANDING_PERMILLE) {
            return;
        }
        let mut processes = self.storage();
        processes.extend(self.coordinators());
        for _ in 0..rng.between(1, 6) {
            let fault = Fault::StandingClock {
                who: rng.pick(&processes),
                jumps: rng.chance(500),
            };
            let at_ms = rng.between(0, self.chaos_ms * 9 / 10);
            let for_ms = rng.log_between(20, 6_000);
            self.faults.push(FaultStep::new(at_ms, for_ms, fault));
        }
        self.faults.sort_by_key(|step| step.at_ms);
    }
}

/// Settings of which each coordinator may have its own without anybody being promised anything else.
fn at_odds(settings: &CoordinatorSettings, rng: &mut Rng) -> CoordinatorSettings {
    let ms = Duration::from_millis;
    let mut odd = CoordinatorSettings {
        write_timeout: ms(rng.pick(&[300, 1_000, 5_000])),
        read_timeout: ms(rng.pick(&[300, 1_000, 5_000])),
        stamp_patience_min: ms(rng.pick(&[3, 30, 300])),
        hedge_delay_min: ms(rng.pick(&[1, 10, 50])),
        clock_ahead_max: ms(rng.pick(&[0, 1_000, 10_000])),
        tenant_entries_max: rng.pick(&[1, 10_000]),
        topology_refresh: ms(rng.pick(&[1_000, 30_000])),
        probe_interval: ms(rng.pick(&[200, 1_000, 3_000])),
        repair_queue_max: rng.pick(&[1, 10_000]),
        claim_lease: ms(rng.pick(&[10, 200, 10_000])),
        ..settings.clone()
    };
    if settings.anti_entropy_pause < NEVER {
        odd.anti_entropy_period = ms(rng.pick(&[500, 10_000]));
        odd.anti_entropy_pause = ms(rng.pick(&[100, 2_000]));
        odd.anti_entropy_lease = ms(rng.pick(&[500, 10_000]));
    }
    odd
}
