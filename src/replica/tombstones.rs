//! Tombstones on their way out: since when a record has been nothing but tombstones, and what was purged of each tree.
//!
//! Since when is kept in the commit that makes it so. A record that is deleted once more, or learns of another delete,
//! begins anew: owners must be alike for all of the grace period.
//!
//! Owners that were written to at the same time can be left with an older value beside a newer tombstone. Where the
//! last write wins such a key is deleted, and yet its record is not nothing but tombstones. A node does not know
//! tenants' policies, so it notes these records too, as what they are, and settles them when it is told that the last
//! write wins: the tombstone stays alone, and is purged like any other.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::slot::Changed;
use super::tombstone_state::TombstoneState;
use crate::ports::{Purged, Put, RecordKey, Space, TreeName};
use crate::version::{Record, Stamp};

const PURGED: &[u8] = b"purged ";

/// Behind the time in a note.
const HIDES: u8 = 1;

/// What a batch stores of this for a record, if anything.
pub(super) fn change(key: &RecordKey, changed: &Changed, wall_ms: u64) -> Option<Put> {
    let found = found(key, changed.is, wall_ms);
    found.or_else(|| (changed.was != TombstoneState::None).then(|| not_found(key)))
}

/// What forgets that a record waits for something.
pub(super) fn not_found(key: &RecordKey) -> Put {
    Put {
        space: Space::Tombstones,
        key: key.as_bytes().clone(),
        value: None,
    }
}

/// What notes that a record was found to wait for something: since when, and a byte more if it only hides values.
pub(super) fn found(key: &RecordKey, state: TombstoneState, wall_ms: u64) -> Option<Put> {
    let mut value = BytesMut::with_capacity(9);
    value.put_u64(wall_ms);
    match state {
        TombstoneState::None => return None,
        TombstoneState::Hides => value.put_u8(HIDES),
        TombstoneState::Deleted => {}
    }
    Some(Put {
        space: Space::Tombstones,
        key: key.as_bytes().clone(),
        value: Some(value.freeze()),
    })
}

/// Whether a note is of a record that only hides values.
pub(super) fn hides(stored: &Bytes) -> bool {
    stored.get(8) == Some(&HIDES)
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

/// Where it begins for trees from this name on.
pub(super) fn purged_from(name: &Bytes) -> Bytes {
    [PURGED, name].concat().into()
}

/// Which tree it is kept of there.
pub(super) fn purged_tree(key: &Bytes) -> Option<TreeName> {
    key.starts_with(PURGED)
        .then(|| TreeName::from_bytes(key.slice(PURGED.len()..)).ok())?
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
        let prefix = purged_prefix();
        assert!(put.key.starts_with(&prefix) && put.key < purged_end());
        assert!(!prefix.is_empty(), "other things are kept there, too");
        assert_eq!(purged(put.value.unwrap()), some);
        assert_eq!(purged(Bytes::new()), Purged::default());
    }

    #[test]
    fn a_record_is_noted_when_it_is_deleted_and_let_go_when_it_lives() {
        let key = RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k");
        let put = |was, is| {
            let (before, after) = (None, None);
            let changed = Changed {
                before,
                after,
                was,
                is,
            };
            let put = change(&key, &changed, 7);
            put.map(|put| put.value.map(|value| (since(&value), hides(&value))))
        };
        let tombstones = [
            TombstoneState::None,
            TombstoneState::Hides,
            TombstoneState::Deleted,
        ];
        assert_eq!(put(TombstoneState::None, TombstoneState::None), None);
        for was in tombstones {
            assert_eq!(put(was, TombstoneState::Hides), Some(Some((7, true))));
            assert_eq!(put(was, TombstoneState::Deleted), Some(Some((7, false))));
        }
        for was in [TombstoneState::Hides, TombstoneState::Deleted] {
            assert_eq!(put(was, TombstoneState::None), Some(None));
        }
    }
}
