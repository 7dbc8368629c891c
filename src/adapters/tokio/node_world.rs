//! The world of a storage node in production: this process, and a storage engine.

use super::{ThreadRandom, TokioClock, TokioSpawn};
use crate::ports::{ReplicaWorld, StorageEngine};

/// The process's clocks, randomness and tasks, beside the engine it is given. Copies share all of them.
#[derive(Clone, Debug)]
pub struct NodeWorld<S> {
    clock: TokioClock,
    random: ThreadRandom,
    spawner: TokioSpawn,
    storage: S,
}

impl<S> NodeWorld<S> {
    /// Puts the world together around `storage`.
    #[must_use]
    pub fn new(storage: S) -> Self {
        Self {
            clock: TokioClock::new(),
            random: ThreadRandom,
            spawner: TokioSpawn::new(),
            storage,
        }
    }
}

impl<S: StorageEngine> ReplicaWorld for NodeWorld<S> {
    type Clock = TokioClock;
    type Random = ThreadRandom;
    type Spawn = TokioSpawn;
    type Storage = S;

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
}
