//! The storage node's end of one `Exchange` stream.
//!
//! One task runs all requests of the stream concurrently and queues their replies; the connection takes them from there
//! in batches. So a coordinator that does not read its replies stops its own further requests, and never one that is at
//! work, which may hold what others wait for.
//!
//! Whatever was begun is finished, also when the stream breaks. When too much is at work or unsent, nothing more is read.

use std::collections::VecDeque;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::watch;
use tracing::{Instrument, Span};

use super::assembler::Assembler;
use super::convert::{reply_to_proto, request_from_proto};
use super::outbox::{Bounds, NotQueued, Outbox};
use super::settings::StorageFrontSettings;
use crate::adapters::trace;
use crate::placement::NodeId;
use crate::ports::{Instant, Refusal, Reply, Request, RequestHandler};
use crate::proto::v1::{ReplicaReply, ReplicaRequest, RequestBatch};

type Outcome = Result<Reply, Refusal>;

/// A request, or the refusal of what was not one.
struct Arrived {
    id: u64,
    traceparent: String,
    request: Result<Request, Refusal>,
}

/// Where the replies wait to leave. Its own bounds are never met: [`serve`] reads no more before.
pub(super) fn outbox(settings: &StorageFrontSettings) -> Outbox<ReplicaReply> {
    let entry_bytes = settings.message_bytes_max;
    Outbox::new(Bounds {
        entries: usize::MAX,
        bytes: usize::MAX,
        entry_bytes,
    })
}

/// Serves the stream until it ends and all that was begun is finished. `stopping` turns true when the node stops.
pub(super) async fn serve<H: RequestHandler, E: Display>(
    handler: H,
    settings: StorageFrontSettings,
    mut batches: impl Stream<Item = Result<RequestBatch, E>> + Unpin,
    outbox: Arc<Outbox<ReplicaReply>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut assembler = Assembler::new(settings.message_bytes_max);
    let mut arrived = VecDeque::new();
    let mut running = FuturesUnordered::new();
    let mut reading = true;
    loop {
        while has_room(&settings, running.len(), &outbox) {
            let Some(arrived) = arrived.pop_front() else {
                break;
            };
            running.push(run(handler.clone(), arrived));
        }
        if !reading && arrived.is_empty() && running.is_empty() {
            break;
        }
        let (at_work, none_arrived) = (running.len(), arrived.is_empty());
        let more = async {
            outbox
                .room(
                    settings.in_flight_max.saturating_sub(at_work),
                    settings.unsent_bytes_max,
                )
                .await;
            if none_arrived {
                Some(batches.next().await)
            } else {
                None
            }
        };
        tokio::select! {
            biased;
            Some((id, outcome)) = running.next() => send(&outbox, id, outcome),
            _ = stopping.wait_for(|stopping| *stopping), if reading => reading = false,
            more = more, if reading || !none_arrived => match more.map(|batch| read(batch, &mut assembler)) {
                Some(Ok(Some(requests))) => arrived.extend(requests),
                Some(Ok(None)) => reading = false,
                Some(Err(problem)) => {
                    tracing::debug!(problem, "a coordinator's stream broke");
                    outbox.close();
                    reading = false;
                }
                None => {} // room for what has arrived
            }
        }
    }
    outbox.finish();
}

fn has_room(
    settings: &StorageFrontSettings,
    at_work: usize,
    outbox: &Outbox<ReplicaReply>,
) -> bool {
    let (unsent, unsent_bytes) = outbox.len();
    at_work + unsent < settings.in_flight_max && unsent_bytes < settings.unsent_bytes_max
}

/// The requests of one message; `None` at the stream's end.
fn read<E: Display>(
    batch: Option<Result<RequestBatch, E>>,
    assembler: &mut Assembler,
) -> Result<Option<Vec<Arrived>>, String> {
    let Some(batch) = batch else { return Ok(None) };
    let batch = batch.map_err(|error| error.to_string())?;
    let node = NodeId::new(batch.node_id).ok();
    let mut arrived: Vec<_> = batch
        .requests
        .into_iter()
        .map(|request| arrive(node.as_ref(), request))
        .collect();
    if let Some(fragment) = batch.fragment
        && let Some((_, bytes)) = assembler
            .add(&fragment)
            .map_err(|error| error.to_string())?
    {
        let request = ReplicaRequest::decode(bytes).map_err(|error| error.to_string())?;
        arrived.push(arrive(node.as_ref(), request));
    }
    Ok(Some(arrived))
}

fn arrive(node: Option<&NodeId>, mut request: ReplicaRequest) -> Arrived {
    Arrived {
        id: request.id,
        traceparent: std::mem::take(&mut request.traceparent),
        request: request_from_proto(node, request),
    }
}

async fn run<H: RequestHandler>(handler: H, arrived: Arrived) -> (u64, Outcome) {
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
        tracing::error!("a request panicked");
        Err(Refusal::StorageFailed("internal error".into())) // the one refusal that may have had its effect
    })
}

fn send(outbox: &Outbox<ReplicaReply>, id: u64, outcome: Outcome) {
    if outbox.push(reply_to_proto(id, outcome), Instant::NEVER) == Err(NotQueued::TooLong) {
        let refusal = Refusal::StorageFailed("the reply is too long to be sent".into());
        let _closed = outbox.push(reply_to_proto(id, Err(refusal)), Instant::NEVER);
    }
}
