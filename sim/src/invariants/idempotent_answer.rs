//! Promise 9: one idempotency key has one answer. (That it has one effect is [`super::one_effect`]'s.)

use std::collections::BTreeSet;

use super::Findings;
use crate::evidence::Evidence;
use crate::history::Answered;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for op in evidence
        .ops
        .values()
        .filter(|op| op.idempotent && !op.claim_forgotten)
    {
        let claimed = op.answers.iter().filter_map(|answer| match &answer.result {
            Answered::Written {
                context,
                without_idempotency: false,
                ..
            } => Some(context),
            _ => None,
        });
        let answers: BTreeSet<_> = claimed.collect();
        if answers.len() > 1 {
            let what = format!("#{} got {} different answers", op.id.0, answers.len());
            findings.broken(op.tenant, &op.key, &[op.id], what);
        }
    }
}
