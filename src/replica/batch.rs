//! A batch of changes, applied in memory.
//!
//! Each operation sees what those before it in the batch left, so operations on one key take effect one after the
//! other. Nothing of it is anybody else's before the batch is durable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::ReplicaSettings;
use super::accept::{self, Limits, Outcome};
use super::crowd::Room;
use super::fences::{Asked, Fence};
use super::leading::LeadingWrites;
use super::leaves::Leaves;
use super::ledger::Ledger;
use super::recent::{self, Known, Name, RecentWrites};
use super::slot::Slot;
use super::{hints, identity, tombstones};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Node, NodeId, PartitionId};
use crate::ports::{
    AcceptRequest, Digest, JoinSource, Judged, KeyHash, Maintained, Overwrites, Purged, Put,
    Random, RecordKey, Refusal, Reply, Space, Standing, TreeName,
};
use crate::version::{Actor, Dot, Rank, Record, Stamp};

pub(super) struct Batch<'a, R> {
    pub(super) ledger: Ledger,
    /// As the batch found it.
    was_refilling: bool,
    loaded: Loaded,
    /// What was purged of trees since the batch began.
    purged_now: BTreeMap<TreeName, Purged>,
    hints: Vec<Put>,
    hint_changes: Vec<HintChange>,
    wall_ms: u64,
    recent: &'a RecentWrites,
    accepted: BTreeMap<Name, Known>,
    /// Of writes up to here nothing is remembered, as was told since the batch began.
    horizon: Stamp,
    leads: Leads<'a>,
    random: &'a R,
    room: Room,
    /// Bytes of records that operations have made so far; each may be held until its operation is answered.
    made: usize,
    made_max: usize,
}

/// What a batch works on, as it was stored before.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Every record that it may read or change.
    pub(super) slots: BTreeMap<RecordKey, Slot>,
    /// Their leaves.
    pub(super) leaves: Leaves,
    /// What was purged of their trees.
    pub(super) purged: BTreeMap<TreeName, Purged>,
    /// The names of those hints among the ones it may change that are there.
    pub(super) hints: BTreeSet<Bytes>,
}

/// What changes in the count of the hints, once the batch is durable.
#[derive(Debug)]
pub(super) enum HintChange {
    /// There is one more for a target.
    Left(Node),
    /// There is one less.
    Dropped(NodeId),
}

/// What a batch comes to.
pub(super) struct Applied {
    pub(super) hint_changes: Vec<HintChange>,
    pub(super) purged: bool,
    pub(super) ledger: Ledger,
    pub(super) accepted: BTreeMap<Name, Known>,
    /// Which writes led, and whether those of before are to be forgotten.
    pub(super) led: Vec<Rank>,
    pub(super) leads_forgotten: bool,
    pub(super) horizon: Stamp,
    pub(super) puts: Vec<Put>,
}

impl Applied {
    /// Nothing but what `ledger` and `puts` say.
    pub(super) fn only(ledger: Ledger, puts: Vec<Put>) -> Self {
        Self {
            hint_changes: Vec::new(),
            purged: false,
            ledger,
            accepted: BTreeMap::new(),
            led: Vec::new(),
            leads_forgotten: false,
            horizon: Stamp::ZERO,
            puts,
        }
    }
}

impl<'a, R: Random> Batch<'a, R> {
    /// `loaded` has every key that the batch works on.
    pub(super) fn new(
        ledger: Ledger,
        loaded: Loaded,
        wall_ms: u64,
        recent: &'a RecentWrites,
        leading: &'a LeadingWrites,
        random: &'a R,
        settings: &ReplicaSettings,
    ) -> Self {
        Self {
            was_refilling: ledger.identity.refilling,
            ledger,
            loaded,
            purged_now: BTreeMap::new(),
            hints: Vec::new(),
            hint_changes: Vec::new(),
            wall_ms,
            recent,
            accepted: BTreeMap::new(),
            horizon: Stamp::ZERO,
            leads: Leads {
                before: Some(leading),
                now: Vec::new(),
            },
            random,
            room: Room {
                siblings: settings.siblings_max,
                bytes: settings.siblings_bytes_max,
            },
            made: 0,
            made_max: settings.batch_bytes_max,
        }
    }

    /// Whether it has made as many bytes of records as one batch may. An operation of a few bytes may make a record of
    /// many, and so may the next one on the same key.
    pub(super) fn is_full(&self) -> bool {
        let full = self.made >= self.made_max;
        if full {
            marks::reached(Mark::BatchFull);
        }
        full
    }

    /// Accepts a write: it gets its dot here, unless it has one.
    pub(super) fn accept(&mut self, request: AcceptRequest) -> Result<Reply, Refusal> {
        if self.is_refilling() {
            return Err(Refusal::Refilling);
        }
        let slot = slot(&mut self.loaded.slots, &request.key)?;
        let held = slot.record()?;
        let purged = purged(&self.loaded.purged, &self.purged_now, &request.key);
        let is_absent = slot.is_absent();
        self.ledger.notice(held.seen(), self.random);
        if self
            .ledger
            .never_gave_of(accept::context(&request.overwrites))
        {
            return Err(Refusal::Malformed(
                "the context covers writes that this node never accepted".into(),
            ));
        }
        let name = recent::name(request.write_id, request.key.as_bytes());
        let remembered = self
            .accepted
            .get(&name)
            .copied()
            .or_else(|| self.recent.get(name));
        let write_id = request.write_id;
        let leads = matches!(request.overwrites, Overwrites::All(_));
        // With siblings a record that was written anew after a purge knows no more of what was before.
        let purged_stamp = purged.filter(|_| is_absent || !leads);
        let limits = Limits {
            room: Room {
                siblings: self.room.siblings.min(request.siblings_max.into()),
                ..self.room
            },
            horizon: self.recent.horizon().max(self.horizon),
            purged: purged_stamp.map(|purged| purged.stamp),
        };
        let unseen = Default::default();
        let before = purged.map_or(&unseen, |purged| &purged.seen);
        match accept::accept(held, before, remembered, request, limits, || {
            self.ledger.give()
        })? {
            Outcome::Known(dot) => Ok(Reply::Accepted {
                dot,
                record: slot.bytes(),
            }),
            Outcome::Behind => Ok(Reply::Behind),
            Outcome::Superseded(greatest) => Ok(superseded(greatest, false, slot)),
            Outcome::MayBeOver(greatest) => Ok(superseded(greatest, true, slot)),
            Outcome::Applied(known, record) => {
                self.ledger.accepted(known.stamp);
                self.accepted.insert(name, known);
                if leads {
                    let stamp = known.stamp;
                    self.leads.now.push(Rank { stamp, write_id });
                }
                let bytes = record.encode();
                self.made += bytes.len();
                let answered = match mutant::on(Mutant::StampedWithoutSiblings) {
                    true => alone(&record, known.dot).encode(),
                    false => bytes.clone(),
                };
                slot.set(record, bytes);
                Ok(Reply::Accepted {
                    dot: known.dot,
                    record: answered,
                })
            }
        }
    }

    /// Joins a record. The answer says how the `judged` write stands, the greatest of the record unless told.
    pub(super) fn join(
        &mut self,
        key: &RecordKey,
        encoded: Bytes,
        judged: Option<Judged>,
        source: JoinSource,
    ) -> Result<Reply, Refusal> {
        let refilling = self.is_refilling();
        if refilling && source != JoinSource::Exchange && self.seems_purged(key, &encoded)? {
            marks::reached(Mark::PurgedLeftOut);
            return Err(Refusal::Refilling);
        }
        let judged = judged.filter(|_| !mutant::on(Mutant::StandingOfAnother));
        let joined = self.join_record(key, encoded, judged)?;
        Ok(match refilling {
            true => Reply::Refilling(Box::new(joined)),
            false => joined,
        })
    }

    /// Whether what it says counts for no quorum.
    fn is_refilling(&self) -> bool {
        let refilling = self.ledger.identity.refilling && !mutant::on(Mutant::RefillingCounts);
        if refilling {
            marks::reached(Mark::AnsweredRefilling);
        }
        refilling
    }

    /// Whether a record that comes to a node which is being refilled may be of a key that was purged here. The node
    /// can't know: it may have lost part of its disk only, and not what it noted of the purge. Owners that exchange all
    /// they have decide.
    fn seems_purged(&mut self, key: &RecordKey, encoded: &Bytes) -> Result<bool, Refusal> {
        if mutant::on(Mutant::RefillingTakesPurged) {
            return Ok(false);
        }
        let Some(old) = purged(&self.loaded.purged, &self.purged_now, key) else {
            return Ok(false);
        };
        let held = slot(&mut self.loaded.slots, key)?.record()?;
        let incoming = Record::decode(encoded.clone())
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let left = incoming.without(&old.seen, held);
        Ok(left.siblings().len() < incoming.siblings().len())
    }

    fn join_record(
        &mut self,
        key: &RecordKey,
        encoded: Bytes,
        judged: Option<Judged>,
    ) -> Result<Reply, Refusal> {
        let slot = slot(&mut self.loaded.slots, key)?;
        let held = slot.record()?;
        if judged.is_none() && slot.is(&encoded) {
            return Ok(Reply::Joined {
                greatest: held.greatest_rank(),
                standing: Standing::Leading,
            });
        }
        let incoming = Record::decode(encoded.clone())
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        self.ledger.notice(incoming.seen(), self.random);
        let judged = match judged {
            Some(judged) => Some(judged),
            None => incoming.latest().map(|latest| Judged {
                dot: latest.dot,
                rank: latest.rank(),
            }),
        };
        let refilling = self.ledger.identity.refilling;
        // A node that is refilled may lack what its floor covers: it may have lost part of its disk only, and not the
        // floor.
        let old = purged(&self.loaded.purged, &self.purged_now, key)
            .filter(|_| !refilling && !mutant::on(Mutant::PurgedForgotten));
        let incoming = match old {
            Some(old) => without_purged(incoming, old, held, slot.is_absent())?,
            None => incoming,
        };
        let joined = join(held, &incoming);
        let greatest = joined.greatest_rank();
        let standing = self.leads.standing(judged, greatest, refilling, |dot| {
            let knew = held.seen().covers(dot) || old.is_some_and(|old| old.seen.covers(dot));
            knew && held.siblings().len() == 1
        });
        if joined == *held {
            marks::reached(Mark::JoinKnewMore);
        } else if joined != incoming {
            marks::reached(Mark::JoinedBoth);
        }
        if joined != *held {
            let bytes = if joined == incoming && old.is_none() {
                encoded
            } else {
                joined.encode()
            };
            self.made += bytes.len();
            slot.set(joined, bytes);
        }
        Ok(Reply::Joined { greatest, standing })
    }

    /// Whether a write may be accepted, or a record joined, that is of this partition: by its epoch, and by whether the
    /// node has handed the partition over. Who asks by a newer epoch than that relies on the node again; by the same
    /// one it may be an owner for other tenants still, and what owners exchange may come late, when its copy is gone.
    pub(super) fn take_on(
        &mut self,
        asked: Option<&Asked>,
        partition: PartitionId,
        source: JoinSource,
    ) -> Result<(), Refusal> {
        let left = self.left(asked, partition);
        self.ledger.admit(asked)?;
        match source {
            JoinSource::Handoff if self.is_leaving(partition) => return Err(Refusal::HandedOver),
            JoinSource::Exchange => left?,
            JoinSource::Handoff | JoinSource::Client => {}
        }
        if !asked.is_some_and(Asked::is_taken) {
            self.ledger.own_again(asked, partition);
        }
        Ok(())
    }

    fn is_leaving(&self, partition: PartitionId) -> bool {
        let fence = self.ledger.fences.get(partition);
        fence.is_some_and(|fence| fence.leaving)
    }

    /// Refuses what was asked for by no newer epoch than that by which the node leaves this partition.
    pub(super) fn left(
        &self,
        asked: Option<&Asked>,
        partition: PartitionId,
    ) -> Result<(), Refusal> {
        let fence = self.ledger.fences.get(partition);
        let has_left = |asked: &Asked| {
            !asked.is_taken() && fence.is_some_and(|fence| fence.leaves_by(asked.epoch))
        };
        match asked.is_some_and(has_left) {
            true => Err(Refusal::HandedOver),
            false => Ok(()),
        }
    }

    /// Refuses older epochs from now on: for these partitions, or for all.
    pub(super) fn fence(
        &mut self,
        epoch: Epoch,
        partitions: Option<&[PartitionId]>,
        leaving: bool,
    ) {
        let Some(partitions) = partitions else {
            return self.ledger.fence(epoch);
        };
        for partition in partitions {
            let fence = Fence { epoch, leaving };
            self.ledger.fence_partition(*partition, fence);
        }
    }

    /// Takes note that nothing is remembered of writes up to `horizon`. Returns the stamp up to which any write may
    /// have been accepted here.
    pub(super) fn remember_from(&mut self, horizon: Stamp) -> Stamp {
        let before = self.recent.horizon().max(self.horizon);
        if horizon > before && !mutant::on(Mutant::HorizonNotMoved) {
            // What led before says nothing any more: it may have come to a new owner before what it follows did.
            self.leads.forget();
            self.ledger.remembers_from(horizon);
            self.horizon = horizon;
        }
        self.ledger.identity.stamp_ceiling
    }

    /// What this incarnation lost was given back to it.
    pub(super) fn refilled(&mut self, incarnation: Actor) -> Result<(), Refusal> {
        if incarnation != self.ledger.identity.incarnation() {
            return Err(Refusal::Unavailable(
                "the node has become another incarnation since".into(),
            ));
        }
        marks::reached(Mark::Refilled);
        self.ledger.counts();
        Ok(())
    }

    /// Notes that `targets` may lack what is held of `key`.
    pub(super) fn hint(&mut self, key: &RecordKey, targets: &[Node]) -> Result<Reply, Refusal> {
        if slot(&mut self.loaded.slots, key)?.is_absent() {
            return Err(Refusal::Unavailable("nothing is held of the key".into()));
        }
        for target in targets {
            if !self.loaded.hints.insert(hints::name(&target.id, key)) {
                marks::reached(Mark::HintCoalesced);
                continue;
            }
            self.hints.push(hints::locate(target));
            if !mutant::on(Mutant::HintNotStored) {
                self.hints.push(hints::put(&target.id, key, self.wall_ms));
            }
            self.hint_changes.push(HintChange::Left(target.clone()));
        }
        Ok(Reply::Maintained(Maintained::Done))
    }

    /// Drops the hint of `key` for `target` if what is held of the key is what was delivered, by its hash.
    pub(super) fn delivered(
        &mut self,
        target: &NodeId,
        key: &RecordKey,
        delivered: Option<u128>,
    ) -> Result<(), Refusal> {
        let held = slot(&mut self.loaded.slots, key)?.encoded();
        let held = held.map(|encoded| Digest::hash(key, encoded));
        if held != delivered && !mutant::on(Mutant::HintDroppedThoughNewer) {
            marks::reached(Mark::HintOutdated);
            return Ok(());
        }
        self.forget(target, key);
        Ok(())
    }

    /// Drops the hint of `key` for `target`.
    pub(super) fn forget(&mut self, target: &NodeId, key: &RecordKey) {
        if self.loaded.hints.remove(&hints::name(target, key)) {
            self.hints.push(hints::remove(target, key));
            self.hint_changes.push(HintChange::Dropped(target.clone()));
        }
    }

    /// Drops the values that hide beneath a tombstone. They have smaller ranks, so whoever holds them still loses no
    /// more than what it would show to nobody, and the tombstone's rank stays to be met.
    pub(super) fn settle(&mut self, key: &RecordKey) -> Result<(), Refusal> {
        let slot = slot(&mut self.loaded.slots, key)?;
        // One that is damaged must not keep the others from it.
        let hiding = slot.record().ok().filter(|record| record.hides_values());
        let Some(record) = hiding else {
            return Ok(());
        };
        let settled = record.latest_alone();
        let bytes = settled.encode();
        self.made += bytes.len();
        slot.set(settled, bytes);
        marks::reached(Mark::HiddenSettled);
        Ok(())
    }

    /// Removes a record that is still the tombstones that all its owners hold.
    ///
    /// A node that is being refilled keeps no more of it than the stamp. What had been seen speaks for all keys of the
    /// tree: at a node that lacks others it would refuse them for ever, and have others [drop](Self::drop_purged) them.
    pub(super) fn purge(&mut self, purged: &KeyHash) -> Result<(), Refusal> {
        let refilling = self.ledger.identity.refilling;
        let mut hints = self.loaded.hints.iter();
        let has_hint = hints.any(|hint| hint.ends_with(purged.key.as_bytes()));
        if has_hint && !mutant::on(Mutant::PurgeBeforeHints) {
            return Ok(());
        }
        let Some(record) = self.removable(purged, Record::is_deleted)? else {
            return Ok(());
        };
        let (seen, stamp) = (record.seen().clone(), record.greatest_stamp());
        let tree = purged.key.tree();
        let loaded = &self.loaded.purged;
        let floor = self.purged_now.entry(tree.clone());
        let floor = floor.or_insert_with(|| loaded.get(&tree).cloned().unwrap_or_default());
        if !refilling {
            floor.seen.merge(&seen);
        }
        floor.stamp = floor.stamp.max(stamp);
        slot(&mut self.loaded.slots, &purged.key)?.remove();
        marks::reached(Mark::Purged);
        Ok(())
    }

    /// Removes a record that is still the one of which another owner has purged what overwrote it, whether there is a
    /// hint for it or not: whoever lacked it had it by then.
    pub(super) fn drop_purged(&mut self, dropped: &KeyHash) -> Result<(), Refusal> {
        if self.removable(dropped, |_| true)?.is_some() {
            slot(&mut self.loaded.slots, &dropped.key)?.remove();
            marks::reached(Mark::PurgedDropped);
        }
        Ok(())
    }

    /// The record that is held, if it is still this one, and fits.
    fn removable(
        &mut self,
        KeyHash { key, hash }: &KeyHash,
        fits: impl Fn(&Record) -> bool,
    ) -> Result<Option<&Record>, Refusal> {
        let slot = slot(&mut self.loaded.slots, key)?;
        let Some(encoded) = slot.encoded() else {
            return Ok(None);
        };
        // One that is damaged must not keep the others from it.
        let Ok(record) = slot.record() else {
            return Ok(None);
        };
        if !fits(record) || Digest::hash(key, encoded) != *hash {
            marks::reached(Mark::PurgeOutdated);
            return Ok(None);
        }
        Ok(Some(record))
    }

    /// Keeps what another owner has purged of a tree.
    pub(super) fn keep_purged(&mut self, tree: &TreeName, other: &Purged) {
        self.ledger.notice(&other.seen, self.random);
        let now = self.purged_now.get(tree);
        let before = now.or_else(|| self.loaded.purged.get(tree));
        let mut purged = before.cloned().unwrap_or_default();
        purged.seen.merge(&other.seen);
        purged.stamp = purged.stamp.max(other.stamp);
        if before != Some(&purged) {
            marks::reached(Mark::FloorHandedOver);
            self.purged_now.insert(tree.clone(), purged);
        }
    }

    pub(super) fn finish(self) -> Applied {
        let mut leaves = self.loaded.leaves;
        let mut records = Vec::new();
        let mut beside = Vec::new();
        for (key, slot) in self.loaded.slots {
            let Some(changed) = slot.into_change() else {
                continue;
            };
            leaves.change(&key, &changed);
            beside.extend(tombstones::change(&key, &changed, self.wall_ms));
            records.push(Put {
                space: Space::Records,
                key: key.as_bytes().clone(),
                value: changed.after,
            });
        }
        if mutant::on(Mutant::BatchLosesEffect) && records.len() > 1 {
            records.pop();
        }
        let purged = !self.purged_now.is_empty();
        let mut puts = records;
        if !puts.is_empty() {
            puts.extend(leaves.into_puts());
        }
        puts.append(&mut beside);
        let floors = self.purged_now.iter();
        puts.extend(floors.map(|(tree, purged)| tombstones::purged_put(tree, purged)));
        puts.extend(self.hints);
        if self.was_refilling && !self.ledger.identity.refilling {
            puts.push(identity::refilled_put());
        }
        puts.extend(self.ledger.puts());
        Applied {
            hint_changes: self.hint_changes,
            purged,
            ledger: self.ledger,
            accepted: self.accepted,
            leads_forgotten: self.leads.before.is_none(),
            led: self.leads.now,
            horizon: self.horizon,
            puts,
        }
    }
}

/// Which writes lead: were the greatest of their key when they were first held here.
struct Leads<'a> {
    /// As remembered from before the batch; `None`: that says nothing any more.
    before: Option<&'a LeadingWrites>,
    /// Since the batch began.
    now: Vec<Rank>,
}

impl Leads<'_> {
    fn forget(&mut self) {
        self.before = None;
        self.now.clear();
    }

    /// How the `judged` write stands where the greatest one is now `greatest`. `knew_alone` tells whether its dot was
    /// known here before, and the record had one sibling.
    fn standing(
        &mut self,
        judged: Option<Judged>,
        greatest: Rank,
        refilling: bool,
        knew_alone: impl FnOnce(Dot) -> bool,
    ) -> Standing {
        let Some(Judged { dot, rank }) = judged else {
            return Standing::Leading;
        };
        if greatest <= rank {
            // While something may be lacking here it says nothing of what was here before it.
            if !refilling || mutant::on(Mutant::LedWhileRefilled) {
                self.now.push(rank);
            }
            return Standing::Leading;
        }
        let led_before = self.before.is_some_and(|before| before.has(rank));
        if self.now.contains(&rank) || led_before {
            marks::reached(Mark::LedBefore);
            return Standing::Leading;
        }
        match knew_alone(dot) {
            true => Standing::Overwritten,
            false => Standing::Outstripped,
        }
    }
}

/// What is left of a record that comes in where `old` was purged of its tree.
///
/// # Errors
/// [`Refusal::Purged`] when nothing is, and nothing is held.
fn without_purged(
    incoming: Record,
    old: &Purged,
    held: &Record,
    is_absent: bool,
) -> Result<Record, Refusal> {
    if incoming.siblings().is_empty() {
        return Ok(incoming);
    }
    let left = incoming.without(&old.seen, held);
    if left.siblings().is_empty() && is_absent {
        marks::reached(Mark::PurgedRefused);
        return Err(Refusal::Purged);
    }
    Ok(left)
}

/// The join of what is held and what comes in.
fn join(held: &Record, incoming: &Record) -> Record {
    match () {
        () if mutant::on(Mutant::JoinReplacesRecord) => incoming.clone(),
        () if mutant::on(Mutant::JoinKeepsOwn) && !held.is_empty() => held.clone(),
        () if mutant::on(Mutant::AttemptOverwrittenAlone) => held.join(incoming),
        () => held.join(incoming).without_further_attempts(),
    }
}

/// What was purged of a key's tree, before the batch or in it.
fn purged<'p>(
    before: &'p BTreeMap<TreeName, Purged>,
    now: &'p BTreeMap<TreeName, Purged>,
    key: &RecordKey,
) -> Option<&'p Purged> {
    if before.is_empty() && now.is_empty() {
        return None;
    }
    let tree = key.tree();
    now.get(&tree).or_else(|| before.get(&tree))
}

/// The answer to a write that needs a greater rank than `greatest`.
fn superseded(greatest: Rank, may_be_over: bool, slot: &Slot) -> Reply {
    Reply::Superseded {
        greatest,
        may_be_over,
        record: slot.bytes(),
    }
}

/// A write without its siblings.
fn alone(record: &Record, dot: Dot) -> Record {
    let own = record.siblings().iter().filter(|v| v.dot == dot).cloned();
    Record::new(record.seen().clone(), own.collect()).unwrap_or_default()
}

fn slot<'s>(
    slots: &'s mut BTreeMap<RecordKey, Slot>,
    key: &RecordKey,
) -> Result<&'s mut Slot, Refusal> {
    let slot = slots
        .get_mut(key)
        .ok_or_else(|| Refusal::Unavailable("the record was not loaded".into()))?;
    if slot.is_damaged() {
        marks::reached(Mark::DamagedNotOverwritten);
    }
    if slot.is_dirty() {
        marks::reached(Mark::BatchSameKey);
    }
    Ok(slot)
}
