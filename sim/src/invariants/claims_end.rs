//! Promise 13, in part: an idempotency key is in use for as long as an attempt with it is at work, and no longer.
//! Whoever is told that another request is still running is told the truth.
//!
//! Judged are operations that clients make by their habits. An attempt is at work from its arrival at a coordinator to
//! its deadline at most, also where that one dies or is cut off; one that was told that another is at work has no claim
//! itself. Whoever brings another operation's key by mistake asks for something else, which is a conflict and not this.

use std::time::Duration;

use super::availability::slowest_step;
use super::findings::Findings;
use crate::evidence::Evidence;
use crate::op::{Arrived, Time};
use crate::world::{ClientPlan, Fault, FaultStep};

/// How much longer a lease may seem to last: it is counted from when the store hears of it, and looked at in turns.
const SLACK: Duration = Duration::from_millis(800);

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let told = |client: &ClientPlan| !client.steps.is_empty();
    // By a clock that stands still an attempt is at work for longer than anybody else can tell.
    let stands = |step: &FaultStep| matches!(step.fault, Fault::StandingClock { .. });
    let world = &evidence.run.world;
    if world.clients.iter().any(told) || world.faults.iter().any(stands) {
        return;
    }
    for op in evidence.run.ops.values() {
        let lasts = evidence.longest_timeout(op) + slowest_step(evidence) * 3 + SLACK;
        for (index, attempt) in op.arrived.iter().enumerate() {
            if let Some(told) = attempt.told_in_use
                && !was_in_use(&op.arrived[..index], told, lasts)
            {
                let what = format!(
                    "#{} was told of another request with its idempotency key, and there was none",
                    op.id.0
                );
                findings.broken(op.tenant, &op.key, &[op.id], what);
            }
        }
    }
}

/// Whether one of the attempts before may still have been at work at `told`.
fn was_in_use(before: &[Arrived], told: Time, lasts: Duration) -> bool {
    let with_claim = before
        .iter()
        .filter(|attempt| attempt.told_in_use.is_none());
    let mut ages = with_claim.map(|attempt| told.saturating_sub(attempt.at));
    ages.any(|age| Duration::from_nanos(age) <= lasts)
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;

    #[test]
    fn who_comes_while_the_first_attempt_is_at_work_is_told_so() {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.again(write, |op, at| op.arrived[1].told_in_use = Some(at));
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn who_comes_first_may_not_be_told_of_another() {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.again(write, |op, at| op.arrived[0].told_in_use = Some(at));
        let what = "#1 was told of another request with its idempotency key, and there was none";
        told.owners_hold(&[write]).breaks("claims end", &[what]);
    }
}
