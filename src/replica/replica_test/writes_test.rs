//! What becomes of writes, joins and reads, one at a time and many in a batch.

use super::*;
use crate::ports::Purged;

#[tokio::test]
async fn accepts_and_reads() {
    let node = Node::new().await;
    assert_eq!(node.read("a").await, None);
    let (dot, record) = node.accepted(write("a", 1)).await;
    assert_eq!(
        dot,
        Dot {
            actor: node.replica.incarnation(),
            counter: 1
        }
    );
    assert_eq!(node.read("a").await, Some(record));
    let (dot, record) = node.accepted(write("b", 2)).await;
    assert_eq!(dot.counter, 2, "counters are the node's, not the key's");
    assert_eq!(ids(&record), [2]);
}

#[tokio::test]
async fn a_repetition_is_answered_as_before() {
    let node = Node::new().await;
    let (first, _) = node.accepted(write("a", 1)).await;
    assert_eq!(node.accepted(write("a", 1)).await.0, first);
    node.accepted(write("a", 2)).await;
    let (again, record) = node.accepted(write("a", 1)).await;
    assert_eq!(
        (again, ids(&record)),
        (first, vec![2]),
        "overwritten since, and still known"
    );
    let (elsewhere, _) = node.accepted(write("b", 1)).await;
    assert_ne!(elsewhere, first, "a name is of one key");

    let (of_sibling, _) = node.accepted(sibling("s", 3, seen([]))).await;
    node.accepted(sibling(
        "s",
        4,
        seen([(of_sibling.actor, of_sibling.counter)]),
    ))
    .await;
    let (again, record) = node.accepted(sibling("s", 3, seen([]))).await;
    assert_eq!(
        (again, ids(&record)),
        (of_sibling, vec![4]),
        "not a sibling again"
    );
}

#[tokio::test]
async fn a_write_accepted_elsewhere_is_known_by_its_record() {
    let node = Node::new().await;
    node.join("a", &others(9, 5, 100)).await.unwrap();
    let (dot, _) = node.accepted(write("a", 100)).await;
    assert_eq!(
        dot,
        Dot {
            actor: Actor(9),
            counter: 5
        }
    );
}

#[tokio::test]
async fn an_older_write_is_superseded_until_it_comes_back_with_a_greater_stamp() {
    let node = Node::new().await;
    let (first, _) = node.accepted(write("a", 10)).await;
    node.join("a", &others(9, 1, 20)).await.unwrap();
    let Ok(Reply::Superseded {
        greatest, record, ..
    }) = node.accept(write("a", 15)).await
    else {
        panic!("not superseded")
    };
    assert_eq!(
        (greatest, ids(&Record::decode(record).unwrap())),
        (others(9, 1, 20).greatest_rank(), vec![10, 20])
    );
    let (again, record) = node
        .accepted(AcceptRequest {
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
        source: JoinSource::Client,
    };
    assert!(matches!(
        node.call(0, junk).await,
        Err(Refusal::Malformed(_))
    ));
}

#[tokio::test]
async fn one_batch_is_one_commit_and_its_operations_follow_each_other() {
    let node = Node::new().await;
    node.accepted(write("warm up", 1)).await;
    node.storage.hold_commits();
    let mut first = Box::pin(node.accept(write("first", 1)));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::task::yield_now().await;
    let before = node.storage.commits();

    let on_one_key =
        (1..=5).map(|id| node.call(0, Operation::Accept(Box::new(sibling("a", id, seen([]))))));
    let joined = node.call(
        0,
        Operation::Join {
            key: key("a"),
            record: others(9, 1, 99).encode(),
            judged: None,
            source: JoinSource::Client,
        },
    );
    let repeated = node.call(0, Operation::Accept(Box::new(sibling("a", 3, seen([])))));
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
    let accepted = replies.iter().filter_map(|reply| match reply {
        Ok(Reply::Accepted { dot, .. }) => Some(dot.counter),
        _ => None,
    });
    let dots: Vec<_> = accepted.collect();
    assert_eq!(dots, [3, 4, 5, 6, 7, 5]);
    assert_eq!(ids(&node.read("a").await.unwrap()), [1, 2, 3, 4, 5, 99]);
}

#[tokio::test]
async fn nothing_undurable_is_read() {
    let node = Node::new().await;
    node.storage.hold_commits();
    let accept = tokio::spawn(node.call(0, Operation::Accept(Box::new(write("a", 1)))));
    tokio::task::yield_now().await;
    assert_eq!(node.read("a").await, None);
    node.storage.release_commits();
    accept.await.unwrap().unwrap();
    assert!(node.read("a").await.is_some());
}

#[tokio::test]
async fn an_operation_is_done_whether_or_not_anybody_waits() {
    let node = Node::new().await;
    assert!(node.accept(write("a", 1)).now_or_never().is_none());
    node.accepted(write("b", 2)).await;
    assert!(node.read("a").await.is_some());
}

#[tokio::test]
async fn a_context_that_nobody_gave_out_is_refused() {
    let node = Node::new().await;
    let (dot, _) = node.accepted(write("a", 1)).await;
    let forged = seen([(dot.actor, dot.counter + 1)]);
    assert!(matches!(
        node.accept(sibling("a", 2, forged.clone())).await,
        Err(Refusal::Malformed(_))
    ));
    let all = AcceptRequest {
        overwrites: Overwrites::All(Context {
            shown: forged,
            written: None,
        }),
        ..write("a", 3)
    };
    assert!(matches!(node.accept(all).await, Err(Refusal::Malformed(_))));
    let written = Some(Dot {
        counter: dot.counter + 1,
        ..dot
    });
    let own = Overwrites::Covered(Context {
        written,
        ..Context::default()
    });
    let own = AcceptRequest {
        overwrites: own,
        ..write("a", 4)
    };
    assert!(matches!(node.accept(own).await, Err(Refusal::Malformed(_))));
    let elsewhere = Some(Dot {
        actor: Actor(77),
        counter: 1,
    });
    let behind = Overwrites::Covered(Context {
        written: elsewhere,
        ..Context::default()
    });
    let behind = AcceptRequest {
        overwrites: behind,
        ..write("a", 5)
    };
    assert_eq!(node.accept(behind).await, Ok(Reply::Behind));
    assert_eq!(ids(&node.read("a").await.unwrap()), [1]);
    let made_up = seen([(dot.actor, dot.counter), (Actor(77), 1000)]);
    let forged = node.accept(sibling("a", 2, made_up)).await;
    assert_eq!(forged, Ok(Reply::Behind), "nobody has seen that");
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

/// A write of so many bytes that knows of no other.
fn blind(name: &str, id: u64, bytes: usize) -> AcceptRequest {
    AcceptRequest {
        content: Content::Value(Bytes::from(vec![7; bytes])),
        ..sibling(name, id, seen([]))
    }
}

#[tokio::test]
async fn deletes_that_know_of_nothing_take_no_room() {
    let node = Node::new().await;
    for id in 1..=300 {
        let delete = AcceptRequest {
            content: Content::Tombstone,
            ..sibling("a", id, seen([]))
        };
        let (_, record) = node.accepted(delete).await;
        assert!(record.is_deleted());
        assert_eq!(ids(&record), [u128::from(id)], "one says as much as all");
    }
    let (_, record) = node.accepted(blind("a", 301, 1)).await;
    assert_eq!(ids(&record), [301]);
    let (_, record) = node.accepted(blind("a", 302, 1)).await;
    assert_eq!(ids(&record), [301, 302], "values are siblings");
}

#[tokio::test]
async fn a_tenant_may_have_fewer_siblings_than_a_node_takes() {
    let node = Node::new().await;
    let few = |id| AcceptRequest {
        siblings_max: 2,
        ..blind("a", id, 1)
    };
    for id in [1, 2] {
        node.accepted(few(id)).await;
    }
    let third = node.accept(few(3)).await;
    assert!(matches!(third, Err(Refusal::Crowded(_))), "{third:?}");
    let (_, record) = node.accepted(blind("a", 3, 1)).await;
    assert_eq!(ids(&record), [1, 2, 3], "another tenant's would be taken");
}

/// Whether an accepted write may be one that was made before and is over, where it is not made.
async fn may_be_over(node: &Node, request: AcceptRequest) -> Option<bool> {
    match node.accept(request).await {
        Ok(Reply::Superseded { may_be_over, .. }) => Some(may_be_over),
        Ok(Reply::Accepted { .. }) => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_write_no_greater_than_what_was_purged_may_be_over() {
    let node = Node::new().await;
    let keep = Maintenance::KeepPurged {
        tree: key("any").tree(),
        purged: Purged {
            seen: seen([(Actor(9), 5)]),
            stamp: Stamp(50),
        },
    };
    node.maintenance(0, keep).await.unwrap();
    let over = |request| may_be_over(&node, request);
    assert_eq!(over(write("a", 50)).await, Some(true));
    assert_eq!(over(write("a", 51)).await, None);
    let outranked = over(write("a", 45)).await;
    assert_eq!(outranked, Some(false), "what is held says enough");

    let blind = |id| sibling("b", id, seen([]));
    assert_eq!(over(blind(50)).await, Some(true));
    assert_eq!(over(blind(60)).await, None);
    let beside = over(blind(45)).await;
    assert_eq!(beside, Some(true), "what was written anew says nothing");
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
        match node.accept(blind("a", 1 + written, 1_000)).await {
            Ok(_) => written += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(written, 4);
    assert!(
        matches!(&refusal, Refusal::Crowded(why) if why.ends_with("read it and write with its context")),
        "{refusal:?}"
    );
    // What owners accepted at the same time is joined all the same.
    node.join("a", &others(9, 1, 99)).await.unwrap();
    let found = node.read("a").await.unwrap();
    assert_eq!(ids(&found).len(), 5);
    let resolving = AcceptRequest {
        content: Content::Value(Bytes::from(vec![7; 5_000])),
        ..sibling("a", 500, found.seen().clone())
    };
    assert_eq!(ids(&node.accepted(resolving).await.1), [500]);
    assert_eq!(node.accepted(write("a", 501)).await.1.siblings().len(), 1);
}

#[tokio::test]
async fn one_batch_makes_a_bounded_number_of_bytes() {
    let settings = ReplicaSettings {
        batch_bytes_max: 300_000,
        ..settings()
    };
    let node = Node::with(MemoryStorage::new(Durability::Always), settings).await;
    node.accepted(blind("a", 1, 100_000)).await;
    node.storage.hold_commits();
    let mut first = Box::pin(node.accept(write("first", 1)));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::task::yield_now().await;
    let before = node.storage.commits();
    let accepts = (2..=20).map(|id| node.call(0, Operation::Accept(Box::new(blind("a", id, 1)))));
    let accepts = tokio::spawn(join_all(accepts));
    tokio::task::yield_now().await;
    node.storage.release_commits();
    first.await.unwrap();
    let dots = accepts.await.unwrap().into_iter().map(|reply| match reply {
        Ok(Reply::Accepted { dot, .. }) => dot.counter,
        other => panic!("not accepted: {other:?}"),
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
    let (dot, _) = node.accepted(write("a", 1)).await;
    let both = node.accepted(write("b", 9)).await.1;
    for name in ["a", "b"] {
        node.join(name, &others(9, 1, 5)).await.unwrap();
    }
    let tombstones = async |last_write_wins| {
        let list = Maintenance::Tombstones {
            tree: key("a").tree(),
            after: None,
            last_write_wins,
        };
        match node.call(0, Operation::Maintenance(Box::new(list))).await {
            Ok(Reply::Maintained(Maintained::Keys { keys, .. })) => keys.len(),
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
