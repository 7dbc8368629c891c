//! What can be taken away from a failing world, and in which order: what makes runs shorter goes first.

use std::collections::BTreeSet;
use std::time::Instant;

use pairdb::mutant::Mutant;
use pairdb::quorum::Consistency;
use serde_json::Value;

use super::ddmin::ddmin;
use super::size::Size;
use crate::endpoint::Endpoint;
use crate::outcome::Options;
use crate::run::run;
use crate::spell::mend;
use crate::world::{ClientPlan, FOREVER_MS, Fault, FaultStep, Given, Step, World, endpoints};

/// A search for a smaller world that breaks the same.
pub(super) struct Search<'a> {
    target: &'static str,
    mutant: Option<Mutant>,
    until: Instant,
    /// The seed under which the invariant broke last.
    seed: u64,
    /// How many other seeds a world is given to break under: what is taken away shifts what is drawn.
    others: u64,
    runs: u64,
    tell: &'a mut dyn FnMut(String),
}

/// How many other seeds once nothing can be taken away under one seed.
const OTHERS_MAX: u64 = 3;

/// Above so many steps each is not looked at alone.
const STEPS_MAX: usize = 40;

/// A change to a world that makes it smaller, if it is not that small already.
type Change = fn(&mut World);

const SIMPLER: &[Change] = &[
    |world| world.coordinator = World::default().coordinator,
    |world| world.replica = World::default().replica,
    |world| world.network = World::default().network,
    |world| world.network.straggler_permille = 0,
    |world| world.network.duplicate_permille = 0,
    |world| world.network.lost_request_permille = 0,
    |world| world.network.lost_reply_permille = 0,
    |world| world.disk = World::default().disk,
    |world| world.disk.sync_interval_ms = None,
    |world| world.timeouts.clear(),
    |world| world.odd.clear(),
    |world| world.time = World::default().time,
    |world| world.transport = World::default().transport,
    |world| world.sizes.clear(),
    |world| world.partitions = World::default().partitions,
    |world| world.virtual_nodes = World::default().virtual_nodes,
    |world| world.zones.clear(),
    |world| world.older.clear(),
    |world| world.away.clear(),
];

const SIMPLER_STEPS: &[fn(&mut Step)] = &[
    |step| step.context = Given::Nothing,
    |step| step.idempotency_key = None,
    |step| step.padding = 0,
    |step| step.consistency = Consistency::Quorum,
    |step| {
        step.gives_up_us = None;
        step.aborts = false;
    },
    |step| step.via = 1,
];

impl<'a> Search<'a> {
    pub(super) fn new(
        target: &'static str,
        mutant: Option<Mutant>,
        until: Instant,
        seed: u64,
        tell: &'a mut dyn FnMut(String),
    ) -> Self {
        Self {
            target,
            mutant,
            until,
            seed,
            others: 0,
            runs: 0,
            tell,
        }
    }

    pub(super) const fn runs(&self) -> u64 {
        self.runs
    }

    pub(super) fn tell(&mut self, what: &str) {
        (self.tell)(what.to_owned());
    }

    /// Whether the same invariant breaks there, and under which seed. When time has run out nothing does.
    pub(super) fn breaks(&mut self, world: &World) -> bool {
        let seeds = self.seed..=self.seed + self.others;
        for seed in seeds {
            if self.is_late() {
                return false;
            }
            let world = World {
                seed,
                ..world.clone()
            };
            if self.breaks_as_it_is(world) {
                self.seed = seed;
                return true;
            }
        }
        false
    }

    /// The same under the seeds from `world`'s own on.
    pub(super) fn breaks_under(&mut self, world: &World, seeds: u64) -> Option<u64> {
        let mut seeds = world.seed..world.seed + seeds;
        let found = seeds.find(|seed| {
            let seed = *seed;
            let world = world.clone();
            !self.is_late() && self.breaks_as_it_is(World { seed, ..world })
        });
        self.seed = found.unwrap_or(self.seed);
        found
    }

    fn breaks_as_it_is(&mut self, world: World) -> bool {
        self.runs += 1;
        let options = Options {
            mutant: self.mutant,
            ..Options::default()
        };
        let outcome = run(world, options);
        let mut broken = outcome.violations.iter();
        broken.any(|broken| broken.invariant == self.target)
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Takes `changed` if it is another world and breaks the same.
    fn try_out(&mut self, world: &mut World, changed: World) -> bool {
        let taken = changed != *world && self.breaks(&changed);
        if taken {
            self.take(world, changed);
        }
        taken
    }

    fn take(&self, world: &mut World, changed: World) {
        *world = changed;
        world.seed = self.seed;
    }

    fn try_change(&mut self, world: &mut World, change: impl FnOnce(&mut World)) -> bool {
        let mut changed = world.clone();
        change(&mut changed);
        self.try_out(world, changed)
    }

    /// Makes `world` as small as it gets; at first only what happens to `key` is kept, if that is enough. Returns
    /// whether it was done before time ran out.
    pub(super) fn reduce(&mut self, world: &mut World, key: Option<&str>) -> bool {
        self.simplify_clients(world);
        self.keep_key(world, key);
        loop {
            let before = world.clone();
            self.end_early(world);
            self.drop_clients(world);
            self.drop_faults(world);
            self.drop_steps(world);
            self.end_early(world);
            self.drop_faults(world);
            self.drop_clocks(world);
            self.drop_tenants(world);
            self.drop_processes(world);
            for change in SIMPLER {
                self.try_change(world, change);
            }
            self.simplify_settings(world);
            self.simplify_steps(world);
            self.shorten_faults(world);
            self.drop_last_clients(world);
            let size = Size::of(world, 0);
            let runs = self.runs;
            self.tell(&format!("{size} after {runs} runs"));
            if self.is_late() {
                tidy(world);
                return false;
            }
            if self.others < OTHERS_MAX {
                self.others = OTHERS_MAX;
            } else if *world == before {
                break;
            }
        }
        let mut tidied = world.clone();
        tidy(&mut tidied);
        self.try_out(world, tidied);
        true
    }

    /// Keeps the steps that are about one key.
    fn keep_key(&mut self, world: &mut World, key: Option<&str>) {
        let Some(key) = key else {
            return;
        };
        let others = |world: &mut World| {
            for client in world.clients.iter_mut().filter(|client| !client.roams()) {
                let elsewhere = |step: &Step| {
                    step.act
                        .place()
                        .is_some_and(|place| place.to_string() != key)
                };
                client.steps.retain(|step| !elsewhere(step));
                if client.steps.is_empty() {
                    *client = idle();
                }
            }
            mend(world);
        };
        self.try_change(world, others);
    }

    /// Ends chaos soon after the last step, or halves it.
    fn end_early(&mut self, world: &mut World) {
        let steps = world.clients.iter().flat_map(|client| &client.steps);
        let last_ms = steps.filter_map(|step| step.at_us).max().unwrap_or(0) / 1_000;
        let roams = world.clients.iter().any(ClientPlan::roams);
        for after_ms in [200, 1_000, 5_000] {
            let chaos_ms = last_ms + after_ms;
            if !roams
                && chaos_ms < world.chaos_ms
                && self.try_change(world, |world| world.chaos_ms = chaos_ms)
            {
                return;
            }
        }
        while roams && world.chaos_ms > 500 && self.try_change(world, |world| world.chaos_ms /= 2) {
        }
    }

    fn drop_clients(&mut self, world: &mut World) {
        let active: Vec<usize> = (0..world.clients.len())
            .filter(|index| {
                let client = &world.clients[*index];
                client.roams() || !client.steps.is_empty()
            })
            .collect();
        let with = |kept: &[usize]| {
            let mut world = world.clone();
            for (index, client) in world.clients.iter_mut().enumerate() {
                if !kept.contains(&index) {
                    *client = idle();
                }
            }
            mend(&mut world);
            world
        };
        let kept = ddmin(&active, |kept| self.breaks(&with(kept)));
        let kept = with(&kept);
        self.take(world, kept);
        for index in 0..world.clients.len() {
            while world.clients[index].roams()
                && world.clients[index].operations > 1
                && self.try_change(world, |world| world.clients[index].operations /= 2)
            {
            }
        }
    }

    fn drop_faults(&mut self, world: &mut World) {
        let with = |faults: &[FaultStep]| World {
            faults: faults.to_vec(),
            ..world.clone()
        };
        let faults = ddmin(&world.faults, |faults| self.breaks(&with(faults)));
        let kept = with(&faults);
        self.take(world, kept);
    }

    fn drop_clocks(&mut self, world: &mut World) {
        let with = |clocks: &[_]| World {
            clocks: clocks.to_vec(),
            ..world.clone()
        };
        let clocks = ddmin(&world.clocks, |clocks| self.breaks(&with(clocks)));
        let kept = with(&clocks);
        self.take(world, kept);
        for index in 0..world.clocks.len() {
            self.try_change(world, |world| world.clocks[index].drift_ppm = 0);
        }
    }

    fn drop_steps(&mut self, world: &mut World) {
        let all: Vec<(usize, usize)> = world
            .clients
            .iter()
            .enumerate()
            .flat_map(|(client, plan)| (0..plan.steps.len()).map(move |step| (client, step)))
            .collect();
        let with = |kept: &[(usize, usize)]| {
            let kept: BTreeSet<&(usize, usize)> = kept.iter().collect();
            let mut world = world.clone();
            for (client, plan) in world.clients.iter_mut().enumerate() {
                let steps = plan.steps.iter().enumerate();
                let steps = steps.filter(|(step, _)| kept.contains(&(client, *step)));
                plan.steps = steps.map(|(_, step)| step.clone()).collect();
            }
            mend(&mut world);
            world
        };
        let kept = ddmin(&all, |kept| self.breaks(&with(kept)));
        let kept = with(&kept);
        self.take(world, kept);
    }

    /// Takes coordinators and storage nodes away, those with the greatest numbers first.
    fn drop_processes(&mut self, world: &mut World) {
        for count in 1..world.coordinators {
            let fewer = |world: &mut World| {
                world.coordinators = count;
                for step in world.clients.iter_mut().flat_map(|c| &mut c.steps) {
                    step.via = (step.via - 1) % count + 1;
                }
                forget(
                    world,
                    |who| matches!(who, Endpoint::Coordinator(number) if number > count),
                );
            };
            if self.try_change(world, fewer) {
                break;
            }
        }
        for spares in 0..world.spare_nodes {
            let fewer = |world: &mut World| {
                world.spare_nodes = spares;
                let nodes = world.storage();
                forget(
                    world,
                    |who| matches!(who, Endpoint::Storage(_) if !nodes.contains(&who)),
                );
            };
            if self.try_change(world, fewer) {
                break;
            }
        }
        if world.spare_nodes > 0 {
            return; // their numbers come after those of the others
        }
        let factors = world.tenants.iter().map(|tenant| tenant.replication_factor);
        for count in factors.max().unwrap_or(1)..world.storage_nodes {
            let fewer = |world: &mut World| {
                world.storage_nodes = count;
                forget(
                    world,
                    |who| matches!(who, Endpoint::Storage(number) if number > count),
                );
            };
            if self.try_change(world, fewer) {
                break;
            }
        }
    }

    /// One setting after the other back to its default.
    fn simplify_settings(&mut self, world: &mut World) {
        let Ok(Value::Object(defaults)) = serde_json::to_value(World::default().coordinator) else {
            return;
        };
        for (name, value) in defaults {
            let mut changed = world.clone();
            let Ok(Value::Object(mut settings)) = serde_json::to_value(&world.coordinator) else {
                return;
            };
            settings.insert(name, value);
            if let Ok(settings) = serde_json::from_value(Value::Object(settings)) {
                changed.coordinator = settings;
                self.try_out(world, changed);
            }
        }
        let Ok(Value::Object(defaults)) = serde_json::to_value(World::default().replica) else {
            return;
        };
        for (name, value) in defaults {
            let mut changed = world.clone();
            let Ok(Value::Object(mut settings)) = serde_json::to_value(world.replica) else {
                return;
            };
            settings.insert(name, value);
            if let Ok(settings) = serde_json::from_value(Value::Object(settings)) {
                changed.replica = settings;
                self.try_out(world, changed);
            }
        }
    }

    /// The habits of clients with steps don't matter, the time-out excepted.
    fn simplify_clients(&mut self, world: &mut World) {
        let plain = |client: &ClientPlan, timeout_ms| ClientPlan {
            steps: client.steps.clone(),
            timeout_ms,
            // Once its last step is gone it does nothing.
            ..idle()
        };
        for index in 0..world.clients.len() {
            if world.clients[index].steps.is_empty() {
                continue;
            }
            let usual = ClientPlan::default().timeout_ms;
            let own = world.clients[index].timeout_ms;
            for timeout_ms in [usual, own] {
                let changed = |world: &mut World| {
                    world.clients[index] = plain(&world.clients[index], timeout_ms);
                };
                if self.try_change(world, changed) {
                    break;
                }
            }
        }
    }

    fn simplify_steps(&mut self, world: &mut World) {
        let count: usize = world.clients.iter().map(|client| client.steps.len()).sum();
        for simpler in SIMPLER_STEPS {
            let all = |world: &mut World| {
                let steps = world.clients.iter_mut().flat_map(|c| &mut c.steps);
                steps.for_each(simpler);
            };
            if self.try_change(world, all) || count > STEPS_MAX {
                continue;
            }
            for client in 0..world.clients.len() {
                for step in 0..world.clients[client].steps.len() {
                    self.try_change(world, |world| {
                        simpler(&mut world.clients[client].steps[step])
                    });
                }
            }
        }
    }

    fn shorten_faults(&mut self, world: &mut World) {
        for index in 0..world.faults.len() {
            let chaos_ms = world.chaos_ms;
            let for_ms = world.faults[index].for_ms;
            if for_ms >= chaos_ms && for_ms < FOREVER_MS {
                self.try_change(world, |world| world.faults[index].for_ms = FOREVER_MS);
                continue;
            }
            while world.faults[index].for_ms > 1
                && world.faults[index].for_ms < FOREVER_MS
                && self.try_change(world, |world| world.faults[index].for_ms /= 2)
            {}
        }
    }

    /// Closes the gaps that clients left who do nothing any more.
    fn drop_last_clients(&mut self, world: &mut World) {
        self.try_change(world, |world| {
            world
                .clients
                .retain(|client| client.roams() || !client.steps.is_empty());
        });
    }

    fn drop_tenants(&mut self, world: &mut World) {
        if world.clients.iter().any(ClientPlan::roams) {
            return;
        }
        let mut changed = world.clone();
        changed.tenants.retain(|tenant| {
            let steps = world.clients.iter().flat_map(|client| &client.steps);
            let mut places = steps.filter_map(|step| step.act.place());
            places.any(|place| place.tenant == tenant.name)
        });
        for tenant in &mut changed.tenants {
            let usual = crate::world::TenantPlan::default();
            (tenant.keys, tenant.hot_permille) = (usual.keys, usual.hot_permille);
        }
        self.try_out(world, changed);
    }
}

/// A client that does nothing; it keeps the numbers of the others.
fn idle() -> ClientPlan {
    ClientPlan {
        operations: 0,
        ..ClientPlan::default()
    }
}

/// Takes processes out of everything that names them.
fn forget(world: &mut World, gone: impl Fn(Endpoint) -> bool) {
    world.clocks.retain(|clock| !gone(clock.who));
    world.timeouts.retain(|own| !gone(own.who));
    world.odd.retain(|own| !gone(own.who));
    world.away.retain(|who| !gone(*who));
    world.faults.retain_mut(|step| {
        let Ok(mut fault) = serde_json::to_value(&step.fault) else {
            return false;
        };
        let stays = take_out(&mut fault, &gone);
        match serde_json::from_value::<Fault>(fault) {
            Ok(fault) if stays => {
                step.fault = fault;
                true
            }
            _ => false,
        }
    });
}

/// Takes endpoints out of a fault's lists. Returns whether the fault still means something.
fn take_out(value: &mut Value, gone: &impl Fn(Endpoint) -> bool) -> bool {
    match value {
        Value::Array(items) => {
            items.retain(|item| !endpoints(item).into_iter().any(gone));
            !items.is_empty()
        }
        Value::Object(members) => members.values_mut().all(|member| take_out(member, gone)),
        other => !endpoints(other).into_iter().any(gone),
    }
}

/// Takes away names that nobody uses, habits that don't matter, and clients that do nothing after the last one that
/// does something.
fn tidy(world: &mut World) {
    let mut used: BTreeSet<String> = BTreeSet::new();
    for step in world.clients.iter().flat_map(|client| &client.steps) {
        used.extend(step.needs().map(ToOwned::to_owned));
    }
    for step in &world.faults {
        let events = [&step.after, &step.until].into_iter().flatten();
        used.extend(
            events
                .filter_map(|event| event.step())
                .map(ToOwned::to_owned),
        );
    }
    for step in world.clients.iter_mut().flat_map(|c| &mut c.steps) {
        if step.name.as_ref().is_some_and(|name| !used.contains(name)) {
            step.name = None;
        }
    }
    for client in &mut world.clients {
        if !client.steps.is_empty() {
            client.operations = ClientPlan::default().operations;
        }
    }
    while world
        .clients
        .last()
        .is_some_and(|client| client.steps.is_empty() && !client.roams())
    {
        world.clients.pop();
    }
}
