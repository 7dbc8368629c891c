//! Every kind of maintenance comes back as it went out, and nonsense is refused.

use super::*;
use crate::placement::PartitionId;
use crate::ports::TenantId;

fn some_key() -> RecordKey {
    RecordKey::new(PartitionId(3), &TenantId::new("t").unwrap(), "k")
}

fn peer() -> Node {
    Node {
        id: NodeId::new("node-1").unwrap(),
        host: "10.0.0.1".into(),
        port: 7001,
        virtual_nodes: 1,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

fn hashes() -> Vec<KeyHash> {
    let key = some_key();
    vec![KeyHash { key, hash: 7 << 90 }]
}

#[test]
fn every_task_comes_back() {
    let tree = some_key().tree();
    let target = peer().id;
    for task in [
        Maintenance::Roots { after: None },
        Maintenance::Roots {
            after: Some(tree.clone()),
        },
        Maintenance::Leaves { tree: tree.clone() },
        Maintenance::Keys {
            tree: tree.clone(),
            leaves: 5,
            after: Some(some_key()),
        },
        Maintenance::Sync {
            tree: tree.clone(),
            peer: peer(),
        },
        Maintenance::Hint {
            key: some_key(),
            targets: vec![peer()],
        },
        Maintenance::DeliverHints { target: peer() },
        Maintenance::ForgetHints {
            target: target.clone(),
            partitions: Vec::new(),
        },
        Maintenance::ForgetHints {
            target,
            partitions: vec![PartitionId(0), PartitionId(u16::MAX)],
        },
        Maintenance::RootsOf {
            partition: PartitionId(0),
            after: None,
        },
        Maintenance::RootsOf {
            partition: PartitionId(u16::MAX),
            after: Some(tree.clone()),
        },
        Maintenance::Fence {
            partitions: None,
            leaving: false,
            horizon: Stamp(u64::MAX),
        },
        Maintenance::Fence {
            partitions: Some(Vec::new()),
            leaving: true,
            horizon: Stamp::ZERO,
        },
        Maintenance::Fence {
            partitions: Some(vec![PartitionId(0), PartitionId(u16::MAX)]),
            leaving: true,
            horizon: Stamp(9),
        },
        Maintenance::DropTree { tree: tree.clone() },
        Maintenance::Tombstones {
            tree: tree.clone(),
            after: None,
            last_write_wins: true,
        },
        Maintenance::AreTombstones { keys: hashes() },
        Maintenance::Purge { keys: hashes() },
        Maintenance::DropPurged { keys: hashes() },
        Maintenance::Purged { tree: tree.clone() },
        Maintenance::Damaged,
        Maintenance::Heal {
            key: some_key(),
            hash: 7 << 90,
            record: Some(Bytes::from_static(b"record")),
        },
        Maintenance::Heal {
            key: some_key(),
            hash: 0,
            record: None,
        },
        Maintenance::KeepPurged {
            tree,
            purged: Purged {
                seen: [(Actor(1), 2)].into_iter().collect(),
                stamp: Stamp(5),
            },
        },
    ] {
        assert_eq!(from_proto(to_proto(task.clone())), Ok(task));
    }
}

#[test]
fn every_answer_comes_back() {
    let digest = Digest {
        sum: u128::MAX - 9,
        records: 4,
    };
    for answer in [
        Maintained::Roots {
            roots: vec![(some_key().tree(), digest)],
            more: true,
        },
        Maintained::Leaves {
            leaves: vec![(0, digest), (63, digest)],
        },
        Maintained::Keys {
            keys: hashes(),
            more: Some(some_key()),
        },
        Maintained::Synced(Synced {
            sent: 1,
            received: 2,
            bytes: 3,
            complete: true,
            floors: 2,
            damaged_here: 6,
            damaged_there: 7,
            dropped: 8,
            handed_over: 9,
        }),
        Maintained::Purged(Purged {
            seen: [(Actor(1), 2), (Actor(3), 4)].into_iter().collect(),
            stamp: Stamp(5),
        }),
        Maintained::Fenced {
            horizon: Stamp(u64::MAX),
        },
        Maintained::Dropped(Dropped {
            records: u64::MAX,
            complete: false,
        }),
        Maintained::Dropped(Dropped {
            records: 0,
            complete: true,
        }),
        Maintained::Done,
    ] {
        assert_eq!(
            answer_from_proto(answer_to_proto(answer.clone())),
            Some(answer)
        );
    }
}

/// What the storage engine would have panicked at.
fn too_long() -> Bytes {
    let mut name = some_key().as_bytes().to_vec();
    name.extend(vec![b'k'; 66_000]);
    name.into()
}

fn some_list() -> v1::ListKeys {
    v1::ListKeys {
        tree: some_key().tree().as_bytes().clone(),
        leaves: u64::MAX,
        ..v1::ListKeys::default()
    }
}

#[test]
fn nonsense_is_refused() {
    for task in [
        None,
        Some(Task::Leaves(Bytes::new())),
        Some(Task::Keys(v1::ListKeys {
            after: too_long(),
            ..some_list()
        })),
        Some(Task::Tombstones(v1::ListKeys {
            after: too_long(),
            ..some_list()
        })),
        Some(Task::AreTombstones(v1::KeyHashes {
            keys: vec![v1::KeyHash {
                key: too_long(),
                hash: vec![0; 16].into(),
            }],
        })),
        Some(Task::Hint(v1::Hint {
            key: too_long(),
            targets: Vec::new(),
        })),
        Some(Task::RootsAfter(too_long())),
        Some(Task::Sync(v1::SyncTree::default())),
        Some(Task::Heal(v1::Heal::default())),
        Some(Task::DropTree(Bytes::new())),
        Some(Task::Trees(v1::ListTrees {
            partition: 1 << 16,
            after: Bytes::new(),
        })),
        Some(Task::Trees(v1::ListTrees {
            partition: 1,
            after: too_long(),
        })),
        Some(Task::Fence(v1::Fence {
            partitions: vec![3, 1 << 16],
            ..v1::Fence::default()
        })),
        // It would be taken for all that the node lacks.
        Some(Task::ForgetHintsOf(v1::ForgetHintsOf {
            node_id: "n".into(),
            partitions: Vec::new(),
        })),
        Some(Task::ForgetHintsOf(v1::ForgetHintsOf {
            node_id: "n".into(),
            partitions: vec![1 << 16],
        })),
        Some(Task::DeliverHints(v1::Peer {
            node_id: "n".into(),
            host: "h".into(),
            port: 1 << 20,
        })),
        Some(Task::Purge(v1::KeyHashes {
            keys: vec![v1::KeyHash {
                key: some_key().as_bytes().clone(),
                hash: Bytes::from_static(b"short"),
            }],
        })),
    ] {
        assert!(matches!(
            from_proto(v1::Maintenance { task }),
            Err(Refusal::Malformed(_))
        ));
    }
    let uneven = Outcome::Purged(v1::PurgedOf {
        actors: vec![1],
        ..v1::PurgedOf::default()
    });
    for outcome in [None, Some(uneven)] {
        assert_eq!(answer_from_proto(v1::Maintained { outcome }), None);
    }
}
