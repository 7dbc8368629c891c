//! A change begins, steps, is cancelled, and ends.

use proptest::prelude::*;

use super::*;
use crate::placement::sample::{any_topology, id, node};
use crate::placement::{InvalidNode, MAX_NODES, Placement};

fn topology(names: &[&str]) -> Topology {
    let nodes = names.iter().map(|name| node(name)).collect();
    Topology::new(Epoch(5), 64, nodes).unwrap()
}

fn begin(topology: &Topology, nodes: Vec<NodeChange>) -> Result<Topology, RefusedChange> {
    let factors = Vec::new();
    topology.begun(
        ChangeId::of_number(1),
        &ChangeRequest { nodes, factors },
        Vec::new(),
    )
}

fn add(name: &str) -> NodeChange {
    NodeChange::Add(node(name))
}

fn remove(name: &str) -> NodeChange {
    let (id, force) = (id(name), false);
    NodeChange::Remove { id, force }
}

fn replace(name: &str, by: &str) -> NodeChange {
    let (id, by, force) = (id(name), node(by), false);
    NodeChange::Replace { id, by, force }
}

fn set(name: &str, virtual_nodes: Option<u32>, zone: Option<&str>) -> NodeChange {
    NodeChange::Set {
        id: id(name),
        virtual_nodes,
        zone: zone.map(str::to_owned),
    }
}

fn factor(tenant: &str, from: u8, to: u8) -> FactorChange {
    let tenant = tenant.into();
    FactorChange { tenant, from, to }
}

fn change(topology: &Topology) -> &TopologyChange {
    topology.change.as_deref().unwrap()
}

/// The partitions that have not been moved yet.
fn unmoved(topology: &Topology) -> BTreeSet<PartitionId> {
    let moves = change(topology).moves.iter();
    let unmoved = moves.filter(|moving| moving.state != MoveState::Moved);
    unmoved.map(|moving| moving.partition).collect()
}

/// Every stage until all partitions are moved, and the end.
fn stages_to_the_end(begun: Topology) -> Vec<Topology> {
    let mut stages = vec![begun];
    loop {
        let last = &stages[stages.len() - 1];
        if change(last).is_moved() {
            let finished = last.finished().unwrap();
            stages.push(finished);
            return stages;
        }
        let next = last.stepped(&unmoved(last)).unwrap();
        stages.push(next);
    }
}

fn to_the_end(begun: Topology) -> Topology {
    stages_to_the_end(begun).pop().unwrap()
}

fn names(topology: &Topology, list: &[u16]) -> Vec<NodeId> {
    let nodes = list
        .iter()
        .map(|index| &topology.nodes[usize::from(*index)]);
    nodes.map(|node| node.id.clone()).collect()
}

/// Every partition's owners by name, of a tenant whose factor is `r`.
fn owners(topology: &Topology, r: u8) -> Vec<Vec<NodeId>> {
    let placement = Placement::build(topology.clone());
    let partitions = (0..topology.partitions).map(|number| PartitionId(number as u16));
    let owners = partitions.map(|partition| placement.record_owners(partition, "any", r));
    owners
        .map(|owners| names(topology, owners.nodes()))
        .collect()
}

fn statuses(topology: &Topology) -> Vec<(&str, NodeStatus)> {
    let nodes = topology.nodes.iter();
    nodes.map(|node| (node.id.as_str(), node.status)).collect()
}

#[test]
fn a_node_joins() {
    let before = topology(&["b", "c", "d"]);
    let begun = begin(&before, vec![add("a")]).unwrap();
    assert_eq!(begun.epoch, Epoch(6));
    assert_eq!(
        statuses(&begun),
        [
            ("a", NodeStatus::Joining),
            ("b", NodeStatus::Active),
            ("c", NodeStatus::Active),
            ("d", NodeStatus::Active),
        ]
    );
    let target = topology(&["a", "b", "c", "d"]);
    let change = change(&begun);
    assert_eq!(change.target, target.nodes);
    assert_eq!((change.cancelled, &*change.given_up), (false, &[][..]));
    let (old, new) = (owners(&before, 10), owners(&target, 10));
    for moving in &change.moves {
        assert_eq!((moving.state, moving.since), (MoveState::Waiting, Epoch(6)));
        let partition = usize::from(moving.partition.0);
        // Everybody's index is another one than it was.
        assert_eq!(names(&begun, &moving.from), old[partition]);
        assert_eq!(names(&begun, &moving.to), new[partition]);
    }
    assert_eq!(to_the_end(begun), target.at(Epoch(10)));
}

#[test]
fn a_node_leaves() {
    let before = topology(&["a", "b", "c"]);
    let begun = begin(&before, vec![remove("a")]).unwrap();
    assert_eq!(
        statuses(&begun),
        [
            ("a", NodeStatus::Draining),
            ("b", NodeStatus::Active),
            ("c", NodeStatus::Active),
        ]
    );
    assert_eq!(owners(&begun, 3), owners(&before, 3), "it owns still");
    assert_eq!(to_the_end(begun), topology(&["b", "c"]).at(Epoch(10)));
}

#[test]
fn a_replacement_owns_exactly_what_the_replaced_one_owned() {
    let mut before = topology(&["b", "c", "d", "e", "f"]);
    before.nodes[1].virtual_nodes = 77;
    before.nodes[1].zone = Some("rack-1".to_owned());
    // Sorted before all others, and after them.
    for by in ["a", "z"] {
        let after = to_the_end(begin(&before, vec![replace("c", by)]).unwrap());
        let new = after.node(&id(by)).unwrap();
        assert_eq!((new.seat(), new.virtual_nodes), ("c", 77));
        assert_eq!(new.zone.as_deref(), Some("rack-1"));
        assert_eq!(after.node(&id("c")), None);
        let renamed: Vec<Vec<NodeId>> = owners(&before, 3)
            .into_iter()
            .map(|list| {
                let new_name = |name| if name == id("c") { id(by) } else { name };
                list.into_iter().map(new_name).collect()
            })
            .collect();
        assert_eq!(owners(&after, 3), renamed);
    }
    let by = Node {
        zone: Some("rack-2".to_owned()),
        virtual_nodes: 5,
        seat: Some("of-its-own".to_owned()),
        ..node("a")
    };
    let replaced = NodeChange::Replace {
        id: id("c"),
        by,
        force: false,
    };
    let after = to_the_end(begin(&before, vec![replaced]).unwrap());
    let new = after.node(&id("a")).unwrap();
    assert_eq!(new.zone.as_deref(), Some("rack-2"), "it may name its zone");
    assert_eq!((new.seat(), new.virtual_nodes), ("c", 77));
}

#[test]
fn a_name_that_joins_again_gets_another_seat() {
    let seats = |topology: &Topology| -> Vec<(String, Option<String>)> {
        let nodes = topology.nodes.iter();
        nodes
            .map(|node| (node.id.to_string(), node.seat.clone()))
            .collect()
    };
    let expect = |pairs: &[(&str, Option<&str>)]| -> Vec<(String, Option<String>)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, seat)| ((*name).to_owned(), seat.map(str::to_owned)))
            .collect()
    };
    let next = |topology: &Topology, change| to_the_end(begin(topology, vec![change]).unwrap());
    let one = next(&topology(&["a", "x"]), replace("a", "b"));
    assert_eq!(seats(&one), expect(&[("b", Some("a")), ("x", None)]));
    let two = next(&one, add("a"));
    let expected = [("a", Some("a#2")), ("b", Some("a")), ("x", None)];
    assert_eq!(seats(&two), expect(&expected));
    let three = next(&next(&two, replace("a", "c")), add("a"));
    let expected = [
        ("a", Some("a#3")),
        ("b", Some("a")),
        ("c", Some("a#2")),
        ("x", None),
    ];
    assert_eq!(seats(&three), expect(&expected));
    // One that comes back to its own seat has no other name for it.
    let back = next(&one, replace("b", "a"));
    assert_eq!(seats(&back), expect(&[("a", None), ("x", None)]));
    // A seat that is free is taken by who has that name.
    let free = next(&next(&one, remove("b")), add("a"));
    assert_eq!(seats(&free), expect(&[("a", None), ("x", None)]));
}

#[test]
fn a_weight_and_a_zone_are_set() {
    let before = topology(&["a", "b", "c"]);
    let begun = begin(&before, vec![set("b", Some(300), Some("rack-1"))]).unwrap();
    assert_eq!(begun.nodes, before.nodes, "not before it is over");
    let after = to_the_end(begun);
    let b = after.node(&id("b")).unwrap();
    assert_eq!((b.virtual_nodes, b.zone.as_deref()), (300, Some("rack-1")));
    let without = to_the_end(begin(&after, vec![set("b", None, Some(""))]).unwrap());
    let b = without.node(&id("b")).unwrap();
    assert_eq!((b.virtual_nodes, &b.zone), (300, &None));
}

#[test]
fn many_changes_are_one() {
    let before = topology(&["a", "b", "c", "d"]);
    let changes = vec![
        add("e"),
        remove("a"),
        replace("b", "f"),
        set("c", Some(10), None),
        add("0"),
    ];
    let begun = begin(&before, changes).unwrap();
    assert_eq!(
        statuses(&begun),
        [
            ("0", NodeStatus::Joining),
            ("a", NodeStatus::Draining),
            ("b", NodeStatus::Draining),
            ("c", NodeStatus::Active),
            ("d", NodeStatus::Active),
            ("e", NodeStatus::Joining),
            ("f", NodeStatus::Joining),
        ]
    );
    let after = to_the_end(begun);
    let names: Vec<&str> = after.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(names, ["0", "c", "d", "e", "f"]);
}

#[test]
fn a_factor_changes_alone_or_with_nodes() {
    let before = Topology {
        factors_since: Epoch(2),
        ..topology(&["a", "b", "c"])
    };
    let factors = vec![factor("shop", 1, 3)];
    for nodes in [Vec::new(), vec![add("d")]] {
        let request = ChangeRequest {
            nodes,
            factors: Vec::new(),
        };
        let begun = before.begun(ChangeId::of_number(1), &request, factors.clone());
        let begun = begun.unwrap();
        assert_eq!(change(&begun).moves.len(), 64, "all partitions move");
        assert_eq!(
            (&change(&begun).factors, begun.factors_since),
            (&factors, Epoch(2))
        );
        let of_shop = |topology: &Topology| {
            let placement = Placement::build(topology.clone());
            placement
                .record_owners(PartitionId(0), "shop", 1)
                .nodes()
                .len()
        };
        let stages = stages_to_the_end(begun);
        assert_eq!((of_shop(&stages[0]), of_shop(&stages[3])), (1, 3));
        let over = &stages[4];
        assert_eq!((over.factors_since, &over.change), (over.epoch, &None));
    }
    let over = to_the_end(begin(&before, vec![add("d")]).unwrap());
    assert_eq!(over.factors_since, Epoch(2), "no factor changed");
}

#[test]
fn what_can_not_begin_is_refused() {
    let before = topology(&["a", "b"]);
    let refused = |changes| begin(&before, changes).unwrap_err();
    let unknown = RefusedChange::Unknown(id("z"));
    for of_unknown in [remove("z"), replace("z", "y"), set("z", Some(1), None)] {
        assert_eq!(refused(vec![of_unknown]), unknown);
    }
    assert_eq!(
        refused(vec![remove("a"), remove("a")]),
        RefusedChange::Unknown(id("a"))
    );
    let known = RefusedChange::Known(id("a"));
    for twice in [
        vec![add("a")],
        vec![replace("b", "a")],
        // What leaves can't join at once: it is to be empty then.
        vec![replace("a", "a")],
        vec![remove("a"), add("a")],
        vec![replace("a", "c"), add("a")],
    ] {
        assert_eq!(refused(twice), known);
    }
    let twice = refused(vec![add("c"), add("c")]);
    assert_eq!(twice, RefusedChange::Known(id("c")));
    let nobody = refused(vec![remove("a"), remove("b")]);
    assert_eq!(nobody, RefusedChange::NobodyLeft);
    for nothing in [
        vec![],
        vec![set("a", None, None)],
        vec![set("a", Some(150), Some(""))],
        vec![add("c"), remove("c")],
    ] {
        assert_eq!(refused(nothing), RefusedChange::Nothing);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let before = topology(&["a", "b"]);
    let refused = |change| begin(&before, vec![change]).unwrap_err();
    let invalid = |name: &str, source| {
        let id = id(name);
        RefusedChange::Invalid(InvalidTopology::Node { id, source })
    };
    for weight in [0, 4097, u32::MAX] {
        let expected = invalid("a", InvalidNode::VirtualNodes(weight));
        assert_eq!(refused(set("a", Some(weight), None)), expected);
    }
    assert_eq!(
        refused(set("a", None, Some("two words"))),
        invalid("a", InvalidNode::Zone)
    );
    let portless = Node {
        port: 0,
        ..node("c")
    };
    assert_eq!(
        refused(NodeChange::Add(portless)),
        invalid("c", InvalidNode::Port)
    );
    let names: Vec<String> = (0..MAX_NODES).map(|n| format!("node-{n}")).collect();
    let nodes = names.iter().map(|name| Node {
        virtual_nodes: 1,
        ..node(name)
    });
    let full = Topology::new(Epoch(1), 1, nodes.collect()).unwrap();
    assert_eq!(
        begin(&full, vec![replace("node-0", "one-more")]),
        Err(InvalidTopology::TooManyNodes(MAX_NODES + 1).into()),
        "both are listed while owners change"
    );
}

#[test]
fn one_change_at_a_time() {
    let begun = begin(&topology(&["a", "b"]), vec![add("c")]).unwrap();
    let under_way = RefusedChange::UnderWay(ChangeId::of_number(1));
    assert_eq!(begin(&begun, vec![add("d")]), Err(under_way));
    let refused = Err(InvalidTopology::ChangeUnderWay);
    assert_eq!(begun.with_node(node("d")), refused);
    assert_eq!(begun.without_node(&id("a")), refused);
}

#[test]
fn nothing_goes_on_where_nothing_is_under_way() {
    let still = topology(&["a", "b"]);
    let refused = Err(RefusedChange::NotUnderWay);
    assert_eq!(still.stepped(&BTreeSet::new()), refused);
    assert_eq!(still.cancelled(), refused);
    assert_eq!(still.finished(), refused);
}

#[test]
fn only_those_that_are_named_step_and_only_as_far_as_they_can() {
    let begun = begin(&topology(&["a", "b"]), vec![add("c")]).unwrap();
    let all = unmoved(&begun);
    let first = *all.first().unwrap();
    let stepped = begun.stepped(&BTreeSet::from([first])).unwrap();
    for (before, after) in change(&begun).moves.iter().zip(&change(&stepped).moves) {
        let mut expected = before.clone();
        if before.partition == first {
            (expected.state, expected.since) = (MoveState::Copying, stepped.epoch);
        }
        assert_eq!(*after, expected);
    }
    let nowhere = InvalidTopology::Change("a partition steps that has nowhere to go");
    let nowhere = Err(RefusedChange::Invalid(nowhere));
    let still = (0..64).map(PartitionId).find(|one| !all.contains(one));
    for unlisted in still
        .into_iter()
        .chain([PartitionId(64), PartitionId(u16::MAX)])
    {
        assert_eq!(begun.stepped(&BTreeSet::from([first, unlisted])), nowhere);
    }
    let mut moved = stepped;
    for _ in 0..2 {
        moved = moved.stepped(&BTreeSet::from([first])).unwrap();
    }
    assert_eq!(moved.stepped(&BTreeSet::from([first])), nowhere);
    let left = all.len() - 1;
    assert_eq!(moved.finished(), Err(RefusedChange::NotMoved(left)));
}

#[test]
fn a_cancelled_change_leads_back() {
    let before = topology(&["a", "b", "c"]);
    let begun = begin(&before, vec![add("d"), set("a", Some(300), None)]).unwrap();
    let all: Vec<PartitionId> = unmoved(&begun).into_iter().collect();
    let mut some = begun;
    // One partition waits, one copies, one is handed over, the others were moved.
    for left in 1..4 {
        some = some
            .stepped(&all[left..].iter().copied().collect())
            .unwrap();
    }
    let back = some.cancelled().unwrap();
    assert!(change(&back).cancelled);
    assert_eq!((back.epoch, &back.nodes), (Epoch(10), &some.nodes));
    assert_eq!(change(&back).target, before.nodes);
    let pairs = change(&some).moves.iter().zip(&change(&back).moves);
    for (n, (there, back)) in pairs.enumerate() {
        let state = match n {
            0..3 => MoveState::Moved,
            _ => MoveState::Waiting,
        };
        let expected = Move {
            partition: there.partition,
            state,
            since: Epoch(10),
            from: there.to.clone(),
            to: there.from.clone(),
            left: Vec::new(),
            again: false,
        };
        assert_eq!(*back, expected);
    }
    assert_eq!(back.cancelled(), Err(RefusedChange::CancelledAlready));
    assert_eq!(to_the_end(back), before.at(Epoch(14)));
}

#[test]
fn what_was_given_up_does_not_come_back() {
    let before = topology(&["a", "b", "c"]);
    let (dead, force) = (id("b"), true);
    let by = node("d");
    for lost in [
        NodeChange::Remove {
            id: dead.clone(),
            force,
        },
        NodeChange::Replace {
            id: dead.clone(),
            by,
            force,
        },
    ] {
        let begun = begin(&before, vec![lost]).unwrap();
        assert_eq!(change(&begun).given_up, std::slice::from_ref(&dead));
        let placement = Placement::build(begun.clone());
        let given_up = (0..begun.nodes.len()).filter(|n| placement.is_given_up(*n as u16));
        assert_eq!(given_up.collect::<Vec<_>>(), [1]);
        for list in owners(&begun, 3) {
            assert!(!list.contains(&dead), "{list:?}");
        }
        assert_eq!(begun.cancelled(), Err(RefusedChange::GaveUp(dead.clone())));
        assert_eq!(to_the_end(begun).node(&dead), None);
    }
}

#[test]
fn one_that_owns_nothing_stays_so() {
    let with = |status| {
        let idle = Node {
            status,
            ..node("idle")
        };
        topology(&["a", "b", "c"]).with_node(idle).unwrap()
    };
    for status in [NodeStatus::Inactive, NodeStatus::Joining] {
        let before = with(status);
        let begun = begin(&before, vec![remove("idle"), add("d")]).unwrap();
        assert_eq!(begun.node(&id("idle")).unwrap().status, status);
        assert_eq!(owners(&begun, 3), owners(&before, 3));
        for moving in &change(&begun).moves {
            assert!(!names(&begun, &moving.from).contains(&id("idle")));
        }
        let back = to_the_end(begun.cancelled().unwrap());
        assert_eq!(back.nodes, before.nodes);
        // And so does one that the change says nothing of.
        let other = begin(&before, vec![add("d")]).unwrap();
        let back = to_the_end(other.cancelled().unwrap());
        assert_eq!(back.nodes, before.nodes);
        let after = to_the_end(other);
        assert_eq!(after.node(&id("idle")), before.node(&id("idle")));
    }
}

#[test]
fn a_node_moves_to_another_place_while_owners_change() {
    let before = topology(&["a", "b"]);
    let there = Node {
        host: "::2".to_owned(),
        port: 9,
        ..node("b")
    };
    let moved = before.relocated(&id("b"), "::2", 9).unwrap();
    assert_eq!(moved, before.with_node(there.clone()).unwrap());
    let begun = begin(&before, vec![add("c")]).unwrap();
    let changed = begun.relocated(&id("b"), "::2", 9).unwrap();
    assert_eq!(changed.epoch, Epoch(7));
    assert_eq!(changed.nodes[1], there);
    assert_eq!(change(&changed).moves, change(&begun).moves);
    assert_eq!(to_the_end(changed).node(&id("b")), Some(&there));
    assert_eq!(
        begun.relocated(&id("z"), "::2", 9),
        Err(RefusedChange::Unknown(id("z")))
    );
    let nowhere = begun.relocated(&id("b"), "no where", 9);
    let source = InvalidNode::Host;
    let expected = InvalidTopology::Node {
        id: id("b"),
        source,
    };
    assert_eq!(nowhere, Err(expected.into()));
}

#[test]
fn the_last_epoch_has_no_successor() {
    let last = topology(&["a", "b"]).at(Epoch(u64::MAX));
    let refused = Err(RefusedChange::Invalid(InvalidTopology::LastEpoch));
    assert_eq!(begin(&last, vec![add("c")]), refused);
    assert_eq!(last.relocated(&id("a"), "h", 1), refused);
    let begun = begin(&topology(&["a", "b"]), vec![add("c")]).unwrap();
    let begun = begun.at(Epoch(u64::MAX));
    assert_eq!(begun.stepped(&BTreeSet::new()), refused);
    assert_eq!(begun.cancelled(), refused);
}

#[test]
fn a_request_reads_as_it_is_written() {
    let request = ChangeRequest {
        nodes: vec![
            add("a"),
            remove("b"),
            replace("c", "d"),
            set("e", Some(7), None),
            set("f", None, Some("")),
        ],
        factors: vec![FactorRequest {
            tenant: "shop".into(),
            factor: 5,
        }],
    };
    let written = serde_json::to_string(&request).unwrap();
    insta::assert_snapshot!(written, @r#"{"nodes":[{"add":{"id":"a","host":"a","port":50052,"virtual_nodes":150,"status":"active"}},{"remove":{"id":"b","force":false}},{"replace":{"id":"c","by":{"id":"d","host":"d","port":50052,"virtual_nodes":150,"status":"active"},"force":false}},{"set":{"id":"e","virtual_nodes":7}},{"set":{"id":"f","zone":""}}],"factors":[{"tenant":"shop","factor":5}]}"#);
    let read: ChangeRequest = serde_json::from_str(&written).unwrap();
    assert_eq!(read, request);
    assert_eq!(
        serde_json::from_str::<ChangeRequest>("{}").unwrap(),
        ChangeRequest::default()
    );
}

/// Any small topology, some of whose nodes are in zones, and anything that may be asked of it. Nodes drain only while
/// owners change.
fn any_change() -> impl Strategy<Value = (Topology, ChangeRequest)> {
    let zones = prop::collection::vec(prop::option::weighted(0.7, 0..3u8), 14);
    let what = (0..5u8, any::<prop::sample::Index>(), 1..40u32, 0..4u8);
    let requests = prop::collection::vec(what, 1..5);
    (any_topology(), zones, any::<bool>(), requests).prop_map(
        |(mut topology, zones, has_zones, requests)| {
            for (node, zone) in topology.nodes.iter_mut().zip(zones) {
                node.zone = zone.filter(|_| has_zones).map(|zone| format!("z{zone}"));
                if node.status == NodeStatus::Draining {
                    node.status = NodeStatus::Active;
                }
            }
            let requests = (0..).zip(requests);
            let nodes = requests.map(|request| any_node_change(&topology, request));
            let (nodes, factors) = (nodes.collect(), Vec::new());
            (topology, ChangeRequest { nodes, factors })
        },
    )
}

fn any_node_change(
    topology: &Topology,
    (number, (kind, index, weight, zone)): (usize, (u8, prop::sample::Index, u32, u8)),
) -> NodeChange {
    // Sorted before, between and after the others.
    let name = format!("{}-{number}x", ["a", "node", "z"][number % 3]);
    let new = Node {
        virtual_nodes: weight,
        zone: (zone > 0).then(|| format!("z{zone}")),
        ..node(&name)
    };
    let id = match topology.nodes.len() {
        0 => id("nobody"),
        len => topology.nodes[index.index(len)].id.clone(),
    };
    match kind {
        0 => NodeChange::Remove { id, force: false },
        1 => NodeChange::Replace {
            id,
            by: new,
            force: false,
        },
        2 => NodeChange::Set {
            id,
            virtual_nodes: Some(weight),
            zone: (zone > 0).then(|| format!("z{zone}")),
        },
        _ => NodeChange::Add(new),
    }
}

/// Begins it, unless it can't be for a reason that is one.
fn begun_if_it_can(topology: &Topology, request: &ChangeRequest) -> Option<Topology> {
    let factors = vec![factor("grows", 1, 3), factor("shrinks", 5, 2)];
    let factors = factors
        .into_iter()
        .filter(|_| topology.epoch.0.is_multiple_of(2));
    match topology.begun(ChangeId::of_number(1), request, factors.collect()) {
        Ok(begun) => Some(begun),
        Err(RefusedChange::Unknown(_) | RefusedChange::Nothing | RefusedChange::NobodyLeft) => None,
        Err(error) => panic!("refused: {error}"),
    }
}

proptest! {
    /// All stages are sound, one epoch after the other, and read as they are written. The first one's owners are those
    /// before it, the last one's are those that the nodes alone come to.
    #[test]
    fn a_change_leads_from_the_owners_before_to_those_after(
        (topology, request) in any_change(),
        epoch in 1..3u64,
    ) {
        let before = topology.at(Epoch(epoch));
        let Some(begun) = begun_if_it_can(&before, &request) else { return Ok(()) };
        let (target, _) = request.applied_to(&before.nodes).unwrap();
        let stages = stages_to_the_end(begun);
        for (stage, epoch) in stages.iter().zip(epoch + 1..) {
            prop_assert_eq!(stage.epoch, Epoch(epoch));
            prop_assert_eq!(stage.validate(), Ok(()));
            let written = serde_json::to_string(stage).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Topology>(&written).unwrap(), stage);
        }
        let (moved, finished) = (&stages[stages.len() - 2], &stages[stages.len() - 1]);
        let direct = Topology::new(finished.epoch, before.partitions, target).unwrap();
        let factors_since = match epoch {
            2 => finished.epoch,
            _ => Epoch(0),
        };
        prop_assert_eq!(finished, &Topology { factors_since, ..direct });
        for r in [1, 3, 10, 255] {
            // Where nobody owns anything, those that join do at once.
            let first = match before.nodes.iter().any(|node| node.status.owns()) {
                true => &before,
                false => finished,
            };
            prop_assert_eq!(owners(&stages[0], r), owners(first, r));
            prop_assert_eq!(owners(moved, r), owners(finished, r));
        }
    }

    /// However far partitions had come, and whether or not some were moved back before others.
    #[test]
    fn a_cancelled_change_leaves_no_trace(
        (topology, request) in any_change(),
        epoch in 1..3u64,
        steps in prop::collection::vec(prop::collection::vec(any::<bool>(), 300), 0..6),
    ) {
        let before = topology.at(Epoch(epoch));
        let Some(mut some) = begun_if_it_can(&before, &request) else { return Ok(()) };
        for step in steps {
            let unmoved = unmoved(&some);
            let stepping = unmoved.iter().filter(|partition| step[usize::from(partition.0)]);
            some = some.stepped(&stepping.copied().collect()).unwrap();
        }
        let back = some.cancelled().unwrap();
        for (there, back) in change(&some).moves.iter().zip(&change(&back).moves) {
            prop_assert_eq!(there.state == MoveState::Moved, back.state == MoveState::Waiting);
        }
        let over = to_the_end(back);
        let factors_since = match epoch {
            2 => over.epoch,
            _ => Epoch(0),
        };
        let expected = Topology { factors_since, ..before.at(over.epoch) };
        prop_assert_eq!(over, expected);
    }
}
