//! A change is checked, and its parts are found.

use super::*;
use crate::placement::sample::{id, node};
use crate::placement::{InvalidNode, InvalidTopology, Topology};

fn moving(partition: u16, state: MoveState, from: &[u16], to: &[u16]) -> Move {
    Move {
        partition: PartitionId(partition),
        state,
        since: Epoch(3),
        from: from.to_vec(),
        to: to.to_vec(),
        left: Vec::new(),
        again: false,
    }
}

/// `c` takes the place of `a`, beside `b`; of four partitions two move.
fn topology() -> Topology {
    let target = vec![node("b"), node("c")];
    let change = TopologyChange {
        id: ChangeId::of_number(255),
        target,
        given_up: Vec::new(),
        factors: Vec::new(),
        cancelled: false,
        moves: vec![
            moving(1, MoveState::Copying, &[0, 1], &[2, 1]),
            moving(3, MoveState::Moved, &[1, 0], &[1, 2]),
        ],
    };
    Topology {
        epoch: Epoch(3),
        nodes: ["a", "b", "c"].map(node).to_vec(),
        change: Some(Arc::new(change)),
        ..Topology::empty(4)
    }
}

/// What is wrong with it after this was done to it; however it comes in.
fn wrong_after(spoil: impl FnOnce(&mut TopologyChange)) -> InvalidTopology {
    let mut topology = topology();
    let mut change = TopologyChange::clone(topology.change.as_ref().unwrap());
    spoil(&mut change);
    topology.change = Some(Arc::new(change));
    let error = topology.validate().unwrap_err();
    let written = serde_json::to_value(&topology).unwrap();
    let refused = serde_json::from_value::<Topology>(written).unwrap_err();
    assert_eq!(refused.to_string(), error.to_string());
    error
}

#[test]
fn names_are_short_and_plain() {
    for good in ["m", "m-00ff", "Move-1", &"x".repeat(64)] {
        let id = ChangeId::new(good).unwrap();
        assert_eq!((id.as_str(), &*id.to_string()), (good, good));
        assert_eq!(good.parse(), Ok(id.clone()));
        let written = serde_json::to_value(&id).unwrap();
        assert_eq!(written, good);
        assert_eq!(serde_json::from_value::<ChangeId>(written).unwrap(), id);
    }
    for bad in ["", "a b", "a_b", "a/b", "ü", "a\0", &"x".repeat(65)] {
        assert_eq!(ChangeId::new(bad), Err(InvalidChangeId), "{bad:?}");
        assert!(serde_json::from_value::<ChangeId>(bad.into()).is_err());
    }
    assert_eq!(ChangeId::of_number(255).as_str(), "m-00000000000000ff");
    let greatest = ChangeId::of_number(u64::MAX);
    assert_eq!(ChangeId::new(greatest.as_str()), Ok(greatest));
}

#[test]
fn states_follow_each_other() {
    let mut states = vec![MoveState::Waiting];
    while let Some(next) = states[states.len() - 1].next() {
        states.push(next);
    }
    let names: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    assert_eq!(names, ["waiting", "copying", "handing over", "moved"]);
    assert!(states.is_sorted());
}

#[test]
fn its_parts_are_found() {
    let topology = topology();
    let change = topology.change.as_deref().unwrap();
    assert_eq!(change.of(PartitionId(1)), Some(&change.moves[0]));
    assert_eq!(change.of(PartitionId(3)), Some(&change.moves[1]));
    for still in [0, 2, 4, u16::MAX] {
        assert_eq!(change.of(PartitionId(still)), None);
    }
    assert_eq!(change.in_state(MoveState::Moved), 1);
    assert_eq!(change.in_state(MoveState::Waiting), 0);
    assert!(!change.is_moved());
    let factor = FactorChange {
        tenant: "shop".into(),
        from: 1,
        to: 3,
    };
    let moved = TopologyChange {
        factors: vec![factor.clone()],
        moves: vec![change.moves[1].clone()],
        ..change.clone()
    };
    assert!(moved.is_moved());
    assert_eq!(moved.factor("shop"), Some(&factor));
    assert_eq!(moved.factor("sho"), None);
}

/// It is kept in the metadata store as it is shown here: one that was stored must stay readable.
#[test]
fn it_reads_as_it_is_written() {
    let topology = topology();
    let change = topology.change.as_deref().unwrap();
    let mut short = change.clone();
    short.target.truncate(1);
    short.moves.truncate(1);
    insta::assert_snapshot!(serde_json::to_string(&short).unwrap(), @r#"{"id":"m-00000000000000ff","target":[{"id":"b","host":"b","port":50052,"virtual_nodes":150,"status":"active"}],"cancelled":false,"moves":[{"partition":1,"state":"copying","since":3,"from":[0,1],"to":[2,1]}]}"#);
    let full = TopologyChange {
        given_up: vec![id("a")],
        factors: vec![FactorChange {
            tenant: "shop".into(),
            from: 1,
            to: 3,
        }],
        cancelled: true,
        target: Vec::new(),
        moves: vec![
            moving(0, MoveState::Waiting, &[], &[]),
            moving(1, MoveState::HandingOver, &[], &[]),
            moving(2, MoveState::Moved, &[], &[]),
        ],
        ..short.clone()
    };
    insta::assert_snapshot!(serde_json::to_string(&full).unwrap(), @r#"{"id":"m-00000000000000ff","target":[],"given_up":["a"],"factors":[{"tenant":"shop","from":1,"to":3}],"cancelled":true,"moves":[{"partition":0,"state":"waiting","since":3,"from":[],"to":[]},{"partition":1,"state":"handing_over","since":3,"from":[],"to":[]},{"partition":2,"state":"moved","since":3,"from":[],"to":[]}]}"#);
    for change in [short, full] {
        let written = serde_json::to_string(&change).unwrap();
        assert_eq!(
            serde_json::from_str::<TopologyChange>(&written).unwrap(),
            change
        );
    }
    let written = serde_json::to_string(&topology).unwrap();
    assert_eq!(
        serde_json::from_str::<Topology>(&written).unwrap(),
        topology
    );
}

#[test]
fn what_moves_is_there_and_in_order() {
    let unknown_partition = wrong_after(|change| change.moves[1].partition = PartitionId(4));
    let twice = wrong_after(|change| change.moves[1].partition = PartitionId(1));
    let unsorted = wrong_after(|change| change.moves.swap(0, 1));
    let expected = [
        "a partition moves that there is not",
        "partitions that move are not in order",
        "partitions that move are not in order",
    ];
    assert_eq!(
        [unknown_partition, twice, unsorted],
        expected.map(InvalidTopology::Change)
    );
}

#[test]
fn owners_are_listed_and_distinct() {
    type List = fn(&mut Move) -> &mut Vec<u16>;
    let lists: [List; 2] = [|moving| &mut moving.from, |moving| &mut moving.to];
    for list in lists {
        let unlisted = wrong_after(|change| list(&mut change.moves[0])[1] = 3);
        let twice = wrong_after(|change| list(&mut change.moves[0]).push(1));
        let many = wrong_after(|change| *list(&mut change.moves[0]) = (0..11).collect());
        let expected = [
            "a partition moves to or from a node that is not listed",
            "a partition has an owner twice",
            "a partition has more owners than it can",
        ];
        assert_eq!(
            [unlisted, twice, many],
            expected.map(InvalidTopology::Change)
        );
    }
}

#[test]
fn all_partitions_move_when_a_factor_changes() {
    let factor = FactorChange {
        tenant: "shop".into(),
        from: 1,
        to: 3,
    };
    let error = wrong_after(|change| change.factors.push(factor));
    let expected = "a replication factor changes, and not all partitions move";
    assert_eq!(error, InvalidTopology::Change(expected));
}

#[test]
fn tenants_whose_factor_changes_are_in_order_and_once() {
    let factor = |tenant: &str| FactorChange {
        tenant: tenant.into(),
        from: 1,
        to: 3,
    };
    for tenants in [["b", "a"], ["a", "a"]] {
        let error = wrong_after(|change| change.factors = tenants.map(factor).into());
        let expected = "tenants whose replication factor changes are not in order, each once";
        assert_eq!(error, InvalidTopology::Change(expected));
    }
}

#[test]
fn its_target_could_be_a_topology() {
    let unsorted = wrong_after(|change| change.target.swap(0, 1));
    assert_eq!(unsorted, InvalidTopology::Unsorted(id("b")));
    let twice = wrong_after(|change| change.target[1] = node("b"));
    assert_eq!(twice, InvalidTopology::Duplicate(id("b")));
    let unlisted = wrong_after(|change| change.target.push(node("d")));
    assert_eq!(unlisted, InvalidTopology::Unknown(id("d")));
    let seat = wrong_after(|change| change.target[1].seat = Some("b".to_owned()));
    assert_eq!(seat, InvalidTopology::SeatTaken(id("c")));
    let weightless = wrong_after(|change| change.target[1].virtual_nodes = 0);
    let source = InvalidNode::VirtualNodes(0);
    let expected = InvalidTopology::Node {
        id: id("c"),
        source,
    };
    assert_eq!(weightless, expected);
}
