//! A change of owners as a world's operator asks for it, by the processes that it is about.

use std::collections::BTreeMap;

use pairdb::placement::{ChangeRequest, FactorRequest, Node, NodeChange, NodeId, NodeStatus};
use serde::{Deserialize, Serialize};

use super::World;
use crate::endpoint::Endpoint;

/// What is asked for: all of it is one change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangePlan {
    /// Storage nodes that join: spares, or nodes that were removed before. The operator gives one of these an empty
    /// disk first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Endpoint>,
    /// Whether a node that was removed before is added with what it holds, against all advice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_disks: bool,
    /// Those that leave, and hand over what they hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Endpoint>,
    /// Those that leave and are taken for lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub give_up: Vec<Endpoint>,
    /// Those whose place another one takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<Replacement>,
    /// Those that take another share, or are elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Setting>,
    /// Tenants that get another replication factor.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub factors: BTreeMap<String, u8>,
}

/// One node takes the place of another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// Who leaves.
    pub who: Endpoint,
    /// Who joins.
    pub by: Endpoint,
    /// Whether the one that leaves is taken for lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// A node's share and place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Whose.
    pub who: Endpoint,
    /// Its places on the ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_nodes: Option<u32>,
    /// Its zone; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl ChangePlan {
    /// Who joins by it.
    pub fn joining(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let by = self.replace.iter().map(|replacement| replacement.by);
        self.add.iter().copied().chain(by)
    }

    /// Who leaves by it.
    pub fn leaving(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let replaced = self.replace.iter().map(|replacement| replacement.who);
        let leaving = self.remove.iter().chain(&self.give_up);
        leaving.copied().chain(replaced)
    }

    /// The request that a coordinator gets.
    #[must_use]
    pub fn request(&self, world: &World) -> ChangeRequest {
        let mut nodes = Vec::new();
        nodes.extend(self.add.iter().map(|who| NodeChange::Add(world.node(*who))));
        let removed = |who: &Endpoint, force| NodeChange::Remove {
            id: node_id(*who),
            force,
        };
        nodes.extend(self.remove.iter().map(|who| removed(who, false)));
        nodes.extend(self.give_up.iter().map(|who| removed(who, true)));
        nodes.extend(self.replace.iter().map(|replacement| NodeChange::Replace {
            id: node_id(replacement.who),
            by: world.node(replacement.by),
            force: replacement.force,
        }));
        nodes.extend(self.set.iter().map(|setting| NodeChange::Set {
            id: node_id(setting.who),
            virtual_nodes: setting.virtual_nodes,
            zone: setting.zone.clone(),
        }));
        let factors = self.factors.iter().map(|(tenant, factor)| FactorRequest {
            tenant: tenant.as_str().into(),
            factor: *factor,
        });
        ChangeRequest {
            nodes,
            factors: factors.collect(),
        }
    }
}

/// A storage node's id.
fn node_id(who: Endpoint) -> NodeId {
    NodeId::new(who.id()).expect("a node's id is valid")
}

impl World {
    /// A storage node as the topology lists it: its number is its port.
    #[must_use]
    pub fn node(&self, who: Endpoint) -> Node {
        let number = match who {
            Endpoint::Storage(number) => number,
            _ => 0,
        };
        let zone = self.zones.get(usize::from(number).saturating_sub(1));
        Node {
            id: node_id(who),
            host: "simulated".into(),
            port: u16::from(number),
            virtual_nodes: self.virtual_nodes,
            status: NodeStatus::Active,
            zone: zone.filter(|zone| !zone.is_empty()).cloned(),
            seat: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_one_request_with_all_that_it_names() {
        let world = World {
            storage_nodes: 3,
            spare_nodes: 2,
            zones: vec![String::new(), String::new(), String::new(), "east".into()],
            ..World::default()
        };
        let [n1, n2, n4, n5] = [1, 2, 4, 5].map(Endpoint::Storage);
        let plan = ChangePlan {
            add: vec![n4],
            give_up: vec![n1],
            replace: vec![Replacement {
                who: n2,
                by: n5,
                force: false,
            }],
            factors: [("t".to_owned(), 2)].into(),
            ..ChangePlan::default()
        };
        let request = plan.request(&world);
        let [
            NodeChange::Add(added),
            NodeChange::Remove { id, force: true },
            NodeChange::Replace { by, .. },
        ] = &request.nodes[..]
        else {
            panic!("{request:?}");
        };
        assert_eq!((added.zone.as_deref(), added.port), (Some("east"), 4));
        assert_eq!((id, by.port), (&node_id(n1), 5));
        assert_eq!(request.factors[0].factor, 2);
        assert!(plan.joining().eq([n4, n5]) && plan.leaving().eq([n1, n2]));
    }
}
