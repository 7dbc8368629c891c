//! The storage node's end of one `Exchange` stream.
//!
//! One task runs all requests of the stream concurrently and queues their replies; the connection takes them from there
//! in batches. So a coordinator that does not read its replies stops its own further requests, and never one that is at
//! work, which may hold what others wait for.
//!
//! Whatever was begun is finished, also when the stream breaks. When too much is at work or unsent, in this stream or
//! in the whole process, nothing more is read. A coordinator that takes none of its replies for a while loses the
//! stream, and sooner when the process has no room.

use std::collections::VecDeque;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::watch;
use tracing::{Instrument, Span};

use super::assembler::{Added, Assembler};
use super::convert::{reply_to_proto, request_from_proto};
use super::outbox::{Bounds, NotQueued, Outbox};
use super::settings::StorageFrontSettings;
use crate::adapters::front::{AtWork, Budget, Conduct, Held, Share};
use crate::adapters::{log_pace, trace};
use crate::placement::NodeId;
use crate::ports::{Instant, Refusal, Reply, Request, RequestHandler};
use crate::proto::v1::{ReplicaReply, ReplicaRequest, RequestBatch};

type Outcome = Result<Reply, Refusal>;

/// How long replies may wait with none of them leaving.
const REPLIES_TAKEN: Duration = Duration::from_secs(30);
/// The same when the process has no room.
const REPLIES_TAKEN_IN_NEED: Duration = Duration::from_millis(500);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A stream with so few bytes unsent goes on whatever others have.
const UNSENT_IN_NEED_BYTES: usize = 64 * 1024;

/// A request, or the refusal of what was not one.
struct Arrived {
    id: u64,
    traceparent: String,
    request: Result<Request, Refusal>,
    /// What it brought.
    paid: Option<Held>,
}

/// What streams share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) settings: StorageFrontSettings,
    pub(super) budget: Budget,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Where the replies wait to leave. Its own bounds are never met: [`serve`] reads no more before.
pub(super) fn outbox(around: &Surroundings) -> Outbox<ReplicaReply> {
    let bounds = Bounds {
        entries: usize::MAX,
        bytes: usize::MAX,
        entry_bytes: around.settings.message_bytes_max,
    };
    Outbox::new(bounds, around.budget.clone(), Share::Out)
}

/// Serves the stream until it ends and all that was begun is finished. The connection, if there is one, is told what is
/// at work.
pub(super) async fn serve<H: RequestHandler, E: Display>(
    handler: H,
    around: Surroundings,
    conduct: Option<Arc<Conduct>>,
    mut batches: impl Stream<Item = Result<RequestBatch, E>> + Unpin,
    outbox: Arc<Outbox<ReplicaReply>>,
) {
    let Surroundings {
        settings,
        budget,
        mut stopping,
    } = around;
    let mut assembler = Assembler::new(settings.message_bytes_max, budget.clone());
    let mut arrived = VecDeque::new();
    let mut running = FuturesUnordered::new();
    let mut reading = true;
    let mut stuck = std::pin::pin!(stuck(&outbox, &budget));
    loop {
        while has_room(&settings, running.len(), &outbox, &budget) {
            let Some(arrived) = arrived.pop_front() else {
                break;
            };
            let at_work = conduct.as_ref().map(Conduct::at_work);
            running.push(run(handler.clone(), arrived, at_work));
        }
        if !reading && arrived.is_empty() && running.is_empty() {
            break;
        }
        let (at_work, none_arrived) = (running.len(), arrived.is_empty());
        let more = async {
            room(&settings, at_work, &outbox, &budget).await;
            match none_arrived {
                true => Some(batches.next().await),
                false => None,
            }
        };
        tokio::select! {
            biased;
            Some((id, outcome)) = running.next() => send(&outbox, id, outcome),
            _ = stopping.wait_for(|stopping| *stopping), if reading => reading = false,
            () = &mut stuck, if reading => {
                tracing::debug!("a coordinator takes no replies");
                outbox.close();
                reading = false;
            }
            trouble = assembler.in_trouble(), if reading => match trouble {
                Ok(()) => {
                    let given_up = assembler.give_up();
                    given_up.into_iter().for_each(|id| send(&outbox, id, Err(Refusal::Overloaded)));
                }
                Err(problem) => {
                    broke(&outbox, &problem);
                    reading = false;
                }
            },
            more = more, if reading || !none_arrived => {
                match more.map(|batch| read(batch, &mut assembler, &budget)) {
                    Some(Ok(Some(requests))) => arrived.extend(requests),
                    Some(Ok(None)) => reading = false,
                    Some(Err(problem)) => {
                        broke(&outbox, &problem);
                        reading = false;
                    }
                    None => {} // room for what has arrived
                }
            }
        }
    }
    outbox.finish();
}

/// What its end is told of, and gets no more replies for.
fn broke(outbox: &Outbox<ReplicaReply>, problem: &dyn Display) {
    tracing::debug!(%problem, "a coordinator's stream broke");
    outbox.close();
}

/// Completes when there is room for one more request.
async fn room(
    settings: &StorageFrontSettings,
    at_work: usize,
    outbox: &Outbox<ReplicaReply>,
    budget: &Budget,
) {
    let more = settings.in_flight_max.saturating_sub(at_work);
    outbox.room(more, settings.unsent_bytes_max).await;
    if !is_modest(outbox) {
        budget.room().await;
    }
}

fn has_room(
    settings: &StorageFrontSettings,
    at_work: usize,
    outbox: &Outbox<ReplicaReply>,
    budget: &Budget,
) -> bool {
    let (unsent, unsent_bytes) = outbox.len();
    at_work + unsent < settings.in_flight_max
        && unsent_bytes < settings.unsent_bytes_max
        && (budget.has_room_to_leave() || unsent_bytes < UNSENT_IN_NEED_BYTES)
}

fn is_modest(outbox: &Outbox<ReplicaReply>) -> bool {
    outbox.len().1 < UNSENT_IN_NEED_BYTES
}

/// Completes when replies have waited too long.
async fn stuck(outbox: &Outbox<ReplicaReply>, budget: &Budget) {
    loop {
        tokio::time::sleep(LOOK).await;
        let longest = match budget.has_room_to_leave() {
            true => REPLIES_TAKEN,
            false => REPLIES_TAKEN_IN_NEED,
        };
        if outbox
            .stuck_since()
            .is_some_and(|since| since.elapsed() >= longest)
        {
            return;
        }
    }
}

/// The requests of one message; `None` at the stream's end.
fn read<E: Display>(
    batch: Option<Result<RequestBatch, E>>,
    assembler: &mut Assembler,
    budget: &Budget,
) -> Result<Option<Vec<Arrived>>, String> {
    let Some(batch) = batch else { return Ok(None) };
    let batch = batch.map_err(|error| error.to_string())?;
    let node = NodeId::new(batch.node_id).ok();
    let mut arrived: Vec<_> = batch
        .requests
        .into_iter()
        .map(|request| {
            let bytes = request.encoded_len();
            let paid = budget.take_anyway(Share::Inner, bytes); // it is there already
            arrive(node.as_ref(), request, Some(paid))
        })
        .collect();
    if let Some(fragment) = batch.fragment {
        match assembler
            .add(&fragment)
            .map_err(|error| error.to_string())?
        {
            Added::Part => {}
            Added::Whole(_, bytes) => {
                let request = ReplicaRequest::decode(bytes).map_err(|error| error.to_string())?;
                arrived.push(arrive(node.as_ref(), request, None));
            }
            Added::GivenUp(id) => arrived.push(Arrived {
                id,
                traceparent: String::new(),
                request: Err(Refusal::Overloaded),
                paid: None,
            }),
        }
    }
    Ok(Some(arrived))
}

fn arrive(node: Option<&NodeId>, mut request: ReplicaRequest, paid: Option<Held>) -> Arrived {
    Arrived {
        id: request.id,
        traceparent: std::mem::take(&mut request.traceparent),
        request: request_from_proto(node, request),
        paid,
    }
}

async fn run<H: RequestHandler>(
    handler: H,
    arrived: Arrived,
    at_work: Option<AtWork>,
) -> (u64, Outcome) {
    let _until_done = (arrived.paid, at_work);
    let outcome = match arrived.request {
        Ok(request) => {
            let span = span(&handler, &request, &arrived.traceparent);
            guarded(handler, request).instrument(span).await
        }
        Err(refusal) => Err(refusal),
    };
    (arrived.id, outcome)
}

/// The node's part of a trace, if the request belongs to one.
fn span<H: RequestHandler>(handler: &H, request: &Request, traceparent: &str) -> Span {
    if traceparent.is_empty() {
        return Span::none();
    }
    let (node, operation) = (handler.node(), request.operation.name());
    let span = tracing::debug_span!("stored", otel.kind = "server", %node, operation);
    trace::follow(&span, traceparent);
    span
}

/// Runs one request. A panic in it is its own failure and nobody else's.
pub(super) async fn guarded<H: RequestHandler>(handler: H, request: Request) -> Outcome {
    let outcome = AssertUnwindSafe(async move { handler.handle(request).await })
        .catch_unwind()
        .await;
    outcome.unwrap_or_else(|_| {
        if let Some(left_out) = log_pace::FAULT.tell() {
            tracing::error!(left_out, "a request panicked");
        }
        Err(Refusal::StorageFailed("internal error".into())) // the one refusal that may have had its effect
    })
}

fn send(outbox: &Outbox<ReplicaReply>, id: u64, outcome: Outcome) {
    let may_have_happened = match &outcome {
        Ok(reply) => !matches!(reply, Reply::Found { .. }),
        Err(refusal) => matches!(refusal, Refusal::StorageFailed(_)),
    };
    let instead = match outbox.push(reply_to_proto(id, outcome), Instant::NEVER) {
        Err(NotQueued::TooLong) => {
            Refusal::StorageFailed("the reply is too long to be sent".into())
        }
        Err(NotQueued::NoRoom) if may_have_happened => {
            Refusal::StorageFailed("there is no room for the reply".into())
        }
        Err(NotQueued::NoRoom) => Refusal::Overloaded,
        Ok(()) | Err(NotQueued::Closed | NotQueued::Full) => return,
    };
    let _closed = outbox.push(reply_to_proto(id, Err(instead)), Instant::NEVER);
}
