//! The process itself: its clocks, its randomness and its tasks, by tokio and the operating system.

mod clock;
mod random;
mod spawn;

pub use clock::TokioClock;
pub use random::ThreadRandom;
pub use spawn::TokioSpawn;
