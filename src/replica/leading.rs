//! The writes that were the greatest of their key when this node first held them.
//!
//! A write that an owner held in that way has beaten all that this owner held before: whatever outranks it here came
//! after it, however late its coordinator asks. Such a write needs no greater stamp; accepted again with one it would
//! take effect a second time, after others may have seen it and overwritten it.
//!
//! Bounded, and lost with the process or by a [fence](super::fences), since a new owner may hold a write before it holds
//! what the write follows: a write that is forgotten is only taken for one that may have been outstripped,
//! and is accepted again with a stamp above what is held. So forgetting never loses a write; it may show one twice.

use crate::version::Rank;

/// How many are remembered: at 10 000 writes a second most of those of the last seconds. A power of two; 512 KiB.
const PLACES: usize = 1 << 16;

/// A table with one place for each write; a later one takes the place of an earlier one.
#[derive(Debug)]
pub(super) struct LeadingWrites(Vec<u64>);

impl LeadingWrites {
    pub(super) fn new() -> Self {
        Self(vec![0; PLACES])
    }

    /// `write` is the greatest of its key here.
    pub(super) fn insert(&mut self, write: Rank) {
        let mixed = mix(write);
        self.0[place(mixed)] = mixed;
    }

    /// Whether it is remembered. (Two writes are taken for one with a probability of 2^-64.)
    pub(super) fn has(&self, write: Rank) -> bool {
        let mixed = mix(write);
        self.0[place(mixed)] == mixed
    }
}

const fn place(mixed: u64) -> usize {
    mixed as usize & (PLACES - 1)
}

/// Write ids are random already; never 0, which marks an empty place.
fn mix(Rank { stamp, write_id }: Rank) -> u64 {
    let id = (write_id.0 >> 64) as u64 ^ (write_id.0 as u64).rotate_left(32);
    // The multiplier of splitmix64 (Steele, Lea, Flood 2014): every bit of the stamp reaches the upper half.
    let stamp = stamp.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (id ^ stamp ^ stamp >> 32) | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Stamp, WriteId};

    #[test]
    fn remembers_writes_by_rank_and_forgets_for_others() {
        let write = |stamp, id: u128| Rank {
            stamp: Stamp(stamp),
            write_id: WriteId(id),
        };
        let mut leading = LeadingWrites::new();
        assert!(!leading.has(write(0, 0)));
        leading.insert(write(5, 7));
        assert!(leading.has(write(5, 7)));
        assert!(!leading.has(write(6, 7)) && !leading.has(write(5, 8)));
        let last = (0..1 << 18).map(|id| write(9, id << 64 | id));
        let mut last_one = write(0, 0);
        for other in last {
            leading.insert(other);
            last_one = other;
        }
        assert!(leading.has(last_one));
        assert_eq!(leading.0.len(), PLACES, "bounded");
    }
}
