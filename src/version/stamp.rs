//! Hybrid logical timestamps (Kulkarni et al. 2014).

use std::fmt;
use std::time::Duration;

const LOGICAL_BITS: u32 = 16;
const WALL_MS_MAX: u64 = u64::MAX >> LOGICAL_BITS;

/// A point in hybrid time: 48 bits of unix milliseconds, then 16 bits that tell apart what fell into one of them.
///
/// Stamps are close to wall time and never contradict causality. They order versions for people and for
/// `last_write_wins`; they never decide what a [join](super::Record::join) keeps.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Before every stamp that a clock gives out.
    pub const ZERO: Stamp = Stamp(0);
    /// The greatest there can be.
    pub const MAX: Stamp = Stamp(u64::MAX);

    /// The stamp of this millisecond (at most 2^48 - 1, the year 10889; more counts as that) and logical part.
    pub fn new(wall_ms: u64, logical: u16) -> Stamp {
        Stamp(wall_ms.min(WALL_MS_MAX) << LOGICAL_BITS | u64::from(logical))
    }

    /// Unix milliseconds.
    pub fn wall_ms(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The part that tells apart stamps of one millisecond.
    pub fn logical(self) -> u16 {
        self.0 as u16
    }

    /// The least stamp that is at most so much earlier, to the millisecond.
    pub fn earlier(self, by: Duration) -> Stamp {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Stamp::new(self.wall_ms().saturating_sub(by_ms), 0)
    }

    /// The least stamp greater than this one. A full logical part carries into the next millisecond.
    pub fn next(self) -> Option<Stamp> {
        self.0.checked_add(1).map(Stamp)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.wall_ms(), self.logical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_both_parts() {
        let stamp = Stamp::new(1_700_000_000_123, 7);
        assert_eq!((stamp.wall_ms(), stamp.logical()), (1_700_000_000_123, 7));
        assert_eq!(stamp.to_string(), "1700000000123.7");
    }

    #[test]
    fn orders_by_wall_time_then_logically() {
        assert!(Stamp::new(2, 0) > Stamp::new(1, u16::MAX));
        assert!(Stamp::new(1, 1) > Stamp::new(1, 0));
    }

    #[test]
    fn next_carries_and_ends() {
        assert_eq!(Stamp::new(1, u16::MAX).next(), Some(Stamp::new(2, 0)));
        assert_eq!(Stamp::MAX.next(), None);
    }

    #[test]
    fn a_wall_beyond_48_bits_is_the_last_millisecond() {
        assert_eq!(Stamp::new(u64::MAX, u16::MAX), Stamp::MAX);
    }
}
