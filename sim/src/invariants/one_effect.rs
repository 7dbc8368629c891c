//! Promise 9: one idempotency key has one effect. However often a write was tried and wherever, it is one logical
//! write, which under `last_write_wins` has one stamp: else a retry could override something newer.
//!
//! Judged are writes of values that the claim certainly held together: none of their attempts can have gone without it,
//! as happens by configuration while the store is down, and the store has not lost what it held. Of deletes nobody can
//! tell which tombstone is whose.

use std::collections::BTreeSet;

use pairdb::coordinator::IdempotencyOutage;
use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::{Answered, Kind, Op};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let judged = evidence
        .run
        .ops
        .values()
        .filter(|op| op.idempotent && op.kind == Kind::Write);
    for op in judged {
        let excuse = unclaimed(evidence, op);
        let dots = evidence.dots(op.id).iter();
        let versions: Vec<_> = dots
            .filter_map(|dot| evidence.run.seen.versions.get(dot))
            .collect();
        let writes: BTreeSet<_> = versions.iter().map(|version| version.write_id).collect();
        if writes.len() > 1 {
            let what = format!(
                "#{} became {} writes under one idempotency key",
                op.id.0,
                writes.len()
            );
            findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
        }
        let stamps: BTreeSet<_> = versions.iter().map(|version| version.stamp).collect();
        if stamps.len() > 1 && evidence.policy(op.tenant) == ConflictPolicy::LastWriteWins {
            let stamps: Vec<String> = stamps.iter().map(ToString::to_string).collect();
            let what = format!(
                "#{} took effect with the stamps {}",
                op.id.0,
                stamps.join(" and ")
            );
            findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
        }
    }
}

/// Why its attempts may not be one write, unless it has an idempotency key and every attempt was made under a claim.
pub(super) fn unclaimed(evidence: &Evidence, op: &Op) -> Option<Excuse> {
    let claimed = op.answers.iter().filter(|answer| {
        matches!(
            answer.result,
            Answered::Written {
                without_idempotency: false,
                ..
            }
        )
    });
    let always = evidence.run.world.coordinator.idempotency_outage == IdempotencyOutage::Refuse;
    let all = op.idempotent && (always || claimed.count() == op.attempts as usize);
    match op.claim_forgotten {
        true => Some(Excuse::ClaimsForgotten),
        false => (!all).then_some(Excuse::UnclaimedAttempt),
    }
}

#[cfg(test)]
mod tests {
    use pairdb::coordinator::IdempotencyOutage;

    use super::super::told::Told;
    use crate::excuse::Excuse;
    use crate::world::World;

    #[test]
    fn a_write_with_an_idempotency_key_may_be_stamped_by_two_owners() {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.stamped_again(write, 1);
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn one_idempotency_key_may_not_become_two_writes() {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.stamped_again(write, 2);
        let what = "#1 became 2 writes under one idempotency key";
        told.owners_hold(&[write]).breaks("one effect", &[what]);
    }

    #[test]
    fn an_attempt_without_a_claim_may_become_a_second_write() {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.stamped_again(write, 2);
        told.again(write, |op, _| op.unknown = true);
        let degrades = |world: &mut World| {
            world.coordinator.idempotency_outage = IdempotencyOutage::Degrade;
        };
        let told = told.owners_hold(&[write]).with(degrades);
        told.needs(Excuse::UnclaimedAttempt);
    }

    #[test]
    fn the_last_write_may_not_have_two_stamps_under_one_idempotency_key() {
        let mut told = Told::last_write_wins();
        let write = told.write().idempotent().acknowledged();
        told.stamped_again(write, 1);
        let what = "#1 took effect with the stamps 1.0 and 2.0";
        told.owners_hold(&[write]).breaks("one effect", &[what]);
    }
}
