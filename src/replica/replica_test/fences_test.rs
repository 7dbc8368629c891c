//! Changes of owners at a storage node: partitions are fenced and left, their trees dropped, and the node comes back.

use super::*;
use crate::placement::NodeStatus;
use crate::ports::{Digest, Dropped, KeyHash, Purged, TreeName};
use crate::sizes::{self, Size};

/// Of `key("…")`, and another one.
const MINE: u16 = 7;
const OTHER: u16 = 8;

fn stale<T>(current: u64) -> Result<T, Refusal> {
    let current = Epoch(current);
    Err(Refusal::StaleEpoch { current })
}

fn key_in(partition: u16, name: &str) -> RecordKey {
    RecordKey::new(
        PartitionId(partition),
        &TenantId::new("tenant").unwrap(),
        name,
    )
}

fn tree_of(partition: u16) -> TreeName {
    key_in(partition, "any").tree()
}

fn read_of(partition: u16) -> Operation {
    let key = key_in(partition, "a");
    Operation::Read { key }
}

fn accept_of(partition: u16, id: u64) -> Operation {
    let key = key_in(partition, "a");
    Operation::Accept(Box::new(AcceptRequest {
        key,
        ..write("a", id)
    }))
}

fn join_of(partition: u16, name: &str, source: JoinSource) -> Operation {
    Operation::Join {
        key: key_in(partition, name),
        record: others(9, 1, 1).encode(),
        judged: None,
        source,
    }
}

/// Every request that is about one partition.
fn requests_of(partition: u16) -> Vec<Operation> {
    let tree = tree_of(partition);
    let key = key_in(partition, "a");
    let keys = vec![KeyHash {
        key: key.clone(),
        hash: 1,
    }];
    let id = PartitionId(partition);
    let maintenance = [
        Maintenance::RootsOf {
            partition: id,
            after: None,
        },
        Maintenance::Leaves { tree: tree.clone() },
        Maintenance::Keys {
            tree: tree.clone(),
            leaves: u64::MAX,
            after: None,
        },
        Maintenance::Hint {
            key: key.clone(),
            targets: vec![peer(2)],
        },
        Maintenance::ForgetHints {
            target: peer(2).id,
            partitions: vec![id],
        },
        Maintenance::Tombstones {
            tree: tree.clone(),
            after: None,
            last_write_wins: false,
        },
        Maintenance::AreTombstones { keys: keys.clone() },
        Maintenance::Purge { keys: keys.clone() },
        Maintenance::DropPurged { keys },
        Maintenance::Purged { tree: tree.clone() },
        Maintenance::KeepPurged {
            tree,
            purged: Purged::default(),
        },
        Maintenance::Heal {
            key,
            hash: 1,
            record: None,
        },
    ];
    let maintenance = maintenance.map(|one| Operation::Maintenance(Box::new(one)));
    let mut all = vec![accept_of(partition, 5), read_of(partition)];
    all.push(join_of(partition, "b", JoinSource::Client));
    all.push(join_of(partition, "b", JoinSource::Exchange));
    all.push(join_of(partition, "b", JoinSource::Handoff));
    all.extend(maintenance);
    all
}

fn peer(n: u16) -> crate::placement::Node {
    crate::placement::Node {
        id: NodeId::new(format!("node-{n}")).unwrap(),
        host: "::1".into(),
        port: n,
        virtual_nodes: 1,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

impl Node {
    async fn drop_tree(&self, epoch: u64, partition: u16) -> Result<Dropped, Refusal> {
        let tree = tree_of(partition);
        let dropped = self.maintenance(epoch, Maintenance::DropTree { tree });
        match dropped.await? {
            Maintained::Dropped(dropped) => Ok(dropped),
            other => panic!("nothing of dropping: {other:?}"),
        }
    }

    async fn roots_of(&self, epoch: u64, partition: u16) -> Vec<(TreeName, Digest)> {
        let (partition, after) = (PartitionId(partition), None);
        let roots = Maintenance::RootsOf { partition, after };
        match self.maintenance(epoch, roots).await {
            Ok(Maintained::Roots { roots, more: false }) => roots,
            other => panic!("no roots: {other:?}"),
        }
    }

    /// Holds records, a purge floor and hints, of both partitions.
    async fn holds_all_kinds(&self, epoch: u64, records: u64) {
        for partition in [MINE, OTHER] {
            for n in 0..records {
                let name = format!("k{n}");
                let join = join_of(partition, &name, JoinSource::Client);
                self.call(epoch, join).await.unwrap();
            }
            self.call(epoch, join_of(partition, "gone", JoinSource::Client))
                .await
                .unwrap();
            let key = key_in(partition, "gone");
            let hash = Digest::hash(&key, &others(9, 1, 1).encode());
            let keys = vec![KeyHash { key, hash }];
            self.maintenance(epoch, Maintenance::Purge { keys })
                .await
                .unwrap();
            self.call(epoch, accept_of(partition, 77)).await.unwrap();
            for target in [2, 3] {
                let hint = Maintenance::Hint {
                    key: key_in(partition, "a"),
                    targets: vec![peer(target)],
                };
                self.maintenance(epoch, hint).await.unwrap();
            }
        }
    }

    async fn hints(&self) -> Vec<u64> {
        let report = self.report().await;
        report.hints.iter().map(|hints| hints.outstanding).collect()
    }

    /// All that the engine holds but who the node is.
    async fn stored(&self) -> Vec<(Space, Bytes)> {
        let mut all = Vec::new();
        for space in Space::ALL {
            let page = self.storage.scan(space, Bytes::new(), None, usize::MAX);
            let names = page
                .await
                .unwrap()
                .into_iter()
                .map(|(name, _)| (space, name));
            all.extend(names);
        }
        all.retain(|(_, name)| name != "identity" && name != "digested");
        all
    }
}

#[tokio::test]
async fn a_fence_of_one_partition_disturbs_no_other_and_outlives_restarts() {
    let mut node = Node::new().await;
    for partition in [MINE, OTHER] {
        node.call(3, accept_of(partition, 1)).await.unwrap();
    }
    let stamp = node.fence(5, Some(&[MINE]), false).await;
    assert!(matches!(stamp, Ok(Maintained::Fenced { horizon }) if horizon >= Stamp(1)));
    for _ in 0..3 {
        for request in requests_of(MINE) {
            let refused = node.call(4, request.clone()).await;
            assert_eq!(refused, stale(5), "{request:?}");
        }
        assert_eq!(node.report().await.epoch, Epoch(5));
        for request in [read_of(OTHER), accept_of(OTHER, 9)] {
            node.call(3, request).await.unwrap();
        }
        let roots = Maintenance::Roots { after: None };
        node.maintenance(3, roots).await.unwrap();
        node = node.crash().await;
    }
    for request in [read_of(MINE), accept_of(MINE, 9)] {
        node.call(5, request).await.unwrap();
    }
    assert_eq!(node.fence(4, Some(&[OTHER, MINE]), false).await, stale(5));
    node.call(3, read_of(OTHER)).await.unwrap();
    let node = node.restart().await;
    assert_eq!(node.call(4, read_of(MINE)).await, stale(5));
}

fn older_caller() -> Caller {
    Caller {
        release: Release::BeforeChangesOfOwners,
        name: "c9".into(),
    }
}

const KNOWS_NOTHING: &str =
    "the caller runs a version that knows nothing of changes of owners; upgrade it";

#[tokio::test]
async fn who_knows_nothing_of_changes_of_owners_is_served_until_a_partition_is_fenced() {
    let mut node = Node::new().await;
    let older = |node: &Node, operation| {
        node.replica.handle_from(
            older_caller(),
            Request {
                node: node_id(),
                epoch: Epoch(9),
                operation,
            },
        )
    };
    let current = Epoch(9);
    node.fence(5, None, false).await.unwrap(); // of a refill, and not of a change of owners
    for request in [accept_of(MINE, 1), read_of(MINE)] {
        older(&node, request).await.unwrap();
        // As the version before did it, who has answered by an epoch answers to no older one.
        node = node.crash().await;
        let refused = node.call(8, read_of(MINE)).await;
        assert_eq!(refused, Err(Refusal::StaleEpoch { current }));
    }
    node.fence(10, Some(&[OTHER]), false).await.unwrap();
    // That fences come and go makes no difference: owners may change still.
    for fence in [11, 12, 12] {
        for request in [requests_of(MINE), requests_of(OTHER)].concat() {
            let refused = older(&node, request.clone()).await;
            let why = Refusal::Unavailable(KNOWS_NOTHING.into());
            assert_eq!(refused, Err(why), "{request:?}");
        }
        let probe = older(&node, Operation::Probe).await;
        assert!(matches!(probe, Ok(Reply::Report(_))), "{probe:?}");
        node.call(12, read_of(MINE)).await.unwrap();
        node.fence(fence, None, false).await.unwrap();
        node = node.crash().await;
    }
}

#[tokio::test]
async fn who_waits_behind_the_first_fence_and_knows_too_little_is_refused_by_it() {
    let node = Node::new().await;
    node.storage.hold_commits();
    let first = tokio::spawn(node.call(1, accept_of(OTHER, 1)));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let fence = Operation::Maintenance(Box::new(Maintenance::Fence {
        partitions: Some(vec![PartitionId(OTHER)]),
        leaving: false,
        horizon: Stamp::ZERO,
    }));
    let fence = tokio::spawn(node.call(2, fence));
    tokio::task::yield_now().await;
    let request = Request {
        node: node_id(),
        epoch: Epoch(2),
        operation: accept_of(MINE, 5),
    };
    let late = tokio::spawn(node.replica.handle_from(older_caller(), request));
    tokio::task::yield_now().await;
    node.storage.release_commits();
    first.await.unwrap().unwrap();
    fence.await.unwrap().unwrap();
    let refused = Refusal::Unavailable(KNOWS_NOTHING.into());
    assert_eq!(late.await.unwrap(), Err(refused));
    let found = node.call(2, read_of(MINE)).await;
    assert_eq!(found, Ok(Reply::Found { record: None }));
}

#[tokio::test]
async fn only_a_program_that_knows_fences_opens_data_that_has_some() {
    let node = Node::new().await;
    let data_version = async |node: &Node| {
        let key = vec![Bytes::from_static(b"identity")];
        let stored = node.storage.read(Space::Meta, key).await.unwrap();
        stored[0].as_ref().unwrap()[0]
    };
    node.fence(5, None, false).await.unwrap();
    assert_eq!(data_version(&node).await, 2, "the way back is open");
    // The node's own fence says as much, so none is kept of the partition; that owners change is.
    node.fence(5, Some(&[MINE]), false).await.unwrap();
    assert_eq!(data_version(&node).await, 3);
    let node = node.restart().await;
    assert_eq!(data_version(&node).await, 3);
}

#[tokio::test]
async fn what_waits_behind_a_fence_is_refused_by_it() {
    let node = Node::new().await;
    node.storage.hold_commits();
    let first = tokio::spawn(node.call(1, accept_of(OTHER, 1)));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    // All of these share the next batch, and were admitted before any of them was applied.
    let fence = Maintenance::Fence {
        partitions: Some(vec![PartitionId(MINE)]),
        leaving: false,
        horizon: Stamp::ZERO,
    };
    let waiting = [
        (1, accept_of(MINE, 1)),
        (5, Operation::Maintenance(Box::new(fence))),
        (4, accept_of(MINE, 2)),
        (4, join_of(MINE, "b", JoinSource::Client)),
        (4, accept_of(OTHER, 3)),
    ];
    let waiting = waiting.map(|(epoch, operation)| node.call(epoch, operation));
    let waiting = tokio::spawn(join_all(waiting));
    tokio::task::yield_now().await;
    node.storage.release_commits();
    first.await.unwrap().unwrap();
    let replies = waiting.await.unwrap();
    assert!(replies[0].is_ok() && replies[1].is_ok(), "{replies:?}");
    assert_eq!(replies[2..4], [stale(5), stale(5)]);
    assert!(replies[4].is_ok(), "{:?}", replies[4]);
}

#[tokio::test]
async fn more_fences_than_one_page_outlive_a_restart() {
    let node = Node::new().await;
    let last = sizes::of(Size::FencesPage) as u16;
    let all: Vec<u16> = (0..=last).collect();
    node.fence(5, Some(&all), false).await.unwrap();
    let node = node.crash().await;
    for partition in [0, last - 1, last] {
        assert_eq!(node.call(4, accept_of(partition, 1)).await, stale(5));
    }
}

#[tokio::test]
async fn who_leaves_a_partition_keeps_nothing_that_others_purged_of_it() {
    let node = Node::new().await;
    node.fence(5, Some(&[MINE]), true).await.unwrap();
    let keep = || Maintenance::KeepPurged {
        tree: tree_of(MINE),
        purged: Purged {
            seen: seen([(Actor(9), 1)]),
            stamp: Stamp(1),
        },
    };
    let late = node.maintenance(5, keep()).await;
    assert_eq!(late, Err(Refusal::HandedOver), "its copy may be gone");
    let relied_on = node.maintenance(6, keep()).await;
    assert_eq!(relied_on, Ok(Maintained::Done));
}

#[tokio::test]
async fn what_waits_behind_the_word_that_a_node_leaves_is_no_use_to_it() {
    let node = Node::new().await;
    node.storage.hold_commits();
    let first = tokio::spawn(node.call(1, accept_of(OTHER, 1)));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    // All of these share the next batch, and were admitted before any of them was applied.
    let fence = Maintenance::Fence {
        partitions: Some(vec![PartitionId(MINE)]),
        leaving: true,
        horizon: Stamp::ZERO,
    };
    let waiting = [
        (5, Operation::Maintenance(Box::new(fence))),
        (9, join_of(MINE, "b", JoinSource::Handoff)),
        (5, join_of(MINE, "c", JoinSource::Exchange)),
        (9, join_of(OTHER, "b", JoinSource::Handoff)),
    ];
    let waiting = waiting.map(|(epoch, operation)| node.call(epoch, operation));
    let waiting = tokio::spawn(join_all(waiting));
    tokio::task::yield_now().await;
    node.storage.release_commits();
    first.await.unwrap().unwrap();
    let replies = waiting.await.unwrap();
    assert!(replies[0].is_ok() && replies[3].is_ok(), "{replies:?}");
    for reply in &replies[1..3] {
        assert_eq!(*reply, Err(Refusal::HandedOver));
    }
}

#[tokio::test]
async fn who_leaves_a_partition_takes_no_hints_and_owns_it_again_when_relied_on() {
    for source in [None, Some(JoinSource::Client), Some(JoinSource::Exchange)] {
        let node = Node::new().await;
        let relied_on = || match source {
            None => accept_of(MINE, 5),
            Some(source) => join_of(MINE, "b", source),
        };
        node.fence(5, Some(&[MINE, OTHER]), true).await.unwrap();
        let handoff = || join_of(MINE, "b", JoinSource::Handoff);
        for epoch in [4, 5, 9] {
            let refused = node.call(epoch, handoff()).await;
            assert_eq!(refused, Err(Refusal::HandedOver), "{epoch}");
        }
        // Of the same epoch: it is leaving all the same, and takes nothing of an exchange.
        let answer = node.call(5, relied_on()).await;
        match source {
            Some(JoinSource::Exchange) => assert_eq!(answer, Err(Refusal::HandedOver)),
            _ => drop(answer.unwrap()),
        }
        assert_eq!(node.call(5, handoff()).await, Err(Refusal::HandedOver));
        node.call(7, relied_on()).await.unwrap();
        let node = node.crash().await;
        assert_eq!(node.call(6, read_of(MINE)).await, stale(7));
        node.call(7, handoff()).await.unwrap();
        assert!(node.drop_tree(7, MINE).await.is_err());
        assert_eq!(node.fence(6, Some(&[MINE]), true).await, stale(7));
        // The other one it is leaving still.
        let other = node.call(9, join_of(OTHER, "b", JoinSource::Handoff));
        assert_eq!(other.await, Err(Refusal::HandedOver));
        assert!(node.drop_tree(5, OTHER).await.unwrap().complete);
    }
}

#[tokio::test]
async fn a_tree_is_dropped_by_the_very_epoch_of_leaving_alone() {
    let node = Node::new().await;
    node.holds_all_kinds(3, 3).await;
    let never = node.drop_tree(3, MINE).await;
    assert!(matches!(never, Err(Refusal::Unavailable(_))), "{never:?}");
    node.fence(5, Some(&[MINE]), false).await.unwrap();
    let not_leaving = node.drop_tree(5, MINE).await;
    assert!(matches!(not_leaving, Err(Refusal::Unavailable(_))));
    node.fence(6, Some(&[MINE]), true).await.unwrap();
    assert_eq!(node.drop_tree(5, MINE).await, stale(6));
    let newer = node.drop_tree(7, MINE).await;
    assert!(matches!(newer, Err(Refusal::Unavailable(_))), "{newer:?}");
    // Of the same epoch it may be told otherwise.
    node.fence(6, Some(&[MINE]), false).await.unwrap();
    assert!(node.drop_tree(6, MINE).await.is_err());
    node.fence(6, Some(&[MINE]), true).await.unwrap();
    // A newer fence of the whole node is one, too.
    node.fence(8, None, false).await.unwrap();
    assert_eq!(node.drop_tree(6, MINE).await, stale(8));
    assert!(node.drop_tree(8, MINE).await.is_err());
    assert_eq!(node.roots_of(8, MINE).await[0].1.records, 4);
    node.fence(8, Some(&[MINE]), true).await.unwrap();
    assert!(node.drop_tree(8, MINE).await.unwrap().complete);
}

#[tokio::test]
async fn a_dropped_tree_leaves_nothing_and_others_are_whole() {
    let node = Node::new().await;
    node.holds_all_kinds(3, 300).await;
    let other = node.roots_of(3, OTHER).await;
    assert_eq!(
        (node.roots_of(3, MINE).await.len(), node.hints().await),
        (1, vec![2, 2])
    );
    // One of its records is damaged.
    let put = Put {
        space: Space::Records,
        key: key_in(MINE, "k9").as_bytes().clone(),
        value: Some(Bytes::from_static(b"junk")),
    };
    node.storage.commit(vec![put]).await.unwrap();
    node.fence(5, Some(&[MINE]), true).await.unwrap();
    let mut pages = Vec::new();
    loop {
        let dropped = node.drop_tree(5, MINE).await.unwrap();
        pages.push(dropped.records);
        if dropped.complete {
            break;
        }
    }
    assert_eq!(pages, [128, 128, 45]);
    assert_eq!(node.roots_of(5, MINE).await, []);
    assert_eq!(node.roots_of(5, OTHER).await, other);
    assert_eq!(node.hints().await, [1, 1]);
    let again = Dropped {
        records: 0,
        complete: true,
    };
    assert_eq!(node.drop_tree(5, MINE).await, Ok(again));
    let node = node.crash().await;
    let left = node.stored().await;
    let prefix = tree_of(MINE);
    let of_it = left.iter().filter(|(_, name)| {
        let name = name.as_ref();
        name.windows(prefix.as_bytes().len())
            .any(|part| part == &prefix.as_bytes()[..])
    });
    assert_eq!(of_it.count(), 0, "{left:?}");
    assert_eq!(node.hints().await, [1, 1]);
}

#[tokio::test]
async fn a_tree_that_is_relied_on_again_half_way_is_dropped_no_further() {
    let node = Node::new().await;
    node.holds_all_kinds(3, 200).await;
    node.fence(5, Some(&[MINE]), true).await.unwrap();
    let half = node.drop_tree(5, MINE).await.unwrap();
    assert!(!half.complete);
    node.call(6, accept_of(MINE, 99)).await.unwrap();
    assert_eq!(node.drop_tree(5, MINE).await, stale(6));
    assert!(node.drop_tree(6, MINE).await.is_err());
    let roots = node.roots_of(6, MINE).await;
    assert_eq!(roots[0].1.records, 201 - half.records + 1);
}

#[tokio::test]
async fn what_was_dropped_by_half_is_taken_for_purged_by_nobody() {
    let node = Node::new().await;
    node.holds_all_kinds(3, 200).await;
    let purged = Maintenance::Purged {
        tree: tree_of(MINE),
    };
    let before = node.maintenance(3, purged.clone()).await.unwrap();
    let nothing = Maintained::Purged(Purged::default());
    assert_ne!(before, nothing, "it covers all of the records' dots");
    node.fence(5, Some(&[MINE]), true).await.unwrap();
    assert!(!node.drop_tree(5, MINE).await.unwrap().complete);
    node.call(6, accept_of(MINE, 99)).await.unwrap();
    for n in 0..200 {
        let join = join_of(MINE, &format!("k{n}"), JoinSource::Exchange);
        let joined = node.call(6, join).await;
        assert!(joined.is_ok(), "k{n}: {joined:?}");
    }
    assert_eq!(node.roots_of(6, MINE).await[0].1.records, 201);
}

#[tokio::test]
async fn trees_are_listed_by_partition() {
    let node = Node::new().await;
    for partition in [0, 1, MINE, OTHER, u16::MAX] {
        for tenant in ["a", "b"] {
            let key = RecordKey::new(PartitionId(partition), &TenantId::new(tenant).unwrap(), "k");
            let join = Operation::Join {
                key,
                record: others(9, 1, 1).encode(),
                judged: None,
                source: JoinSource::Client,
            };
            node.call(0, join).await.unwrap();
        }
    }
    let all = match node
        .maintenance(0, Maintenance::Roots { after: None })
        .await
    {
        Ok(Maintained::Roots { roots, .. }) => roots,
        other => panic!("no roots: {other:?}"),
    };
    for partition in [0, 1, MINE, OTHER, u16::MAX] {
        let of = |(tree, _): &&(TreeName, Digest)| tree.partition() == PartitionId(partition);
        let expected: Vec<_> = all.iter().filter(of).cloned().collect();
        assert_eq!(node.roots_of(0, partition).await, expected);
        let next = Maintenance::RootsOf {
            partition: PartitionId(partition),
            after: Some(expected[0].0.clone()),
        };
        let (roots, more) = (expected[1..].to_vec(), false);
        let page = node.maintenance(0, next).await;
        assert_eq!(page, Ok(Maintained::Roots { roots, more }));
    }
    assert_eq!(node.roots_of(0, 100).await, []);
}

#[tokio::test]
async fn hints_are_forgotten_by_partition() {
    let node = Node::new().await;
    node.holds_all_kinds(3, 0).await;
    let forget = |partitions: &[u16]| Maintenance::ForgetHints {
        target: peer(2).id,
        partitions: partitions.iter().copied().map(PartitionId).collect(),
    };
    node.maintenance(3, forget(&[1, 9, u16::MAX]))
        .await
        .unwrap();
    assert_eq!(node.hints().await, [2, 2]);
    node.maintenance(3, forget(&[MINE])).await.unwrap();
    assert_eq!(node.hints().await, [1, 2]);
    // Whoever is a node no more is owed nothing, whatever is fenced.
    node.fence(5, Some(&[MINE, OTHER]), false).await.unwrap();
    assert_eq!(node.maintenance(3, forget(&[OTHER])).await, stale(5));
    node.maintenance(3, forget(&[])).await.unwrap();
    assert_eq!(node.hints().await, [2], "node-3's are left");
}

#[tokio::test]
async fn a_new_owner_can_not_tell_writes_from_before_it_was_one_from_repetitions() {
    let node = Node::new().await;
    let behind = |id| sibling("a", id, VersionVector::default());
    node.accepted(behind(10)).await;
    let horizon = Stamp::new(90_000, 0);
    let fence = |horizon| Maintenance::Fence {
        partitions: Some(vec![PartitionId(OTHER)]),
        leaving: false,
        horizon,
    };
    let fenced = node.maintenance(1, fence(horizon)).await;
    assert_eq!(fenced, Ok(Maintained::Fenced { horizon }));
    let lower = node.maintenance(1, fence(Stamp(7))).await;
    assert_eq!(
        lower,
        Ok(Maintained::Fenced { horizon }),
        "it never goes back"
    );
    let malformed = node.maintenance(1, fence(Stamp(u64::MAX))).await;
    assert!(matches!(malformed, Err(Refusal::Malformed(_))));
    let refused = async |node: &Node| {
        let below = node.accept(behind(horizon.0)).await;
        matches!(below, Ok(Reply::Superseded { greatest, .. }) if greatest.stamp >= horizon)
    };
    assert!(refused(&node).await);
    let node = node.restart().await;
    assert!(refused(&node).await, "after a clean stop");
    let node = node.crash().await;
    assert!(refused(&node).await, "and after a crash");
    node.accepted(behind(horizon.0 + 1)).await;
}

#[tokio::test]
async fn a_node_that_comes_back_empty_has_nothing_left_of_its_former_life() {
    let node = Node::new().await;
    node.holds_all_kinds(3, 5).await;
    let join = |epoch, is_new| {
        let epoch = Epoch(epoch);
        let join = Operation::AdoptEpochIfEmpty { epoch, is_new };
        node.call(epoch.0, join)
    };
    node.fence(5, Some(&[MINE, OTHER, 9]), true).await.unwrap();
    assert!(node.drop_tree(5, MINE).await.unwrap().complete);
    let refused = join(7, true).await;
    assert_eq!(refused, Ok(Reply::Adopted { adopted: false }));
    assert_eq!(node.hints().await, [1, 1], "nothing is cleared");
    // The records go, and the rest stays, as where a node of an older version was emptied.
    let records = node.storage.scan(Space::Records, Bytes::new(), None, 100);
    let removed = records.await.unwrap().into_iter().map(|(key, _)| Put {
        space: Space::Records,
        key,
        value: None,
    });
    node.storage.commit(removed.collect()).await.unwrap();
    assert_eq!(join(4, true).await, stale(5));
    let kept = join(6, false).await;
    assert_eq!(kept, Ok(Reply::Adopted { adopted: true }));
    assert_eq!(node.hints().await, [1, 1], "an owner keeps what it has");
    let joined = join(7, true).await;
    assert_eq!(joined, Ok(Reply::Adopted { adopted: true }));
    assert_eq!(node.stored().await, []);
    assert_eq!(
        (node.hints().await, node.roots_of(7, OTHER).await),
        (vec![], vec![])
    );
    assert_eq!(node.call(6, read_of(3)).await, stale(7), "and for all");
    // Its fences are gone: what it is owed, it takes.
    let handoff = join_of(OTHER, "gone", JoinSource::Handoff);
    node.call(7, handoff).await.unwrap();
    // Asked once more it has a floor of its own, which stays.
    let key = key_in(OTHER, "gone");
    let hash = Digest::hash(&key, &others(9, 1, 1).encode());
    let keys = vec![KeyHash { key, hash }];
    node.maintenance(7, Maintenance::Purge { keys })
        .await
        .unwrap();
    assert_eq!(node.roots_of(7, OTHER).await.len(), 1);
    let again = join(7, true).await;
    assert_eq!(again, Ok(Reply::Adopted { adopted: true }));
    assert_eq!(node.roots_of(7, OTHER).await.len(), 1);
}

#[tokio::test]
async fn a_damaged_fence_does_not_open() {
    let node = Node::new().await;
    node.fence(5, Some(&[MINE]), true).await.unwrap();
    let storage = node.storage.after_crash();
    let put = Put {
        space: Space::Meta,
        key: Bytes::from_static(b"fence \0\x07"),
        value: Some("junk".into()),
    };
    storage.commit(vec![put]).await.unwrap();
    let opened = Replica::open(world(&storage), node_id(), settings()).await;
    assert!(matches!(opened.err(), Some(OpenError::DamagedIdentity(_))));
}
