//! What a change of topology moves: per partition, who becomes an owner and who ceases to be one.
//!
//! It compares sets of owners by node id; a mere change of order within a preference list moves no data.

use super::{NodeId, PartitionId, Placement};

/// How one partition's owners change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMove {
    /// The partition.
    pub partition: PartitionId,
    /// Owners after that weren't before, in order of preference.
    pub gained: Vec<NodeId>,
    /// Owners before that aren't after, in order of preference.
    pub lost: Vec<NodeId>,
}

/// How a topology's successor differs from it, for one replication factor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Movement {
    /// The partitions whose set of owners changes, in order.
    pub moves: Vec<PartitionMove>,
    /// Copies there are after: the sum of all partitions' numbers of owners.
    copies: usize,
}

impl Movement {
    /// The share of all copies that has to be made anew: the number gained, of the number there are after.
    pub fn fraction(&self) -> f64 {
        if self.copies == 0 {
            return 0.0;
        }
        let gained: usize = self.moves.iter().map(|change| change.gained.len()).sum();
        gained as f64 / self.copies as f64
    }
}

/// Compares two placements' first `r` owners.
///
/// # Panics
/// If they cut the token space differently; no change of topology does.
pub fn movement(before: &Placement, after: &Placement, r: usize) -> Movement {
    let partitions = after.topology().partitions;
    assert_eq!(before.topology().partitions, partitions);
    let mut movement = Movement {
        moves: Vec::new(),
        copies: 0,
    };
    for id in 0..=(partitions - 1) as u16 {
        let partition = PartitionId(id);
        movement.copies += after.owners(partition, r).len();
        let gained = missing_from(before, after, partition, r);
        let lost = missing_from(after, before, partition, r);
        if !gained.is_empty() || !lost.is_empty() {
            movement.moves.push(PartitionMove {
                partition,
                gained,
                lost,
            });
        }
    }
    movement
}

/// The partition's owners in `there` that are none in `here`.
fn missing_from(
    here: &Placement,
    there: &Placement,
    partition: PartitionId,
    r: usize,
) -> Vec<NodeId> {
    let owners_here = here.owners(partition, r);
    let owns_here = |id: &NodeId| owners_here.iter().any(|&index| here.node(index).id == *id);
    let owners_there = there.owners(partition, r).iter();
    owners_there
        .map(|&index| &there.node(index).id)
        .filter(|id| !owns_here(id))
        .cloned()
        .collect()
}

#[cfg(test)]
#[path = "movement_test.rs"]
mod tests;
