//! Nodes that lost their disks, and how far it is proved that they have back what they may have acknowledged.
//!
//! A node is *fenced* by an epoch that was published after it had reported its present incarnation. An owner that was listed by
//! that epoch refuses older ones from then on. So whoever still counts on what the node said before it lost its disk gets no
//! other owner's word any more, however long its time-outs are and whether or not its clock goes: what it needs of the others it
//! has got before they were listed, or never gets under that count.
//!
//! What is left to prove is that the node holds all that the others held when they were listed: every node was listed once
//! to the end, and every tree that was seen and that the node owns was found equal at all its owners, or exchanged between
//! them to the end. Nothing of that becomes untrue while the node keeps its incarnation, so it is gathered over rounds: an
//! owner that is away now and then delays the proof of its trees, not of all others.
//!
//! What this is not: it asks nobody. Kept in memory by who leads; the next one begins with a fence of its own. Bounded by
//! the nodes there are, and for each by [`OPEN_MAX`].

use std::collections::{BTreeMap, BTreeSet};

use super::routing::Routing;
use crate::placement::{Epoch, Node, NodeId};
use crate::ports::TreeName;
use crate::version::Actor;

/// Unproved trees that are remembered from round to round, for each node; with more, the next round begins anew.
const OPEN_MAX: usize = 16_384;

/// All nodes that are being refilled, as far as this coordinator knows.
#[derive(Debug, Default)]
pub(super) struct Refills {
    nodes: BTreeMap<NodeId, Refill>,
    /// The nodes of the topology that decides who owns what.
    topology: Vec<Node>,
}

/// What is known of one.
#[derive(Debug)]
struct Refill {
    incarnation: Actor,
    /// Published after it had taken this incarnation.
    fence: Option<Epoch>,
    /// Nodes that were listed to the end since.
    listed: BTreeSet<NodeId>,
    /// Trees that it may own, were seen since, and are not proved.
    open: BTreeSet<TreeName>,
    /// Those of them that were seen in this round.
    open_now: BTreeSet<TreeName>,
    /// There were more of them than are remembered.
    too_many: bool,
}

impl Refill {
    const fn new(incarnation: Actor) -> Self {
        Self {
            incarnation,
            fence: None,
            listed: BTreeSet::new(),
            open: BTreeSet::new(),
            open_now: BTreeSet::new(),
            too_many: false,
        }
    }

    fn forget_progress(&mut self) {
        self.listed.clear();
        self.open.clear();
        self.too_many = false;
    }

    fn open(&mut self, tree: &TreeName) {
        if self.open.len() >= OPEN_MAX && !self.open.contains(tree) {
            self.too_many = true;
            return;
        }
        self.open.insert(tree.clone());
        self.open_now.insert(tree.clone());
    }

    fn close(&mut self, tree: &TreeName) {
        self.open.remove(tree);
        self.open_now.remove(tree);
    }
}

impl Refills {
    /// Takes note of who is being refilled, as the nodes last reported. Returns whether one of them has no fence yet.
    pub(super) fn look(&mut self, routing: &Routing) -> bool {
        self.nodes
            .retain(|id, _| routing.topology().node(id).is_some());
        for (node, health) in routing.nodes() {
            let reported = health.with_report(|report| {
                let report = report?;
                let is_refilling = report.refilling.is_some();
                Some(report.incarnations.last().copied().filter(|_| is_refilling))
            });
            match reported {
                None => {} // it has not said yet how it is
                Some(None) => drop(self.nodes.remove(&node.id)),
                Some(Some(incarnation)) => {
                    let refill = self.nodes.entry(node.id.clone());
                    let refill = refill.or_insert_with(|| Refill::new(incarnation));
                    if refill.incarnation != incarnation {
                        *refill = Refill::new(incarnation);
                    }
                }
            }
        }
        self.nodes.values().any(|refill| refill.fence.is_none())
    }

    /// This epoch was published after all that [`look`](Self::look) took note of.
    pub(super) fn fenced(&mut self, epoch: Epoch) {
        for refill in self.nodes.values_mut() {
            refill.fence.get_or_insert(epoch);
        }
    }

    /// A round begins that goes by `routing`.
    pub(super) fn begin(&mut self, routing: &Routing) {
        if self.topology != routing.topology().nodes {
            // Who owns what may be different now.
            self.topology.clone_from(&routing.topology().nodes);
            self.nodes.values_mut().for_each(Refill::forget_progress);
        }
        for refill in self.nodes.values_mut() {
            refill.open_now.clear();
            if refill.too_many {
                refill.forget_progress();
            }
        }
    }

    /// A tree was listed that these nodes own; `None`: that can't be told now.
    pub(super) fn found(&mut self, tree: &TreeName, owners: Option<&[&NodeId]>) {
        for (id, refill) in &mut self.nodes {
            match owners.is_none_or(|owners| owners.contains(&id)) {
                true => refill.open(tree),
                false => refill.close(tree),
            }
        }
    }

    /// All that any owner of the tree has is now held by all of them.
    pub(super) fn proved(&mut self, tree: &TreeName) {
        self.nodes
            .values_mut()
            .for_each(|refill| refill.close(tree));
    }

    /// All trees of that node were listed in this round.
    pub(super) fn listed(&mut self, node: &NodeId) {
        for refill in self.nodes.values_mut() {
            refill.listed.insert(node.clone());
        }
    }

    /// The round went through all trees of all nodes: what was not seen is nowhere any more.
    pub(super) fn round_complete(&mut self) {
        for refill in self.nodes.values_mut() {
            refill.open = std::mem::take(&mut refill.open_now);
        }
    }

    /// Nodes that have everything back, with the incarnations of which that is so.
    pub(super) fn proofs(&self) -> Vec<(NodeId, Actor)> {
        let all_listed = |refill: &Refill| {
            let mut nodes = self.topology.iter();
            nodes.all(|node| refill.listed.contains(&node.id))
        };
        let whole = self.nodes.iter().filter(|(_, refill)| {
            refill.fence.is_some()
                && refill.open.is_empty()
                && !refill.too_many
                && all_listed(refill)
        });
        whole
            .map(|(id, refill)| (id.clone(), refill.incarnation))
            .collect()
    }

    /// All of them, with or without a proof.
    pub(super) fn all(&self) -> Vec<(NodeId, Actor)> {
        let all = self.nodes.iter();
        all.map(|(id, refill)| (id.clone(), refill.incarnation))
            .collect()
    }
}
