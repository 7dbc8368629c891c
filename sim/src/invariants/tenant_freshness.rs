//! What an operator changes about a tenant is in effect everywhere after the cache's time, though the event that tells
//! of it got lost: a coordinator that serves a tenant has asked the metadata store for it no longer ago than that.
//!
//! It is no promise of the replication protocol. That a coordinator goes on with what it has when it is not answered is
//! [`super::availability`]'s.

use std::time::Duration;

use super::findings::Findings;
use crate::endpoint::Endpoint;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::Time;
use crate::world::Fault;

/// A question that was asked shortly before may have been under way still, and its answer expires early.
const UNDER_WAY_MAX: Duration = Duration::from_secs(2);

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let within = evidence.run.world.coordinator.tenant_ttl + UNDER_WAY_MAX;
    for op in evidence.run.ops.values().filter(|op| op.attempts == 1) {
        let Some((completed, by)) = op.completed().zip(op.last_to) else {
            continue;
        };
        let tenant = &evidence.run.world.tenants[op.tenant].name;
        let from = Duration::from_nanos(op.invoked).saturating_sub(within);
        let until = Duration::from_nanos(completed);
        let asked = evidence.run.tenant_lookups.iter().any(|lookup| {
            lookup.from == by && lookup.tenant == *tenant && (from..=until).contains(&lookup.at)
        });
        if !asked {
            let what = format!(
                "{by} served #{} with what it has known of {tenant} for longer than {within:?}",
                op.id.0
            );
            let stood = had_standing_clock(evidence, by, completed);
            let excuse = stood.then_some(Excuse::StandingClock);
            findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
        }
    }
}

/// Whether its monotonic clock stood still at some time before: it can't know for how long.
fn had_standing_clock(evidence: &Evidence, by: Endpoint, before: Time) -> bool {
    let mut faults = evidence.run.world.faults.iter();
    faults.any(|step| {
        let of_it = matches!(step.fault, Fault::StandingClock { who, .. } if who == by);
        of_it && step.at_ms * 1_000_000 <= before
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::told::Told;
    use crate::world::World;

    #[test]
    fn a_coordinator_asks_for_its_tenants_now_and_then() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn a_coordinator_may_not_go_on_with_what_it_knew_long_ago() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.run.tenant_lookups[0].at = Duration::ZERO;
        let soon = |world: &mut World| world.coordinator.tenant_ttl = Duration::from_secs(5);
        let what = "c1 served #1 with what it has known of t for longer than 7s";
        told.owners_hold(&[write])
            .with(soon)
            .breaks("tenant freshness", &[what]);
    }
}
