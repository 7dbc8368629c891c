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
use crate::excuse::Excuse;
use crate::op::{Arrived, Time};
use crate::world::{ClientPlan, Fault};

/// How much longer a lease may seem to last: it is counted from when the store hears of it, and looked at in turns.
const SLACK: Duration = Duration::from_millis(800);

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let told = |client: &ClientPlan| !client.steps.is_empty();
    if evidence.run.world.clients.iter().any(told) {
        return;
    }
    let stands_from = stands_from(evidence);
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
                let stood = stands_from.is_some_and(|from| told >= from);
                let excuse = stood.then_some(Excuse::StandingClock);
                findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
            }
        }
    }
}

/// When the first monotonic clock began to stand still: by that clock an attempt is at work for longer than anybody
/// else can tell.
fn stands_from(evidence: &Evidence) -> Option<Time> {
    let faults = evidence.run.world.faults.iter();
    let stands = faults.filter(|step| matches!(step.fault, Fault::StandingClock { .. }));
    stands.map(|step| step.at_ms * 1_000_000).min()
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
    use crate::endpoint::Endpoint;
    use crate::excuse::Excuse;
    use crate::world::{Fault, FaultStep};

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

    /// Who comes first is told of another, and a clock stands still from then on.
    fn told_with_a_clock_that_stands_from(at_ms: u64) -> Told {
        let mut told = Told::siblings();
        let write = told.write().idempotent().acknowledged();
        told.again(write, |op, at| op.arrived[0].told_in_use = Some(at));
        let who = Endpoint::Coordinator(2);
        let stands = FaultStep::new(at_ms, 10, Fault::StandingClock { who, jumps: false });
        let told = told.owners_hold(&[write]);
        told.with(|world| world.faults = vec![stands])
    }

    #[test]
    fn by_a_clock_that_stood_still_before_there_may_be_another() {
        told_with_a_clock_that_stands_from(0).needs(Excuse::StandingClock);
        let what = "#1 was told of another request with its idempotency key, and there was none";
        let later = told_with_a_clock_that_stands_from(3_600_000);
        later.breaks("claims end", &[what]);
    }
}
