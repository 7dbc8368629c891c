//! A run spelled out: what each client did by its habits, as steps at their times.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::Evidence;
use crate::op::{Kind, OpId, Time};
use crate::story::Attempt;
use crate::world::{Act, Given, Place, Step, World};

/// The world of a run with every request as a step.
#[must_use]
pub fn out(evidence: &Evidence, began: Time, attempts: &[Attempt]) -> World {
    let mut world = World::clone(&evidence.run.world);
    for client in &mut world.clients {
        client.steps.clear();
        // Without steps it would go by its habits.
        client.operations = 0;
    }
    let mut tries: BTreeMap<OpId, u32> = BTreeMap::new();
    for attempt in attempts {
        let Some(op) = evidence.run.ops.get(&attempt.op) else {
            continue;
        };
        let Some(client) = usize::from(op.client)
            .checked_sub(1)
            .and_then(|index| world.clients.get_mut(index))
        else {
            continue;
        };
        let tries = tries.entry(op.id).or_default();
        *tries += 1;
        let place = Place {
            tenant: evidence.run.world.tenants[op.tenant].name.clone(),
            key: op.key.clone(),
        };
        let act = match op.kind {
            _ if *tries > 1 => Act::Retry(name(op.id)),
            Kind::Write => Act::Write(place),
            Kind::Read => Act::Read(place),
            Kind::Delete => Act::Delete(place),
        };
        let first = *tries == 1;
        let timeout_ms = attempt.timeout.as_millis() as u64;
        let mut step = Step::new(act);
        step.name = Some(match first {
            true => name(op.id),
            false => format!("{}.{tries}", name(op.id)),
        });
        step.at_us = Some((attempt.at - began) / 1_000);
        step.via = attempt.to;
        step.timeout_ms = (timeout_ms != client.timeout_ms).then_some(timeout_ms);
        step.gives_up_us = attempt.gives_up.map(|after| after.as_micros() as u64);
        step.aborts = attempt.aborts;
        if first {
            step.consistency = op.consistency;
            step.context = op
                .given
                .map_or(Given::Nothing, |given| Given::Of(name(given)));
            step.idempotency_key.clone_from(&attempt.idempotency_key);
            step.padding = attempt.padding;
        }
        client.steps.push(step);
    }
    world
}

fn name(op: OpId) -> String {
    format!("op{}", op.0)
}

/// Mends a world from which steps were taken away: no step refers to one that is not there.
pub(crate) fn mend(world: &mut World) {
    loop {
        let names: BTreeSet<String> = (1..)
            .zip(&world.clients)
            .flat_map(|(client, plan)| {
                (1..)
                    .zip(&plan.steps)
                    .map(move |(number, step)| step.called(client, number))
            })
            .collect();
        let mut again = false;
        for client in &mut world.clients {
            let before = client.steps.len();
            client
                .steps
                .retain(|step| !matches!(&step.act, Act::Retry(first) if !names.contains(first)));
            again |= client.steps.len() < before;
            for step in &mut client.steps {
                if matches!(&step.context, Given::Of(other) if !names.contains(other)) {
                    step.context = Given::Nothing;
                }
                let waits = step.after.as_ref().and_then(|event| event.step());
                if waits.is_some_and(|other| !names.contains(other)) {
                    step.after = None;
                }
            }
        }
        if !again {
            break;
        }
    }
}
