//! The bounds of a process's way to storage nodes: what it has room for, and how long a message may be.

use serde::{Deserialize, Serialize};

/// What a transport has room for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportPlan {
    /// How many calls may wait for one node; more are not sent.
    pub in_flight_max: usize,
    /// The longest request or reply, in bytes, as far as it is values.
    pub message_bytes_max: usize,
    /// How many of a thousand calls the process has no room for, or for their answers, during chaos.
    pub no_room_permille: u32,
}

impl Default for TransportPlan {
    fn default() -> Self {
        Self {
            in_flight_max: 8_192,
            message_bytes_max: 320 * 1024 * 1024,
            no_room_permille: 0,
        }
    }
}
