//! Promise 8: a value that an acknowledged delete overwrote is never returned again: not by a read whose owners meet
//! the delete's and that began after it, and not in the end.
//!
//! A delete is purged only when every owner has it and nobody is owed it.
//!
//! Under `siblings` a delete overwrites what its client knew and gave the context of; under `last_write_wins` also what
//! had completed, or was seen, at owners that meet its own before it began. A write that ran beside it may stay.

use std::collections::{BTreeMap, BTreeSet};

use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use super::one_effect::unclaimed;
use crate::evidence::{Evidence, Fact};
use crate::excuse::Excuse;
use crate::op::{Kind, Op, OpId};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["purge"]);
    for (tenant, key) in evidence.keys() {
        let deletes: Vec<&Op> = evidence
            .ops_of(tenant, key)
            .filter(|op| op.kind == Kind::Delete)
            .collect();
        let acknowledged = deletes.into_iter().filter(|op| op.completed().is_some());
        let acknowledged: Vec<&Op> = acknowledged.collect();
        if acknowledged.is_empty() {
            continue;
        }
        let facts = evidence.facts(tenant, key);
        let reads: Vec<(&Op, BTreeSet<OpId>)> = evidence
            .ops_of(tenant, key)
            .filter(|op| op.kind == Kind::Read && op.success().is_some())
            .map(|read| (read, evidence.shown(read)))
            .collect();
        let left = in_the_end(evidence, tenant, key);
        for delete in acknowledged {
            let weakened = delete.completed();
            let weakened = weakened.and_then(|at| evidence.is_weakened(delete.id, at));
            let deleted = deleted(evidence, &facts, delete);
            let back = |there: &BTreeSet<OpId>| {
                let back = deleted.iter().filter(|(id, _)| there.contains(id));
                let back = back.min_by_key(|(id, excuse)| (excuse.is_some(), **id));
                back.map(|(id, excuse)| (*id, weakened.or(*excuse)))
            };
            let owners = delete.consistency;
            let after = reads.iter().filter(|(read, _)| {
                delete.completed().is_some_and(|done| done < read.invoked)
                    && evidence.meet(tenant, owners, read.consistency)
            });
            for (read, shown) in after {
                if let Some((back, excuse)) = back(shown) {
                    let what = format!(
                        "#{} read #{}, which #{} had deleted",
                        read.id.0, back.0, delete.id.0
                    );
                    let involved = [back, delete.id, read.id];
                    findings.broken_unless(excuse, tenant, key, &involved, what);
                }
            }
            if let Some((back, excuse)) = back(&left) {
                let what = format!(
                    "#{} is there in the end, and #{} had deleted it",
                    back.0, delete.id.0
                );
                findings.broken_unless(excuse, tenant, key, &[back, delete.id], what);
            }
        }
    }
}

/// The writes that a delete overwrote, each with why it may be back all the same.
fn deleted(evidence: &Evidence, facts: &[Fact], delete: &Op) -> Deleted {
    let owners = delete.consistency;
    let write = |id: &OpId| {
        evidence
            .run
            .ops
            .get(id)
            .is_some_and(|op| op.kind == Kind::Write)
    };
    match evidence.policy(delete.tenant) {
        ConflictPolicy::Siblings => {
            let knew = evidence.followed_by(delete.id).iter().copied();
            knew.filter(write)
                .map(|id| (id, evidence.may_be_remade(id)))
                .collect()
        }
        ConflictPolicy::LastWriteWins => {
            let before = facts.iter().filter(|fact| {
                fact.since < delete.invoked && evidence.meet(delete.tenant, owners, fact.owners)
            });
            let mut deleted = Deleted::new();
            for fact in before.filter(|fact| write(&fact.write)) {
                let op = &evidence.run.ops[&fact.write];
                // A claim fixes the stamp: another attempt can't make the write anew, whenever it comes.
                let excuse = match unclaimed(evidence, op) {
                    None => None,
                    Some(_) if op.completed().is_none_or(|done| done >= delete.invoked) => continue,
                    Some(_) => evidence.may_be_remade(op.id),
                };
                let excuse = fact.excuse.or(excuse);
                let known = deleted.entry(fact.write).or_insert(excuse);
                *known = known.and(excuse);
            }
            deleted
        }
    }
}

/// Writes that were deleted, each with why it may be back all the same.
type Deleted = BTreeMap<OpId, Option<Excuse>>;

/// The writes that a read of all owners would return in the end.
fn in_the_end(evidence: &Evidence, tenant: usize, key: &str) -> BTreeSet<OpId> {
    let last = evidence.final_record(tenant, key);
    let latest = last.latest().and_then(|version| version.value());
    let values: Vec<_> = match evidence.policy(tenant) {
        ConflictPolicy::Siblings => last.shown().filter_map(|v| v.value()).collect(),
        ConflictPolicy::LastWriteWins => latest.into_iter().collect(),
    };
    values
        .into_iter()
        .filter_map(|value| evidence.writer(tenant, key, value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::told::{Told, node, record_key};
    use crate::excuse::Excuse;

    #[test]
    fn what_was_deleted_is_read_no_more() {
        let mut told = Told::last_write_wins();
        told.write().acknowledged();
        let delete = told.delete().acknowledged();
        told.read().shows(&[]);
        told.owners_hold(&[delete]).keeps_all();
    }

    #[test]
    fn what_was_deleted_may_come_back_where_those_who_knew_of_the_delete_lost_it() {
        let mut told = Told::last_write_wins();
        let write = told.write().acknowledged();
        told.delete().acknowledged();
        (1..=2).for_each(|number| told.loses(node(number), &record_key()));
        told.read().shows(&[write]);
        let told = told.owners_hold(&[write]);
        told.clone().needs(Excuse::DeleteHoldersUnknown);
        told.needs(Excuse::SecondLoss);
    }

    #[test]
    fn what_was_lost_before_a_delete_began_excuses_nothing() {
        let mut told = Told::last_write_wins();
        let write = told.write().acknowledged();
        (1..=2).for_each(|number| told.loses(node(number), &record_key()));
        told.delete().acknowledged();
        told.read().shows(&[write]);
        let told = told.owners_hold(&[write]);
        assert_eq!(told.found("deletes stay deleted").len(), 2);
    }

    #[test]
    fn what_was_deleted_may_not_come_back() {
        let mut told = Told::last_write_wins();
        let write = told.write().acknowledged();
        told.delete().acknowledged();
        told.read().shows(&[write]);
        let what = [
            "#3 read #1, which #2 had deleted",
            "#1 is there in the end, and #2 had deleted it",
        ];
        told.owners_hold(&[write])
            .breaks("deletes stay deleted", &what);
    }
}
