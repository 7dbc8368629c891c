//! Worlds in which a cluster is upgraded: every process begins with the release before, and they are upgraded one after
//! the other, storage nodes first, while everything else goes on, and goes wrong, as in other worlds. In some of them
//! the operator goes back half way, in the opposite order, and begins once more. Changes of owners may be asked for
//! meanwhile; they begin when the last process is upgraded.
//!
//! Drawn is what the runbook allows. A node that is taken for lost is not upgraded, and the release before knows no
//! zones; there are no such worlds.

use super::{Fault, FaultStep, World};
use crate::endpoint::Endpoint;
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 130;
/// How many of those go back half way.
const BACK_PERMILLE: u32 = 400;
/// How many of those with changes of owners are asked for them only when all are upgraded.
const CHANGES_LATER_PERMILLE: u32 = 500;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_upgraded(&mut self) {
        let rng = &mut Rng::new(self.seed, "upgrade");
        if !rng.chance(PERMILLE) || self.gives_up() {
            return;
        }
        self.zones.clear();
        self.faults.retain(|step| !sets_a_zone(&step.fault));
        self.older = self.storage();
        self.older.extend(self.coordinators());
        let order = self.older.clone();
        let mut turns: Vec<Fault> = Vec::new();
        let upgrade = |who: &Endpoint| Fault::Upgrade { who: *who };
        if rng.chance(BACK_PERMILLE) {
            // The last one stays as it is, so nothing begins that could not be gone back from.
            let half = rng.between(1, order.len() as u64 - 1) as usize;
            turns.extend(order[..half].iter().map(upgrade));
            let back = order[..half].iter().rev();
            turns.extend(back.map(|who| Fault::GoBack { who: *who }));
        }
        turns.extend(order.iter().map(upgrade));
        let begins_ms = rng.between(0, self.chaos_ms / 10);
        let pace_ms = (self.chaos_ms / 2 / turns.len() as u64).max(2);
        let mut ends_ms = begins_ms;
        for (turn, fault) in turns.into_iter().enumerate() {
            let at_ms = begins_ms + turn as u64 * pace_ms;
            let for_ms = rng.log_between(1, pace_ms * 9 / 10);
            ends_ms = at_ms + for_ms;
            self.faults.push(FaultStep::new(at_ms, for_ms, fault));
        }
        if rng.chance(CHANGES_LATER_PERMILLE) {
            for step in &mut self.faults {
                if matches!(step.fault, Fault::Change(_) | Fault::CancelChange) {
                    step.at_ms = step.at_ms.max(ends_ms + 1);
                }
            }
        }
        self.faults.sort_by_key(|step| step.at_ms);
    }

    /// Whether somebody is taken for lost.
    fn gives_up(&self) -> bool {
        self.faults.iter().any(|step| match &step.fault {
            Fault::Change(plan) => {
                !plan.give_up.is_empty() || plan.replace.iter().any(|it| it.force)
            }
            _ => false,
        })
    }
}

fn sets_a_zone(fault: &Fault) -> bool {
    match fault {
        Fault::Change(plan) => plan.set.iter().any(|setting| setting.zone.is_some()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn everybody_is_upgraded_in_the_end_and_in_order() {
        let (mut upgraded, mut back) = (0, 0);
        for world in (0..300)
            .map(World::draw)
            .filter(|world| !world.older.is_empty())
        {
            upgraded += 1;
            let mut newer = BTreeMap::new();
            for step in &world.faults {
                let (who, is_newer) = match step.fault {
                    Fault::Upgrade { who } => (who, true),
                    Fault::GoBack { who } => (who, false),
                    _ => continue,
                };
                back += u32::from(!is_newer);
                let is_coordinator = |who: &Endpoint| matches!(who, Endpoint::Coordinator(_));
                let nodes = || newer.iter().filter(|(who, _)| !is_coordinator(who));
                if is_coordinator(&who) {
                    let all = world.storage().len();
                    assert_eq!(nodes().filter(|(_, newer)| **newer).count(), all);
                } else if !is_newer {
                    let mut coordinators = newer.iter().filter(|(who, _)| is_coordinator(who));
                    assert!(coordinators.all(|(_, newer)| !newer), "seed {}", world.seed);
                }
                newer.insert(who, is_newer);
            }
            assert_eq!(newer.len(), world.older.len());
            assert!(newer.values().all(|newer| *newer), "seed {}", world.seed);
        }
        assert!((20..=60).contains(&upgraded), "{upgraded} of 300");
        assert!(back > 10, "{back}");
    }
}
