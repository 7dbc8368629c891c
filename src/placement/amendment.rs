//! How a change of owners goes on without a node that is lost for good while it is under way.
//!
//! The node is given up, and owns nothing when the change has ended: owners are planned anew without it. A partition
//! that was on its way is where it was before, as if the change had been cancelled, and begins once more towards its
//! new owners. One that had been moved to the lost node, among others, moves on from those others.
//!
//! Whoever may have a copy of a partition by then, and was on its lists, is listed with it ([`Move::left`]): a copy
//! that is forgotten could bring back, later, what was deleted meanwhile.
//!
//! What this is not: it does not know that a node is lost. People say so.

use super::change::{Move, MoveState, TopologyChange};
use super::succession::moves;
use super::{ChangeRequest, Node, NodeId, NodeStatus, RefusedChange, Topology};
use crate::mutant::{self, Mutant};

impl Topology {
    /// Those nodes that `request` takes for lost, and that the change under way still counts on.
    #[must_use]
    pub fn newly_lost(&self, request: &ChangeRequest) -> Vec<NodeId> {
        let given_up = self.change.as_deref().map(|change| &change.given_up);
        let is_news = |id: &NodeId| given_up.is_some_and(|given_up| !given_up.contains(id));
        let lost = request.leavers().filter(|(_, force)| *force);
        let lost = lost.filter(|(id, _)| self.node(id).is_some() && is_news(id));
        lost.map(|(id, _)| id.clone()).collect()
    }

    /// The next topology: the change under way goes on without the nodes that `request` takes for lost, and with those
    /// that take their places. Whatever else `request` asks for is left out.
    ///
    /// # Errors
    /// When no change is under way, none of them is counted on, or nobody would be left.
    pub fn amended(&self, request: &ChangeRequest) -> Result<Self, RefusedChange> {
        let change = self.change.as_deref().ok_or(RefusedChange::NotUnderWay)?;
        let lost = self.newly_lost(request);
        if lost.is_empty() {
            return Err(RefusedChange::Nothing);
        }
        let stays = |id: &NodeId| change.target.iter().any(|node| node.id == *id);
        let leave = request.nodes.iter();
        let leave = leave.filter(|it| lost.contains(it.node()) && stays(it.node()));
        let leave = ChangeRequest {
            nodes: leave.cloned().collect(),
            factors: Vec::new(),
        };
        if let Some(known) = leave.newcomers().find(|node| self.node(&node.id).is_some()) {
            return Err(RefusedChange::Known(known.id.clone()));
        }
        let (target, _) = leave.applied_to(&change.target)?;
        if !target.iter().any(|node| node.status.owns()) {
            return Err(RefusedChange::NobodyLeft);
        }
        let epoch = self.next_epoch()?;
        // Not later: a ring is made only of nodes that make sense.
        let target = Self::new(epoch, self.partitions, target)?.nodes;
        let nodes = self.nodes_without(&lost, &target);
        let all = !change.factors.is_empty();
        let planned = moves(&nodes, &target, self.partitions, epoch, true);
        let planned = planned.into_iter().filter_map(|planned| {
            let Some(old) = change.of(planned.partition) else {
                return (all || planned.from != planned.to).then_some(planned);
            };
            planned_anew(&self.renumbered(old, &nodes), planned, all)
        });
        let next = TopologyChange {
            moves: planned.collect(),
            target,
            given_up: change.given_up.iter().cloned().chain(lost).collect(),
            ..change.clone()
        };
        self.with_change(nodes, next)
    }

    /// The nodes that are listed while a change goes on to `target` without the lost ones.
    fn nodes_without(&self, lost: &[NodeId], target: &[Node]) -> Vec<Node> {
        let mut nodes = self.nodes.clone();
        let leaves = |node: &&mut Node| node.status.owns() && lost.contains(&node.id);
        for node in nodes.iter_mut().filter(leaves) {
            node.status = NodeStatus::Draining;
        }
        let is_new = |node: &&Node| self.node(&node.id).is_none();
        nodes.extend(target.iter().filter(is_new).map(|node| Node {
            status: NodeStatus::Joining,
            ..node.clone()
        }));
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    /// A move, with indices into `nodes`, among which all of these are.
    fn renumbered(&self, moving: &Move, nodes: &[Node]) -> Move {
        let renumber = |list: &[u16]| {
            let index = |old: &u16| {
                let id = &self.nodes[usize::from(*old)].id;
                let index = nodes.binary_search_by(|node| node.id.cmp(id));
                index.unwrap_or_default() as u16 // all of them are listed, and there are at most 1024
            };
            list.iter().map(index).collect()
        };
        Move {
            from: renumber(&moving.from),
            to: renumber(&moving.to),
            left: renumber(&moving.left),
            ..*moving
        }
    }
}

/// What becomes of a move whose new owners are to be those of `planned`; `None`: nothing is left to do.
fn planned_anew(old: &Move, planned: Move, all: bool) -> Option<Move> {
    let Move {
        partition,
        since,
        to,
        from: listed,
        ..
    } = planned;
    if old.state == MoveState::Moved {
        if old.to == to {
            return Some(old.clone());
        }
        if mutant::on(Mutant::MovedOnUncopied) {
            return Some(Move { to, ..old.clone() });
        }
        return Some(Move {
            partition,
            state: MoveState::Waiting,
            since,
            from: old.to.clone(),
            to,
            left: left(old, &old.from),
            again: true,
        });
    }
    let had_copies: &[u16] = match old.state {
        MoveState::Waiting => &[],
        _ => &old.to,
    };
    let next = Move {
        partition,
        state: MoveState::Waiting,
        since,
        from: old.from.clone(),
        to,
        left: left(old, had_copies),
        again: old.again,
    };
    // Without a move its owners are those that the table says, which need not be those that it has: what had moved when
    // the change was cancelled leads back from others.
    let is_listed = next.from == listed || mutant::on(Mutant::WayBackForgotten);
    let is_needed =
        all || !is_listed || next.from != next.to || next.again || !next.left.is_empty();
    is_needed.then_some(next)
}

/// Who may have a copy besides the owners. Not those alone that are no owners now: how many of a list are owners
/// depends on the tenant.
fn left(old: &Move, more: &[u16]) -> Vec<u16> {
    if mutant::on(Mutant::LeftCopiesForgotten) {
        return Vec::new();
    }
    let mut left = old.left.clone();
    let more = more.iter().filter(|node| !old.left.contains(node));
    left.extend(more);
    left
}

#[cfg(test)]
#[path = "amendment_test.rs"]
mod tests;
