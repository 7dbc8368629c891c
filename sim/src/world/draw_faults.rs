//! What goes wrong in a world, drawn: which kinds of faults occur at all, how often each, when, and to whom.

use super::{Fault, FaultStep, World};
use crate::endpoint::Endpoint;
use crate::rng::Rng;

const HOUR_MS: u64 = 3_600_000;

/// Faults of a few kinds, at any time.
pub(super) fn faults(rng: &mut Rng, world: &World) -> Vec<FaultStep> {
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
        let loses = matches!(
            step.fault,
            Fault::LoseDisk { .. } | Fault::CorruptRecord { .. }
        );
        lost += u32::from(loses);
        lost <= 1 || !loses
    });
    let mut eventful = Vec::new();
    for step in &steps {
        if let Fault::MetadataFailover { lost_ms } = step.fault {
            eventful.extend(around_failover(rng, world, step.at_ms, lost_ms));
        }
    }
    steps.extend(eventful);
    steps.sort_by_key(|step| step.at_ms);
    steps
}

/// A failover matters when an epoch is lost by it that nodes know already, and somebody comes who does not.
fn around_failover(rng: &mut Rng, world: &World, at_ms: u64, lost_ms: u64) -> [FaultStep; 2] {
    let before_ms = rng.between(lost_ms / 4, lost_ms);
    let new_epoch = FaultStep::new(at_ms.saturating_sub(before_ms), 0, Fault::NewEpoch);
    let (at_ms, for_ms) = (at_ms + rng.between(0, 300), rng.log_between(10, 500));
    let who = rng.pick(&world.coordinators());
    let newcomer = FaultStep::new(at_ms, for_ms, Fault::Crash { who });
    [new_epoch, newcomer]
}

/// How many kinds [`fault`] tells apart.
const KINDS: usize = 22;

/// Who there is in a world, for faults to choose from.
struct Cast<'a> {
    world: &'a World,
    storage: Vec<Endpoint>,
    coordinators: Vec<Endpoint>,
    /// Both.
    processes: Vec<Endpoint>,
    /// Those and the stores.
    ends: Vec<Endpoint>,
}

impl<'a> Cast<'a> {
    fn of(world: &'a World) -> Self {
        let storage = world.storage();
        let coordinators = world.coordinators();
        let processes = [&storage[..], &coordinators].concat();
        let ends = [&processes[..], &[Endpoint::Metadata, Endpoint::Idempotency]].concat();
        Self {
            world,
            storage,
            coordinators,
            processes,
            ends,
        }
    }

    fn node(&self, rng: &mut Rng) -> Endpoint {
        rng.pick(&self.storage)
    }

    fn process(&self, rng: &mut Rng) -> Endpoint {
        rng.pick(&self.processes)
    }

    /// One of all; `None`: all of them.
    fn anybody(&self, rng: &mut Rng) -> Option<Endpoint> {
        rng.chance(700).then(|| rng.pick(&self.ends))
    }
}

fn fault(rng: &mut Rng, world: &World, weights: &[u32]) -> Fault {
    let cast = Cast::of(world);
    match rng.weighted(weights) {
        kind @ (0..=5 | 18 | 19) => of_processes(rng, &cast, kind),
        kind @ 6..=10 => of_messages(rng, &cast, kind),
        kind @ (11 | 12 | 20 | 21) => of_disks(rng, &cast, kind),
        13 => Fault::ClockJump {
            who: cast.process(rng),
            by_ms: rng.pick(&[1, -1]) * rng.log_between(1, 2 * HOUR_MS) as i64,
        },
        14 => Fault::ClockDrift {
            who: cast.process(rng),
            ppm: rng.pick(&[1, -1]) * rng.log_between(100, 900_000) as i64,
        },
        15 => Fault::NewEpoch,
        16 => topology_trouble(rng),
        17 => store_trouble(rng),
        _ => Fault::Impatience {
            after_ms_max: rng.log_between(2, 500),
        },
    }
}

/// Processes that end, stand still, or lose what they have.
fn of_processes(rng: &mut Rng, cast: &Cast<'_>, kind: usize) -> Fault {
    match kind {
        0 => Fault::Crash {
            who: cast.node(rng),
        },
        1 => Fault::Crash {
            who: rng.pick(&cast.coordinators),
        },
        2 => Fault::PowerFailure,
        3 if rng.chance(200) => Fault::LoseDigests {
            who: cast.node(rng),
        },
        3 => Fault::Restart {
            who: cast.process(rng),
        },
        4 => Fault::LoseDisk {
            who: cast.node(rng),
        },
        5 => Fault::Pause {
            who: cast.process(rng),
        },
        18 => Fault::CrashLoop {
            who: cast.process(rng),
            every_ms: rng.log_between(20, 1_000),
        },
        _ => crash_on(rng, &cast.storage, &cast.coordinators),
    }
}

/// Messages that don't arrive, arrive late, or arrive twice.
fn of_messages(rng: &mut Rng, cast: &Cast<'_>, kind: usize) -> Fault {
    match kind {
        6 => partition(rng, cast.world, &cast.processes),
        7 => {
            let partition = partition(rng, cast.world, &cast.processes);
            flapping(rng, partition)
        }
        8 => Fault::Lossy {
            who: cast.anybody(rng),
            request_permille: rng.log_between(10, 900) as u32,
            reply_permille: rng.log_between(10, 900) as u32,
        },
        9 => Fault::Slow {
            who: cast.anybody(rng),
            permille: rng.log_between(10, 1_000) as u32,
            late_ms_max: rng.log_between(5, 8_000),
        },
        _ => Fault::Duplicate {
            permille: rng.log_between(50, 1_000) as u32,
            late_ms_max: rng.log_between(5, 8_000),
        },
    }
}

/// Disks that are slow, full, or not what they were.
fn of_disks(rng: &mut Rng, cast: &Cast<'_>, kind: usize) -> Fault {
    match kind {
        11 if rng.chance(200) => Fault::StuckDisk {
            who: cast.node(rng),
        },
        11 => Fault::SlowDisk {
            who: cast.node(rng),
            late_ms_max: rng.log_between(5, 2_000),
        },
        12 => Fault::FullDisk {
            who: cast.node(rng),
        },
        20 => Fault::FailingDisk {
            who: cast.node(rng),
        },
        _ => Fault::CorruptRecord {
            who: cast.node(rng),
        },
    }
}

fn topology_trouble(rng: &mut Rng) -> Fault {
    match rng.chance(700) {
        true => Fault::MetadataFailover {
            lost_ms: rng.log_between(100, 4_000),
        },
        false => Fault::RollingRestart {
            pause_ms: rng.log_between(1, 500),
        },
    }
}

fn store_trouble(rng: &mut Rng) -> Fault {
    match rng.below(6) {
        0 => Fault::ForgetClaims,
        1 => Fault::Impatience {
            after_ms_max: rng.log_between(2, 500),
        },
        // All the time: the store is down.
        2 => Fault::StoreTrouble {
            who: rng.pick(&[Endpoint::Metadata, Endpoint::Idempotency]),
            permille: 1_000,
        },
        _ => Fault::StoreTrouble {
            who: rng.pick(&[Endpoint::Metadata, Endpoint::Idempotency]),
            permille: rng.log_between(50, 1_000) as u32,
        },
    }
}

/// Over any message, or over one of those that decide something.
fn crash_on(rng: &mut Rng, storage: &[Endpoint], coordinators: &[Endpoint]) -> Fault {
    let who = match rng.chance(700) {
        true => rng.pick(coordinators),
        false => rng.pick(storage),
    };
    let peer = match who {
        Endpoint::Coordinator(_) if rng.chance(400) => Some(Endpoint::Idempotency),
        Endpoint::Coordinator(_) if rng.chance(300) => Some(rng.pick(storage)),
        _ => None,
    };
    Fault::CrashOn {
        who,
        peer,
        count: rng.log_between(1, 200) as u32,
    }
}

fn flapping(rng: &mut Rng, partition: Fault) -> Fault {
    match partition {
        Fault::Partition {
            from,
            to,
            both_ways,
            refused,
        } if rng.chance(500) => Fault::Flapping {
            from,
            to,
            both_ways,
            refused,
            down_ms: rng.log_between(5, 1_000),
            up_ms: rng.log_between(5, 1_000),
        },
        other => other,
    }
}

fn partition(rng: &mut Rng, world: &World, processes: &[Endpoint]) -> Fault {
    if rng.chance(250) {
        return bridged(rng, processes);
    }
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

/// Two halves that don't see each other, and some in between whom both see.
fn bridged(rng: &mut Rng, processes: &[Endpoint]) -> Fault {
    let mut all = rng.sample(processes, processes.len());
    let bridges = rng.between(1, 2) as usize;
    all.truncate(all.len() - bridges);
    let from = all.split_off(all.len() / 2);
    Fault::Partition {
        from,
        to: all,
        both_ways: true,
        refused: rng.chance(400),
    }
}
