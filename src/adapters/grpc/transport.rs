//! The [`ReplicaTransport`] of production.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwap;
use metrics::counter;
use tokio::runtime::Handle;
use tracing::Instrument;

use super::lock;
use super::peer::{Access, Peer};
use super::settings::TransportSettings;
use crate::adapters::front::Budget;
use crate::adapters::tls::ClientTls;
use crate::adapters::trace;
use crate::adapters::vitals::{Vitals, keep};
use crate::placement::{Node, NodeId};
use crate::ports::{CallError, Clock, Instant, Operation, ReplicaTransport, Reply, Request};

/// Connections to storage nodes, made when a node is first called and closed when it is not called any more. Copies
/// share them; the last copy closes them.
#[derive(Clone)]
pub struct GrpcTransport<C: Clock> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    clock: C,
    settings: TransportSettings,
    tls: Option<ClientTls>,
    budget: Budget,
    runtime: Handle,
    /// By name. A node that moves has two for a while: until the old address is idle.
    peers: ArcSwap<BTreeMap<NodeId, Vec<Arc<Peer>>>>,
    /// Held by whoever changes `peers`.
    change: Mutex<()>,
}

impl<C: Clock> GrpcTransport<C> {
    /// No connections yet. Deadlines are by `clock`; connections run on the current tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(clock: C, settings: TransportSettings) -> Self {
        Self::with(clock, settings, None, Budget::unlimited())
    }

    /// The same, with TLS if it is on, and with what waits to leave and what is answered paid for by `budget`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn with(
        clock: C,
        settings: TransportSettings,
        tls: Option<ClientTls>,
        budget: Budget,
    ) -> Self {
        let shared = Arc::new(Shared {
            clock,
            settings,
            tls,
            budget,
            runtime: Handle::current(),
            peers: ArcSwap::default(),
            change: Mutex::new(()),
        });
        let sweep = sweep(Arc::downgrade(&shared), shared.clock.clone());
        shared
            .runtime
            .spawn(keep(Vitals::process(), "sweep of overdue calls", sweep));
        Self { shared }
    }

    /// How many connections there are, or are being made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.peers.load().values().flatten().count()
    }

    #[cfg(test)]
    pub(super) fn any_peer(&self) -> Arc<Peer> {
        self.shared
            .peers
            .load()
            .values()
            .flatten()
            .next()
            .cloned()
            .unwrap()
    }
}

impl<C: Clock> ReplicaTransport for GrpcTransport<C> {
    fn call(
        &self,
        node: &Node,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        let mut peer = shared.peer(node);
        count(&request.operation);
        let operation = request.operation.name();
        let span =
            tracing::debug_span!("replica", otel.kind = "client", node = %node.id, operation);
        let traceparent = trace::pass_on(&span);
        let calling = async move {
            let session = loop {
                let now = shared.clock.now();
                if now >= deadline {
                    return Err(CallError::NotSent(
                        "the deadline passed before it was sent".into(),
                    ));
                }
                match peer.access(now) {
                    Access::Session(session) => break session,
                    Access::Down(error) => return Err(error),
                    Access::Closed => peer = shared.peer(peer.node()),
                }
            };
            session.call(request, traceparent, deadline)?.await
        };
        calling.instrument(span)
    }
}

/// Counts what is asked of storage nodes for clients.
fn count(operation: &Operation) {
    match operation {
        Operation::Accept(_) | Operation::Join { .. } => {
            counter!("coordinator_replica_writes_total").increment(1)
        }
        Operation::Read { .. } => counter!("coordinator_replica_reads_total").increment(1),
        _ => {}
    }
}

impl<C: Clock> Shared<C> {
    fn peer(&self, node: &Node) -> Arc<Peer> {
        if let Some(peer) = find(&self.peers.load(), node) {
            return peer;
        }
        let _change = lock(&self.change);
        let peers = self.peers.load();
        if let Some(peer) = find(&peers, node) {
            return peer;
        }
        let peer = Peer::start(
            node.clone(),
            self.settings.clone(),
            self.tls.clone(),
            self.budget.clone(),
            self.clock.now(),
            &self.runtime,
        );
        let mut peers = BTreeMap::clone(&peers);
        peers
            .entry(node.id.clone())
            .or_default()
            .push(Arc::clone(&peer));
        self.peers.store(Arc::new(peers));
        peer
    }

    fn expire(&self, now: Instant) {
        for peer in self.peers.load().values().flatten() {
            peer.expire(now);
        }
    }

    fn close_idle(&self, now: Instant) {
        let _change = lock(&self.change);
        let mut peers = BTreeMap::clone(&self.peers.load());
        let mut closed = false;
        peers.retain(|_, peers| {
            peers.retain(|peer| {
                let idle = peer.close_if_idle(now, self.settings.idle_max);
                closed |= idle;
                !idle
            });
            !peers.is_empty()
        });
        if closed {
            self.peers.store(Arc::new(peers));
        }
    }
}

impl<C> Drop for Shared<C> {
    fn drop(&mut self) {
        for peer in self.peers.load().values().flatten() {
            peer.close("the transport was closed");
        }
    }
}

fn find(peers: &BTreeMap<NodeId, Vec<Arc<Peer>>>, node: &Node) -> Option<Arc<Peer>> {
    peers
        .get(&node.id)?
        .iter()
        .find(|peer| peer.is_at(node))
        .cloned()
}

/// Ends overdue calls and closes idle connections for as long as the transport is there.
async fn sweep<C: Clock>(shared: Weak<Shared<C>>, clock: C) {
    let mut look_for_idle_at = Instant::default();
    loop {
        let Some(interval) = shared
            .upgrade()
            .map(|shared| shared.settings.sweep_interval)
        else {
            return;
        };
        clock.sleep(interval).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = clock.now();
        shared.expire(now);
        if now >= look_for_idle_at {
            shared.close_idle(now);
            look_for_idle_at = now + shared.settings.idle_max / 4;
        }
    }
}
