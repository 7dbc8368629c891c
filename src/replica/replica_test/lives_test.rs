//! From start to stop: who the node is afterwards, and what it still knows.

use super::*;

/// Of `node-1`, and of data version 200.
const OF_NEWER_PROGRAM: &[u8] = b"\xc8whatever it says\xa6\xa3\xb3\xce";

#[tokio::test]
async fn data_of_a_newer_version_is_left_alone() {
    let storage = MemoryStorage::new(Durability::Always);
    let put = |key: &'static [u8], value: &'static [u8]| Put {
        space: Space::Meta,
        key: Bytes::from_static(key),
        value: Some(Bytes::from_static(value)),
    };
    // Its fences may look otherwise, too: that is not asked.
    let newer = vec![
        put(b"identity", OF_NEWER_PROGRAM),
        put(b"fence 1", b"of another format"),
    ];
    storage.commit(newer).await.unwrap();
    let commits = storage.commits();
    let opened = Replica::open(world(&storage), node_id(), settings()).await;
    let (found, understood) = (200, 3);
    let newer = OpenError::NewerData { found, understood };
    assert_eq!(opened.err(), Some(newer));
    assert_eq!(storage.commits(), commits, "nothing was written");
}

#[tokio::test]
async fn counters_are_never_reused() {
    let mut node = Node::new().await;
    let incarnation = node.replica.incarnation();
    let mut last = 0;
    for round in 0..8 {
        for id in 0..7 {
            let (dot, _) = node.accepted(write(&format!("{round} {id}"), id)).await;
            assert!(dot.counter > last && dot.actor == incarnation);
            last = dot.counter;
        }
        node = if round % 2 == 0 {
            node.crash().await
        } else {
            node.restart().await
        };
    }
    let (dot, _) = node.accepted(write("end", 1)).await;
    assert!(
        dot.counter <= 100,
        "a clean stop gives back what was not used, a crash skips one reservation at most"
    );
}

#[tokio::test]
async fn incarnations_end_when_acknowledged_writes_can_be_lost() {
    let node = Node::on(MemoryStorage::new(Durability::Interval)).await;
    let first = node.replica.incarnation();
    node.accepted(write("a", 1)).await;
    let node = node.restart().await;
    assert_eq!(node.replica.incarnation(), first, "a clean stop keeps it");
    assert!(node.read("a").await.is_some());

    let (lost, _) = node.accepted(write("b", 2)).await;
    let node = node.crash().await;
    assert_ne!(node.replica.incarnation(), first);
    assert_eq!(
        node.accept(write("c", 3)).await,
        Err(Refusal::Refilling),
        "others count on what it lost"
    );
    node.refill().await;
    assert_eq!(node.read("b").await, None, "the crash lost it");
    assert_ne!(node.accepted(write("c", 3)).await.0, lost);
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
    node.accepted(write("a", 1)).await;
    let backup = node.storage.after_crash();
    for id in 0..30 {
        node.accepted(write(&format!("later {id}"), id)).await;
    }
    let lost = node.read("later 29").await.unwrap();
    let old = node.replica.incarnation();

    let node = Node::on(backup).await;
    assert_eq!(node.replica.incarnation(), old, "nothing tells yet");
    node.join("later 29", &lost).await.unwrap();
    assert_ne!(node.replica.incarnation(), old);
    let (dot, _) = node.accepted(write("b", 2)).await;
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
    let (_, record) = Node::new().await.accepted(write("a", 1)).await;
    let node = |replica| Node {
        replica,
        storage: lost.clone(),
        world: world(&lost),
    };
    let empty = node(open().await);
    assert_eq!(empty.accept(write("b", 2)).await, Err(Refusal::Refilling));
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
    let refilled =
        |incarnation| Operation::Maintenance(Box::new(Maintenance::Refilled { incarnation }));
    assert_eq!(
        again.adopt_if_empty(1).await,
        Ok(Reply::Adopted { adopted: false })
    );
    assert!(again.call(0, refilled(Actor(5))).await.is_err());
    assert!(again.replica.is_refilling());
    let incarnation = again.replica.incarnation();
    again.call(0, refilled(incarnation)).await.unwrap();
    assert_eq!(again.call(0, read).await, Ok(found));
    again.accepted(write("b", 2)).await;
    assert!(!open().await.is_refilling(), "durable");
}

#[tokio::test(start_paused = true)]
async fn digests_are_made_again_of_what_is_left() {
    let node = Node::new().await;
    node.accepted(write("kept", 1)).await;
    let roots = async |node: &Node| {
        let roots = Operation::Maintenance(Box::new(Maintenance::Roots { after: None }));
        loop {
            match node.call(0, roots.clone()).await {
                Ok(Reply::Maintained(Maintained::Roots { roots, .. })) => return roots,
                _ => node.world.clock().sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let expected = roots(&node).await;
    node.accepted(write("lost", 2)).await;
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
async fn stopping_finishes_what_is_queued_and_refuses_the_rest() {
    let node = Node::new().await;
    node.storage.hold_commits();
    let queued =
        (0..5).map(|id| node.call(0, Operation::Accept(Box::new(write(&id.to_string(), id)))));
    let queued = tokio::spawn(join_all(queued));
    tokio::task::yield_now().await;
    let stop = tokio::spawn({
        let replica = node.replica.clone();
        async move { replica.stop().await }
    });
    tokio::task::yield_now().await;
    assert!(matches!(
        node.accept(write("late", 1)).await,
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
    node.accepted(write("a", 1)).await;
    assert_eq!(node.report().await.keys, 1);
}
