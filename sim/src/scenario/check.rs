//! What can be wrong with a scenario before it is run: names that name nothing.

use std::collections::BTreeSet;

use super::head::{Head, mutant_named};
use crate::endpoint::Endpoint;
use crate::invariants;
use crate::world::{Act, Event, Fault, World, endpoints};

pub(super) fn check(head: &Head, world: &World) -> Result<(), String> {
    for (mutant, invariant) in &head.catches {
        mutant_named(mutant).map_err(|problem| format!("catches: {problem}"))?;
        let known: Vec<&str> = invariants::names().collect();
        if !known.contains(&invariant.as_str()) {
            let known = known.join(", ");
            return Err(format!(
                "catches.{mutant}: there is no invariant '{invariant}'; there are {known}"
            ));
        }
    }
    tenants(world)?;
    let names = step_names(world)?;
    let known = |step: &str| match names.contains(step) {
        true => Ok(()),
        false => Err(format!("there is no step '{step}'")),
    };
    for (client, plan) in (1..).zip(&world.clients) {
        for (number, step) in (1..).zip(&plan.steps) {
            let name = step.called(client, number);
            let about = |problem: String| format!("step {name}: {problem}");
            for needed in step.needs() {
                known(needed).map_err(about)?;
            }
            event(world, step.after.as_ref()).map_err(about)?;
            process(world, Endpoint::Coordinator(step.via)).map_err(about)?;
            let place = match &step.act {
                Act::Retry(_) => continue,
                act => act.place(),
            };
            let tenant = place.map_or("", |place| place.tenant.as_str());
            if !world.tenants.iter().any(|known| known.name == tenant) {
                return Err(about(format!("there is no tenant '{tenant}'")));
            }
        }
    }
    for (number, step) in (0..).zip(&world.faults) {
        let about = |problem: String| format!("fault {number}: {problem}");
        for waits in [&step.after, &step.until].into_iter().flatten() {
            if let Some(step) = waits.step() {
                known(step).map_err(about)?;
            }
            event(world, Some(waits)).map_err(about)?;
        }
        let fault = serde_json::to_value(&step.fault).map_err(|error| about(error.to_string()))?;
        for who in endpoints(&fault) {
            process(world, who).map_err(about)?;
        }
        change(world, &step.fault).map_err(about)?;
    }
    for own in &world.timeouts {
        process(world, own.who).map_err(|problem| format!("timeouts: {problem}"))?;
    }
    for odd in &world.odd {
        process(world, odd.who).map_err(|problem| format!("odd: {problem}"))?;
    }
    for clock in &world.clocks {
        process(world, clock.who).map_err(|problem| format!("clocks: {problem}"))?;
    }
    let storage = world.storage();
    if let Some(who) = world.away.iter().find(|who| !storage.contains(who)) {
        return Err(format!("away: {who} is no storage node"));
    }
    Ok(())
}

/// A change names storage nodes, and tenants that there are.
fn change(world: &World, fault: &Fault) -> Result<(), String> {
    let Fault::Change(plan) = fault else {
        return Ok(());
    };
    let set = plan.set.iter().map(|setting| setting.who);
    let named = plan.joining().chain(plan.leaving()).chain(set);
    let storage = world.storage();
    for who in named {
        if !storage.contains(&who) {
            return Err(format!("{who} is no storage node"));
        }
    }
    for tenant in plan.factors.keys() {
        if !world.tenants.iter().any(|known| known.name == *tenant) {
            return Err(format!("there is no tenant '{tenant}'"));
        }
    }
    Ok(())
}

fn tenants(world: &World) -> Result<(), String> {
    for tenant in &world.tenants {
        if tenant.replication_factor > world.storage_nodes {
            let name = &tenant.name;
            return Err(format!(
                "tenant {name}: its replication_factor is above storage_nodes"
            ));
        }
    }
    Ok(())
}

fn step_names(world: &World) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for (client, plan) in (1..).zip(&world.clients) {
        for (number, step) in (1..).zip(&plan.steps) {
            let name = step.called(client, number);
            if !names.insert(name.clone()) {
                return Err(format!("two steps are called '{name}'"));
            }
        }
    }
    Ok(names)
}

fn event(world: &World, event: Option<&Event>) -> Result<(), String> {
    let who = event.and_then(Event::process);
    who.map_or(Ok(()), |who| process(world, who))
}

fn process(world: &World, who: Endpoint) -> Result<(), String> {
    let there = match who {
        Endpoint::Coordinator(number) => number <= world.coordinators,
        Endpoint::Storage(_) => world.storage().contains(&who),
        Endpoint::Client(number) => usize::from(number) <= world.clients.len(),
        Endpoint::Metadata | Endpoint::Idempotency => true,
    };
    match there {
        true => Ok(()),
        false => Err(format!("there is no {who}")),
    }
}
