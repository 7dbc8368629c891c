//! A storage node's settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MIB: usize = 1024 * 1024;

/// Settings of a [`Replica`](super::Replica).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicaSettings {
    /// How many changes, and how many reads, may wait. More are refused.
    pub queue_max: usize,
    /// How many bytes the waiting changes may have.
    pub queue_bytes_max: usize,
    /// How many operations share one commit, or one read of the engine.
    pub batch_max: usize,
    /// How many bytes of operations share one commit.
    pub batch_bytes_max: usize,
    /// How many counters are reserved durably at a time. An unclean stop skips those not used.
    pub counter_reservation: u64,
    /// How many recently accepted writes are remembered beyond those still held, to recognise late repetitions.
    pub recent_writes_max: usize,
    /// How many unresolved siblings of one key a write may leave. Joins are never refused for it.
    pub siblings_max: usize,
    /// How many bytes of unresolved siblings of one key a write may leave. Joins are never refused for it, so a record
    /// has up to so much from each of its owners, and one value: the longest message must have room for that.
    pub siblings_bytes_max: usize,
    /// How long a tombstone stays at least before it is purged, by the node's wall clock.
    pub tombstone_grace: Duration,
    /// How many bytes in a second hints and exchanges with other nodes may take.
    pub upkeep_bytes_per_second: u64,
    /// How long a node that did not answer is left alone before its hints are tried again; twice as long after each
    /// try.
    pub hint_pause_min: Duration,
    /// The longest such pause.
    pub hint_pause_max: Duration,
}

impl ReplicaSettings {
    /// More can't be allowed for `siblings_bytes_max`: what ten owners leave has to fit one message.
    pub const SIBLINGS_BYTES_HIGHEST: usize = 16 * MIB;

    /// Checks what types can't say. An error is a key and what is wrong with it.
    ///
    /// # Errors
    /// Names the first key that is wrong.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        match self.siblings_bytes_max {
            1..=Self::SIBLINGS_BYTES_HIGHEST => Ok(()),
            bytes => {
                let highest = Self::SIBLINGS_BYTES_HIGHEST;
                let problem = format!("is {bytes}; it must be 1 to {highest}");
                Err(("replica.siblings_bytes_max", problem))
            }
        }
    }
}

impl Default for ReplicaSettings {
    fn default() -> Self {
        Self {
            queue_max: 8192,
            queue_bytes_max: 64 * MIB,
            batch_max: 1024,
            batch_bytes_max: 8 * MIB,
            counter_reservation: 16_384,
            recent_writes_max: 65_536,
            siblings_max: 256,
            siblings_bytes_max: 4 * MIB,
            tombstone_grace: Duration::from_secs(3600),
            upkeep_bytes_per_second: 32 * MIB as u64,
            hint_pause_min: Duration::from_secs(1),
            hint_pause_max: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_owners_may_leave_fits_a_message() {
        let bounded = |siblings_bytes_max| {
            let settings = ReplicaSettings {
                siblings_bytes_max,
                ..ReplicaSettings::default()
            };
            settings.validate().map_err(|(key, _)| key)
        };
        let highest = ReplicaSettings::SIBLINGS_BYTES_HIGHEST;
        assert_eq!(ReplicaSettings::default().validate(), Ok(()));
        assert_eq!(bounded(highest), Ok(()));
        for wrong in [0, highest + 1] {
            assert_eq!(bounded(wrong), Err("replica.siblings_bytes_max"));
        }
    }
}
