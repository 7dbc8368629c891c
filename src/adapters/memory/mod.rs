//! The stores in memory: for tests, for trying things out, and as the base of the simulation's stores.
//!
//! They need no runtime and are deterministic: ordered maps, no tasks, no clock but the one they are given. Copies
//! share what is stored. Nothing is kept beyond the last copy.

mod clock;
mod idempotency;
mod metadata;
mod storage;
mod transport;

pub use clock::ManualClock;
pub use idempotency::MemoryIdempotency;
pub use metadata::MemoryMetadata;
pub use storage::MemoryStorage;
pub use transport::MemoryTransport;
