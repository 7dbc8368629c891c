//! Promise 13, its second half: one slow owner does not slow the 99th percentile of quorum operations to its own pace.
//!
//! Judged in worlds where nothing else goes wrong: their only fault makes one storage node slow, or silent, to the end.
//! The first operations are left out; coordinators have to learn who is slow.

use std::time::Duration;

use pairdb::quorum::Consistency;

use super::availability::slowest_step;
use super::findings::Findings;
use crate::endpoint::Endpoint;
use crate::evidence::Evidence;
use crate::op::Time;
use crate::world::Fault;

/// Operations that began earlier are left out.
const LEARNED_AFTER: Duration = Duration::from_secs(2);
/// The slow owner's pace, divided by this, is too slow; what everybody may take comes on top.
const PACE_SHARE: u32 = 4;
/// The 99th percentile of fewer operations says little.
const OPERATIONS_MIN: usize = 100;
/// No percentile of fewer says anything.
const FEW_MIN: usize = 10;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let Some((slow, since, late)) = one_slow_owner(evidence) else {
        return;
    };
    let learned = (since + LEARNED_AFTER).as_nanos() as Time;
    let judged = evidence.run.ops.values().filter(|op| {
        let owners = evidence.owners(op.tenant, &op.key);
        op.client > 0
            && op.consistency == Consistency::Quorum
            && op.attempts == 1
            && op.invoked > learned
            && owners.len() > 2
            && owners.contains(&slow)
    });
    let mut took: Vec<Time> = judged
        .filter_map(|op| Some(op.completed()? - op.invoked))
        .collect();
    took.sort_unstable();
    // Who waits for the slow one does little; of few operations fewer may be slow by chance.
    let percentile = match took.len() {
        0..FEW_MIN => return,
        FEW_MIN..OPERATIONS_MIN => 80,
        _ => 99,
    };
    let slow_ones = Duration::from_nanos(took[took.len() * percentile / 100]);
    if slow_ones > late / PACE_SHARE + slowest_step(evidence) * 4 {
        findings.broken_for_all(format!(
            "{slow} alone was up to {late:?} late, and the {percentile}th percentile of {} quorum operations is \
             {slow_ones:?}",
            took.len()
        ));
    }
}

/// The storage node that was late from some time on to the end, since when, and by how much, if nothing else was wrong.
/// One that is cut off without notice is as late as can be.
fn one_slow_owner(evidence: &Evidence) -> Option<(Endpoint, Duration, Duration)> {
    let world = &evidence.run.world;
    let network = &world.network;
    let [step] = world.faults.as_slice() else {
        return None;
    };
    let constant = network.lost_request_permille + network.lost_reply_permille;
    if constant > 0 || step.at_ms + step.for_ms < world.chaos_ms {
        return None;
    }
    let since = Duration::from_millis(step.at_ms);
    match &step.fault {
        Fault::Slow {
            who: Some(who @ Endpoint::Storage(_)),
            permille: 1_000,
            late_ms_max,
        } => Some((*who, since, Duration::from_millis(*late_ms_max))),
        Fault::Partition {
            from,
            both_ways: true,
            refused: false,
            ..
        } => match from.as_slice() {
            [who @ Endpoint::Storage(_)] => {
                let timeout = world.clients.iter().map(|client| client.timeout_ms).min();
                Some((*who, since, Duration::from_millis(timeout.unwrap_or(0))))
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{Told, node};
    use super::OPERATIONS_MIN;
    use crate::world::{Fault, FaultStep};

    /// Many reads that take so long, while one owner alone answers two seconds late.
    fn reads_that_take(ms: u64) -> Told {
        let mut told = Told::siblings();
        for _ in 0..OPERATIONS_MIN {
            told.read().takes(ms).shows(&[]);
        }
        let slow = Fault::Slow {
            who: Some(node(3)),
            permille: 1_000,
            late_ms_max: 2_000,
        };
        told.with(|world| world.faults = vec![FaultStep::new(0, world.chaos_ms, slow)])
    }

    #[test]
    fn one_slow_owner_may_slow_reads_a_little() {
        reads_that_take(200).keeps_all();
    }

    #[test]
    fn one_slow_owner_may_not_slow_reads_to_its_own_pace() {
        let what =
            "n3 alone was up to 2s late, and the 99th percentile of 100 quorum operations is 1.9s";
        reads_that_take(1_900).breaks("slow owner", &[what]);
    }
}
