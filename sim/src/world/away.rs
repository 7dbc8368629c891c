//! Worlds in which a storage node, or two, stay away after all else is well again.
//!
//! What the others owe each other they have to give each other then: an owner that does not come back for weeks must
//! not keep the rest from becoming equal. It comes back when that was looked at.

use super::{Fault, NEVER, World};
use crate::endpoint::Endpoint;
use crate::rng::Rng;

/// How many worlds of a thousand.
const PERMILLE: u32 = 250;

impl World {
    /// Makes it such a world, in some cases. Not where owners change, since a change waits for who is away; nor where
    /// an epoch is wrong, or the metadata store loses one, which who is away may have to be asked about; nor where
    /// owners are not compared.
    pub(super) fn perhaps_away(&mut self) {
        let rng = &mut Rng::new(self.seed, "who stays away");
        let is_fit = |fault: &Fault| {
            !matches!(
                fault,
                Fault::WrongEpoch { .. } | Fault::MetadataFailover { .. }
            )
        };
        let unaided = self.coordinator.anti_entropy_pause >= NEVER;
        if unaided || self.changes_owners() || !self.faults.iter().all(|step| is_fit(&step.fault)) {
            return;
        }
        if rng.chance(PERMILLE) && self.storage_nodes > 2 {
            let two = self.storage_nodes > 4 && rng.chance(300);
            let mut away: Vec<Endpoint> = rng.sample(&self.storage(), 1 + usize::from(two));
            away.sort_unstable();
            self.away = away;
        }
    }
}
