//! What processes have room for, drawn.

use super::World;
use crate::rng::Rng;

/// How many worlds of a thousand have a transport of their own.
const PERMILLE: u32 = 300;
/// What a record, or a page of keys, has beside values.
const BESIDE_VALUES_BYTES: usize = 64 * 1024;

impl World {
    /// Bounds its transport, in some cases.
    pub(super) fn perhaps_without_room(&mut self) {
        let rng = &mut Rng::new(self.seed, "transport");
        if !rng.chance(PERMILLE) {
            return;
        }
        let calm = self.is_calm();
        if !calm {
            self.transport.in_flight_max = rng.pick(&[24, 64, 8_192]);
            if rng.chance(300) {
                self.transport.no_room_permille = rng.log_between(1, 200) as u32;
            }
        }
        self.transport.message_bytes_max = self.longest_message();
    }

    /// Whether nothing is lost, doubled or crowded out in it by itself.
    fn is_calm(&self) -> bool {
        let network = &self.network;
        let losses = network.lost_request_permille + network.lost_reply_permille;
        losses == 0 && network.duplicate_permille == 0 && self.buggify.is_empty()
    }

    /// A record has so many bytes of unresolved siblings from each of its owners, and one value.
    fn longest_message(&self) -> usize {
        let nodes = usize::from(self.storage_nodes.saturating_add(self.spare_nodes));
        let padding = self.clients.iter().map(|client| client.padding_max).max();
        let value = padding.unwrap_or_default() as usize;
        nodes * (self.replica.siblings_bytes_max + value) + value + BESIDE_VALUES_BYTES
    }
}
