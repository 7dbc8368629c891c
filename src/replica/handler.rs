//! The replica as the other end of the transport.

use super::Replica;
use crate::placement::NodeId;
use crate::ports::{Caller, Refusal, ReplicaWorld, Reply, Request, RequestHandler};

impl<W: ReplicaWorld> RequestHandler for Replica<W> {
    fn node(&self) -> &NodeId {
        self.node()
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        self.handle(request)
    }

    fn handle_from(
        &self,
        caller: Caller,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        self.handle_from(caller, request)
    }
}
