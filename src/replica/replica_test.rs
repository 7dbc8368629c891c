//! The storage node on an engine in memory.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;

use super::*;
use crate::adapters::memory::MemoryStorage;
use crate::adapters::tokio::NodeWorld;
use crate::placement::PartitionId;
use crate::ports::{
    Durability, Overwrites, Put, RecordKey, StampRequest, Standing, TenantId, Upkeep, Upkept,
};
use crate::version::{Content, Context, Dot, Record, Stamp, Version, VersionVector, WriteId};

type World = NodeWorld<MemoryStorage>;

fn world(storage: &MemoryStorage) -> World {
    NodeWorld::new(storage.clone())
}

/// One node, its engine, and the sentences that tests are made of.
struct Node {
    replica: Replica<World>,
    storage: MemoryStorage,
    world: World,
}

fn node_id() -> NodeId {
    NodeId::new("node-1").unwrap()
}

fn settings() -> ReplicaSettings {
    ReplicaSettings {
        counter_reservation: 10,
        ..ReplicaSettings::default()
    }
}

impl Node {
    async fn new() -> Self {
        Self::on(MemoryStorage::new(Durability::Always)).await
    }

    async fn on(storage: MemoryStorage) -> Self {
        Self::with(storage, settings()).await
    }

    async fn with(storage: MemoryStorage, settings: ReplicaSettings) -> Self {
        let world = world(&storage);
        let replica = Replica::open(world.clone(), node_id(), settings)
            .await
            .unwrap();
        let node = Self {
            replica,
            storage,
            world,
        };
        // With data of its own it is what it was.
        let _ = node.adopt_if_empty(0).await;
        node
    }

    async fn adopt_if_empty(&self, epoch: u64) -> Result<Reply, Refusal> {
        let epoch = Epoch(epoch);
        let adopt = Operation::AdoptEpochIfEmpty {
            epoch,
            is_new: true,
        };
        self.call(epoch.0, adopt).await
    }

    /// Somebody has seen it get back what it lost.
    async fn refill(&self) {
        assert!(self.replica.is_refilling());
        let incarnation = self.replica.incarnation();
        let refilled = Operation::Upkeep(Box::new(Upkeep::Refilled { incarnation }));
        self.call(0, refilled).await.unwrap();
    }

    /// Waits until it takes writes again, by itself.
    async fn is_back(&self) {
        while self.replica.refuses_writes().is_some() {
            self.world.clock().sleep(Duration::from_millis(10)).await;
        }
    }

    /// Loses power and starts again.
    async fn crash(self) -> Self {
        Self::on(self.storage.after_crash()).await
    }

    async fn restart(self) -> Self {
        self.replica.stop().await.unwrap();
        Self::on(self.storage.after_crash()).await
    }

    fn call(
        &self,
        epoch: u64,
        operation: Operation,
    ) -> impl Future<Output = Result<Reply, Refusal>> + use<> {
        self.replica.handle(Request {
            node: node_id(),
            epoch: Epoch(epoch),
            operation,
        })
    }

    async fn stamp(&self, request: StampRequest) -> Result<Reply, Refusal> {
        self.call(0, Operation::Stamp(Box::new(request))).await
    }

    async fn stamped(&self, request: StampRequest) -> (Dot, Record) {
        self.stamped_under(0, request).await
    }

    async fn stamped_under(&self, epoch: u64, request: StampRequest) -> (Dot, Record) {
        match self.call(epoch, Operation::Stamp(Box::new(request))).await {
            Ok(Reply::Stamped { dot, record }) => (dot, Record::decode(record).unwrap()),
            other => panic!("not stamped: {other:?}"),
        }
    }

    async fn join(&self, name: &str, record: &Record) -> Result<Reply, Refusal> {
        self.call(
            0,
            Operation::Join {
                key: key(name),
                record: record.encode(),
                judged: None,
                exchanged: false,
            },
        )
        .await
    }

    async fn report(&self) -> NodeReport {
        match self.call(0, Operation::Probe).await {
            Ok(Reply::Report(report)) => report,
            other => panic!("no report: {other:?}"),
        }
    }

    async fn read(&self, name: &str) -> Option<Record> {
        match self.call(0, Operation::Read { key: key(name) }).await {
            Ok(Reply::Found { record }) => record.map(|record| Record::decode(record).unwrap()),
            other => panic!("not read: {other:?}"),
        }
    }
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(PartitionId(7), &TenantId::new("tenant").unwrap(), name)
}

fn seen<const N: usize>(entries: [(Actor, u64); N]) -> VersionVector {
    entries.into_iter().collect()
}

/// A last-write-wins write. Its stamp is its write id.
fn write(name: &str, id: u64) -> StampRequest {
    StampRequest {
        key: key(name),
        write_id: WriteId(id.into()),
        stamp: Stamp(id),
        overwrites: Overwrites::All(Context::default()),
        content: Content::Value(Bytes::from(format!("value {id}"))),
        siblings_max: 256,
    }
}

fn sibling(name: &str, id: u64, shown: VersionVector) -> StampRequest {
    let context = Context {
        shown,
        written: None,
    };
    StampRequest {
        overwrites: Overwrites::Covered(context),
        ..write(name, id)
    }
}

/// Another node's record with one write.
fn others(actor: u64, counter: u64, stamp: u64) -> Record {
    let dot = Dot {
        actor: Actor(actor),
        counter,
    };
    let version = Version {
        dot,
        write_id: WriteId(stamp.into()),
        stamp: Stamp(stamp),
        content: Content::Tombstone,
    };
    Record::new(seen([(dot.actor, counter)]), vec![version]).unwrap()
}

fn ids(record: &Record) -> Vec<u128> {
    let mut ids: Vec<_> = record
        .siblings()
        .iter()
        .map(|sibling| sibling.write_id.0)
        .collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn stamps_and_reads() {
    let node = Node::new().await;
    assert_eq!(node.read("a").await, None);
    let (dot, record) = node.stamped(write("a", 1)).await;
    assert_eq!(
        dot,
        Dot {
            actor: node.replica.incarnation(),
            counter: 1
        }
    );
    assert_eq!(node.read("a").await, Some(record));
    let (dot, record) = node.stamped(write("b", 2)).await;
    assert_eq!(dot.counter, 2, "counters are the node's, not the key's");
    assert_eq!(ids(&record), [2]);
}

#[tokio::test]
async fn a_repetition_is_answered_as_before() {
    let node = Node::new().await;
    let (first, _) = node.stamped(write("a", 1)).await;
    assert_eq!(node.stamped(write("a", 1)).await.0, first);
    node.stamped(write("a", 2)).await;
    let (again, record) = node.stamped(write("a", 1)).await;
    assert_eq!(
        (again, ids(&record)),
        (first, vec![2]),
        "overwritten since, and still known"
    );
    let (elsewhere, _) = node.stamped(write("b", 1)).await;
    assert_ne!(elsewhere, first, "a name is of one key");

    let (of_sibling, _) = node.stamped(sibling("s", 3, seen([]))).await;
    node.stamped(sibling(
        "s",
        4,
        seen([(of_sibling.actor, of_sibling.counter)]),
    ))
    .await;
    let (again, record) = node.stamped(sibling("s", 3, seen([]))).await;
    assert_eq!(
        (again, ids(&record)),
        (of_sibling, vec![4]),
        "not a sibling again"
    );
}

#[tokio::test]
async fn a_write_stamped_elsewhere_is_known_by_its_record() {
    let node = Node::new().await;
    node.join("a", &others(9, 5, 100)).await.unwrap();
    let (dot, _) = node.stamped(write("a", 100)).await;
    assert_eq!(
        dot,
        Dot {
            actor: Actor(9),
            counter: 5
        }
    );
}

#[tokio::test]
async fn an_older_write_is_superseded_and_stamped_again_above() {
    let node = Node::new().await;
    let (first, _) = node.stamped(write("a", 10)).await;
    node.join("a", &others(9, 1, 20)).await.unwrap();
    let Ok(Reply::Superseded {
        greatest, record, ..
    }) = node.stamp(write("a", 15)).await
    else {
        panic!("not superseded")
    };
    assert_eq!(
        (greatest, ids(&Record::decode(record).unwrap())),
        (others(9, 1, 20).greatest_rank(), vec![10, 20])
    );
    let (again, record) = node
        .stamped(StampRequest {
            stamp: Stamp(21),
            ..write("a", 10)
        })
        .await;
    assert!(again.counter > first.counter);
    assert_eq!(ids(&record), [10]);
    assert_eq!(record.greatest_stamp(), Stamp(21));
}

#[tokio::test]
async fn joins() {
    let node = Node::new().await;
    let commits = node.storage.commits();
    let (ours, theirs) = (others(8, 1, 30), others(9, 1, 20));
    assert_eq!(
        node.join("a", &ours).await,
        Ok(Reply::Joined {
            greatest: ours.greatest_rank(),
            standing: Standing::Leading,
        })
    );
    assert_eq!(
        node.join("a", &theirs).await,
        Ok(Reply::Joined {
            greatest: ours.greatest_rank(),
            standing: Standing::Outstripped,
        }),
        "a greater one was here before it"
    );
    assert_eq!(node.read("a").await, Some(ours.join(&theirs)));
    assert_eq!(node.storage.commits(), commits + 2);
    for (record, standing) in [
        (ours.clone(), Standing::Leading),
        (theirs.clone(), Standing::Outstripped),
        (ours.join(&theirs), Standing::Leading),
        (Record::default(), Standing::Leading),
    ] {
        assert_eq!(
            node.join("a", &record).await,
            Ok(Reply::Joined {
                greatest: ours.greatest_rank(),
                standing,
            })
        );
    }
    assert_eq!(
        node.storage.commits(),
        commits + 2,
        "what is known already is not written again"
    );
    node.join("nothing", &Record::default()).await.unwrap();
    assert_eq!(node.read("nothing").await, None);
    let junk = Operation::Join {
        key: key("a"),
        record: Bytes::from_static(b"junk"),
        judged: None,
        exchanged: false,
    };
    assert!(matches!(
        node.call(0, junk).await,
        Err(Refusal::Malformed(_))
    ));
}

#[tokio::test]
async fn one_batch_is_one_commit_and_its_operations_follow_each_other() {
    let node = Node::new().await;
    node.stamped(write("warm up", 1)).await;
    node.storage.hold_commits();
    let mut first = Box::pin(node.stamp(write("first", 1)));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::task::yield_now().await;
    let before = node.storage.commits();

    let on_one_key =
        (1..=5).map(|id| node.call(0, Operation::Stamp(Box::new(sibling("a", id, seen([]))))));
    let joined = node.call(
        0,
        Operation::Join {
            key: key("a"),
            record: others(9, 1, 99).encode(),
            judged: None,
            exchanged: false,
        },
    );
    let repeated = node.call(0, Operation::Stamp(Box::new(sibling("a", 3, seen([])))));
    let all = tokio::spawn(join_all(
        on_one_key
            .chain([])
            .map(FutureExt::boxed)
            .chain([joined.boxed(), repeated.boxed()]),
    ));
    tokio::task::yield_now().await;
    assert!(
        !all.is_finished(),
        "nothing is answered before it is durable"
    );
    node.storage.release_commits();
    let replies = all.await.unwrap();
    first.await.unwrap();

    assert_eq!(
        node.storage.commits(),
        before + 2,
        "all that waited shared one commit"
    );
    let stamped = replies.iter().filter_map(|reply| match reply {
        Ok(Reply::Stamped { dot, .. }) => Some(dot.counter),
        _ => None,
    });
    let dots: Vec<_> = stamped.collect();
    assert_eq!(dots, [3, 4, 5, 6, 7, 5]);
    assert_eq!(ids(&node.read("a").await.unwrap()), [1, 2, 3, 4, 5, 99]);
}

#[tokio::test]
async fn nothing_undurable_is_read() {
    let node = Node::new().await;
    node.storage.hold_commits();
    let stamp = tokio::spawn(node.call(0, Operation::Stamp(Box::new(write("a", 1)))));
    tokio::task::yield_now().await;
    assert_eq!(node.read("a").await, None);
    node.storage.release_commits();
    stamp.await.unwrap().unwrap();
    assert!(node.read("a").await.is_some());
}

#[tokio::test]
async fn an_operation_is_done_whether_or_not_anybody_waits() {
    let node = Node::new().await;
    assert!(node.stamp(write("a", 1)).now_or_never().is_none());
    node.stamped(write("b", 2)).await;
    assert!(node.read("a").await.is_some());
}

#[tokio::test]
async fn counters_are_never_reused() {
    let mut node = Node::new().await;
    let incarnation = node.replica.incarnation();
    let mut last = 0;
    for round in 0..8 {
        for id in 0..7 {
            let (dot, _) = node.stamped(write(&format!("{round} {id}"), id)).await;
            assert!(dot.counter > last && dot.actor == incarnation);
            last = dot.counter;
        }
        node = if round % 2 == 0 {
            node.crash().await
        } else {
            node.restart().await
        };
    }
    let (dot, _) = node.stamped(write("end", 1)).await;
    assert!(
        dot.counter <= 100,
        "a clean stop gives back what was not used, a crash skips one reservation at most"
    );
}

#[tokio::test]
async fn incarnations_end_when_acknowledged_writes_can_be_lost() {
    let node = Node::on(MemoryStorage::new(Durability::Interval)).await;
    let first = node.replica.incarnation();
    node.stamped(write("a", 1)).await;
    let node = node.restart().await;
    assert_eq!(node.replica.incarnation(), first, "a clean stop keeps it");
    assert!(node.read("a").await.is_some());

    let (lost, _) = node.stamped(write("b", 2)).await;
    let node = node.crash().await;
    assert_ne!(node.replica.incarnation(), first);
    assert_eq!(
        node.stamp(write("c", 3)).await,
        Err(Refusal::Refilling),
        "others count on what it lost"
    );
    node.refill().await;
    assert_eq!(node.read("b").await, None, "the crash lost it");
    assert_ne!(node.stamped(write("c", 3)).await.0, lost);
    let report = node.report().await;
    assert_eq!(report.incarnations, [first, node.replica.incarnation()]);

    let storage = node.storage.after_crash().reopened(Durability::Always);
    let node = Node::on(storage).await;
    assert_eq!(
        node.report().await.incarnations.len(),
        3,
        "the last run decides, not this one"
    );
    let third = node.replica.incarnation();
    let node = node.crash().await;
    assert_eq!(
        node.replica.incarnation(),
        third,
        "nothing can be lost any more"
    );
    let empty = Node::new().await;
    assert_ne!(
        empty.replica.incarnation(),
        third,
        "another disk is another incarnation"
    );
}

#[tokio::test]
async fn a_disk_that_went_back_in_time_is_noticed() {
    let node = Node::new().await;
    node.stamped(write("a", 1)).await;
    let backup = node.storage.after_crash();
    for id in 0..30 {
        node.stamped(write(&format!("later {id}"), id)).await;
    }
    let lost = node.read("later 29").await.unwrap();
    let old = node.replica.incarnation();

    let node = Node::on(backup).await;
    assert_eq!(node.replica.incarnation(), old, "nothing tells yet");
    node.join("later 29", &lost).await.unwrap();
    assert_ne!(node.replica.incarnation(), old);
    let (dot, _) = node.stamped(write("b", 2)).await;
    assert_eq!(
        dot,
        Dot {
            actor: node.replica.incarnation(),
            counter: 1
        }
    );
    let incarnations = node.report().await.incarnations;
    assert_eq!(
        node.crash().await.report().await.incarnations,
        incarnations,
        "durable"
    );
}

#[tokio::test]
async fn a_node_that_lost_its_disk_does_not_count_before_it_is_refilled() {
    let lost = MemoryStorage::new(Durability::Always);
    let open = async || {
        Replica::open(world(&lost), node_id(), settings())
            .await
            .unwrap()
    };
    let (_, record) = Node::new().await.stamped(write("a", 1)).await;
    let node = |replica| Node {
        replica,
        storage: lost.clone(),
        world: world(&lost),
    };
    let empty = node(open().await);
    assert_eq!(empty.stamp(write("b", 2)).await, Err(Refusal::Refilling));
    let promise = Operation::AdoptEpochIfEmpty {
        epoch: Epoch(0),
        is_new: false,
    };
    assert_eq!(
        empty.call(0, promise).await,
        Err(Refusal::Refilling),
        "its disk is empty, and it owned something"
    );
    let joined = empty.join("a", &record).await;
    assert!(matches!(joined, Ok(Reply::Refilling(_))), "{joined:?}");
    let read = Operation::Read { key: key("a") };
    let found = Reply::Found {
        record: Some(record.encode()),
    };
    let uncounted = Reply::Refilling(Box::new(found.clone()));
    assert_eq!(empty.call(0, read.clone()).await, Ok(uncounted));
    assert!(empty.report().await.refilling.is_some());

    // It is so after a restart, too, and nobody else's word ends it.
    let again = node(open().await);
    assert!(again.replica.is_refilling());
    let refilled = |incarnation| Operation::Upkeep(Box::new(Upkeep::Refilled { incarnation }));
    assert_eq!(
        again.adopt_if_empty(1).await,
        Ok(Reply::Adopted { adopted: false })
    );
    assert!(again.call(0, refilled(Actor(5))).await.is_err());
    assert!(again.replica.is_refilling());
    let incarnation = again.replica.incarnation();
    again.call(0, refilled(incarnation)).await.unwrap();
    assert_eq!(again.call(0, read).await, Ok(found));
    again.stamped(write("b", 2)).await;
    assert!(!open().await.is_refilling(), "durable");
}

#[tokio::test]
async fn a_context_that_nobody_gave_out_is_refused() {
    let node = Node::new().await;
    let (dot, _) = node.stamped(write("a", 1)).await;
    let forged = seen([(dot.actor, dot.counter + 1)]);
    assert!(matches!(
        node.stamp(sibling("a", 2, forged.clone())).await,
        Err(Refusal::Malformed(_))
    ));
    let all = StampRequest {
        overwrites: Overwrites::All(Context {
            shown: forged,
            written: None,
        }),
        ..write("a", 3)
    };
    assert!(matches!(node.stamp(all).await, Err(Refusal::Malformed(_))));
    let written = Some(Dot {
        counter: dot.counter + 1,
        ..dot
    });
    let own = Overwrites::Covered(Context {
        written,
        ..Context::default()
    });
    let own = StampRequest {
        overwrites: own,
        ..write("a", 4)
    };
    assert!(matches!(node.stamp(own).await, Err(Refusal::Malformed(_))));
    let elsewhere = Some(Dot {
        actor: Actor(77),
        counter: 1,
    });
    let behind = Overwrites::Covered(Context {
        written: elsewhere,
        ..Context::default()
    });
    let behind = StampRequest {
        overwrites: behind,
        ..write("a", 5)
    };
    assert_eq!(node.stamp(behind).await, Ok(Reply::Behind));
    assert_eq!(ids(&node.read("a").await.unwrap()), [1]);
    let made_up = seen([(dot.actor, dot.counter), (Actor(77), 1000)]);
    let forged = node.stamp(sibling("a", 2, made_up)).await;
    assert_eq!(forged, Ok(Reply::Behind), "nobody has seen that");
}

#[tokio::test]
async fn older_epochs_are_refused_for_ever() {
    let node = Node::new().await;
    let read = || Operation::Read { key: key("a") };
    let stale = |current| {
        Err(Refusal::StaleEpoch {
            current: Epoch(current),
        })
    };
    node.call(5, Operation::Stamp(Box::new(write("a", 1))))
        .await
        .unwrap();
    assert_eq!(
        node.call(4, Operation::Stamp(Box::new(write("a", 2))))
            .await,
        stale(5)
    );
    assert_eq!(node.call(4, read()).await, stale(5));
    node.call(6, read()).await.unwrap();
    assert_eq!(
        node.call(
            5,
            Operation::Join {
                key: key("a"),
                record: others(9, 1, 1).encode(),
                judged: None,
                exchanged: false
            }
        )
        .await,
        stale(6)
    );
    node.replica.learn_epoch(Epoch(8)).await;
    node.replica.learn_epoch(Epoch(7)).await;
    assert_eq!(
        node.report().await.epoch,
        Epoch(8),
        "a probe is never refused"
    );
    let node = node.crash().await;
    assert_eq!(node.call(7, read()).await, stale(8), "and after a crash");
}

/// No such epoch was ever published.
const NO_EPOCH: u64 = 1 << 63;

#[tokio::test]
async fn an_epoch_that_cannot_be_is_taken_on_by_nothing() {
    let node = Node::new().await;
    node.replica.learn_epoch(Epoch(7)).await;
    let (_, record) = node.stamped_under(7, write("a", 1)).await;
    let hostile = || {
        let tree = key("a").tree();
        vec![
            Operation::Read { key: key("a") },
            Operation::Stamp(Box::new(write("a", 2))),
            Operation::Join {
                key: key("a"),
                record: record.encode(),
                judged: None,
                exchanged: false,
            },
            Operation::AdoptEpochIfEmpty {
                epoch: Epoch(NO_EPOCH),
                is_new: true,
            },
            Operation::Upkeep(Box::new(Upkeep::Roots { after: None })),
            Operation::Upkeep(Box::new(Upkeep::Leaves { tree })),
        ]
    };
    for epoch in [NO_EPOCH, u64::MAX, 7 + Epoch::AHEAD_MAX + 1] {
        for operation in hostile() {
            let refused = node.call(epoch, operation.clone()).await;
            assert!(
                matches!(refused, Err(Refusal::Unavailable(_))),
                "{operation:?}: {refused:?}"
            );
        }
    }
    let promise = Operation::AdoptEpochIfEmpty {
        epoch: Epoch(NO_EPOCH),
        is_new: true,
    };
    assert!(
        node.call(7, promise).await.is_err(),
        "also under a good one"
    );
    assert_eq!(node.report().await.epoch, Epoch(7));
    let node = node.crash().await;
    assert_eq!(node.report().await.epoch, Epoch(7));
    // As far ahead as coordinators may be of what the metadata store told.
    let ahead = 7 + Epoch::AHEAD_MAX;
    assert!(
        node.call(ahead, Operation::Read { key: key("a") })
            .await
            .is_ok()
    );
    assert!(
        node.call(ahead + 1, Operation::Read { key: key("a") })
            .await
            .is_err()
    );
    node.replica.learn_epoch(Epoch(ahead)).await;
    assert!(
        node.call(ahead + 1, Operation::Read { key: key("a") })
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_node_comes_back_from_an_epoch_that_cannot_be() {
    let node = Node::new().await;
    node.replica.learn_epoch(Epoch(NO_EPOCH)).await; // as versions did that took on any
    assert!(matches!(
        node.call(7, Operation::Read { key: key("a") }).await,
        Err(Refusal::StaleEpoch { .. })
    ));
    node.replica.reset_epoch(Epoch(7)).await.unwrap();
    let node = node.crash().await;
    assert_eq!(
        node.call(7, Operation::Read { key: key("a") }).await,
        Err(Refusal::StaleEpoch { current: Epoch(8) }),
        "what it may have promised stays so"
    );
    assert!(
        node.call(8, Operation::Read { key: key("a") })
            .await
            .is_ok()
    );
    node.replica.reset_epoch(Epoch(20)).await.unwrap();
    assert_eq!(node.report().await.epoch, Epoch(8), "never forward");
}

#[tokio::test]
async fn an_epoch_is_durable_even_where_writes_are_not() {
    let node = Node::on(MemoryStorage::new(Durability::Interval)).await;
    node.call(5, Operation::Stamp(Box::new(write("a", 1))))
        .await
        .unwrap();
    node.call(6, Operation::Read { key: key("a") })
        .await
        .unwrap();
    assert_eq!(node.crash().await.report().await.epoch, Epoch(6));
}

#[tokio::test]
async fn an_epoch_is_adopted_only_where_nothing_is_held() {
    let node = Node::new().await;
    let adopt = |epoch| Operation::AdoptEpochIfEmpty {
        epoch: Epoch(epoch),
        is_new: false,
    };
    assert_eq!(
        node.call(2, adopt(3)).await,
        Ok(Reply::Adopted { adopted: true })
    );
    assert_eq!(node.report().await.epoch, Epoch(3));
    assert_eq!(
        node.call(2, adopt(4)).await,
        Err(Refusal::StaleEpoch { current: Epoch(3) })
    );
    node.call(3, Operation::Stamp(Box::new(write("a", 1))))
        .await
        .unwrap();
    assert_eq!(
        node.call(9, adopt(9)).await,
        Ok(Reply::Adopted { adopted: false })
    );
    assert_eq!(node.report().await.epoch, Epoch(3), "nothing was changed");
}

#[tokio::test]
async fn an_epoch_is_not_adopted_in_a_batch_with_a_first_record() {
    let node = Node::new().await;
    let stamp = node.call(0, Operation::Stamp(Box::new(write("a", 1))));
    let adopt = node.adopt_if_empty(3);
    let (stamped, adopted) = futures::join!(stamp, adopt);
    stamped.unwrap();
    assert_eq!(adopted, Ok(Reply::Adopted { adopted: false }));
}

#[tokio::test]
async fn requests_for_others_are_refused() {
    let node = Node::new().await;
    let other = Request {
        node: NodeId::new("node-2").unwrap(),
        epoch: Epoch(0),
        operation: Operation::Probe,
    };
    assert_eq!(
        node.replica.handle(other).await,
        Err(Refusal::WrongNode { actual: node_id() })
    );
    let opened = Replica::open(
        world(&node.storage),
        NodeId::new("node-2").unwrap(),
        settings(),
    )
    .await;
    assert!(matches!(opened.err(), Some(OpenError::OtherNode { .. })));
    let long = Operation::Read {
        key: key(&"k".repeat(70_000)),
    };
    assert!(matches!(
        node.call(0, long).await,
        Err(Refusal::Malformed(_))
    ));
}

#[tokio::test]
async fn a_damaged_record_is_neither_served_nor_written_over() {
    let storage = MemoryStorage::new(Durability::Always);
    let node = Node::on(storage.clone()).await;
    let (_, record) = node.stamped(write("a", 1)).await;
    let mut damaged = record.encode().to_vec();
    damaged[9] ^= 1;
    let damaged = Bytes::from(damaged);
    let put = Put {
        space: Space::Records,
        key: key("a").as_bytes().clone(),
        value: Some(damaged.clone()),
    };
    storage.commit(vec![put]).await.unwrap();

    assert_eq!(
        node.call(0, Operation::Read { key: key("a") }).await,
        Err(Refusal::Damaged)
    );
    assert_eq!(node.stamp(write("a", 2)).await, Err(Refusal::Damaged));
    assert_eq!(node.join("a", &record).await, Err(Refusal::Damaged));
    node.stamped(write("b", 3)).await;
    assert_eq!(node.replica.damaged_records(), 3);
    let stored = storage
        .read(Space::Records, vec![key("a").as_bytes().clone()])
        .await
        .unwrap();
    assert_eq!(stored, [Some(damaged)]);
}

#[tokio::test]
async fn a_damaged_identity_does_not_open() {
    let storage = MemoryStorage::new(Durability::Always);
    let put = Put {
        space: Space::Meta,
        key: "identity".into(),
        value: Some("junk".into()),
    };
    storage.commit(vec![put]).await.unwrap();
    let opened = Replica::open(world(&storage), node_id(), settings()).await;
    assert!(matches!(opened.err(), Some(OpenError::DamagedIdentity(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let node = Node::new().await;
    node.stamped(write("a", 1)).await;
    node.storage
        .refuse_commits(Some(StorageError::Full("on purpose".into())));
    for id in 0..25 {
        let Err(Refusal::Unavailable(why)) = node.stamp(write("b", id)).await else {
            panic!("not refused")
        };
        assert_eq!(why, "the disk is full: on purpose");
    }
    assert!(node.report().await.refuses_writes.is_some());
    assert!(node.read("a").await.is_some() && node.read("b").await.is_none());
    assert!(matches!(
        node.call(5, Operation::Read { key: key("a") }).await,
        Err(Refusal::Unavailable(_))
    ));
    assert_eq!(
        node.report().await.epoch,
        Epoch(0),
        "an epoch that is not durable was not learned"
    );

    node.storage.refuse_commits(None);
    node.stamped(write("b", 3)).await;
    assert_eq!(node.report().await.refuses_writes, None);
    let (last, _) = node.stamped(write("c", 4)).await;
    let node = node.crash().await;
    assert!(node.stamped(write("d", 5)).await.0.counter > last.counter);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_room_again_is_noticed_though_nobody_writes() {
    let node = Node::new().await;
    let full = StorageError::Full("on purpose".into());
    node.storage.refuse_commits(Some(full));
    assert!(node.stamp(write("a", 1)).await.is_err());
    assert!(node.replica.refuses_writes().is_some());
    node.storage.refuse_commits(None);
    node.is_back().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_ends_writing_until_the_engine_was_opened_again() {
    let node = Node::new().await;
    node.stamped(write("a", 1)).await;
    let incarnation = node.replica.incarnation();
    node.storage
        .refuse_commits(Some(StorageError::Failed("on purpose".into())));
    assert!(matches!(
        node.stamp(write("a", 2)).await,
        Err(Refusal::StorageFailed(_))
    ));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(matches!(
            node.stamp(write("a", 2)).await,
            Err(Refusal::Unavailable(_))
        ));
    }
    assert!(matches!(
        node.join("a", &others(9, 1, 9)).await,
        Err(Refusal::Unavailable(_))
    ));
    assert_eq!(ids(&node.read("a").await.unwrap()), [1]);
    assert!(node.report().await.refuses_writes.is_some());

    node.storage.refuse_commits(None);
    node.is_back().await;
    assert_eq!(
        node.replica.incarnation(),
        incarnation,
        "nothing was lost, and no counter is given twice"
    );
    let (dot, _) = node.stamped(write("b", 3)).await;
    let node = node.crash().await;
    let (later, _) = node.stamped(write("c", 4)).await;
    assert!(later.counter > dot.counter);
    node.storage
        .refuse_commits(Some(StorageError::Failed("on purpose".into())));
    assert!(node.stamp(write("d", 5)).await.is_err());
    assert!(node.replica.stop().await.is_err(), "this is no clean stop");
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_failed_commit_is_told_by_the_engine_only() {
    let node = Node::new().await;
    let (_, before) = node.stamped(write("a", 1)).await;
    let target = crate::placement::Node {
        id: NodeId::new("node-2").unwrap(),
        host: "::1".into(),
        port: 1,
        virtual_nodes: 1,
        status: crate::placement::NodeStatus::Active,
    };
    // It says that it failed, and all of it is there.
    node.storage.lose_answers(true);
    assert!(node.stamp(write("a", 2)).await.is_err());
    node.storage.lose_answers(false);
    node.is_back().await;
    let record = node.read("a").await.unwrap();
    assert_eq!(ids(&record), [2]);
    assert!(record.seen().descends(before.seen()));
    // What was stamped then is not stamped again, and its counter is not given to another.
    let dot = record.siblings()[0].dot;
    assert_eq!(node.stamped(write("a", 2)).await.0, dot);
    assert_ne!(node.stamped(write("b", 3)).await.0, dot);
    // An epoch, and what is owed, are known from there, too.
    node.storage.lose_answers(true);
    node.replica.learn_epoch(Epoch(7)).await;
    assert_eq!(node.report().await.epoch, Epoch(0));
    node.storage.lose_answers(false);
    node.is_back().await;
    assert_eq!(node.report().await.epoch, Epoch(7));
    node.storage.lose_answers(true);
    let hint = Upkeep::Hint {
        key: key("a"),
        targets: vec![target],
    };
    let hint = Operation::Upkeep(Box::new(hint));
    assert!(node.call(7, hint).await.is_err());
    assert!(node.report().await.hints.is_empty());
    node.storage.lose_answers(false);
    node.is_back().await;
    assert_eq!(node.report().await.hints[0].outstanding, 1);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_lost_something_while_it_was_opened_again_is_not_counted_on() {
    let node = Node::new().await;
    node.stamped(write("a", 1)).await;
    let first = node.replica.incarnation();
    let failed = StorageError::Failed("on purpose".into());
    node.storage.refuse_commits(Some(failed));
    assert!(node.stamp(write("b", 2)).await.is_err());
    node.storage.raise_doubts("on purpose");
    node.storage.refuse_commits(None);
    node.is_back().await;
    assert_ne!(node.replica.incarnation(), first);
    assert!(node.report().await.refilling.is_some());
    let read = Operation::Read { key: key("a") };
    let read = node.call(0, read).await;
    assert!(matches!(read, Ok(Reply::Refilling(_))), "{read:?}");
    node.refill().await;
    node.stamped(write("b", 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_full_starts_and_reads() {
    let node = Node::new().await;
    node.stamped(write("a", 1)).await;
    let (storage, incarnation) = (node.storage.after_crash(), node.replica.incarnation());
    storage.refuse_commits(Some(StorageError::Full("on purpose".into())));
    let node = Node::on(storage).await;
    assert!(node.read("a").await.is_some());
    assert!(
        node.report().await.refuses_writes.is_some(),
        "from the start"
    );
    assert!(node.stamp(write("b", 2)).await.is_err());
    node.storage.refuse_commits(None);
    node.is_back().await;
    assert_eq!(node.replica.incarnation(), incarnation);
    node.stamped(write("b", 2)).await;

    let empty = MemoryStorage::new(Durability::Interval);
    empty.refuse_commits(Some(StorageError::Full("on purpose".into())));
    let node = Node::on(empty).await;
    assert!(node.replica.is_refilling());
    node.storage.refuse_commits(None);
    node.is_back().await;
    let incarnation = node.replica.incarnation();
    let node = node.crash().await;
    assert_eq!(
        node.report().await.incarnations[0],
        incarnation,
        "it was made durable at once"
    );
}

#[tokio::test(start_paused = true)]
async fn digests_are_made_again_of_what_is_left() {
    let node = Node::new().await;
    node.stamped(write("kept", 1)).await;
    let roots = async |node: &Node| {
        let roots = Operation::Upkeep(Box::new(Upkeep::Roots { after: None }));
        loop {
            match node.call(0, roots.clone()).await {
                Ok(Reply::Upkept(Upkept::Roots { roots, .. })) => return roots,
                _ => node.world.clock().sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let expected = roots(&node).await;
    node.stamped(write("lost", 2)).await;
    assert_ne!(roots(&node).await, expected);
    // The record is lost, and what sums it up is not.
    let storage = node.storage.after_crash();
    let lost = Put {
        space: Space::Records,
        key: key("lost").as_bytes().clone(),
        value: None,
    };
    storage.commit(vec![lost]).await.unwrap();
    storage.raise_doubts("on purpose");
    let node = Node::on(storage).await;
    assert_eq!(roots(&node).await, expected);
    assert!(node.replica.is_refilling());
    let node = node.crash().await;
    assert_eq!(roots(&node).await, expected, "and stay");
}

#[tokio::test]
async fn more_than_the_queue_holds_is_refused() {
    let small = ReplicaSettings {
        queue_max: 4,
        ..settings()
    };
    let node = Node::with(MemoryStorage::new(Durability::Always), small).await;
    node.storage.hold_commits();
    let first = tokio::spawn(node.call(0, Operation::Stamp(Box::new(write("first", 1)))));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let more = (0..6).map(|id| node.call(0, Operation::Stamp(Box::new(write("a", 10 + id)))));
    let more = tokio::spawn(join_all(more));
    tokio::task::yield_now().await;
    node.storage.release_commits();
    first.await.unwrap().unwrap();
    let replies = more.await.unwrap();
    assert_eq!(
        replies
            .iter()
            .filter(|reply| **reply == Err(Refusal::Overloaded))
            .count(),
        2
    );
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 4);
}

#[tokio::test]
async fn stopping_finishes_what_is_queued_and_refuses_the_rest() {
    let node = Node::new().await;
    node.storage.hold_commits();
    let queued =
        (0..5).map(|id| node.call(0, Operation::Stamp(Box::new(write(&id.to_string(), id)))));
    let queued = tokio::spawn(join_all(queued));
    tokio::task::yield_now().await;
    let stop = tokio::spawn({
        let replica = node.replica.clone();
        async move { replica.stop().await }
    });
    tokio::task::yield_now().await;
    assert!(matches!(
        node.stamp(write("late", 1)).await,
        Err(Refusal::Unavailable(_))
    ));
    assert!(matches!(
        node.call(0, Operation::Read { key: key("0") }).await,
        Err(Refusal::Unavailable(_))
    ));
    node.storage.release_commits();
    assert!(queued.await.unwrap().iter().all(Result::is_ok));
    stop.await.unwrap().unwrap();
    node.replica.stop().await.unwrap();
    node.world.spawner().idle().await;
    assert!(node.report().await.refuses_writes.is_some());
    assert_eq!(node.report().await.keys, 5);
}

#[tokio::test]
async fn the_loops_end_with_the_last_handle() {
    let node = Node::new().await;
    let copy = node.replica.clone();
    let Node { replica, world, .. } = node;
    drop(replica);
    tokio::task::yield_now().await;
    assert_eq!(world.spawner().running(), 3);
    drop(copy);
    world.spawner().idle().await;
}

#[tokio::test]
async fn a_probe_tells_how_the_node_is() {
    let node = Node::new().await;
    let before = node.report().await;
    assert_eq!((before.keys, before.refuses_writes), (0, None));
    assert_eq!(
        (before.node, before.incarnations),
        (node_id(), vec![node.replica.incarnation()])
    );
    node.stamped(write("a", 1)).await;
    assert_eq!(node.report().await.keys, 1);
}

/// A write of so many bytes that knows of no other.
fn blind(name: &str, id: u64, bytes: usize) -> StampRequest {
    StampRequest {
        content: Content::Value(Bytes::from(vec![7; bytes])),
        ..sibling(name, id, seen([]))
    }
}

#[tokio::test]
async fn deletes_that_know_of_nothing_take_no_room() {
    let node = Node::new().await;
    for id in 1..=300 {
        let delete = StampRequest {
            content: Content::Tombstone,
            ..sibling("a", id, seen([]))
        };
        let (_, record) = node.stamped(delete).await;
        assert!(record.is_deleted());
        assert_eq!(ids(&record), [u128::from(id)], "one says as much as all");
    }
    let (_, record) = node.stamped(blind("a", 301, 1)).await;
    assert_eq!(ids(&record), [301]);
    let (_, record) = node.stamped(blind("a", 302, 1)).await;
    assert_eq!(ids(&record), [301, 302], "values are siblings");
}

#[tokio::test]
async fn bytes_of_siblings_are_bounded_and_a_context_is_the_way_out() {
    let settings = ReplicaSettings {
        siblings_bytes_max: 4_000,
        ..settings()
    };
    let node = Node::with(MemoryStorage::new(Durability::Always), settings).await;
    let mut written = 0;
    let refusal = loop {
        match node.stamp(blind("a", 1 + written, 1_000)).await {
            Ok(_) => written += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(written, 4);
    assert!(
        matches!(&refusal, Refusal::Crowded(why) if why.ends_with("read it and write with its context")),
        "{refusal:?}"
    );
    // What owners stamped at the same time is joined all the same.
    node.join("a", &others(9, 1, 99)).await.unwrap();
    let found = node.read("a").await.unwrap();
    assert_eq!(ids(&found).len(), 5);
    let resolving = StampRequest {
        content: Content::Value(Bytes::from(vec![7; 5_000])),
        ..sibling("a", 500, found.seen().clone())
    };
    assert_eq!(ids(&node.stamped(resolving).await.1), [500]);
    assert_eq!(node.stamped(write("a", 501)).await.1.siblings().len(), 1);
}

#[tokio::test]
async fn one_batch_makes_a_bounded_number_of_bytes() {
    let settings = ReplicaSettings {
        batch_bytes_max: 300_000,
        ..settings()
    };
    let node = Node::with(MemoryStorage::new(Durability::Always), settings).await;
    node.stamped(blind("a", 1, 100_000)).await;
    node.storage.hold_commits();
    let mut first = Box::pin(node.stamp(write("first", 1)));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::task::yield_now().await;
    let before = node.storage.commits();
    let stamps = (2..=20).map(|id| node.call(0, Operation::Stamp(Box::new(blind("a", id, 1)))));
    let stamps = tokio::spawn(join_all(stamps));
    tokio::task::yield_now().await;
    node.storage.release_commits();
    first.await.unwrap();
    let dots = stamps.await.unwrap().into_iter().map(|reply| match reply {
        Ok(Reply::Stamped { dot, .. }) => dot.counter,
        other => panic!("not stamped: {other:?}"),
    });
    let dots: Vec<_> = dots.collect();
    assert!(
        dots.is_sorted(),
        "in the order in which they came: {dots:?}"
    );
    assert_eq!(
        node.storage.commits(),
        before + 1 + 19_u64.div_ceil(3),
        "each of them makes 100 kB, and three of those fill a batch"
    );
}

#[tokio::test]
async fn values_that_hide_beneath_a_tombstone_are_dropped_where_the_last_write_wins() {
    let settings = ReplicaSettings {
        tombstone_grace: Duration::ZERO,
        ..settings()
    };
    let node = Node::with(MemoryStorage::new(Durability::Always), settings).await;
    let (dot, _) = node.stamped(write("a", 1)).await;
    let both = node.stamped(write("b", 9)).await.1;
    for name in ["a", "b"] {
        node.join(name, &others(9, 1, 5)).await.unwrap();
    }
    let tombstones = async |last_write_wins| {
        let list = Upkeep::Tombstones {
            tree: key("a").tree(),
            after: None,
            last_write_wins,
        };
        match node.call(0, Operation::Upkeep(Box::new(list))).await {
            Ok(Reply::Upkept(Upkept::Keys { keys, .. })) => keys.len(),
            other => panic!("not listed: {other:?}"),
        }
    };
    assert_eq!(tombstones(false).await, 0, "the value is shown");
    let held = node.read("a").await.unwrap();
    assert_eq!(ids(&held), [1, 5]);

    tombstones(true).await;
    let settled = node.read("a").await.unwrap();
    assert_eq!(ids(&settled), [5]);
    assert_eq!(settled.seen(), held.seen());
    assert!(settled.seen().covers(dot));
    assert_eq!(tombstones(true).await, 1, "it can be purged like any other");
    assert_eq!(
        node.read("b").await.unwrap(),
        both.join(&others(9, 1, 5)),
        "a value that is newer than a tombstone stays as it is"
    );
}
