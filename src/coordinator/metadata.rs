//! The metadata store as the coordinator uses it: every answer has a deadline, and whether it answers is known.
//!
//! What it is not: a cache. Tenants have theirs ([`super::tenants`]), the topology in use is kept by
//! [`super::topologies`].

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;

use super::store_health::StoreHealth;
use super::wait::before;
use crate::placement::Topology;
use crate::ports::{Clock, CoordinatorWorld, Instant, LeaseOutcome, MetadataStore, StoreError};

/// The right to do what one coordinator at a time is to do, for a while. It saves work that need not be done twice, and
/// keeps nothing safe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    /// What it is called.
    pub(super) name: &'static str,
    /// Who asks for it: a number drawn for this.
    pub(super) holder: u64,
    /// For how long it is given.
    pub(super) lasts: Duration,
}

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

    /// Takes or renews a lease. Returns whether the holder has it from now on; not if the store does not say so.
    pub(super) async fn holds(&self, lease: Lease) -> bool {
        let held = self.renewed(lease).await;
        held.unwrap_or_else(|error| {
            tracing::debug!(%error, lease = lease.name, "can't ask for a lease");
            false
        })
    }

    async fn renewed(&self, lease: Lease) -> Result<bool, StoreError> {
        let Lease {
            name,
            holder,
            lasts,
        } = lease;
        let acquire = self.store().acquire_lease(name, holder, lasts);
        let outcome = self.in_time(self.deadline(), acquire).await;
        self.changes.note(&outcome);
        Ok(outcome? == LeaseOutcome::Held)
    }

    /// Does something while a lease is held that was just taken, and renews it meanwhile. `None`: the lease is lost,
    /// and what was done has stopped where it was.
    pub(super) async fn while_held<T>(
        &self,
        lease: Lease,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let clock = self.world.clock();
        let mut work = pin!(work.fuse());
        let mut held_until = clock.now() + lease.lasts;
        loop {
            // A third of it, so that one renewal may fail.
            let mut pause = pin!(clock.sleep(lease.lasts / 3).fuse());
            futures::select_biased! {
                done = work => return Some(done),
                () = pause => {}
            }
            let asked_at = clock.now();
            let mut renewal = pin!(self.renewed(lease).fuse());
            let renewed = futures::select_biased! {
                done = work => return Some(done),
                renewed = renewal => renewed,
            };
            match renewed {
                Ok(true) => held_until = asked_at + lease.lasts,
                Err(_) if clock.now() < held_until => {}
                Ok(false) | Err(_) => return None,
            }
        }
    }

    /// Ends a lease. If that fails it ends by itself.
    pub(super) async fn let_go(&self, lease: Lease) {
        let release = self.store().release_lease(lease.name, lease.holder);
        let released = self.in_time(self.deadline(), release).await;
        if let Err(error) = released {
            tracing::debug!(%error, lease = lease.name, "a lease is left to its end");
        }
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::super::test_cluster::{Away, TestCluster};
    use super::*;

    const LEASE: Lease = Lease {
        name: "work",
        holder: 1,
        lasts: Duration::from_secs(30),
    };

    /// For how long work goes on that has no end, from when its lease was taken.
    fn works_for(happens: impl FnOnce(&TestCluster)) -> Duration {
        let cluster = TestCluster::new();
        let world = cluster.world().clone();
        let began = world.clock().now();
        let metadata = Metadata::new(world.clone(), Duration::from_secs(1));
        assert!(cluster.run(metadata.holds(LEASE)));
        happens(&cluster);
        let work = metadata.while_held(LEASE, pending::<()>());
        assert_eq!(cluster.run(work), None, "it had to stop");
        world.clock().now().since(began)
    }

    #[test]
    fn work_goes_on_while_a_lease_lasts_that_can_not_be_renewed_and_no_longer() {
        for away in [Away::Fails, Away::Silent] {
            let worked = works_for(|cluster| cluster.metadata_is(away));
            let most = LEASE.lasts + LEASE.lasts / 3;
            assert!(
                worked >= LEASE.lasts && worked <= most,
                "{away:?}: {worked:?}"
            );
        }
    }

    #[test]
    fn work_ends_when_somebody_else_has_its_lease() {
        let worked = works_for(|cluster| {
            let lost = cluster.metadata().release_lease(LEASE.name, LEASE.holder);
            cluster.run(lost).unwrap();
            let taken = cluster.metadata().acquire_lease(LEASE.name, 2, LEASE.lasts);
            assert_eq!(cluster.run(taken), Ok(LeaseOutcome::Held));
        });
        assert!(worked < LEASE.lasts, "{worked:?}");
    }
}
