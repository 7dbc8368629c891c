//! Answers to requests for maintenance: what is here, to be compared; hints; what may be purged; fences, and trees that
//! are dropped.
//!
//! Looks through many records go one at a time and page by page, so that a request waits behind one page at most.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::channel::oneshot;

use super::fences::{About, Asked};
use super::hints::{self, after};
use super::maintenance_change::MaintenanceChange as Change;
use super::mutation::{Change as Loops, Mutation};
use super::queue::rejected;
use super::shared::Shared;
use super::{leaves, tombstones};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, MAX_PARTITIONS, Node, NodeId, PartitionId};
use crate::ports::{
    Clock, Digest, KeyHash, KeyPage, LEAVES, Maintained, Maintenance, Purged, RecordKey, Refusal,
    Release, ReplicaWorld, Reply, Space, StorageEngine, StorageError, TreeName,
};
use crate::sizes::{self, Size};
use crate::version::{Record, Stamp};

/// Keys that one request may name.
pub(super) const KEYS_MAX: usize = 1024;
/// Nodes that may have hints here.
const TARGETS_MAX: usize = 1024;

/// How far one request has come.
enum Step {
    /// This was found; it must not be from before a fence or a loss.
    Found(Reply),
    /// This was done, durably.
    Done(Reply),
    /// This is to be done by the mutation loop.
    Change(Change),
}

impl From<Maintained> for Step {
    fn from(found: Maintained) -> Self {
        Self::Found(Reply::Maintained(found))
    }
}

impl<W: ReplicaWorld> Shared<W> {
    /// Does what is asked for.
    pub(super) async fn maintenance(
        &self,
        caller: Release,
        epoch: Epoch,
        maintenance: Maintenance,
    ) -> Result<Reply, Refusal> {
        let about = About::of(&maintenance);
        let asked = Asked {
            caller,
            epoch,
            about,
        };
        self.admit(&asked)?;
        self.hear(epoch);
        let view = self.view()?;
        match self.step(&asked, maintenance).await? {
            Step::Change(change) => self.maintain(Some(asked), change).await,
            Step::Done(reply) => Ok(reply),
            Step::Found(reply) => {
                self.admit(&asked)?;
                self.is_still(view)?;
                Ok(reply)
            }
        }
    }

    async fn step(&self, asked: &Asked, maintenance: Maintenance) -> Result<Step, Refusal> {
        let found = match maintenance {
            Maintenance::Roots { after } => self.roots(None, after.as_ref()).await?,
            Maintenance::RootsOf { partition, after } => {
                self.roots(Some(partition), after.as_ref()).await?
            }
            Maintenance::Leaves { tree } => Maintained::Leaves {
                leaves: self.leaves(&tree).await?.into_iter().collect(),
            },
            Maintenance::Keys {
                tree,
                leaves,
                after,
            } => self.keys(&tree, leaves, after.as_ref()).await?.into(),
            Maintenance::Sync { tree, peer } => {
                Maintained::Synced(self.sync(asked, &tree, &peer).await?)
            }
            Maintenance::DeliverHints { target } => {
                self.hints.is_back(&target, self.world.clock().now());
                Maintained::Done
            }
            Maintenance::Tombstones {
                tree,
                after,
                last_write_wins,
            } => {
                let found = self.tombstones(&tree, after.as_ref(), last_write_wins);
                found.await?
            }
            Maintenance::AreTombstones { keys } => self.are_tombstones(keys).await?,
            Maintenance::Damaged => self.damaged_records().await?,
            Maintenance::Purged { tree } => return self.tell_purged(&tree).await,
            Maintenance::ForgetHints { target, partitions } => {
                return self.forget(asked, &target, partitions).await;
            }
            Maintenance::DropTree { tree } => return self.drop_tree(asked, tree).await,
            Maintenance::Hint { key, targets } => return self.hint(key, targets),
            Maintenance::Heal { key, hash, record } => return heal(key, hash, record),
            Maintenance::Fence {
                partitions,
                leaving,
                horizon,
            } => return fence(asked.epoch, partitions, leaving, horizon),
            Maintenance::Purge { keys } => {
                return Ok(Step::Change(Change::Purge { keys: few(keys)? }));
            }
            Maintenance::DropPurged { keys } => {
                return Ok(Step::Change(Change::DropPurged { keys: few(keys)? }));
            }
            Maintenance::KeepPurged { tree, purged } => {
                return Ok(Step::Change(Change::KeepPurged { tree, purged }));
            }
            Maintenance::Refilled { incarnation } => {
                return Ok(Step::Change(Change::Refilled { incarnation }));
            }
        };
        Ok(found.into())
    }

    /// Notes that `targets` may lack what is held of `key`.
    fn hint(&self, key: RecordKey, targets: Vec<Node>) -> Result<Step, Refusal> {
        super::check_key(key.as_bytes())?;
        if targets.len() > TARGETS_MAX || self.hints.lock().len() > TARGETS_MAX {
            return Err(Refusal::Overloaded);
        }
        Ok(Step::Change(Change::Hint { key, targets }))
    }

    /// What was purged of a tree, marked if the node may have lost part of it.
    async fn tell_purged(&self, tree: &TreeName) -> Result<Step, Refusal> {
        let counts = !self.is_refilling();
        let purged = Reply::Maintained(Maintained::Purged(self.purged(tree).await?));
        Ok(Step::Found(match counts {
            true => purged,
            false => Reply::Refilling(Box::new(purged)),
        }))
    }

    fn has_digests(&self) -> Result<(), Refusal> {
        match self.digested.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(Refusal::Unavailable(
                "the node is making its digests".into(),
            )),
        }
    }

    /// A page of trees, of this partition or of all.
    async fn roots(
        &self,
        partition: Option<PartitionId>,
        after_tree: Option<&TreeName>,
    ) -> Result<Maintained, Refusal> {
        self.has_digests()?;
        let (begin, end) = partition.map_or((Bytes::new(), None), range);
        let from = after_tree.map_or(begin.clone(), |tree| tree.end().max(begin));
        if end.as_ref().is_some_and(|end| from >= *end) {
            let (roots, more) = (Vec::new(), false);
            return Ok(Maintained::Roots { roots, more });
        }
        let page_max = sizes::of(Size::LeavesPage);
        let page = self.look(Space::Digests, from.clone(), end.clone(), page_max);
        let page = page.await?;
        let mut roots: Vec<(TreeName, Digest)> = Vec::new();
        for (name, stored) in &page {
            let Some((tree, _)) = leaves::parse(name) else {
                continue;
            };
            let digest = leaves::decode(stored).unwrap_or_default();
            match roots.last_mut() {
                Some((last, root)) if *last == tree => *root = root.and(digest),
                _ => roots.push((tree, digest)),
            }
        }
        let more = page.len() == page_max;
        if more {
            roots.pop(); // there may be more of it
        }
        self.with_purged(roots, more, (from, end)).await
    }

    /// A page of trees, those added that have no records any more, with what was purged of them.
    async fn with_purged(
        &self,
        roots: Vec<(TreeName, Digest)>,
        more: bool,
        (from, end): (Bytes, Option<Bytes>),
    ) -> Result<Maintained, Refusal> {
        if mutant::on(Mutant::FloorsStayBehind) {
            return Ok(Maintained::Roots { roots, more });
        }
        let begin = tombstones::purged_from(&from);
        let end = end.as_ref().map(tombstones::purged_from);
        let end = end.unwrap_or_else(tombstones::purged_end);
        let page_max = sizes::of(Size::FloorsPage);
        let page = self.look(Space::Meta, begin, Some(end), page_max);
        let page = page.await?;
        let more_floors = page.len() == page_max;
        let floors = page
            .into_iter()
            .filter_map(|(key, stored)| Some((tombstones::purged_tree(&key)?, stored)));
        let floors: Vec<(TreeName, Bytes)> = floors.collect();
        // Beyond the end of what has another page nothing can be said yet.
        let root_end = roots.last().filter(|_| more).map(|(tree, _)| tree);
        let floor_end = floors.last().filter(|_| more_floors).map(|(tree, _)| tree);
        let end = root_end.into_iter().chain(floor_end).min().cloned();
        let mut all: BTreeMap<TreeName, Digest> = roots.into_iter().collect();
        for (tree, stored) in floors {
            let digest = all.entry(tree.clone()).or_default();
            *digest = digest.with_purged(&tree, &stored);
        }
        all.retain(|tree, _| end.as_ref().is_none_or(|end| tree <= end));
        Ok(Maintained::Roots {
            roots: all.into_iter().collect(),
            more: more || more_floors,
        })
    }

    /// The leaves that have records.
    pub(super) async fn leaves(&self, tree: &TreeName) -> Result<BTreeMap<u8, Digest>, Refusal> {
        self.has_digests()?;
        let (from, end) = (leaves::name(tree, 0), Some(tree.end()));
        let page = self
            .look(Space::Digests, from, end, usize::from(LEAVES))
            .await?;
        let leaves = page.iter().filter_map(|(name, stored)| {
            let (_, leaf) = leaves::parse(name).filter(|(found, _)| found == tree)?;
            Some((leaf, leaves::decode(stored)?))
        });
        Ok(leaves.collect())
    }

    /// A page of keys with their hashes, of the leaves in the set `wanted`.
    pub(super) async fn keys(
        &self,
        tree: &TreeName,
        wanted: u64,
        after_key: Option<&RecordKey>,
    ) -> Result<KeyPage, Refusal> {
        let mut from =
            after_key.map_or_else(|| tree.as_bytes().clone(), |key| after(key.as_bytes()));
        let end = tree.end();
        let mut keys = Vec::new();
        let page_max = sizes::of(Size::RecordsPage);
        let at_once = sizes::of(Size::RecordsAtOnce).min(page_max);
        for _ in 0..page_max / at_once {
            let page = self.look(Space::Records, from, Some(end.clone()), at_once);
            let page = page.await?;
            keys.extend(page.iter().filter_map(|(name, encoded)| {
                let key = key(name)?;
                let hash = Digest::hash(&key, encoded);
                (wanted >> key.leaf() & 1 == 1).then_some(KeyHash { key, hash })
            }));
            match page.last() {
                Some((last, _)) if page.len() == at_once => from = after(last),
                _ => return Ok(KeyPage { keys, more: None }),
            }
        }
        let more = key(&from.slice(..from.len() - 1)); // the last one looked at
        Ok(KeyPage { keys, more })
    }

    /// A page of those tombstones that may be purged as far as this node goes. Where the last write wins, values that
    /// hide beneath one are dropped.
    async fn tombstones(
        &self,
        tree: &TreeName,
        after_key: Option<&RecordKey>,
        last_write_wins: bool,
    ) -> Result<Maintained, Refusal> {
        self.knows_what_is_purged()?;
        let from = after_key.map_or_else(|| tree.as_bytes().clone(), |key| after(key.as_bytes()));
        let end = Some(tree.end());
        let page_max = sizes::of(Size::RecordsPage);
        let page = self.look(Space::Tombstones, from, end, page_max).await?;
        let more = match page.last() {
            Some((last, _)) if page.len() == page_max => key(last),
            _ => None,
        };
        let mut keys = Vec::with_capacity(page.len());
        let mut since = Vec::with_capacity(page.len());
        let mut hiding = Vec::new();
        for (name, at) in page {
            // Most are young at most times: they cost no more than their place in the page.
            let Some(key) = key(&name).filter(|_| self.is_past_grace(&at)) else {
                continue;
            };
            if tombstones::hides(&at) {
                hiding.extend(last_write_wins.then_some(key));
                continue;
            }
            // One that is damaged is not purged, and doesn't keep others from it.
            let held = match self.held(&key).await {
                Err(Refusal::Damaged) => None,
                held => held?,
            };
            if let Some(encoded) = held {
                let hash = Digest::hash(&key, &encoded);
                keys.push(KeyHash { key, hash });
                since.push(Some(at));
            }
        }
        if !hiding.is_empty() && !mutant::on(Mutant::HiddenValuesKept) {
            self.maintain(None, Change::Settle { keys: hiding }).await?;
        }
        let keys = self.old_tombstones(keys, Some(since)).await?;
        Ok(Maintained::Keys { keys, more })
    }

    /// What is purged must be known for what it is: by all, and by nobody who lacks part of the tree.
    fn knows_what_is_purged(&self) -> Result<(), Refusal> {
        match self.is_refilling() {
            true => Err(Refusal::Refilling),
            false => Ok(()),
        }
    }

    /// Those of `keys` that may be purged as far as this node goes.
    async fn are_tombstones(&self, keys: Vec<KeyHash>) -> Result<Maintained, Refusal> {
        self.knows_what_is_purged()?;
        let keys = self.old_tombstones(few(keys)?, None).await?;
        Ok(Maintained::Keys { keys, more: None })
    }

    /// Those of `keys` that are held here just so, are nothing but tombstones, have been for the grace period, and are
    /// without a hint. `since` is since when each is one, if that was read already.
    async fn old_tombstones(
        &self,
        keys: Vec<KeyHash>,
        since: Option<Vec<Option<Bytes>>>,
    ) -> Result<Vec<KeyHash>, Refusal> {
        let names = || keys.iter().map(|entry| entry.key.as_bytes().clone());
        let storage = self.world.storage();
        let since = match since {
            Some(since) => since,
            None => {
                let read = storage.read(Space::Tombstones, names().collect()).await;
                read.map_err(unavailable)?
            }
        };
        let mut still_deleted = Vec::with_capacity(keys.len());
        for some in keys.chunks(sizes::of(Size::RecordsAtOnce)) {
            let names = some.iter().map(|entry| entry.key.as_bytes().clone());
            let held = storage.read(Space::Records, names.collect()).await;
            let held = some.iter().zip(held.map_err(unavailable)?);
            still_deleted.extend(held.map(|(entry, held)| is_still_deleted(entry, held)));
        }
        let mut hinted = vec![false; keys.len()];
        for target in self.hints.targets() {
            let hints = keys.iter().map(|entry| hints::name(&target, &entry.key));
            let hints = storage.read(Space::Hints, hints.collect()).await;
            for (hinted, hint) in hinted.iter_mut().zip(hints.map_err(unavailable)?) {
                *hinted |= hint.is_some();
            }
        }
        let all = keys.into_iter().zip(since).zip(still_deleted).zip(hinted);
        let old = all.filter_map(|(((entry, since), still_deleted), hinted)| {
            let hinted = hinted && !mutant::on(Mutant::PurgeBeforeHints);
            (still_deleted && !hinted && self.is_past_grace(&since?)).then_some(entry)
        });
        Ok(old.collect())
    }

    /// Whether a record that has been nothing but tombstones since `at` has been so for the grace period.
    fn is_past_grace(&self, at: &Bytes) -> bool {
        let now_ms = self.world.clock().wall_ms();
        let grace_ms = u64::try_from(self.settings.tombstone_grace.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(tombstones::since(at)) >= grace_ms
    }

    pub(super) async fn purged(&self, tree: &TreeName) -> Result<Purged, Refusal> {
        let read = self.world.storage();
        let read = read
            .read(Space::Meta, vec![tombstones::purged_key(tree)])
            .await;
        let stored = read.map_err(unavailable)?.pop().flatten();
        Ok(stored.map(tombstones::purged).unwrap_or_default())
    }

    /// Drops hints for `target`, page by page: those of these partitions, or all if there are none.
    async fn forget(
        &self,
        asked: &Asked,
        target: &NodeId,
        partitions: Vec<PartitionId>,
    ) -> Result<Step, Refusal> {
        let ranges: Vec<(Bytes, Option<Bytes>)> = match partitions.is_empty() {
            true => vec![(Bytes::new(), None)],
            false => partitions.into_iter().map(range).collect(),
        };
        for (begin, end) in ranges {
            let begin = hints::named(target, &begin);
            let end = end.map(|end| hints::named(target, &end));
            self.forget_between(asked, target, begin, end).await?;
        }
        Ok(Step::Done(Reply::Maintained(Maintained::Done)))
    }

    /// Drops the hints for `target` whose names are between these.
    async fn forget_between(
        &self,
        asked: &Asked,
        target: &NodeId,
        mut from: Bytes,
        end: Option<Bytes>,
    ) -> Result<(), Refusal> {
        let page_max = sizes::of(Size::ForgetPage);
        loop {
            let page = self.look(Space::Hints, from, end.clone(), page_max).await?;
            let names = page.iter().map_while(|(name, _)| {
                let (of, key) = hints::parse(name)?;
                (of == *target).then_some((name, key))
            });
            let names: Vec<_> = names.collect();
            let next = names.last().map(|(last, _)| after(last));
            let is_last = names.len() < page_max;
            let keys: Vec<RecordKey> = names.into_iter().filter_map(|(_, key)| key).collect();
            if !keys.is_empty() {
                let target = target.clone();
                let forget = Change::Forget { target, keys };
                self.maintain(Some(asked.clone()), forget).await?;
            }
            match next {
                Some(next) if !is_last => from = next,
                _ => return Ok(()),
            }
        }
    }

    /// Drops a page of a tree, at the node's pace.
    async fn drop_tree(&self, asked: &Asked, tree: TreeName) -> Result<Step, Refusal> {
        let (answer, answered) = oneshot::channel();
        let mutation = Mutation {
            asked: Some(asked.clone()),
            change: Loops::DropTree {
                tree,
                epoch: asked.epoch,
                answer,
            },
        };
        self.mutations.push(mutation, 0).map_err(rejected)?;
        let page = answered.await;
        let page =
            page.unwrap_or_else(|_| Err(Refusal::Unavailable("the node is stopping".into())))?;
        self.throttle.take(self.world.clock(), page.bytes).await;
        let dropped = Maintained::Dropped(page.dropped);
        Ok(Step::Done(Reply::Maintained(dropped)))
    }

    /// One look at a time.
    async fn look(
        &self,
        space: Space,
        from: Bytes,
        to: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Refusal> {
        let _one_at_a_time = self.looking.lock().await;
        let page = self.world.storage().scan(space, from, to, limit).await;
        page.map_err(unavailable)
    }
}

fn heal(key: RecordKey, hash: u128, record: Option<Bytes>) -> Result<Step, Refusal> {
    super::check_key(key.as_bytes())?;
    let damaged = KeyHash { key, hash };
    Ok(Step::Change(Change::Heal { damaged, record }))
}

fn fence(
    epoch: Epoch,
    partitions: Option<Vec<PartitionId>>,
    leaving: bool,
    horizon: Stamp,
) -> Result<Step, Refusal> {
    let named = partitions.as_ref().map_or(0, Vec::len);
    if named > MAX_PARTITIONS as usize {
        let words = format!("{named} partitions at once; there are {MAX_PARTITIONS}");
        return Err(Refusal::Malformed(words));
    }
    if horizon.next().is_none() {
        return Err(Refusal::Malformed("no stamp is above the horizon".into()));
    }
    Ok(Step::Change(Change::Fence {
        epoch,
        partitions,
        leaving,
        horizon,
    }))
}

/// The names of all keys, trees and leaves of a partition: from the first of these on, before the second.
fn range(PartitionId(partition): PartitionId) -> (Bytes, Option<Bytes>) {
    let name = |partition: u16| Bytes::copy_from_slice(&partition.to_be_bytes());
    (name(partition), partition.checked_add(1).map(name))
}

fn unavailable(error: StorageError) -> Refusal {
    Refusal::Unavailable(error.to_string())
}

fn key(name: &Bytes) -> Option<RecordKey> {
    RecordKey::from_bytes(name.clone()).ok()
}

/// Whether what is held is what `entry` says, and nothing but tombstones.
fn is_still_deleted(entry: &KeyHash, held: Option<Bytes>) -> bool {
    held.is_some_and(|held| {
        Digest::hash(&entry.key, &held) == entry.hash
            && Record::decode(held).is_ok_and(|record| record.is_deleted())
    })
}

fn few(keys: Vec<KeyHash>) -> Result<Vec<KeyHash>, Refusal> {
    match keys.len() > KEYS_MAX {
        true => Err(Refusal::Malformed(format!(
            "{} keys at once; at most {KEYS_MAX} are taken",
            keys.len()
        ))),
        false => Ok(keys),
    }
}
