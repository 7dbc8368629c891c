//! A change goes on without a node, from whatever state it is in.

use std::collections::BTreeSet;

use super::*;
use crate::placement::sample::{id, node};
use crate::placement::{ChangeId, Epoch, FactorChange, NodeChange, PartitionId, Placement};

fn topology(names: &[&str]) -> Topology {
    let nodes = names.iter().map(|name| node(name)).collect();
    Topology::new(Epoch(5), 64, nodes).unwrap()
}

fn request(nodes: Vec<NodeChange>) -> ChangeRequest {
    let factors = Vec::new();
    ChangeRequest { nodes, factors }
}

fn begin(topology: &Topology, change: NodeChange, factors: Vec<FactorChange>) -> Topology {
    let begun = topology.begun(ChangeId::of_number(1), &request(vec![change]), factors);
    begun.unwrap()
}

fn add(name: &str) -> NodeChange {
    NodeChange::Add(node(name))
}

fn remove(name: &str, force: bool) -> NodeChange {
    let id = id(name);
    NodeChange::Remove { id, force }
}

fn replace(name: &str, by: &str, force: bool) -> NodeChange {
    let (id, by) = (id(name), node(by));
    NodeChange::Replace { id, by, force }
}

fn change(topology: &Topology) -> &TopologyChange {
    topology.change.as_deref().unwrap()
}

/// Steps those partitions of the change that are told.
fn step(topology: &Topology, which: impl Fn(usize, &Move) -> bool) -> Topology {
    let moves = change(topology).moves.iter().enumerate();
    let steps = moves.filter(|(n, moving)| moving.state != MoveState::Moved && which(*n, moving));
    let steps: BTreeSet<PartitionId> = steps.map(|(_, moving)| moving.partition).collect();
    topology.stepped(&steps).unwrap()
}

/// Each fourth partition is in one of the four states.
fn half_way(begun: Topology) -> Topology {
    let once = step(&begun, |n, _| n % 4 > 0);
    let twice = step(&once, |n, _| n % 4 > 1);
    step(&twice, |n, _| n % 4 > 2)
}

fn to_the_end(mut topology: Topology) -> Topology {
    while !change(&topology).is_moved() {
        topology = step(&topology, |_, _| true);
    }
    topology.finished().unwrap()
}

fn names(topology: &Topology, list: &[u16]) -> Vec<NodeId> {
    let nodes = list
        .iter()
        .map(|index| &topology.nodes[usize::from(*index)]);
    nodes.map(|node| node.id.clone()).collect()
}

/// Who is asked for a record in a read, by partition.
fn readers(topology: &Topology, tenant: &str, factor: u8) -> Vec<BTreeSet<NodeId>> {
    let placement = Placement::build(topology.clone());
    let partitions = (0..topology.partitions).map(|number| PartitionId(number as u16));
    let owners = partitions.map(|partition| placement.record_owners(partition, tenant, factor));
    let readers = owners.map(|owners| {
        let nodes: Vec<u16> = owners.read_nodes().collect();
        names(topology, &nodes).into_iter().collect()
    });
    readers.collect()
}

/// Who may have a copy of each partition: whoever was asked to take one.
fn holders(stages: &[Topology]) -> Vec<BTreeSet<NodeId>> {
    let mut holders = vec![BTreeSet::new(); 64];
    for stage in stages {
        let placement = Placement::build(stage.clone());
        for (number, holders) in (0u16..).zip(&mut holders) {
            let owners = placement.record_owners(PartitionId(number), "t", 3);
            holders.extend(names(stage, owners.nodes()));
        }
    }
    holders
}

/// With more nodes than are listed for a partition, a change leaves some partitions as they are.
#[test]
fn a_partition_that_did_not_move_does_so_if_the_node_was_listed_for_it() {
    let names = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n",
    ];
    let begun = half_way(begin(&topology(&names), add("o"), Vec::new()));
    let amended = begun.amended(&request(vec![remove("b", true)])).unwrap();
    let ended = to_the_end(amended.clone());
    let (now, then) = (readers(&amended, "t", 3), readers(&ended, "t", 3));
    let (mut begin_to_move, mut stay) = (0, 0);
    for number in 0..64 {
        let moves = |topology| change(topology).of(PartitionId(number)).is_some();
        match (moves(&begun), moves(&amended)) {
            (false, true) => begin_to_move += 1,
            (false, false) => stay += 1,
            (true, _) => {}
        }
        let number = usize::from(number);
        assert!(
            moves(&amended) || now[number] == then[number],
            "partition {number} gets other owners, and nothing is copied to them"
        );
        assert!(!then[number].contains(&id("b")));
    }
    assert!(
        begin_to_move > 0 && stay > 0,
        "{begin_to_move} begin to move, {stay} stay"
    );
}

#[test]
fn it_ends_as_if_the_node_had_never_been_there() {
    let before = topology(&["a", "b", "c", "d"]);
    for (first, lost, end) in [
        (add("e"), remove("b", true), &["a", "c", "d", "e"][..]),
        (add("e"), remove("e", true), &["a", "b", "c", "d"]),
        (remove("a", false), remove("a", true), &["b", "c", "d"]),
        (remove("a", false), remove("b", true), &["c", "d"]),
    ] {
        let amended = half_way(begin(&before, first, Vec::new()));
        let amended = amended.amended(&request(vec![lost.clone()])).unwrap();
        assert_eq!(change(&amended).given_up, [lost.node().clone()]);
        assert_eq!(change(&amended).id, ChangeId::of_number(1));
        let end = topology(end);
        let ended = to_the_end(amended);
        assert_eq!(ended, end.at(ended.epoch), "{lost:?}");
    }
}

#[test]
fn another_node_takes_the_place_of_one_that_joins() {
    let before = topology(&["b", "c", "d"]);
    let joining = half_way(begin(&before, replace("b", "e", false), Vec::new()));
    let amended = joining.amended(&request(vec![replace("e", "a", true)]));
    let ended = to_the_end(amended.unwrap());
    let expected = begin(&before, replace("b", "a", false), Vec::new());
    let expected = to_the_end(expected);
    assert_eq!(ended, expected.at(ended.epoch));
}

#[test]
fn who_was_read_from_is_read_from_still_but_for_the_lost_one() {
    let before = topology(&["a", "b", "c", "d"]);
    let running = half_way(begin(&before, add("e"), Vec::new()));
    let amended = running.amended(&request(vec![remove("b", true)])).unwrap();
    let (then, now) = (readers(&running, "t", 3), readers(&amended, "t", 3));
    for (number, (then, now)) in then.iter().zip(&now).enumerate() {
        let moving = change(&running).of(PartitionId(number as u16));
        let is_both = moving.is_some_and(|moving| moving.state == MoveState::HandingOver);
        let mut left = then.clone();
        left.remove(&id("b"));
        match is_both {
            // Back to the old ones, which every reader asked so far.
            true => assert!(now.is_subset(&left) && now.len() >= 2, "{number}"),
            false => assert_eq!(*now, left, "{number}"),
        }
    }
}

#[test]
fn what_leads_back_when_the_node_is_lost_is_read_from_who_has_it() {
    let before = topology(&["a", "b", "c", "l"]);
    let running = half_way(begin(&before, remove("l", false), Vec::new()));
    let back = running.cancelled().unwrap();
    let amended = back.amended(&request(vec![remove("l", true)])).unwrap();
    let (then, now) = (readers(&back, "t", 3), readers(&amended, "t", 3));
    for (number, (then, now)) in then.iter().zip(&now).enumerate() {
        let mut left = then.clone();
        left.remove(&id("l"));
        assert!(
            now.is_subset(&left) && now.len() >= 2,
            "{number}: {then:?}, {now:?}"
        );
    }
    let ended = to_the_end(amended);
    let without = topology(&["a", "b", "c"]);
    assert_eq!(readers(&ended, "t", 3), readers(&without, "t", 3));
}

#[test]
fn whoever_may_have_a_copy_is_an_owner_or_is_asked_to_give_it_up() {
    let before = topology(&["a", "b", "c", "d", "e"]);
    let begun = begin(&before, replace("a", "f", false), Vec::new());
    let running = half_way(begun.clone());
    let once = running.amended(&request(vec![remove("b", true)])).unwrap();
    let later = half_way(once.clone());
    let twice = later.amended(&request(vec![remove("f", true)])).unwrap();
    let holders = holders(&[begun, running, once, later]);
    for (holders, number) in holders.iter().zip(0u16..) {
        let Some(moving) = change(&twice).of(PartitionId(number)) else {
            continue; // its owners never changed
        };
        let listed = [&moving.from, &moving.to, &moving.left].map(|list| names(&twice, list));
        let listed: BTreeSet<NodeId> = listed.into_iter().flatten().collect();
        let lost = [id("b"), id("f")].into();
        let asked: BTreeSet<NodeId> = holders.difference(&lost).cloned().collect();
        assert!(asked.is_subset(&listed), "{number}: {asked:?} {listed:?}");
    }
}

#[test]
fn a_factor_that_changes_is_the_new_one_where_a_partition_has_moved() {
    let before = topology(&["a", "b", "c", "d", "e"]);
    let (tenant, from, to) = ("t".into(), 3, 2);
    let factors = vec![FactorChange { tenant, from, to }];
    let mut running = begin(&before, add("f"), factors);
    for _ in 0..3 {
        running = step(&running, |n, _| n % 2 == 0);
    }
    let amended = running.amended(&request(vec![remove("b", true)])).unwrap();
    let (then, now) = (readers(&running, "t", 3), readers(&amended, "t", 3));
    for (number, (then, now)) in then.iter().zip(&now).enumerate() {
        assert_eq!(then.len(), if number % 2 == 0 { 2 } else { 3 });
        let mut left = then.clone();
        left.remove(&id("b"));
        assert_eq!(*now, left, "{number}");
    }
    assert_eq!(readers(&to_the_end(amended), "t", 2)[0].len(), 2);
}

#[test]
fn what_had_moved_elsewhere_stays_as_it_is() {
    let before = topology(&["a", "b", "c"]);
    let running = half_way(begin(&before, replace("a", "d", false), Vec::new()));
    let amended = running.amended(&request(vec![remove("a", true)])).unwrap();
    for moving in &change(&running).moves {
        let next = change(&amended).of(moving.partition).unwrap();
        match moving.state {
            MoveState::Moved => assert_eq!(next, moving),
            _ => assert_eq!(next.state, MoveState::Waiting),
        }
        assert!(!next.again);
    }
}

#[test]
fn only_who_is_counted_on_is_given_up_and_only_once() {
    let before = topology(&["a", "b", "c"]);
    let nothing = Err(RefusedChange::Nothing);
    assert_eq!(
        before.amended(&request(vec![remove("a", true)])),
        Err(RefusedChange::NotUnderWay)
    );
    let running = begin(&before, add("d"), Vec::new());
    assert_eq!(running.amended(&request(vec![remove("a", false)])), nothing);
    assert_eq!(running.amended(&request(vec![remove("x", true)])), nothing);
    let once = request(vec![remove("a", true)]);
    let amended = running.amended(&once).unwrap();
    assert_eq!(amended.amended(&once), nothing);
    assert_eq!(
        amended.cancelled(),
        Err(RefusedChange::GaveUp(id("a"))),
        "it can't lead back to a lost node"
    );
    let all = ["a", "b", "c", "d"].map(|name| remove(name, true));
    let all = running.amended(&request(all.into()));
    assert_eq!(all, Err(RefusedChange::NobodyLeft));
    let known = running.amended(&request(vec![replace("a", "d", true)]));
    assert_eq!(known, Err(RefusedChange::Known(id("d"))));
    assert_eq!(once.left_to_do(&amended.nodes), once);
    let done = once.left_to_do(&to_the_end(amended).nodes);
    assert_eq!(done, ChangeRequest::default());
}
