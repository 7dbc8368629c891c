//! How the change under way goes on when a node is given up that it counts on.
//!
//! A node that never comes back would block it, and with it everything that was asked for since. So a migration that
//! waits for its turn, and takes that node for lost, need not wait with that: the change under way goes on without the
//! node (see [`Topology::amended`]). When its own turn comes, the node has left already.
//!
//! What this is not: a node that answers is not given up here, whatever is asked for; the change under way needs it and
//! has it.

use std::sync::Arc;

use super::super::CoordinatorError;
use super::super::older::refuse_older;
use super::super::routing::Routing;
use super::lead::Leader;
use super::memory::Memory;
use super::stored::open_migrations;
use super::turn::Outcome;
use crate::marks::{self, Mark};
use crate::placement::{ChangeRequest, MoveState, NodeId, Topology, TopologyChange};
use crate::ports::{
    CallError, Clock, CoordinatorWorld, Migration, MigrationStatus, Operation, ReplicaTransport,
    Request,
};

impl<W: CoordinatorWorld> Leader<W> {
    /// Has the change under way go on without nodes that a migration which waits takes for lost, if it counts on them.
    /// `None`: there are none.
    pub(super) async fn amend(
        &self,
        stored: &Topology,
        routing: &Arc<Routing>,
        change: &TopologyChange,
        memory: &Memory,
    ) -> Result<Option<Outcome>, CoordinatorError> {
        let open = open_migrations(&self.metadata).await?;
        let pending = |it: &Migration| it.status == MigrationStatus::Pending && !it.cancel;
        for migration in open.into_iter().filter(pending) {
            let mut lost = stored.newly_lost(&migration.request);
            lost.retain(|id| is_counted_on(stored, change, memory, id));
            let mut request = ChangeRequest::default();
            for id in &lost {
                if self.is_silent(routing, id).await {
                    let about = migration.request.nodes.iter();
                    request
                        .nodes
                        .extend(about.filter(|it| it.node() == id).cloned());
                }
            }
            if request.nodes.is_empty() {
                continue;
            }
            let next = match stored.amended(&request) {
                Ok(next) => next,
                Err(refused) => {
                    let why = format!("the end of {}: {refused}", change.id);
                    self.waits(&migration, why).await?;
                    continue;
                }
            };
            let until = self.world.clock().now() + self.settings.probe_interval;
            let amended = next.change.as_deref();
            if let Err(older) = refuse_older(&self.world, routing, amended, until).await {
                self.waits(&migration, older.to_string()).await?;
                continue;
            }
            let newcomers = next.nodes.iter();
            let newcomers = newcomers.filter(|node| stored.node(&node.id).is_none());
            if self
                .keeps_out(&migration, newcomers, next.epoch)
                .await?
                .is_some()
            {
                continue;
            }
            let published = self.publish(stored, next).await?;
            if published.went_on {
                marks::reached(Mark::ChangeAmended);
                let names = request.nodes.iter().map(|it| it.node().as_str());
                let names: Vec<&str> = names.collect();
                let lost = names.join(" and ");
                tracing::warn!(migration = %change.id, lost, "a change of owners goes on without a lost node");
                let why = format!("the end of {}, which goes on without {lost}", change.id);
                self.waits(&migration, why).await?;
            }
            return Ok(Some(published));
        }
        Ok(None)
    }

    /// Whether a node does not answer, not even to refuse.
    async fn is_silent(&self, routing: &Arc<Routing>, id: &NodeId) -> bool {
        let mut nodes = routing.nodes();
        let Some((node, health)) = nodes.find(|(node, _)| node.id == *id) else {
            return false;
        };
        if health.answers() {
            return false;
        }
        let probe = Request {
            node: id.clone(),
            epoch: routing.epoch(),
            operation: Operation::Probe,
        };
        let deadline = self.metadata.deadline();
        let answer = self.world.transport().call(node, probe, deadline).await;
        !matches!(answer, Ok(_) | Err(CallError::Refused(_)))
    }
}

/// Whether some partition can't come to its end without this node.
fn is_counted_on(stored: &Topology, change: &TopologyChange, memory: &Memory, id: &NodeId) -> bool {
    let index = stored.nodes.iter().position(|node| node.id == *id);
    let is_index = |node: &u16| Some(usize::from(*node)) == index;
    let mut unfinished = change.moves.iter().filter(|moving| {
        moving.state != MoveState::Moved || !memory.cleaned.contains(&moving.partition)
    });
    unfinished.any(|it| it.from.iter().chain(&it.to).chain(&it.left).any(is_index))
}
