//! Worlds in which storage nodes meet epochs that can't be.
//!
//! A request under one must leave no trace, whatever else goes wrong. And where a node has taken one on all the same,
//! as versions did that took on any, it counts as missing, and nobody else is kept from anything; in those worlds
//! nothing else is wrong, so every quorum operation has to succeed. In the end the node's operator sets it back.

use super::{Fault, FaultStep, World};
use crate::rng::Rng;

/// How many worlds of a thousand have requests with made-up epochs.
const MADE_UP_PERMILLE: u32 = 60;
/// How many of a thousand have a node with a wrong one, and nothing else that is wrong.
const WRONG_PERMILLE: u32 = 30;

impl World {
    /// Makes it such a world, in some cases.
    pub(super) fn perhaps_wrong_epochs(&mut self) {
        let rng = &mut Rng::new(self.seed, "wrong epochs");
        if rng.chance(WRONG_PERMILLE) {
            self.calm_down();
            self.clients.truncate(6);
            for client in &mut self.clients {
                client.operations = client.operations.max(80);
                client.think_ms_max = client.think_ms_max.min(100);
            }
            let who = rng.pick(&self.storage());
            let at_ms = self.chaos_ms / 5;
            let wrong = FaultStep::new(at_ms, self.chaos_ms - at_ms, Fault::WrongEpoch { who });
            self.faults.push(wrong);
        }
        if rng.chance(MADE_UP_PERMILLE) {
            for who in self.storage() {
                let at_ms = rng.between(0, self.chaos_ms);
                self.faults
                    .push(FaultStep::new(at_ms, 1, Fault::MadeUpEpoch { who }));
            }
        }
    }
}
