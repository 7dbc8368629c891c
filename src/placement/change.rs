//! A change of owners, as a value: which partitions move, from whom to whom, and how far each has come.
//!
//! A partition that moves goes through [`MoveState`]s, each published with an epoch. Its owners before and after are
//! stored with the change, and not derived anew while it runs. What follows from a state for reads and writes is told
//! by [`RecordOwners`](super::RecordOwners).
//!
//! ```text
//! Waiting ──► Copying ──► HandingOver ──► Moved
//!    ▲           │             │
//!    └───────────┴─────────────┘  when the change is cancelled; one that was moved is moved back like any other
//! ```
//!
//! When a node is given up half way, all begin anew but those that have moved to others: see [`super::amendment`].
//!
//! What this is not: it does not know when a partition may go on. Whoever leads a change proves that first.
//!
//! Invariants, which [`TopologyChange::validate`] checks:
//! - each partition is listed once, in order, with distinct owners that the topology lists;
//! - when replication factors change every partition is listed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ring::MAX_OWNERS;
use super::{Epoch, Node, NodeId, PartitionId};

const ID_BYTES_MAX: usize = 64;

/// A change's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChangeId(Arc<str>);

/// A text that is no change's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a migration's id is 1 to {ID_BYTES_MAX} letters, digits and '-'")]
pub struct InvalidChangeId;

impl ChangeId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidChangeId> {
        let id = id.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) {
            true => Ok(Self(id)),
            false => Err(InvalidChangeId),
        }
    }

    /// A name of a number that was drawn for it.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        Self(format!("m-{number:016x}").into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChangeId {
    type Error = InvalidChangeId;

    fn try_from(id: String) -> Result<Self, InvalidChangeId> {
        Self::new(id)
    }
}

impl From<ChangeId> for String {
    fn from(id: ChangeId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl FromStr for ChangeId {
    type Err = InvalidChangeId;

    fn from_str(id: &str) -> Result<Self, InvalidChangeId> {
        Self::new(id)
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How far a partition has come.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveState {
    /// Its owners are still the old ones alone.
    Waiting,
    /// Writes need a quorum of the old owners and one of the new ones; reads use the old ones.
    Copying,
    /// Writes and reads need a quorum of each.
    HandingOver,
    /// Its owners are the new ones alone. Who is none any more may still have its copy.
    Moved,
}

impl MoveState {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Copying, Self::HandingOver, Self::Moved];

    /// The next one; none comes after the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Waiting => Some(Self::Copying),
            Self::Copying => Some(Self::HandingOver),
            Self::HandingOver => Some(Self::Moved),
            Self::Moved => None,
        }
    }

    /// The name as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Copying => "copying",
            Self::HandingOver => "handing over",
            Self::Moved => "moved",
        }
    }
}

/// One partition's way from its old owners to its new ones.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Move {
    /// Which partition.
    pub partition: PartitionId,
    /// How far it has come.
    pub state: MoveState,
    /// The epoch of its last step.
    pub since: Epoch,
    /// Who owned it, in order of preference: indices into the topology's nodes.
    pub from: Vec<u16>,
    /// Who will own it.
    pub to: Vec<u16>,
    /// Others that may have a copy of it since a node was given up half way: they give it up like the old owners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<u16>,
    /// Whether it was moved once already by this change, to the owners that are the old ones now, before one of them
    /// was given up. Replication factors that change are the new ones before and after.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// A tenant's keys get another number of owners.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FactorChange {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// How many owners they have where a partition has not been moved.
    pub from: u8,
    /// And where it has.
    pub to: u8,
}

/// A change of owners under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopologyChange {
    /// What it is called.
    pub id: ChangeId,
    /// The nodes that there will be, sorted by id.
    pub target: Vec<Node>,
    /// Nodes that leave without being asked for what they hold: they are taken for lost, with all they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<NodeId>,
    /// Tenants whose replication factor changes, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<FactorChange>,
    /// Whether it was cancelled, and leads back to where it began.
    #[serde(default)]
    pub cancelled: bool,
    /// Partitions that move or have moved, in order.
    pub moves: Vec<Move>,
}

impl TopologyChange {
    /// The move of a partition, if it has one.
    #[must_use]
    pub fn of(&self, partition: PartitionId) -> Option<&Move> {
        let index = self
            .moves
            .binary_search_by_key(&partition, |moving| moving.partition);
        index.ok().map(|index| &self.moves[index])
    }

    /// How a tenant's factor changes, if it does.
    #[must_use]
    pub fn factor(&self, tenant: &str) -> Option<&FactorChange> {
        let factors = &self.factors;
        let index = factors.binary_search_by(|change| (*change.tenant).cmp(tenant));
        index.ok().map(|index| &factors[index])
    }

    /// How many partitions are in a state.
    #[must_use]
    pub fn in_state(&self, state: MoveState) -> usize {
        let moves = self.moves.iter();
        moves.filter(|moving| moving.state == state).count()
    }

    /// Whether all partitions have their new owners.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.in_state(MoveState::Moved) == self.moves.len()
    }

    /// Checks the invariants, where the topology lists so many `nodes`, and the token space is cut into `partitions`.
    ///
    /// # Errors
    /// Says which one is broken.
    pub(super) fn validate(&self, nodes: usize, partitions: u32) -> Result<(), &'static str> {
        let is_known = |list: &[u16]| list.iter().all(|index| usize::from(*index) < nodes);
        let is_distinct = |list: &[u16]| (1..list.len()).all(|i| !list[..i].contains(&list[i]));
        for moving in &self.moves {
            let lists = [&moving.from, &moving.to, &moving.left];
            match () {
                () if u32::from(moving.partition.0) >= partitions => {
                    return Err("a partition moves that there is not");
                }
                () if lists[..2].iter().any(|list| list.len() > MAX_OWNERS) => {
                    return Err("a partition has more owners than it can");
                }
                () if !lists.iter().all(|list| is_known(list)) => {
                    return Err("a partition moves to or from a node that is not listed");
                }
                () if !lists.iter().all(|list| is_distinct(list)) => {
                    return Err("a partition has an owner twice");
                }
                () => {}
            }
        }
        let is_sorted = self
            .moves
            .windows(2)
            .all(|two| two[0].partition < two[1].partition);
        let mut factors = self.factors.windows(2);
        let are_in_order = factors.all(|two| two[0].tenant < two[1].tenant);
        match () {
            () if !is_sorted => Err("partitions that move are not in order"),
            () if !are_in_order => {
                Err("tenants whose replication factor changes are not in order, each once")
            }
            () if !self.factors.is_empty() && self.moves.len() != partitions as usize => {
                Err("a replication factor changes, and not all partitions move")
            }
            () => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "change_test.rs"]
mod tests;
