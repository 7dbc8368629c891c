//! Maintenance as protobuf, and back. As in [`convert`](super::convert), what comes from outside may be anything.

use bytes::Bytes;

use super::malformed::{key, malformed};
use crate::placement::{Node, NodeId, NodeStatus, PartitionId};
use crate::ports::{
    Digest, Dropped, HintsReport, KeyHash, Maintained, Maintenance, Purged, RecordKey, Refusal,
    Synced, TreeName,
};
use crate::proto::v1;
use crate::proto::v1::maintained::Outcome;
use crate::proto::v1::maintenance::Task;
use crate::version::{Actor, Stamp};

pub(super) fn to_proto(maintenance: Maintenance) -> v1::Maintenance {
    let name = |tree: TreeName| tree.as_bytes().clone();
    let or_empty = |key: Option<RecordKey>| key.map_or_else(Bytes::new, |k| k.as_bytes().clone());
    let task = match maintenance {
        Maintenance::Roots { after } => Task::RootsAfter(after.map_or_else(Bytes::new, name)),
        Maintenance::Leaves { tree } => Task::Leaves(name(tree)),
        Maintenance::Keys {
            tree,
            leaves,
            after,
        } => Task::Keys(v1::ListKeys {
            tree: name(tree),
            leaves,
            after: or_empty(after),
            last_write_wins: false,
        }),
        Maintenance::Sync { tree, peer } => Task::Sync(v1::SyncTree {
            tree: name(tree),
            peer: Some(peer_to_proto(peer)),
        }),
        Maintenance::Hint { key, targets } => Task::Hint(v1::Hint {
            key: key.as_bytes().clone(),
            targets: targets.into_iter().map(peer_to_proto).collect(),
        }),
        Maintenance::DeliverHints { target } => Task::DeliverHints(peer_to_proto(target)),
        Maintenance::ForgetHints { target, partitions } if partitions.is_empty() => {
            Task::ForgetHints(target.as_str().into())
        }
        Maintenance::ForgetHints { target, partitions } => Task::ForgetHintsOf(v1::ForgetHintsOf {
            node_id: target.as_str().into(),
            partitions: numbers(partitions),
        }),
        Maintenance::RootsOf { partition, after } => Task::Trees(v1::ListTrees {
            partition: partition.0.into(),
            after: after.map_or_else(Bytes::new, name),
        }),
        Maintenance::Fence {
            partitions,
            leaving,
            horizon,
        } => Task::Fence(v1::Fence {
            all: partitions.is_none(),
            partitions: numbers(partitions.unwrap_or_default()),
            leaving,
            horizon: horizon.0,
        }),
        Maintenance::DropTree { tree } => Task::DropTree(name(tree)),
        Maintenance::Tombstones {
            tree,
            after,
            last_write_wins,
        } => Task::Tombstones(v1::ListKeys {
            tree: name(tree),
            leaves: u64::MAX,
            after: or_empty(after),
            last_write_wins,
        }),
        Maintenance::AreTombstones { keys } => Task::AreTombstones(hashes_to_proto(keys)),
        Maintenance::Purge { keys } => Task::Purge(hashes_to_proto(keys)),
        Maintenance::DropPurged { keys } => Task::DropPurged(hashes_to_proto(keys)),
        Maintenance::Purged { tree } => Task::Purged(name(tree)),
        Maintenance::Damaged => Task::Damaged(v1::Done {}),
        Maintenance::Heal { key, hash, record } => Task::Heal(v1::Heal {
            damaged: hashes_to_proto(vec![KeyHash { key, hash }]).keys.pop(),
            record,
        }),
        Maintenance::KeepPurged { tree, purged } => Task::KeepPurged(v1::KeepPurged {
            tree: name(tree),
            purged: Some(purged_to_proto(&purged)),
        }),
        Maintenance::Refilled { incarnation } => Task::Refilled(incarnation.0),
    };
    v1::Maintenance { task: Some(task) }
}

pub(super) fn from_proto(maintenance: v1::Maintenance) -> Result<Maintenance, Refusal> {
    let unknown = || Refusal::Malformed("maintenance that this node does not know".into());
    Ok(match maintenance.task.ok_or_else(unknown)? {
        Task::RootsAfter(after) => Maintenance::Roots {
            after: match after.is_empty() {
                true => None,
                false => Some(tree(after)?),
            },
        },
        Task::Leaves(name) => Maintenance::Leaves { tree: tree(name)? },
        Task::Keys(list) => Maintenance::Keys {
            tree: tree(list.tree)?,
            leaves: list.leaves,
            after: key_or_none(list.after)?,
        },
        Task::Sync(sync) => Maintenance::Sync {
            tree: tree(sync.tree)?,
            peer: peer_from_proto(sync.peer.unwrap_or_default())?,
        },
        Task::Hint(hint) => Maintenance::Hint {
            key: key(hint.key)?,
            targets: hint
                .targets
                .into_iter()
                .map(peer_from_proto)
                .collect::<Result<_, _>>()?,
        },
        Task::DeliverHints(target) => Maintenance::DeliverHints {
            target: peer_from_proto(target)?,
        },
        Task::ForgetHints(target) => Maintenance::ForgetHints {
            target: NodeId::new(target).map_err(malformed)?,
            partitions: Vec::new(),
        },
        Task::ForgetHintsOf(forget) if forget.partitions.is_empty() => {
            return Err(malformed("no partitions are named"));
        }
        Task::ForgetHintsOf(forget) => Maintenance::ForgetHints {
            target: NodeId::new(forget.node_id).map_err(malformed)?,
            partitions: partitions(forget.partitions)?,
        },
        Task::Trees(list) => Maintenance::RootsOf {
            partition: partition(list.partition)?,
            after: match list.after.is_empty() {
                true => None,
                false => Some(tree(list.after)?),
            },
        },
        Task::Fence(fence) => Maintenance::Fence {
            partitions: match fence.all {
                true => None,
                false => Some(partitions(fence.partitions)?),
            },
            leaving: fence.leaving,
            horizon: Stamp(fence.horizon),
        },
        Task::DropTree(name) => Maintenance::DropTree { tree: tree(name)? },
        Task::Tombstones(list) => Maintenance::Tombstones {
            tree: tree(list.tree)?,
            after: key_or_none(list.after)?,
            last_write_wins: list.last_write_wins,
        },
        Task::AreTombstones(keys) => Maintenance::AreTombstones {
            keys: hashes_from_proto(keys.keys)?,
        },
        Task::Purge(keys) => Maintenance::Purge {
            keys: hashes_from_proto(keys.keys)?,
        },
        Task::DropPurged(keys) => Maintenance::DropPurged {
            keys: hashes_from_proto(keys.keys)?,
        },
        Task::Purged(name) => Maintenance::Purged { tree: tree(name)? },
        Task::Damaged(v1::Done {}) => Maintenance::Damaged,
        Task::Heal(heal) => {
            let none = || Refusal::Malformed("nothing to heal".into());
            let damaged = hashes_from_proto(heal.damaged.into_iter().collect())?;
            let KeyHash { key, hash } = damaged.into_iter().next().ok_or_else(none)?;
            let record = heal.record;
            Maintenance::Heal { key, hash, record }
        }
        Task::KeepPurged(keep) => {
            let uneven = || Refusal::Malformed("actors without counters".into());
            Maintenance::KeepPurged {
                tree: tree(keep.tree)?,
                purged: purged_from_proto(keep.purged.unwrap_or_default()).ok_or_else(uneven)?,
            }
        }
        Task::Refilled(incarnation) => Maintenance::Refilled {
            incarnation: Actor(incarnation),
        },
    })
}

fn numbers(partitions: Vec<PartitionId>) -> Vec<u32> {
    partitions
        .into_iter()
        .map(|partition| partition.0.into())
        .collect()
}

fn partition(number: u32) -> Result<PartitionId, Refusal> {
    u16::try_from(number).map(PartitionId).map_err(malformed)
}

fn partitions(numbers: Vec<u32>) -> Result<Vec<PartitionId>, Refusal> {
    numbers.into_iter().map(partition).collect()
}

pub(super) fn answer_to_proto(maintained: Maintained) -> v1::Maintained {
    let outcome = match maintained {
        Maintained::Roots { roots, more } => Outcome::Roots(v1::Roots {
            roots: roots
                .into_iter()
                .map(|(tree, digest)| v1::Root {
                    tree: tree.as_bytes().clone(),
                    digest: Some(digest_to_proto(digest)),
                })
                .collect(),
            more,
        }),
        Maintained::Leaves { leaves } => Outcome::Leaves(v1::Leaves {
            leaves: leaves
                .into_iter()
                .map(|(leaf, digest)| v1::Leaf {
                    leaf: leaf.into(),
                    digest: Some(digest_to_proto(digest)),
                })
                .collect(),
        }),
        Maintained::Keys { keys, more } => Outcome::Keys(v1::KeyPage {
            keys: hashes_to_proto(keys).keys,
            more: more.map_or_else(Bytes::new, |key| key.as_bytes().clone()),
        }),
        Maintained::Synced(synced) => Outcome::Synced(v1::Synced {
            sent: synced.sent,
            received: synced.received,
            bytes: synced.bytes,
            complete: synced.complete,
            floors: synced.floors,
            damaged_here: synced.damaged_here,
            damaged_there: synced.damaged_there,
            dropped: synced.dropped,
            handed_over: synced.handed_over,
        }),
        Maintained::Purged(purged) => Outcome::Purged(purged_to_proto(&purged)),
        Maintained::Done => Outcome::Done(v1::Done {}),
        Maintained::Fenced { horizon } => Outcome::Fenced(v1::Fenced { horizon: horizon.0 }),
        Maintained::Dropped(Dropped { records, complete }) => {
            Outcome::Dropped(v1::Dropped { records, complete })
        }
    };
    v1::Maintained {
        outcome: Some(outcome),
    }
}

/// `None` for what makes no sense.
pub(super) fn answer_from_proto(maintained: v1::Maintained) -> Option<Maintained> {
    Some(match maintained.outcome? {
        Outcome::Roots(roots) => Maintained::Roots {
            roots: roots
                .roots
                .into_iter()
                .map(|root| {
                    let tree = TreeName::from_bytes(root.tree).ok()?;
                    Some((tree, digest_from_proto(root.digest)?))
                })
                .collect::<Option<_>>()?,
            more: roots.more,
        },
        Outcome::Leaves(leaves) => Maintained::Leaves {
            leaves: leaves
                .leaves
                .into_iter()
                .map(|leaf| {
                    let number = u8::try_from(leaf.leaf).ok()?;
                    Some((number, digest_from_proto(leaf.digest)?))
                })
                .collect::<Option<_>>()?,
        },
        Outcome::Keys(page) => Maintained::Keys {
            keys: hashes_from_proto(page.keys).ok()?,
            more: key_or_none(page.more).ok()?,
        },
        Outcome::Synced(synced) => Maintained::Synced(Synced {
            sent: synced.sent,
            received: synced.received,
            bytes: synced.bytes,
            complete: synced.complete,
            floors: synced.floors,
            damaged_here: synced.damaged_here,
            damaged_there: synced.damaged_there,
            dropped: synced.dropped,
            handed_over: synced.handed_over,
        }),
        Outcome::Purged(purged) => Maintained::Purged(purged_from_proto(purged)?),
        Outcome::Done(v1::Done {}) => Maintained::Done,
        Outcome::Fenced(fenced) => Maintained::Fenced {
            horizon: Stamp(fenced.horizon),
        },
        Outcome::Dropped(v1::Dropped { records, complete }) => {
            Maintained::Dropped(Dropped { records, complete })
        }
    })
}

fn purged_to_proto(purged: &Purged) -> v1::PurgedOf {
    let seen = purged.seen.iter();
    let (actors, counters) = seen.map(|(actor, counter)| (actor.0, counter)).unzip();
    v1::PurgedOf {
        actors,
        counters,
        stamp: purged.stamp.0,
    }
}

fn purged_from_proto(purged: v1::PurgedOf) -> Option<Purged> {
    if purged.actors.len() != purged.counters.len() {
        return None;
    }
    let actors = purged.actors.into_iter().map(Actor);
    Some(Purged {
        seen: actors.zip(purged.counters).collect(),
        stamp: Stamp(purged.stamp),
    })
}

pub(super) fn hints_to_proto(hints: HintsReport) -> v1::HintsReport {
    v1::HintsReport {
        target: hints.target.as_str().into(),
        outstanding: hints.outstanding,
        oldest_ms: hints.oldest_ms,
        rounds: hints.rounds,
    }
}

pub(super) fn hints_from_proto(hints: v1::HintsReport) -> Option<HintsReport> {
    Some(HintsReport {
        target: NodeId::new(hints.target).ok()?,
        outstanding: hints.outstanding,
        oldest_ms: hints.oldest_ms,
        rounds: hints.rounds,
    })
}

fn peer_to_proto(node: Node) -> v1::Peer {
    v1::Peer {
        node_id: node.id.as_str().into(),
        host: node.host,
        port: node.port.into(),
    }
}

fn peer_from_proto(peer: v1::Peer) -> Result<Node, Refusal> {
    let node = Node {
        id: NodeId::new(peer.node_id).map_err(malformed)?,
        host: peer.host,
        port: u16::try_from(peer.port).map_err(malformed)?,
        virtual_nodes: 1,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    };
    node.validate().map_err(malformed)?;
    Ok(node)
}

fn digest_to_proto(digest: Digest) -> v1::Digest {
    v1::Digest {
        sum: Bytes::copy_from_slice(&digest.sum.to_be_bytes()),
        records: digest.records,
    }
}

fn digest_from_proto(digest: Option<v1::Digest>) -> Option<Digest> {
    let digest = digest?;
    Some(Digest {
        sum: hash_from(&digest.sum)?,
        records: digest.records,
    })
}

fn hashes_to_proto(keys: Vec<KeyHash>) -> v1::KeyHashes {
    let keys = keys.into_iter().map(|entry| v1::KeyHash {
        key: entry.key.as_bytes().clone(),
        hash: Bytes::copy_from_slice(&entry.hash.to_be_bytes()),
    });
    v1::KeyHashes {
        keys: keys.collect(),
    }
}

fn hashes_from_proto(keys: Vec<v1::KeyHash>) -> Result<Vec<KeyHash>, Refusal> {
    let short = || Refusal::Malformed("a hash that has not 16 bytes".into());
    keys.into_iter()
        .map(|entry| {
            Ok(KeyHash {
                key: key(entry.key)?,
                hash: hash_from(&entry.hash).ok_or_else(short)?,
            })
        })
        .collect()
}

fn hash_from(bytes: &Bytes) -> Option<u128> {
    Some(u128::from_be_bytes(bytes[..].try_into().ok()?))
}

fn key_or_none(bytes: Bytes) -> Result<Option<RecordKey>, Refusal> {
    match bytes.is_empty() {
        true => Ok(None),
        false => key(bytes).map(Some),
    }
}

fn tree(bytes: Bytes) -> Result<TreeName, Refusal> {
    TreeName::from_bytes(bytes).map_err(malformed)
}

#[cfg(test)]
#[path = "maintenance_test.rs"]
mod tests;
