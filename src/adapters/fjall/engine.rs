//! The engine's handles, and who holds them.

use std::sync::{Arc, Mutex, RwLock};

use fjall::{Database, Keyspace};

use super::somewhere::Somewhere;
use crate::ports::{Proof, Space};

/// The engine while it is open, for all threads. It is closed only when none reads.
pub(super) type Place = Arc<RwLock<Option<Engine>>>;

/// What is known of what was acknowledged, until something durable was committed on top of what is there.
pub(super) type SharedProof = Arc<Mutex<Proof>>;

/// The engine's handles.
pub(super) struct Engine {
    pub(super) database: Database,
    pub(super) records: Keyspace,
    pub(super) meta: Keyspace,
    pub(super) digests: Keyspace,
    pub(super) tombstones: Keyspace,
    pub(super) hints: Keyspace,
    /// The number of the last commit; nobody else's.
    pub(super) commits: Keyspace,
    pub(super) somewhere: Somewhere,
}

impl Engine {
    pub(super) const fn keyspace(&self, space: Space) -> &Keyspace {
        match space {
            Space::Records => &self.records,
            Space::Meta => &self.meta,
            Space::Digests => &self.digests,
            Space::Tombstones => &self.tombstones,
            Space::Hints => &self.hints,
        }
    }
}
