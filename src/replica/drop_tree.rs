//! A tree of which the node is no owner any more is dropped: its records, and all that is kept of them.
//!
//! Page by page, each one step of the mutation loop, which looks anew each time whether the tree may still be dropped:
//! should the node be relied on again meanwhile, what is left stays. First go the records, with their part of the
//! digests, then the hints that the node holds for keys of the tree. Damaged records go as well.
//!
//! What the node knows to be purged of the tree goes with the very first page. Beside records that are missing because
//! they were dropped it would say of the others' copies that they are purged, should the node be relied on again.
//!
//! What this is not: it does not look whether others hold what goes. Whoever asks has seen to it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::batch::{Applied, HintChange};
use super::fences::{About, Asked};
use super::hints::{self, after};
use super::leaves::Leaves;
use super::mutation::DroppedPage;
use super::mutations::{Loop, refusal_of};
use super::slot::{Changed, Slot};
use super::tombstone_state::TombstoneState;
use super::tombstones;
use crate::placement::{Epoch, NodeId};
use crate::ports::{
    Dropped, LEAVES, Put, RecordKey, Refusal, Release, ReplicaWorld, Space, StorageEngine,
    StorageError, TreeName,
};
use crate::sizes::{self, Size};

/// What goes in one step.
#[derive(Default)]
struct Page {
    records: Vec<RecordKey>,
    bytes: u64,
    hints: Vec<(NodeId, Bytes)>,
    /// Whether nothing of the tree is left after it.
    is_last: bool,
}

impl<W: ReplicaWorld> Loop<W> {
    /// Drops the next page of a tree, if the node is leaving its partition by this very epoch.
    pub(super) async fn drop_page(
        &mut self,
        tree: &TreeName,
        epoch: Epoch,
    ) -> Result<DroppedPage, Refusal> {
        let asked = Asked {
            caller: Release::Current, // nobody else knows of this
            epoch,
            about: About::Node,
        };
        self.ledger.admit(Some(&asked))?;
        let fences = &self.ledger.fences;
        fences.may_drop(tree.partition(), epoch)?;
        let (page, puts) = self
            .next_page(tree)
            .await
            .map_err(|error| refusal_of(&error))?;
        let targets = page.hints.into_iter().map(|(target, _)| target);
        let gone = Applied {
            hint_changes: targets.map(HintChange::Dropped).collect(),
            ..Applied::only(self.ledger.clone(), puts)
        };
        let stored = self.commit(gone).await;
        stored.map_err(|error| refusal_of(&error))?;
        let dropped = Dropped {
            records: page.records.len() as u64,
            complete: page.is_last,
        };
        Ok(DroppedPage {
            dropped,
            bytes: page.bytes,
        })
    }

    /// What goes next, and what makes it go.
    async fn next_page(&self, tree: &TreeName) -> Result<(Page, Vec<Put>), StorageError> {
        let mut page = Page::default();
        let mut puts = Vec::new();
        let remove = |space, key| Put {
            space,
            key,
            value: None,
        };
        puts.push(remove(Space::Meta, tombstones::purged_key(tree)));
        let none_is_left = self.drop_records(tree, &mut page, &mut puts).await?;
        if !none_is_left {
            return Ok((page, puts));
        }
        page.hints = self.hints_of(tree).await?;
        puts.extend(
            page.hints
                .iter()
                .map(|(_, hint)| remove(Space::Hints, hint.clone())),
        );
        if page.hints.len() < sizes::of(Size::DropPage) {
            page.is_last = true;
            // A record that was damaged is counted in its leaf as it was before.
            let storage = self.shared.world.storage();
            let (from, end) = (tree.as_bytes().clone(), Some(tree.end()));
            let stored = storage.scan(Space::Digests, from, end, usize::from(LEAVES));
            let stored = stored.await?.into_iter().map(|(leaf, _)| leaf);
            let changed = puts.iter().filter(|put| put.space == Space::Digests);
            let leaves: BTreeSet<Bytes> =
                changed.map(|put| put.key.clone()).chain(stored).collect();
            puts.extend(leaves.into_iter().map(|leaf| remove(Space::Digests, leaf)));
        }
        Ok((page, puts))
    }

    /// Returns whether there are no more records after these.
    async fn drop_records(
        &self,
        tree: &TreeName,
        page: &mut Page,
        puts: &mut Vec<Put>,
    ) -> Result<bool, StorageError> {
        let storage = self.shared.world.storage();
        let mut leaves = Leaves::new(self.digested);
        let mut from = tree.as_bytes().clone();
        let mut none_is_left = false;
        let at_once = sizes::of(Size::RecordsAtOnce);
        while page.records.len() < sizes::of(Size::DropPage) && !none_is_left {
            let end = Some(tree.end());
            let some = storage.scan(Space::Records, from.clone(), end, at_once);
            let some = some.await?;
            none_is_left = some.len() < at_once;
            if let Some((last, _)) = some.last() {
                from = after(last);
            }
            let mut found = Vec::with_capacity(some.len());
            for (name, stored) in some {
                page.bytes += (name.len() + stored.len()) as u64;
                if let Ok(key) = RecordKey::from_bytes(name) {
                    let mut slot = Slot::load(&key, Some(stored));
                    // Of a record that is damaged it is not known whether there is a note.
                    if slot.is_damaged() || slot.was() != TombstoneState::None {
                        puts.push(tombstones::not_found(&key));
                    }
                    slot.remove();
                    found.push((key, slot.into_change()));
                }
            }
            self.load_leaves(&found, &mut leaves).await?;
            for (key, changed) in found {
                if let Some(changed) = &changed {
                    leaves.change(&key, changed);
                }
                puts.push(Put {
                    space: Space::Records,
                    key: key.as_bytes().clone(),
                    value: None,
                });
                page.records.push(key);
            }
        }
        puts.extend(leaves.into_puts());
        Ok(none_is_left)
    }

    /// Takes up the stored digests of the leaves that these records are counted in, but for those that are there.
    async fn load_leaves(
        &self,
        found: &[(RecordKey, Option<Changed>)],
        leaves: &mut Leaves,
    ) -> Result<(), StorageError> {
        let changed = found.iter().filter(|(_, changed)| changed.is_some());
        let names: BTreeSet<Bytes> = changed
            .filter_map(|(key, _)| leaves.name_of(key))
            .filter(|name| !leaves.has(name))
            .collect();
        let names = Vec::from_iter(names);
        let stored = self.read(Space::Digests, names.clone()).await?;
        for (name, stored) in names.into_iter().zip(stored) {
            leaves.load(name, stored.as_ref());
        }
        Ok(())
    }

    /// Some of the hints that are held here for keys of the tree, by their names.
    async fn hints_of(&self, tree: &TreeName) -> Result<Vec<(NodeId, Bytes)>, StorageError> {
        let targets: Vec<NodeId> = self.shared.hints.lock().keys().cloned().collect();
        let storage = self.shared.world.storage();
        let mut found = Vec::new();
        let page_max = sizes::of(Size::DropPage);
        for target in targets {
            let from = hints::named(&target, tree.as_bytes());
            let end = hints::named(&target, &tree.end());
            let room = page_max - found.len();
            let page = storage.scan(Space::Hints, from, Some(end), room).await?;
            found.extend(page.into_iter().map(|(name, _)| (target.clone(), name)));
            if found.len() >= page_max {
                break;
            }
        }
        Ok(found)
    }
}
