//! The owners of a record while its partition moves, and what reads and writes need of them.
//!
//! | state | writes need | reads need | who accepts writes |
//! |---|---|---|---|
//! | waiting | the old owners | the old ones | the old ones |
//! | copying | the old ones and the new ones | the old ones | the old ones |
//! | handing over | both | both | both |
//! | moved | the new ones | the new ones | the new ones |
//!
//! "Need" is by the consistency asked for, of each set for itself. Two states that follow each other agree: a write of
//! one is met by every quorum read of the other. (With reads of the new owners alone while handing over, a read of the
//! state before could show what has reached no new owner yet, and the next read would go back.)
//!
//! A node that is given up is left out of the old owners. What it may hold alone is lost; what a quorum of them has
//! acknowledged is met by as many of the others as [`OwnerSet::quorum_of_listed`] says.

use super::change::{Move, MoveState, TopologyChange};
use super::ring::MAX_OWNERS;
use crate::mutant::{self, Mutant};

/// The most owners a record can have: as many old ones as new ones.
pub const MAX_POSITIONS: usize = 2 * MAX_OWNERS;
const _: () = assert!(
    MAX_POSITIONS <= u32::BITS as usize,
    "a position is a bit of a u32"
);

/// Some of a record's owners, of which an operation needs a quorum.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct OwnerSet {
    /// Their positions, a bit for each.
    pub positions: u32,
    /// How many there were before some were given up.
    pub listed: u8,
}

impl OwnerSet {
    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.positions.count_ones() as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.positions == 0
    }

    /// So many of them at least meet every quorum of those that there were before some were given up; none need to
    /// where nobody was.
    #[must_use]
    pub const fn quorum_of_listed(self) -> usize {
        let (left, listed) = (self.len(), self.listed as usize);
        let meets = match left < listed {
            true => listed.div_ceil(2),
            false => 0,
        };
        if meets > left { left } else { meets }
    }
}

/// The owners of one record. A *position* is an index into them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordOwners {
    nodes: [u16; MAX_POSITIONS],
    len: u8,
    /// Those that every operation needs.
    pub first: OwnerSet,
    /// Those that writes need besides.
    pub second: Option<OwnerSet>,
    /// Whether reads need them, too.
    pub reads_both: bool,
}

impl RecordOwners {
    /// Owners that don't change.
    #[must_use]
    pub fn stable(nodes: &[u16]) -> Self {
        let mut owners = Self {
            nodes: [0; MAX_POSITIONS],
            len: 0,
            first: OwnerSet::default(),
            second: None,
            reads_both: false,
        };
        owners.first = owners.add(nodes, |_| false);
        owners
    }

    /// The owners of a record of `tenant`, whose factor is `factor` unless that changes, in a partition that moves.
    pub(super) fn moving(
        change: &TopologyChange,
        moving: &Move,
        (tenant, factor): (&str, u8),
        is_given_up: impl Fn(u16) -> bool,
    ) -> Self {
        let changed = change.factor(tenant);
        let (before, after) = match changed {
            None => (factor, factor),
            Some(change) if moving.again => (change.to, change.to),
            Some(change) => (change.from, change.to),
        };
        let first = |list: &[u16], factor: u8| list.len().min(usize::from(factor));
        let from = &moving.from[..first(&moving.from, before)];
        let to = &moving.to[..first(&moving.to, after)];
        let is_same = from.len() == to.len() && from.iter().all(|node| to.contains(node));
        match moving.state {
            MoveState::Moved if mutant::on(Mutant::LeaverCounts) => return Self::stable(from),
            MoveState::Moved => return Self::stable(to),
            _ if from.iter().all(|node| is_given_up(*node)) => return Self::stable(to),
            _ if is_same => return Self::stable(from),
            MoveState::Waiting | MoveState::Copying | MoveState::HandingOver => {}
        }
        let mut owners = Self::stable(&[]);
        owners.first = owners.add(from, is_given_up);
        if moving.state != MoveState::Waiting {
            owners.second = Some(owners.add(to, |_| false));
            owners.reads_both = moving.state == MoveState::HandingOver;
        }
        if mutant::on(Mutant::CopyingWritesOldOnly) && moving.state == MoveState::Copying {
            owners.second = None;
            owners.len = owners.first.len() as u8;
        }
        if mutant::on(Mutant::HandingOverReadsNewOnly) && owners.reads_both {
            (owners.first, owners.second) = (owners.second.unwrap_or_default(), Some(owners.first));
            owners.reads_both = false;
        }
        owners
    }

    /// Adds owners that are no positions yet. Returns the positions of all of them but those given up.
    fn add(&mut self, nodes: &[u16], is_given_up: impl Fn(u16) -> bool) -> OwnerSet {
        let mut set = OwnerSet {
            positions: 0,
            listed: nodes.len().min(MAX_OWNERS) as u8,
        };
        for node in nodes
            .iter()
            .take(MAX_OWNERS)
            .filter(|node| !is_given_up(**node))
        {
            let known = self.nodes().iter().position(|known| known == node);
            let position = known.unwrap_or_else(|| {
                let position = usize::from(self.len);
                self.nodes[position] = *node;
                self.len += 1;
                position
            });
            set.positions |= 1 << position;
        }
        set
    }

    /// Who they are, by position: the old owners in order of preference, then the new ones that are none of them.
    #[must_use]
    pub fn nodes(&self) -> &[u16] {
        &self.nodes[..usize::from(self.len)]
    }

    /// Whether the partition has two sets of owners now.
    #[must_use]
    pub const fn is_moving(&self) -> bool {
        self.second.is_some()
    }

    /// Who is asked in a read.
    pub fn read_nodes(&self) -> impl Iterator<Item = u16> + '_ {
        let readers = self.readers();
        let nodes = (0..).zip(self.nodes());
        nodes
            .filter(move |(position, _)| readers & 1 << position != 0)
            .map(|(_, node)| *node)
    }

    /// Those that are asked in a read, and that accept writes.
    #[must_use]
    pub const fn readers(&self) -> u32 {
        match self.second {
            Some(second) if self.reads_both => self.first.positions | second.positions,
            _ => self.first.positions,
        }
    }
}

#[cfg(test)]
#[path = "record_owners_test.rs"]
mod tests;
