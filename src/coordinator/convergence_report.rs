//! What maintenance has done and what is left to do, for people and metrics.
//!
//! Trees are known by the coordinator that leads the comparing, hints and tombstones by the storage nodes that hold
//! them. What a node said when it was last probed is told together with its age: it holds for that time and for no
//! other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Convergence;
use super::health::NodeHealth;
use crate::placement::{Node, NodeId};
use crate::ports::{HintsReport, Instant};

/// How far the cluster is from having nothing left to repair, as far as one coordinator knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConvergenceReport {
    /// What the comparing of owners found.
    pub trees: Convergence,
    /// How long ago the last complete round of it ended.
    pub round_age: Option<Duration>,
    /// Keys that wait for this coordinator to repair them.
    pub repairs_queued: usize,
    /// Repairs that found no place or were given up, since it started.
    pub repairs_dropped: u64,
    /// The storage nodes, in the order of their names.
    pub nodes: Vec<NodeConvergence>,
}

/// What one storage node has still to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConvergence {
    /// Which one.
    pub node: NodeId,
    /// Whether it answers, if only to refuse.
    pub answers: bool,
    /// When it was asked for the rest; `None`: it never answered.
    pub asked_at: Option<Instant>,
    /// How long ago that was.
    pub report_age: Option<Duration>,
    /// About how many tombstones wait to be purged; exact when zero.
    pub tombstones: u64,
    /// What it owes others.
    pub hints: Vec<TargetHints>,
    /// For how long it has been refilled after the loss of its disk, restarts included, if it is.
    pub refilling: Option<Duration>,
}

/// What one node owes another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetHints {
    /// As the node told it.
    pub report: HintsReport,
    /// How long the oldest hint has been there, by the node's own clock.
    pub oldest_age: Duration,
}

impl NodeConvergence {
    /// As the node's last report says, `now`.
    pub(super) fn of(node: &Node, health: &NodeHealth, now: Instant) -> Self {
        let report = health.report();
        let wall_ms = report.as_ref().map_or(0, |report| report.wall_ms);
        let hint = |report: HintsReport| TargetHints {
            oldest_age: Duration::from_millis(wall_ms.saturating_sub(report.oldest_ms)),
            report,
        };
        let asked_at = report.as_ref().map(|_| health.asked_at());
        Self {
            node: node.id.clone(),
            answers: health.answers(),
            asked_at,
            report_age: asked_at.map(|asked_at| now.since(asked_at)),
            tombstones: report.as_ref().map_or(0, |report| report.tombstones),
            refilling: report.as_ref().and_then(|report| report.refilling),
            hints: report.map_or_else(Vec::new, |report| {
                report.hints.into_iter().map(hint).collect()
            }),
        }
    }
}

impl ConvergenceReport {
    /// What each node is owed by all others together, and for how long the oldest; nodes that are owed nothing
    /// included.
    #[must_use]
    pub fn owed(&self) -> BTreeMap<NodeId, (u64, Duration)> {
        let mut owed: BTreeMap<NodeId, (u64, Duration)> = BTreeMap::new();
        for node in &self.nodes {
            owed.entry(node.node.clone()).or_default();
        }
        for hints in self.nodes.iter().flat_map(|node| &node.hints) {
            let (outstanding, oldest) = owed.entry(hints.report.target.clone()).or_default();
            *outstanding = outstanding.saturating_add(hints.report.outstanding);
            *oldest = hints.oldest_age.max(*oldest);
        }
        owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_is_owed_is_summed_over_all_who_owe_it() {
        let id = |name: &str| NodeId::new(name).unwrap();
        let hints = |target: &str, outstanding, age| TargetHints {
            report: HintsReport {
                target: id(target),
                outstanding,
                oldest_ms: 0,
                rounds: 0,
            },
            oldest_age: Duration::from_secs(age),
        };
        let node = |name: &str, hints| NodeConvergence {
            node: id(name),
            answers: true,
            asked_at: None,
            report_age: None,
            tombstones: 0,
            hints,
            refilling: None,
        };
        let report = ConvergenceReport {
            trees: Convergence::default(),
            round_age: None,
            repairs_queued: 0,
            repairs_dropped: 0,
            nodes: vec![
                node("a", vec![hints("c", 2, 9), hints("gone", 1, 1)]),
                node("b", vec![hints("c", 5, 7)]),
                node("c", vec![]),
            ],
        };
        let owed: Vec<(String, u64, u64)> = report
            .owed()
            .into_iter()
            .map(|(node, (keys, age))| (node.to_string(), keys, age.as_secs()))
            .collect();
        let expected = [("a", 0, 0), ("b", 0, 0), ("c", 7, 9), ("gone", 1, 1)];
        assert_eq!(
            owed,
            expected.map(|(node, keys, age)| (node.to_owned(), keys, age))
        );
    }
}
