//! Questions to one storage node about what it stores.

use std::sync::Arc;
use std::time::Duration;

use super::owners::Owners;
use super::routing::Routing;
use crate::placement::Epoch;
use crate::ports::{Ask, CallError, Clock, CoordinatorWorld, Refusal};

/// How long one may take. An exchange takes up to three seconds and what it has begun.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the node at `index`. The error is the newer epoch that it knows, if that is why.
pub(super) async fn ask<W: CoordinatorWorld, A: Ask>(
    world: &W,
    routing: &Arc<Routing>,
    index: u16,
    ask: A,
) -> Result<A::Answer, Option<Epoch>> {
    ask_at(world, routing, (index, routing.epoch()), ask).await
}

/// Asks the node at `index` by another epoch than the one in use.
pub(super) async fn ask_at<W: CoordinatorWorld, A: Ask>(
    world: &W,
    routing: &Arc<Routing>,
    (index, epoch): (u16, Epoch),
    ask: A,
) -> Result<A::Answer, Option<Epoch>> {
    let deadline = world.clock().now() + PATIENCE;
    let owners = Owners::of_node(world.clone(), Arc::clone(routing), index);
    match owners.call_quietly_at(epoch, 0, ask, deadline).await {
        Ok(answer) => Ok(answer),
        Err(CallError::Refused(Refusal::StaleEpoch { current })) => Err(Some(current)),
        Err(error) => {
            tracing::debug!(node = %routing.node(index).id, %error, "maintenance failed");
            Err(None)
        }
    }
}
