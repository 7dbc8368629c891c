//! Promise 4: a read whose owners meet those of an acknowledged write that completed before it began sees that write,
//! or what overwrote it; and what one read showed no later read may have forgotten.
//!
//! What such a write overwrote is not seen again either; for deletes that is [`super::deletes_stay_deleted`]'s.

use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use crate::evidence::{Evidence, Fact};
use crate::op::{Kind, Op, OpId, Time};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for (tenant, key) in evidence.keys() {
        let facts = evidence.facts(tenant, key);
        let reads = evidence
            .ops_of(tenant, key)
            .filter(|op| op.kind == Kind::Read);
        for read in reads {
            let Some(completed) = read.completed() else {
                continue;
            };
            for fact in &facts {
                let meet = evidence.meet(tenant, fact.owners, read.consistency);
                if fact.since >= read.invoked || !meet {
                    continue;
                }
                if let Some(what) = misses(evidence, read, completed, fact) {
                    findings.broken(tenant, key, &[fact.write, fact.source, read.id], what);
                }
            }
        }
    }
}

fn misses(evidence: &Evidence, read: &Op, completed: Time, fact: &Fact) -> Option<String> {
    let shown = evidence.shown_with_stamps(read);
    let what = match evidence.policy(read.tenant) {
        ConflictPolicy::Siblings => missed_sibling(evidence, shown, completed, fact)
            .then(|| "did not see it".to_owned())
            .or_else(|| revived(evidence, shown, fact)),
        ConflictPolicy::LastWriteWins => missed_latest(evidence, read, shown, completed, fact),
    }?;
    let (write, source) = (fact.write.0, fact.source.0);
    let proof = match write == source {
        true => "was acknowledged".to_owned(),
        false => format!("was seen by #{source}"),
    };
    Some(format!(
        "#{write} {proof} before #{} began, which {what}",
        read.id.0
    ))
}

/// Whether neither the write nor anything that overwrote it is there to be seen.
pub(super) fn missed_sibling(
    evidence: &Evidence,
    shown: &[(OpId, pairdb::version::Stamp)],
    completed: Time,
    fact: &Fact,
) -> bool {
    let op = &evidence.run.ops[&fact.write];
    let seen = |id: OpId| shown.iter().any(|(shown, _)| *shown == id);
    op.kind == Kind::Write
        && !seen(op.id)
        && !evidence
            .overwriters(op.id, completed)
            .any(|other| other.kind == Kind::Delete || seen(other.id))
}

/// Something that the write overwrote, and that is seen all the same.
fn revived(
    evidence: &Evidence,
    shown: &[(OpId, pairdb::version::Stamp)],
    fact: &Fact,
) -> Option<String> {
    if evidence.run.ops[&fact.write].kind == Kind::Delete {
        return None;
    }
    let overwritten = evidence.followed_by(fact.write);
    let back = shown
        .iter()
        .map(|(id, _)| *id)
        .find(|id| overwritten.contains(id))?;
    let retried = evidence.may_be_remade(back);
    (!retried).then(|| format!("saw #{} that it had overwritten", back.0))
}

/// Under `last_write_wins`: an older version, or none.
pub(super) fn missed_latest(
    evidence: &Evidence,
    read: &Op,
    shown: &[(OpId, pairdb::version::Stamp)],
    completed: Time,
    fact: &Fact,
) -> Option<String> {
    let op = &evidence.run.ops[&fact.write];
    if op.kind != Kind::Write || evidence.overwriters(op.id, completed).next().is_some() {
        return None;
    }
    match shown.first() {
        Some((winner, _)) if *winner == op.id => None,
        Some((winner, stamp)) => {
            let older = fact.stamp.filter(|known| stamp < known)?;
            let mut outrankers = evidence.outrankers(read.tenant, &read.key, older, completed);
            outrankers
                .next()
                .is_none()
                .then(|| format!("saw the older #{}", winner.0))
        }
        None => {
            // Some delete must have come after it.
            let deletes = evidence
                .ops_of(read.tenant, &read.key)
                .filter(|op| op.kind == Kind::Delete);
            let mut after = deletes.filter(|delete| {
                let before = evidence.settled(delete).is_some_and(|done| {
                    let meet = evidence.meet(op.tenant, delete.consistency, op.consistency);
                    meet && done < op.invoked
                });
                let settled = evidence.settled(delete);
                let before =
                    before && settled.is_some_and(|done| !evidence.is_weakened(delete.id, done));
                delete.may_have_happened() && delete.invoked < completed && !before
            });
            after.next().is_none().then(|| "saw nothing".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;

    #[test]
    fn a_read_sees_what_was_acknowledged_before() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.read().shows(&[write]);
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn a_read_may_not_miss_what_was_acknowledged_before() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.read().shows(&[]);
        let what = "#1 was acknowledged before #2 began, which did not see it";
        told.owners_hold(&[write]).breaks("quorum reads", &[what]);
    }
}
