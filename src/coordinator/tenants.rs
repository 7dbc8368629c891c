//! The tenant cache: bounded, with a time to live, and one fetch at a time for each tenant.
//!
//! A library's cache would bring its own clock, so this is ours and small. While the metadata store is down an entry
//! past its time goes on being used; a tenant is never invented.
//!
//! A replication factor says who owns a record together with the topology that it is used with. So it is kept with the
//! epoch that was in use when it was asked for, and not used with a topology whose factors are newer than that.
//!
//! Nor is it used with a topology from before the tenant: who changes owners has those fenced that are owners by the
//! factors of tenants that there are, and a tenant created later may have more. When a tenant was created is not
//! stored: it was by the epoch that is stored when somebody meets it for the first time.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::CoordinatorError;
use super::routing::Routing;
use super::wait::before;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::placement::Epoch;
use crate::ports::{
    Clock, CoordinatorWorld, Instant, MetadataStore, Spawn, StoreError, Tenant, TenantId,
};

use crate::mutant::{self, Mutant};

/// How many owners the keys of a tenant have, and with which topologies that may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Factor {
    /// How many.
    pub(super) replicas: u8,
    /// It was looked up when this epoch was in use, or later.
    pub(super) known_at: Epoch,
    /// This epoch was stored when the tenant was met for the first time, so it was created by then.
    pub(super) met_at: Epoch,
}

impl Factor {
    /// Whether it may be used with this topology.
    pub(super) fn fits(self, routing: &Routing) -> bool {
        let is_recent =
            self.known_at >= routing.factors_since() || mutant::on(Mutant::CachedFactorKept);
        is_recent && self.is_of(routing)
    }

    /// Whether this topology is one that the tenant was met by, or a later one.
    pub(super) fn is_of(self, routing: &Routing) -> bool {
        self.met_at <= routing.epoch() || mutant::on(Mutant::NewTenantByOldTopology)
    }
}

/// A tenant, and by which topology it is known.
#[derive(Clone, Debug)]
pub(super) struct KnownTenant {
    pub(super) tenant: Arc<Tenant>,
    known_at: Epoch,
    met_at: Epoch,
}

impl KnownTenant {
    pub(super) fn factor(&self) -> Factor {
        Factor {
            replicas: self.tenant.replication_factor,
            known_at: self.known_at,
            met_at: self.met_at,
        }
    }
}

impl Deref for KnownTenant {
    type Target = Tenant;

    fn deref(&self) -> &Tenant {
        &self.tenant
    }
}

/// The tenant, and the epoch at which it was met.
type Fetch = Shared<BoxFuture<'static, Result<Option<(Arc<Tenant>, Epoch)>, StoreError>>>;

/// The cached tenants of a coordinator.
pub(super) type TenantCache<W> = Tenants<
    <W as CoordinatorWorld>::Clock,
    <W as CoordinatorWorld>::Spawn,
    <W as CoordinatorWorld>::Metadata,
>;

/// Cached tenants.
pub(super) struct Tenants<C, S, M> {
    clock: C,
    spawner: S,
    metadata: M,
    ttl: Duration,
    entries_max: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cached: BTreeMap<TenantId, Cached>,
    /// Each with the epoch that was in use when it was begun.
    fetching: BTreeMap<TenantId, (Fetch, Epoch)>,
    hits: u64,
    misses: u64,
}

struct Cached {
    known: KnownTenant,
    fresh_until: Instant,
}

impl<C: Clock, S: Spawn, M: MetadataStore> Tenants<C, S, M> {
    pub(super) fn new(
        clock: C,
        spawner: S,
        metadata: M,
        ttl: Duration,
        entries_max: usize,
    ) -> Self {
        Self {
            clock,
            spawner,
            metadata,
            ttl,
            entries_max: entries_max.max(1),
            state: Arc::default(),
        }
    }

    /// The tenant, from the cache or the store, as it may be used with the topology `routing`, which is in use.
    pub(super) async fn get(
        &self,
        id: &TenantId,
        routing: &Routing,
        deadline: Instant,
    ) -> Result<KnownTenant, CoordinatorError> {
        let now = self.clock.now();
        let stale = {
            let mut state = self.lock();
            let cached = match mutant::on(Mutant::TenantCacheMixedUp) {
                true => state.cached.values().next(),
                false => state.cached.get(id),
            };
            match cached {
                Some(cached) if mutant::on(Mutant::TenantNeverExpires) => {
                    return Ok(cached.known.clone());
                }
                Some(cached) if !cached.known.factor().fits(routing) => {
                    marks::reached(Mark::FactorOutdated);
                    None
                }
                Some(cached) if now < cached.fresh_until && !buggify::on(Site::TenantExpired) => {
                    let known = cached.known.clone();
                    state.hits += 1;
                    return Ok(known);
                }
                cached => cached.map(|cached| cached.known.clone()),
            }
        };
        match before(&self.clock, deadline, self.fetch(id, routing, now)).await {
            Some(Ok(Some(tenant))) => Ok(tenant),
            Some(Ok(None)) => Err(CoordinatorError::TenantNotFound(id.to_string())),
            Some(Err(error)) => unanswered(stale, error),
            None => unanswered(
                stale,
                StoreError::Late {
                    store: "metadata store",
                },
            ),
        }
    }

    /// Joins the fetch that is under way for this tenant, or starts one. A task of its own sees it to its end, whether
    /// or not somebody still waits for it.
    async fn fetch(
        &self,
        id: &TenantId,
        routing: &Routing,
        now: Instant,
    ) -> Result<Option<KnownTenant>, StoreError> {
        let (fetch, known_at) = {
            let mut state = self.lock();
            state.misses += 1;
            match state.fetching.get(id) {
                Some((fetch, known_at)) if *known_at >= routing.factors_since() => {
                    marks::reached(Mark::TenantShared);
                    (fetch.clone(), *known_at)
                }
                _ => {
                    let met_at = state.met_at(id, routing);
                    let begun = (self.start_fetch(id.clone(), met_at), routing.epoch());
                    state.fetching.insert(id.clone(), begun.clone());
                    self.see_to_its_end(id.clone(), begun.clone(), now + self.ttl);
                    begun
                }
            }
        };
        let fetched = fetch.await?;
        Ok(fetched.map(|fetched| known(fetched, known_at)))
    }

    /// `met_at`: `None` if the tenant is met for the first time.
    fn start_fetch(&self, id: TenantId, met_at: Option<Epoch>) -> Fetch {
        let metadata = self.metadata.clone();
        let fetch = async move {
            let found = metadata.tenant_and_epoch(&id).await?;
            Ok(found.map(|(tenant, epoch)| (Arc::new(tenant), met_at.unwrap_or(epoch))))
        };
        // Many wait for it, now and later: should it panic, it has failed, and the next one is begun anew.
        let fetch = AssertUnwindSafe(fetch).catch_unwind().map(|fetched| {
            fetched.unwrap_or_else(|_| {
                Err(StoreError::Unavailable {
                    store: "metadata store",
                    cause: "internal error".into(),
                })
            })
        });
        fetch.boxed().shared()
    }

    fn see_to_its_end(
        &self,
        id: TenantId,
        (fetch, known_at): (Fetch, Epoch),
        fresh_until: Instant,
    ) {
        let (state, entries_max) = (Arc::clone(&self.state), self.entries_max);
        self.spawner.spawn("tenant fetch", async move {
            let result = fetch.clone().await;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let is_current = |(current, _): &(Fetch, Epoch)| current.ptr_eq(&fetch);
            if state.fetching.get(&id).is_some_and(is_current) {
                state.fetching.remove(&id);
                match result {
                    Ok(Some(fetched)) => {
                        state.insert(known(fetched, known_at), fresh_until, entries_max);
                    }
                    Ok(None) => drop(state.cached.remove(&id)),
                    Err(_) => {}
                }
            }
        });
    }

    /// Has a tenant that changed fetched anew. A fetch under way may have read the old one and is not waited for
    /// either.
    pub(super) fn invalidate(&self, id: &TenantId) {
        let mut state = self.lock();
        state.fetching.remove(id);
        if let Some(cached) = state.cached.get_mut(id) {
            cached.fresh_until = Instant::default();
        }
    }

    /// The same for all tenants.
    pub(super) fn invalidate_all(&self) {
        let mut state = self.lock();
        state.fetching.clear();
        for cached in state.cached.values_mut() {
            cached.fresh_until = Instant::default();
        }
    }

    /// How many of the cached ones want more replicas than there are `nodes`.
    pub(super) fn wanting(&self, nodes: usize) -> usize {
        let state = self.lock();
        let wants = |cached: &&Cached| usize::from(cached.known.replication_factor) > nodes;
        state.cached.values().filter(wants).count()
    }

    /// Hits and misses since the start.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        let state = self.lock();
        (state.hits, state.misses)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known((tenant, met_at): (Arc<Tenant>, Epoch), known_at: Epoch) -> KnownTenant {
    KnownTenant {
        tenant,
        known_at,
        met_at,
    }
}

/// What to do without the store's answer.
fn unanswered(
    stale: Option<KnownTenant>,
    error: StoreError,
) -> Result<KnownTenant, CoordinatorError> {
    marks::reached(match stale {
        Some(_) => Mark::TenantStale,
        None => Mark::TenantUnknown,
    });
    stale.ok_or(CoordinatorError::Store(error))
}

impl State {
    /// By which epoch the tenant was met before; `None` if it was not, or if the topology in use is older nevertheless:
    /// then the store may have lost that epoch, and what it has now counts.
    fn met_at(&self, id: &TenantId, routing: &Routing) -> Option<Epoch> {
        let cached = self.cached.get(id)?;
        let factor = cached.known.factor();
        factor.is_of(routing).then_some(factor.met_at)
    }

    fn insert(&mut self, known: KnownTenant, fresh_until: Instant, entries_max: usize) {
        if self.cached.len() >= entries_max && !self.cached.contains_key(&known.id) {
            let entries = self.cached.iter();
            let oldest = entries.min_by_key(|(_, cached)| cached.fresh_until);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                marks::reached(Mark::TenantEvicted);
                self.cached.remove(&oldest);
            }
        }
        let id = known.id.clone();
        let cached = Cached { known, fresh_until };
        self.cached.insert(id, cached);
    }
}
