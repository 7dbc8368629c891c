//! What a partition that moves needs before its next step: decisions as values, without I/O.
//!
//! | from | to | who has to refuse older epochs | who exchanges all they hold after that |
//! |---|---|---|---|
//! | waiting | copying | nobody | nobody |
//! | copying | handing over | all old owners but those given up, and all new ones | all of them |
//! | handing over | moved | all new owners, and so many old ones that no quorum of them could answer a reader of the state before | all of those |
//! | moved | – | who owns it no more | it and all owners, before it drops its copy |
//!
//! The owners that count are those of the replication factors in use; a partition's list may be longer.

use std::collections::BTreeSet;

use crate::mutant::{self, Mutant};
use crate::placement::{Move, MoveState, TopologyChange};

/// Replication factors in use, where they change with both values.
pub(super) type Factors = BTreeSet<u8>;

/// Who takes part in a partition's step: indices of nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Participants {
    /// Owners before, those left out that were given up.
    pub(super) old: Vec<u16>,
    /// Owners after.
    pub(super) new: Vec<u16>,
}

/// Whether a partition may step, where only some of its owners can be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Readiness {
    /// These exchange what they hold; then it may.
    Ready(Vec<u16>),
    /// Not before this node can be had.
    Needs(u16),
}

impl Participants {
    /// The owners of a partition that count.
    pub(super) fn of(moving: &Move, factors: &Factors, is_given_up: impl Fn(u16) -> bool) -> Self {
        let most = factors.last().copied().map_or(1, usize::from);
        let first = |list: &[u16]| list.iter().copied().take(most).collect::<Vec<u16>>();
        let mut old = first(&moving.from);
        old.retain(|node| !is_given_up(*node));
        Self {
            old,
            new: first(&moving.to),
        }
    }

    /// All of them, each once.
    pub(super) fn all(&self) -> impl Iterator<Item = u16> + '_ {
        let new = self.new.iter().filter(|node| !self.old.contains(node));
        self.old.iter().chain(new).copied()
    }

    /// Whether the partition may step where those nodes can be had of which `is_there` is true: they refuse older
    /// epochs, and count.
    pub(super) fn readiness(
        &self,
        moving: &Move,
        factors: &Factors,
        is_there: impl Fn(u16) -> bool,
    ) -> Readiness {
        let unfenced = mutant::on(Mutant::CopyBeforeFence)
            || mutant::on(Mutant::MovedUnfenced) && moving.state == MoveState::HandingOver;
        let forgotten = match mutant::on(Mutant::OneOwnerUnfenced) {
            true => self.old.first().copied(),
            false => None,
        };
        let is_there = |node: u16| unfenced || forgotten == Some(node) || is_there(node);
        let missing = |nodes: &[u16]| nodes.iter().copied().find(|node| !is_there(*node));
        if let Some(missing) = missing(&self.new) {
            return Readiness::Needs(missing);
        }
        match (moving.state, missing(&self.old)) {
            (MoveState::HandingOver, Some(missing)) => {
                let is_enough = |factor: &u8| refuses_quorums(&moving.from, *factor, is_there);
                match factors.iter().all(is_enough) {
                    true => Readiness::Ready(self.all().filter(|node| is_there(*node)).collect()),
                    false => Readiness::Needs(missing),
                }
            }
            (_, Some(missing)) => Readiness::Needs(missing),
            (_, None) => Readiness::Ready(self.all().collect()),
        }
    }
}

/// Whether so many of the first `factor` owners refuse older epochs that no quorum of them is left to answer by one.
fn refuses_quorums(owners: &[u16], factor: u8, refuses: impl Fn(u16) -> bool) -> bool {
    let owners = &owners[..owners.len().min(usize::from(factor))];
    let left = owners.iter().filter(|node| !refuses(**node)).count();
    left < owners.len() / 2 + 1
}

/// Which of the nodes that owned a partition may hold a copy that they own no more: those that do not own all of it.
pub(super) fn leavers(
    moving: &Move,
    factors: &Factors,
    change: &TopologyChange,
    is_given_up: impl Fn(u16) -> bool,
) -> Vec<u16> {
    let most = factors.last().copied().map_or(1, usize::from);
    // Where factors change who owns the trees of one tenant may not own those of another.
    let least = match change.factors.is_empty() {
        true => factors.first().copied().map_or(1, usize::from),
        false => 1,
    };
    let owned = moving.from.iter().take(most);
    let left = moving
        .left
        .iter()
        .filter(|node| !moving.from[..most.min(moving.from.len())].contains(node));
    let owns_all = |node: &u16| moving.to.iter().take(least).any(|owner| owner == node);
    let held = owned.chain(left).copied();
    let leavers = held.filter(|node| !is_given_up(*node) && !owns_all(node));
    leavers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Epoch, PartitionId};

    fn moving(state: MoveState, from: &[u16], to: &[u16]) -> Move {
        Move {
            partition: PartitionId(0),
            state,
            since: Epoch(7),
            from: from.to_vec(),
            to: to.to_vec(),
            left: Vec::new(),
            again: false,
        }
    }

    fn readiness(state: MoveState, factors: &[u8], there: &[u16]) -> Readiness {
        let moving = moving(state, &[0, 1, 2, 9], &[3, 1, 2, 8]);
        let factors = factors.iter().copied().collect();
        let participants = Participants::of(&moving, &factors, |_| false);
        participants.readiness(&moving, &factors, |node| there.contains(&node))
    }

    #[test]
    fn copying_needs_all_owners_and_no_others() {
        let all = Readiness::Ready(vec![0, 1, 2, 3]);
        assert_eq!(readiness(MoveState::Copying, &[3], &[0, 1, 2, 3]), all);
        for missing in 0..4 {
            let there: Vec<u16> = (0..4).filter(|node| *node != missing).collect();
            let needs = Readiness::Needs(missing);
            assert_eq!(readiness(MoveState::Copying, &[3], &there), needs);
        }
        let needs = Readiness::Needs(8);
        assert_eq!(readiness(MoveState::Copying, &[4], &[0, 1, 2, 3, 9]), needs);
    }

    #[test]
    fn handing_over_goes_on_without_old_owners_that_are_no_quorum() {
        let some = Readiness::Ready(vec![1, 2, 3]);
        assert_eq!(readiness(MoveState::HandingOver, &[3], &[1, 2, 3]), some);
        let needs = Readiness::Needs(3);
        assert_eq!(readiness(MoveState::HandingOver, &[3], &[0, 1, 2]), needs);
        let needs = Readiness::Needs(0);
        let first_alone = readiness(MoveState::HandingOver, &[1, 3], &[1, 2, 3]);
        assert_eq!(
            first_alone, needs,
            "with one owner that one could still answer"
        );
    }

    #[test]
    fn who_is_given_up_is_not_waited_for() {
        let moving = moving(MoveState::Copying, &[0, 1, 2], &[3, 1, 2]);
        let factors = [3].into();
        let participants = Participants::of(&moving, &factors, |node| node == 0);
        let readiness = participants.readiness(&moving, &factors, |node| node != 0);
        assert_eq!(readiness, Readiness::Ready(vec![1, 2, 3]));
    }

    #[test]
    fn a_quorum_is_refused_by_as_many_as_leave_none() {
        let refused = |owners: &[u16], factor, by: &[u16]| {
            refuses_quorums(owners, factor, |node| by.contains(&node))
        };
        assert!(refused(&[0, 1, 2], 3, &[0, 1]) && !refused(&[0, 1, 2], 3, &[0]));
        assert!(refused(&[0, 1], 2, &[1]) && !refused(&[0, 1], 2, &[]));
        assert!(refused(&[0, 1, 2, 3], 4, &[0, 1]) && !refused(&[0, 1, 2, 3], 4, &[0]));
        assert!(refused(&[0, 1, 2], 1, &[0]) && !refused(&[0, 1, 2], 1, &[1, 2]));
    }
}
