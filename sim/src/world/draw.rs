//! Worlds drawn from seeds: every property and every fault is switched on in some worlds and off in others
//! (swarm testing: Groce, Zhang, Eide, Chen, Regehr 2012), because what is always there hides what it gets in the way of.

use std::time::Duration;

use pairdb::coordinator::{CoordinatorSettings, IdempotencyOutage};
use pairdb::quorum::ConflictPolicy;
use pairdb::replica::ReplicaSettings;

use super::{ClientPlan, ClockPlan, DiskPlan, Fault, FaultStep, NetworkPlan, TenantPlan, World};
use crate::endpoint::Endpoint;
use crate::rng::Rng;

const HOUR_MS: u64 = 3_600_000;

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "world");
        let storage_nodes = rng.pick(&[3, 4, 5, 5, 5, 6, 7]);
        let coordinators = rng.pick(&[3, 3, 3, 4]);
        let chaos_ms = rng.pick(&[8_000, 15_000, 15_000, 25_000]);
        let mut world = Self {
            seed,
            coordinators,
            storage_nodes,
            partitions: rng.pick(&[1, 4, 16, 64]),
            virtual_nodes: rng.pick(&[1, 8, 32]),
            chaos_ms,
            coordinator: coordinator(&mut Rng::new(seed, "coordinator settings")),
            network: network(&mut Rng::new(seed, "network")),
            replica: replica(&mut Rng::new(seed, "replica settings")),
            disk: disk(&mut Rng::new(seed, "disk")),
            clocks: Vec::new(),
            tenants: tenants(&mut Rng::new(seed, "tenants"), storage_nodes),
            clients: clients(&mut Rng::new(seed, "clients"), chaos_ms),
            faults: Vec::new(),
        };
        world.clocks = clocks(&mut Rng::new(seed, "clocks"), &world);
        world.faults = faults(&mut Rng::new(seed, "faults"), &world);
        world.perhaps_ahead_of_all_clocks();
        world.perhaps_but_one_thing_wrong();
        world
    }
}

fn coordinator(rng: &mut Rng) -> CoordinatorSettings {
    let ms = Duration::from_millis;
    CoordinatorSettings {
        write_timeout: ms(rng.pick(&[500, 1_000, 2_000, 5_000])),
        read_timeout: ms(rng.pick(&[500, 1_000, 2_000, 3_000])),
        stamp_patience_min: ms(rng.pick(&[3, 10, 50, 100])),
        hedge_delay_min: ms(rng.pick(&[1, 2, 5, 20])),
        clock_ahead_max: ms(rng.pick(&[0, 100, 1_000, 10_000])),
        tenant_ttl: ms(rng.pick(&[500, 5_000, 300_000])),
        tenant_entries_max: rng.pick(&[1, 2, 10_000]),
        topology_refresh: ms(rng.pick(&[1_000, 5_000, 30_000])),
        probe_interval: ms(rng.pick(&[200, 1_000, 1_000])),
        repair_queue_max: rng.pick(&[1, 16, 10_000]),
        claim_lease: ms(rng.pick(&[200, 2_000, 10_000])),
        idempotency_outage: rng.pick(&[IdempotencyOutage::Degrade, IdempotencyOutage::Refuse]),
        ..CoordinatorSettings::default()
    }
}

fn replica(rng: &mut Rng) -> ReplicaSettings {
    ReplicaSettings {
        queue_max: rng.pick(&[4, 64, 8_192]),
        batch_max: rng.pick(&[1, 4, 1_024]),
        counter_reservation: rng.pick(&[1, 4, 100, 16_384]),
        recent_writes_max: rng.pick(&[4, 64, 65_536]),
        ..ReplicaSettings::default()
    }
}

fn network(rng: &mut Rng) -> NetworkPlan {
    let mut plan = NetworkPlan {
        latency_us_min: rng.pick(&[50, 200, 1_000]),
        latency_us_max: rng.pick(&[1_000, 3_000, 10_000]),
        straggler_permille: rng.pick(&[0, 10, 50, 200]),
        ..NetworkPlan::default()
    };
    if rng.chance(400) {
        plan.lost_request_permille = rng.log_between(1, 100) as u32;
    }
    if rng.chance(400) {
        plan.lost_reply_permille = rng.log_between(1, 100) as u32;
    }
    if rng.chance(400) {
        plan.duplicate_permille = rng.log_between(1, 200) as u32;
        plan.duplicate_late_ms_max = rng.log_between(10, 8_000);
    }
    plan
}

fn disk(rng: &mut Rng) -> DiskPlan {
    let commit_us_min = rng.pick(&[100, 500, 2_000]);
    DiskPlan {
        sync_interval_ms: rng.chance(150).then(|| rng.log_between(20, 2_000)),
        commit_us_min,
        commit_us_max: commit_us_min + rng.pick(&[200, 2_000, 20_000]),
        read_us_max: rng.pick(&[50, 300, 3_000]),
    }
}

fn tenants(rng: &mut Rng, storage_nodes: u8) -> Vec<TenantPlan> {
    let policies = [ConflictPolicy::LastWriteWins, ConflictPolicy::Siblings];
    let extra = rng.below(2) as usize;
    // "a" with key "bc" and "ab" with key "c": isolation must not depend on where the name ends.
    let names = ["a", "ab", "abc"];
    (0..2 + extra)
        .map(|index| TenantPlan {
            name: names[index].to_owned(),
            replication_factor: rng.pick(&[1, 2, 3, 3, 3, 3, 3, 5]).min(storage_nodes),
            conflict_policy: policies.get(index).copied().unwrap_or(rng.pick(&policies)),
            keys: rng.pick(&[1, 2, 3, 6]),
            hot_permille: rng.pick(&[0, 300, 700]),
        })
        .collect()
}

fn clients(rng: &mut Rng, chaos_ms: u64) -> Vec<ClientPlan> {
    let count = rng.between(3, 8);
    let permille = |rng: &mut Rng| rng.pick(&[0, 0, 100, 300, 700, 1_000]);
    let padding_max = rng.pick(&[0, 20, 200, 5_000]);
    (0..count)
        .map(|_| {
            let operations = rng.between(20, 120) as u32;
            ClientPlan {
                operations,
                think_ms_max: rng.pick(&[2 * chaos_ms / u64::from(operations), 50, 5]),
                timeout_ms: rng.pick(&[200, 500, 1_000, 3_000]),
                writes: rng.pick(&[0, 1, 4]),
                reads: rng.pick(&[1, 4]),
                deletes: rng.pick(&[0, 1, 2]),
                updates: rng.pick(&[1, 4]),
                consistency: rng.pick(&[[0, 1, 0], [0, 1, 0], [1, 4, 1], [1, 0, 0], [1, 1, 1]]),
                context_permille: permille(rng),
                stale_context_permille: permille(rng) / 2,
                floor_permille: permille(rng),
                idempotency_permille: permille(rng),
                repeat_permille: permille(rng) / 2,
                retries: rng.pick(&[0, 1, 3, 10]),
                cancel_permille: rng.pick(&[0, 0, 20, 100]),
                sticky: rng.chance(500),
                padding_max,
                steps: Vec::new(),
            }
        })
        .collect()
}

fn clocks(rng: &mut Rng, world: &World) -> Vec<ClockPlan> {
    if rng.chance(300) {
        return Vec::new();
    }
    let wrong_permille = rng.pick(&[200, 500, 1_000]);
    let offset_ms_max = rng.pick(&[5, 500, 60_000, HOUR_MS]);
    let mut processes = world.storage();
    processes.extend(world.coordinators());
    processes.retain(|_| rng.chance(wrong_permille));
    processes
        .into_iter()
        .map(|who| ClockPlan {
            who,
            offset_ms: rng.between(0, 2 * offset_ms_max) as i64 - offset_ms_max as i64,
            drift_ppm: rng.pick(&[0, 0, 200, -200, 50_000, -50_000]),
        })
        .collect()
}

fn faults(rng: &mut Rng, world: &World) -> Vec<FaultStep> {
    if rng.chance(50) {
        return Vec::new();
    }
    // Which kinds occur at all, then how often each.
    let weights: Vec<u32> = (0..KINDS)
        .map(|_| {
            if rng.chance(450) {
                rng.pick(&[1, 3])
            } else {
                0
            }
        })
        .collect();
    if weights.iter().all(|weight| *weight == 0) {
        return Vec::new();
    }
    let count = rng.log_between(1, 2 + world.chaos_ms / 700);
    let for_ms_max = rng.pick(&[300, 2_000, 6_000]);
    let mut steps: Vec<FaultStep> = (0..count)
        .map(|_| {
            let at_ms = rng.between(0, world.chaos_ms * 9 / 10);
            let for_ms = match rng.chance(500) {
                true => rng.between(for_ms_max / 4, for_ms_max),
                false => rng.log_between(10, for_ms_max),
            };
            FaultStep::new(at_ms, for_ms, fault(rng, world, &weights))
        })
        .collect();
    // With two disks gone a key may be gone: one an hour is what the promises are about.
    let mut lost = 0;
    steps.retain(|step| {
        lost += u32::from(matches!(step.fault, Fault::LoseDisk { .. }));
        lost <= 1 || !matches!(step.fault, Fault::LoseDisk { .. })
    });
    steps.sort_by_key(|step| step.at_ms);
    steps
}

const KINDS: usize = 15;

fn fault(rng: &mut Rng, world: &World, weights: &[u32]) -> Fault {
    let storage = world.storage();
    let coordinators = world.coordinators();
    let mut processes = storage.clone();
    processes.extend(&coordinators);
    let anybody = |rng: &mut Rng| rng.chance(700).then(|| rng.pick(&processes));
    match rng.weighted(weights) {
        0 => Fault::Crash {
            who: rng.pick(&storage),
        },
        1 => Fault::Crash {
            who: rng.pick(&coordinators),
        },
        2 => Fault::PowerFailure,
        3 => Fault::Restart {
            who: rng.pick(&processes),
        },
        4 => Fault::LoseDisk {
            who: rng.pick(&storage),
        },
        5 => Fault::Pause {
            who: rng.pick(&processes),
        },
        6 | 7 => partition(rng, world, &processes),
        8 => Fault::Lossy {
            who: anybody(rng),
            request_permille: rng.log_between(10, 900) as u32,
            reply_permille: rng.log_between(10, 900) as u32,
        },
        9 => Fault::Slow {
            who: anybody(rng),
            permille: rng.log_between(10, 1_000) as u32,
            late_ms_max: rng.log_between(5, 8_000),
        },
        10 => Fault::Duplicate {
            permille: rng.log_between(50, 1_000) as u32,
            late_ms_max: rng.log_between(5, 8_000),
        },
        11 => Fault::SlowDisk {
            who: rng.pick(&storage),
            late_ms_max: rng.log_between(5, 2_000),
        },
        12 => Fault::FullDisk {
            who: rng.pick(&storage),
        },
        13 => Fault::ClockJump {
            who: rng.pick(&processes),
            by_ms: rng.pick(&[1, -1]) * rng.log_between(1, 2 * HOUR_MS) as i64,
        },
        14 if rng.chance(300) => Fault::NewEpoch,
        14 if rng.chance(300) => Fault::Impatience {
            after_ms_max: rng.log_between(2, 500),
        },
        _ => Fault::StoreTrouble {
            who: rng.pick(&[Endpoint::Metadata, Endpoint::Idempotency]),
            permille: rng.log_between(50, 1_000) as u32,
        },
    }
}

fn partition(rng: &mut Rng, world: &World, processes: &[Endpoint]) -> Fault {
    let count = rng.between(1, u64::from(world.storage_nodes / 2 + 1)) as usize;
    let from = if rng.chance(600) {
        rng.sample(&world.storage(), count)
    } else {
        rng.sample(processes, count)
    };
    let mut to: Vec<Endpoint> = processes.to_vec();
    to.retain(|process| !from.contains(process));
    if rng.chance(300) {
        // Seen from some only: who is cut off differs from place to place.
        let count = rng.between(1, to.len() as u64) as usize;
        to = rng.sample(&to, count);
    }
    if rng.chance(300) {
        to.push(Endpoint::Metadata);
    }
    if rng.chance(300) {
        to.push(Endpoint::Idempotency);
    }
    Fault::Partition {
        from,
        to,
        both_ways: rng.chance(600),
        refused: rng.chance(400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_world_and_a_world_survives_a_file() {
        for seed in 0..300 {
            let world = World::draw(seed);
            assert_eq!(world, World::draw(seed));
            let file = toml::to_string(&world).expect("a world is written");
            assert_eq!(toml::from_str::<World>(&file).expect("and read"), world);
        }
    }

    #[test]
    fn worlds_hold_all_kinds_of_faults() {
        let steps: Vec<FaultStep> = (0..300).flat_map(|seed| World::draw(seed).faults).collect();
        let kinds: std::collections::BTreeSet<String> = steps
            .iter()
            .map(|step| {
                let kind = format!("{:?}", step.fault);
                kind.split([' ', '{']).next().unwrap_or_default().to_owned()
            })
            .collect();
        assert_eq!(kinds.len(), 15, "{kinds:?}");
    }
}
