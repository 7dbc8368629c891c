//! Promise 13: with a majority of a key's owners well and reachable from a coordinator, quorum operations on it succeed
//! within a reasonable deadline.
//!
//! Judged are first attempts at ONE or QUORUM that were answered with a failure although the weather was fair for the
//! whole time and some while before: the coordinator, both stores and more than half of the key's owners served,
//! undisturbed, and linked both ways; while owners change, of the old ones and of the new ones, by each topology that
//! was in force at some time meanwhile. A reasonable deadline leaves room for every round trip at its slowest, and for
//! the patience with owners that don't answer. What may fail all the same, [`excuse`] says.
//!
//! That one slow owner does not slow reads to its own pace is a test of its own, by percentiles.

use std::time::Duration;

use pairdb::buggify::Site;
use pairdb::quorum::{ConflictPolicy, Consistency};

use super::findings::Findings;
use super::idempotent_request::is_shared;
use crate::endpoint::Endpoint;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::{Kind, Op, Time};
use crate::reign::{OwnersOf, Reign};

/// For so long the weather must have been fair before an operation begins: what it left behind has gone by then.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// Round trips, commits included, on the longest way of a read: tenant, read, topology, read again, one more, repair.
const READ_STEPS_MAX: u32 = 6;
/// On that of a write: tenant, stamp, topology, stamp again, raise, join, stamp above, join.
const WRITE_STEPS_MAX: u32 = 9;
/// What an idempotency key adds: a read and its repair for the stamp, claim, answer kept.
const CLAIM_STEPS_MAX: u32 = 6;
/// A queue shorter than this refuses what a few clients ask for at once.
const QUEUE_MIN: usize = 64;
/// What a sibling has at most beside the padding of its value: names, numbers and its place in the record.
const BESIDE_PADDING_BYTES: usize = 128;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for op in evidence.run.ops.values() {
        let failed = op.attempts == 1 && op.answers.len() == 1 && op.success().is_none();
        let failed = failed && op.consistency != Consistency::All;
        let Some(answer) = op.answers.first().filter(|_| failed) else {
            continue;
        };
        if evidence.timeout(op) >= reasonable(evidence, op) && was_fair(evidence, op, answer.at) {
            let excuse = excuse(evidence, op, answer.at);
            let what = format!(
                "#{} failed, with a majority of its owners well and reachable",
                op.id.0
            );
            findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
        }
    }
}

/// Why an operation may fail although a majority of its owners is well and reachable.
fn excuse(evidence: &Evidence, op: &Op, until: Time) -> Option<Excuse> {
    let world = &evidence.run.world;
    let last_write_wins = evidence.policy(op.tenant) == ConflictPolicy::LastWriteWins;
    let brings_nothing = op.given.is_none() || last_write_wins && op.kind != Kind::Read;
    let reachable = brings_nothing || op.kind != Kind::Read && is_held_by_a_quorum(evidence, op);
    let has_room = last_write_wins || op.kind == Kind::Read || has_room(evidence, op);
    let told_over = !last_write_wins && is_told_over(evidence, op);
    let misused = op.idempotent && (op.key_of.is_some() || is_shared(evidence, op));
    let tiny = world.replica.queue_max < QUEUE_MIN
        || world.transport.in_flight_max < QUEUE_MIN
        || world.coordinator.in_flight_max < QUEUE_MIN;
    let mut sites = world.buggify.iter();
    [
        (!reachable, Excuse::FloorNotHeld),
        (!has_room, Excuse::NoRoom),
        (told_over, Excuse::MayBeOver),
        (misused, Excuse::MisusedKey),
        (looks_lost(evidence, op, until), Excuse::LooksLost),
        (tiny, Excuse::TinyQueues),
        (
            sites.any(|plan| is_in_the_way(plan.site)),
            Excuse::RareMadeCommon,
        ),
    ]
    .into_iter()
    .find_map(|(excused, excuse)| excused.then_some(excuse))
}

/// Whether an owner said of this write that an attempt of it may have been overwritten and forgotten.
fn is_told_over(evidence: &Evidence, op: &Op) -> bool {
    let seen = &evidence.run.seen;
    let tenant = &evidence.run.world.tenants[op.tenant].name;
    let mut deletes = seen.deletes_told_over.iter();
    seen.told_over.contains(&op.id)
        || op.kind == Kind::Delete
            && deletes.any(|key| key.tenant() == tenant && key.key() == op.key)
}

/// Whether what a site does makes requests fail, or take longer than anybody waits.
const fn is_in_the_way(site: Site) -> bool {
    match site {
        Site::QueueFull
        | Site::PauseBeforeStamp
        | Site::PauseBeforeJoin
        | Site::PauseBeforeSettle
        | Site::PauseAfterClaim
        | Site::PauseBeforeComplete
        | Site::PauseBeforeRead
        | Site::PauseBeforeCommit => true,
        Site::WorstOwnerFirst
        | Site::StampImpatience
        | Site::HedgeAtOnce
        | Site::AnswerNotStored
        | Site::RepairQueueFull
        | Site::RepairRetriedAtOnce
        | Site::PauseBeforePurge
        | Site::PauseBeforeCopy
        | Site::FewPartitionsMove
        | Site::PauseBeforeStep
        | Site::PauseBeforeRepair
        | Site::TenantExpired
        | Site::TopologyRefreshed
        | Site::BatchOfOne
        | Site::CountersOneByOne
        | Site::RecentForgotten => false,
    }
}

/// Whether what the operation's context covers is held by a quorum of owners, none of whom lost anything: then an owner
/// that lacks it is brought up by any majority. A context is known to be that of a quorum where its operation, and
/// those whose contexts that one had, waited for one.
fn is_held_by_a_quorum(evidence: &Evidence, op: &Op) -> bool {
    let mut given = op.given;
    while let Some(before) = given.and_then(|id| evidence.run.ops.get(&id)) {
        if before.consistency == Consistency::One {
            return false;
        }
        given = match before.kind {
            Kind::Read => None,
            Kind::Write | Kind::Delete => before.given,
        };
    }
    let owners = evidence.owners_ever(op.tenant, &op.key);
    let mut losses = evidence.run.seen.losses.iter();
    let lost = losses.any(|loss| {
        let of_other = loss.of.as_ref().is_some_and(|of| of.key() != op.key);
        owners.contains(&loss.who) && !of_other
    });
    !lost && !evidence.run.world.changes_owners()
}

/// Whether all values ever written to the key could stand beside one more. Nobody is shown a delete, so none takes
/// room.
fn has_room(evidence: &Evidence, op: &Op) -> bool {
    let writes = evidence.ops_of(op.tenant, &op.key);
    let writes = writes.filter(|op| op.kind == Kind::Write).count();
    let clients = evidence.run.world.clients.iter();
    let padding = clients.map(|client| client.padding_max as usize).max();
    // Every owner may have stamped each of them.
    let bytes = (padding.unwrap_or_default() + BESIDE_PADDING_BYTES)
        * writes
        * evidence.owners_ever(op.tenant, &op.key).len();
    let replica = &evidence.run.world.replica;
    writes < replica.siblings_max && bytes <= replica.siblings_bytes_max
}

fn was_fair(evidence: &Evidence, op: &Op, until: Time) -> bool {
    let (world, weather) = (&evidence.run.world, &evidence.run.weather);
    let Some(coordinator) = op.last_to else {
        return false;
    };
    let Some(from) = op.invoked.checked_sub(SETTLED_AFTER.as_nanos() as u64) else {
        return false;
    };
    let reaches = |who: Endpoint| {
        weather.is_well(world, who, from, until)
            && weather.are_linked(world, coordinator, who, from, until)
    };
    let needed = [Endpoint::Metadata, Endpoint::Idempotency];
    weather.is_fair(world, from, until)
        && weather.is_well(world, coordinator, from, until)
        && needed.into_iter().all(reaches)
        && has_quorums(evidence, op, (from, until), reaches)
}

/// Whether a quorum of each set of owners that counted at some time is reached.
fn has_quorums(
    evidence: &Evidence,
    op: &Op,
    (from, until): (Time, Time),
    reaches: impl Fn(Endpoint) -> bool,
) -> bool {
    let world = &evidence.run.world;
    let owners = evidence.owners(op.tenant, &op.key);
    let well = owners.iter().filter(|owner| reaches(**owner)).count();
    if evidence.run.reigns.is_empty() {
        return well > owners.len() / 2;
    }
    let name = &world.tenants[op.tenant].name;
    let mut reigns = evidence.reigns(from, until);
    reigns.all(|reign| {
        let tree = reign.record_key(name, &op.key).tree();
        let sets = reign.sets(&tree);
        let has_quorum = |set: &OwnersOf| {
            let well = set.nodes.iter().filter(|owner| reaches(**owner)).count();
            well >= set.quorum
        };
        sets.iter().all(has_quorum)
    })
}

/// Whether a request to an owner may have been refused when it arrived the second time, which looks as if the owner had
/// failed: of a partition that has stepped meanwhile.
fn looks_lost(evidence: &Evidence, op: &Op, until: Time) -> bool {
    let world = &evidence.run.world;
    let from = op.invoked.saturating_sub(SETTLED_AFTER.as_nanos() as u64);
    let name = &world.tenants[op.tenant].name;
    let mut reigns = evidence.reigns(from, until);
    world.network.duplicate_permille > 0
        && reigns.any(|reign| {
            let partition = reign.record_key(name, &op.key).partition();
            reign.since >= from && reign.has_stepped(partition)
        })
}

/// How long an operation takes at most with a majority of its owners well.
fn reasonable(evidence: &Evidence, op: &Op) -> Duration {
    let world = &evidence.run.world;
    let step = slowest_step(evidence);
    let asked = op.last_to.unwrap_or(Endpoint::Coordinator(1));
    let settings = world.coordinator_settings(asked);
    let patience = (step * 4)
        .max(settings.stamp_patience_min)
        .max(settings.hedge_delay_min);
    let absent = evidence.most_factor(op.tenant) as u32 / 2;
    let steps = match op.kind {
        Kind::Read => READ_STEPS_MAX,
        _ if op.idempotent => WRITE_STEPS_MAX + CLAIM_STEPS_MAX,
        _ => WRITE_STEPS_MAX,
    };
    // An owner whose partition has just stepped refuses what was routed before, and all begins anew; who is absent may
    // be of the old owners and of the new ones.
    let until = op.invoked + evidence.timeout(op).as_nanos() as Time;
    let changes = evidence.reigns(op.invoked, until).any(Reign::changes);
    (step * steps + patience * absent) * if changes { 2 } else { 1 }
}

/// How long a round trip takes at most, with a commit at its end.
pub(super) fn slowest_step(evidence: &Evidence) -> Duration {
    let world = &evidence.run.world;
    let late = match world.network.straggler_permille {
        0 => 1,
        _ => 10,
    };
    let network = &world.network;
    let trip_us = 2 * (late * network.latency_us_max + network.link_spread_us);
    let trip = Duration::from_micros(trip_us);
    // What everybody sends at once waits for one another where batches are small.
    let waiting = 2 * world.clients.len() as u64 / world.replica.batch_max.max(1) as u64 + 1;
    let disk_us = (world.disk.commit_us_max + world.disk.read_us_max) * waiting;
    let timers_us = 2 * world.time.timers_late_us_max;
    trip + Duration::from_micros(disk_us + timers_us)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pairdb::buggify::Site;
    use pairdb::quorum::Consistency;

    use super::super::told::{Told, node};
    use super::QUEUE_MIN;
    use crate::endpoint::Endpoint;
    use crate::excuse::Excuse;
    use crate::op::OpId;
    use crate::reign;
    use crate::world::BuggifyPlan;

    /// A write is refused while these storage nodes serve.
    fn refused_with(nodes: &[u8]) -> Told {
        let mut told = Told::siblings();
        let weather = &mut told.run.weather;
        weather.serves(Endpoint::Coordinator(1), 0);
        nodes
            .iter()
            .for_each(|number| weather.serves(node(*number), 0));
        told.write().refused();
        told.with(|world| world.clients[0].timeout_ms = 5_000)
    }

    #[test]
    fn a_write_may_fail_without_a_majority_of_its_owners() {
        refused_with(&[1]).keeps_all();
    }

    #[test]
    fn a_write_may_not_fail_with_a_majority_of_its_owners() {
        let what = "#1 failed, with a majority of its owners well and reachable";
        refused_with(&[1, 2]).breaks("availability", &[what]);
    }

    /// A write that brings the context of one at this consistency is refused while a majority serves.
    fn refused_knowing(consistency: Consistency) -> Told {
        let mut told = Told::siblings();
        told.run.weather.serves(Endpoint::Coordinator(1), 0);
        (1..=2).for_each(|number| told.run.weather.serves(node(number), 0));
        let known = told.write().at(consistency).acknowledged();
        told.write().knowing(known).refused();
        let told = told.owners_hold(&[known]);
        told.with(|world| world.clients[0].timeout_ms = 5_000)
    }

    #[test]
    fn a_write_may_fail_whose_context_one_owner_has() {
        refused_knowing(Consistency::One).needs(Excuse::FloorNotHeld);
    }

    #[test]
    fn a_write_may_not_fail_whose_context_a_quorum_has() {
        let what = "#2 failed, with a majority of its owners well and reachable";
        refused_knowing(Consistency::Quorum).breaks("availability", &[what]);
    }

    #[test]
    fn a_write_may_fail_for_which_there_is_no_room() {
        let told = refused_with(&[1, 2]).with(|world| world.replica.siblings_max = 1);
        told.needs(Excuse::NoRoom);
        let told = refused_with(&[1, 2]).with(|world| world.replica.queue_max = QUEUE_MIN - 1);
        told.needs(Excuse::TinyQueues);
    }

    #[test]
    fn a_write_may_fail_that_an_owner_can_t_tell_from_an_overwritten_one() {
        let mut told = refused_with(&[1, 2]);
        told.run.seen.told_over.insert(OpId(1));
        told.needs(Excuse::MayBeOver);
    }

    #[test]
    fn a_write_may_fail_where_its_way_is_made_hard_and_only_there() {
        let with = |site| {
            let plan = BuggifyPlan {
                site,
                permille: 100,
            };
            refused_with(&[1, 2]).with(|world| world.buggify = vec![plan])
        };
        with(Site::QueueFull).needs(Excuse::RareMadeCommon);
        let what = "#1 failed, with a majority of its owners well and reachable";
        with(Site::HedgeAtOnce).breaks("availability", &[what]);
    }

    /// The key's only partition is copied, from the first three nodes to the last three of four.
    fn refused_while_copying(nodes: &[u8]) -> Told {
        refused_while_copied_since(20, nodes)
    }

    fn refused_while_copied_since(since_ms: u64, nodes: &[u8]) -> Told {
        let mut told = refused_with(nodes);
        let world = reign::tests::world();
        let first = reign::tests::founded(&world);
        let plan = reign::tests::replacing(node(1), node(4), false);
        let waiting = reign::tests::begun(&world, &first, &plan, 10);
        let copying = reign::tests::stepped(&waiting, since_ms);
        told.run.reigns = [first, waiting, copying].map(Arc::new).into();
        told
    }

    #[test]
    fn while_a_partition_is_copied_a_majority_of_both_owners_is_needed() {
        refused_while_copying(&[1, 2]).keeps_all();
        refused_while_copying(&[1, 4]).keeps_all();

        let what = "#1 failed, with a majority of its owners well and reachable";
        refused_while_copying(&[2, 3]).breaks("availability", &[what]);
        refused_while_copying(&[1, 2, 4]).breaks("availability", &[what]);
    }

    #[test]
    fn a_request_that_arrives_twice_around_a_step_looks_lost() {
        let beginning = refused_with(&[]).run.ops[&OpId(1)].invoked;
        let told = refused_while_copied_since(beginning / 1_000_000, &[1, 2, 4]);
        let what = "#1 failed, with a majority of its owners well and reachable";
        told.clone().breaks("availability", &[what]);
        let told = told.with(|world| world.network.duplicate_permille = 100);
        told.needs(Excuse::LooksLost);
    }
}
