//! Where a write stands among all writes of its key under `last_write_wins`.
//!
//! Stamps alone don't tell: two coordinators that met the same stamp propose the same next one. Were the dot to decide
//! between two writes of one stamp, a second attempt of a write, stamped by another replica, would stand elsewhere than
//! the acknowledged one. The write's name is the same in all its attempts.

use super::{Stamp, WriteId};

/// A write's place: later in hybrid time is greater; where that is equal, its name decides.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Rank {
    /// When, in hybrid time.
    pub stamp: Stamp,
    /// Which write.
    pub write_id: WriteId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_decides_and_the_name_where_times_are_equal() {
        let rank = |stamp, write_id| Rank {
            stamp: Stamp(stamp),
            write_id: WriteId(write_id),
        };
        assert!(rank(2, 1) > rank(1, 9));
        assert!(rank(2, 2) > rank(2, 1));
        assert!(Rank::default() <= rank(0, 0));
    }
}
