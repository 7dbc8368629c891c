//! Which epochs the node refuses, takes on and promises.

use super::*;

#[tokio::test]
async fn older_epochs_are_refused_for_ever() {
    let node = Node::new().await;
    let read = || Operation::Read { key: key("a") };
    let stale = |current| {
        Err(Refusal::StaleEpoch {
            current: Epoch(current),
        })
    };
    node.call(5, Operation::Accept(Box::new(write("a", 1))))
        .await
        .unwrap();
    assert_eq!(
        node.call(4, Operation::Accept(Box::new(write("a", 2))))
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
                source: JoinSource::Client
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
    node.call(5, Operation::Accept(Box::new(write("a", 1))))
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
