//! Promise 4: a read whose owners meet those of an acknowledged write that completed before it began sees that write,
//! or what overwrote it; and what one read showed no later read may have forgotten.
//!
//! What such a write overwrote is not seen again either; for deletes that is [`super::deletes_stay_deleted`]'s.

use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use crate::evidence::{Evidence, Fact};
use crate::excuse::Excuse;
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
                if let Some((what, excuse)) = misses(evidence, read, completed, fact) {
                    let involved = [fact.write, fact.source, read.id];
                    findings.broken_unless(excuse, tenant, key, &involved, what);
                }
            }
        }
    }
}

/// What is wrong with what a read showed, and what may excuse it.
type Missed = (String, Option<Excuse>);

fn misses(evidence: &Evidence, read: &Op, completed: Time, fact: &Fact) -> Option<Missed> {
    let shown = evidence.shown_with_stamps(read);
    let (what, excuse) = match evidence.policy(read.tenant) {
        ConflictPolicy::Siblings => missed_sibling(evidence, shown, completed, fact)
            .then(|| ("did not see it".to_owned(), None))
            .or_else(|| revived(evidence, shown, fact)),
        ConflictPolicy::LastWriteWins => missed_latest(evidence, read, shown, completed, fact),
    }?;
    let (write, source) = (fact.write.0, fact.source.0);
    let proof = match write == source {
        true => "was acknowledged".to_owned(),
        false => format!("was seen by #{source}"),
    };
    let what = format!("#{write} {proof} before #{} began, which {what}", read.id.0);
    Some((what, fact.excuse.or(excuse)))
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
) -> Option<Missed> {
    if evidence.run.ops[&fact.write].kind == Kind::Delete {
        return None;
    }
    let overwritten = evidence.followed_by(fact.write);
    let back = shown.iter().map(|(id, _)| *id);
    let back = back.filter(|id| overwritten.contains(id));
    let back = back.map(|id| (id, evidence.may_be_remade(id)));
    let (back, remade) = back.min_by_key(|(_, remade)| remade.is_some())?;
    Some((format!("saw #{} that it had overwritten", back.0), remade))
}

/// Under `last_write_wins`: an older version, or none.
fn missed_latest(
    evidence: &Evidence,
    read: &Op,
    shown: &[(OpId, pairdb::version::Stamp)],
    completed: Time,
    fact: &Fact,
) -> Option<Missed> {
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
                .then(|| (format!("saw the older #{}", winner.0), None))
        }
        None => {
            // Some delete must have come after it.
            let deletes = evidence
                .ops_of(read.tenant, &read.key)
                .filter(|op| op.kind == Kind::Delete);
            let deletes = deletes.filter(|it| it.may_have_happened() && it.invoked < completed);
            let mut excuse = None;
            for delete in deletes {
                let meet = evidence.meet(op.tenant, delete.consistency, op.consistency);
                let before = delete
                    .completed()
                    .filter(|done| meet && *done < op.invoked)?;
                let remade = evidence.may_be_remade(delete.id);
                let remade = remade.or_else(|| evidence.is_weakened(delete.id, before));
                excuse = excuse.or(remade);
            }
            Some(("saw nothing".to_owned(), excuse))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pairdb::placement::Epoch;

    use super::super::told::{Told, node, record_key};
    use crate::excuse::Excuse;
    use crate::reign;

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

    #[test]
    fn a_read_may_miss_what_an_owner_held_whose_disk_went_back() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let now = told.now();
        told.run.seen.went_back(node(1), now);
        told.read().shows(&[]);
        told.owners_hold(&[write]).needs(Excuse::OldDisk);
    }

    #[test]
    fn a_read_may_miss_what_a_key_s_only_owner_lost_while_the_key_was_copied_from_it() {
        let mut told = Told::siblings().with(|world| world.tenants[0].replication_factor = 1);
        let mut world = reign::tests::world();
        world.tenants[0].replication_factor = 1;
        let first = reign::tests::founded(&world);
        let [owner] = first.owners(&record_key().tree())[..] else {
            panic!("one owner")
        };
        let plan = reign::tests::replacing(owner, node(4), false);
        let waiting = reign::tests::begun(&world, &first, &plan, 10);
        let copying = reign::tests::stepped(&waiting, 20);
        told.run.reigns = [first, waiting, copying].map(Arc::new).into();
        let write = told.write().acknowledged();
        told.loses(owner, &record_key());
        told.hears(Epoch(1), owner);
        told.read().shows(&[]);
        told.owners_hold(&[write]).needs(Excuse::SoleOwnerLost);
    }

    #[test]
    fn a_delete_without_an_answer_may_be_what_a_read_saw() {
        let mut told = Told::last_write_wins();
        let write = told.write().acknowledged();
        let delete = told.delete().refused();
        told.again(delete, |op, _| op.unknown = true);
        told.read().shows(&[]);
        told.owners_hold(&[write]).needs(Excuse::DoubtfulDelete);
    }
}
