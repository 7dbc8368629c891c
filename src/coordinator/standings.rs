//! Whether a write under `last_write_wins` needs a greater stamp: what the owners that have it say of where it stands.
//!
//! It needs none once a quorum of owners held it *leading* (at ONE, one): whatever completed at a quorum before it
//! began is at one of them and was outranked there, so the write is above all of it, and what outranks it now came
//! after it. The same holds if so many have seen it overwritten by one and the same write: that one is above all that
//! completed before, and knew it.
//!
//! Otherwise a write that completed before may outrank it. It may be stamped again then: had a quorum read shown it, or
//! had a quorum acknowledged what overwrote it, enough owners would say so. That conclusion takes the answers of all
//! owners; while one is silent a write that was seen may take effect a second time.
//!
//! While a partition moves, it has to stand so at the owners that reads use: a new one that is copied to may lack what
//! came before, and there everything seems to lead.

use crate::mutant::{self, Mutant};
use crate::ports::Standing;
use crate::quorum::Quorums;
use crate::version::Rank;

/// What was said so far. A value: add an answer, ask for the verdict.
#[derive(Clone, Debug)]
pub(super) struct Standings {
    quorums: Quorums,
    /// Positions where it led, a bit for each.
    leading: u32,
    /// Those that overwrote it, and where.
    overwritten_by: Vec<(Rank, u32)>,
    outranked: bool,
}

impl Standings {
    /// Nobody has said anything; `quorums` tell that its stamp is great enough: no more than a quorum, for that is how
    /// many a read has to hear to show it.
    pub(super) const fn new(quorums: Quorums) -> Self {
        Self {
            quorums,
            leading: 0,
            overwritten_by: Vec::new(),
            outranked: false,
        }
    }

    /// The owner at `position`, where `greatest` leads now, answered that the write stands so; its own rank is `rank`.
    pub(super) fn add(&mut self, position: usize, standing: Standing, greatest: Rank, rank: Rank) {
        self.outranked |= greatest > rank;
        let standing = match mutant::on(Mutant::SeenWriteRestamped) {
            true if greatest > rank => Standing::Outstripped,
            _ => standing,
        };
        let bit = 1 << position;
        match standing {
            Standing::Leading => self.leading |= bit,
            Standing::Overwritten => {
                let by = self.overwritten_by.iter_mut();
                match by.into_iter().find(|(by, _)| *by == greatest) {
                    Some((_, positions)) => *positions |= bit,
                    None => self.overwritten_by.push((greatest, bit)),
                }
            }
            Standing::Outstripped => {}
        }
    }

    /// Whether its stamp is great enough for certain. Until then more answers may tell.
    pub(super) fn are_enough(&self) -> bool {
        let mut overwritten = self.overwritten_by.iter();
        !self.outranked
            || self.quorums.are_among(self.leading)
            || overwritten.any(|(_, positions)| self.quorums.are_among(*positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::Quorum;
    use crate::version::{Stamp, WriteId};

    const WRITE: Rank = rank(5);

    const fn rank(stamp: u64) -> Rank {
        Rank {
            stamp: Stamp(stamp),
            write_id: WriteId(1),
        }
    }

    fn enough<const N: usize>(answers: [(Standing, u64); N]) -> bool {
        let mut standings = Standings::new(Quorums::one(Quorum::of_first(2, 3)));
        for (position, (standing, greatest)) in answers.into_iter().enumerate() {
            standings.add(position, standing, rank(greatest), WRITE);
        }
        standings.are_enough()
    }

    #[test]
    fn a_write_that_nothing_outranks_keeps_its_stamp() {
        assert!(enough([]));
        assert!(enough([(Standing::Leading, 5)]));
        assert!(enough([(Standing::Leading, 5), (Standing::Leading, 5)]));
    }

    #[test]
    fn one_that_a_quorum_held_before_it_was_overwritten_keeps_it_too() {
        assert!(!enough([(Standing::Leading, 9)]));
        assert!(enough([(Standing::Leading, 9), (Standing::Leading, 5)]));
        let third = [
            (Standing::Leading, 5),
            (Standing::Outstripped, 9),
            (Standing::Leading, 9),
        ];
        assert!(enough(third), "the third owner has to be heard");
    }

    #[test]
    fn one_that_may_have_come_after_a_greater_one_needs_another_stamp() {
        assert!(!enough([
            (Standing::Leading, 5),
            (Standing::Outstripped, 9)
        ]));
        assert!(!enough([
            (Standing::Leading, 5),
            (Standing::Outstripped, 9),
            (Standing::Outstripped, 8)
        ]));
    }

    #[test]
    fn what_overwrote_it_counts_if_it_is_the_same_everywhere() {
        assert!(enough([
            (Standing::Overwritten, 9),
            (Standing::Overwritten, 9)
        ]));
        assert!(!enough([
            (Standing::Overwritten, 9),
            (Standing::Overwritten, 8)
        ]));
        assert!(
            !enough([(Standing::Leading, 5), (Standing::Overwritten, 9)]),
            "what the first owner never heard of may lie between the two"
        );
    }
}
