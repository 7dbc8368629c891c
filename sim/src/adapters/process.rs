//! What a process has of its own: randomness and tasks.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use madsim::runtime::NodeHandle;
use pairdb::ports::{Random, Spawn};

use crate::rng::Rng;

/// A process's randomness, drawn from the run's seed. Copies share the stream.
#[derive(Clone, Debug)]
pub struct SimRandom(Arc<Mutex<Rng>>);

impl SimRandom {
    /// Draws from `rng`.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }
}

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }
}

/// Starts tasks on one life of a process; they end with it.
#[derive(Clone)]
pub struct SimSpawn(pub NodeHandle);

impl Spawn for SimSpawn {
    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(task));
    }

    // A panic ends the run, whatever it was in.
    fn keep(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, task);
    }
}
