//! Promise 1: no acknowledged write is lost. In the end it is there, or a write that overwrote it knowingly was made,
//! or under `last_write_wins` a version with a greater stamp is there; as long as one node that said to hold it has
//! lost nothing.

use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use crate::evidence::{Evidence, Overwritten};
use crate::excuse::Excuse;
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
            if there.contains(&write.id) {
                continue;
            }
            let overwritten = match evidence.overwritten(write.id) {
                Some(Overwritten::Certainly) => continue,
                Some(Overwritten::Perhaps) => Some(Excuse::UndecidedDelete),
                None => None,
            };
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
            let excuse = evidence.may_be_gone(write.id).or(overwritten);
            let what = format!("#{} was acknowledged and nothing is left of it", write.id.0);
            findings.broken_unless(excuse, tenant, key, &[write.id], what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{Told, node, record_key};
    use crate::excuse::Excuse;

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

    #[test]
    fn an_acknowledged_write_may_be_gone_that_all_who_held_it_lost() {
        let mut told = Told::siblings();
        told.write().acknowledged();
        (1..=3).for_each(|number| told.loses(node(number), &record_key()));
        told.owners_hold(&[]).needs(Excuse::HoldersLost);
    }

    #[test]
    fn a_delete_without_an_answer_may_have_overwritten_it_and_a_write_that_nobody_holds_can_t() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let read = told.read().shows(&[write]);
        let delete = told.delete().knowing(read).refused();
        told.again(delete, |op, _| op.unknown = true);
        told.owners_hold(&[]).needs(Excuse::UndecidedDelete);
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let read = told.read().shows(&[write]);
        let second = told.write().knowing(read).refused();
        told.again(second, |op, _| op.unknown = true);
        let what = "#1 was acknowledged and nothing is left of it";
        told.owners_hold(&[]).breaks("no lost write", &[what]);
    }
}
