//! What was seen of storage nodes' answers: which write got which dot where, who said to hold it, and what of that
//! can't all be right.
//!
//! Values and their rules only; who looks at the answers as they pass is [`crate::tap`]'s.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pairdb::placement::{Epoch, PartitionId};
use pairdb::ports::{
    AcceptRequest, Maintenance, Operation, Overwrites, RecordKey, Reply, Request, TreeName,
};
use pairdb::version::{Actor, Content, Dot, Record, Stamp, Version, VersionVector, WriteId};

use crate::asked::{Asked, record_of};
use crate::attempts::Attempts;
use crate::describe;
use crate::endpoint::Endpoint;
use crate::excuse::{Excuse, Excuses};
use crate::fences::Fences;
use crate::hash::Fnv;
use crate::op::{OpId, Time};
use crate::readings::Readings;
use crate::value;

/// For so long before it drops a copy, or a step is stored, who does that may have looked at the owners.
const LOOKED_AT_WITHIN: Time = 5_000_000_000;

/// All that was seen.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    /// Every version that was in some answer or was sent to be joined, by its dot.
    pub versions: BTreeMap<Dot, Sighting>,
    /// Who said when to hold a version durably: (node, when).
    pub holders: BTreeMap<Dot, Vec<(Endpoint, Time)>>,
    /// Who, counting for quorums, said when to have a version durably, or what overwrote it: (node, when).
    pub knowers: BTreeMap<Dot, Vec<(Endpoint, Time)>>,
    /// The versions of each key.
    of_key: BTreeMap<RecordKey, Vec<Dot>>,
    /// When a node lost something it had said to hold.
    pub losses: Vec<Loss>,
    /// When a node's disk went back to an earlier state.
    pub old_disks: Vec<(Endpoint, Time)>,
    /// When a node's process ended.
    pub ends: Vec<(Endpoint, Time)>,
    /// Whose incarnation an actor is.
    pub nodes: BTreeMap<Actor, Endpoint>,
    /// What they were asked for.
    pub asked: Asked,
    /// Who was asked to stamp or join which write, and who was heard.
    pub attempts: Attempts,
    /// Who was heard of what was read.
    pub readings: Readings,
    /// How many messages of each kind coordinators sent that arrived.
    pub requests: BTreeMap<&'static str, u64>,
    /// Contradictions, found on the spot.
    pub contradictions: Vec<Contradiction>,
    /// What excused some, on the spot.
    pub excuses: Excuses,
    /// What was purged of each key, all together.
    pub purged: BTreeMap<RecordKey, Record>,
    /// The most that one node was ever seen to have left beside a write of its own, by key.
    pub left: BTreeMap<RecordKey, Left>,
    /// Of which writes of values an owner said that an attempt of theirs may have been overwritten.
    pub told_over: BTreeSet<OpId>,
    /// Of which keys an owner said so of a delete. (Whose it is a tombstone does not say.)
    pub deletes_told_over: BTreeSet<RecordKey>,
    /// How often each node purged each key, and what of it.
    purges: BTreeMap<(Endpoint, RecordKey), (u32, VersionVector)>,
    /// What each node has said to know of each key.
    memory: BTreeMap<(Endpoint, RecordKey), VersionVector>,
    /// What nodes had said to know of their keys before they lost some of it.
    knew: BTreeMap<(Endpoint, RecordKey), (VersionVector, Time)>,
    /// The greatest stamp up to which some record of each key remembers no overwritten writes by name.
    pub forgotten: BTreeMap<RecordKey, Stamp>,
    /// What nodes have taken on to refuse.
    pub fences: Fences,
    /// Removals of whole trees that have arrived at a node and are not answered yet.
    dropping: BTreeMap<(Endpoint, TreeName), u32>,
    /// Who dropped its copy of a record when, since others own it.
    drops: Vec<(Endpoint, RecordKey, Time)>,
    /// Which nodes were taken for lost, with what they hold.
    given_up: BTreeSet<Endpoint>,
    /// Which nodes were made to believe in an epoch that nobody published.
    misled: BTreeSet<Endpoint>,
}

/// Something that a node had said to hold was lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The node.
    pub who: Endpoint,
    /// When.
    pub at: Time,
    /// The one record that is concerned; `None`: any may be.
    pub of: Option<RecordKey>,
}

impl Loss {
    /// Whether this record may be concerned.
    #[must_use]
    pub fn concerns(&self, key: &RecordKey) -> bool {
        self.of.as_ref().is_none_or(|of| of == key)
    }
}

/// What a node has said before a request arrives, and may not go back on.
#[derive(Clone, Default, Debug)]
pub struct Said {
    seen: VersionVector,
    /// Below which epoch it refuses what is asked of this partition.
    epoch: Epoch,
    /// Up to which stamp a write that it does not know may be one that it has never heard of.
    horizon: Stamp,
    purges: u32,
}

/// A version as it was first seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// The record it belongs to.
    pub key: RecordKey,
    /// Its logical write.
    pub write_id: WriteId,
    /// Its stamp.
    pub stamp: Stamp,
    /// The operation that wrote it; `None` for a tombstone, and for a value that no operation wrote.
    pub op: Option<OpId>,
    /// A hash of the content; `None` for a tombstone.
    pub content: Option<u64>,
    /// When.
    pub at: Time,
}

/// What one node's writes of a key leave beside the last of them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Left {
    /// Values, each logical write once.
    pub shown: usize,
    /// Bytes of siblings, as they are kept.
    pub bytes: usize,
    /// Tombstones.
    pub tombstones: usize,
}

/// Answers that can't all be right.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Contradiction {
    /// Which rule they break.
    pub rule: &'static str,
    /// Which record they are about, if it is one.
    pub key: Option<RecordKey>,
    /// What they say.
    pub what: String,
}

impl Left {
    /// The most of one node in a record. Siblings are in the order of their dots, so each node's last write comes last.
    fn of(record: &Record) -> Self {
        let siblings = record
            .siblings()
            .chunk_by(|a, b| a.dot.actor == b.dot.actor);
        siblings.fold(Self::default(), |most, own| {
            let before = &own[..own.len() - 1];
            let values = before.iter().filter(|version| !version.is_tombstone());
            let shown: BTreeSet<WriteId> = values.map(|version| version.write_id).collect();
            most.and(Self {
                shown: shown.len(),
                bytes: before.iter().map(Version::bytes).sum(),
                tombstones: before
                    .iter()
                    .filter(|version| version.is_tombstone())
                    .count(),
            })
        })
    }

    /// The most of both.
    fn and(self, other: Self) -> Self {
        Self {
            shown: self.shown.max(other.shown),
            bytes: self.bytes.max(other.bytes),
            tombstones: self.tombstones.max(other.tombstones),
        }
    }
}

impl Seen {
    /// A request about a record has arrived at a node.
    #[must_use]
    pub fn arrived(&mut self, from: Endpoint, who: Endpoint, request: &Request) -> Said {
        if matches!(from, Endpoint::Coordinator(_)) {
            *self.requests.entry(request.operation.name()).or_default() += 1;
        }
        if let Some(tree) = dropped_by(&request.operation) {
            *self.dropping.entry((who, tree.clone())).or_default() += 1;
        }
        let Some(key) = record_of(&request.operation) else {
            let partition = partition_of(&request.operation);
            return Said {
                epoch: partition.map_or(Epoch(0), |partition| self.fences.of(who, partition)),
                ..Said::default()
            };
        };
        if !self.misled.contains(&from) {
            self.asked.newest_epoch = self.asked.newest_epoch.max(request.epoch);
        }
        self.asked.note(from, who, key, request);
        let memory = self.memory.get(&(who, key.clone()));
        Said {
            seen: memory.cloned().unwrap_or_default(),
            epoch: self.fences.of(who, key.partition()),
            horizon: self.fences.horizon(who),
            purges: self.purges(who, key),
        }
    }

    /// A node is done with a request, whatever it answers.
    pub fn done(&mut self, who: Endpoint, operation: &Operation) {
        if let Some(tree) = dropped_by(operation)
            && let Some(under_way) = self.dropping.get_mut(&(who, tree.clone()))
        {
            *under_way = under_way.saturating_sub(1);
        }
    }

    /// A node's process has ended: it carries nothing on.
    pub fn ended(&mut self, who: Endpoint, at: Time) {
        self.ends.push((who, at));
        self.dropping.retain(|(node, _), _| *node != who);
    }

    /// A node does what it was asked, having `said` this before. `counts`: for quorums.
    pub fn answered(
        &mut self,
        who: Endpoint,
        request: &Request,
        (reply, counts): (&Reply, bool),
        said: Said,
        at: Time,
    ) {
        self.fences.answered(who, request, reply);
        self.keeps_to_fences(who, request, said.epoch);
        let Some(key) = record_of(&request.operation) else {
            return;
        };
        let remember = self.purges(who, key) == said.purges;
        // If not, what was known when the request arrived may be gone, and rightly so.
        let known = match remember {
            true => said.seen,
            false => VersionVector::default(),
        };
        let place = (who, key);
        match (&request.operation, reply) {
            (Operation::Accept(stamp), Reply::Accepted { dot, record }) => {
                self.takes_for_new(who, (stamp, *dot), said.horizon);
                // Who has the write from somebody else answers with that one's dot.
                self.nodes.entry(dot.actor).or_insert(who);
                self.holds(place, record, &known, at, (remember, counts));
            }
            (
                Operation::Accept(stamp),
                Reply::Superseded {
                    may_be_over,
                    record,
                    ..
                },
            ) => {
                if *may_be_over {
                    match &stamp.content {
                        Content::Value(value) => {
                            self.told_over
                                .extend(value::parse(key.tenant(), key.key(), value))
                        }
                        Content::Tombstone => drop(self.deletes_told_over.insert(key.clone())),
                    }
                }
                self.holds(place, record, &known, at, (remember, counts));
            }
            (Operation::Join { record, .. }, Reply::Joined { .. }) => {
                let known = VersionVector::default();
                self.holds(place, record, &known, at, (remember, counts));
            }
            (Operation::Read { .. }, Reply::Found { record }) => {
                let empty = Record::default().encode();
                let record = record.as_ref().unwrap_or(&empty);
                self.holds(place, record, &known, at, (remember, counts));
            }
            _ => {}
        }
    }

    /// A node answered that had said to refuse epochs below `fence`.
    fn keeps_to_fences(&mut self, who: Endpoint, request: &Request, fence: Epoch) {
        let epoch = request.epoch;
        if epoch < fence {
            let what =
                format!("{who} took on to refuse epochs below {fence} and answered to {epoch}");
            self.contradiction("epoch", record_of(&request.operation), what);
        }
        if let Some(tree) = dropped_by(&request.operation) {
            let partition = tree.partition();
            if !self.fences.leaves(who, partition, epoch) {
                let what = format!(
                    "{who} dropped a tree of partition {} by epoch {epoch}, and was not told that it leaves it",
                    partition.0
                );
                self.contradiction("drop", None, what);
            }
        }
    }

    /// A node accepted a write as `dot`, that had said to have missed perhaps what is not stamped above `horizon`.
    fn takes_for_new(
        &mut self,
        who: Endpoint,
        (stamp, dot): (&AcceptRequest, Dot),
        horizon: Stamp,
    ) {
        let may_be_old =
            matches!(stamp.overwrites, Overwrites::Covered(_)) && stamp.stamp <= horizon;
        if may_be_old && !self.versions.contains_key(&dot) {
            // Who has ended may have had it before, and not come to say so.
            let ended = self.ends.iter().any(|(node, _)| *node == who);
            let excuse = ended.then_some(Excuse::EndedUnheard);
            let what = format!("{who} took for new what it may have missed");
            self.contradiction_unless(excuse, "memory", Some(&stamp.key), what);
        }
    }

    /// Whether a node's process ended so shortly before that somebody may have looked at it and found it well.
    #[must_use]
    pub fn ended_within(&self, who: Endpoint, at: Time) -> bool {
        let mut ends = self.ends.iter();
        ends.any(|(node, end)| *node == who && end + LOOKED_AT_WITHIN >= at)
    }

    /// Whether a node was told to remove the whole tree that a record is in, and is at it.
    #[must_use]
    pub fn drops_tree(&self, who: Endpoint, key: &RecordKey) -> bool {
        let dropping = self.dropping.get(&(who, key.tree()));
        dropping.is_some_and(|under_way| *under_way > 0)
    }

    /// A node dropped its copy of a record, which others own: `owners` have what they hold of it. Each of them has to
    /// hold all that is dropped.
    pub fn dropped(
        &mut self,
        who: Endpoint,
        key: &RecordKey,
        old: &Bytes,
        owners: &[(Endpoint, Option<Bytes>)],
        at: Time,
    ) {
        self.memory.remove(&(who, key.clone()));
        self.purges.entry((who, key.clone())).or_default().0 += 1;
        self.drops.push((who, key.clone(), at));
        // What is damaged can't be handed on.
        let Ok(dropped) = Record::decode(old.clone()) else {
            return;
        };
        let mut heirs = Vec::new();
        for (owner, held) in owners {
            if *owner == who {
                let what = format!("{who} dropped a copy that it owns");
                self.contradiction("drop", Some(key), what);
                continue;
            }
            let place = (*owner, key.clone());
            // It had it, and lost it since it was looked at.
            let knew = self.knew.get(&place);
            let knew = knew.is_some_and(|(knew, lost)| {
                knew.descends(dropped.seen()) && lost + LOOKED_AT_WITHIN >= at
            });
            // It had it, every owner had, and it was purged.
            let purged = self.purges.get(&place);
            let purged = purged.is_some_and(|(_, seen)| seen.descends(dropped.seen()));
            let held = held.clone().map(Record::decode);
            let damaged = matches!(held, Some(Err(_)));
            let covers = match held {
                Some(Ok(held)) => held.join(&dropped) == held,
                Some(Err(_)) => false,
                None => dropped == Record::default(),
            };
            if !covers {
                let excuse = [
                    (damaged, Excuse::Damaged),
                    (knew, Excuse::LostSinceLookedAt),
                    (purged, Excuse::PurgedEverywhere),
                ];
                let excuse = excuse.into_iter().find(|(excused, _)| *excused);
                let excuse = excuse.map(|(_, excuse)| excuse);
                let what = format!("{who} dropped a copy that {owner} lacks");
                self.contradiction_unless(excuse, "drop", Some(key), what);
            }
            if covers || damaged {
                heirs.push(*owner);
            }
        }
        self.inherit(who, key, &heirs);
    }

    /// What a node said to hold of a key, and has not lost since, the owners hold in its place.
    fn inherit(&mut self, who: Endpoint, key: &RecordKey, heirs: &[Endpoint]) {
        for dot in self.of_key.get(key).into_iter().flatten() {
            let Some(holders) = self.holders.get_mut(dot) else {
                continue;
            };
            let losses = &self.losses;
            let lost = |since: Time| {
                let mut losses = losses.iter();
                losses.any(|loss| loss.who == who && loss.at >= since && loss.concerns(key))
            };
            let mut since = holders.iter().filter(|(node, _)| *node == who);
            let Some((_, since)) = since.find(|(_, since)| !lost(*since)).copied() else {
                continue;
            };
            for heir in heirs {
                holders.push((*heir, since));
            }
        }
    }

    /// A node is taken for lost, with all it holds.
    pub fn given_up(&mut self, who: Endpoint, at: Time) {
        if self.given_up.insert(who) {
            self.loses_memory(who, at, None);
        }
    }

    /// Which nodes were taken for lost, and have not begun anew since.
    #[must_use]
    pub const fn lost_for_good(&self) -> &BTreeSet<Endpoint> {
        &self.given_up
    }

    /// A node gets an empty disk, to join once more.
    pub fn begins_anew(&mut self, who: Endpoint, at: Time) {
        self.lost(who, at);
        self.fences.lost(who);
        self.given_up.remove(&who);
    }

    /// A node removed a record. `others` have what the other owners hold of it; `owed`: it had
    /// noted that one lacks it.
    pub fn purged(
        &mut self,
        who: Endpoint,
        key: &RecordKey,
        old: &Bytes,
        others: &[(Endpoint, Option<Bytes>)],
        owed: bool,
    ) {
        let record = self.forgets(who, key, old);
        let over = self.purged.get(key).is_some_and(|purged| {
            let mut siblings = record.siblings().iter();
            siblings.all(|sibling| purged.seen().covers(sibling.dot))
        });
        // What is damaged is removed where no other owner holds a value: it was replaced by nothing, or is a tombstone
        // that was damaged while it was purged.
        let has_value = |(_, held): &(Endpoint, Option<Bytes>)| {
            let held = held.clone().map(Record::decode);
            held.is_some_and(|held| held.is_ok_and(|record| !record.is_deleted()))
        };
        let is_damaged = Record::decode(old.clone()).is_err() && !others.iter().any(has_value);
        if is_damaged {
            self.excuses.note(Excuse::Damaged);
        } else if !record.is_deleted() && !over {
            let what = format!("{who} purged what was not deleted");
            self.contradiction("purge", Some(key), what);
        }
        for (other, held) in others {
            let held = held
                .clone()
                .map(|held| Record::decode(held).unwrap_or_default());
            // It had it, and lost it since: what it may have in its place is older, and goes when the others tell it.
            let knew = self.knew.get(&(*other, key.clone()));
            let knew = knew.is_some_and(|(knew, _)| knew.descends(record.seen()));
            let purged = self.purges.get(&(*other, key.clone()));
            let purged_too = purged.is_some_and(|(_, seen)| seen.descends(record.seen()));
            let knows = |held: Record| held.seen().descends(record.seen());
            if !purged_too && !held.is_none_or(knows) {
                let excuse = knew.then_some(Excuse::HoldersLost);
                let what = format!("{who} purged a delete that {other} has not seen");
                self.contradiction_unless(excuse, "purge", Some(key), what);
            }
        }
        // What is damaged can't be handed on.
        if owed && !is_damaged {
            let what = format!("{who} purged a delete that it had noted somebody lacks");
            self.contradiction("purge", Some(key), what);
        }
        let purged = self.purged.entry(key.clone()).or_default();
        *purged = purged.join(&record);
    }

    /// A node may have removed a record in a commit that made it anew: what it knew of it before may be gone.
    pub fn perhaps_purged(&mut self, who: Endpoint, key: &RecordKey, old: &Bytes) {
        let _ = self.forgets(who, key, old);
    }

    /// What a node asks of others under an epoch that nobody published is no evidence.
    pub fn misled(&mut self, who: Endpoint) {
        self.misled.insert(who);
    }

    /// A node lost something that it had said to hold, and knows that.
    pub fn lost(&mut self, who: Endpoint, at: Time) {
        self.loses_memory(who, at, None);
    }

    /// A node lost something that it had said to hold, and does not know that: its disk went back.
    pub fn went_back(&mut self, who: Endpoint, at: Time) {
        self.old_disks.push((who, at));
        self.loses_memory(who, at, None);
    }

    /// A record on a node's disk can't be read any more.
    pub fn damaged(&mut self, who: Endpoint, at: Time, key: &RecordKey) {
        self.loses_memory(who, at, Some(key));
    }

    /// A node says to hold `record` durably, or more.
    fn holds(
        &mut self,
        (who, key): (Endpoint, &RecordKey),
        bytes: &Bytes,
        known: &VersionVector,
        at: Time,
        (remember, counts): (bool, bool),
    ) {
        let record = match Record::decode(bytes.clone()) {
            Ok(record) => record,
            Err(error) => {
                return self.contradiction("well-formed", Some(key), format!("{who}: {error}"));
            }
        };
        if !record.seen().descends(known) {
            let what = format!(
                "{who} knew {} and now answers {}",
                describe::seen(known),
                describe::seen(record.seen())
            );
            self.contradiction("memory", Some(key), what);
        }
        let memory = self.memory.entry((who, key.clone())).or_default();
        if remember {
            memory.merge(record.seen());
        }
        if record.forgotten() > Stamp::ZERO {
            let forgotten = self.forgotten.entry(key.clone()).or_default();
            *forgotten = record.forgotten().max(*forgotten);
        }
        let left = self.left.entry(key.clone()).or_default();
        *left = left.and(Left::of(&record));
        for version in record.siblings() {
            self.sighted(key, version, at);
            let holders = self.holders.entry(version.dot).or_default();
            let lost = |since: Time| {
                let mut losses = self.losses.iter();
                losses.any(|loss| loss.who == who && loss.at >= since && loss.concerns(key))
            };
            let mut known = holders.iter();
            if !known.any(|(holder, since)| *holder == who && !lost(*since)) {
                holders.push((who, at));
            }
        }
        for dot in self.of_key.get(key).into_iter().flatten() {
            let knowers = self.knowers.entry(*dot).or_default();
            let lost = |since: Time| {
                let mut losses = self.losses.iter();
                losses.any(|loss| loss.who == who && loss.at >= since && loss.concerns(key))
            };
            let known = |(it, since): &(Endpoint, Time)| *it == who && !lost(*since);
            if counts && record.seen().covers(*dot) && !knowers.iter().any(known) {
                knowers.push((who, at));
            }
        }
    }

    /// A version is seen for the first time.
    pub fn note(&mut self, dot: Dot, sighting: Sighting) {
        let of_key = self.of_key.entry(sighting.key.clone());
        of_key.or_default().push(dot);
        self.versions.insert(dot, sighting);
    }

    fn sighted(&mut self, key: &RecordKey, version: &Version, at: Time) {
        let content = match &version.content {
            Content::Value(value) => Some(value),
            Content::Tombstone => None,
        };
        let sighting = Sighting {
            key: key.clone(),
            write_id: version.write_id,
            stamp: version.stamp,
            op: content.and_then(|bytes| value::parse(key.tenant(), key.key(), bytes)),
            content: content.map(|bytes| Fnv::of(bytes)),
            at,
        };
        if let Some(value) = content.filter(|_| sighting.op.is_none())
            && let Some((place, op)) = value::origin(value)
        {
            let what = format!(
                "{} holds #{}, which was written to {place}",
                version.dot, op.0
            );
            self.contradiction("isolation", Some(key), what);
        }
        match self.versions.get(&version.dot) {
            None => self.note(version.dot, sighting),
            Some(first) => {
                let at = first.at;
                if (Sighting {
                    at,
                    ..sighting.clone()
                }) != *first
                {
                    let what = format!("{} is {first:?} and {sighting:?}", version.dot);
                    self.contradiction("one dot, one version", Some(key), what);
                }
            }
        }
    }

    /// A node lost what it said to hold, or some of it.
    fn loses_memory(&mut self, who: Endpoint, at: Time, of: Option<&RecordKey>) {
        let loss = Loss {
            who,
            at,
            of: of.cloned(),
        };
        let memory = std::mem::take(&mut self.memory).into_iter();
        let (gone, kept): (BTreeMap<_, _>, _) =
            memory.partition(|((node, key), _)| *node == who && loss.concerns(key));
        self.losses.push(loss);
        self.memory = kept;
        let gone = gone.into_iter();
        self.knew
            .extend(gone.map(|(place, knew)| (place, (knew, at))));
    }

    /// A node rightly forgets what it knew of a key.
    fn forgets(&mut self, who: Endpoint, key: &RecordKey, old: &Bytes) -> Record {
        self.memory.remove(&(who, key.clone()));
        let record = Record::decode(old.clone()).unwrap_or_default();
        let (count, seen) = self.purges.entry((who, key.clone())).or_default();
        *count += 1;
        seen.merge(record.seen());
        record
    }

    /// The versions that were seen of a key.
    #[must_use]
    pub fn dots_of(&self, key: &RecordKey) -> &[Dot] {
        self.of_key.get(key).map_or(&[], Vec::as_slice)
    }

    fn purges(&self, who: Endpoint, key: &RecordKey) -> u32 {
        let purges = self.purges.get(&(who, key.clone()));
        purges.map_or(0, |(count, _)| *count)
    }

    /// Something can't be right, unless that is excused.
    pub fn contradiction_unless(
        &mut self,
        excuse: Option<Excuse>,
        rule: &'static str,
        key: Option<&RecordKey>,
        what: String,
    ) {
        match excuse {
            Some(excuse) => self.excuses.note(excuse),
            None => self.contradiction(rule, key, what),
        }
    }

    /// Something can't be right.
    pub fn contradiction(&mut self, rule: &'static str, key: Option<&RecordKey>, what: String) {
        let key = key.cloned();
        let contradiction = Contradiction { rule, key, what };
        if self.contradictions.len() < 20 && !self.contradictions.contains(&contradiction) {
            self.contradictions.push(contradiction);
        }
    }

    /// Whether every node that said to hold this version up to `until` has lost something since, or rightly dropped it:
    /// that each owner held it then is looked at when it is dropped.
    #[must_use]
    pub fn may_be_lost(&self, dot: Dot, until: Time) -> bool {
        let holders = self.holders.get(&dot).map_or(&[][..], Vec::as_slice);
        let key = self.versions.get(&dot).map(|version| &version.key);
        let dropped = |who: Endpoint, since: Time| {
            let mut drops = self.drops.iter();
            drops.any(|(node, of, at)| {
                *node == who && *at >= since && key.is_none_or(|key| key == of)
            })
        };
        let safe = |(who, since): &(Endpoint, Time)| {
            let mut losses = self.losses.iter();
            let lost = |loss: &Loss| {
                loss.who == *who && loss.at >= *since && key.is_none_or(|key| loss.concerns(key))
            };
            let gone = losses.any(lost) || dropped(*who, *since) || self.given_up.contains(who);
            *since <= until && !gone
        };
        !holders.iter().any(safe)
    }

    /// The dots of each operation's write.
    #[must_use]
    pub fn dots_of_ops(&self) -> BTreeMap<OpId, BTreeSet<Dot>> {
        let mut dots: BTreeMap<OpId, BTreeSet<Dot>> = BTreeMap::new();
        for (dot, sighting) in &self.versions {
            if let Some(op) = sighting.op {
                dots.entry(op).or_default().insert(*dot);
            }
        }
        dots
    }
}

/// The tree that an operation removes.
fn dropped_by(operation: &Operation) -> Option<&TreeName> {
    match operation {
        Operation::Maintenance(asked) => match &**asked {
            Maintenance::DropTree { tree } => Some(tree),
            _ => None,
        },
        _ => None,
    }
}

/// The partition that an operation of maintenance is about, if it is about one.
fn partition_of(operation: &Operation) -> Option<PartitionId> {
    let Operation::Maintenance(asked) = operation else {
        return None;
    };
    match &**asked {
        Maintenance::Sync { tree, .. }
        | Maintenance::KeepPurged { tree, .. }
        | Maintenance::DropTree { tree } => Some(tree.partition()),
        Maintenance::Hint { key, .. } | Maintenance::Heal { key, .. } => Some(key.partition()),
        _ => None,
    }
}
