//! The replica as the other end of the transport.

use super::Replica;
use crate::placement::NodeId;
use crate::ports::{Refusal, ReplicaWorld, Reply, Request, RequestHandler};

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
}
