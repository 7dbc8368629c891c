//! The other end of the replica transport.

use std::future::Future;

use super::{Refusal, Reply, Request};
use crate::placement::NodeId;

/// What answers the requests that a [`ReplicaTransport`](super::ReplicaTransport) carries to one storage node: the
/// replica. Servers are written against this, so that they need not know it.
pub trait RequestHandler: Clone + Send + Sync + 'static {
    /// The node it is.
    fn node(&self) -> &NodeId;

    /// Does what is asked. Requests run concurrently.
    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static;
}
