//! Nodes that lost their disks, and how far it is proved that they have back what they may have acknowledged.
//!
//! A node is *fenced* by an epoch that was published after it had reported its present incarnation. Every owner is told
//! to refuse older ones before it is listed. So whoever still counts on what the node said before it lost
//! its disk gets no other owner's word any more, however long its time-outs are and whether or not its clock goes: what
//! it needs of the others it has got before they were listed, or never gets under that count.
//!
//! What is left to prove is that the node holds all that the others held when they were listed: every node was listed
//! once to the end, and every tree that was seen and that the node owns was found equal at all its owners, or exchanged
//! between them to the end. Nothing of that becomes untrue while the node keeps its incarnation, so it is gathered over
//! rounds: an owner that is away now and then delays the proof of its trees, not of all others.
//!
//! What this is not: it asks nobody. Kept in memory by who leads; the next one begins with a fence of its own. Bounded
//! by the nodes there are, and for each by [`Size::OpenTrees`].

use std::collections::{BTreeMap, BTreeSet};

use super::routing::Routing;
use crate::placement::{Node, NodeId};
use crate::ports::TreeName;
use crate::sizes::{self, Size};
use crate::version::Actor;

/// All nodes that are being refilled, as far as this coordinator knows.
#[derive(Debug, Default)]
pub(super) struct Refills {
    nodes: BTreeMap<NodeId, Refill>,
    /// The nodes of the topology that decides who owns what, those left out that are given up.
    topology: Vec<Node>,
}

/// What is known of one.
#[derive(Debug)]
struct Refill {
    incarnation: Actor,
    /// Whether an epoch was published after it had taken this incarnation.
    fenced: bool,
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
            fenced: false,
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
        if self.open.len() >= sizes::of(Size::OpenTrees) && !self.open.contains(tree) {
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
    /// Whether nobody is being refilled.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

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
        self.nodes.values().any(|refill| !refill.fenced)
    }

    /// An epoch was published after all that [`look`](Self::look) took note of, and is in use.
    pub(super) fn fenced(&mut self) {
        for refill in self.nodes.values_mut() {
            refill.fenced = true;
        }
    }

    /// A round begins that goes by `routing`.
    pub(super) fn begin(&mut self, routing: &Routing) {
        let nodes = (0..).zip(&routing.topology().nodes);
        let asked = nodes.filter(|(index, _)| !routing.is_given_up(*index));
        let asked: Vec<Node> = asked.map(|(_, node)| node.clone()).collect();
        if self.topology != asked {
            // Who owns what may be different now.
            self.topology = asked;
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

    /// All that any owner of the tree has is now held by all of them but `lacking`.
    pub(super) fn proved(&mut self, tree: &TreeName, lacking: &BTreeSet<NodeId>) {
        let proved = self
            .nodes
            .iter_mut()
            .filter(|(id, _)| !lacking.contains(id));
        proved.for_each(|(_, refill)| refill.close(tree));
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
            refill.fenced && refill.open.is_empty() && !refill.too_many && all_listed(refill)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Epoch, NodeStatus, PartitionId, Topology};
    use crate::ports::{Instant, NodeReport, RecordKey, Release, TenantId};
    use std::time::Duration;

    fn id(number: u8) -> NodeId {
        NodeId::new(format!("node-{number}")).unwrap()
    }

    /// Three nodes; the first is being refilled, as this incarnation.
    fn routing(incarnation: u64) -> Routing {
        routing_of(3, incarnation)
    }

    fn routing_of(nodes: u8, incarnation: u64) -> Routing {
        let node = |number| Node {
            id: id(number),
            host: "h".into(),
            port: 1,
            virtual_nodes: 1,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        };
        let topology = Topology::new(Epoch(1), 1, (1..=nodes).map(node).collect()).unwrap();
        let routing = Routing::build(topology, None);
        report(&routing, incarnation, true);
        routing
    }

    fn report(routing: &Routing, incarnation: u64, is_refilling: bool) {
        for (index, (node, health)) in (0..).zip(routing.nodes()) {
            let report = NodeReport {
                node: node.id.clone(),
                incarnations: vec![Actor(incarnation)],
                epoch: Epoch(1),
                wall_ms: 0,
                keys: 0,
                disk_used_percent: None,
                refuses_writes: None,
                tombstones: 0,
                hints: Vec::new(),
                refilling: (index == 0 && is_refilling).then_some(Duration::ZERO),
                release: Release::Current,
                older_callers: Vec::new(),
            };
            health.reported(report, Instant(0)); // not older than the one before
        }
    }

    fn tree(name: &str) -> TreeName {
        RecordKey::new(PartitionId(0), &TenantId::new(name).unwrap(), "k").tree()
    }

    /// A round that hears of the nodes `heard` and of the trees `found`, those in `proved` proved.
    fn round(refills: &mut Refills, heard: &[u8], found: &[&str], proved: &[&str]) {
        let routing = routing(7);
        refills.look(&routing);
        refills.begin(&routing);
        for name in found {
            refills.found(&tree(name), Some(&[&id(1), &id(2)]));
        }
        for name in proved {
            refills.proved(&tree(name), &BTreeSet::new());
        }
        heard.iter().for_each(|node| refills.listed(&id(*node)));
        if heard.len() == 3 {
            refills.round_complete();
        }
    }

    fn fenced() -> Refills {
        let mut refills = Refills::default();
        assert!(refills.look(&routing(7)), "one that has no fence");
        refills.fenced();
        assert!(!refills.look(&routing(7)));
        refills
    }

    #[test]
    fn a_proof_is_gathered_over_rounds() {
        let mut refills = fenced();
        round(&mut refills, &[1, 2], &["a", "b"], &["a"]);
        assert_eq!(refills.proofs(), []);
        round(&mut refills, &[1, 3], &["b", "c"], &["b", "c"]);
        assert_eq!(refills.proofs(), [(id(1), Actor(7))]);
    }

    #[test]
    fn where_owners_may_be_others_a_proof_begins_anew() {
        let mut refills = fenced();
        round(&mut refills, &[1, 2], &["a"], &["a"]);
        let larger = routing_of(4, 7);
        assert!(!refills.look(&larger));
        refills.begin(&larger);
        [3, 4].iter().for_each(|node| refills.listed(&id(*node)));
        assert_eq!(refills.proofs(), [], "they may own other trees now");
        refills.begin(&larger);
        [1, 2].iter().for_each(|node| refills.listed(&id(*node)));
        assert_eq!(refills.proofs(), [(id(1), Actor(7))]);
    }

    #[test]
    fn who_lacks_what_is_damaged_there_delays_no_other_proof() {
        let mut refills = Refills::default();
        let routing = routing(7);
        for (_, health) in routing.nodes() {
            let reported = health.with_report(|report| report.cloned());
            let mut both = reported.unwrap();
            both.refilling = Some(Duration::ZERO);
            health.reported(both, Instant(1));
        }
        assert!(refills.look(&routing));
        refills.fenced();
        refills.begin(&routing);
        (1..=3).for_each(|node| refills.listed(&id(node)));
        refills.found(&tree("a"), Some(&[&id(1), &id(2), &id(3)]));
        refills.proved(&tree("a"), &[id(2)].into());
        let whole: Vec<NodeId> = refills.proofs().into_iter().map(|(id, _)| id).collect();
        assert_eq!(whole, [id(1), id(3)]);
    }

    #[test]
    fn an_unproved_tree_stays_so_until_it_is_proved_or_nowhere() {
        let mut refills = fenced();
        round(&mut refills, &[1, 2, 3], &["a"], &[]);
        round(&mut refills, &[1, 3], &[], &[]);
        assert_eq!(refills.proofs(), []);
        round(&mut refills, &[1, 2, 3], &[], &[]);
        assert_eq!(refills.proofs(), [(id(1), Actor(7))]);
    }

    #[test]
    fn trees_of_others_are_no_part_of_it() {
        let mut refills = fenced();
        let routing = routing(7);
        refills.begin(&routing);
        refills.found(&tree("unknown"), None);
        refills.found(&tree("others"), Some(&[&id(2), &id(3)]));
        (1..=3).for_each(|node| refills.listed(&id(node)));
        assert_eq!(refills.proofs(), []);
        refills.found(&tree("unknown"), Some(&[&id(2), &id(3)]));
        assert_eq!(refills.proofs(), [(id(1), Actor(7))]);
    }

    #[test]
    fn nothing_is_proved_without_a_fence_or_of_another_incarnation() {
        let mut refills = Refills::default();
        round(&mut refills, &[1, 2, 3], &[], &[]);
        assert_eq!(refills.proofs(), []);
        refills.fenced();
        assert_eq!(refills.proofs(), [(id(1), Actor(7))]);
        assert!(refills.look(&routing(8)), "it lost its disk once more");
        assert_eq!(refills.proofs(), []);
        let counts = routing(8);
        report(&counts, 8, false);
        assert!(!refills.look(&counts), "none is being refilled");
    }

    #[test]
    fn more_trees_than_are_remembered_begin_anew() {
        let mut refills = fenced();
        let routing = routing(7);
        refills.begin(&routing);
        for number in 0..=sizes::of(Size::OpenTrees) {
            let name = TenantId::new(format!("t{number}")).unwrap();
            let tree = RecordKey::new(PartitionId(0), &name, "k").tree();
            refills.found(&tree, Some(&[&id(1)]));
            refills.proved(&tree, &BTreeSet::new());
        }
        (1..=3).for_each(|node| refills.listed(&id(node)));
        assert_eq!(refills.proofs().len(), 1, "one after the other fits");
        for number in 0..=sizes::of(Size::OpenTrees) {
            let name = TenantId::new(format!("t{number}")).unwrap();
            let tree = RecordKey::new(PartitionId(0), &name, "k").tree();
            refills.found(&tree, Some(&[&id(1)]));
        }
        for number in 0..=sizes::of(Size::OpenTrees) {
            let name = TenantId::new(format!("t{number}")).unwrap();
            refills.proved(
                &RecordKey::new(PartitionId(0), &name, "k").tree(),
                &BTreeSet::new(),
            );
        }
        assert_eq!(refills.proofs(), [], "one was not remembered");
        round(&mut refills, &[1, 2, 3], &["a"], &["a"]);
        assert_eq!(refills.proofs().len(), 1);
    }
}
