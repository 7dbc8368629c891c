//! The number of a topology.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the topology; a greater one is newer.
#[derive(
    Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// How many epochs a node or a coordinator may be behind and still believe one that somebody else names: as many as
    /// may be published while it can't read the metadata store. What is further ahead was made up, or comes from
    /// another cluster.
    pub const AHEAD_MAX: u64 = 1024;

    /// Whether this one may be, where `published` is the newest that the metadata store told of.
    #[must_use]
    pub const fn is_plausible(self, published: Self) -> bool {
        self.0.saturating_sub(published.0) <= Self::AHEAD_MAX
    }

    /// The epoch after this one, unless there is none.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
