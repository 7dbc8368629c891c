//! Promises 4 and 10: who answers a read has heard as many owners as the consistency asks for, of each set of owners
//! that reads use while they change, by one and the same epoch.
//!
//! What a read shows, or shows to be absent, is harm only where owners differ; too few answers are too few always. Told
//! from the answers that had come to the coordinator by then, of nodes that counted for quorums.

use std::collections::BTreeSet;

use pairdb::placement::Epoch;

use super::findings::Findings;
use crate::endpoint::Endpoint;
use crate::evidence::Evidence;
use crate::op::{Answer, Kind, Op};
use crate::reign::Reign;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let reads = evidence.run.ops.values().filter(|op| op.kind == Kind::Read);
    for op in reads {
        if let Some(what) = op.success().and_then(|it| too_few(evidence, op, it)) {
            findings.broken(op.tenant, &op.key, &[op.id], what);
        }
    }
}

/// Who was heard, if these are too few by every epoch.
fn too_few(evidence: &Evidence, op: &Op, answer: &Answer) -> Option<String> {
    let first = evidence.run.reigns.first()?;
    let key = first.record_key(&evidence.run.world.tenants[op.tenant].name, &op.key);
    let by = op.last_to.filter(|_| op.attempts == 1);
    let readings = &evidence.run.seen.readings;
    let answering = readings.answering(by, &key, (op.invoked, answer.at));
    let is_enough = |(epoch, heard): (&Epoch, &BTreeSet<Endpoint>)| {
        let by = |reign: &Reign| {
            let sets = reign.read_sets(&key.tree());
            sets.iter().all(|set| {
                let heard = set.nodes.iter().filter(|who| heard.contains(who));
                heard.count() >= set.required(op.consistency)
            })
        };
        evidence.reigns_of(*epoch).any(by)
    };
    if answering.iter().any(is_enough) {
        return None;
    }
    let heard = answering.iter().map(|(epoch, heard)| {
        let heard: Vec<String> = heard.iter().map(ToString::to_string).collect();
        format!("{} by epoch {epoch}", heard.join(", "))
    });
    let heard: Vec<String> = heard.collect();
    let id = op.id.0;
    Some(format!(
        "#{id} is answered, and too few owners were heard: {}",
        heard.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::told::{Told, node};
    use super::*;
    use crate::reign::tests::{begun, founded, replacing, stepped, world};

    const INVARIANT: &str = "read by quorums";

    /// The owners do not change.
    fn told() -> Told {
        let mut told = Told::siblings();
        told.run.reigns = vec![Arc::new(founded(&world()))];
        told
    }

    /// n4 takes the place of n1, and the partition is handed over, by epoch 4.
    fn handing_over() -> Told {
        let mut told = told();
        let waiting = begun(
            &world(),
            &told.run.reigns[0],
            &replacing(node(1), node(4), false),
            10,
        );
        let copying = stepped(&waiting, 20);
        let handing_over = stepped(&copying, 30);
        for reign in [waiting, copying, handing_over] {
            told.run.reigns.push(Arc::new(reign));
        }
        told
    }

    /// These are heard by this epoch, and what a client reads is answered.
    fn hearing<const N: usize>(mut told: Told, epoch: u64, nodes: [u8; N]) -> Told {
        for number in nodes {
            told.hears(Epoch(epoch), node(number));
        }
        told.read().shows(&[]);
        told
    }

    #[test]
    fn a_majority_of_the_owners_is_enough() {
        hearing(told(), 1, [1, 3]).owners_hold(&[]).keeps_all();
    }

    #[test]
    fn fewer_are_too_few() {
        let what = "#1 is answered, and too few owners were heard: n1 by epoch 1";
        hearing(told(), 1, [1]).breaks(INVARIANT, &[what]);
    }

    #[test]
    fn who_owns_nothing_does_not_count() {
        let what = "#1 is answered, and too few owners were heard: n1, n4 by epoch 1";
        hearing(told(), 1, [1, 4]).breaks(INVARIANT, &[what]);
    }

    #[test]
    fn what_is_heard_by_two_epochs_is_not_one_answer() {
        let mut told = told();
        told.hears(Epoch(2), node(2));
        let what = "#1 is answered, and too few owners were heard: n1 by epoch 1; n2 by epoch 2";
        hearing(told, 1, [1]).breaks(INVARIANT, &[what]);
    }

    #[test]
    fn while_a_partition_is_handed_over_both_sets_are_heard() {
        let enough = hearing(handing_over(), 4, [1, 2, 4]);
        enough.breaks(INVARIANT, &[]);
        let what = "#1 is answered, and too few owners were heard: n2, n4 by epoch 4";
        hearing(handing_over(), 4, [2, 4]).breaks(INVARIANT, &[what]);
    }
}
