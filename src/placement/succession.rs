//! How one topology follows another: a change of owners begins, steps, is cancelled, and ends.
//!
//! All of it is values: what people ask for is a [`ChangeRequest`], and each function makes the next topology of one,
//! or says why there is none. So a change can be printed before it is begun, and every step be checked.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::{ChangeId, FactorChange, Move, MoveState, TopologyChange};
use super::ring::MAX_OWNERS;
use super::ring::Ring;
use super::{Epoch, InvalidTopology, Node, NodeId, NodeStatus, PartitionId, Topology};

/// What is asked for: all of it is one change, and data moves once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// Of nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeChange>,
    /// Of tenants' replication factors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<FactorRequest>,
}

/// What becomes of one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeChange {
    /// It joins, empty.
    Add(Node),
    /// It leaves, and hands over what it holds.
    Remove {
        /// Which one.
        id: NodeId,
        /// Whether it is taken for lost, with what it holds: it need not answer.
        #[serde(default)]
        force: bool,
    },
    /// Another one, which is empty, takes its place, and owns exactly what it owned.
    Replace {
        /// Who leaves.
        id: NodeId,
        /// Who joins. It gets the weight of the other one, and its zone unless it names one.
        by: Node,
        /// Whether the one that leaves is taken for lost.
        #[serde(default)]
        force: bool,
    },
    /// It takes more or less of the ring, or is in another zone.
    Set {
        /// Which one.
        id: NodeId,
        /// How many places it takes then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_nodes: Option<u32>,
        /// In which zone it is; empty: in none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
}

/// A tenant is to have another replication factor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FactorRequest {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// Its factor then.
    pub factor: u8,
}

/// Why a change can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefusedChange {
    /// There is no such node.
    #[error("node {0} is not in the topology")]
    Unknown(NodeId),
    /// There is one already.
    #[error("node {0} is in the topology already")]
    Known(NodeId),
    /// Nobody would be left.
    #[error("no node would be left")]
    NobodyLeft,
    /// Everything is as it is asked for.
    #[error("everything is as it is to be already")]
    Nothing,
    /// One at a time.
    #[error("change {0} is under way")]
    UnderWay(ChangeId),
    /// There is none.
    #[error("no change is under way")]
    NotUnderWay,
    /// Some partitions have not come to their end.
    #[error("{0} partitions have not been moved yet")]
    NotMoved(usize),
    /// It was cancelled before.
    #[error("the change was cancelled already")]
    CancelledAlready,
    /// The nodes that were given up would own again what was written without them.
    #[error("a change that gave up {0} can't be cancelled: others own what it had")]
    GaveUp(NodeId),
    /// What it would come to makes no sense.
    #[error(transparent)]
    Invalid(#[from] InvalidTopology),
}

impl NodeChange {
    /// Which node it is about.
    #[must_use]
    pub const fn node(&self) -> &NodeId {
        match self {
            Self::Add(node) => &node.id,
            Self::Remove { id, .. } | Self::Replace { id, .. } | Self::Set { id, .. } => id,
        }
    }
}

impl ChangeRequest {
    /// Those that are to join.
    pub fn newcomers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter_map(|change| match change {
            NodeChange::Add(node) | NodeChange::Replace { by: node, .. } => Some(node),
            NodeChange::Remove { .. } | NodeChange::Set { .. } => None,
        })
    }

    /// Those that are to leave, and whether each is taken for lost.
    pub fn leavers(&self) -> impl Iterator<Item = (&NodeId, bool)> {
        self.nodes.iter().filter_map(|change| match change {
            NodeChange::Remove { id, force } | NodeChange::Replace { id, force, .. } => {
                Some((id, *force))
            }
            NodeChange::Add(_) | NodeChange::Set { .. } => None,
        })
    }

    /// All nodes that it names.
    pub fn named(&self) -> impl Iterator<Item = &NodeId> {
        let names = self.nodes.iter().map(NodeChange::node);
        names.chain(self.newcomers().map(|node| &node.id))
    }

    /// What is left of it to be done where there are `nodes`: without those who leave and have left meanwhile, by a
    /// change that was under way and went on without them.
    #[must_use]
    pub fn left_to_do(&self, nodes: &[Node]) -> Self {
        let is_there = |id: &NodeId| nodes.iter().any(|node| node.id == *id);
        let is_left = |change: &&NodeChange| match change {
            NodeChange::Remove { id, .. } => is_there(id),
            NodeChange::Replace { id, by, .. } => is_there(id) || !is_there(&by.id),
            NodeChange::Add(_) | NodeChange::Set { .. } => true,
        };
        Self {
            nodes: self.nodes.iter().filter(is_left).cloned().collect(),
            factors: self.factors.clone(),
        }
    }

    /// The nodes that there will be, where there are `nodes`, and those of them that are given up.
    ///
    /// # Errors
    /// When one is to leave that is not there, or one to join that is.
    pub fn applied_to(&self, nodes: &[Node]) -> Result<(Vec<Node>, Vec<NodeId>), RefusedChange> {
        let mut target = nodes.to_vec();
        let mut given_up = Vec::new();
        let mut leave = |target: &mut Vec<Node>, id: &NodeId, force: bool| {
            let index = target.iter().position(|node| node.id == *id);
            let index = index.ok_or_else(|| RefusedChange::Unknown(id.clone()))?;
            given_up.extend(force.then(|| id.clone()));
            Ok::<Node, RefusedChange>(target.remove(index))
        };
        for change in &self.nodes {
            match change {
                NodeChange::Add(node) => join(&mut target, nodes, node.clone())?,
                NodeChange::Remove { id, force } => drop(leave(&mut target, id, *force)?),
                NodeChange::Replace { id, by, force } => {
                    let old = leave(&mut target, id, *force)?;
                    let seat = old.seat().to_owned();
                    let node = Node {
                        virtual_nodes: old.virtual_nodes,
                        zone: by.zone.clone().or(old.zone),
                        seat: Some(seat).filter(|seat| seat != by.id.as_str()),
                        ..by.clone()
                    };
                    join(&mut target, nodes, node)?;
                }
                NodeChange::Set {
                    id,
                    virtual_nodes,
                    zone,
                } => {
                    let node = target.iter_mut().find(|node| node.id == *id);
                    let node = node.ok_or_else(|| RefusedChange::Unknown(id.clone()))?;
                    node.virtual_nodes = virtual_nodes.unwrap_or(node.virtual_nodes);
                    if let Some(zone) = zone {
                        node.zone = Some(zone.clone()).filter(|zone| !zone.is_empty());
                    }
                }
            }
        }
        target.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((target, given_up))
    }
}

/// Adds a node. If its own name is the seat of another one, it gets a seat that nobody has.
///
/// One that leaves can't join in the same change: it would be taken to hold still what it held `before`.
fn join(target: &mut Vec<Node>, before: &[Node], mut node: Node) -> Result<(), RefusedChange> {
    let mut known = target.iter().chain(before);
    if known.any(|known| known.id == node.id) {
        return Err(RefusedChange::Known(node.id));
    }
    node.status = NodeStatus::Active;
    let is_taken = |seat: &str| target.iter().any(|known| known.seat() == seat);
    if is_taken(node.seat()) {
        let name = node.id.as_str();
        // No node has such a name: '#' is in none. One of so many numbers is free.
        let mut seats = (2..=target.len() + 2).map(|number| format!("{name}#{number}"));
        node.seat = seats.find(|seat| !is_taken(seat));
    }
    target.push(node);
    Ok(())
}

impl Topology {
    /// The next topology, with a change begun: nothing has moved yet.
    ///
    /// # Errors
    /// When the change can't be, or is none.
    pub fn begun(
        &self,
        id: ChangeId,
        request: &ChangeRequest,
        factors: Vec<FactorChange>,
    ) -> Result<Self, RefusedChange> {
        if let Some(change) = &self.change {
            return Err(RefusedChange::UnderWay(change.id.clone()));
        }
        let (target, given_up) = request.applied_to(&self.nodes)?;
        if !target.iter().any(|node| node.status.owns()) {
            return Err(RefusedChange::NobodyLeft);
        }
        if target == self.nodes && factors.is_empty() {
            return Err(RefusedChange::Nothing);
        }
        let stays = |node: &Node| target.iter().any(|other| other.id == node.id);
        let mut nodes: Vec<Node> = self.nodes.clone();
        // One that owns nothing stays so: it has nothing to hand over.
        let leaves = |node: &&mut Node| node.status.owns() && !stays(node);
        for node in nodes.iter_mut().filter(leaves) {
            node.status = NodeStatus::Draining;
        }
        let is_new = |node: &&Node| self.node(&node.id).is_none();
        nodes.extend(target.iter().filter(is_new).map(|node| Node {
            status: NodeStatus::Joining,
            ..node.clone()
        }));
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let epoch = self.next_epoch()?;
        // Not later: a ring is made only of nodes that make sense.
        let target = Self::new(epoch, self.partitions, target)?.nodes;
        let moves = moves(&nodes, &target, self.partitions, epoch, !factors.is_empty());
        let change = TopologyChange {
            id,
            target,
            given_up,
            factors,
            cancelled: false,
            moves,
        };
        self.with_change(nodes, change)
    }

    /// The next topology: these partitions, which move, have come one state further.
    ///
    /// # Errors
    /// When no change is under way, or one of them has no next state.
    pub fn stepped(&self, partitions: &BTreeSet<PartitionId>) -> Result<Self, RefusedChange> {
        let change = self.change.as_deref().ok_or(RefusedChange::NotUnderWay)?;
        let epoch = self.next_epoch()?;
        let mut next = change.clone();
        for partition in partitions {
            let index = next
                .moves
                .binary_search_by_key(partition, |moving| moving.partition);
            let moving = index.ok().map(|index| &mut next.moves[index]);
            let stepped = moving.and_then(|moving| {
                moving.state = moving.state.next()?;
                moving.since = epoch;
                Some(())
            });
            if stepped.is_none() {
                let none = InvalidTopology::Change("a partition steps that has nowhere to go");
                return Err(none.into());
            }
        }
        self.with_change(self.nodes.clone(), next)
    }

    /// The next topology: the change leads back. What was not moved yet is as it was; what was is moved back.
    ///
    /// # Errors
    /// When no change is under way, or this one can't be cancelled (any more).
    pub fn cancelled(&self) -> Result<Self, RefusedChange> {
        let change = self.change.as_deref().ok_or(RefusedChange::NotUnderWay)?;
        if change.cancelled {
            return Err(RefusedChange::CancelledAlready);
        }
        if let Some(lost) = change.given_up.first() {
            return Err(RefusedChange::GaveUp(lost.clone()));
        }
        let epoch = self.next_epoch()?;
        let back = |moving: &Move| Move {
            partition: moving.partition,
            state: match moving.state {
                MoveState::Moved => MoveState::Waiting,
                MoveState::Waiting | MoveState::Copying | MoveState::HandingOver => {
                    MoveState::Moved
                }
            },
            since: epoch,
            from: moving.to.clone(),
            to: moving.from.clone(),
            left: moving.left.clone(),
            again: moving.again,
        };
        let joins = |node: &Node| {
            let target = change.target.iter().find(|other| other.id == node.id);
            node.status == NodeStatus::Joining
                && target.is_some_and(|target| target.status != NodeStatus::Joining)
        };
        let leaves = |node: &Node| change.target.iter().all(|other| other.id != node.id);
        let stayed = self.nodes.iter().filter(|node| !joins(node));
        let stayed = stayed.map(|node| match node.status {
            NodeStatus::Draining if leaves(node) => Node {
                status: NodeStatus::Active,
                ..node.clone()
            },
            _ => node.clone(),
        });
        let next = TopologyChange {
            id: change.id.clone(),
            target: stayed.collect(),
            given_up: Vec::new(),
            factors: change
                .factors
                .iter()
                .map(|factor| FactorChange {
                    tenant: Arc::clone(&factor.tenant),
                    from: factor.to,
                    to: factor.from,
                })
                .collect(),
            cancelled: true,
            moves: change.moves.iter().map(back).collect(),
        };
        self.with_change(self.nodes.clone(), next)
    }

    /// The next topology: all partitions have been moved, and the change is over.
    ///
    /// # Errors
    /// When no change is under way, or some partition has not been moved.
    pub fn finished(&self) -> Result<Self, RefusedChange> {
        let change = self.change.as_deref().ok_or(RefusedChange::NotUnderWay)?;
        let left = change.moves.len() - change.in_state(MoveState::Moved);
        if left > 0 {
            return Err(RefusedChange::NotMoved(left));
        }
        let epoch = self.next_epoch()?;
        let factors_since = match change.factors.is_empty() {
            true => self.factors_since,
            false => epoch,
        };
        let next = Self::new(epoch, self.partitions, change.target.clone())?;
        Ok(Self {
            factors_since,
            ..next
        })
    }

    /// The next topology: a node is somewhere else. Nothing moves.
    ///
    /// # Errors
    /// When there is no such node, or the place is none.
    pub fn relocated(&self, id: &NodeId, host: &str, port: u16) -> Result<Self, RefusedChange> {
        let mut next = self.at(self.next_epoch()?);
        let move_it = |nodes: &mut [Node]| {
            let node = nodes.iter_mut().find(|node| node.id == *id);
            node.map(|node| {
                node.host = host.to_owned();
                node.port = port;
            })
        };
        if move_it(&mut next.nodes).is_none() {
            return Err(RefusedChange::Unknown(id.clone()));
        }
        if let Some(change) = &mut next.change {
            move_it(&mut Arc::make_mut(change).target);
        }
        next.validate()?;
        Ok(next)
    }

    pub(super) fn next_epoch(&self) -> Result<Epoch, InvalidTopology> {
        self.epoch.next().ok_or(InvalidTopology::LastEpoch)
    }

    pub(super) fn with_change(
        &self,
        nodes: Vec<Node>,
        change: TopologyChange,
    ) -> Result<Self, RefusedChange> {
        let next = Self {
            epoch: self.next_epoch()?,
            partitions: self.partitions,
            nodes,
            factors_since: self.factors_since,
            change: Some(Arc::new(change)),
        };
        next.validate()?;
        Ok(next)
    }
}

/// The partitions whose preference lists differ between the ring of `nodes` and that of `target`; all of them if asked.
pub(super) fn moves(
    nodes: &[Node],
    target: &[Node],
    partitions: u32,
    since: Epoch,
    all: bool,
) -> Vec<Move> {
    let owns = |node: &Node| node.status.owns();
    let (width, before) = Ring::new(nodes, owns).preference_lists(partitions, MAX_OWNERS);
    let (next_width, after) = Ring::new(target, owns).preference_lists(partitions, MAX_OWNERS);
    let index_of = |node: &Node| nodes.iter().position(|known| known.id == node.id);
    let indices: Vec<u16> = target
        .iter()
        .map(|node| index_of(node).unwrap_or_default() as u16) // all of them are listed, and there are at most 1024
        .collect();
    let list = |table: &[u16], width: usize, partition: usize| {
        table[partition * width..(partition + 1) * width].to_vec()
    };
    let all_of_them = (0..partitions as usize).map(|partition| {
        let to = list(&after, next_width, partition);
        Move {
            partition: PartitionId(partition as u16),
            state: MoveState::Waiting,
            since,
            from: list(&before, width, partition),
            to: to
                .into_iter()
                .map(|node| indices[usize::from(node)])
                .collect(),
            left: Vec::new(),
            again: false,
        }
    });
    let moving = all_of_them.filter(|moving| all || moving.from != moving.to);
    moving.collect()
}

#[cfg(test)]
#[path = "succession_test.rs"]
mod tests;
