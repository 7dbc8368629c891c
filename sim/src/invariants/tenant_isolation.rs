//! Promise 11: no operation of a tenant reads or changes another's data, and none is carried out by another's rules.
//!
//! Told from what clients are shown, from what storage nodes hold, and from what they are asked: every record asked for
//! is a tenant's key where that key belongs, at its owners, overwritten as the tenant's own policy says. Names are
//! drawn so that "a" with the key "bc" and "ab" with the key "c" both exist.

use pairdb::placement::Token;
use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use crate::asked::AskedOfRecord;
use crate::evidence::Evidence;
use crate::op::Answered;
use crate::value;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["isolation"]);
    for op in evidence.run.ops.values() {
        for answer in &op.answers {
            let Answered::Found { values, .. } = &answer.result else {
                continue;
            };
            let own = format!("{}#", evidence.name(op.tenant, &op.key));
            let foreign = |value: &[u8]| match value.starts_with(own.as_bytes()) {
                true => None,
                false => value::origin(value),
            };
            if let Some((place, written)) = values.iter().find_map(|(value, _)| foreign(value)) {
                let what = format!(
                    "#{} read #{}, which was written to {place}",
                    op.id.0, written.0
                );
                findings.broken(op.tenant, &op.key, &[op.id, written], what);
            }
        }
    }
    for (record, asked) in &evidence.run.seen.asked.records {
        let tenant = evidence
            .run
            .world
            .tenants
            .iter()
            .position(|tenant| tenant.name == record.tenant());
        let Some(tenant) =
            tenant.filter(|tenant| !evidence.owners_ever(*tenant, record.key()).is_empty())
        else {
            findings.broken_for_all(format!(
                "somebody asked for {}/{}, which is nobody's",
                record.tenant(),
                record.key()
            ));
            continue;
        };
        let place =
            Token::of_key(record.tenant(), record.key()).partition(evidence.run.world.partitions);
        if record.partition() != place {
            let what = format!(
                "it was asked for in partition {}, and is in {}",
                record.partition().0,
                place.0
            );
            findings.broken(tenant, record.key(), &[], what);
        }
        for what in misrouted(evidence, tenant, record.key(), asked) {
            findings.broken(tenant, record.key(), &[], what);
        }
    }
}

/// Signs that a record was asked for by the settings of another tenant.
fn misrouted(evidence: &Evidence, tenant: usize, key: &str, asked: &AskedOfRecord) -> Vec<String> {
    let owners = evidence.owners_ever(tenant, key);
    let strangers = asked.nodes.iter().filter(|who| !owners.contains(who));
    let mut signs: Vec<String> = strangers
        .map(|who| format!("{who} was asked, which does not own it"))
        .collect();
    let (policy, other) = match evidence.policy(tenant) {
        ConflictPolicy::LastWriteWins => ("last_write_wins", asked.overwrites_covered),
        ConflictPolicy::Siblings => ("siblings", asked.overwrites_all),
    };
    if other {
        signs.push(format!(
            "its tenant has {policy}, and it was written by the other rule"
        ));
    }
    signs
}

#[cfg(test)]
mod tests {
    use pairdb::version::Record;

    use super::super::told::{Told, node};
    use crate::value;

    #[test]
    fn a_record_is_asked_for_where_it_belongs() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.says(node(1), &told.record(&[write]).encode());
        told.read().shows(&[write]);
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn a_read_may_not_show_what_was_written_elsewhere() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.read()
            .shows_bytes(&value::make("other", "k", write, 0));
        let what = "#2 read #1, which was written to other/k";
        told.owners_hold(&[write])
            .breaks("tenant isolation", &[what]);
    }

    #[test]
    fn a_record_may_not_be_asked_for_at_a_stranger() {
        let mut told = Told::siblings();
        told.says(node(4), &Record::default().encode());
        told.breaks("tenant isolation", &["n4 was asked, which does not own it"]);
    }
}
