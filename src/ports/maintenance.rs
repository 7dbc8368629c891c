//! What storage nodes do to become equal without any client: digests, exchange, hints, the purge of tombstones.
//!
//! All records that one tenant has in one partition are a *tree*: the unit in which owners are compared, since all of
//! it has the same owners. A tree has [`LEAVES`] leaves; a record belongs to the leaf that the hash of its key names. A
//! [`Digest`] is a sum over records, so it is kept up by one subtraction and one addition for each change, and the
//! digest of a tree is the sum of its leaves (Bellare, Micciancio: *A New Paradigm for Collision-Free Hashing:
//! Incrementality at Reduced Cost*, 1997).
//!
//! What this is not: it says nothing of who owns what; whoever asks knows.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::record_key::{RecordKey, RecordKeyError, is_tenant};
use crate::mutant::{self, Mutant};
use crate::placement::{Node, NodeId, PartitionId};
use crate::version::{Actor, Record, Stamp, VersionVector};

/// How many leaves a tree has; a set of leaves fits a `u64`.
pub const LEAVES: u8 = 64;

/// The name of a tree: a partition and a tenant, as a record key begins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TreeName(Bytes);

impl TreeName {
    /// Takes bytes that came from outside.
    ///
    /// # Errors
    /// When they are not how a record key begins.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, RecordKeyError> {
        let malformed = RecordKeyError(bytes.len());
        let tenant_len = usize::from(*bytes.get(2).ok_or(malformed)?);
        let tenant = bytes.get(3..).ok_or(malformed)?;
        let well_formed = tenant.len() == tenant_len && is_tenant(tenant);
        well_formed.then_some(Self(bytes)).ok_or(malformed)
    }

    /// The encoded name, which all keys of the tree begin with.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        PartitionId(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    /// The tenant's name.
    #[must_use]
    pub fn tenant(&self) -> &str {
        str::from_utf8(&self.0[3..]).unwrap_or_default()
    }

    /// The least byte string that no key of the tree is above.
    #[must_use]
    pub fn end(&self) -> Bytes {
        let mut end = self.0.to_vec();
        // The length of the tenant's name comes before it, so the bytes of the name may carry over.
        for byte in end.iter_mut().rev() {
            let (next, carried) = byte.overflowing_add(1);
            *byte = next;
            if !carried {
                return end.into();
            }
        }
        Bytes::from_static(&[0xff; 3 + 256])
    }
}

impl RecordKey {
    /// The tree that the record belongs to.
    #[must_use]
    pub fn tree(&self) -> TreeName {
        let bytes = self.as_bytes();
        TreeName(bytes.slice(..3 + self.tenant().len()))
    }

    /// The leaf of its tree that the record belongs to, less than [`LEAVES`].
    #[must_use]
    pub fn leaf(&self) -> u8 {
        (crc32c::crc32c(self.as_bytes()) % u32::from(LEAVES)) as u8
    }
}

/// A sum over records: equal for equal sets of records, different (but with a chance of 2⁻¹²⁸) for different ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Digest {
    /// The sum of the records' hashes, modulo 2¹²⁸.
    pub sum: u128,
    /// How many records there are.
    pub records: u64,
}

impl Digest {
    /// The hash of one record: the first half of SHA-256 over its key's length, its key and its encoding.
    #[must_use]
    pub fn hash(key: &RecordKey, encoded: &Bytes) -> u128 {
        let mut hash = Sha256::new();
        hash.update((key.as_bytes().len() as u32).to_be_bytes());
        hash.update(key.as_bytes());
        match mutant::on(Mutant::DigestOmitsSeen) {
            true => hash_without_seen(&mut hash, encoded),
            false => hash.update(encoded),
        }
        let hash: [u8; 32] = hash.finalize().into();
        let (half, _) = hash.split_at(16);
        u128::from_be_bytes(half.try_into().unwrap_or_default())
    }

    /// With what was purged of the tree, as it is stored: owners that know of different purges are not equal.
    #[must_use]
    pub fn with_purged(mut self, tree: &TreeName, stored: &Bytes) -> Self {
        let mut hash = Sha256::new();
        // No record key is that long.
        hash.update(u32::MAX.to_be_bytes());
        hash.update(tree.as_bytes());
        hash.update(stored);
        let hash: [u8; 32] = hash.finalize().into();
        let (half, _) = hash.split_at(16);
        let half = u128::from_be_bytes(half.try_into().unwrap_or_default());
        self.sum = self.sum.wrapping_add(half);
        self
    }

    /// With one more record, of this hash.
    pub fn add(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_add(hash);
        self.records = self.records.saturating_add(1);
    }

    /// Without one of the records, of this hash.
    pub fn remove(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_sub(hash);
        self.records = self.records.saturating_sub(1);
    }

    /// The digest of both sets together, which have no record in common.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            sum: self.sum.wrapping_add(other.sum),
            records: self.records.saturating_add(other.records),
        }
    }
}

fn hash_without_seen(hash: &mut Sha256, encoded: &Bytes) {
    let record = Record::decode(encoded.clone()).unwrap_or_default();
    for version in record.siblings() {
        hash.update(version.dot.actor.0.to_be_bytes());
        hash.update(version.dot.counter.to_be_bytes());
    }
}

/// A record as far as comparing goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyHash {
    /// Which record.
    pub key: RecordKey,
    /// [`Digest::hash`] of it.
    pub hash: u128,
}

/// What a replica is asked to do for the maintenance of its data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Maintenance {
    /// List trees that have records, or of which any were purged, with their digests, in the order of their names.
    /// Answer:
    /// [`Maintained::Roots`].
    Roots {
        /// Begin after this one.
        after: Option<TreeName>,
    },
    /// List the trees of one partition, as [`Maintenance::Roots`] does. Answer: [`Maintained::Roots`].
    RootsOf {
        /// Which partition.
        partition: PartitionId,
        /// Begin after this one.
        after: Option<TreeName>,
    },
    /// Tell the digests of a tree's leaves. Answer: [`Maintained::Leaves`].
    Leaves {
        /// Which tree.
        tree: TreeName,
    },
    /// List keys with the hashes of their records, in order. Answer: [`Maintained::Keys`].
    Keys {
        /// Of which tree.
        tree: TreeName,
        /// Of which of its leaves, a bit for each.
        leaves: u64,
        /// Begin after this one.
        after: Option<RecordKey>,
    },
    /// Compare a tree with a peer's and exchange what differs, both ways, by joining. Bounded: it may stop before it is
    /// done and say so. Answer: [`Maintained::Synced`].
    Sync {
        /// Which tree.
        tree: TreeName,
        /// With whom.
        peer: Node,
    },
    /// Remember, durably, that nodes may lack what is held of a key. Answer: [`Maintained::Done`].
    Hint {
        /// The key, of which a record must be held.
        key: RecordKey,
        /// Who may lack it.
        targets: Vec<Node>,
    },
    /// The target is there: deliver what it lacks. Answer: [`Maintained::Done`], before anything is delivered.
    DeliverHints {
        /// Where it is now.
        target: Node,
    },
    /// The target owns no more: forget what it lacks. Answer: [`Maintained::Done`].
    ForgetHints {
        /// Who it was.
        target: NodeId,
        /// What it owned; none: it is a node no more, and all is forgotten.
        partitions: Vec<PartitionId>,
    },
    /// Refuse, from now on and durably, whatever was routed by an epoch older than that of this request. Answer:
    /// [`Maintained::Fenced`].
    Fence {
        /// For these partitions; `None`: for all.
        partitions: Option<Vec<PartitionId>>,
        /// Whether the node owns these partitions no more, or not for all tenants: trees of them may be dropped by this
        /// epoch, until a record of one of them is accepted or joined by a newer one.
        leaving: bool,
        /// Of writes up to this stamp the node remembers nothing: it can't tell them from repetitions.
        horizon: Stamp,
    },
    /// Remove a tree, of which the node is no owner any more, with all that is kept of it: records, digests,
    /// tombstones, what was purged, and hints. Only after all its owners hold what the node holds, and by the very
    /// epoch by which the node was last told that it is [leaving](Maintenance::Fence). Bounded: it may stop before it
    /// is done and say so. Answer: [`Maintained::Dropped`].
    DropTree {
        /// Which tree.
        tree: TreeName,
    },
    /// List records that are nothing but tombstones, have been for the grace period, and that no hint is outstanding
    /// for. Answer: [`Maintained::Keys`].
    Tombstones {
        /// Of which tree.
        tree: TreeName,
        /// Begin after this one.
        after: Option<RecordKey>,
        /// Whether the last write wins. Older values beneath a tombstone are then dropped on the way, durably; such a
        /// record is listed when it has been nothing but a tombstone for the grace period.
        last_write_wins: bool,
    },
    /// Which of these does [`Maintenance::Tombstones`] list? Answer: [`Maintained::Keys`].
    AreTombstones {
        /// The records as another owner has them.
        keys: Vec<KeyHash>,
    },
    /// Every owner holds these tombstones: remove those that are still the same. Answer: [`Maintained::Done`].
    Purge {
        /// The records as every owner has them.
        keys: Vec<KeyHash>,
    },
    /// Another owner has purged what overwrote these, and all owners held it then: remove those that are still the
    /// same. One that lost its disk since may hold them, from a late message or from a commit that was not overwritten
    /// durably. Answer:
    /// [`Maintained::Done`].
    DropPurged {
        /// The records as they are to be dropped.
        keys: Vec<KeyHash>,
    },
    /// What has been purged of a tree? Answer: [`Maintained::Purged`].
    Purged {
        /// Which tree.
        tree: TreeName,
    },
    /// Which records were met that are damaged, and still are? Answer: [`Maintained::Keys`], a bounded number, with the
    /// hashes of the damaged bytes.
    Damaged,
    /// Put a record in the place of a damaged one, whose bytes are kept aside. Only with what all other owners hold
    /// together, read when nothing that counts on the damaged record can be completed any more. Answer:
    /// [`Maintained::Done`], also if the record is not damaged any more.
    Heal {
        /// Which record.
        key: RecordKey,
        /// [`Digest::hash`] of the damaged bytes.
        hash: u128,
        /// The encoded record; `None`: the others hold none.
        record: Option<Bytes>,
    },
    /// Keep this beside what was purged here. Only for who holds all of the tree that the one it comes from held when
    /// it was read, or knows better. Answer: [`Maintained::Done`].
    KeepPurged {
        /// Of which tree.
        tree: TreeName,
        /// What another owner has purged of it.
        purged: Purged,
    },
    /// The replica has joined all that any other owner of anything holds, since it lost its disk: it counts again.
    /// Refused if it has become another incarnation meanwhile. Answer: [`Maintained::Done`].
    Refilled {
        /// The incarnation of which this is known.
        incarnation: Actor,
    },
}

/// What a replica keeps of the records it has purged from a tree: enough to know a message from before the purge,
/// however late it comes.
///
/// Records are purged when their owners hold all of the tree alike. By then all of them know every dot that any purged
/// record had seen, also those of other keys. So a dot that this covers and that the key's record has not seen, should
/// there be one, is old, not new.
///
/// So it says nothing to an owner that lacks records of the tree, and would keep it from getting them. Owners hand it
/// to each other when they have exchanged all of the tree: one that lost its disk gets it so, after the records.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Purged {
    /// Everything that any purged record had seen.
    pub seen: VersionVector,
    /// The greatest stamp of any purged tombstone.
    pub stamp: Stamp,
}

/// A replica's answer to [`Maintenance`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Maintained {
    /// Trees, in the order of their names.
    Roots {
        /// Each with the digest of all its records, and of what was purged.
        roots: Vec<(TreeName, Digest)>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// The leaves that have records, in order.
    Leaves {
        /// Each with its digest.
        leaves: Vec<(u8, Digest)>,
    },
    /// Keys, in order.
    Keys {
        /// Each with the hash of its record.
        keys: Vec<KeyHash>,
        /// Whether there may be more, after this one.
        more: Option<RecordKey>,
    },
    /// What an exchange came to.
    Synced(Synced),
    /// What was purged.
    Purged(Purged),
    /// Older epochs are refused.
    Fenced {
        /// No write was accepted here with a greater stamp.
        horizon: Stamp,
    },
    /// So much was removed.
    Dropped(Dropped),
    /// It is done, durably.
    Done,
}

/// What one removal of a tree came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Dropped {
    /// Records that were removed.
    pub records: u64,
    /// Whether nothing is left; if not, ask again.
    pub complete: bool,
}

/// What one exchange between two owners came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Synced {
    /// Records that the peer lacked, or part of them.
    pub sent: u64,
    /// Records that were lacking here, or part of them.
    pub received: u64,
    /// Bytes of keys, hashes and records that went to and fro.
    pub bytes: u64,
    /// Whether everything that differed was exchanged, damaged records left out; if not, ask again.
    pub complete: bool,
    /// How many of the two learnt that something was purged.
    pub floors: u64,
    /// Records that differ and were left out because they are damaged here.
    pub damaged_here: u64,
    /// And because they are damaged at the peer.
    pub damaged_there: u64,
    /// Records that one of the two let go, since the other one had purged what overwrote them.
    pub dropped: u64,
    /// Records that the peer lacks and does not take, since it owns them no more.
    pub handed_over: u64,
}

/// What a node owes another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HintsReport {
    /// Who lacks it.
    pub target: NodeId,
    /// How many keys.
    pub outstanding: u64,
    /// The wall clock's time when the oldest one was noted, Unix milliseconds.
    pub oldest_ms: u64,
    /// How often it went through all of them, from the first to the last, and delivered each, since the node started.
    pub rounds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::TenantId;

    fn key(partition: u16, tenant: &str, key: &str) -> RecordKey {
        RecordKey::new(PartitionId(partition), &TenantId::new(tenant).unwrap(), key)
    }

    #[test]
    fn a_tree_holds_the_keys_between_its_name_and_its_end() {
        for (partition, tenant) in [(0, "a"), (0, "~"), (0x1ff, "zz"), (u16::MAX, "t")] {
            let tree = key(partition, tenant, "k").tree();
            assert_eq!((tree.partition().0, tree.tenant()), (partition, tenant));
            assert_eq!(
                TreeName::from_bytes(tree.as_bytes().clone()),
                Ok(tree.clone())
            );
            for name in ["a", "\u{10ffff}\u{10ffff}", "zzzz"] {
                let inside = key(partition, tenant, name);
                assert!(inside.as_bytes() > tree.as_bytes() && *inside.as_bytes() < tree.end());
            }
            let longer = key(partition, &format!("{tenant}!"), "k");
            assert!(*longer.as_bytes() >= tree.end());
        }
        for bad in [
            &b""[..],
            b"\0\0",
            b"\0\0\0",
            b"\0\0\x02a",
            b"\0\0\x01ab",
            b"\0\0\x01:",
            b"\0\0\x01\n",
        ] {
            assert!(TreeName::from_bytes(Bytes::copy_from_slice(bad)).is_err());
        }
    }

    #[test]
    fn a_record_key_is_as_long_as_keys_can_be() {
        let of =
            |len: usize| RecordKey::from_bytes(key(1, "t", &"k".repeat(len)).as_bytes().clone());
        for len in [1, RecordKey::KEY_BYTES_MAX] {
            assert_eq!(of(len).unwrap().key().len(), len);
        }
        for len in [0, RecordKey::KEY_BYTES_MAX + 1, 66_000] {
            assert_eq!(of(len), Err(RecordKeyError(4 + len)));
        }
        let no_tenant = Bytes::from_static(b"\0\0\x02a:key");
        assert!(RecordKey::from_bytes(no_tenant).is_err());
    }

    #[test]
    fn a_digest_depends_on_the_set_alone() {
        let hashes: Vec<u128> = ["a", "b", "c"]
            .map(|name| Digest::hash(&key(1, "t", name), &Bytes::from_static(b"record")))
            .into();
        let (mut one, mut other) = (Digest::default(), Digest::default());
        hashes.iter().for_each(|hash| one.add(*hash));
        hashes.iter().rev().for_each(|hash| other.add(*hash));
        assert_eq!(one, other);
        other.remove(hashes[0]);
        assert_ne!(one, other);
        let mut first = Digest::default();
        first.add(hashes[0]);
        assert_eq!(first.and(other), one);
        assert_eq!(one.records, 3);
    }

    #[test]
    fn key_and_record_are_told_apart() {
        let hash = |name: &str, record: &'static [u8]| {
            Digest::hash(&key(1, "t", name), &Bytes::from_static(record))
        };
        assert_ne!(hash("ab", b"c"), hash("a", b"bc"));
    }
}
