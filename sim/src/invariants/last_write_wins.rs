//! Promise 5: of two writes of which one completed before the other began, the later one wins, whatever the clocks say,
//! if a quorum of its owners meets those of the earlier one. Told from what reads return, and from what is held in the
//! end. (Where the later one is a delete it is [`super::deletes_stay_deleted`]'s.)

use pairdb::quorum::{ConflictPolicy, Consistency};

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::{Kind, Op, OpId, Time};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for (tenant, key) in evidence.keys() {
        if evidence.policy(tenant) != ConflictPolicy::LastWriteWins {
            continue;
        }
        for read in evidence
            .ops_of(tenant, key)
            .filter(|op| op.kind == Kind::Read)
        {
            let Some((winner, _)) = evidence.shown_with_stamps(read).first().copied() else {
                continue;
            };
            let begun = (read.invoked, read.consistency);
            if let Some((loser, excuse)) = beaten(evidence, tenant, key, winner, begun) {
                let what = format!(
                    "#{} read #{}, and #{} came after it",
                    read.id.0, winner.0, loser.id.0
                );
                let involved = [winner, loser.id, read.id];
                findings.broken_unless(excuse, tenant, key, &involved, what);
            }
        }
        let last = evidence.final_record(tenant, key);
        let winner = last.latest().and_then(|version| version.value());
        let winner = winner.and_then(|value| evidence.writer(tenant, key, value));
        if let Some(winner) = winner
            && let Some((loser, excuse)) =
                beaten(evidence, tenant, key, winner, (Time::MAX, Consistency::All))
        {
            let what = format!(
                "#{} won in the end, and #{} came after it",
                winner.0, loser.id.0
            );
            findings.broken_unless(excuse, tenant, key, &[winner, loser.id], what);
        }
    }
}

/// A write that came after `winner`, and that those who began at `begun` should have seen; and why they may not.
fn beaten<'a>(
    evidence: &'a Evidence,
    tenant: usize,
    key: &'a str,
    winner: OpId,
    begun: (Time, Consistency),
) -> Option<(&'a Op, Option<Excuse>)> {
    let won = evidence.run.ops.get(&winner)?;
    let done = won.completed()?;
    let remade = evidence.may_be_remade(winner);
    let remade = remade.or_else(|| evidence.is_weakened(winner, done));
    let beaten = evidence.ops_of(tenant, key).filter(|op| {
        let owners = op.consistency;
        op.kind == Kind::Write
            && op.invoked > done
            && op.completed().is_some_and(|at| at < begun.0)
            // A write at all keeps its stamp once a quorum held it leading: it may have been seen.
            && evidence.meet(tenant, owners.min(Consistency::Quorum), won.consistency)
            && evidence.meet(tenant, owners, begun.1)
    });
    let excused = beaten.map(|op| {
        let weakened = |at| evidence.is_weakened(op.id, at);
        (op, remade.or_else(|| op.completed().and_then(weakened)))
    });
    excused.min_by_key(|(_, excuse)| excuse.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;

    #[test]
    fn the_later_write_wins() {
        let mut told = Told::last_write_wins();
        told.write().acknowledged();
        let second = told.write().acknowledged();
        told.read().shows(&[second]);
        told.owners_hold(&[second]).keeps_all();
    }

    #[test]
    fn the_earlier_write_may_not_win() {
        let mut told = Told::last_write_wins();
        let first = told.write().acknowledged();
        let second = told.write().acknowledged();
        told.read().shows(&[first]);
        let what = "#3 read #1, and #2 came after it";
        told.owners_hold(&[second])
            .breaks("last write wins", &[what]);
    }
}
