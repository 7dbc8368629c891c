//! Storage nodes in the same process, called directly.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;

use crate::placement::{Node, NodeId};
use crate::ports::{
    CallError, Clock, Instant, ReplicaTransport, Reply, Request, RequestHandler, Spawn,
};

/// Calls the nodes that were added to it; copies share them. An operation runs as a task of its own, so that giving up
/// its answer does not give up the operation.
#[derive(Clone)]
pub struct MemoryTransport<C, S, H> {
    clock: C,
    spawner: S,
    nodes: Arc<Mutex<BTreeMap<NodeId, Entry<H>>>>,
}

struct Entry<H> {
    node: Node,
    handler: H,
    gone: Shared<oneshot::Receiver<()>>,
    /// Ends `gone` when the entry is removed.
    _here: oneshot::Sender<()>,
}

impl<C: Clock, S: Spawn, H: RequestHandler> MemoryTransport<C, S, H> {
    /// Without nodes. Deadlines are by `clock`.
    pub fn new(clock: C, spawner: S) -> Self {
        Self {
            clock,
            spawner,
            nodes: Arc::default(),
        }
    }

    /// From now on `handler` answers for `node`, in place of whoever did.
    pub fn add(&self, node: Node, handler: H) {
        let (here, gone) = oneshot::channel();
        let entry = Entry {
            node: node.clone(),
            handler,
            gone: gone.shared(),
            _here: here,
        };
        self.lock().insert(node.id, entry);
    }

    /// Cuts the node off; whoever waits for its answers gets none.
    pub fn remove(&self, node: &NodeId) {
        self.lock().remove(node);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry<H>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, node: &Node) -> Option<(H, Shared<oneshot::Receiver<()>>)> {
        let nodes = self.lock();
        let entry = nodes
            .get(&node.id)
            .filter(|entry| entry.node.address() == node.address())?;
        Some((entry.handler.clone(), entry.gone.clone()))
    }
}

impl<C: Clock, S: Spawn, H: RequestHandler> ReplicaTransport for MemoryTransport<C, S, H> {
    fn call(
        &self,
        node: &Node,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + 'static {
        let (this, node) = (self.clone(), node.clone());
        async move {
            if this.clock.now() >= deadline {
                return Err(CallError::NotSent(
                    "the deadline passed before it was sent".into(),
                ));
            }
            let Some((handler, gone)) = this.find(&node) else {
                return Err(CallError::NotSent(format!(
                    "{} refuses connections",
                    node.address()
                )));
            };
            let (answer, answered) = oneshot::channel();
            let operation = handler.handle(request);
            this.spawner
                .spawn("operation of a storage node", async move {
                    let _given_up = answer.send(operation.await);
                });
            let no_answer = |why: &str| Err(CallError::NoAnswer(why.into()));
            let (mut answered, mut gone) = (answered.fuse(), gone.fuse());
            let mut late = pin!(this.clock.sleep_until(deadline).fuse());
            futures::select_biased! {
                answer = answered => match answer {
                    Ok(answer) => answer.map_err(CallError::Refused),
                    Err(oneshot::Canceled) => no_answer("the operation ended without an answer"),
                },
                _ = gone => no_answer("the node is gone"),
                () = late => no_answer("the deadline passed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::tokio::{TokioClock, TokioSpawn};
    use crate::ports::conformance::{self, ScriptedNode, TransportBench};

    #[tokio::test]
    async fn conforms() {
        conformance::replica_transport(&TokioClock::new(), async |scripted: ScriptedNode| {
            let transport = MemoryTransport::new(TokioClock::new(), TokioSpawn::new());
            let node = scripted.at("127.0.0.1", 7000);
            transport.add(node.clone(), scripted);
            let absent = Node {
                port: 7001,
                ..node.clone()
            };
            let (inner, id) = (transport.clone(), node.id.clone());
            TransportBench {
                transport,
                node,
                absent,
                stop: Box::new(move || inner.remove(&id)),
            }
        })
        .await;
    }
}
