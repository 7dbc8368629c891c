//! Tombstones on their way out: since when a record has been nothing but tombstones, and what was purged of each tree.
//!
//! Since when is kept in the commit that makes it so. A record that is deleted once more, or learns of another delete,
//! begins anew: owners must be alike for all of the grace period.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::slot::Changed;
use crate::ports::{Purged, Put, RecordKey, Space, TreeName};
use crate::version::{Record, Stamp};

const PURGED: &[u8] = b"purged ";

/// What a batch stores of this for a record, if anything.
pub(super) fn change(key: &RecordKey, changed: &Changed, wall_ms: u64) -> Option<Put> {
    if changed.is_deleted {
        return Some(found(key, wall_ms));
    }
    changed.was_deleted.then(|| Put {
        space: Space::Tombstones,
        key: key.as_bytes().clone(),
        value: None,
    })
}

/// What notes that a record was found to be nothing but tombstones.
pub(super) fn found(key: &RecordKey, wall_ms: u64) -> Put {
    Put {
        space: Space::Tombstones,
        key: key.as_bytes().clone(),
        value: Some(Bytes::copy_from_slice(&wall_ms.to_be_bytes())),
    }
}

/// Since when, Unix milliseconds, by the node's wall clock.
pub(super) fn since(stored: &Bytes) -> u64 {
    stored.as_ref().try_get_u64().unwrap_or(u64::MAX)
}

/// Where it is kept what was purged of a tree.
pub(super) fn purged_key(tree: &TreeName) -> Bytes {
    let mut key = BytesMut::with_capacity(PURGED.len() + tree.as_bytes().len());
    key.put_slice(PURGED);
    key.put_slice(tree.as_bytes());
    key.freeze()
}

/// All such keys begin so.
pub(super) const fn purged_prefix() -> Bytes {
    Bytes::from_static(PURGED)
}

/// And end before this one.
pub(super) const fn purged_end() -> Bytes {
    Bytes::from_static(b"purged!")
}

/// What makes this what was purged of a tree: the greatest stamp, then a record without siblings.
pub(super) fn purged_put(tree: &TreeName, purged: &Purged) -> Put {
    let mut value = BytesMut::new();
    value.put_u64(purged.stamp.0);
    let record = Record::new(purged.seen.clone(), Vec::new()).unwrap_or_default();
    value.put_slice(&record.encode());
    Put {
        space: Space::Meta,
        key: purged_key(tree),
        value: Some(value.freeze()),
    }
}

/// What was purged of a tree, as it was stored; nothing if it can't be read.
pub(super) fn purged(mut stored: Bytes) -> Purged {
    let Ok(stamp) = stored.try_get_u64() else {
        return Purged::default();
    };
    let record = Record::decode(stored).unwrap_or_default();
    Purged {
        seen: record.seen().clone(),
        stamp: Stamp(stamp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::PartitionId;
    use crate::ports::TenantId;
    use crate::version::Actor;

    #[test]
    fn what_was_purged_comes_back_as_it_was_stored() {
        let key = RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k");
        let some = Purged {
            seen: [(Actor(1), 7), (Actor(9), 1)].into_iter().collect(),
            stamp: Stamp(77),
        };
        let put = purged_put(&key.tree(), &some);
        assert_eq!(purged(put.value.unwrap()), some);
        assert_eq!(purged(Bytes::new()), Purged::default());
    }

    #[test]
    fn a_record_is_noted_when_it_is_deleted_and_let_go_when_it_lives() {
        let key = RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k");
        let put = |was_deleted, is_deleted| {
            let changed = Changed {
                before: None,
                after: None,
                was_deleted,
                is_deleted,
            };
            change(&key, &changed, 7).map(|put| put.value.as_ref().map(since))
        };
        assert_eq!(put(false, false), None);
        assert_eq!(put(false, true), Some(Some(7)));
        assert_eq!(put(true, true), Some(Some(7)));
        assert_eq!(put(true, false), Some(None));
    }
}
