//! The oldest epochs that the node answers to: one for all partitions, and newer ones for some of them.
//!
//! A *fence* is what a coordinator asks for that changes owners: from then on whatever was routed by an older epoch is
//! refused. A step of one partition fences that partition alone, so that requests to the others are not disturbed. The
//! fence of the whole node is part of its [`identity`](super::identity). Here are the fences of partitions: as values,
//! as they are stored, and as reads look them up.
//!
//! A partition that the node is *leaving* is one of which it owns a tree no more. Such trees may be dropped, by the
//! very epoch of the fence, until somebody relies on the node again (see [`Fences::own_again`]).
//!
//! Stored for each partition under `fence ` and its number, big endian: the epoch, big endian; 1 if the node is leaving
//! it, else 0; crc32c of these, little endian.
//!
//! Invariants, which [`Fences::validate`] checks:
//! - each says something: it is of a newer epoch than the node's own fence, or of a partition that the node is leaving;
//! - what is stored of each is read back as the same.
//!
//! Whoever knows nothing of changes of owners is served no more once the node was asked to fence a partition: of that
//! the [`identity`](super::identity) keeps a note, for fences come and go.
//!
//! A partition's fence moves to newer epochs only, with two exceptions: a node that joins anew has none, and an epoch
//! that can't be is come back from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::OpenError;
use super::hints::after;
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, PartitionId};
use crate::ports::{KeyHash, Maintenance, Put, Refusal, Release, Space, StorageEngine};
use crate::sizes::{self, Size};

const FENCE: &[u8] = b"fence ";
const FENCE_END: Bytes = Bytes::from_static(b"fence!");

/// The fence of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fence {
    /// What was routed by an older one is refused.
    pub(super) epoch: Epoch,
    /// Whether the node owns the partition no more, or not for all tenants.
    pub(super) leaving: bool,
}

/// What a request is about, as far as fences go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// No partition, or all of them: the node's own fence decides.
    Node,
    Partition(PartitionId),
    Partitions(BTreeSet<PartitionId>),
    /// What the node itself takes from a peer, of this partition. By the epoch by which it leaves it may: who asked for
    /// that has an end of it before anything is dropped, or asks anew. It makes no owner of the node.
    Taken(PartitionId),
}

/// Who asked for something, by which epoch, and what it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) caller: Release,
    pub(super) epoch: Epoch,
    pub(super) about: About,
}

/// The fences of partitions. A copy costs nothing before it is changed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Fences(Arc<BTreeMap<PartitionId, Fence>>);

/// The fences as everybody but the mutation loop sees them: those that are durable.
#[derive(Debug)]
pub(super) struct DurableFences {
    node: AtomicU64,
    partitions: ArcSwap<BTreeMap<PartitionId, Fence>>,
}

impl Fence {
    /// Whether it says that the node leaves, as far as this epoch knows.
    pub(super) fn leaves_by(self, epoch: Epoch) -> bool {
        self.leaving && epoch <= self.epoch
    }
}

impl About {
    fn keys(keys: &[KeyHash]) -> Self {
        Self::Partitions(keys.iter().map(|entry| entry.key.partition()).collect())
    }

    /// What a request for maintenance is about.
    pub(super) fn of(maintenance: &Maintenance) -> Self {
        match maintenance {
            Maintenance::RootsOf { partition, .. } => Self::Partition(*partition),
            Maintenance::DropTree { .. } if mutant::on(Mutant::DropIgnoresFence) => Self::Node,
            Maintenance::Leaves { tree }
            | Maintenance::Keys { tree, .. }
            | Maintenance::Sync { tree, .. }
            | Maintenance::Tombstones { tree, .. }
            | Maintenance::Purged { tree }
            | Maintenance::KeepPurged { tree, .. }
            | Maintenance::DropTree { tree } => Self::Partition(tree.partition()),
            Maintenance::Hint { key, .. } | Maintenance::Heal { key, .. } => {
                Self::Partition(key.partition())
            }
            Maintenance::AreTombstones { keys }
            | Maintenance::Purge { keys }
            | Maintenance::DropPurged { keys } => Self::keys(keys),
            Maintenance::ForgetHints { partitions, .. }
            | Maintenance::Fence {
                partitions: Some(partitions),
                ..
            } => Self::Partitions(partitions.iter().copied().collect()),
            Maintenance::Fence {
                partitions: None, ..
            }
            | Maintenance::Roots { .. }
            | Maintenance::DeliverHints { .. }
            | Maintenance::Damaged
            | Maintenance::Refilled { .. } => Self::Node,
        }
    }
}

impl Asked {
    /// Whether the node takes it itself: see [`About::Taken`].
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.about, About::Taken(_))
    }

    /// Refuses a caller that would rely on old owners alone while a partition moves, once owners change.
    pub(super) fn of_who_knows(&self, owners_change: bool) -> Result<(), Refusal> {
        match self.caller {
            Release::BeforeChangesOfOwners if owners_change => Err(Refusal::Unavailable(
                "the caller runs a version that knows nothing of changes of owners; upgrade it"
                    .into(),
            )),
            Release::BeforeChangesOfOwners | Release::Current => Ok(()),
        }
    }
}

impl Fences {
    /// Reads them from the engine.
    pub(super) async fn load(storage: &impl StorageEngine) -> Result<Self, OpenError> {
        let mut fences = BTreeMap::new();
        let mut from = Bytes::from_static(FENCE);
        let page_max = sizes::of(Size::FencesPage);
        loop {
            let page = storage.scan(Space::Meta, from, Some(FENCE_END), page_max);
            let page = page.await?;
            for (name, stored) in &page {
                let fence = decode(name, stored);
                let (partition, fence) = fence.ok_or(OpenError::DamagedIdentity(
                    "the fence of a partition can't be read",
                ))?;
                fences.insert(partition, fence);
            }
            match page.last() {
                Some((last, _)) if page.len() == page_max => from = after(last),
                _ => break,
            }
        }
        if mutant::on(Mutant::FenceForgotten) {
            fences.clear();
        }
        Ok(Self(Arc::new(fences)))
    }

    pub(super) fn get(&self, partition: PartitionId) -> Option<Fence> {
        self.0.get(&partition).copied()
    }

    /// Whether these are the others' very own: cheap, and true for copies that were not changed.
    pub(super) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    /// The newest epoch of any of them, and of the node's own fence.
    pub(super) fn newest(&self, node: Epoch) -> Epoch {
        newest(&self.0, node)
    }

    /// Refuses what is asked for by an older epoch than the node's, or than that of a partition it is about.
    pub(super) fn admit(&self, node: Epoch, asked: &Asked) -> Result<(), Refusal> {
        admit(&self.0, node, asked)
    }

    /// Raises the fence of a partition to `epoch`, unless it is newer; of the same epoch it takes on `leaving`.
    pub(super) fn raise(&mut self, node: Epoch, partition: PartitionId, fence: Fence) -> bool {
        match self.get(partition) {
            Some(held) if held.epoch > fence.epoch => false,
            _ => self.set(node, partition, fence),
        }
    }

    /// Somebody relies on the node for a partition, by `epoch`: if it was leaving it by an older one, it owns it again,
    /// and whoever would have it leave by an older epoch comes too late.
    pub(super) fn own_again(&mut self, node: Epoch, partition: PartitionId, epoch: Epoch) -> bool {
        let is_left = |fence: Fence| fence.leaving && epoch > fence.epoch;
        let leaving = false;
        self.get(partition).is_some_and(is_left)
            && self.set(node, partition, Fence { epoch, leaving })
    }

    /// Whether trees of the partition may be dropped by `epoch`.
    pub(super) fn may_drop(&self, partition: PartitionId, epoch: Epoch) -> Result<(), Refusal> {
        match self.get(partition) {
            _ if mutant::on(Mutant::DropIgnoresFence) => Ok(()),
            Some(Fence { epoch: current, .. }) if epoch < current => {
                Err(Refusal::StaleEpoch { current })
            }
            Some(fence) if fence.leaving && fence.epoch == epoch => Ok(()),
            _ => Err(Refusal::Unavailable(
                "the node is not leaving the partition by this epoch".into(),
            )),
        }
    }

    /// Leaves out what says no more than the node's fence, which was raised to `node`. Returns what was left out.
    pub(super) fn without_older(&mut self, node: Epoch) -> Vec<PartitionId> {
        let all = self.0.iter();
        let older = all.filter(|(_, fence)| !fence.leaving && fence.epoch <= node);
        self.forget(older.map(|(partition, _)| *partition).collect())
    }

    /// Leaves out all of them. Returns which there were.
    pub(super) fn without_any(&mut self) -> Vec<PartitionId> {
        self.forget(self.0.keys().copied().collect())
    }

    fn forget(&mut self, partitions: Vec<PartitionId>) -> Vec<PartitionId> {
        if !partitions.is_empty() {
            let fences = Arc::make_mut(&mut self.0);
            for partition in &partitions {
                fences.remove(partition);
            }
        }
        partitions
    }

    /// Sets those of later epochs than `epoch` back to it, the node's fence being at `node`. Nobody leaves a partition
    /// by an epoch that can't be. Returns which these were.
    pub(super) fn come_back(&mut self, node: Epoch, epoch: Epoch) -> Vec<PartitionId> {
        let all = self.0.iter();
        let later = all.filter(|(_, fence)| fence.epoch > epoch);
        let later: Vec<PartitionId> = later.map(|(partition, _)| *partition).collect();
        let leaving = false;
        for partition in &later {
            self.set(node, *partition, Fence { epoch, leaving });
        }
        later
    }

    /// Returns whether that changes anything.
    fn set(&mut self, node: Epoch, partition: PartitionId, fence: Fence) -> bool {
        let says_something = fence.leaving || fence.epoch > node;
        let fence = says_something.then_some(fence);
        if self.get(partition) == fence {
            return false;
        }
        let fences = Arc::make_mut(&mut self.0);
        match fence {
            Some(fence) => fences.insert(partition, fence),
            None => fences.remove(&partition),
        };
        true
    }

    /// What makes the fence of a partition, or that it has none, the stored one.
    pub(super) fn put(&self, partition: PartitionId) -> Put {
        put(partition, self.get(partition))
    }

    /// Checks the invariants, where the node's own fence is at `node`.
    ///
    /// # Errors
    /// Says which one is broken.
    pub(super) fn validate(&self, node: Epoch) -> Result<(), &'static str> {
        for (partition, fence) in self.0.iter() {
            let Put { key, value, .. } = put(*partition, Some(*fence));
            let stored = decode(&key, &value.unwrap_or_default());
            match () {
                () if !fence.leaving && fence.epoch <= node => {
                    return Err("the fence of a partition says no more than the node's");
                }
                () if stored != Some((*partition, *fence)) => {
                    return Err("what is stored of a fence is read back as something else");
                }
                () => {}
            }
        }
        Ok(())
    }
}

impl DurableFences {
    pub(super) fn new(node: Epoch, fences: &Fences) -> Self {
        Self {
            node: AtomicU64::new(node.0),
            partitions: ArcSwap::new(Arc::clone(&fences.0)),
        }
    }

    /// These have become durable. Only the mutation loop says so.
    pub(super) fn show(&self, node: Epoch, fences: &Fences) {
        self.node.store(node.0, Ordering::Release);
        self.partitions.store(Arc::clone(&fences.0));
    }

    /// See [`Fences::admit`]. Neither waits nor allocates.
    pub(super) fn admit(&self, asked: &Asked) -> Result<(), Refusal> {
        admit(&self.partitions.load(), self.node(), asked)
    }

    /// Whether the node is leaving this partition.
    pub(super) fn is_leaving(&self, partition: PartitionId) -> bool {
        let fences = self.partitions.load();
        fences.get(&partition).is_some_and(|fence| fence.leaving)
    }

    /// Whether the node leaves this partition as far as this epoch knows: by a newer one it may be relied on again,
    /// though nobody has done so yet.
    pub(super) fn leaves_by(&self, partition: PartitionId, epoch: Epoch) -> bool {
        let fences = self.partitions.load();
        fences.get(&partition).is_some_and(|it| it.leaves_by(epoch))
    }

    fn node(&self) -> Epoch {
        Epoch(self.node.load(Ordering::Acquire))
    }

    /// The newest epoch for which any older one is refused.
    pub(super) fn newest(&self) -> Epoch {
        newest(&self.partitions.load(), self.node())
    }
}

fn newest(fences: &BTreeMap<PartitionId, Fence>, node: Epoch) -> Epoch {
    let newest = fences.values().map(|fence| fence.epoch).max();
    newest.map_or(node, |newest| newest.max(node))
}

fn admit(
    fences: &BTreeMap<PartitionId, Fence>,
    node: Epoch,
    Asked { epoch, about, .. }: &Asked,
) -> Result<(), Refusal> {
    let fence_of = |partition| fences.get(partition).map_or(node, |fence| fence.epoch);
    let current = match about {
        About::Node => node,
        About::Partition(partition) | About::Taken(partition) => node.max(fence_of(partition)),
        About::Partitions(all) => all.iter().map(fence_of).fold(node, Epoch::max),
    };
    match *epoch < current && !mutant::on(Mutant::EpochNotChecked) {
        true => Err(Refusal::StaleEpoch { current }),
        false => Ok(()),
    }
}

fn put(partition: PartitionId, fence: Option<Fence>) -> Put {
    let mut key = BytesMut::with_capacity(FENCE.len() + 2);
    key.put_slice(FENCE);
    key.put_u16(partition.0);
    let value = fence.map(|Fence { epoch, leaving }| {
        let mut value = BytesMut::with_capacity(13);
        value.put_u64(epoch.0);
        value.put_u8(leaving.into());
        let checksum = crc32c::crc32c(&value);
        value.put_u32_le(checksum);
        value.freeze()
    });
    Put {
        space: Space::Meta,
        key: key.freeze(),
        value,
    }
}

fn decode(name: &Bytes, stored: &Bytes) -> Option<(PartitionId, Fence)> {
    let partition: [u8; 2] = name.strip_prefix(FENCE)?.try_into().ok()?;
    let (mut body, checksum) = stored.split_last_chunk()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let epoch = Epoch(body.try_get_u64().ok()?);
    let leaving = match body {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    let partition = PartitionId(u16::from_be_bytes(partition));
    Some((partition, Fence { epoch, leaving }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Epoch = Epoch(5);

    fn fence(epoch: u64, leaving: bool) -> Fence {
        let epoch = Epoch(epoch);
        Fence { epoch, leaving }
    }

    fn fences<const N: usize>(all: [(u16, Fence); N]) -> Fences {
        let all = all.into_iter().map(|(p, fence)| (PartitionId(p), fence));
        Fences(Arc::new(all.collect()))
    }

    fn asked(epoch: u64, about: About) -> Asked {
        Asked {
            caller: Release::Current,
            epoch: Epoch(epoch),
            about,
        }
    }

    #[test]
    fn older_epochs_are_refused_for_the_partition_alone() {
        let fences = fences([(1, fence(9, false)), (2, fence(7, true))]);
        let durable = DurableFences::new(NODE, &fences);
        let of = |p| About::Partition(PartitionId(p));
        let many = |all: &[u16]| About::Partitions(all.iter().copied().map(PartitionId).collect());
        let least = [
            (About::Node, 5),
            (of(0), 5),
            (of(1), 9),
            (of(2), 7),
            (many(&[]), 5),
            (many(&[0, 2]), 7),
            (many(&[2, 1]), 9),
        ];
        for (about, least) in least {
            let current = Epoch(least);
            let stale = asked(least - 1, about.clone());
            let fresh = asked(least, about);
            for refused in [fences.admit(NODE, &stale), durable.admit(&stale)] {
                assert_eq!(refused, Err(Refusal::StaleEpoch { current }), "{stale:?}");
            }
            assert_eq!(fences.admit(NODE, &fresh), Ok(()), "{fresh:?}");
            assert_eq!(durable.admit(&fresh), Ok(()), "{fresh:?}");
        }
        assert_eq!(
            (fences.newest(NODE), durable.newest()),
            (Epoch(9), Epoch(9))
        );
        assert_eq!(fences.newest(Epoch(10)), Epoch(10));
    }

    #[test]
    fn a_fence_moves_to_newer_epochs_only() {
        let mut fences = Fences::default();
        let partition = PartitionId(3);
        let steps = [
            (fence(7, false), true, Some(fence(7, false))),
            (fence(6, true), false, Some(fence(7, false))),
            (fence(7, true), true, Some(fence(7, true))),
            (fence(7, true), false, Some(fence(7, true))),
            (fence(7, false), true, Some(fence(7, false))),
            (fence(9, true), true, Some(fence(9, true))),
        ];
        for (next, changes, left) in steps {
            assert_eq!(fences.raise(NODE, partition, next), changes, "{next:?}");
            assert_eq!(fences.get(partition), left);
            assert_eq!(fences.validate(NODE), Ok(()));
        }
        assert!(!fences.raise(NODE, PartitionId(4), fence(5, false)));
        assert_eq!(fences.get(PartitionId(4)), None, "the node's says as much");
    }

    #[test]
    fn who_is_relied_on_by_a_newer_epoch_owns_the_partition_again() {
        let partition = PartitionId(3);
        let mut left = fences([(3, fence(7, true))]);
        assert!(!left.own_again(NODE, partition, Epoch(7)));
        assert_eq!(left.may_drop(partition, Epoch(7)), Ok(()));
        let current = Epoch(7);
        let older = left.may_drop(partition, Epoch(6));
        assert_eq!(older, Err(Refusal::StaleEpoch { current }));
        let newer = left.may_drop(partition, Epoch(8));
        assert!(matches!(newer, Err(Refusal::Unavailable(_))), "{newer:?}");
        assert!(left.may_drop(PartitionId(4), Epoch(7)).is_err());
        assert!(left.own_again(NODE, partition, Epoch(8)));
        assert_eq!(left, fences([(3, fence(8, false))]));
        assert!(left.may_drop(partition, Epoch(8)).is_err());
        assert!(!left.own_again(NODE, partition, Epoch(9)), "it does");
    }

    #[test]
    fn what_the_nodes_fence_says_as_well_is_left_out() {
        let all = || {
            fences([
                (1, fence(7, false)),
                (2, fence(7, true)),
                (3, fence(9, true)),
            ])
        };
        let mut some = all();
        assert_eq!(some.without_older(Epoch(7)), [PartitionId(1)]);
        assert_eq!(some.validate(Epoch(7)), Ok(()));
        assert_eq!(some.without_any(), [PartitionId(2), PartitionId(3)]);
        assert_eq!(some, Fences::default());
        let mut back = all();
        assert_eq!(back.come_back(NODE, Epoch(8)), [PartitionId(3)]);
        assert_eq!(back.get(PartitionId(3)), Some(fence(8, false)));
        let mut back = all();
        assert_eq!(back.come_back(NODE, Epoch(7)), [PartitionId(3)]);
        assert_eq!(back.get(PartitionId(2)), Some(fence(7, true)), "it may be");
    }

    #[test]
    fn a_damaged_fence_is_not_read_as_another_one() {
        let put = put(PartitionId(513), Some(fence(7, true)));
        let value = put.value.unwrap();
        let read = decode(&put.key, &value);
        assert_eq!(read, Some((PartitionId(513), fence(7, true))));
        for (at, bit) in (0..value.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1 << bit;
            assert_eq!(decode(&put.key, &damaged.into()), None, "byte {at}");
        }
        for len in 0..value.len() {
            assert_eq!(decode(&put.key, &value.slice(..len)), None, "cut to {len}");
        }
        assert_eq!(decode(&Bytes::from_static(b"fence 1"), &value), None);
    }

    #[test]
    fn broken_fences_are_told_from_sound_ones() {
        assert_eq!(
            fences([(1, fence(5, true)), (2, fence(6, false))]).validate(NODE),
            Ok(())
        );
        let broken = fences([(1, fence(5, false))]).validate(NODE);
        assert_eq!(
            broken,
            Err("the fence of a partition says no more than the node's")
        );
    }
}
