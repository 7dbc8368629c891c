//! The storage engine: an ordered byte map with atomic batches.

use std::future::Future;

use bytes::Bytes;

/// The engine's separate key spaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// Client data: [`RecordKey`](super::RecordKey) to encoded [`Record`](crate::version::Record).
    Records,
    /// The node's own identity and reservations.
    Meta,
    /// Sums over the records, leaf by leaf.
    Digests,
    /// Which records are nothing but tombstones, and since when; what was purged.
    Tombstones,
    /// Which other node may lack which record.
    Hints,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 5] = [
        Self::Records,
        Self::Meta,
        Self::Digests,
        Self::Tombstones,
        Self::Hints,
    ];
}

/// One change of a batch: `value` of `None` removes the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Where.
    pub space: Space,
    /// The key.
    pub key: Bytes,
    /// The new value.
    pub value: Option<Bytes>,
}

/// Changes that become visible and durable together or not at all. A later change of a key wins over an earlier one.
pub type Batch = Vec<Put>;

/// When a completed commit survives the loss of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Always: commits complete after the sync.
    Always,
    /// Once the next periodic sync has run; an unclean stop can lose acknowledged commits.
    Interval,
}

/// What an engine can say of what it had acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// All of it is there.
    Whole,
    /// All of it is there that had been synced.
    Synced,
    /// Some of what had been synced is not there, or may not be: why.
    Lacking(String),
}

/// Why the engine did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StorageError {
    /// No room left. Reads still work.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The engine failed, or stopped after an earlier failure. A commit's outcome is unknown until the engine was
    /// opened again.
    #[error("the storage engine failed: {0}")]
    Failed(String),
}

/// An ordered byte map.
///
/// - `read` and `scan` see only what is durable (under [`Durability::Always`]), and all of what was committed before
///   they were called.
/// - Commits of one caller that awaits each of them take effect in that order; concurrent ones in some order.
pub trait StorageEngine: Clone + Send + Sync + 'static {
    /// When commits are durable.
    fn durability(&self) -> Durability;

    /// The values of `keys`, in their order.
    fn read(
        &self,
        space: Space,
        keys: Vec<Bytes>,
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, StorageError>> + Send;

    /// Up to `limit` pairs with `from <= key`, and `key < to` where `to` is given, in key order.
    fn scan(
        &self,
        space: Space,
        from: Bytes,
        to: Option<Bytes>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Bytes, Bytes)>, StorageError>> + Send;

    /// Makes all of `batch` visible at once, durable as [`StorageEngine::durability`] says.
    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Makes every completed commit durable, whatever the durability setting.
    fn sync(&self) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// What can be said of what was acknowledged before the engine was opened, or opened again. That something is
    /// lacking is told until the first commit after that is durable, so that what follows from it is to be part of that
    /// commit, and is told again after a start before that.
    fn proof(&self) -> Proof;

    /// Opens an engine again that has failed: what failed commits have changed is there from then on, each of them
    /// whole, or it is not. Meanwhile it can't be read. Does nothing where nothing failed.
    ///
    /// # Errors
    /// While it can't be opened, or what it was short of is short still. Until it can, it goes on as it was.
    fn reopen(&self) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// How full the engine's disk is, 0 to 100; `None` where there is no disk or it can't be told.
    fn disk_used_percent(&self) -> Option<u8> {
        None
    }

    /// About how many keys `space` has; exact when it is zero.
    fn approximate_count(
        &self,
        space: Space,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;
}
