//! Worlds drawn from seeds: every property and every fault is switched on in some worlds and off in others
//! (swarm testing: Groce, Zhang, Eide, Chen, Regehr 2012), because what is always there hides what it gets in the way
//! of.

use std::time::Duration;

use pairdb::buggify::Site;
use pairdb::coordinator::{CoordinatorSettings, IdempotencyOutage};
use pairdb::quorum::ConflictPolicy;
use pairdb::replica::ReplicaSettings;

use super::draw_faults::faults;
use super::{
    BuggifyPlan, ClientPlan, ClockPlan, DiskPlan, NetworkPlan, TenantPlan, TimePlan, TransportPlan,
    World,
};
use crate::rng::Rng;

const HOUR_MS: u64 = 3_600_000;

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "world");
        let storage_nodes = rng.pick(&[3, 3, 4, 5, 5, 5, 6, 7, 9]);
        let coordinators = rng.pick(&[1, 2, 3, 3, 3, 4, 5]);
        let chaos_ms = rng.pick(&[8_000, 15_000, 15_000, 25_000]);
        let mut world = Self {
            seed,
            coordinators,
            storage_nodes,
            spare_nodes: 0,
            zones: Vec::new(),
            older: Vec::new(),
            partitions: rng.pick(&[1, 4, 16, 64]),
            virtual_nodes: rng.pick(&[1, 8, 32]),
            chaos_ms,
            coordinator: coordinator(&mut Rng::new(seed, "coordinator settings")),
            network: network(&mut Rng::new(seed, "network")),
            replica: replica(&mut Rng::new(seed, "replica settings")),
            disk: disk(&mut Rng::new(seed, "disk")),
            clocks: Vec::new(),
            timeouts: Vec::new(),
            odd: Vec::new(),
            time: TimePlan::default(),
            transport: TransportPlan::default(),
            sizes: Vec::new(),
            buggify: buggify(&mut Rng::new(seed, "buggify")),
            tenants: tenants(&mut Rng::new(seed, "tenants"), storage_nodes),
            clients: clients(&mut Rng::new(seed, "clients"), chaos_ms),
            faults: Vec::new(),
            away: Vec::new(),
        };
        world.keep_pace_with_values();
        world.perhaps_mean();
        world.clocks = clocks(&mut Rng::new(seed, "clocks"), &world);
        world.faults = faults(&mut Rng::new(seed, "faults"), &world);
        world.perhaps_a_race();
        world.perhaps_ahead_of_all_clocks();
        world.perhaps_changes_owners();
        world.perhaps_upgraded();
        world.perhaps_inexact();
        world.perhaps_standing_clocks();
        world.perhaps_at_odds();
        world.perhaps_but_one_thing_wrong();
        world.perhaps_refilled();
        world.perhaps_purged();
        world.perhaps_wrong_epochs();
        world.perhaps_outlived();
        world.perhaps_forgotten();
        world.perhaps_wounded();
        world.perhaps_without_room();
        world.perhaps_small();
        world.perhaps_away();
        world
    }

    /// Maintenance moves ten of the largest values a second at least: at 20 kB a second, six keys of 100 kB at five
    /// owners take longer to become equal than anything may take.
    fn keep_pace_with_values(&mut self) {
        let largest = self.clients.iter().map(|client| client.padding_max).max();
        let pace = &mut self.replica.upkeep_bytes_per_second;
        *pace = (*pace).max(10 * largest.unwrap_or_default());
    }
}

impl World {
    /// Makes its clients mean, in some cases.
    fn perhaps_mean(&mut self) {
        let rng = &mut Rng::new(self.seed, "mean clients");
        if rng.chance(350) {
            for client in &mut self.clients {
                client.mean_permille = rng.pick(&[0, 100, 400]);
                client.late_repeat_permille = rng.pick(&[0, 30, 150]);
                client.empty_permille = rng.pick(&[0, 50, 200]);
            }
        }
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
        in_flight_max: rng.pick(&[1, 3, 10_000, 10_000, 10_000]),
        claim_lease: ms(rng.pick(&[10, 50, 200, 2_000, 10_000])),
        idempotency_outage: rng.pick(&[IdempotencyOutage::Degrade, IdempotencyOutage::Refuse]),
        anti_entropy_period: ms(rng.pick(&[500, 2_000, 10_000])),
        anti_entropy_pause: ms(rng.pick(&[100, 500, 2_000])),
        anti_entropy_lease: ms(rng.pick(&[500, 3_000, 10_000])),
        ..CoordinatorSettings::default()
    }
}

fn replica(rng: &mut Rng) -> ReplicaSettings {
    ReplicaSettings {
        queue_max: rng.pick(&[4, 64, 8_192]),
        batch_max: rng.pick(&[1, 4, 1_024]),
        counter_reservation: rng.pick(&[1, 4, 100, 16_384]),
        recent_writes_max: rng.pick(&[4, 64, 65_536]),
        siblings_max: rng.pick(&[1, 3, 256, 256, 256]),
        tombstone_grace: Duration::from_millis(rng.pick(&[0, 300, 2_000, 3_600_000])),
        upkeep_bytes_per_second: rng.pick(&[20_000, 1_000_000, 32 << 20]),
        hint_pause_min: Duration::from_millis(rng.pick(&[20, 200, 1_000])),
        hint_pause_max: Duration::from_millis(rng.pick(&[1_000, 5_000])),
        batch_bytes_max: rng.pick(&[500, 8 << 20, 8 << 20]),
        siblings_bytes_max: rng.pick(&[200, 10_000, 4 << 20, 4 << 20]),
        ..ReplicaSettings::default()
    }
}

fn buggify(rng: &mut Rng) -> Vec<BuggifyPlan> {
    if rng.chance(400) {
        return Vec::new();
    }
    let active_permille = rng.pick(&[50, 200, 500]);
    let mut sites = Site::ALL.to_vec();
    sites.retain(|_| rng.chance(active_permille));
    let plan = |site| BuggifyPlan {
        site,
        permille: match site {
            // The eighth try in a row is what makes a difference.
            Site::RepairRetriedAtOnce => 1_000,
            _ => rng.log_between(5, 300) as u32,
        },
    };
    sites.into_iter().map(plan).collect()
}

fn network(rng: &mut Rng) -> NetworkPlan {
    let mut plan = NetworkPlan {
        latency_us_min: rng.pick(&[50, 200, 1_000]),
        latency_us_max: rng.pick(&[1_000, 3_000, 10_000]),
        link_spread_us: rng.pick(&[0, 0, 0, 1_000, 10_000, 40_000]),
        lost_event_permille: 200,
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
            keys: rng.pick(&[1, 1, 2, 2, 3, 3, 6, 6, 12, 60]),
            hot_permille: rng.pick(&[0, 300, 700]),
        })
        .collect()
}

fn clients(rng: &mut Rng, chaos_ms: u64) -> Vec<ClientPlan> {
    let count = rng.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 16]);
    let permille = |rng: &mut Rng| rng.pick(&[0, 0, 100, 300, 700, 1_000]);
    let padding_max = match rng.chance(50) {
        true => 100_000,
        false => rng.pick(&[0, 20, 200, 5_000]),
    };
    // A crowd does about as much as a few.
    let operations_max = if count > 8 { 60 } else { 120 };
    // Habits that meet only where all have them: sessions at ONE, and retries of what is still at work.
    let sessions = rng.chance(400);
    let hasty = rng.chance(250);
    (0..count)
        .map(|_| {
            let operations = rng.between(20, operations_max) as u32;
            let mut client = ClientPlan {
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
                mistake_permille: permille(rng) / 10,
                mean_permille: 0,
                late_repeat_permille: 0,
                empty_permille: 0,
                retries: rng.pick(&[0, 1, 3, 10]),
                retry_pause_ms_max: 200,
                cancel_permille: rng.pick(&[0, 0, 20, 100, 300]),
                sticky: rng.chance(500),
                padding_max,
                steps: Vec::new(),
            };
            if sessions {
                client.consistency = [4, 1, 0];
                client.context_permille = 1_000;
                client.stale_context_permille = 0;
                client.floor_permille = 1_000;
                client.writes = client.writes.max(2);
            }
            if hasty {
                client.idempotency_permille = 1_000;
                client.cancel_permille = 500;
                client.retries = 10;
            }
            client
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

#[cfg(test)]
mod tests {
    use super::super::FaultStep;
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
        assert_eq!(kinds.len(), 35, "{kinds:?}");
    }
}
