//! One record's owners under one routing table, and calls to them.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::health::NodeHealth;
use super::routing::Routing;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::placement::{Epoch, Node};
use crate::ports::{
    CallError, Clock, CoordinatorWorld, Instant, Operation, RecordKey, Refusal, ReplicaTransport,
    Reply, Request,
};
use crate::quorum::{Consistency, Tally};
use crate::sabotage::{self, Sabotage};

/// More owners than a record can have.
const OWNERS_MAX: usize = 16;

/// The owners of a record in preference order; a *position* is an index into them.
#[derive(Clone)]
pub(super) struct Owners<W> {
    world: W,
    routing: Arc<Routing>,
    nodes: [u16; OWNERS_MAX],
    len: usize,
}

/// Calls under way, in whatever order their answers come.
pub(super) type Calls = FuturesUnordered<BoxFuture<'static, Answer>>;

/// An owner's answer.
pub(super) struct Answer {
    /// Which owner.
    pub(super) position: usize,
    /// What it said.
    pub(super) result: Result<Reply, CallError>,
}

impl<W: CoordinatorWorld> Owners<W> {
    pub(super) fn new(
        world: W,
        routing: Arc<Routing>,
        key: &RecordKey,
        replication_factor: u8,
    ) -> Self {
        let mut nodes = [0; OWNERS_MAX];
        let owners = routing.owners(key.partition(), replication_factor);
        let forgotten = usize::from(owners.len() > 1 && sabotage::on(Sabotage::OwnerForgotten));
        let len = owners.len().min(OWNERS_MAX) - forgotten;
        nodes[..len].copy_from_slice(&owners[..len]);
        Self {
            world,
            routing,
            nodes,
            len,
        }
    }

    /// One node alone, at position 0.
    pub(super) fn of_node(world: W, routing: Arc<Routing>, index: u16) -> Self {
        let mut nodes = [0; OWNERS_MAX];
        nodes[0] = index;
        Self {
            world,
            routing,
            nodes,
            len: 1,
        }
    }

    /// The routing table that they are by.
    pub(super) fn routing(&self) -> &Routing {
        &self.routing
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn name(&self, position: usize) -> String {
        self.routing.node(self.nodes[position]).id.to_string()
    }

    pub(super) fn node(&self, position: usize) -> &Node {
        self.routing.node(self.nodes[position])
    }

    pub(super) fn health(&self, position: usize) -> &Arc<NodeHealth> {
        self.routing.health(self.nodes[position])
    }

    pub(super) fn required(&self, consistency: Consistency) -> usize {
        consistency.required(self.len).max(1)
    }

    pub(super) fn tally(&self, consistency: Consistency) -> Tally {
        Tally::new(self.required(consistency), self.len)
    }

    /// The positions, the most promising owner first. Among equals the preference list decides.
    pub(super) fn by_preference(&self) -> OwnerOrder {
        let now = self.world.clock().now();
        let mut order = OwnerOrder::default();
        for position in 0..self.len {
            order.positions[position] = position as u8;
        }
        order.len = self.len;
        let preference: [_; OWNERS_MAX] = std::array::from_fn(|position| {
            (position < self.len).then(|| self.health(position).preference(now))
        });
        if sabotage::on(Sabotage::HealthIgnored) {
            return order;
        }
        order.positions[..self.len].sort_by_key(|position| preference[usize::from(*position)]);
        if buggify::on(Site::WorstOwnerFirst) {
            order.positions[..self.len].reverse();
        }
        order
    }

    /// Asks one owner for something that says nothing of how fast it serves, and that counts for no quorum.
    pub(super) async fn call_quietly(
        &self,
        position: usize,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let node = self.node(position);
        let request = Request {
            node: node.id.clone(),
            epoch: self.routing.epoch(),
            operation,
        };
        match self.world.transport().call(node, request, deadline).await {
            Err(CallError::Refused(Refusal::StaleEpoch { current }))
                if self.routing.doubts(current) =>
            {
                Err(doubted(current).into())
            }
            answer => answer.map(Reply::even_if_refilling),
        }
    }

    /// Asks one owner; its health learns from what becomes of it. What one says that is being refilled is a refusal: it
    /// may lack what it once acknowledged.
    pub(super) fn call(
        &self,
        position: usize,
        operation: Operation,
        deadline: Instant,
    ) -> BoxFuture<'static, Answer> {
        let node = self.routing.node(self.nodes[position]);
        let request = Request {
            node: node.id.clone(),
            epoch: self.routing.epoch(),
            operation,
        };
        let is_probe = matches!(request.operation, Operation::Probe);
        let call = self.world.transport().call(node, request, deadline);
        let clock = self.world.clock().clone();
        let health = Arc::clone(self.health(position));
        let routing = Arc::clone(&self.routing);
        async move {
            let under_way = UnderWay::start(&clock, &health);
            let result = match call.await {
                Ok(Reply::Refilling(_)) => Err(Refusal::Refilling.into()),
                Err(CallError::Refused(Refusal::StaleEpoch { current }))
                    if routing.doubts(current) && !sabotage::on(Sabotage::StaleEpochVetoes) =>
                {
                    marks::reached(Mark::EpochDoubted);
                    health.set_out_of_step(true);
                    Err(doubted(current).into())
                }
                result => result,
            };
            match &result {
                Ok(_) => under_way.answered(),
                Err(CallError::Refused(Refusal::Refilling)) => {
                    under_way.health.is_refilling();
                    under_way.answered();
                }
                Err(CallError::Refused(
                    Refusal::StaleEpoch { .. }
                    | Refusal::Damaged
                    | Refusal::Malformed(_)
                    | Refusal::Crowded(_)
                    | Refusal::Purged,
                )) => {
                    under_way.answered();
                }
                // Somebody else at its address is not the node, and of a node that can't say how it is nothing is
                // known.
                Err(CallError::Refused(refusal))
                    if !is_probe && !matches!(refusal, Refusal::WrongNode { .. }) =>
                {
                    under_way.refused();
                }
                Err(CallError::NoRoom { .. }) => {} // our own want says nothing of the node
                Err(_) => under_way.failed(),
            }
            Answer { position, result }
        }
        .boxed()
    }
}

/// What a node that names this epoch counts as.
fn doubted(epoch: Epoch) -> Refusal {
    Refusal::Unavailable(format!(
        "it refuses epochs below {epoch}, which the metadata store is not known to have"
    ))
}

/// A call that is counted as in flight until it ends, however it ends.
struct UnderWay<'a, C: Clock> {
    clock: &'a C,
    health: &'a NodeHealth,
    since: Instant,
}

impl<'a, C: Clock> UnderWay<'a, C> {
    fn start(clock: &'a C, health: &'a NodeHealth) -> Self {
        health.call_started();
        Self {
            clock,
            health,
            since: clock.now(),
        }
    }

    fn answered(self) {
        self.health.answered(self.clock.now().since(self.since));
    }

    fn refused(self) {
        self.health.refused(self.clock.now());
    }

    fn failed(self) {
        self.health.failed(self.clock.now());
    }
}

impl<C: Clock> Drop for UnderWay<'_, C> {
    fn drop(&mut self) {
        self.health.call_ended();
    }
}

/// The owners' positions, best first, handed out one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnerOrder {
    positions: [u8; OWNERS_MAX],
    next: usize,
    len: usize,
}

impl Iterator for OwnerOrder {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let position = *self.positions[..self.len].get(self.next)?;
        self.next += 1;
        Some(usize::from(position))
    }
}

impl OwnerOrder {
    /// Puts `position` at the front of those still to come, or back among them if it was handed out.
    pub(super) fn again(&mut self, position: usize) {
        if let Some(at) = self.positions[..self.len]
            .iter()
            .position(|p| usize::from(*p) == position)
        {
            if at < self.next {
                self.positions[at..self.next].rotate_left(1);
                self.next -= 1;
            } else {
                self.positions[self.next..=at].rotate_right(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(positions: &[u8]) -> OwnerOrder {
        let mut order = OwnerOrder {
            len: positions.len(),
            ..OwnerOrder::default()
        };
        order.positions[..positions.len()].copy_from_slice(positions);
        order
    }

    #[test]
    fn an_owner_can_be_asked_again_next() {
        let mut order = order(&[2, 0, 1]);
        assert_eq!((order.next(), order.next()), (Some(2), Some(0)));
        order.again(2);
        assert_eq!(order.clone().collect::<Vec<_>>(), [2, 1]);
        order.again(1);
        assert_eq!(order.collect::<Vec<_>>(), [1, 2]);
    }
}
