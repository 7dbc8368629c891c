//! One record's owners under one routing table, and calls to them.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::health::NodeHealth;
use super::order::OwnerOrder;
use super::routing::Routing;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Node, OwnerSet, RecordOwners};
use crate::ports::{
    Ask, CallError, Clock, CoordinatorWorld, Instant, Operation, RecordKey, Refusal,
    ReplicaTransport, Reply, Request, answer_to,
};
use crate::quorum::{Consistency, Quorum, Quorums, Tally};

/// An owner that has to make something durable gets this many times its own 95th percentile before the next one is
/// asked as well.
const PATIENCE_P95S: u32 = 4;

/// The owners of a record in preference order; a *position* is an index into them.
#[derive(Clone)]
pub(super) struct Owners<W> {
    world: W,
    routing: Arc<Routing>,
    record: RecordOwners,
    patience_min: Duration,
}

/// Calls under way, in whatever order their answers come.
pub(super) type Calls<T> = FuturesUnordered<BoxFuture<'static, Answer<T>>>;

/// An owner's answer.
pub(super) struct Answer<T> {
    /// Which owner.
    pub(super) position: usize,
    /// What it said.
    pub(super) result: Result<T, CallError>,
}

impl<W: CoordinatorWorld> Owners<W> {
    pub(super) fn new(
        world: W,
        routing: Arc<Routing>,
        key: &RecordKey,
        replication_factor: u8,
        patience_min: Duration,
    ) -> Self {
        let mut record = routing.owners_of(key.partition(), key.tenant(), replication_factor);
        if record.nodes().len() > 1 && mutant::on(Mutant::OwnerForgotten) {
            let nodes = record.nodes();
            record = RecordOwners::stable(&nodes[..nodes.len() - 1]);
        }
        Self {
            world,
            routing,
            record,
            patience_min,
        }
    }

    /// One node alone, at position 0.
    pub(super) fn of_node(world: W, routing: Arc<Routing>, index: u16) -> Self {
        Self {
            world,
            routing,
            record: RecordOwners::stable(&[index]),
            patience_min: Duration::ZERO,
        }
    }

    pub(super) fn clock(&self) -> &W::Clock {
        self.world.clock()
    }

    /// The routing table that they are by.
    pub(super) fn routing(&self) -> &Routing {
        &self.routing
    }

    pub(super) fn len(&self) -> usize {
        self.record.nodes().len()
    }

    fn index(&self, position: usize) -> u16 {
        self.record.nodes()[position]
    }

    pub(super) fn name(&self, position: usize) -> String {
        self.routing.node(self.index(position)).id.to_string()
    }

    pub(super) fn node(&self, position: usize) -> &Node {
        self.routing.node(self.index(position))
    }

    pub(super) fn health(&self, position: usize) -> &Arc<NodeHealth> {
        self.routing.health(self.index(position))
    }

    /// How many have to answer, of the old owners while they change.
    pub(super) fn required(&self, consistency: Consistency) -> usize {
        quorum(consistency, self.record.first).required.max(1)
    }

    /// Whether the owners change.
    pub(super) const fn are_moving(&self) -> bool {
        self.record.is_moving()
    }

    /// What a write needs.
    pub(super) fn write_tally(&self, consistency: Consistency) -> Tally {
        if mutant::on(Mutant::QuorumOfTheUnion) && self.record.is_moving() {
            return Tally::new(consistency.required(self.len()), self.len());
        }
        Tally::of(self.quorums(consistency, true), self.len())
    }

    /// What a read needs.
    pub(super) fn read_tally(&self, consistency: Consistency) -> Tally {
        if mutant::on(Mutant::QuorumOfTheUnion) && self.record.reads_both {
            return Tally::new(consistency.required(self.len()), self.len());
        }
        Tally::of(self.shown(consistency), self.len())
    }

    /// What the first of the sets that a write needs contributes, alone.
    pub(super) fn old_tally(&self, consistency: Consistency) -> Tally {
        Tally::of(self.quorums(consistency, false), self.len())
    }

    /// The owners that a read of this consistency has to hear.
    pub(super) fn shown(&self, consistency: Consistency) -> Quorums {
        let both = self.record.reads_both || mutant::on(Mutant::StandingOfNewOwner);
        self.quorums(consistency, both)
    }

    fn quorums(&self, consistency: Consistency, both: bool) -> Quorums {
        let second = self.record.second.filter(|_| both);
        Quorums {
            first: quorum(consistency, self.record.first),
            second: second.map(|second| quorum(consistency, second)),
        }
    }

    /// The positions, the most promising owner first. Among equals the preference list decides.
    pub(super) fn by_preference(&self) -> OwnerOrder {
        let now = self.world.clock().now();
        if mutant::on(Mutant::HealthIgnored) {
            return OwnerOrder::by(self.len(), |_| ());
        }
        let second = self.record.second.map_or(0, |second| second.positions);
        // While owners change, one that is both an old and a new one counts twice.
        let counts_once = |position: usize| {
            let bit = 1 << position;
            self.record.is_moving() && self.record.first.positions & second & bit == 0
        };
        let order = OwnerOrder::by(self.len(), |position| {
            let preference = self.health(position).preference(now);
            (preference.is_unhealthy(), counts_once(position), preference)
        });
        match buggify::on(Site::WorstOwnerFirst) {
            true => order.reversed(),
            false => order,
        }
    }

    /// Those of them that reads use, and that accept writes.
    pub(super) fn readers_by_preference(&self) -> OwnerOrder {
        let readers = self.record.readers();
        let all = self.by_preference();
        match self.record.is_moving() && !mutant::on(Mutant::NewOwnerStamps) {
            true => all.only(|position| readers & 1 << position != 0),
            false => all,
        }
    }

    /// How long an owner may take to make something durable before another one is asked as well.
    pub(super) fn patience(&self, position: usize) -> Duration {
        (self.health(position).p95() * PATIENCE_P95S).max(self.patience_min)
    }

    /// Asks one owner for something that says nothing of how fast it serves, and that counts for no quorum.
    pub(super) async fn call_quietly<A: Ask>(
        &self,
        position: usize,
        ask: A,
        deadline: Instant,
    ) -> Result<A::Answer, CallError> {
        let epoch = self.routing.epoch();
        self.call_quietly_at(epoch, position, ask, deadline).await
    }

    /// The same by another epoch than the one in use.
    pub(super) async fn call_quietly_at<A: Ask>(
        &self,
        epoch: Epoch,
        position: usize,
        ask: A,
        deadline: Instant,
    ) -> Result<A::Answer, CallError> {
        let node = self.node(position);
        let request = Request {
            node: node.id.clone(),
            epoch,
            operation: ask.into_operation(),
        };
        match self.world.transport().call(node, request, deadline).await {
            Err(CallError::Refused(Refusal::StaleEpoch { current }))
                if self.routing.doubts(current) =>
            {
                Err(doubted(current).into())
            }
            answer => answer_to::<A>(answer.map(Reply::even_if_refilling)),
        }
    }

    /// Asks one owner; its health learns from what becomes of it. What one says that is being refilled is a refusal: it
    /// may lack what it once acknowledged.
    pub(super) fn call<A: Ask>(
        &self,
        position: usize,
        ask: A,
        deadline: Instant,
    ) -> BoxFuture<'static, Answer<A::Answer>> {
        let node = self.routing.node(self.index(position));
        let request = Request {
            node: node.id.clone(),
            epoch: self.routing.epoch(),
            operation: ask.into_operation(),
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
                    if routing.doubts(current) && !mutant::on(Mutant::StaleEpochVetoes) =>
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
            let result = answer_to::<A>(result);
            Answer { position, result }
        }
        .boxed()
    }
}

/// How many of these owners have to answer.
fn quorum(consistency: Consistency, set: OwnerSet) -> Quorum {
    let required = match consistency {
        Consistency::Quorum => consistency.required(set.len()).max(set.quorum_of_listed()),
        Consistency::One | Consistency::All => consistency.required(set.len()),
    };
    Quorum {
        required: required.max(1),
        owners: set.positions,
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
