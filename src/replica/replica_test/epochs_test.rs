//! Which epochs the node refuses, takes on and promises.

use super::*;

fn stale<T>(current: u64) -> Result<T, Refusal> {
    let current = Epoch(current);
    Err(Refusal::StaleEpoch { current })
}

fn read() -> Operation {
    Operation::Read { key: key("a") }
}

fn accept(id: u64) -> Operation {
    Operation::Accept(Box::new(write("a", id)))
}

#[tokio::test]
async fn older_epochs_are_refused_for_ever_once_that_was_asked_for() {
    let node = Node::new().await;
    node.call(5, accept(1)).await.unwrap();
    node.fence(5, None, false).await.unwrap();
    assert_eq!(node.call(4, accept(2)).await, stale(5));
    assert_eq!(node.call(4, read()).await, stale(5));
    node.fence(6, None, false).await.unwrap();
    let join = Operation::Join {
        key: key("a"),
        record: others(9, 1, 1).encode(),
        judged: None,
        source: JoinSource::Client,
    };
    assert_eq!(node.call(5, join).await, stale(6));
    let roots = || Maintenance::Roots { after: None };
    assert_eq!(node.maintenance(5, roots()).await, stale(6));
    assert_eq!(node.fence(5, None, false).await, stale(6));
    node.fence(8, None, false).await.unwrap();
    assert_eq!(
        node.report().await.epoch,
        Epoch(8),
        "a probe is never refused"
    );
    let node = node.crash().await;
    assert_eq!(node.call(7, read()).await, stale(8), "and after a crash");
    assert!(node.maintenance(8, roots()).await.is_ok());
}

#[tokio::test]
async fn an_epoch_that_was_only_heard_of_ends_no_older_one() {
    let node = Node::new().await;
    node.call(6, accept(1)).await.unwrap();
    node.call(7, read()).await.unwrap();
    node.replica.learn_epoch(Epoch(8));
    node.replica.learn_epoch(Epoch(7));
    assert_eq!(node.replica.epoch(), Epoch(8), "the newest is known");
    node.call(3, read()).await.unwrap();
    node.call(3, accept(2)).await.unwrap();
    let leaves = Maintenance::Leaves {
        tree: key("a").tree(),
    };
    node.maintenance(3, leaves).await.unwrap();
    assert_eq!(node.report().await.epoch, Epoch(0), "none is refused");
    let node = node.crash().await;
    assert_eq!(node.replica.epoch(), Epoch(0), "nor is it kept");
}

/// No such epoch was ever published.
const NO_EPOCH: u64 = 1 << 63;

#[tokio::test]
async fn an_epoch_that_cannot_be_is_taken_on_by_nothing() {
    let node = Node::new().await;
    node.replica.learn_epoch(Epoch(7));
    node.fence(7, None, false).await.unwrap();
    let (_, record) = node.accepted_under(7, write("a", 1)).await;
    let hostile = || {
        let tree = key("a").tree();
        vec![
            Operation::Read { key: key("a") },
            Operation::Accept(Box::new(write("a", 2))),
            Operation::Join {
                key: key("a"),
                record: record.encode(),
                judged: None,
                source: JoinSource::Client,
            },
            Operation::AdoptEpochIfEmpty {
                epoch: Epoch(NO_EPOCH),
                is_new: true,
            },
            Operation::Maintenance(Box::new(Maintenance::Roots { after: None })),
            Operation::Maintenance(Box::new(Maintenance::Leaves { tree })),
            Operation::Maintenance(Box::new(Maintenance::Fence {
                partitions: None,
                leaving: false,
                horizon: Stamp::ZERO,
            })),
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
    assert_eq!(node.replica.epoch(), Epoch(7));
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
    node.replica.learn_epoch(Epoch(ahead));
    assert!(
        node.call(ahead + 1, Operation::Read { key: key("a") })
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_node_comes_back_from_an_epoch_that_cannot_be() {
    let node = Node::new().await;
    node.replica.learn_epoch(Epoch(NO_EPOCH)); // from another store
    for partitions in [None, Some(&[7, 8][..])] {
        let fenced = node.fence(NO_EPOCH, partitions, true).await;
        fenced.unwrap();
        assert_eq!(node.call(7, read()).await, stale(NO_EPOCH));
        node.replica.reset_epoch(Epoch(7)).await.unwrap();
        assert_eq!(node.replica.epoch(), Epoch(8));
        assert_eq!(
            node.call(7, read()).await,
            stale(8),
            "what it may have promised stays so"
        );
        node.replica.learn_epoch(Epoch(NO_EPOCH));
    }
    node.replica.reset_epoch(Epoch(7)).await.unwrap();
    let node = node.crash().await;
    assert_eq!(node.call(7, read()).await, stale(8));
    assert!(node.call(8, read()).await.is_ok());
    let tree = key("a").tree();
    let dropped = node.maintenance(8, Maintenance::DropTree { tree }).await;
    assert!(dropped.is_err(), "nor does it leave anything: {dropped:?}");
    node.replica.reset_epoch(Epoch(20)).await.unwrap();
    assert_eq!(node.report().await.epoch, Epoch(8), "never forward");
}

#[tokio::test]
async fn a_fence_is_durable_even_where_writes_are_not() {
    let node = Node::on(MemoryStorage::new(Durability::Interval)).await;
    node.call(5, accept(1)).await.unwrap();
    node.fence(6, None, false).await.unwrap();
    let node = node.crash().await;
    assert_eq!(node.report().await.epoch, Epoch(6));
    node.fence(9, Some(&[7]), true).await.unwrap();
    assert_eq!(node.crash().await.report().await.epoch, Epoch(9));
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
    node.call(3, Operation::Accept(Box::new(write("a", 1))))
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
    let accept = node.call(0, Operation::Accept(Box::new(write("a", 1))));
    let adopt = node.adopt_if_empty(3);
    let (accepted, adopted) = futures::join!(accept, adopt);
    accepted.unwrap();
    assert_eq!(adopted, Ok(Reply::Adopted { adopted: false }));
}
