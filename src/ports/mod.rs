//! Ports: one narrow trait for each thing outside the process.
//!
//! The coordinator and the replica are written once against these traits. Production adapters (tokio, gRPC,
//! SQLite, an embedded engine) and simulated ones plug in at the composition root. Each trait has a conformance
//! suite in [`conformance`] that every adapter passes.
//!
//! What this is not: no trait here leaks an adapter's type; time is our own [`Instant`], never the standard
//! library's, and no port lets the core reach a runtime, a socket or a database.

pub mod conformance;

mod api_key;
mod ask;
mod clock;
mod error;
mod handler;
mod idempotency;
mod maintenance;
mod metadata;
mod migration;
mod random;
mod record_key;
mod release;
mod replica;
mod spawn;
mod spoken;
mod stop;
mod storage;
mod tenant;

pub use api_key::{ApiKey, ApiKeyId, ApiKeyIdError, TenantRole, TenantRoleError};
pub use ask::{
    AcceptAnswer, AdoptEpochIfEmpty, AreTombstones, Ask, DeliverHints, DropPurged, DropTree, Fence,
    ForgetHints, Heal, Hint, JoinRecord, Joined, KeepPurged, KeyPage, Keys, Leaves, ListDamaged,
    Probe, Purge, PurgedOf, ReadRecord, Refilled, Roots, RootsOf, Sync as SyncTree, Tombstones,
    TreePage, answer_to,
};
pub use clock::{Clock, Instant};
pub use error::StoreError;
pub use handler::RequestHandler;
pub use idempotency::{
    Claim, ClaimOutcome, Completion, Fingerprint, IdempotencyScope, IdempotencyStore,
};
pub use maintenance::{
    Digest, Dropped, HintsReport, KeyHash, LEAVES, Maintained, Maintenance, Purged, Synced,
    TreeName,
};
pub use metadata::{Change, LeaseOutcome, MetadataEvent, MetadataStore};
pub use migration::{
    Checkpoint, Migration, MigrationProgress, MigrationStatus, UnknownMigrationStatus,
};
pub use random::Random;
pub use record_key::{RecordKey, RecordKeyError};
pub use release::{Caller, Release, Window};
pub use replica::{
    AcceptRequest, CallError, JoinSource, Judged, NodeReport, Operation, Overwrites, Refusal,
    ReplicaTransport, Reply, Request, Standing,
};
pub use spawn::Spawn;
pub use stop::Stop;
pub use storage::{Batch, Durability, Proof, Put, Space, StorageEngine, StorageError};
pub use tenant::{SiblingLimits, Tenant, TenantId, TenantIdError};

/// Everything a coordinator may touch outside itself.
pub trait CoordinatorWorld: Clone + Send + Sync + 'static {
    /// Monotonic and wall clock.
    type Clock: Clock;
    /// Randomness.
    type Random: Random;
    /// Background tasks.
    type Spawn: Spawn;
    /// The way to the storage nodes.
    type Transport: ReplicaTransport;
    /// Tenants and topology.
    type Metadata: MetadataStore;
    /// Claims and answers of requests that carry an idempotency key.
    type Idempotency: IdempotencyStore;

    /// The clocks.
    fn clock(&self) -> &Self::Clock;
    /// The randomness.
    fn random(&self) -> &Self::Random;
    /// The spawner.
    fn spawner(&self) -> &Self::Spawn;
    /// The transport.
    fn transport(&self) -> &Self::Transport;
    /// The metadata store.
    fn metadata(&self) -> &Self::Metadata;
    /// The idempotency store.
    fn idempotency(&self) -> &Self::Idempotency;

    /// The release that it speaks, and writes for others to read. Only a simulated process speaks an older one.
    fn speaks(&self) -> Release {
        Release::Current
    }
}

/// Everything a storage node may touch outside itself.
pub trait ReplicaWorld: Clone + Send + Sync + 'static {
    /// Monotonic and wall clock.
    type Clock: Clock;
    /// Randomness.
    type Random: Random;
    /// Background tasks.
    type Spawn: Spawn;
    /// The embedded engine.
    type Storage: StorageEngine;
    /// The way to the other storage nodes.
    type Transport: ReplicaTransport;

    /// The clocks.
    fn clock(&self) -> &Self::Clock;
    /// The randomness.
    fn random(&self) -> &Self::Random;
    /// The spawner.
    fn spawner(&self) -> &Self::Spawn;
    /// The engine.
    fn storage(&self) -> &Self::Storage;
    /// The transport.
    fn transport(&self) -> &Self::Transport;

    /// The release that it speaks, and writes for others to read. Only a simulated process speaks an older one.
    fn speaks(&self) -> Release {
        Release::Current
    }
}
