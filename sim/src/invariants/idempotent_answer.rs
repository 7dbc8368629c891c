//! Promise 9: one idempotency key has one answer. (That it has one effect is [`super::one_effect`]'s.) And where
//! coordinators are to refuse what can't be answered once, nobody is told of a success that will be forgotten.

use std::collections::BTreeSet;

use pairdb::coordinator::IdempotencyOutage;

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::{Answer, Answered};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let refuses = evidence.run.world.coordinator.idempotency_outage == IdempotencyOutage::Refuse;
    for op in evidence.run.ops.values().filter(|op| op.idempotent) {
        let excuse = op.claim_forgotten.then_some(Excuse::ClaimsForgotten);
        let claimed = op.answers.iter().filter_map(|answer| match &answer.result {
            Answered::Written {
                context,
                without_idempotency: false,
                ..
            } => Some(context),
            _ => None,
        });
        let answers: BTreeSet<_> = claimed.collect();
        if refuses && op.answers.iter().any(is_unkept) {
            let what = format!("#{} was served without idempotency", op.id.0);
            findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
        }
        if answers.len() > 1 {
            let what = format!("#{} got {} different answers", op.id.0, answers.len());
            findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
        }
    }
}

fn is_unkept(answer: &Answer) -> bool {
    matches!(
        answer.result,
        Answered::Written {
            without_idempotency: true,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::told::Told;
    use crate::excuse::Excuse;
    use crate::op::{Answer, Answered};

    /// A write that is answered twice, the second time with this context; `None`: with that of the first answer.
    fn answered_twice(second: Option<&'static [u8]>) -> Told {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.again(write, |op, at| {
            let first = op.answers[0].result.context().cloned();
            let second = second.map(Bytes::from_static).or(first);
            let result = Answered::Written {
                context: second.expect("a context of the first answer"),
                is_duplicate: true,
                without_idempotency: false,
            };
            op.answers.push(Answer { at, result });
        });
        told.owners_hold(&[write])
    }

    #[test]
    fn a_retry_gets_the_first_answer() {
        answered_twice(None).keeps_all();
    }

    #[test]
    fn a_retry_may_get_another_answer_where_the_claim_was_forgotten() {
        let mut told = answered_twice(Some(b"another context"));
        told.run
            .ops
            .values_mut()
            .for_each(|op| op.claim_forgotten = true);
        told.needs(Excuse::ClaimsForgotten);
    }

    #[test]
    fn a_retry_may_not_get_another_answer() {
        let what = "#1 got 2 different answers";
        answered_twice(Some(b"another context")).breaks("idempotent answer", &[what]);
    }
}
