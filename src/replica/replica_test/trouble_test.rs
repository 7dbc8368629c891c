//! What the node does when its disk is full, fails or is damaged, and when too much is asked of it.

use super::*;

#[tokio::test]
async fn a_damaged_record_is_neither_served_nor_written_over() {
    let storage = MemoryStorage::new(Durability::Always);
    let node = Node::on(storage.clone()).await;
    let (_, record) = node.accepted(write("a", 1)).await;
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
    assert_eq!(node.accept(write("a", 2)).await, Err(Refusal::Damaged));
    assert_eq!(node.join("a", &record).await, Err(Refusal::Damaged));
    node.accepted(write("b", 3)).await;
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
    node.accepted(write("a", 1)).await;
    node.storage
        .refuse_commits(Some(StorageError::Full("on purpose".into())));
    for id in 0..25 {
        let Err(Refusal::Unavailable(why)) = node.accept(write("b", id)).await else {
            panic!("not refused")
        };
        assert_eq!(why, "the disk is full: on purpose");
    }
    assert!(node.report().await.refuses_writes.is_some());
    assert!(node.read("a").await.is_some() && node.read("b").await.is_none());
    for partitions in [None, Some(&[7][..])] {
        let fenced = node.fence(5, partitions, false).await;
        assert!(matches!(fenced, Err(Refusal::Unavailable(_))), "{fenced:?}");
    }
    assert_eq!(
        node.report().await.epoch,
        Epoch(0),
        "a fence that is not durable is none"
    );
    assert!(node.read("a").await.is_some(), "by the oldest epoch");

    node.storage.refuse_commits(None);
    node.accepted(write("b", 3)).await;
    assert_eq!(node.report().await.refuses_writes, None);
    let (last, _) = node.accepted(write("c", 4)).await;
    let node = node.crash().await;
    assert!(node.accepted(write("d", 5)).await.0.counter > last.counter);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_room_again_is_noticed_though_nobody_writes() {
    let node = Node::new().await;
    let full = StorageError::Full("on purpose".into());
    node.storage.refuse_commits(Some(full));
    assert!(node.accept(write("a", 1)).await.is_err());
    assert!(node.replica.refuses_writes().is_some());
    node.storage.refuse_commits(None);
    node.is_back().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_ends_writing_until_the_engine_was_opened_again() {
    let node = Node::new().await;
    node.accepted(write("a", 1)).await;
    let incarnation = node.replica.incarnation();
    node.storage
        .refuse_commits(Some(StorageError::Failed("on purpose".into())));
    assert!(matches!(
        node.accept(write("a", 2)).await,
        Err(Refusal::StorageFailed(_))
    ));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(matches!(
            node.accept(write("a", 2)).await,
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
    let (dot, _) = node.accepted(write("b", 3)).await;
    let node = node.crash().await;
    let (later, _) = node.accepted(write("c", 4)).await;
    assert!(later.counter > dot.counter);
    node.storage
        .refuse_commits(Some(StorageError::Failed("on purpose".into())));
    assert!(node.accept(write("d", 5)).await.is_err());
    assert!(node.replica.stop().await.is_err(), "this is no clean stop");
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_failed_commit_is_told_by_the_engine_only() {
    let node = Node::new().await;
    let (_, before) = node.accepted(write("a", 1)).await;
    let target = crate::placement::Node {
        id: NodeId::new("node-2").unwrap(),
        host: "::1".into(),
        port: 1,
        virtual_nodes: 1,
        status: crate::placement::NodeStatus::Active,
        zone: None,
        seat: None,
    };
    // It says that it failed, and all of it is there.
    node.storage.lose_answers(true);
    assert!(node.accept(write("a", 2)).await.is_err());
    node.storage.lose_answers(false);
    node.is_back().await;
    let record = node.read("a").await.unwrap();
    assert_eq!(ids(&record), [2]);
    assert!(record.seen().descends(before.seen()));
    // What was accepted then is known, and its counter is given to no other.
    let dot = record.siblings()[0].dot;
    assert_eq!(node.accepted(write("a", 2)).await.0, dot);
    assert_ne!(node.accepted(write("b", 3)).await.0, dot);
    // Fences and the hints are known from there, too.
    for (epoch, partitions) in [(7, Some(&[7][..])), (8, None)] {
        let before = node.report().await.epoch;
        node.storage.lose_answers(true);
        assert!(node.fence(epoch, partitions, false).await.is_err());
        assert_eq!(node.report().await.epoch, before);
        node.storage.lose_answers(false);
        node.is_back().await;
        assert_eq!(node.report().await.epoch, Epoch(epoch));
    }
    node.storage.lose_answers(true);
    let hint = Maintenance::Hint {
        key: key("a"),
        targets: vec![target],
    };
    let hint = Operation::Maintenance(Box::new(hint));
    assert!(node.call(8, hint).await.is_err());
    assert!(node.report().await.hints.is_empty());
    node.storage.lose_answers(false);
    node.is_back().await;
    assert_eq!(node.report().await.hints[0].outstanding, 1);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_lost_something_while_it_was_opened_again_is_not_counted_on() {
    let node = Node::new().await;
    node.accepted(write("a", 1)).await;
    let first = node.replica.incarnation();
    let failed = StorageError::Failed("on purpose".into());
    node.storage.refuse_commits(Some(failed));
    assert!(node.accept(write("b", 2)).await.is_err());
    node.storage.raise_doubts("on purpose");
    node.storage.refuse_commits(None);
    node.is_back().await;
    assert_ne!(node.replica.incarnation(), first);
    assert!(node.report().await.refilling.is_some());
    let read = Operation::Read { key: key("a") };
    let read = node.call(0, read).await;
    assert!(matches!(read, Ok(Reply::Refilling(_))), "{read:?}");
    node.refill().await;
    node.accepted(write("b", 2)).await;
}

#[tokio::test(start_paused = true)]
async fn digests_that_an_engine_lost_while_it_was_opened_again_are_made_anew() {
    let node = Node::new().await;
    node.accepted(write("a", 1)).await;
    let trees = async |node: &Node| {
        let roots = Maintenance::Roots { after: None };
        match node.maintenance(0, roots).await {
            Ok(Maintained::Roots { roots, .. }) => roots.len(),
            other => panic!("no trees: {other:?}"),
        }
    };
    assert_eq!(trees(&node).await, 1);
    let digests = node.storage.scan(Space::Digests, Bytes::new(), None, 9);
    let lost = digests.await.unwrap().into_iter().map(|(key, _)| Put {
        space: Space::Digests,
        key,
        value: None,
    });
    node.storage.commit(lost.collect()).await.unwrap();
    let failed = StorageError::Failed("on purpose".into());
    node.storage.refuse_commits(Some(failed));
    assert!(node.accept(write("b", 2)).await.is_err());
    node.storage.raise_doubts("on purpose");
    node.storage.refuse_commits(None);
    node.is_back().await;
    node.world.clock().sleep(Duration::from_secs(1)).await;
    assert_eq!(trees(&node).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_full_starts_and_reads() {
    let node = Node::new().await;
    node.accepted(write("a", 1)).await;
    let (storage, incarnation) = (node.storage.after_crash(), node.replica.incarnation());
    storage.refuse_commits(Some(StorageError::Full("on purpose".into())));
    let node = Node::on(storage).await;
    assert!(node.read("a").await.is_some());
    assert!(
        node.report().await.refuses_writes.is_some(),
        "from the start"
    );
    assert!(node.accept(write("b", 2)).await.is_err());
    node.storage.refuse_commits(None);
    node.is_back().await;
    assert_eq!(node.replica.incarnation(), incarnation);
    node.accepted(write("b", 2)).await;

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

#[tokio::test]
async fn more_than_the_queue_holds_is_refused() {
    let small = ReplicaSettings {
        queue_max: 4,
        ..settings()
    };
    let node = Node::with(MemoryStorage::new(Durability::Always), small).await;
    node.storage.hold_commits();
    let first = tokio::spawn(node.call(0, Operation::Accept(Box::new(write("first", 1)))));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let more = (0..6).map(|id| node.call(0, Operation::Accept(Box::new(write("a", 10 + id)))));
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

#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_an_engine_while_it_is_opened_again() {
    let node = Node::new().await;
    node.accepted(write("a", 1)).await;
    let shared = &node.replica.handle.shared;
    let asked = || {
        let key = key("a");
        node.call(0, Operation::Read { key })
    };
    shared.close_view();
    for _ in 0..2 {
        let answer = asked().await;
        assert!(matches!(answer, Err(Refusal::Unavailable(_))), "{answer:?}");
    }
    shared.open_view();
    assert!(asked().await.is_ok());
    let before = shared.view().unwrap();
    shared.close_view();
    shared.open_view();
    assert!(
        shared.is_still(before).is_err(),
        "what was read before says nothing any more"
    );
}
