//! Promise 9: an idempotency key stands for one request. Who brings it with another one, for the same key, is told so
//! and nothing is done; who brings it with the same one, or for another key, is not told so.
//!
//! Judged are operations that clients make by their habits, and whose claims the store has not forgotten; and of those
//! that bring another one's key, those that came after the first one's answer was kept. Another consistency is no other
//! request.

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::{Answered, Op};
use crate::world::ClientPlan;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let told = |client: &ClientPlan| !client.steps.is_empty();
    if evidence.run.world.clients.iter().any(told) {
        return;
    }
    for op in evidence.run.ops.values().filter(|op| op.idempotent) {
        let Some(first) = op.key_of else {
            if op.told_conflict {
                let forgotten = op.claim_forgotten.then_some(Excuse::ClaimsForgotten);
                let shared = is_shared(evidence, op).then_some(Excuse::MisusedKey);
                let what = format!(
                    "#{} was told that its own idempotency key is another's",
                    op.id.0
                );
                let excuse = forgotten.or(shared);
                findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
            }
            continue;
        };
        let first = &evidence.run.ops[&first];
        let forgotten = op.claim_forgotten || first.claim_forgotten;
        let kept = kept(first).is_some_and(|at| at <= op.invoked);
        if self::kept(op).is_some() {
            let forgotten = forgotten.then_some(Excuse::ClaimsForgotten);
            let excuse = forgotten.or((!kept).then_some(Excuse::AnswerNotKept));
            let what = format!(
                "#{} was acknowledged under the idempotency key of #{}, which asks for something else",
                op.id.0, first.id.0
            );
            findings.broken_unless(excuse, op.tenant, &op.key, &[first.id, op.id], what);
        }
    }
}

/// When it was acknowledged with an answer that was kept for its idempotency key.
fn kept(op: &Op) -> Option<u64> {
    let kept = |result: &Answered| {
        matches!(
            result,
            Answered::Written {
                without_idempotency: false,
                ..
            }
        )
    };
    let mut answers = op.answers.iter();
    Some(answers.find(|answer| kept(&answer.result))?.at)
}

/// Whether another one brought its key: that one may have been made first.
pub(super) fn is_shared(evidence: &Evidence, op: &Op) -> bool {
    let mut others = evidence.run.ops.values();
    others.any(|other| other.key_of == Some(op.id))
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;
    use crate::excuse::Excuse;
    use crate::op::{Answer, Answered, OpId};

    /// A write, and another one with its idempotency key, which is acknowledged or refused.
    fn another_request(result: Answered) -> Told {
        let mut told = Told::siblings();
        let first = told.write().idempotent().acknowledged();
        let second = told.write().idempotent().refused();
        told.again(second, |op, at| {
            op.key_of = Some(first);
            op.attempts = 1;
            op.answers = vec![Answer { at, result }];
        });
        told.owners_hold(&[first])
    }

    #[test]
    fn another_request_may_be_refused() {
        another_request(Answered::Refused).keeps_all();
    }

    #[test]
    fn another_request_may_not_be_acknowledged() {
        let acknowledged = Answered::Written {
            context: Default::default(),
            is_duplicate: true,
            without_idempotency: false,
        };
        let what =
            "#2 was acknowledged under the idempotency key of #1, which asks for something else";
        another_request(acknowledged).breaks("idempotent request", &[what]);
    }

    #[test]
    fn another_request_may_be_acknowledged_before_the_first_one_was() {
        let acknowledged = Answered::Written {
            context: Default::default(),
            is_duplicate: false,
            without_idempotency: false,
        };
        let mut told = another_request(acknowledged);
        let first = told.run.ops.values_mut().next();
        first.into_iter().for_each(|op| {
            op.answers.clear();
            op.unknown = true;
        });
        told.stamped_again(OpId(2), 2);
        let told = told.owners_hold(&[OpId(1), OpId(2)]);
        told.needs(Excuse::AnswerNotKept);
    }

    #[test]
    fn a_retry_may_be_told_that_its_key_is_anothers_where_another_brought_it() {
        let mut told = another_request(Answered::Refused);
        let first = told.run.ops.values_mut().next();
        first.into_iter().for_each(|op| op.told_conflict = true);
        told.needs(Excuse::MisusedKey);
    }

    #[test]
    fn a_retry_may_not_be_told_that_its_key_is_anothers() {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.again(write, |op, _| op.told_conflict = true);
        let what = "#1 was told that its own idempotency key is another's";
        let told = told.owners_hold(&[write]);
        told.breaks("idempotent request", &[what]);
    }
}
