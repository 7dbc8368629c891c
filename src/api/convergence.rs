//! How far the owners are from being equal, as messages.

use std::time::Duration;

use crate::coordinator::{ConvergenceReport, NodeConvergence, TargetHints};
use crate::ports::Instant;
use crate::proto::v1;

/// All of it. Nodes were asked at `asked`, if they were.
pub(super) fn response(
    convergence: ConvergenceReport,
    asked: Option<Instant>,
) -> v1::GetConvergenceResponse {
    let trees = convergence.trees;
    v1::GetConvergenceResponse {
        leads: trees.leads,
        rounds: trees.rounds,
        round_age_ms: convergence.round_age.map(millis),
        trees_equal: trees.equal,
        trees_divergent: trees.divergent,
        trees_unknown: trees.unknown,
        trees_seen: trees.seen,
        records_exchanged: trees.exchanged,
        bytes_exchanged: trees.bytes,
        tombstones_purged: trees.purged,
        repairs_queued: convergence.repairs_queued as u64,
        repairs_dropped: convergence.repairs_dropped,
        nodes: convergence
            .nodes
            .into_iter()
            .map(|convergence| node(convergence, asked))
            .collect(),
    }
}

fn node(node: NodeConvergence, asked: Option<Instant>) -> v1::NodeConvergence {
    v1::NodeConvergence {
        node_id: node.node.as_str().into(),
        reachable: node.answers,
        answered: asked.is_some() && node.asked_at >= asked,
        report_age_ms: node.report_age.map(millis),
        tombstones: node.tombstones,
        hints: node.hints.into_iter().map(hints).collect(),
        refilling_ms: node.refilling.map(millis),
    }
}

fn hints(hints: TargetHints) -> v1::HintsOutstanding {
    v1::HintsOutstanding {
        target: hints.report.target.as_str().into(),
        outstanding: hints.report.outstanding,
        oldest_age_ms: millis(hints.oldest_age),
        rounds: hints.report.rounds,
    }
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
