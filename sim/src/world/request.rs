//! What a planned change of owners is as a coordinator gets it.

use pairdb::placement::{ChangeRequest, FactorRequest, Node, NodeChange, NodeId, NodeStatus};

use super::{ChangePlan, World};
use crate::endpoint::Endpoint;

impl World {
    /// The request that a coordinator gets.
    #[must_use]
    pub fn request(&self, plan: &ChangePlan) -> ChangeRequest {
        let mut nodes = Vec::new();
        nodes.extend(plan.add.iter().map(|who| NodeChange::Add(self.node(*who))));
        let removed = |who: &Endpoint, force| NodeChange::Remove {
            id: node_id(*who),
            force,
        };
        nodes.extend(plan.remove.iter().map(|who| removed(who, false)));
        nodes.extend(plan.give_up.iter().map(|who| removed(who, true)));
        nodes.extend(plan.replace.iter().map(|replacement| NodeChange::Replace {
            id: node_id(replacement.who),
            by: self.node(replacement.by),
            force: replacement.force,
        }));
        nodes.extend(plan.set.iter().map(|setting| NodeChange::Set {
            id: node_id(setting.who),
            virtual_nodes: setting.virtual_nodes,
            zone: setting.zone.clone(),
        }));
        let factors = plan.factors.iter().map(|(tenant, factor)| FactorRequest {
            tenant: tenant.as_str().into(),
            factor: *factor,
        });
        ChangeRequest {
            nodes,
            factors: factors.collect(),
        }
    }

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

/// A storage node's id.
fn node_id(who: Endpoint) -> NodeId {
    NodeId::new(who.id()).expect("a node's id is valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Replacement;

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
        let request = world.request(&plan);
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
