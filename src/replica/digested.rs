//! How far the digests have come: which partitions have them, stored with the digests; and what has the others made.
//!
//! What this is not: it makes no digests. The mutation loop does (see [`rebuild`](super::rebuild)).

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;

use super::maintenance_change::MaintenanceChange;
use super::mutation::{Change, Mutation};
use super::shared::Shared;
use crate::ports::{Clock, Put, ReplicaWorld, Space, StorageEngine, StorageError};

const KEY: Bytes = Bytes::from_static(b"digested");
/// All partitions there can be.
pub(super) const ALL: u32 = 1 << 16;

/// Partitions from this one on have no digests. Where there are no records, none lack them.
pub(super) async fn digested(storage: &impl StorageEngine) -> Result<u32, StorageError> {
    let stored = storage.read(Space::Meta, vec![KEY]).await?.pop().flatten();
    let stored = stored.and_then(|bytes| Some(u32::from_be_bytes(bytes[..].try_into().ok()?)));
    if let Some(digested) = stored {
        return Ok(digested);
    }
    let records = storage.scan(Space::Records, Bytes::new(), None, 1).await?;
    if !records.is_empty() {
        return Ok(0);
    }
    if let Err(error) = storage.commit(vec![put(ALL)]).await {
        tracing::debug!(%error, "it is not stored that there is nothing to make digests of");
    }
    Ok(ALL)
}

/// What stores how far it has come.
pub(super) fn put(digested: u32) -> Put {
    Put {
        space: Space::Meta,
        key: KEY,
        value: Some(Bytes::copy_from_slice(&digested.to_be_bytes())),
    }
}

/// Has the mutation loop make digests until none are missing.
pub(super) async fn run<W: ReplicaWorld>(shared: Weak<Shared<W>>) {
    loop {
        let Some(here) = shared.upgrade() else {
            return;
        };
        if here.digested.load(Ordering::Acquire) {
            return;
        }
        let (answer, answered) = oneshot::channel();
        let rebuild = Mutation {
            asked: None,
            change: Change::Maintenance {
                task: MaintenanceChange::Rebuild,
                answer,
            },
        };
        let accepted = here.mutations.push(rebuild, 0).is_ok();
        let pause = here.world.clock().sleep(Duration::from_millis(100));
        drop(here);
        match accepted.then_some(answered.await) {
            Some(Ok(Ok(_))) => {}
            _ => pause.await, // the queue was full, or the disk is
        }
    }
}
