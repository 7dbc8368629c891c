//! The world of a storage node in production: this process, a storage engine, and the way to the other nodes.

use super::{ThreadRandom, TokioClock, TokioSpawn};
use crate::placement::Node;
use crate::ports::{
    CallError, Instant, ReplicaTransport, ReplicaWorld, Reply, Request, StorageEngine,
};

/// The process's clocks, randomness and tasks, beside the engine and the transport it is given. Copies share all of
/// them.
#[derive(Clone, Debug)]
pub struct NodeWorld<S, T = NoPeers> {
    clock: TokioClock,
    random: ThreadRandom,
    spawner: TokioSpawn,
    storage: S,
    transport: T,
}

/// A node that knows no other one: every call fails before it is sent.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl ReplicaTransport for NoPeers {
    fn call(
        &self,
        node: &Node,
        _: Request,
        _: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + 'static {
        let error = CallError::NotSent(format!("no way to {}", node.id));
        std::future::ready(Err(error))
    }
}

impl<S> NodeWorld<S> {
    /// A world around `storage` without other nodes.
    #[must_use]
    pub fn new(storage: S) -> Self {
        Self::with_peers(storage, TokioClock::new(), NoPeers)
    }
}

impl<S, T> NodeWorld<S, T> {
    /// A world around `storage` in which other nodes are reached by `transport`, whose deadlines are by `clock`.
    #[must_use]
    pub fn with_peers(storage: S, clock: TokioClock, transport: T) -> Self {
        Self {
            clock,
            random: ThreadRandom,
            spawner: TokioSpawn::new(),
            storage,
            transport,
        }
    }
}

impl<S: StorageEngine, T: ReplicaTransport> ReplicaWorld for NodeWorld<S, T> {
    type Clock = TokioClock;
    type Random = ThreadRandom;
    type Spawn = TokioSpawn;
    type Storage = S;
    type Transport = T;

    fn clock(&self) -> &TokioClock {
        &self.clock
    }

    fn random(&self) -> &ThreadRandom {
        &self.random
    }

    fn spawner(&self) -> &TokioSpawn {
        &self.spawner
    }

    fn storage(&self) -> &S {
        &self.storage
    }

    fn transport(&self) -> &T {
        &self.transport
    }
}
