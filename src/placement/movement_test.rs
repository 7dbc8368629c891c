//! A change of topology moves what it must and nothing else.

use proptest::prelude::*;

use super::*;
use crate::placement::sample::{any_topology, cluster, id, node};
use crate::placement::{
    ChangeId, ChangeRequest, MAX_OWNERS, Node, NodeChange, NodeStatus, Topology,
};

/// What adding node `one-more` to `n` nodes moves, and what removing it again moves.
fn there_and_back(n: usize, r: usize) -> (Movement, Movement) {
    let before = cluster(n);
    let after = before.with_node(node("one-more")).unwrap();
    let (before, after) = (Placement::build(before), Placement::build(after));
    (movement(&before, &after, r), movement(&after, &before, r))
}

fn preference_list(placement: &Placement, partition: PartitionId, r: usize) -> Vec<NodeId> {
    let owners = placement.owners(partition, r).iter();
    owners
        .map(|&index| placement.node(index).id.clone())
        .collect()
}

#[test]
fn nothing_moves_when_nothing_changes() {
    let placement = Placement::build(cluster(5));
    let still = movement(&placement, &placement, 3);
    assert_eq!((still.moves.len(), still.fraction()), (0, 0.0));
    let nobody = Placement::build(cluster(0));
    assert_eq!(movement(&placement, &nobody, 3).fraction(), 0.0);
    assert_eq!(movement(&nobody, &placement, 3).fraction(), 1.0);
}

#[test]
fn one_node_of_n_moves_about_one_nth() {
    for n in [3, 10, 100] {
        for r in [1, 3] {
            let (added, removed) = there_and_back(n, r);
            let fair = 1.0 / (n + 1) as f64;
            for moved in [added.fraction(), removed.fraction()] {
                let off = moved / fair - 1.0;
                assert!(off.abs() < 0.15, "{n} nodes, {r} owners: {off:+.3}");
            }
        }
    }
}

/// One change, begun where there are `n` nodes: what it moves, and how many copies it makes.
fn moved_by(before: &Topology, nodes: Vec<NodeChange>, r: usize) -> (Movement, usize) {
    let request = ChangeRequest {
        nodes,
        factors: Vec::new(),
    };
    let begun = before.begun(ChangeId::of_number(1), &request, Vec::new());
    let change = begun.unwrap().change.unwrap();
    let after = Topology::new(before.epoch, before.partitions, change.target.clone()).unwrap();
    let moved = movement(
        &Placement::build(before.clone()),
        &Placement::build(after),
        r,
    );
    let first = |list: &[u16]| list[..r.min(list.len())].to_vec();
    let copies = change.moves.iter().map(|moving| {
        let (from, to) = (first(&moving.from), first(&moving.to));
        to.iter().filter(|node| !from.contains(node)).count()
    });
    (moved, copies.sum())
}

fn gained(movement: &Movement) -> usize {
    movement
        .moves
        .iter()
        .map(|change| change.gained.len())
        .sum()
}

fn added(names: &[&str]) -> Vec<NodeChange> {
    let nodes = names.iter().map(|name| NodeChange::Add(node(name)));
    nodes.collect()
}

fn removed(name: &str) -> Vec<NodeChange> {
    let (id, force) = (id(name), false);
    vec![NodeChange::Remove { id, force }]
}

/// However many copies a node has, to have so many it must be given them, and nobody else needs any.
#[test]
fn nodes_that_join_are_given_their_share_and_nobody_else_anything() {
    for (n, names) in [(3, &["a"][..]), (10, &["a"]), (3, &["a", "b", "c"])] {
        let (moved, copies) = moved_by(&cluster(n), added(names), 3);
        assert_eq!(
            copies,
            gained(&moved),
            "the change makes those copies alone"
        );
        for change in &moved.moves {
            assert!(change.gained.iter().all(|id| names.contains(&id.as_str())));
            assert_eq!(change.gained.len(), change.lost.len());
        }
        let fair = names.len() as f64 / (n + names.len()) as f64;
        let off = moved.fraction() / fair - 1.0;
        assert!(off.abs() < 0.1, "{n} nodes and {names:?}: {off:+.3}");
    }
}

/// Data moves once: what the first of three nodes gets is not given on to the others.
#[test]
fn three_nodes_at_once_move_less_than_one_after_the_other() {
    let names = ["a", "b", "c"];
    let (_, at_once) = moved_by(&cluster(3), added(&names), 3);
    let (mut topology, mut in_turn) = (cluster(3), 0);
    for name in names {
        in_turn += moved_by(&topology, added(&[name]), 3).1;
        topology = topology.with_node(node(name)).unwrap();
    }
    let saved = 1.0 - at_once as f64 / in_turn as f64;
    // 1/2 instead of 1/4 + 1/5 + 1/6.
    assert!(
        (saved - 0.19).abs() < 0.03,
        "{at_once} and {in_turn}: {saved:.3}"
    );
}

/// Each copy of the node that leaves is made once, by whoever is next.
#[test]
fn a_node_that_leaves_is_made_good_for_copy_by_copy() {
    let before = cluster(10);
    let (moved, copies) = moved_by(&before, removed("node-4"), 3);
    let placement = Placement::build(before);
    let all = (0..4096).flat_map(|number| placement.owners(PartitionId(number), 3));
    let had = all
        .filter(|index| placement.node(**index).id == id("node-4"))
        .count();
    assert_eq!((copies, gained(&moved), moved.moves.len()), (had, had, had));
    for change in &moved.moves {
        assert_eq!(change.lost, [id("node-4")]);
    }
}

#[test]
fn a_replacement_is_given_what_the_dead_node_had_and_nothing_else_moves() {
    let (dead, force) = (id("node-4"), true);
    let by = node("a");
    let replaced = vec![NodeChange::Replace {
        id: dead.clone(),
        by,
        force,
    }];
    let (moved, copies) = moved_by(&cluster(10), replaced, 3);
    let (of_dead, _) = moved_by(&cluster(10), removed("node-4"), 3);
    assert_eq!(copies, gained(&moved));
    assert_eq!(moved.moves.len(), of_dead.moves.len());
    for (change, of_dead) in moved.moves.iter().zip(&of_dead.moves) {
        assert_eq!(change.partition, of_dead.partition);
        assert_eq!(
            (&*change.gained, &*change.lost),
            (&[id("a")][..], &[dead.clone()][..])
        );
    }
}

#[test]
fn every_copy_stays_when_every_node_owns_all() {
    let before = Placement::build(cluster(3));
    let after = before.topology().without_node(&id("node-1")).unwrap();
    let removed = movement(&before, &Placement::build(after), 3);
    assert_eq!(removed.fraction(), 0.0);
    assert_eq!(removed.moves.len(), 4096);
    for change in &removed.moves {
        assert_eq!(
            (&*change.gained, &*change.lost),
            (&[][..], &[id("node-1")][..])
        );
    }
}

#[test]
fn a_joining_node_moves_nothing_until_it_is_active() {
    let before = cluster(4);
    let joining = Node {
        status: NodeStatus::Joining,
        ..node("one-more")
    };
    let listed = before.with_node(joining).unwrap();
    let active = listed.with_node(node("one-more")).unwrap();
    let [before, listed, active] = [before, listed, active].map(Placement::build);
    assert_eq!(movement(&before, &listed, 3).moves, []);
    assert_eq!(movement(&listed, &active, 3), movement(&before, &active, 3));
}

#[test]
#[should_panic]
fn placements_cut_differently_are_not_compared() {
    let one = cluster(3);
    let other = Topology::new(one.epoch, 8, one.nodes.clone()).unwrap();
    movement(&Placement::build(one), &Placement::build(other), 3);
}

proptest! {
    /// A node that comes is inserted into preference lists and changes nothing else about them; one that goes
    /// leaves them just so. Hence all data that moves, moves to it or from it.
    #[test]
    fn only_the_node_that_comes_or_goes_changes_a_list(
        topology in any_topology(),
        weight in 1..40u32,
        r in 1..=MAX_OWNERS,
    ) {
        let new = Node { virtual_nodes: weight, ..node("one-more") };
        let after = topology.with_node(new.clone()).unwrap();
        let (before, after) = (Placement::build(topology), Placement::build(after));
        for number in 0..before.topology().partitions {
            let partition = PartitionId(number as u16);
            let old = preference_list(&before, partition, r);
            let mut kept = preference_list(&after, partition, r);
            kept.retain(|owner| *owner != new.id);
            prop_assert_eq!(&old[..kept.len()], &kept[..]);
        }
        let (added, removed) = (movement(&before, &after, r), movement(&after, &before, r));
        for change in &added.moves {
            prop_assert_eq!(&change.gained, std::slice::from_ref(&new.id));
            prop_assert!(change.lost.len() <= 1);
        }
        for change in &removed.moves {
            prop_assert_eq!(&change.lost, std::slice::from_ref(&new.id));
            prop_assert!(change.gained.len() <= 1);
        }
        prop_assert_eq!(added.moves.len(), removed.moves.len());
    }

    /// The movement, applied to the owners before, gives the owners after.
    #[test]
    fn it_is_the_whole_difference(
        (topology, other) in (any_topology(), any_topology()),
        r in 1..=MAX_OWNERS,
    ) {
        let other = Topology { partitions: topology.partitions, ..other };
        let (before, after) = (Placement::build(topology), Placement::build(other));
        let change = movement(&before, &after, r);
        let mut moves = change.moves.iter().peekable();
        for number in 0..before.topology().partitions {
            let partition = PartitionId(number as u16);
            let mut owners = preference_list(&before, partition, r);
            if let Some(change) = moves.next_if(|change| change.partition == partition) {
                owners.retain(|owner| !change.lost.contains(owner));
                owners.extend(change.gained.iter().cloned());
            }
            let mut expected = preference_list(&after, partition, r);
            owners.sort();
            expected.sort();
            prop_assert_eq!(owners, expected);
        }
        prop_assert!(moves.next().is_none());
        prop_assert!((0.0..=1.0).contains(&change.fraction()));
    }
}
