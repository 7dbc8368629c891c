//! What follows from a recorded run: what clients knew, which writes overwrote which, what must be held by whom.
//!
//! The model is the clients': a client *knows* the writes it was shown, a write *follows* those its client knew and
//! gave the context of, and all that those follow. A write that another one follows was overwritten knowingly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use pairdb::coordinator::IdempotencyOutage;
use pairdb::placement::{Epoch, Token};
use pairdb::quorum::{ConflictPolicy, Consistency};
use pairdb::version::{Context, Dot, Record, Stamp};

use crate::endpoint::Endpoint;
use crate::excuse::Excuse;
use crate::op::{Answered, Kind, Op, OpId, Time};
use crate::recorded::Recorded;
use crate::reign::Reign;
use crate::seen::Sighting;
use crate::value;
use crate::world::TenantPlan;

/// A run, and what follows from it.
pub struct Evidence {
    /// The run.
    pub run: Recorded,
    /// For each write and delete all the writes it follows.
    follows: BTreeMap<OpId, BTreeSet<OpId>>,
    /// The same the other way round.
    followers: BTreeMap<OpId, BTreeSet<OpId>>,
    dots: BTreeMap<OpId, BTreeSet<Dot>>,
    /// What each read showed: to find a value's write takes making the value again.
    shown: BTreeMap<OpId, Vec<(OpId, Stamp)>>,
    /// For each write and delete that brought a context the greatest stamp that the context covers.
    covered_stamps: BTreeMap<OpId, Stamp>,
    /// For each tenant every replication factor that it had, or was to have.
    factors: Vec<BTreeSet<usize>>,
}

/// A write that so many owners are known to hold since some time: it was acknowledged, or a read showed it.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// The write or delete.
    pub write: OpId,
    /// Since when, for those who begin later.
    pub since: Time,
    /// By how many owners, as a consistency.
    pub owners: Consistency,
    /// Its stamp at that time, where it counts and is known.
    pub stamp: Option<Stamp>,
    /// Who says so: the write itself, or a read.
    pub source: OpId,
    /// Why it may be missed all the same.
    pub excuse: Option<Excuse>,
}

/// How certain it is that a write was overwritten knowingly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Overwritten {
    /// A delete that was not answered may have done so.
    Perhaps,
    /// It was.
    Certainly,
}

impl Evidence {
    /// What follows from a run.
    #[must_use]
    pub fn of(run: Recorded) -> Self {
        let mut evidence = Self {
            dots: run.seen.dots_of_ops(),
            factors: run
                .world
                .tenants
                .iter()
                .map(|it| factors(&run, it))
                .collect(),
            run,
            shown: BTreeMap::new(),
            follows: BTreeMap::new(),
            followers: BTreeMap::new(),
            covered_stamps: BTreeMap::new(),
        };
        let reads = evidence.run.ops.values().filter(|op| op.kind == Kind::Read);
        evidence.shown = reads.map(|op| (op.id, evidence.find_shown(op))).collect();
        evidence.covered_stamps = evidence.find_covered_stamps();
        let writes: Vec<OpId> = evidence
            .run
            .ops
            .values()
            .filter(|op| op.kind != Kind::Read)
            .map(|op| op.id)
            .collect();
        for id in writes {
            let mut follows = BTreeSet::new();
            if let Some(given) = evidence.run.ops[&id].given {
                for known in evidence.known(given) {
                    follows.insert(known);
                    // A context is given after it was received, so all it shows has been dealt with here.
                    follows.extend(evidence.follows.get(&known).into_iter().flatten());
                }
            }
            for earlier in &follows {
                evidence.followers.entry(*earlier).or_default().insert(id);
            }
            evidence.follows.insert(id, follows);
        }
        evidence
    }

    fn find_covered_stamps(&self) -> BTreeMap<OpId, Stamp> {
        let mut versions: BTreeMap<(&str, &str), Vec<(Dot, Stamp)>> = BTreeMap::new();
        for (dot, version) in &self.run.seen.versions {
            let place = (version.key.tenant(), version.key.key());
            versions
                .entry(place)
                .or_default()
                .push((*dot, version.stamp));
        }
        let brought = self
            .run
            .ops
            .values()
            .filter(|op| op.kind != Kind::Read && op.given.is_some());
        let covered = brought.filter_map(|op| {
            let tenant = self.run.world.tenants[op.tenant].name.as_str();
            let token = Token::of_key(tenant, &op.key).0;
            let context = Context::decode(&op.context, token).ok()?;
            let versions = versions.get(&(tenant, op.key.as_str()))?.iter();
            let covered = versions.filter(|(dot, _)| context.covers(*dot));
            Some((op.id, covered.map(|(_, stamp)| *stamp).max()?))
        });
        covered.collect()
    }

    /// The writes and deletes under `last_write_wins` whose context covered a version with this stamp or a greater one:
    /// they overwrote it knowingly, or what had won over it.
    pub fn outrankers(
        &self,
        tenant: usize,
        key: &str,
        stamp: Stamp,
        until: Time,
    ) -> impl Iterator<Item = &Op> {
        self.ops_of(tenant, key).filter(move |op| {
            let covered = self.covered_stamps.get(&op.id);
            covered.is_some_and(|covered| *covered >= stamp)
                && op.invoked < until
                && op.may_have_happened()
        })
    }

    /// What a client knows who has the answer of `id`.
    #[must_use]
    pub fn known(&self, id: OpId) -> BTreeSet<OpId> {
        let mut known = BTreeSet::new();
        let mut next = Some(id);
        while let Some(op) = next.and_then(|id| self.run.ops.get(&id)) {
            if op.kind == Kind::Read {
                known.extend(self.shown(op));
                break;
            }
            known.insert(op.id);
            next = op.given;
        }
        known
    }

    /// The writes whose values a read returned; values of no write are left to [`crate::invariants`].
    #[must_use]
    pub fn shown(&self, read: &Op) -> BTreeSet<OpId> {
        self.shown_with_stamps(read)
            .iter()
            .map(|(op, _)| *op)
            .collect()
    }

    /// The same with the stamps that the answer gave.
    #[must_use]
    pub fn shown_with_stamps(&self, read: &Op) -> &[(OpId, Stamp)] {
        self.shown.get(&read.id).map_or(&[], Vec::as_slice)
    }

    fn find_shown(&self, read: &Op) -> Vec<(OpId, Stamp)> {
        let Some(Answered::Found { values, .. }) = read.success().map(|a| &a.result) else {
            return Vec::new();
        };
        let tenant = &self.run.world.tenants[read.tenant].name;
        let parse = |value: &Bytes| value::parse(tenant, &read.key, value);
        values
            .iter()
            .filter_map(|(value, stamp)| Some((parse(value)?, *stamp)))
            .filter(|(op, _)| self.run.ops.contains_key(op))
            .collect()
    }

    /// Whether `later`'s client knew of `earlier`, directly or through others.
    #[must_use]
    pub fn follows(&self, later: OpId, earlier: OpId) -> bool {
        self.follows
            .get(&later)
            .is_some_and(|follows| follows.contains(&earlier))
    }

    /// All writes that `write` follows.
    #[must_use]
    pub fn followed_by(&self, write: OpId) -> &BTreeSet<OpId> {
        static NONE: BTreeSet<OpId> = BTreeSet::new();
        self.follows.get(&write).unwrap_or(&NONE)
    }

    /// The writes and deletes that overwrote `write` knowingly, and may have had an effect before `until`.
    pub fn overwriters(&self, write: OpId, until: Time) -> impl Iterator<Item = &Op> {
        let followers = self.followers.get(&write).into_iter().flatten();
        followers
            .filter_map(|id| self.run.ops.get(id))
            .filter(move |op| op.invoked < until && op.may_have_happened())
    }

    /// Whether `write` was overwritten knowingly, and whether that is certain. (What no node ever said to hold, the
    /// last of them asked in the end, can't have overwritten anything.)
    #[must_use]
    pub fn overwritten(&self, write: OpId) -> Option<Overwritten> {
        let overwriters = self.overwriters(write, Time::MAX);
        let overwriters = overwriters.filter_map(|op| match op.kind {
            _ if op.success().is_some() || !self.dots(op.id).is_empty() => {
                Some(Overwritten::Certainly)
            }
            Kind::Delete => Some(Overwritten::Perhaps),
            Kind::Write | Kind::Read => None,
        });
        overwriters.max()
    }

    /// A tenant's least replication factor.
    #[must_use]
    pub fn least_factor(&self, tenant: usize) -> usize {
        self.factors[tenant].first().copied().unwrap_or(1)
    }

    /// A tenant's greatest replication factor.
    #[must_use]
    pub fn most_factor(&self, tenant: usize) -> usize {
        self.factors[tenant].last().copied().unwrap_or(1)
    }

    /// A tenant's conflict policy.
    #[must_use]
    pub fn policy(&self, tenant: usize) -> ConflictPolicy {
        self.run.world.tenants[tenant].conflict_policy
    }

    /// Whether owners that answered one and owners that answered the other have one in common, whatever the tenant's
    /// factor was. (Where they change in between, the new owners hold what any old one held.)
    #[must_use]
    pub fn meet(&self, tenant: usize, some: Consistency, others: Consistency) -> bool {
        let meet = |factor: &usize| required(some, *factor) + required(others, *factor) > *factor;
        self.factors[tenant].iter().all(meet)
    }

    /// Who ever owned a key, of the old and of the new owners while they changed; nobody if it is no key of the world.
    #[must_use]
    pub fn owners_ever(&self, tenant: usize, key: &str) -> BTreeSet<Endpoint> {
        let mut owners: BTreeSet<Endpoint> = self.owners(tenant, key).into_iter().collect();
        if owners.is_empty() {
            return owners;
        }
        let name = &self.run.world.tenants[tenant].name;
        for reign in &self.run.reigns {
            owners.extend(reign.owners(&reign.record_key(name, key).tree()));
        }
        owners
    }

    /// The topologies that were in force at some time from `from` to `to`, the oldest first.
    pub fn reigns(&self, from: Time, to: Time) -> impl Iterator<Item = &Reign> {
        let reigns = &self.run.reigns;
        let ends = reigns.iter().skip(1).map(|next| next.since);
        let ends = ends.chain([Time::MAX]);
        let during = reigns.iter().zip(ends);
        during
            .filter(move |(reign, end)| reign.since <= to && *end >= from)
            .map(|(reign, _)| &**reign)
    }

    /// The topologies that were published as this epoch.
    pub fn reigns_of(&self, epoch: Epoch) -> impl Iterator<Item = &Reign> {
        let reigns = self.run.reigns.iter().map(|reign| &**reign);
        reigns.filter(move |reign| reign.placement.topology().epoch == epoch)
    }

    /// The number of a tenant of this name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<usize> {
        let mut tenants = self.run.world.tenants.iter();
        tenants.position(|tenant| tenant.name == name)
    }

    /// Who owns a key in the end; nobody if it is no key of the world.
    #[must_use]
    pub fn owners(&self, tenant: usize, key: &str) -> Vec<Endpoint> {
        let last = self.run.finals.iter();
        let last = last.filter(|last| last.tenant == tenant && last.key == key);
        last.flat_map(|last| last.records.iter().map(|(who, _)| *who))
            .collect()
    }

    /// How long an operation of one of the world's clients could take: what it asked for, capped by the coordinators.
    #[must_use]
    pub fn timeout(&self, op: &Op) -> Duration {
        let plan = usize::from(op.client).checked_sub(1);
        let plan = plan.and_then(|index| self.run.world.clients.get(index));
        let asked = plan.map_or(Duration::ZERO, |plan| {
            Duration::from_millis(plan.timeout_ms)
        });
        let asked_last = op.last_to.unwrap_or(Endpoint::Coordinator(1));
        let settings = self.run.world.coordinator_settings(asked_last);
        asked.min(match op.kind {
            Kind::Read => settings.read_timeout,
            Kind::Write | Kind::Delete => settings.write_timeout,
        })
    }

    /// The longest time that any coordinator gives an operation.
    #[must_use]
    pub fn longest_timeout(&self, op: &Op) -> Duration {
        let world = &self.run.world;
        let coordinators = world.coordinators().into_iter();
        let timeouts = coordinators.map(|who| {
            let op = Op {
                last_to: Some(who),
                ..op.clone()
            };
            self.timeout(&op)
        });
        timeouts.max().unwrap_or_default()
    }

    /// The operations on one key.
    pub fn ops_of(&self, tenant: usize, key: &str) -> impl Iterator<Item = &Op> {
        self.run
            .ops
            .values()
            .filter(move |op| op.tenant == tenant && op.key == key)
    }

    /// Every tenant and key.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &str)> {
        self.run
            .finals
            .iter()
            .map(|last| (last.tenant, last.key.as_str()))
    }

    /// What all owners together hold in the end, and what they purged.
    #[must_use]
    pub fn final_record(&self, tenant: usize, key: &str) -> Record {
        let last = self
            .run
            .finals
            .iter()
            .find(|last| last.tenant == tenant && last.key == key);
        let records = last.into_iter().flat_map(|last| &last.records);
        let held = records
            .filter_map(|(_, record)| Record::decode(record.as_ref().ok()?.clone()).ok())
            .fold(Record::default(), |all, record| all.join(&record));
        let name = &self.run.world.tenants[tenant].name;
        let purged = self.run.seen.purged.iter();
        purged
            .filter(|(purged, _)| purged.tenant() == name && purged.key() == key)
            .fold(held, |all, (_, purged)| all.join(purged))
    }

    /// The write of a version's value.
    #[must_use]
    pub fn writer(&self, tenant: usize, key: &str, value: &[u8]) -> Option<OpId> {
        value::parse(&self.run.world.tenants[tenant].name, key, value)
    }

    /// The dots that a write is known to have had.
    #[must_use]
    pub fn dots(&self, write: OpId) -> &BTreeSet<Dot> {
        static NONE: BTreeSet<Dot> = BTreeSet::new();
        self.dots.get(&write).unwrap_or(&NONE)
    }

    /// Whether one operation may have become several writes: an attempt was made that no claim held back, or that comes
    /// up after its write was overwritten and forgotten.
    #[must_use]
    pub fn may_be_remade(&self, write: OpId) -> Option<Excuse> {
        let op = self.run.ops.get(&write);
        let degrades = self.run.world.coordinator.idempotency_outage == IdempotencyOutage::Degrade;
        let unclaimed = op.is_some_and(|op| op.may_be_remade(degrades));
        let forgotten = || {
            self.was_forgotten(write)
                .then_some(Excuse::ForgottenAttempt)
        };
        unclaimed
            .then_some(Excuse::UnclaimedAttempt)
            .or_else(forgotten)
    }

    /// Whether a write was attempted at several owners, and some record of its key remembers no overwritten writes of
    /// its age by name any more: an attempt that comes up only then can't be told from a new write. (Whether it was
    /// overwritten before, nobody can tell once its name is forgotten.)
    fn was_forgotten(&self, write: OpId) -> bool {
        let attempts = self.dots(write).iter();
        let attempts: Vec<_> = attempts
            .filter_map(|dot| self.run.seen.versions.get(dot))
            .collect();
        let forgotten = |version: &&Sighting| {
            let forgotten = self.run.seen.forgotten.get(&version.key);
            forgotten.is_some_and(|forgotten| version.stamp <= *forgotten)
        };
        attempts.len() > 1 && attempts.iter().any(forgotten)
    }

    /// When a write's effect was over: when it was acknowledged, unless it may be made anew.
    #[must_use]
    pub fn settled(&self, op: &Op) -> Option<Time> {
        op.completed()
            .filter(|_| self.may_be_remade(op.id).is_none())
    }

    /// The greatest stamp that a write had up to `until`.
    #[must_use]
    pub fn stamp(&self, write: OpId, until: Time) -> Option<Stamp> {
        let versions = self
            .dots(write)
            .iter()
            .filter_map(|dot| self.run.seen.versions.get(dot));
        versions
            .filter(|version| version.at <= until)
            .map(|version| version.stamp)
            .max()
    }

    /// Every stamp that a write of a value is known to have had.
    #[must_use]
    pub fn stamps(&self, write: OpId) -> BTreeSet<Stamp> {
        let dots = self.dots(write).iter();
        dots.filter_map(|dot| Some(self.run.seen.versions.get(dot)?.stamp))
            .collect()
    }

    /// Whether a write was given a greater stamp while an owner that was asked under a smaller one was silent: then
    /// nobody could know whether it was seen before, and it may have taken effect twice.
    #[must_use]
    pub fn was_raised_unheard(&self, write: OpId) -> bool {
        let versions = self.dots(write).iter();
        let mut versions = versions.filter_map(|dot| self.run.seen.versions.get(dot));
        versions.any(|version| self.run.seen.attempts.was_raised_unheard(version.write_id))
    }

    /// Whether one delete of a key is known to have had two stamps. Nobody can tell which.
    #[must_use]
    pub fn a_tombstone_was_stamped_twice(&self, tenant: usize, key: &str) -> bool {
        let name = self.run.world.tenants[tenant].name.as_str();
        let mut stamps = BTreeMap::new();
        let tombstones = self.run.seen.versions.values().filter(|version| {
            version.content.is_none() && version.key.key() == key && version.key.tenant() == name
        });
        tombstones.into_iter().any(|version| {
            *stamps.entry(version.write_id).or_insert(version.stamp) != version.stamp
        })
    }

    /// Whether every node that ever held `write` has lost something since: then it may be gone for good.
    #[must_use]
    pub fn may_be_gone(&self, write: OpId) -> Option<Excuse> {
        self.holders_lost(write, Time::MAX)
    }

    /// Whether every node that held `write` up to `until` has lost something since.
    fn holders_lost(&self, write: OpId, until: Time) -> Option<Excuse> {
        let mut dots = self.dots(write).iter();
        if dots.len() == 0 {
            let unknown = self.all_may_have_lost(write);
            return unknown.then_some(Excuse::DeleteHoldersUnknown);
        }
        let lost = dots.all(|dot| self.run.seen.may_be_lost(*dot, until));
        lost.then_some(Excuse::HoldersLost)
    }

    /// Whether a quorum may rightly miss `write`, which was complete at `since`.
    ///
    /// A node that lost its disk, or commits that it had answered, counts for no quorum before it has got back what the
    /// others hold. So it may only if all who held the write lost something.
    #[must_use]
    pub fn is_weakened(&self, write: OpId, since: Time) -> Option<Excuse> {
        let sole = self.sole_reader_lost(write, since);
        let sole = sole.then_some(Excuse::SoleOwnerLost);
        let lost = sole.or_else(|| self.holders_lost(write, since));
        lost.or_else(|| self.a_holder_went_back(write, since))
    }

    /// Whether one of those who held `write` by `since` went back to an earlier state after that. It is counted among
    /// the owners of a quorum, and may not have it.
    fn a_holder_went_back(&self, write: OpId, since: Time) -> Option<Excuse> {
        let seen = &self.run.seen;
        let holders = self
            .dots(write)
            .iter()
            .filter_map(|dot| seen.holders.get(dot));
        let mut holders = holders.flatten();
        let went_back = |who: Endpoint, held: Time| {
            let mut disks = seen.old_disks.iter();
            disks.any(|(node, at)| *node == who && *at >= held)
        };
        let any = holders.any(|(who, at)| *at <= since && went_back(*who, *at));
        any.then_some(Excuse::OldDisk)
    }

    /// Whether a key's only owner lost something while the key was copied from it, after `since`. The new owner may
    /// have what it lost, and the old one alone is read: it is seen again only when it was copied back.
    fn sole_reader_lost(&self, op: OpId, since: Time) -> bool {
        let Some(op) = self.run.ops.get(&op) else {
            return false;
        };
        let name = &self.run.world.tenants[op.tenant].name;
        let mut losses = self.run.seen.losses.iter();
        losses.any(|loss| {
            let of_key = loss.of.as_ref().is_none_or(|of| of.key() == op.key);
            let alone = |reign: &Reign| {
                let tree = reign.record_key(name, &op.key).tree();
                reign.sets(&tree).len() > 1 && reign.readers(&tree) == [loss.who]
            };
            loss.at >= since && of_key && self.reigns(loss.at, loss.at).any(alone)
        })
    }

    /// Whether as many owners of an operation's key as acknowledged it may have lost it, where nobody can tell which
    /// these were, as with deletes: whose a tombstone is it does not say.
    fn all_may_have_lost(&self, op: OpId) -> bool {
        let op = self.run.ops.get(&op);
        let Some(op) = op.filter(|_| !self.run.seen.losses.is_empty()) else {
            return false;
        };
        let owners = self.owners_ever(op.tenant, &op.key);
        let mut losers = BTreeSet::new();
        for loss in &self.run.seen.losses {
            let of_other = loss.of.as_ref().is_some_and(|of| of.key() != op.key);
            // Who was given up may have gone on for a while, and nothing of that comes back.
            let since = loss.at >= op.invoked || self.run.seen.lost_for_good().contains(&loss.who);
            if owners.contains(&loss.who) && !of_other && since {
                losers.insert(loss.who);
            }
        }
        losers.len() >= required(op.consistency, self.least_factor(op.tenant))
    }

    /// From when on a key's acknowledged writes may be missed: a second one of its owners lost something for good (one
    /// owner gives back what the other lost), or one went back to an earlier state and is counted all the same.
    #[must_use]
    pub fn may_be_missed_from(&self, tenant: usize, key: &str) -> (Time, Excuse) {
        let owners = self.owners_ever(tenant, key);
        let old = self.run.seen.old_disks.iter();
        let old = old.filter(|(who, _)| owners.contains(who));
        let old = old.map(|(_, at)| *at).min().unwrap_or(Time::MAX);
        let lost = self.may_be_lost_from(tenant, key, &owners);
        match old < lost {
            true => (old, Excuse::OldDisk),
            false => (lost, Excuse::SecondLoss),
        }
    }

    fn may_be_lost_from(&self, tenant: usize, key: &str, owners: &BTreeSet<Endpoint>) -> Time {
        let losses = self.run.seen.losses.iter().filter(|loss| {
            let of_other = loss.of.as_ref().is_some_and(|of| of.key() != key);
            owners.contains(&loss.who) && !of_other
        });
        let mut losses = losses.peekable();
        let first = match losses.peek() {
            Some(first) if self.least_factor(tenant) > 1 => first.who,
            Some(first) => return first.at,
            None => return Time::MAX,
        };
        let others = losses.filter(|loss| loss.who != first);
        others.map(|loss| loss.at).min().unwrap_or(Time::MAX)
    }

    /// What is known to be held, by the acknowledgements of writes and the answers of reads.
    #[must_use]
    pub fn facts(&self, tenant: usize, key: &str) -> Vec<Fact> {
        let mut facts = Vec::new();
        for op in self.ops_of(tenant, key) {
            let Some(since) = op.completed() else {
                continue;
            };
            let owners = op.consistency;
            let fact = |write, stamp| Fact {
                write,
                since,
                owners,
                stamp,
                source: op.id,
                excuse: self.is_weakened(write, since),
            };
            match op.kind {
                Kind::Write => facts.push(fact(op.id, self.stamp(op.id, since))),
                Kind::Delete => facts.push(fact(op.id, None)),
                Kind::Read => {
                    let shown = self.shown_with_stamps(op);
                    facts.extend(
                        shown
                            .iter()
                            .map(|(write, stamp)| fact(*write, Some(*stamp))),
                    );
                }
            }
        }
        facts
    }

    /// A key's name for people.
    #[must_use]
    pub fn name(&self, tenant: usize, key: &str) -> String {
        format!("{}/{key}", self.run.world.tenants[tenant].name)
    }
}

/// Every replication factor that a tenant had, or was to have.
fn factors(run: &Recorded, plan: &TenantPlan) -> BTreeSet<usize> {
    let mut factors = BTreeSet::from([plan.replication_factor]);
    for reign in &run.reigns {
        factors.extend(reign.factors.get(&plan.name));
        let change = reign.placement.topology().change.as_deref();
        let changes = change.and_then(|change| change.factor(&plan.name));
        factors.extend(changes.into_iter().flat_map(|it| [it.from, it.to]));
    }
    factors.into_iter().map(usize::from).collect()
}

/// How many owners have to answer. Written out here once more: the product's own function may be the one that is wrong.
#[must_use]
pub const fn required(consistency: Consistency, factor: usize) -> usize {
    match consistency {
        Consistency::One => 1,
        Consistency::Quorum => factor / 2 + 1,
        Consistency::All => factor,
    }
}
