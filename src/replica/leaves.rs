//! The digest of each leaf, kept up in the same commit as the records it sums up, so that a crash can't part them.
//!
//! Stored by tree and leaf: the sum, then the number of records, big endian; a leaf without records is not stored.
//! Trees of partitions that have no digests yet (see [`rebuild`](super::rebuild)) are left alone.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::slot::Changed;
use crate::mutant::{self, Mutant};
use crate::ports::{Digest, LEAVES, Put, RecordKey, Space, TreeName};

/// The leaves that a batch changes.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    digests: BTreeMap<Bytes, Digest>,
    /// Partitions from this one on have no digests.
    digested: u32,
}

impl Leaves {
    /// None yet; partitions from `digested` on have no digests.
    pub(super) const fn new(digested: u32) -> Self {
        Self {
            digests: BTreeMap::new(),
            digested,
        }
    }

    /// How the leaf of `key` is called in the engine; `None` if there is none.
    pub(super) fn name_of(&self, key: &RecordKey) -> Option<Bytes> {
        let has_digest = u32::from(key.partition().0) < self.digested;
        has_digest.then(|| name(&key.tree(), key.leaf()))
    }

    /// Whether that leaf was taken up.
    pub(super) fn has(&self, name: &Bytes) -> bool {
        self.digests.contains_key(name)
    }

    /// A leaf as it is stored.
    pub(super) fn load(&mut self, name: Bytes, stored: Option<&Bytes>) {
        let digest = stored.and_then(decode).unwrap_or_default();
        self.digests.insert(name, digest);
    }

    /// Takes up what became of a record.
    pub(super) fn change(&mut self, key: &RecordKey, changed: &Changed) {
        let digest = self
            .name_of(key)
            .and_then(|name| self.digests.get_mut(&name));
        let Some(digest) = digest else {
            return;
        };
        if let Some(before) = &changed.before
            && !mutant::on(Mutant::DigestKeepsOld)
        {
            digest.remove(Digest::hash(key, before));
        }
        if let Some(after) = &changed.after {
            digest.add(Digest::hash(key, after));
        }
    }

    /// What is to be stored.
    pub(super) fn into_puts(self) -> impl Iterator<Item = Put> {
        let put = |(name, digest)| put(name, digest);
        self.digests.into_iter().map(put)
    }
}

/// How a leaf is called in the engine.
pub(super) fn name(tree: &TreeName, leaf: u8) -> Bytes {
    let mut name = BytesMut::with_capacity(tree.as_bytes().len() + 1);
    name.extend_from_slice(tree.as_bytes());
    name.extend_from_slice(&[leaf]);
    name.freeze()
}

/// Which leaf is called so.
pub(super) fn parse(name: &Bytes) -> Option<(TreeName, u8)> {
    let (leaf, tree) = name.split_last()?;
    let tree = TreeName::from_bytes(name.slice(..tree.len())).ok()?;
    (*leaf < LEAVES).then_some((tree, *leaf))
}

pub(super) fn put(name: Bytes, digest: Digest) -> Put {
    let mut value = BytesMut::with_capacity(24);
    value.extend_from_slice(&digest.sum.to_be_bytes());
    value.extend_from_slice(&digest.records.to_be_bytes());
    Put {
        space: Space::Digests,
        key: name,
        value: (digest != Digest::default()).then(|| value.freeze()),
    }
}

/// A stored digest; `None` for anything else.
pub(super) fn decode(stored: &Bytes) -> Option<Digest> {
    let (sum, records) = stored.split_at_checked(16)?;
    Some(Digest {
        sum: u128::from_be_bytes(sum.try_into().ok()?),
        records: u64::from_be_bytes(records.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tombstone_state::TombstoneState;
    use super::*;
    use crate::placement::PartitionId;
    use crate::ports::TenantId;

    fn key(partition: u16) -> RecordKey {
        RecordKey::new(PartitionId(partition), &TenantId::new("t").unwrap(), "k")
    }

    fn changed(before: Option<&'static str>, after: Option<&'static str>) -> Changed {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        Changed {
            before: before.map(bytes),
            after: after.map(bytes),
            was: TombstoneState::None,
            is: TombstoneState::None,
        }
    }

    #[test]
    fn a_leaf_that_comes_back_to_nothing_is_removed() {
        let mut leaves = Leaves::new(8);
        let name = leaves.name_of(&key(7)).unwrap();
        assert_eq!(parse(&name), Some((key(7).tree(), key(7).leaf())));
        leaves.load(name.clone(), None);
        leaves.change(&key(7), &changed(None, Some("a")));
        leaves.change(&key(7), &changed(Some("a"), Some("b")));
        let stored = leaves.into_puts().next().unwrap();
        let digest = decode(&stored.value.unwrap()).unwrap();
        assert_eq!(digest.sum, Digest::hash(&key(7), &Bytes::from_static(b"b")));
        let mut leaves = Leaves::new(8);
        leaves.load(name, put(stored.key, digest).value.as_ref());
        leaves.change(&key(7), &changed(Some("b"), None));
        assert_eq!(leaves.into_puts().next().unwrap().value, None);
    }

    #[test]
    fn a_partition_without_digests_is_left_alone() {
        let mut leaves = Leaves::new(7);
        assert_eq!(leaves.name_of(&key(7)), None);
        leaves.change(&key(7), &changed(None, Some("a")));
        assert_eq!(leaves.into_puts().count(), 0);
        assert!(decode(&Bytes::from_static(b"short")).is_none());
    }
}
