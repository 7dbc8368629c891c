//! The metadata store as the coordinator uses it: every answer has a deadline, and whether it answers is known.
//!
//! What it is not: a cache. Tenants have theirs ([`super::tenants`]), the topology in use is kept by
//! [`super::topologies`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::store_health::StoreHealth;
use super::wait::before;
use crate::placement::Topology;
use crate::ports::{Clock, CoordinatorWorld, Instant, MetadataStore, StoreError};

/// See the [module](self).
pub(super) struct Metadata<W> {
    world: W,
    /// How long an answer is waited for where no request says so.
    patience: Duration,
    answers: AtomicBool,
    /// Whether it takes changes.
    changes: StoreHealth,
}

impl<W: CoordinatorWorld> Metadata<W> {
    pub(super) fn new(world: W, patience: Duration) -> Self {
        Self {
            world,
            patience,
            answers: AtomicBool::new(false),
            changes: StoreHealth::default(),
        }
    }

    pub(super) fn store(&self) -> &W::Metadata {
        self.world.metadata()
    }

    /// When an answer is given up where no request says so.
    pub(super) fn deadline(&self) -> Instant {
        self.world.clock().now() + self.patience
    }

    /// What the store answers, or that it did not before the deadline; then a change may have been made.
    pub(super) async fn in_time<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = before(self.world.clock(), deadline, answer).await;
        answer.unwrap_or_else(|| {
            Err(StoreError::Late {
                store: "metadata store",
            })
        })
    }

    /// The stored topology.
    pub(super) async fn topology(&self, deadline: Instant) -> Result<Topology, StoreError> {
        let fetched = self.in_time(deadline, self.store().topology()).await;
        self.answers.store(fetched.is_ok(), Ordering::Relaxed);
        fetched
    }

    /// Whether it answered when it was last asked for the topology.
    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether it takes changes.
    pub(super) const fn changes(&self) -> &StoreHealth {
        &self.changes
    }
}
