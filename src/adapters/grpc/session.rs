//! One connection's calls: what waits to leave, and who waits for an answer.
//!
//! A session lives as long as its connection and is over with it; the next connection gets a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use prost::Message;

use super::assembler::{Added, Assembler, BadFragment};
use super::convert::{answer_from_proto, request_to_proto};
use super::outbox::{Bounds, NotQueued, Outbox};
use super::settings::TransportSettings;
use super::waiters::{Answer, NotRegistered, Ticket, Waiters};
use crate::adapters::front::{Budget, Share};
use crate::placement::NodeId;
use crate::ports::{CallError, Instant, Refusal, Release, Request};
use crate::proto::v1::replica_reply::Outcome;
use crate::proto::v1::{ReplicaReply, ReplicaRequest, ReplyBatch, RequestBatch};

/// Records shorter than that are not paid for one by one.
const PAID_RECORD_BYTES: usize = 1024;

const NOT_SENT_FOR_WANT_OF_ROOM: CallError = CallError::NoRoom { sent: false };
const ANSWER_WITHOUT_ROOM: CallError = CallError::NoRoom { sent: true };

/// The calls of one connection.
pub(super) struct Session {
    node: NodeId,
    budget: Budget,
    outbox: Arc<Outbox<ReplicaRequest>>,
    waiters: Arc<Waiters>,
    /// Whether the node is of the release before.
    is_older: AtomicBool,
}

impl Session {
    /// For a connection to `node`.
    pub(super) fn new(node: NodeId, settings: &TransportSettings, budget: Budget) -> Self {
        let bounds = Bounds {
            entries: settings.in_flight_max,
            bytes: settings.queued_bytes_max,
            entry_bytes: settings.message_bytes_max,
        };
        let outbox = Outbox::new(bounds, budget.clone(), Share::Inner);
        let waiters = Waiters::new(settings.in_flight_max);
        Self {
            node,
            budget,
            outbox: Arc::new(outbox),
            waiters: Arc::new(waiters),
            is_older: AtomicBool::new(false),
        }
    }

    /// The node speaks this release. Whatever was queued before that was known is asked as it is: a node of the release
    /// before refuses what it does not know.
    pub(super) fn speak(&self, release: Release) {
        let is_older = release < Release::Current;
        self.is_older.store(is_older, Ordering::Release);
    }

    fn release(&self) -> Release {
        match self.is_older.load(Ordering::Acquire) {
            true => Release::BeforeChangesOfOwners,
            false => Release::Current,
        }
    }

    /// Queues a request, as part of a trace or of none; the ticket resolves to its answer.
    pub(super) fn call(
        &self,
        request: Request,
        traceparent: String,
        deadline: Instant,
    ) -> Result<Ticket, CallError> {
        let not_sent = |why: String| CallError::NotSent(why);
        let operation = self.release().question(request.operation);
        let operation = operation.ok_or_else(older_node)?;
        let request = Request {
            operation,
            ..request
        };
        let ticket = self
            .waiters
            .register(deadline)
            .map_err(|error| match error {
                NotRegistered::Full => NOT_SENT_FOR_WANT_OF_ROOM,
                NotRegistered::Over(why) => not_sent(why),
            })?;
        let request = request_to_proto(ticket.id(), &self.node, request, traceparent);
        match self.outbox.push(request, deadline) {
            Ok(()) => Ok(ticket),
            Err(NotQueued::Closed) => Err(not_sent("the connection is closed".into())),
            Err(NotQueued::TooLong) => Err(not_sent("the request is too long".into())),
            Err(NotQueued::Full | NotQueued::NoRoom) => Err(NOT_SENT_FOR_WANT_OF_ROOM),
        }
    }

    /// The messages to send.
    pub(super) fn departures(&self) -> impl Stream<Item = RequestBatch> + Send + 'static {
        let node_id = self.node.as_str().to_owned();
        self.outbox.departures().map(move |departure| RequestBatch {
            node_id: node_id.clone(),
            requests: departure.whole,
            fragment: departure.fragment,
        })
    }

    /// Hands out the answers of one message.
    pub(super) fn receive(
        &self,
        batch: ReplyBatch,
        assembler: &mut Assembler,
    ) -> Result<(), BadFragment> {
        let long = match &batch.fragment {
            Some(fragment) => match assembler.add(fragment)? {
                Added::Part => None,
                Added::Whole(id, bytes) => Some((id, long_answer(bytes))),
                Added::GivenUp(id) => Some((id, Err(ANSWER_WITHOUT_ROOM))),
            },
            None => None,
        };
        let short = batch.replies.into_iter().map(|reply| {
            let id = reply.id;
            match self.paid_for(reply) {
                Some(reply) => (id, answer_from_proto(reply)),
                None => (id, Err(ANSWER_WITHOUT_ROOM)),
            }
        });
        self.waiters.answer(short.chain(long).collect::<Vec<_>>()); // converted before the lock is taken
        Ok(())
    }

    /// A reply with its record paid for, if there is room.
    fn paid_for(&self, mut reply: ReplicaReply) -> Option<ReplicaReply> {
        let record = match &mut reply.outcome {
            Some(Outcome::Found(found)) => found.record.as_mut(),
            Some(Outcome::Accepted(stamped)) => Some(&mut stamped.record),
            Some(Outcome::Superseded(superseded)) => Some(&mut superseded.record),
            _ => None,
        };
        if let Some(record) = record.filter(|record| record.len() >= PAID_RECORD_BYTES) {
            let held = self.budget.take(Share::Inner, record.len()).ok()?;
            *record = held.over(std::mem::take(record));
        }
        Some(reply)
    }

    /// Gives up the reply that is coming in: it has to give way.
    pub(super) fn give_up(&self, assembler: &mut Assembler) {
        let given_up = assembler.give_up();
        self.waiters
            .answer(given_up.map(|id| (id, Err(ANSWER_WITHOUT_ROOM))));
    }

    /// Ends what is overdue.
    pub(super) fn expire(&self, now: Instant) {
        self.end_unsent(
            self.outbox.expire(now),
            "the deadline passed before it could leave",
        );
        self.waiters.expire(now);
    }

    /// Ends every call: the connection is over.
    pub(super) fn close(&self, reason: &str) {
        self.end_unsent(self.outbox.close(), reason);
        self.waiters.close(reason);
    }

    /// Whether nobody waits and nothing is on its way out.
    pub(super) fn is_idle(&self) -> bool {
        self.waiters.len() == 0 && self.outbox.len().0 == 0
    }

    fn end_unsent(&self, ids: Vec<u64>, reason: &str) {
        let error = CallError::NotSent(reason.into());
        self.waiters
            .answer(ids.into_iter().map(|id| (id, Err(error.clone()))));
    }
}

fn older_node() -> CallError {
    let words = "the node runs a version that knows nothing of changes of owners; upgrade it";
    CallError::Refused(Refusal::Unavailable(words.into()))
}

fn long_answer(bytes: Bytes) -> Answer {
    match ReplicaReply::decode(bytes) {
        Ok(reply) => answer_from_proto(reply),
        Err(error) => Err(CallError::NoAnswer(format!(
            "the node answered something unreadable: {error}"
        ))),
    }
}
