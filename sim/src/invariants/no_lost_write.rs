//! Promise 1: no acknowledged write is lost. In the end it is there, or a write that overwrote it knowingly was made,
//! or under `last_write_wins` a version with a greater stamp is there; as long as one node that said to hold it has
//! lost nothing.

use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::op::{Kind, Time};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for (tenant, key) in evidence.keys() {
        let last = evidence.final_record(tenant, key);
        let values = last.siblings().iter().filter_map(|version| version.value());
        let there: Vec<_> = values
            .filter_map(|value| evidence.writer(tenant, key, value))
            .collect();
        let acknowledged = evidence
            .ops_of(tenant, key)
            .filter(|op| op.kind == Kind::Write && op.success().is_some());
        for write in acknowledged {
            let overwritten = evidence.overwriters(write.id, Time::MAX).next().is_some();
            if there.contains(&write.id) || overwritten || evidence.may_be_gone(write.id) {
                continue;
            }
            if evidence.policy(tenant) == ConflictPolicy::LastWriteWins {
                match evidence.stamp(write.id, Time::MAX) {
                    Some(stamp)
                        if last.greatest_stamp() < stamp
                            && evidence
                                .outrankers(tenant, key, stamp, Time::MAX)
                                .next()
                                .is_none() => {}
                    _ => continue,
                }
            }
            let what = format!("#{} was acknowledged and nothing is left of it", write.id.0);
            findings.broken(tenant, key, &[write.id], what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;

    #[test]
    fn an_acknowledged_write_is_there_in_the_end() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn an_acknowledged_write_that_nobody_holds_is_lost() {
        let mut told = Told::siblings();
        told.write().acknowledged();
        let what = "#1 was acknowledged and nothing is left of it";
        told.owners_hold(&[]).breaks("no lost write", &[what]);
    }
}
