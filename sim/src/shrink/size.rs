//! How large a story is, in numbers that shrinking makes smaller.

use crate::world::{ClientPlan, World};

/// How large a story is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Storage nodes.
    pub nodes: usize,
    /// Coordinators.
    pub coordinators: usize,
    /// Clients that do something.
    pub clients: usize,
    /// Operations.
    pub operations: usize,
    /// Faults and wrong clocks.
    pub faults: usize,
}

impl Size {
    /// The size of a world, of which a run is known to have had so many operations.
    #[must_use]
    pub fn of(world: &World, operations: usize) -> Self {
        let active = |client: &&ClientPlan| client.roams() || !client.steps.is_empty();
        let steps: usize = world.clients.iter().map(|client| client.steps.len()).sum();
        let habits = world.clients.iter().any(ClientPlan::roams);
        Self {
            nodes: world.storage().len(),
            coordinators: world.coordinators.into(),
            clients: world.clients.iter().filter(active).count(),
            operations: if habits { operations } else { steps },
            faults: world.faults.len() + world.clocks.len(),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            nodes,
            coordinators,
            clients,
            operations,
            faults,
        } = self;
        write!(
            f,
            "{operations} operations, {faults} faults, {clients} clients, {nodes} nodes, {coordinators} coordinators"
        )
    }
}
