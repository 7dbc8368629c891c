//! A storage node's promise that it holds nothing, and refuses older epochs from then on: nobody joins without it.

use crate::placement::{Epoch, Node};
use crate::ports::{
    AdoptEpochIfEmpty, Ask, CallError, CoordinatorWorld, Instant, ReplicaTransport, Request,
    answer_to,
};

/// Asks a node to promise an epoch, by that epoch: it may have promised it already, to an attempt that failed at
/// another node. False: it holds data.
pub(super) async fn ask_promise<W: CoordinatorWorld>(
    world: &W,
    node: &Node,
    (epoch, is_new): (Epoch, bool),
    deadline: Instant,
) -> Result<bool, CallError> {
    let request = Request {
        node: node.id.clone(),
        epoch,
        operation: AdoptEpochIfEmpty { epoch, is_new }.into_operation(),
    };
    let answer = world.transport().call(node, request, deadline).await;
    answer_to::<AdoptEpochIfEmpty>(answer)
}
