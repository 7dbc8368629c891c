//! Promise 3: under `siblings` nothing stays that an acknowledged write overwrote knowingly, a write excepted that was
//! retried at a second stamping owner. (That nothing concurrent is overwritten is [`super::no_lost_write`]'s.)

use pairdb::quorum::ConflictPolicy;

use super::Findings;
use crate::evidence::Evidence;
use crate::history::Time;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for (tenant, key) in evidence.keys() {
        if evidence.policy(tenant) != ConflictPolicy::Siblings {
            continue;
        }
        let last = evidence.final_record(tenant, key);
        let values = last.siblings().iter().filter_map(|version| version.value());
        for sibling in values.filter_map(|value| evidence.writer(tenant, key, value)) {
            if evidence.dots(sibling).len() > 1 {
                continue;
            }
            let overwriter = evidence
                .overwriters(sibling, Time::MAX)
                .find(|op| op.success().is_some() && !evidence.may_be_gone(op.id));
            if let Some(overwriter) = overwriter {
                let what = format!(
                    "#{} is still there beside #{}, which overwrote it",
                    sibling.0, overwriter.id.0
                );
                findings.broken(tenant, key, &[sibling, overwriter.id], what);
            }
        }
    }
}
