//! How the engine is set up.

use serde::{Deserialize, Serialize};

use crate::ports::Durability;

const MIB: u64 = 1024 * 1024;

/// Settings of [`FjallStorage`](super::FjallStorage). What is said of the files' form holds for new directories only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FjallSettings {
    /// When commits are durable.
    pub durability: FjallDurability,
    /// Memory for blocks read from disk.
    pub cache_bytes: u64,
    /// How much is gathered in memory before it becomes a file. Greater ones are written less often, but for longer,
    /// and up to five of them can be in memory at once.
    pub memtable_bytes: u64,
    /// How much journal there may be before old memtables are written to let go of it; at least 64 MiB.
    pub journal_bytes_max: u64,
    /// Threads that write memtables and merge files.
    pub background_threads: usize,
    /// Threads that answer reads.
    pub reader_threads: usize,
    /// Commits are refused while less than this is free on the disk; merging files needs room too.
    pub disk_reserve_bytes: u64,
}

/// When commits are durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FjallDurability {
    /// Before they are answered.
    Always,
    /// At the latest this long after they are answered.
    IntervalMs(u64),
}

impl Default for FjallSettings {
    fn default() -> Self {
        Self {
            durability: FjallDurability::Always,
            cache_bytes: 128 * MIB,
            memtable_bytes: 64 * MIB,
            journal_bytes_max: 512 * MIB,
            background_threads: 2,
            reader_threads: 2,
            disk_reserve_bytes: 256 * MIB,
        }
    }
}

impl From<FjallDurability> for Durability {
    fn from(durability: FjallDurability) -> Self {
        match durability {
            FjallDurability::Always => Self::Always,
            FjallDurability::IntervalMs(_) => Self::Interval,
        }
    }
}
