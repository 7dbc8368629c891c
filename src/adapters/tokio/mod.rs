//! The process itself: its clocks, its randomness and its tasks, by tokio and the operating system.

mod clock;
mod node_world;
mod random;
mod spawn;

pub use clock::TokioClock;
pub use node_world::{NoPeers, NodeWorld};
pub use random::ThreadRandom;
pub use spawn::TokioSpawn;
