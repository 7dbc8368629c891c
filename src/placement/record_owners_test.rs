//! What reads and writes need of owners that change.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::placement::sample::node;
use crate::placement::{
    ChangeId, ChangeRequest, Epoch, FactorChange, Node, NodeChange, NodeId, PartitionId, Placement,
    Topology,
};

fn change(factors: &[(&str, u8, u8)]) -> TopologyChange {
    let factors = factors.iter().map(|(tenant, from, to)| FactorChange {
        tenant: Arc::from(*tenant),
        from: *from,
        to: *to,
    });
    TopologyChange {
        id: ChangeId::of_number(1),
        target: Vec::new(),
        given_up: Vec::new(),
        factors: factors.collect(),
        cancelled: false,
        moves: Vec::new(),
    }
}

/// Owners of the tenant `shop` in each state.
fn in_each_state(
    from: &[u16],
    to: &[u16],
    factor: u8,
    factors: &[(&str, u8, u8)],
    given_up: &[u16],
) -> [RecordOwners; 4] {
    MoveState::ALL.map(|state| {
        let moving = Move {
            partition: PartitionId(0),
            state,
            since: Epoch(1),
            from: from.to_vec(),
            to: to.to_vec(),
            left: Vec::new(),
            again: false,
        };
        let is_given_up = |node| given_up.contains(&node);
        RecordOwners::moving(&change(factors), &moving, ("shop", factor), is_given_up)
    })
}

/// The nodes of a set.
fn members(owners: &RecordOwners, set: OwnerSet) -> Vec<u16> {
    let nodes = (0..).zip(owners.nodes());
    let members = nodes.filter(|(position, _)| set.positions & 1 << position != 0);
    members.map(|(_, node)| *node).collect()
}

/// What writes need, what reads need, and who is asked in a read, as text.
fn shown(owners: &RecordOwners) -> String {
    let sets = |second: Option<OwnerSet>| {
        let sets = [Some(owners.first), second];
        let sets = sets.into_iter().flatten();
        let sets = sets.map(|set| format!("{:?}", members(owners, set)));
        sets.collect::<Vec<_>>().join("+")
    };
    let readers: Vec<u16> = owners.read_nodes().collect();
    let reads = sets(owners.second.filter(|_| owners.reads_both));
    format!("W {} R {reads} of {readers:?}", sets(owners.second))
}

fn table(owners: [RecordOwners; 4]) -> String {
    owners.each_ref().map(shown).join("\n")
}

#[test]
fn owners_that_overlap() {
    insta::assert_snapshot!(table(in_each_state(&[1, 2, 3, 7], &[4, 1, 3, 7], 3, &[], &[])), @r"
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[1, 3, 4] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[1, 3, 4] R [1, 2, 3]+[1, 3, 4] of [1, 2, 3, 4]
    W [4, 1, 3] R [4, 1, 3] of [4, 1, 3]
    ");
}

#[test]
fn owners_that_have_nobody_in_common() {
    insta::assert_snapshot!(table(in_each_state(&[1, 2, 3], &[4, 5, 6], 3, &[], &[])), @r"
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[4, 5, 6] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[4, 5, 6] R [1, 2, 3]+[4, 5, 6] of [1, 2, 3, 4, 5, 6]
    W [4, 5, 6] R [4, 5, 6] of [4, 5, 6]
    ");
}

/// Their order is the old one until the partition is moved.
#[test]
fn owners_that_stay() {
    insta::assert_snapshot!(table(in_each_state(&[1, 2, 3, 4], &[3, 1, 2, 5], 3, &[], &[])), @r"
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    W [3, 1, 2] R [3, 1, 2] of [3, 1, 2]
    ");
}

#[test]
fn owners_of_every_factor() {
    let (from, to) = ([1, 2, 3, 4, 5, 6], [1, 3, 7, 2, 5, 8]);
    let shown: Vec<String> = (1..=5)
        .map(|r| {
            let owners = in_each_state(&from, &to, r, &[], &[]);
            format!("R={r}\n{}", table(owners))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    R=1
    W [1] R [1] of [1]
    W [1] R [1] of [1]
    W [1] R [1] of [1]
    W [1] R [1] of [1]
    R=2
    W [1, 2] R [1, 2] of [1, 2]
    W [1, 2]+[1, 3] R [1, 2] of [1, 2]
    W [1, 2]+[1, 3] R [1, 2]+[1, 3] of [1, 2, 3]
    W [1, 3] R [1, 3] of [1, 3]
    R=3
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[1, 3, 7] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[1, 3, 7] R [1, 2, 3]+[1, 3, 7] of [1, 2, 3, 7]
    W [1, 3, 7] R [1, 3, 7] of [1, 3, 7]
    R=4
    W [1, 2, 3, 4] R [1, 2, 3, 4] of [1, 2, 3, 4]
    W [1, 2, 3, 4]+[1, 2, 3, 7] R [1, 2, 3, 4] of [1, 2, 3, 4]
    W [1, 2, 3, 4]+[1, 2, 3, 7] R [1, 2, 3, 4]+[1, 2, 3, 7] of [1, 2, 3, 4, 7]
    W [1, 3, 7, 2] R [1, 3, 7, 2] of [1, 3, 7, 2]
    R=5
    W [1, 2, 3, 4, 5] R [1, 2, 3, 4, 5] of [1, 2, 3, 4, 5]
    W [1, 2, 3, 4, 5]+[1, 2, 3, 5, 7] R [1, 2, 3, 4, 5] of [1, 2, 3, 4, 5]
    W [1, 2, 3, 4, 5]+[1, 2, 3, 5, 7] R [1, 2, 3, 4, 5]+[1, 2, 3, 5, 7] of [1, 2, 3, 4, 5, 7]
    W [1, 3, 7, 2, 5] R [1, 3, 7, 2, 5] of [1, 3, 7, 2, 5]
    ");
}

#[test]
fn a_factor_that_grows() {
    let factors = [("mall", 3, 1), ("shop", 1, 3)];
    // What the tenant's row says is not asked then: it may be of either side.
    for factor in [1, 3] {
        let owners = in_each_state(&[1, 2, 3], &[1, 2, 3], factor, &factors, &[]);
        insta::allow_duplicates! { insta::assert_snapshot!(table(owners), @r"
    W [1] R [1] of [1]
    W [1]+[1, 2, 3] R [1] of [1]
    W [1]+[1, 2, 3] R [1]+[1, 2, 3] of [1, 2, 3]
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    "); }
    }
}

#[test]
fn a_factor_that_shrinks_while_owners_change() {
    let factors = [("shop", 3, 2)];
    insta::assert_snapshot!(table(in_each_state(&[1, 2, 3], &[4, 1, 2], 3, &factors, &[])), @r"
    W [1, 2, 3] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[1, 4] R [1, 2, 3] of [1, 2, 3]
    W [1, 2, 3]+[1, 4] R [1, 2, 3]+[1, 4] of [1, 2, 3, 4]
    W [4, 1] R [4, 1] of [4, 1]
    ");
}

#[test]
fn a_factor_of_another_tenant() {
    let owners = in_each_state(&[1, 2, 3], &[1, 2, 3], 2, &[("mall", 1, 3)], &[]);
    for owners in owners {
        assert_eq!(owners, RecordOwners::stable(&[1, 2]));
    }
}

#[test]
fn an_old_owner_that_is_given_up() {
    let owners = in_each_state(&[1, 2, 3], &[1, 3, 4], 3, &[], &[2]);
    let first = owners[0].first;
    assert_eq!((first.len(), first.listed), (2, 3));
    insta::assert_snapshot!(table(owners), @r"
    W [1, 3] R [1, 3] of [1, 3]
    W [1, 3]+[1, 3, 4] R [1, 3] of [1, 3]
    W [1, 3]+[1, 3, 4] R [1, 3]+[1, 3, 4] of [1, 3, 4]
    W [1, 3, 4] R [1, 3, 4] of [1, 3, 4]
    ");
}

#[test]
fn all_old_owners_given_up() {
    for owners in in_each_state(&[1, 2], &[3, 4], 2, &[], &[1, 2]) {
        assert_eq!(owners, RecordOwners::stable(&[3, 4]));
    }
    // And where there was no owner before.
    for owners in in_each_state(&[], &[3, 4], 2, &[], &[]) {
        assert_eq!(owners, RecordOwners::stable(&[3, 4]));
    }
}

#[test]
fn there_are_no_more_owners_than_can_be() {
    let (from, to): (Vec<u16>, Vec<u16>) = ((0..10).collect(), (10..20).collect());
    let [.., handing_over, _] = in_each_state(&from, &to, 255, &[], &[]);
    assert_eq!(handing_over.nodes().len(), MAX_POSITIONS);
    assert_eq!(handing_over.readers(), (1 << MAX_POSITIONS) - 1);
    let many: Vec<u16> = (0..30).collect();
    assert_eq!(RecordOwners::stable(&many).nodes(), &many[..MAX_OWNERS]);
    assert_eq!(RecordOwners::stable(&many).first.len(), MAX_OWNERS);
}

#[test]
fn as_many_answer_as_meet_every_quorum_before() {
    let set = |left: u32, listed| OwnerSet {
        positions: (1 << left) - 1,
        listed,
    };
    for listed in 0..=10u8 {
        let all = set(u32::from(listed), listed);
        assert_eq!(all.quorum_of_listed(), 0, "nobody was given up");
        let quorum = usize::from(listed / 2 + 1);
        for left in 0..listed {
            let some = set(u32::from(left), listed);
            let needed = some.quorum_of_listed();
            // So many of those that were there before acknowledged a write that are left, at the least.
            let acknowledged = quorum.saturating_sub(usize::from(listed - left));
            let meets = acknowledged + needed > usize::from(left);
            assert_eq!(meets, acknowledged > 0, "{left} of {listed} are left");
            assert!(needed <= usize::from(left));
        }
    }
}

/// Nodes as bits: by their names, because indices differ from one topology to the next.
#[derive(Default, Debug)]
struct Names(Vec<NodeId>);

impl Names {
    fn bit(&mut self, id: &NodeId) -> u32 {
        let known = self.0.iter().position(|known| known == id);
        let bit = known.unwrap_or_else(|| {
            self.0.push(id.clone());
            self.0.len() - 1
        });
        1 << bit
    }

    fn of(&self, nodes: u32) -> Vec<&NodeId> {
        let names = self.0.iter().enumerate();
        let chosen = names.filter(|(bit, _)| nodes & 1 << bit != 0);
        chosen.map(|(_, id)| id).collect()
    }
}

/// So many of each of these sets of nodes are needed.
type Needs = Vec<(u32, usize)>;

fn is_met_by(needs: &Needs, nodes: u32) -> bool {
    let met = |(set, quorum): &(u32, usize)| (set & nodes).count_ones() as usize >= *quorum;
    needs.iter().all(met)
}

/// Nodes that have all that one needs, while all others have what the other needs: if there are any.
fn that_miss_each_other(one: &Needs, other: &Needs) -> Option<u32> {
    let all = one.iter().chain(other).fold(0, |all, (set, _)| all | set);
    let mut some = (0..=all).filter(|nodes| nodes & !all == 0);
    some.find(|nodes| is_met_by(one, *nodes) && is_met_by(other, all & !nodes))
}

/// A cluster, what becomes of its nodes, and a tenant's factor before and after.
#[derive(Clone, Debug)]
struct Case {
    before: Topology,
    request: ChangeRequest,
    factors: (u8, u8),
}

fn any_case(gives_up: bool) -> impl Strategy<Value = Case> {
    let changes = prop::collection::vec((0..4u8, any::<prop::sample::Index>()), 1..4);
    (1..8usize, 1..6u8, 1..6u8, changes, any::<bool>()).prop_map(
        move |(nodes, from, to, changes, keeps)| {
            let small = |name: &str| Node {
                virtual_nodes: 4,
                ..node(name)
            };
            let nodes: Vec<Node> = (0..nodes).map(|n| small(&format!("node-{n}"))).collect();
            let changes = (0..).zip(changes).map(|(n, (kind, index))| {
                let id = nodes[index.index(nodes.len())].id.clone();
                let by = small(&format!("{}-{n}x", ["a", "node", "z"][n % 3]));
                let force = gives_up;
                match kind {
                    0 => NodeChange::Remove { id, force },
                    1 => NodeChange::Replace { id, by, force },
                    2 => NodeChange::Set {
                        id,
                        virtual_nodes: Some(9),
                        zone: Some(format!("zone-{}", n % 2)),
                    },
                    _ => NodeChange::Add(by),
                }
            });
            Case {
                request: ChangeRequest {
                    nodes: changes.collect(),
                    factors: Vec::new(),
                },
                before: Topology::new(Epoch(1), 4, nodes.clone()).unwrap(),
                factors: (from, if keeps { from } else { to }),
            }
        },
    )
}

/// One topology, and the factor that the tenant's row may have with it.
type Stage = (Topology, u8);

/// Each pair of stages that may follow each other, those of a change that is cancelled included.
fn steps_of(case: &Case) -> Vec<(Stage, Stage)> {
    let (from, to) = case.factors;
    let tenant = Arc::from("shop");
    let factors = (from != to).then_some(FactorChange { tenant, from, to });
    let factors = factors.into_iter().collect();
    let before = (case.before.clone(), from);
    let Ok(begun) = case
        .before
        .begun(ChangeId::of_number(1), &case.request, factors)
    else {
        return Vec::new();
    };
    let mut steps = vec![(before, (begun.clone(), from))];
    let there = follow(begun, (from, to), &mut steps);
    for stage in there {
        if let Ok(back) = stage.cancelled() {
            steps.push(((stage, from), (back.clone(), from)));
            follow(back, (to, from), &mut steps);
        }
    }
    steps
}

/// The stages from one on, until the change is over. What a row says doesn't count until then.
fn follow(first: Topology, (from, to): (u8, u8), steps: &mut Vec<(Stage, Stage)>) -> Vec<Topology> {
    let mut stages = vec![first];
    loop {
        let last = stages[stages.len() - 1].clone();
        let change = last.change.as_deref().unwrap();
        let unmoved = change
            .moves
            .iter()
            .filter(|moving| moving.state != MoveState::Moved);
        let unmoved: BTreeSet<PartitionId> = unmoved.map(|moving| moving.partition).collect();
        if unmoved.is_empty() {
            let over = last.finished().unwrap();
            steps.push(((last, from), (over, to)));
            return stages;
        }
        let next = last.stepped(&unmoved).unwrap();
        steps.push(((last, from), (next.clone(), from)));
        stages.push(next);
    }
}

/// What writes and reads need with `quorum` in a partition.
fn needs_of((topology, factor): &Stage, partition: PartitionId, names: &mut Names) -> [Needs; 2] {
    let placement = Placement::build(topology.clone());
    let owners = placement.record_owners(partition, "shop", *factor);
    let mut need = |set: OwnerSet| {
        let quorum = (set.len() / 2 + 1).max(set.quorum_of_listed());
        let members = members(&owners, set).into_iter();
        let bits = members.map(|index| names.bit(&placement.node(index).id));
        (bits.fold(0, |all, bit| all | bit), quorum)
    };
    let of_first = need(owners.first);
    let of_second = owners.second.map(need);
    let writes = std::iter::once(of_first).chain(of_second).collect();
    let read_too = of_second.filter(|_| owners.reads_both);
    let reads = std::iter::once(of_first).chain(read_too).collect();
    [writes, reads]
}

/// Whether half of the old owners of a partition are left at least. Nobody can say otherwise what they had.
fn are_left((topology, factor): &Stage, partition: PartitionId) -> bool {
    let placement = Placement::build(topology.clone());
    let Some(moving) = placement.moving(partition) else {
        return true;
    };
    let change = topology.change.as_deref().unwrap();
    let factor = change.factor("shop").map_or(*factor, |factor| factor.from);
    let old = &moving.from[..moving.from.len().min(usize::from(factor))];
    let left = old.iter().filter(|node| !placement.is_given_up(**node));
    2 * left.count() >= old.len()
}

/// Fails unless a write by one of two stages is met by every read by the other, and by every one by the same.
fn reads_meet_writes(case: &Case) -> Result<(), TestCaseError> {
    for (one, other) in steps_of(case) {
        for partition in (0..4).map(PartitionId) {
            if !are_left(&one, partition) || !are_left(&other, partition) {
                continue;
            }
            let mut names = Names::default();
            let [one_writes, one_reads] = needs_of(&one, partition, &mut names);
            let [other_writes, other_reads] = needs_of(&other, partition, &mut names);
            for (writes, reads) in [
                (&one_writes, &other_reads),
                (&other_writes, &one_reads),
                (&one_writes, &one_reads),
                (&other_writes, &other_reads),
            ] {
                let missed = that_miss_each_other(writes, reads);
                let missed = missed.map(|nodes| names.of(nodes));
                prop_assert!(
                    missed.is_none(),
                    "written to {missed:?} only in {partition:?}, from {one:?} to {other:?}"
                );
            }
        }
    }
    Ok(())
}

proptest! {
    /// Whatever changes, a write by one epoch is met by every quorum read by the next one, and the other way round.
    #[test]
    fn a_read_meets_every_write_of_the_state_before_and_after(case in any_case(false)) {
        reads_meet_writes(&case)?;
    }

    /// The same where owners are given up, as long as half of the old ones are left.
    #[test]
    fn what_a_quorum_has_is_found_without_those_given_up(case in any_case(true)) {
        reads_meet_writes(&case)?;
    }
}

/// The brute force finds what it looks for.
#[test]
fn quorums_that_miss_each_other_are_found() {
    let old = vec![(0b0111, 2)];
    let new = vec![(0b1110, 2)];
    let both = [old.clone(), new.clone()].concat();
    assert_eq!(that_miss_each_other(&old, &new), Some(0b0011));
    for needs in [&old, &new] {
        assert_eq!(that_miss_each_other(&both, needs), None);
        assert_eq!(that_miss_each_other(needs, &both), None);
    }
    let short = vec![(0b0111, 1)];
    assert_eq!(that_miss_each_other(&old, &short), Some(0b0011));
}
