//! What a node does about data that was lost: records damaged, floors of trees it lacks part of.

use bytes::Bytes;

use super::*;
use crate::adapters::memory::MemoryStorage;
use crate::adapters::tokio::NodeWorld;
use crate::placement::PartitionId;
use crate::ports::{
    AcceptRequest, Digest, Durability, JoinSource, Judged, KeyHash, Maintained, Maintenance,
    Overwrites, Purged, Put, RecordKey, Standing, TenantId, TreeName,
};
use crate::version::{Content, Context, Dot, Record, Stamp, Version, WriteId};

struct Node {
    replica: Replica<NodeWorld<MemoryStorage>>,
    storage: MemoryStorage,
}

impl Node {
    /// One that has just lost its disk.
    async fn refilling() -> Self {
        Self::on(MemoryStorage::new(Durability::Always)).await
    }

    async fn on(storage: MemoryStorage) -> Self {
        let node = NodeId::new("node-1").unwrap();
        let world = NodeWorld::new(storage.clone());
        let replica = Replica::open(world, node, ReplicaSettings::default());
        Self {
            replica: replica.await.unwrap(),
            storage,
        }
    }

    /// One that never had anything to lose.
    async fn new() -> Self {
        let node = Self::refilling().await;
        let epoch = Epoch(0);
        let is_new = true;
        let adopted = node.call(Operation::AdoptEpochIfEmpty { epoch, is_new });
        adopted.await.unwrap();
        node
    }

    async fn call(&self, operation: Operation) -> Result<Reply, Refusal> {
        let request = Request {
            node: NodeId::new("node-1").unwrap(),
            epoch: Epoch(0),
            operation,
        };
        let reply = self.replica.handle(request).await;
        reply.map(Reply::even_if_refilling)
    }

    async fn maintenance(&self, maintenance: Maintenance) -> Result<Maintained, Refusal> {
        match self
            .call(Operation::Maintenance(Box::new(maintenance)))
            .await?
        {
            Reply::Maintained(maintained) => Ok(maintained),
            other => panic!("no maintenance: {other:?}"),
        }
    }

    async fn join(&self, name: &str, record: &Record) -> Result<Reply, Refusal> {
        self.joined(name, record, None, JoinSource::Client).await
    }

    /// As owners do it that compare all they hold.
    async fn exchange(&self, name: &str, record: &Record) -> Result<Reply, Refusal> {
        self.joined(name, record, None, JoinSource::Exchange).await
    }

    async fn joined(
        &self,
        name: &str,
        record: &Record,
        judged: Option<Judged>,
        source: JoinSource,
    ) -> Result<Reply, Refusal> {
        let (key, record) = (key(name), record.encode());
        self.call(Operation::Join {
            key,
            record,
            judged,
            source,
        })
        .await
    }

    async fn purge(&self, name: &str, record: &Record) {
        let hash = Digest::hash(&key(name), &record.encode());
        let keys = vec![KeyHash {
            key: key(name),
            hash,
        }];
        assert_eq!(
            self.maintenance(Maintenance::Purge { keys }).await,
            Ok(Maintained::Done)
        );
    }

    async fn purged(&self) -> Purged {
        match self.maintenance(Maintenance::Purged { tree: tree() }).await {
            Ok(Maintained::Purged(purged)) => purged,
            other => panic!("nothing of purges: {other:?}"),
        }
    }

    async fn roots(&self) -> Vec<(TreeName, Digest)> {
        match self.maintenance(Maintenance::Roots { after: None }).await {
            Ok(Maintained::Roots { roots, more: false }) => roots,
            other => panic!("no roots: {other:?}"),
        }
    }

    async fn damaged(&self) -> Vec<KeyHash> {
        match self.maintenance(Maintenance::Damaged).await {
            Ok(Maintained::Keys { keys, .. }) => keys,
            other => panic!("no keys: {other:?}"),
        }
    }

    /// Flips a bit of a stored record, and returns what is stored now.
    async fn damage(&self, name: &str, record: &Record) -> Bytes {
        let mut damaged = record.encode().to_vec();
        damaged[9] ^= 1;
        let put = Put {
            space: Space::Records,
            key: key(name).as_bytes().clone(),
            value: Some(damaged.clone().into()),
        };
        self.storage.commit(vec![put]).await.unwrap();
        damaged.into()
    }
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(PartitionId(7), &TenantId::new("tenant").unwrap(), name)
}

fn tree() -> TreeName {
    key("any").tree()
}

fn record(counter: u64, content: Content) -> Record {
    let actor = Actor(5);
    let version = Version {
        dot: Dot { actor, counter },
        write_id: WriteId(counter.into()),
        stamp: Stamp(counter),
        content,
    };
    Record::new([(actor, counter)].into_iter().collect(), vec![version]).unwrap()
}

fn value(counter: u64) -> Record {
    record(counter, Content::Value(Bytes::from_static(b"value")))
}

#[tokio::test]
async fn a_purge_keeps_a_node_that_is_refilled_from_nothing_that_it_lacks() {
    let node = Node::refilling().await;
    let tombstone = record(9, Content::Tombstone);
    node.join("gone", &tombstone).await.unwrap();
    node.purge("gone", &tombstone).await;
    let stamp = Stamp(9);
    let only_stamp = Purged {
        stamp,
        ..Purged::default()
    };
    assert_eq!(node.purged().await, only_stamp);
    node.join("lacking", &value(3)).await.unwrap();
    // Nor does what is known of a purge, before it is whole.
    let purged = Purged {
        seen: [(Actor(5), 9)].into_iter().collect(),
        stamp,
    };
    let tree = tree();
    let keep = Maintenance::KeepPurged { tree, purged };
    node.maintenance(keep).await.unwrap();
    let late = node.join("lacking, too", &value(4)).await;
    assert_eq!(late, Err(Refusal::Refilling), "it may have been purged");
    node.exchange("lacking, too", &value(4)).await.unwrap();
    let incarnation = node.replica.incarnation();
    node.maintenance(Maintenance::Refilled { incarnation })
        .await
        .unwrap();
    let late = node.join("late", &value(5)).await;
    assert_eq!(late, Err(Refusal::Purged));

    let whole = Node::new().await;
    whole.join("gone", &tombstone).await.unwrap();
    whole.purge("gone", &tombstone).await;
    assert_eq!(whole.join("lacking", &value(3)).await, Err(Refusal::Purged));
}

/// How `write`, alone in its record, stands where it is joined.
async fn standing(node: &Node, write: &Record) -> Standing {
    let sibling = &write.siblings()[0];
    let judged = Judged {
        dot: sibling.dot,
        rank: sibling.rank(),
    };
    match node
        .joined("k", write, Some(judged), JoinSource::Client)
        .await
    {
        Ok(Reply::Joined { standing, .. }) => standing,
        other => panic!("not joined: {other:?}"),
    }
}

#[tokio::test]
async fn what_was_the_greatest_while_a_node_was_refilled_did_not_lead_there() {
    for refilling in [true, false] {
        let node = match refilling {
            true => Node::refilling().await,
            false => Node::new().await,
        };
        let write = value(3);
        assert_eq!(standing(&node, &write).await, Standing::Leading);
        // What the node had acknowledged before it lost its disk, or what came later.
        let mut greater = record(1, Content::Tombstone).siblings()[0].clone();
        greater.dot.actor = Actor(6);
        greater.stamp = Stamp(9);
        let seen = [(Actor(6), 1)].into_iter().collect();
        let greater = Record::new(seen, vec![greater]).unwrap();
        node.exchange("k", &greater).await.unwrap();
        if refilling {
            let incarnation = node.replica.incarnation();
            node.maintenance(Maintenance::Refilled { incarnation })
                .await
                .unwrap();
        }
        let expected = match refilling {
            true => Standing::Outstripped,
            false => Standing::Leading,
        };
        assert_eq!(standing(&node, &write).await, expected);
    }
}

#[tokio::test]
async fn what_was_known_before_and_overwritten_by_one_write_stands_so() {
    let greater = |seen: &[(Actor, u64)]| {
        let mut greater = record(1, Content::Tombstone).siblings()[0].clone();
        greater.dot.actor = Actor(6);
        greater.stamp = Stamp(9);
        let seen = seen.iter().copied().chain([(Actor(6), 1)]);
        Record::new(seen.collect(), vec![greater]).unwrap()
    };
    let write = value(3);
    let node = Node::new().await;
    node.exchange("k", &greater(&[(Actor(5), 3)]))
        .await
        .unwrap();
    assert_eq!(standing(&node, &write).await, Standing::Overwritten);

    let node = Node::new().await;
    node.exchange("k", &greater(&[])).await.unwrap();
    assert_eq!(standing(&node, &write).await, Standing::Outstripped);

    let node = Node::new().await;
    let purged = Purged {
        seen: [(Actor(5), 3)].into_iter().collect(),
        stamp: Stamp(3),
    };
    let tree = tree();
    let keep = Maintenance::KeepPurged { tree, purged };
    node.maintenance(keep).await.unwrap();
    node.exchange("k", &greater(&[])).await.unwrap();
    let stands = standing(&node, &write).await;
    assert_eq!(stands, Standing::Overwritten, "it was purged here");
}

#[tokio::test]
async fn what_was_the_greatest_before_a_horizon_did_not_lead() {
    for partitions in [None, Some(vec![PartitionId(7)])] {
        let node = Node::new().await;
        let write = value(3);
        assert_eq!(standing(&node, &write).await, Standing::Leading);
        let mut greater = record(1, Content::Tombstone).siblings()[0].clone();
        greater.dot.actor = Actor(6);
        greater.stamp = Stamp(9);
        let seen = [(Actor(6), 1)].into_iter().collect();
        let greater = Record::new(seen, vec![greater]).unwrap();
        node.exchange("k", &greater).await.unwrap();
        assert_eq!(standing(&node, &write).await, Standing::Leading);
        let fence = Maintenance::Fence {
            partitions,
            leaving: false,
            horizon: Stamp(99),
        };
        node.maintenance(fence).await.unwrap();
        assert_eq!(standing(&node, &write).await, Standing::Outstripped);
    }
}

#[tokio::test]
async fn a_value_that_others_purged_is_dropped_though_there_is_a_hint_for_it() {
    let node = Node::new().await;
    node.join("back", &value(3)).await.unwrap();
    let target = crate::placement::Node {
        id: NodeId::new("node-2").unwrap(),
        host: "h".into(),
        port: 1,
        virtual_nodes: 1,
        status: crate::placement::NodeStatus::Active,
        zone: None,
        seat: None,
    };
    let key = key("back");
    let hint = Maintenance::Hint {
        key: key.clone(),
        targets: vec![target],
    };
    node.maintenance(hint).await.unwrap();
    let hash = Digest::hash(&key, &value(3).encode());
    let keys = vec![KeyHash {
        key: key.clone(),
        hash,
    }];
    let dropped = node.maintenance(Maintenance::DropPurged { keys }).await;
    assert_eq!(dropped, Ok(Maintained::Done));
    let read = node.call(Operation::Read { key }).await;
    assert_eq!(read, Ok(Reply::Found { record: None }));
}

#[tokio::test]
async fn a_node_that_is_refilled_purges_nothing_of_its_own_accord() {
    let node = Node::refilling().await;
    let tombstone = record(9, Content::Tombstone);
    node.join("gone", &tombstone).await.unwrap();
    let hash = Digest::hash(&key("gone"), &tombstone.encode());
    let keys = vec![KeyHash {
        key: key("gone"),
        hash,
    }];
    for ask in [
        Maintenance::AreTombstones { keys },
        Maintenance::Tombstones {
            tree: tree(),
            after: None,
            last_write_wins: true,
        },
    ] {
        assert_eq!(node.maintenance(ask).await, Err(Refusal::Refilling));
    }
}

#[tokio::test]
async fn what_was_purged_is_compared_and_kept_where_it_is_handed_over() {
    let (here, there) = (Node::new().await, Node::new().await);
    let tombstone = record(9, Content::Tombstone);
    here.join("gone", &tombstone).await.unwrap();
    here.purge("gone", &tombstone).await;
    assert_eq!(there.roots().await, []);
    let roots = here.roots().await;
    assert!(
        matches!(&roots[..], [(of, Digest { records: 0, .. })] if *of == tree()),
        "{roots:?}"
    );
    let purged = here.purged().await;
    let keep = Maintenance::KeepPurged {
        tree: tree(),
        purged: purged.clone(),
    };
    for _ in 0..2 {
        assert_eq!(there.maintenance(keep.clone()).await, Ok(Maintained::Done));
        assert_eq!(there.purged().await, purged);
        assert_eq!(there.roots().await, roots);
    }
    assert_eq!(there.join("gone", &value(3)).await, Err(Refusal::Purged));
    let again = Node::on(there.storage.after_crash()).await;
    assert_eq!(again.purged().await, purged, "durable");
}

#[tokio::test]
async fn a_damaged_record_is_replaced_and_its_bytes_are_kept_aside() {
    let node = Node::new().await;
    // What was purged does not keep it from being healed.
    let tombstone = record(9, Content::Tombstone);
    for (name, record) in [
        ("hurt", &value(3)),
        ("well", &value(4)),
        ("gone", &tombstone),
    ] {
        node.join(name, record).await.unwrap();
    }
    node.purge("gone", &tombstone).await;
    let before = node.roots().await;
    assert_eq!(node.damaged().await, []);
    let damaged = node.damage("hurt", &value(3)).await;
    let read = Operation::Read { key: key("hurt") };
    assert_eq!(node.call(read.clone()).await, Err(Refusal::Damaged));
    let hash = Digest::hash(&key("hurt"), &damaged);
    let known = KeyHash {
        key: key("hurt"),
        hash,
    };
    assert_eq!(node.damaged().await, [known]);

    let heal = |hash, record: Option<Bytes>| Maintenance::Heal {
        key: key("hurt"),
        hash,
        record,
    };
    let whole = Some(value(3).encode());
    assert!(
        node.maintenance(heal(hash ^ 1, whole.clone()))
            .await
            .is_err()
    );
    let malformed = node.maintenance(heal(hash, Some(damaged.clone()))).await;
    assert!(matches!(malformed, Err(Refusal::Malformed(_))));
    assert_eq!(node.call(read.clone()).await, Err(Refusal::Damaged));

    let healed = node.maintenance(heal(hash, whole.clone())).await;
    assert_eq!(healed, Ok(Maintained::Done));
    assert_eq!(
        node.call(read.clone()).await,
        Ok(Reply::Found { record: whole })
    );
    assert_eq!(node.damaged().await, []);
    assert_eq!(node.roots().await, before, "its digest, too");
    let aside = Bytes::from([b"damaged ", &key("hurt").as_bytes()[..]].concat());
    let kept = node.storage.read(Space::Meta, vec![aside]).await.unwrap();
    assert_eq!(kept, [Some(damaged)]);
    // A second one that comes late changes nothing.
    assert_eq!(
        node.maintenance(heal(hash, None)).await,
        Ok(Maintained::Done)
    );
    assert!(matches!(
        node.call(read).await,
        Ok(Reply::Found { record: Some(_) })
    ));
}

/// A write that only a damaged record had is gone with it, and so is what the node remembers of it: told that it is
/// there, its coordinator would acknowledge what nobody holds.
#[tokio::test]
async fn what_a_replaced_record_never_had_is_accepted_anew() {
    let node = Node::new().await;
    let accept = || async {
        let request = AcceptRequest {
            key: key("hurt"),
            write_id: WriteId(77),
            stamp: Stamp(1_000),
            overwrites: Overwrites::All(Context::default()),
            content: Content::Value(Bytes::from_static(b"mine")),
            siblings_max: 256,
        };
        match node.call(Operation::Accept(Box::new(request))).await {
            Ok(Reply::Accepted { dot, record }) => (dot, Record::decode(record).unwrap()),
            other => panic!("not accepted: {other:?}"),
        }
    };
    let (first, held) = accept().await;
    assert_eq!(accept().await.0, first, "it is known");
    let damaged = node.damage("hurt", &held).await;
    let read = Operation::Read { key: key("hurt") };
    assert_eq!(node.call(read).await, Err(Refusal::Damaged));
    let heal = Maintenance::Heal {
        key: key("hurt"),
        hash: Digest::hash(&key("hurt"), &damaged),
        record: Some(value(3).encode()),
    };
    assert_eq!(node.maintenance(heal).await, Ok(Maintained::Done));
    let (second, held) = accept().await;
    assert_ne!(second, first);
    assert!(held.find(WriteId(77)).is_some(), "and it is there");
}

#[tokio::test]
async fn where_no_other_owner_has_a_record_none_is_left() {
    let node = Node::new().await;
    node.join("hurt", &value(3)).await.unwrap();
    let damaged = node.damage("hurt", &value(3)).await;
    let heal = Maintenance::Heal {
        key: key("hurt"),
        hash: Digest::hash(&key("hurt"), &damaged),
        record: None,
    };
    assert_eq!(node.maintenance(heal).await, Ok(Maintained::Done));
    let read = node.call(Operation::Read { key: key("hurt") }).await;
    assert_eq!(read, Ok(Reply::Found { record: None }));
    assert_eq!(node.roots().await, []);
}
