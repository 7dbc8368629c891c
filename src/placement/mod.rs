//! Placement: which storage nodes own a key, as values computed from the topology alone.
//!
//! What it is: a consistent-hash ring (Karger et al. 1997) whose keys are routed by equal partitions: random tokens
//! for nodes, fixed slices for keys, "strategy 2" of Dynamo (DeCandia et al. 2007, section 6.2).
//! What it is not: it holds no data, knows nothing of who is up, and decides no migration; it only says what a
//! change of topology would move.
//!
//! Data in: a [`Topology`]. Data out: a [`Placement`], a flat table that is built once per topology, never
//! changes, and answers without allocating.
//!
//! Invariants:
//! - One key, one partition: tokens of distinct (tenant, key) pairs hash distinct bytes.
//! - A preference list names distinct nodes, all of them active or draining.
//! - The table is a function of the set of nodes, not of the order in which they were listed.
//! - Adding or removing one node changes an owner set only by that node and the one it displaces or lets in.
//! - While owners change, those of a partition that moves are stored, not worked out anew.

mod amendment;
mod change;
mod epoch;
mod movement;
mod node;
mod record_owners;
mod ring;
#[cfg(test)]
mod sample;
mod succession;
mod table;
mod token;
mod topology;

pub use self::ring::MAX_OWNERS;
pub use change::{ChangeId, FactorChange, InvalidChangeId, Move, MoveState, TopologyChange};
pub use epoch::Epoch;
pub use movement::{Movement, PartitionMove, movement};
pub use node::{
    DEFAULT_VIRTUAL_NODES, InvalidNode, MAX_VIRTUAL_NODES, Node, NodeId, NodeStatus,
    UnknownNodeStatus,
};
pub use record_owners::{MAX_POSITIONS, OwnerSet, RecordOwners};
pub use succession::{ChangeRequest, FactorRequest, NodeChange, RefusedChange};
pub use table::Placement;
pub use token::{DEFAULT_PARTITIONS, MAX_PARTITIONS, PartitionId, Token};
pub use topology::{InvalidTopology, MAX_NODES, Topology};
