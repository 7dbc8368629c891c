//! The other end of the replica transport.

use std::future::Future;

use super::{Caller, Refusal, Reply, Request};
use crate::placement::NodeId;

/// What answers the requests that a [`ReplicaTransport`](super::ReplicaTransport) carries to one storage node: the
/// replica. Servers are written against this, so that they need not know it.
pub trait RequestHandler: Clone + Send + Sync + 'static {
    /// The node it is.
    fn node(&self) -> &NodeId;

    /// Does what is asked by a current caller. Requests run concurrently.
    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static;

    /// Does what is asked by this caller, or refuses what it must not be let do. Who makes no difference between
    /// callers leaves this as it is.
    fn handle_from(
        &self,
        caller: Caller,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let _all_alike = caller;
        self.handle(request)
    }
}
