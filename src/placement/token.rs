//! Tokens, the points of the ring, and partitions, the equal slices it is cut into.
//!
//! A token is the first eight bytes of a SHA-256, read big-endian. What is hashed starts with a byte that says
//! what it is (a key or a virtual node) and is encoded so that distinct inputs are distinct bytes. The golden
//! tests below fix the encoding: changing it would silently move every key of every cluster.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many partitions a new cluster cuts the token space into.
pub const DEFAULT_PARTITIONS: u32 = 4096;

/// The most partitions there can be: a [`PartitionId`] has sixteen bits.
pub const MAX_PARTITIONS: u32 = 1 << 16;

const KEY: u8 = b'k';
const VIRTUAL_NODE: u8 = b'n';

/// A point of the 64-bit token space.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl Token {
    /// The token of a tenant's key. The tenant's length goes first, so `("a", "bc")` and `("ab", "c")` differ.
    pub fn of_key(tenant: &str, key: &str) -> Self {
        let tenant_len = (tenant.len() as u64).to_be_bytes();
        Self::of_parts([&[KEY], &tenant_len, tenant.as_bytes(), key.as_bytes()])
    }

    /// The token of the `index`-th place on the ring of the node in a seat, which is its own name for most.
    pub fn of_virtual_node(seat: &str, index: u32) -> Self {
        let index = index.to_be_bytes();
        Self::of_parts([&[VIRTUAL_NODE], &index, seat.as_bytes(), &[]])
    }

    fn of_parts(parts: [&[u8]; 4]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The partition this token falls in, when the token space is cut into `partitions` slices.
    ///
    /// # Panics
    /// If `partitions` is not in `1..=MAX_PARTITIONS`; a valid topology's always is.
    pub fn partition(self, partitions: u32) -> PartitionId {
        assert!((1..=MAX_PARTITIONS).contains(&partitions));
        // Multiply-shift: floor(token / 2^64 * partitions), which is below `partitions` and so fits.
        PartitionId(((u128::from(self.0) * u128::from(partitions)) >> 64) as u16)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One of the equal slices of the token space, counted from zero.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The first token of this partition, when the token space is cut into `partitions` slices.
    ///
    /// # Panics
    /// If this is not one of them; check what a peer sent with `Topology::has_partition` first.
    pub fn start(self, partitions: u32) -> Token {
        assert!(u32::from(self.0) < partitions);
        // ceil(id * 2^64 / partitions): below 2^64 because id < partitions.
        Token((u128::from(self.0) << 64).div_ceil(u128::from(partitions)) as u64)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
#[path = "token_test.rs"]
mod tests;
