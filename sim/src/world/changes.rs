//! Worlds in which owners change: nodes join, leave, take the place of others, take more or less of the ring, and
//! tenants get other replication factors, while everything else goes on, and goes wrong, as in other worlds.
//!
//! Drawn is what an operator may do. Nobody takes a node for lost that is not down for good, and never so many that a
//! majority of some key's owners could be gone. In some of these worlds little else is wrong, so that whatever is
//! refused there was refused for the change alone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::change::{ChangePlan, Replacement, Setting};
use super::{Fault, FaultStep, NEVER, World};
use crate::endpoint::Endpoint;
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 420;
/// How many of those have nothing else wrong, or one thing.
const CALM_PERMILLE: u32 = 300;
/// How many of those in which it is possible have a node that is lost half way.
const LOST_PERMILLE: u32 = 400;
/// How many of those were cancelled before, so that the node is lost on the way back.
const CANCELLED_PERMILLE: u32 = 300;
/// So long before somebody gives up a node he has cancelled what was asked for, at the latest.
const CANCELLED_BEFORE_MS: u64 = 300;
/// The most owners that a tenant's keys get.
const FACTOR_MAX: u8 = 5;
/// Leaders and clients look at what is new this often at least, so that changes come to their end in time.
const LOOKS_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// What the operator believes there to be, after all that was asked for.
struct Plans {
    members: BTreeSet<Endpoint>,
    /// Storage nodes that were never members.
    fresh: BTreeSet<Endpoint>,
    /// Nodes that left.
    left: BTreeSet<Endpoint>,
    /// Each tenant's factor.
    factors: Vec<(String, u8)>,
    /// The least factor that a tenant may get.
    least: u8,
    /// Somebody was taken for lost.
    gave_up: bool,
}

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_changes_owners(&mut self) {
        let rng = &mut Rng::new(self.seed, "owners change");
        if !rng.chance(PERMILLE) || self.coordinator.anti_entropy_pause >= NEVER {
            return;
        }
        let is_calm = rng.chance(CALM_PERMILLE);
        if is_calm {
            self.calm_down();
            self.disk.sync_interval_ms = None;
        }
        self.spare_nodes = rng.pick(&[1, 1, 2, 3]);
        self.coordinator.probe_interval = self.coordinator.probe_interval.min(LOOKS_AT_LEAST_EVERY);
        if rng.chance(200) {
            let zones = ["east", "west", "north"];
            let nodes = self.storage().len();
            self.zones = (0..nodes).map(|_| rng.pick(&zones).to_owned()).collect();
        }
        let mut plans = Plans::of(self);
        let begins = self.chaos_ms / 10;
        let mut at_ms = begins + rng.between(0, self.chaos_ms / 5);
        for _ in 0..rng.pick(&[1, 1, 2, 3]) {
            let steps = self.change(rng, &mut plans, at_ms, is_calm);
            self.faults.extend(steps);
            at_ms += rng.log_between(10, self.chaos_ms / 3);
            if at_ms > self.chaos_ms * 9 / 10 {
                break;
            }
        }
        // Where a node is down for good nobody cancels that it is given up.
        if rng.chance(300) && !plans.gave_up {
            let at_ms = rng.between(begins, self.chaos_ms);
            self.faults
                .push(FaultStep::new(at_ms, 0, Fault::CancelChange));
        }
        match is_calm {
            true => self.perhaps_one_away(rng),
            false => self.trouble_with_changes(rng),
        }
        self.perhaps_lost_half_way(&mut plans);
        self.faults.sort_by_key(|step| step.at_ms);
    }

    /// One request, and what makes it one that an operator may make.
    fn change(
        &self,
        rng: &mut Rng,
        plans: &mut Plans,
        at_ms: u64,
        is_calm: bool,
    ) -> Vec<FaultStep> {
        let mut plan = ChangePlan::default();
        let mut steps = Vec::new();
        for _ in 0..rng.pick(&[1, 1, 2]) {
            match rng.weighted(&[4, 2, 2, 2, 2, 1]) {
                0 => {
                    let count = rng.between(1, 2);
                    (0..count).for_each(|_| plan.add.extend(plans.joins(rng)));
                }
                1 => plan.remove.extend(plans.leaves(rng)),
                2 => plan.replace.extend(plans.is_replaced(rng)),
                3 => plan.set.extend(self.setting(rng, plans)),
                4 => plan.factors.extend(plans.factor(rng)),
                _ if !is_calm && self.may_give_up(plans) => {
                    let Some(who) = plans.is_lost(rng) else {
                        continue;
                    };
                    let down_ms = at_ms.saturating_sub(rng.log_between(1, 2_000));
                    let down_for_good = Fault::Crash { who };
                    steps.push(FaultStep::new(down_ms, 2 * self.chaos_ms, down_for_good));
                    match plans.spare_joins(rng) {
                        Some(by) => plan.replace.push(Replacement {
                            who,
                            by,
                            force: true,
                        }),
                        None => plan.give_up.push(who),
                    }
                }
                _ => plan.add.extend(plans.joins(rng)),
            }
        }
        // Nobody asks twice about one node in one request.
        let mut named = BTreeSet::new();
        plan.set.retain(|setting| named.insert(setting.who));
        let leaving: BTreeSet<Endpoint> = plan.leaving().collect();
        plan.set.retain(|setting| !leaving.contains(&setting.who));
        if plan != ChangePlan::default() {
            steps.push(FaultStep::new(at_ms, 0, Fault::Change(Box::new(plan))));
        }
        steps
    }

    /// A node goes down for good while owners change, an old one or one that joins, and after a while the operator
    /// gives it up: the change goes on without it.
    fn perhaps_lost_half_way(&mut self, plans: &mut Plans) {
        let rng = &mut Rng::new(self.seed, "a node is lost half way");
        let asked = self.faults.iter().filter_map(|step| match &step.fault {
            Fault::Change(_) => Some(step.at_ms),
            _ => None,
        });
        let enough = self
            .tenants
            .iter()
            .all(|tenant| tenant.replication_factor >= 3);
        let asked: Vec<u64> = asked.collect();
        if asked.is_empty() || !enough || !rng.chance(LOST_PERMILLE) || !self.may_give_up(plans) {
            return;
        }
        let Some(who) = plans.is_lost(rng) else {
            return;
        };
        let down_ms = rng.pick(&asked) + rng.log_between(1, 3_000);
        let asked_ms = down_ms + rng.log_between(1, 3_000);
        // Nobody asks that a node joins which is down for good, nor cancels that it is given up: only what was asked
        // for before.
        let cancel_ms = asked_ms.saturating_sub(CANCELLED_BEFORE_MS);
        let forbids = |step: &FaultStep| match &step.fault {
            Fault::Change(plan) => step.at_ms >= down_ms && plan.joining().any(|it| it == who),
            Fault::CancelChange => step.at_ms > cancel_ms,
            _ => false,
        };
        if self.faults.iter().any(forbids) {
            return;
        }
        let mut plan = ChangePlan::default();
        match rng.chance(500).then(|| plans.spare_joins(rng)).flatten() {
            Some(by) => plan.replace.push(Replacement {
                who,
                by,
                force: true,
            }),
            None => plan.give_up.push(who),
        }
        if rng.chance(CANCELLED_PERMILLE) {
            let cancelled = Fault::CancelChange;
            self.faults.push(FaultStep::new(cancel_ms, 0, cancelled));
        }
        let down_for_good = Fault::Crash { who };
        let given_up = Fault::Change(Box::new(plan));
        self.faults.extend([
            FaultStep::new(down_ms, 2 * self.chaos_ms, down_for_good),
            FaultStep::new(asked_ms, 0, given_up),
        ]);
    }

    fn setting(&self, rng: &mut Rng, plans: &Plans) -> Option<Setting> {
        let members: Vec<Endpoint> = plans.members.iter().copied().collect();
        let who = *members.get(rng.below(members.len().max(1) as u64) as usize)?;
        let zoned = rng.chance(300);
        Some(Setting {
            who,
            virtual_nodes: (!zoned).then(|| rng.pick(&[1, self.virtual_nodes * 2, 16])),
            zone: zoned.then(|| rng.pick(&["east", "west", ""]).to_owned()),
        })
    }

    /// Whether a node that is taken for lost is the only one to lose what it had, and others have all of it.
    fn may_give_up(&self, plans: &Plans) -> bool {
        let loses = |step: &FaultStep| {
            matches!(
                step.fault,
                Fault::LoseDisk { .. } | Fault::CorruptRecord { .. } | Fault::DamagedJournal { .. }
            )
        };
        let most = plans.most();
        !plans.gave_up
            && self.disk.sync_interval_ms.is_none()
            && plans.factors.iter().all(|(_, factor)| *factor >= 3)
            && plans.members.len() > most
            && !self.faults.iter().any(loses)
    }

    /// For a while one node is away: who changes owners waits for it, and nobody else does.
    fn perhaps_one_away(&mut self, rng: &mut Rng) {
        if rng.chance(500) {
            return;
        }
        let who = rng.pick(&self.storage());
        let mut others = self.storage();
        others.extend(self.coordinators());
        others.retain(|other| *other != who);
        let away = match rng.chance(500) {
            true => Fault::Crash { who },
            false => Fault::Partition {
                from: vec![who],
                to: others,
                both_ways: true,
                refused: rng.chance(500),
            },
        };
        let at_ms = rng.between(0, self.chaos_ms / 2);
        let for_ms = rng.log_between(100, self.chaos_ms / 2);
        self.faults.push(FaultStep::new(at_ms, for_ms, away));
    }

    /// What gets in the way of those who carry changes out.
    fn trouble_with_changes(&mut self, rng: &mut Rng) {
        let mut trouble = Vec::new();
        let coordinator = rng.pick(&self.coordinators());
        let spare = Endpoint::Storage(
            self.storage_nodes + rng.between(1, u64::from(self.spare_nodes)) as u8,
        );
        if rng.chance(400) {
            trouble.push(Fault::CrashLeader);
        }
        if rng.chance(400) {
            trouble.push(Fault::CrashOn {
                who: coordinator,
                peer: Some(Endpoint::Metadata),
                count: rng.log_between(1, 60) as u32,
            });
        }
        if rng.chance(250) {
            trouble.push(Fault::Partition {
                from: vec![coordinator],
                to: vec![Endpoint::Metadata],
                both_ways: true,
                refused: rng.chance(500),
            });
        }
        if rng.chance(150) {
            trouble.push(Fault::Slow {
                who: Some(Endpoint::Metadata),
                permille: 800,
                late_ms_max: rng.log_between(50, 3_000),
            });
        }
        if rng.chance(300) {
            trouble.push(Fault::CrashOn {
                who: spare,
                peer: None,
                count: rng.log_between(1, 200) as u32,
            });
        }
        let one_loses = |step: &FaultStep| {
            let by_force = matches!(&step.fault, Fault::Change(plan)
                if !plan.give_up.is_empty() || plan.replace.iter().any(|it| it.force));
            let loses = matches!(
                step.fault,
                Fault::LoseDisk { .. } | Fault::CorruptRecord { .. } | Fault::DamagedJournal { .. }
            );
            by_force || loses
        };
        if rng.chance(250) && !self.faults.iter().any(one_loses) {
            trouble.push(Fault::LoseDisk { who: spare });
        }
        for fault in trouble {
            let at_ms = rng.between(self.chaos_ms / 10, self.chaos_ms * 9 / 10);
            let for_ms = rng.log_between(50, self.chaos_ms / 2);
            self.faults.push(FaultStep::new(at_ms, for_ms, fault));
        }
    }
}

impl Plans {
    fn of(world: &World) -> Self {
        let members: BTreeSet<Endpoint> = world.founders().into_iter().collect();
        let tenants = world.tenants.iter();
        Self {
            fresh: world
                .storage()
                .into_iter()
                .filter(|who| !members.contains(who))
                .collect(),
            members,
            left: BTreeSet::new(),
            factors: tenants
                .map(|tenant| (tenant.name.clone(), tenant.replication_factor))
                .collect(),
            // What is damaged on a disk and was not met yet nobody knows of: a second owner has to be left.
            least: match world.faults.iter().any(damages) {
                true => 2,
                false => 1,
            },
            gave_up: false,
        }
    }

    /// The greatest factor.
    fn most(&self) -> usize {
        let factors = self.factors.iter().map(|(_, factor)| usize::from(*factor));
        factors.max().unwrap_or(1)
    }

    /// A spare joins, at once: one that left may be a member still until an earlier change has ended, and a node that
    /// is taken for lost may be what that one waits for.
    fn spare_joins(&mut self, rng: &mut Rng) -> Option<Endpoint> {
        let spares: Vec<Endpoint> = self.fresh.iter().copied().collect();
        let who = *spares.get(rng.below(spares.len().max(1) as u64) as usize)?;
        self.fresh.remove(&who);
        self.members.insert(who);
        Some(who)
    }

    /// A spare joins, or sometimes one that left.
    fn joins(&mut self, rng: &mut Rng) -> Option<Endpoint> {
        let from = match self.left.is_empty() || rng.chance(700) {
            true => &mut self.fresh,
            false => &mut self.left,
        };
        let candidates: Vec<Endpoint> = from.iter().copied().collect();
        let who = *candidates.get(rng.below(candidates.len().max(1) as u64) as usize)?;
        from.remove(&who);
        self.members.insert(who);
        Some(who)
    }

    /// A member leaves, if as many are left as factors need.
    fn leaves(&mut self, rng: &mut Rng) -> Option<Endpoint> {
        if self.members.len() <= self.most() {
            return None;
        }
        let members: Vec<Endpoint> = self.members.iter().copied().collect();
        let who = rng.pick(&members);
        self.members.remove(&who);
        self.left.insert(who);
        Some(who)
    }

    /// A member that is down for good.
    fn is_lost(&mut self, rng: &mut Rng) -> Option<Endpoint> {
        let who = self.leaves(rng)?;
        self.left.remove(&who); // it does not come back
        self.gave_up = true;
        Some(who)
    }

    /// A spare takes a member's place.
    fn is_replaced(&mut self, rng: &mut Rng) -> Option<Replacement> {
        let members: Vec<Endpoint> = self.members.iter().copied().collect();
        let by = self.joins(rng)?;
        let who = rng.pick(&members);
        self.members.remove(&who);
        self.left.insert(who);
        Some(Replacement {
            who,
            by,
            force: false,
        })
    }

    /// A tenant's factor becomes another one.
    fn factor(&mut self, rng: &mut Rng) -> Option<(String, u8)> {
        let most = self.members.len().min(usize::from(FACTOR_MAX)) as u64;
        let tenants = self.factors.len() as u64;
        let (tenant, factor) = self.factors.get_mut(rng.below(tenants.max(1)) as usize)?;
        *factor = rng.between(u64::from(self.least).min(most), most) as u8;
        Some((tenant.clone(), *factor))
    }
}

fn damages(step: &FaultStep) -> bool {
    matches!(step.fault, Fault::CorruptRecord { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worlds() -> Vec<World> {
        let worlds = (0..300).map(World::draw);
        worlds.filter(World::changes_owners).collect()
    }

    #[test]
    fn owners_change_in_about_a_third_of_the_worlds() {
        let changing = worlds().len();
        assert!((70..=130).contains(&changing), "{changing} of 300");
    }

    #[test]
    fn who_is_taken_for_lost_is_down_for_good() {
        for world in worlds() {
            for step in &world.faults {
                let Fault::Change(plan) = &step.fault else {
                    continue;
                };
                let forced = plan.replace.iter().filter(|it| it.force);
                let forced = plan.give_up.iter().copied().chain(forced.map(|it| it.who));
                for who in forced {
                    let is_down = |other: &FaultStep| {
                        other.fault == Fault::Crash { who }
                            && other.at_ms <= step.at_ms
                            && other.at_ms + other.for_ms > world.chaos_ms
                    };
                    assert!(world.faults.iter().any(is_down), "seed {}", world.seed);
                }
            }
        }
    }
}
