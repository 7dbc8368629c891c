//! Answers to requests for maintenance: what is here, to be compared; hints; what may be purged.
//!
//! Looks through many records go one at a time and page by page, so that a request waits behind one page at most.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::hints::{self, after};
use super::maintenance_change::MaintenanceChange as Change;
use super::shared::Shared;
use super::{leaves, tombstones};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Node, NodeId};
use crate::ports::{
    Clock, Digest, KeyHash, KeyPage, Maintained, Maintenance, Purged, RecordKey, Refusal,
    ReplicaWorld, Reply, Space, StorageEngine, StorageError, TreeName,
};
use crate::version::Record;

/// Leaves looked at for one answer.
const LEAVES_PAGE: usize = 4096;
/// Trees of which something was purged, looked at for one answer.
const FLOORS_PAGE: usize = 256;
/// Records looked at for one answer.
const RECORDS_PAGE: usize = 128;
/// Records held in memory for that. One may have some MiB.
const RECORDS_AT_ONCE: usize = 16;
/// Keys that one request may name.
pub(super) const KEYS_MAX: usize = 1024;
/// Nodes that may have hints here.
const TARGETS_MAX: usize = 1024;

impl<W: ReplicaWorld> Shared<W> {
    /// Does what is asked for.
    pub(super) async fn maintenance(
        &self,
        epoch: Epoch,
        maintenance: Maintenance,
    ) -> Result<Reply, Refusal> {
        self.admit(epoch)?;
        if epoch > self.epoch() {
            self.learn(epoch).await?;
        }
        let view = self.view()?;
        let maintained = match maintenance {
            Maintenance::Roots { after } => self.roots(after.as_ref()).await?,
            Maintenance::Leaves { tree } => Maintained::Leaves {
                leaves: self.leaves(&tree).await?.into_iter().collect(),
            },
            Maintenance::Keys {
                tree,
                leaves,
                after,
            } => self.keys(&tree, leaves, after.as_ref()).await?.into(),
            Maintenance::Sync { tree, peer } => Maintained::Synced(self.sync(&tree, &peer).await?),
            Maintenance::Hint { key, targets } => return self.hint(key, targets).await,
            Maintenance::DeliverHints { target } => {
                self.hints.is_back(&target, self.world.clock().now());
                Maintained::Done
            }
            Maintenance::ForgetHints { target, .. } => return self.forget(&target).await,
            Maintenance::RootsOf { .. }
            | Maintenance::Fence { .. }
            | Maintenance::DropTree { .. } => {
                return Err(Refusal::Unavailable("not built yet".into()));
            }
            // What is purged must be known for what it is: by all, and by nobody who lacks part of the tree.
            Maintenance::Tombstones { .. } | Maintenance::AreTombstones { .. }
                if self.is_refilling() =>
            {
                return Err(Refusal::Refilling);
            }
            Maintenance::Tombstones {
                tree,
                after,
                last_write_wins,
            } => {
                self.tombstones(&tree, after.as_ref(), last_write_wins)
                    .await?
            }
            Maintenance::AreTombstones { keys } => {
                let keys = self.old_tombstones(few(keys)?, None).await?;
                Maintained::Keys { keys, more: None }
            }
            Maintenance::Purge { keys } => {
                return self.maintain(Change::Purge { keys: few(keys)? }).await;
            }
            Maintenance::DropPurged { keys } => {
                return self.maintain(Change::DropPurged { keys: few(keys)? }).await;
            }
            Maintenance::Refilled { incarnation } => {
                return self.maintain(Change::Refilled { incarnation }).await;
            }
            Maintenance::Damaged => self.damaged_records().await?,
            Maintenance::Heal { key, hash, record } => {
                super::check_key(key.as_bytes())?;
                let damaged = KeyHash { key, hash };
                return self.maintain(Change::Heal { damaged, record }).await;
            }
            Maintenance::KeepPurged { tree, purged } => {
                return self.maintain(Change::KeepPurged { tree, purged }).await;
            }
            Maintenance::Purged { tree } => return self.tell_purged(epoch, &tree).await,
        };
        // What was looked at may be from before a newer epoch or a loss, and must not be taken for what is there now.
        self.admit(epoch)?;
        self.is_still(view)?;
        Ok(Reply::Maintained(maintained))
    }

    /// Notes that `targets` may lack what is held of `key`.
    async fn hint(&self, key: RecordKey, targets: Vec<Node>) -> Result<Reply, Refusal> {
        super::check_key(key.as_bytes())?;
        if targets.len() > TARGETS_MAX || self.hints.lock().len() > TARGETS_MAX {
            return Err(Refusal::Overloaded);
        }
        self.maintain(Change::Hint { key, targets }).await
    }

    /// What was purged of a tree, marked if the node may have lost part of it.
    async fn tell_purged(&self, epoch: Epoch, tree: &TreeName) -> Result<Reply, Refusal> {
        let counts = !self.is_refilling();
        let purged = Reply::Maintained(Maintained::Purged(self.purged(tree).await?));
        self.admit(epoch)?;
        Ok(match counts {
            true => purged,
            false => Reply::Refilling(Box::new(purged)),
        })
    }

    fn has_digests(&self) -> Result<(), Refusal> {
        match self.digested.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(Refusal::Unavailable(
                "the node is making its digests".into(),
            )),
        }
    }

    async fn roots(&self, after_tree: Option<&TreeName>) -> Result<Maintained, Refusal> {
        self.has_digests()?;
        let from = after_tree.map_or_else(Bytes::new, TreeName::end);
        let page = self
            .look(Space::Digests, from.clone(), None, LEAVES_PAGE)
            .await?;
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
        let more = page.len() == LEAVES_PAGE;
        if more {
            roots.pop(); // there may be more of it
        }
        self.with_purged(roots, more, &from).await
    }

    /// A page of trees, those added that have no records any more, with what was purged of them.
    async fn with_purged(
        &self,
        roots: Vec<(TreeName, Digest)>,
        more: bool,
        from: &Bytes,
    ) -> Result<Maintained, Refusal> {
        if mutant::on(Mutant::FloorsStayBehind) {
            return Ok(Maintained::Roots { roots, more });
        }
        let (begin, end) = (
            tombstones::purged_from(from),
            Some(tombstones::purged_end()),
        );
        let page = self.look(Space::Meta, begin, end, FLOORS_PAGE).await?;
        let more_floors = page.len() == FLOORS_PAGE;
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
        let page = self.look(Space::Digests, from, end, LEAVES_PAGE).await?;
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
        for _ in 0..RECORDS_PAGE / RECORDS_AT_ONCE {
            let page = self.look(Space::Records, from, Some(end.clone()), RECORDS_AT_ONCE);
            let page = page.await?;
            keys.extend(page.iter().filter_map(|(name, encoded)| {
                let key = key(name)?;
                let hash = Digest::hash(&key, encoded);
                (wanted >> key.leaf() & 1 == 1).then_some(KeyHash { key, hash })
            }));
            match page.last() {
                Some((last, _)) if page.len() == RECORDS_AT_ONCE => from = after(last),
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
        let from = after_key.map_or_else(|| tree.as_bytes().clone(), |key| after(key.as_bytes()));
        let end = Some(tree.end());
        let page = self
            .look(Space::Tombstones, from, end, RECORDS_PAGE)
            .await?;
        let more = match page.last() {
            Some((last, _)) if page.len() == RECORDS_PAGE => key(last),
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
            self.maintain(Change::Settle { keys: hiding }).await?;
        }
        let keys = self.old_tombstones(keys, Some(since)).await?;
        Ok(Maintained::Keys { keys, more })
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
        for some in keys.chunks(RECORDS_AT_ONCE) {
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

    /// Drops all hints for `target`, page by page.
    async fn forget(&self, target: &NodeId) -> Result<Reply, Refusal> {
        loop {
            let from = hints::prefix(target).freeze();
            let page = self
                .look(Space::Hints, after(&from), None, KEYS_MAX)
                .await?;
            let keys: Vec<RecordKey> = page
                .iter()
                .map_while(|(name, _)| hints::parse(name).filter(|(of, _)| of == target))
                .filter_map(|(_, key)| key)
                .collect();
            let last = keys.len() < KEYS_MAX;
            let target = target.clone();
            let done = self.maintain(Change::Forget { target, keys }).await?;
            if last {
                return Ok(done);
            }
        }
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
