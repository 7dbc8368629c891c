//! Who owned what, and when: each topology that was published, with the replication factors in force.
//!
//! While a partition moves it has two sets of owners. Who they are is told from what is stored of the move, not by the
//! product's own functions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pairdb::placement::{MoveState, Node, PartitionId, Placement, Topology};
use pairdb::ports::{RecordKey, TenantId, TreeName};
use pairdb::quorum::Consistency;

use crate::endpoint::Endpoint;
use crate::op::Time;
use crate::world::World;

/// One topology, from when it was published until the next one was.
#[derive(Clone, Debug)]
pub struct Reign {
    /// Since when.
    pub since: Time,
    /// Who owns which partition.
    pub placement: Placement,
    /// Each tenant's replication factor where no change says otherwise.
    pub factors: BTreeMap<String, u8>,
}

/// Owners of which an operation needs a quorum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnersOf {
    /// Who they are, without those that were given up.
    pub nodes: Vec<Endpoint>,
    /// So many of them are a quorum.
    pub quorum: usize,
}

/// Owners as they are listed.
struct OwnerList {
    /// Without those that were given up.
    nodes: Vec<Node>,
    /// How many there were before.
    listed: usize,
}

/// The owners that operations need, each list for itself.
struct OwnerLists {
    lists: Vec<OwnerList>,
    /// Whether reads need the second list, too.
    reads_both: bool,
}

impl OwnersOf {
    fn of(list: OwnerList) -> Self {
        let nodes: Vec<Endpoint> = list.nodes.iter().map(endpoint).collect();
        let meets_all = match nodes.len() < list.listed {
            true => list.listed.div_ceil(2).min(nodes.len()),
            false => 0,
        };
        Self {
            quorum: (nodes.len() / 2 + 1).max(meets_all),
            nodes,
        }
    }

    /// How many of them an operation of this consistency needs.
    #[must_use]
    pub fn required(&self, consistency: Consistency) -> usize {
        match consistency {
            Consistency::One => self.nodes.len().min(1),
            Consistency::Quorum => self.quorum.min(self.nodes.len()),
            Consistency::All => self.nodes.len(),
        }
    }
}

impl Reign {
    /// The first one of a world.
    #[must_use]
    pub fn first(world: &World, topology: Topology) -> Self {
        let tenants = world.tenants.iter();
        let factors = tenants.map(|tenant| (tenant.name.clone(), tenant.replication_factor));
        Self {
            since: 0,
            placement: Placement::build(topology),
            factors: factors.collect(),
        }
    }

    /// The one that follows it. A change's factors are those of the tenants once it has ended.
    #[must_use]
    pub fn succeeded(&self, since: Duration, topology: Topology) -> Self {
        let mut factors = self.factors.clone();
        if let Some(change) = &self.placement.topology().change
            && topology.change.is_none()
        {
            let ended = change.factors.iter();
            factors.extend(ended.map(|factor| (factor.tenant.to_string(), factor.to)));
        }
        Self {
            since: since.as_nanos() as Time,
            placement: Placement::build(topology),
            factors,
        }
    }

    /// A record's name.
    #[must_use]
    pub fn record_key(&self, tenant: &str, key: &str) -> RecordKey {
        let partition = self.placement.route(tenant, key);
        let tenant = TenantId::new(tenant).expect("a tenant's name is valid");
        RecordKey::new(partition, &tenant, key)
    }

    /// Every owner of a tree, the old ones and the new ones, in order of preference.
    #[must_use]
    pub fn owners(&self, tree: &TreeName) -> Vec<Endpoint> {
        self.listed(tree).iter().map(endpoint).collect()
    }

    /// The same as the topology lists them.
    #[must_use]
    pub fn listed(&self, tree: &TreeName) -> Vec<Node> {
        let mut listed: Vec<Node> = Vec::new();
        for set in self.owner_lists(tree).lists {
            for node in set.nodes {
                if !listed.contains(&node) {
                    listed.push(node);
                }
            }
        }
        listed
    }

    /// The sets of owners of which a quorum operation needs a quorum each: the old ones, and the new ones where a
    /// partition is copied or handed over.
    #[must_use]
    pub fn sets(&self, tree: &TreeName) -> Vec<OwnersOf> {
        let lists = self.owner_lists(tree).lists;
        lists.into_iter().map(OwnersOf::of).collect()
    }

    /// Those of them of which reads need a quorum each: the old ones until a partition is handed over, then both.
    #[must_use]
    pub fn read_sets(&self, tree: &TreeName) -> Vec<OwnersOf> {
        let owners = self.owner_lists(tree);
        let needed = if owners.reads_both { 2 } else { 1 };
        let lists = owners.lists.into_iter().take(needed);
        lists.map(OwnersOf::of).collect()
    }

    /// Those that reads use, and that accept writes.
    #[must_use]
    pub fn readers(&self, tree: &TreeName) -> Vec<Endpoint> {
        let sets = self.read_sets(tree).into_iter();
        sets.flat_map(|set| set.nodes).collect()
    }

    /// Who owns a tree. Written out here once more: the product's own function may be the one that is wrong.
    fn owner_lists(&self, tree: &TreeName) -> OwnerLists {
        let topology = self.placement.topology();
        let factor = self.factors.get(tree.tenant()).copied().unwrap_or_default();
        let stable = |nodes: &[u16], factor: u8| OwnerList {
            nodes: self.first_of(nodes, factor),
            listed: nodes.len().min(usize::from(factor)),
        };
        let alone = |list: OwnerList| OwnerLists {
            lists: vec![list],
            reads_both: false,
        };
        let change = topology.change.as_ref();
        let Some((change, moving)) = change.and_then(|it| Some((it, it.of(tree.partition())?)))
        else {
            let owners = self
                .placement
                .record_owners(tree.partition(), tree.tenant(), factor);
            return alone(stable(owners.nodes(), factor));
        };
        let changed = change.factor(tree.tenant());
        let (before, after) = match changed {
            None => (factor, factor),
            Some(it) if moving.again => (it.to, it.to), // it was moved before, and has that factor
            Some(it) => (it.from, it.to),
        };
        let (mut old, new) = (stable(&moving.from, before), stable(&moving.to, after));
        let are_same = old.nodes.len() == new.nodes.len()
            && old.nodes.iter().all(|node| new.nodes.contains(node));
        old.nodes.retain(|node| !change.given_up.contains(&node.id));
        match moving.state {
            MoveState::Moved => alone(new),
            _ if old.nodes.is_empty() => alone(new),
            _ if are_same || moving.state == MoveState::Waiting => alone(old),
            state => OwnerLists {
                lists: vec![old, new],
                reads_both: state == MoveState::HandingOver,
            },
        }
    }

    fn first_of(&self, nodes: &[u16], factor: u8) -> Vec<Node> {
        let first = nodes.iter().take(usize::from(factor));
        first.map(|it| self.placement.node(*it).clone()).collect()
    }

    /// The nodes that the topology lists.
    #[must_use]
    pub fn members(&self) -> BTreeSet<Endpoint> {
        let nodes = self.placement.topology().nodes.iter();
        nodes.map(endpoint).collect()
    }

    /// Whether owners change.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.placement.topology().change.is_some()
    }

    /// Whether it is by this topology that a partition came into the state that it is in.
    #[must_use]
    pub fn has_stepped(&self, partition: PartitionId) -> bool {
        let topology = self.placement.topology();
        let change = topology.change.as_ref();
        let moving = change.and_then(|change| change.of(partition));
        moving.is_some_and(|moving| moving.since == topology.epoch)
    }

    /// The nodes that the change under way takes for lost.
    #[must_use]
    pub fn given_up(&self) -> BTreeSet<Endpoint> {
        let topology = self.placement.topology();
        let lost = topology.change.iter().flat_map(|change| &change.given_up);
        lost.filter_map(|id| topology.node(id).map(endpoint))
            .collect()
    }
}

/// Which machine a node of the topology is: its port is its number.
#[must_use]
pub const fn endpoint(node: &Node) -> Endpoint {
    Endpoint::Storage(node.port as u8)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use pairdb::placement::{ChangeId, Epoch, FactorChange, PartitionId, TopologyChange};

    use super::*;
    use crate::world::{ChangePlan, Replacement, TenantPlan};

    /// Three founders and a spare, one partition, a tenant `t` with three owners.
    pub(crate) fn world() -> World {
        World {
            storage_nodes: 3,
            spare_nodes: 1,
            partitions: 1,
            tenants: vec![TenantPlan {
                name: "t".to_owned(),
                ..TenantPlan::default()
            }],
            ..World::default()
        }
    }

    /// The world's first reign.
    pub(crate) fn founded(world: &World) -> Reign {
        let nodes = world.founders().into_iter().map(|who| world.node(who));
        let topology = Topology::new(Epoch(1), world.partitions, nodes.collect());
        Reign::first(world, topology.expect("a topology"))
    }

    /// One node takes the place of another one.
    pub(crate) fn replacing(who: Endpoint, by: Endpoint, force: bool) -> ChangePlan {
        ChangePlan {
            replace: vec![Replacement { who, by, force }],
            ..ChangePlan::default()
        }
    }

    /// The reign that follows when a change is begun, `ms` after the start.
    pub(crate) fn begun(world: &World, reign: &Reign, plan: &ChangePlan, ms: u64) -> Reign {
        let factors = plan.factors.iter().map(|(tenant, to)| FactorChange {
            tenant: tenant.as_str().into(),
            from: reign.factors[tenant],
            to: *to,
        });
        let next = reign.placement.topology().begun(
            ChangeId::of_number(1),
            &world.request(plan),
            factors.collect(),
        );
        reign.succeeded(Duration::from_millis(ms), next.expect("a change"))
    }

    /// The reign in which its only partition has come one step further.
    pub(crate) fn stepped(reign: &Reign, ms: u64) -> Reign {
        let next = reign.placement.topology().stepped(&[PartitionId(0)].into());
        reign.succeeded(Duration::from_millis(ms), next.expect("a step"))
    }

    #[test]
    fn while_a_partition_moves_both_sets_are_its_owners() {
        let world = world();
        let [n1, n2, n3, n4] = [1, 2, 3, 4].map(Endpoint::Storage);
        let first = founded(&world);
        let tree = first.record_key("t", "k").tree();
        let sorted = |mut nodes: Vec<Endpoint>| {
            nodes.sort();
            nodes
        };
        assert_eq!(sorted(first.owners(&tree)), [n1, n2, n3]);
        assert_eq!(first.sets(&tree).len(), 1);
        let waiting = begun(&world, &first, &replacing(n1, n4, true), 10);
        assert_eq!(waiting.given_up(), [n1].into());
        let copying = stepped(&waiting, 20);
        let sets = copying.sets(&tree);
        assert_eq!(sorted(sets[0].nodes.clone()), [n2, n3]);
        assert_eq!(sorted(sets[1].nodes.clone()), [n2, n3, n4]);
        assert_eq!((sets[0].quorum, sets[1].quorum), (2, 2));
        assert!(copying.changes() && copying.members().contains(&n1));
        let moved = stepped(&stepped(&copying, 30), 40);
        assert_eq!(sorted(moved.owners(&tree)), [n2, n3, n4]);
    }

    #[test]
    fn a_factor_is_in_force_when_its_change_has_ended() {
        let world = world();
        let first = founded(&world);
        let mut topology = first.placement.topology().clone();
        let factor = FactorChange {
            tenant: "t".into(),
            from: 3,
            to: 1,
        };
        let moves = vec![pairdb::placement::Move {
            partition: PartitionId(0),
            state: pairdb::placement::MoveState::Moved,
            since: Epoch(2),
            from: vec![0, 1, 2],
            to: vec![0, 1, 2],
            left: Vec::new(),
            again: false,
        }];
        let ended = Topology {
            epoch: Epoch(3),
            ..topology.clone()
        };
        topology.change = Some(Arc::new(TopologyChange {
            id: ChangeId::of_number(1),
            target: topology.nodes.clone(),
            given_up: Vec::new(),
            factors: vec![factor],
            cancelled: false,
            moves,
        }));
        let tree = first.record_key("t", "k").tree();
        let changing = first.succeeded(Duration::from_secs(1), topology);
        assert_eq!(
            (changing.factors["t"], changing.owners(&tree).len()),
            (3, 1)
        );
        let ended = changing.succeeded(Duration::from_secs(2), ended);
        assert_eq!((ended.factors["t"], ended.owners(&tree).len()), (1, 1));
    }
}
