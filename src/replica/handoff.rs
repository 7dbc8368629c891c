//! Hinted handoff: brings other nodes what they missed, one target after the other, round by round.
//!
//! A round probes the target, then goes through all its hints in order: reads the record, has the target join it,
//! and drops the hint if the record is still the same. A target that does not answer is left alone, longer after
//! each try, until a coordinator says that it is back. Deliveries keep to the node's pace for maintenance.
//!
//! What this is not: it does not decide who missed what; coordinators do.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::oneshot;
use futures::future::{Either, poll_fn, select};
use std::task::Poll;

use super::fences::Asked;
use super::hints::{self, TargetHints, after};
use super::maintenance_change::MaintenanceChange;
use super::mutation::{Change, Mutation};
use super::queue::rejected;
use super::shared::Shared;
use super::slot::damaged;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Node, NodeId};
use crate::ports::{
    Ask, CallError, Clock, Digest, JoinRecord, JoinSource, Probe, RecordKey, Refusal,
    ReplicaTransport, ReplicaWorld, Reply, Request, Space, StorageEngine, answer_to,
};
use crate::sizes::{self, Size};
use crate::version::Record;

/// A peer that takes longer is as good as away.
pub(super) const PEER_PATIENCE: Duration = Duration::from_secs(5);
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// How long to rest when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What came of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Round {
    /// Everything was delivered.
    Done,
    /// Something could not be delivered, and may be next time.
    Partly,
    /// The target does not answer.
    Away,
}

/// Delivers until the node stops.
pub(super) async fn run<W: ReplicaWorld>(shared: Weak<Shared<W>>) {
    loop {
        let Some(here) = shared.upgrade() else {
            return;
        };
        let now = here.world.clock().now();
        let due = here.hints.next_due();
        if let Some((target, hints)) = due.clone().filter(|(_, hints)| hints.due <= now) {
            let delivered = here.deliver(&hints.node);
            let Some(round) = here.stop.or(delivered).await else {
                return;
            };
            here.round_over(&target, round);
            continue;
        }
        let until = due.map_or(now + IDLE, |(_, hints)| hints.due);
        let timer = here.world.clock().sleep_until(until);
        let woken = poll_fn(|cx| {
            here.hints.waker.register(cx.waker());
            match here.hints.take_news() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let wait = async {
            match select(pin!(timer), pin!(woken)).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        };
        if here.stop.or(wait).await.is_none() {
            return;
        }
    }
}

impl<W: ReplicaWorld> Shared<W> {
    /// Counts a round, and says when the next one is due.
    fn round_over(&self, target: &NodeId, round: Round) {
        let now = self.world.clock().now();
        let mut targets = self.hints.lock();
        let Some(hints) = targets.get_mut(target) else {
            return;
        };
        match round {
            Round::Done => {
                marks::reached(Mark::HintsDelivered);
                hints.rounds += 1;
                hints.pause = Duration::ZERO;
                hints.due = now + self.settings.hint_pause_min;
            }
            Round::Partly | Round::Away => {
                if round == Round::Away {
                    marks::reached(Mark::HintTargetAway);
                }
                let pause = (hints.pause * 2).max(self.settings.hint_pause_min);
                hints.pause = pause.min(self.settings.hint_pause_max);
                hints.due = now + hints.pause;
            }
        }
        drop(targets);
        debug_assert_eq!(self.check_hints(), Ok(()));
    }

    /// Goes through all hints for `target`.
    async fn deliver(self: &Arc<Self>, target: &Node) -> Round {
        let probe = self.call(target, self.known(), Probe, PROBE_PATIENCE);
        let probe = probe.await;
        if probe.is_err() {
            return Round::Away;
        }
        let mut round = Round::Done;
        let mut oldest_ms = u64::MAX;
        let mut from = after(&hints::prefix(&target.id).freeze());
        let end = end_of(&target.id);
        let page_max = sizes::of(Size::DeliveryPage);
        let at_once = sizes::of(Size::DeliveriesAtOnce);
        loop {
            let storage = self.world.storage();
            let page = storage.scan(Space::Hints, from.clone(), Some(end.clone()), page_max);
            let Ok(page) = page.await else {
                return Round::Partly;
            };
            let keys: Vec<(RecordKey, u64)> = page
                .iter()
                .filter_map(|(name, value)| {
                    let (_, key) = hints::parse(name)?;
                    Some((key?, hints::left_ms(value)))
                })
                .collect();
            let deliveries = keys.into_iter().map(|(key, noted_ms)| async move {
                let delivered = self.deliver_one(target, &key).await;
                (key, noted_ms, delivered)
            });
            let mut deliveries = futures::stream::iter(deliveries).buffer_unordered(at_once);
            let mut delivered = Vec::new();
            while let Some((key, noted_ms, result)) = deliveries.next().await {
                match result {
                    Ok(hash) => delivered.push((key, hash)),
                    Err(CallError::NotSent(_) | CallError::NoAnswer(_)) => {
                        round = Round::Away;
                        oldest_ms = oldest_ms.min(noted_ms);
                    }
                    Err(CallError::NoRoom { .. } | CallError::Refused(_)) => {
                        round = round.max_trouble(Round::Partly);
                        oldest_ms = oldest_ms.min(noted_ms);
                    }
                }
            }
            if !delivered.is_empty() {
                let task = MaintenanceChange::Delivered {
                    target: target.id.clone(),
                    keys: delivered,
                };
                if self.maintain(None, task).await.is_err() {
                    round = round.max_trouble(Round::Partly);
                }
            }
            if round == Round::Away {
                return round;
            }
            match page.last() {
                Some((last, _)) if page.len() == page_max => from = after(last),
                _ => break,
            }
        }
        if let Some(hints) = self.hints.lock().get_mut(&target.id)
            && oldest_ms < u64::MAX
        {
            hints.oldest_ms = oldest_ms;
        }
        round
    }

    /// Has `target` join what is held of `key`. Returns the hash of what it has now.
    async fn deliver_one(&self, target: &Node, key: &RecordKey) -> Result<Option<u128>, CallError> {
        let Some(record) = self.held(key).await? else {
            return Ok(None);
        };
        let hash = Digest::hash(key, &record);
        let bytes = (key.as_bytes().len() + record.len()) as u64;
        self.throttle.take(self.world.clock(), bytes).await;
        if mutant::on(Mutant::HintNotDelivered) {
            return Ok(Some(hash));
        }
        let join = JoinRecord {
            source: JoinSource::Handoff,
            ..JoinRecord::new(key.clone(), record)
        };
        let delivered = self.call(target, self.known(), join, PEER_PATIENCE);
        match delivered.await {
            // What was purged there was there; and who has handed over the partition is none of its owners.
            Ok(_) | Err(CallError::Refused(Refusal::Purged | Refusal::HandedOver)) => {
                Ok(Some(hash))
            }
            Err(error) => Err(error),
        }
    }

    /// The record of `key` as it is stored; one that is damaged is not given to anybody.
    pub(super) async fn held(&self, key: &RecordKey) -> Result<Option<Bytes>, Refusal> {
        let read = self.world.storage();
        let read = read
            .read(Space::Records, vec![key.as_bytes().clone()])
            .await;
        let mut read = read.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let held = read.pop().flatten();
        if let Some(Err(error)) = held.clone().map(Record::decode)
            && !mutant::on(Mutant::DamageBlocksRefill)
        {
            damaged(key, &error);
            self.met_damage(key);
            return Err(Refusal::Damaged);
        }
        Ok(held)
    }

    /// Asks another node, by this epoch. Should that be too old for it, the newer one is known from then on: otherwise
    /// a node that no coordinator asks for anything would deliver its hints to nobody.
    pub(super) async fn call<A: Ask>(
        &self,
        node: &Node,
        epoch: Epoch,
        question: A,
        patience: Duration,
    ) -> Result<A::Answer, CallError> {
        let request = Request {
            node: node.id.clone(),
            epoch,
            operation: question.into_operation(),
        };
        let deadline = self.world.clock().now() + patience;
        let answer = self.world.transport().call(node, request, deadline).await;
        if let Err(CallError::Refused(Refusal::StaleEpoch { current })) = &answer
            && self.believe(*current).is_ok()
        {
            self.hear(*current);
        }
        answer_to::<A>(answer.map(Reply::even_if_refilling))
    }

    /// Has the mutation loop do it, and waits until it is durable. What nobody `asked` for is the node's own doing.
    pub(super) async fn maintain(
        &self,
        asked: Option<Asked>,
        task: MaintenanceChange,
    ) -> Result<Reply, Refusal> {
        let cost = task.cost();
        let (answer, answered) = oneshot::channel();
        let mutation = Mutation {
            asked,
            change: Change::Maintenance { task, answer },
        };
        self.mutations.push(mutation, cost).map_err(rejected)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Refusal::Unavailable("the node is stopping".into())))
    }
}

impl Round {
    /// The worse of the two.
    fn max_trouble(self, other: Self) -> Self {
        match (self, other) {
            (Self::Away, _) | (_, Self::Away) => Self::Away,
            (Self::Partly, _) | (_, Self::Partly) => Self::Partly,
            (Self::Done, Self::Done) => Self::Done,
        }
    }
}

impl super::hints::Hints {
    /// Who is to be tried next.
    fn next_due(&self) -> Option<(NodeId, TargetHints)> {
        let targets = self.lock();
        let hinted = targets.iter().filter(|(_, hints)| hints.outstanding > 0);
        hinted
            .min_by_key(|(_, hints)| hints.due)
            .map(|(target, hints)| (target.clone(), hints.clone()))
    }
}

/// The end of all hints for a target.
fn end_of(target: &NodeId) -> Bytes {
    let mut end = hints::prefix(target);
    end.extend_from_slice(&[0xff; 2]); // a record key begins with its partition, and then a length and a name
    end.extend_from_slice(&[0xff; 300]);
    end.freeze()
}
