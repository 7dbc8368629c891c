//! The tenant cache: bounded, with a time to live, and one fetch at a time for each tenant.
//!
//! A library's cache would bring its own clock, so this is ours and small. While the metadata store is down an entry
//! past its time goes on being used; a tenant is never invented.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::CoordinatorError;
use super::wait::before;
use crate::ports::{Clock, Instant, MetadataStore, StoreError, Tenant, TenantId};

type Fetch = Shared<BoxFuture<'static, Result<Option<Arc<Tenant>>, StoreError>>>;

/// Cached tenants.
pub(super) struct Tenants<C, M> {
    clock: C,
    metadata: M,
    ttl: Duration,
    entries_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cached: BTreeMap<TenantId, Cached>,
    fetching: BTreeMap<TenantId, Fetch>,
    hits: u64,
    misses: u64,
}

struct Cached {
    tenant: Arc<Tenant>,
    fresh_until: Instant,
}

impl<C: Clock, M: MetadataStore> Tenants<C, M> {
    pub(super) fn new(clock: C, metadata: M, ttl: Duration, entries_max: usize) -> Self {
        Self {
            clock,
            metadata,
            ttl,
            entries_max: entries_max.max(1),
            state: Mutex::default(),
        }
    }

    /// The tenant, from the cache or the store.
    pub(super) async fn get(
        &self,
        id: &TenantId,
        deadline: Instant,
    ) -> Result<Arc<Tenant>, CoordinatorError> {
        let now = self.clock.now();
        let stale = {
            let mut state = self.lock();
            match state.cached.get(id) {
                Some(cached) if now < cached.fresh_until => {
                    let tenant = Arc::clone(&cached.tenant);
                    state.hits += 1;
                    return Ok(tenant);
                }
                cached => cached.map(|cached| Arc::clone(&cached.tenant)),
            }
        };
        match before(&self.clock, deadline, self.fetch(id, now)).await {
            Some(Ok(Some(tenant))) => Ok(tenant),
            Some(Ok(None)) => Err(CoordinatorError::TenantNotFound(id.to_string())),
            Some(Err(error)) => stale.ok_or(CoordinatorError::Store(error)),
            None => stale.ok_or_else(|| {
                CoordinatorError::Store(StoreError::Unavailable {
                    store: "metadata store",
                    cause: "no answer before the deadline".into(),
                })
            }),
        }
    }

    /// Joins the fetch that is under way for this tenant, or starts one.
    async fn fetch(&self, id: &TenantId, now: Instant) -> Result<Option<Arc<Tenant>>, StoreError> {
        let fetch = {
            let mut state = self.lock();
            state.misses += 1;
            state
                .fetching
                .entry(id.clone())
                .or_insert_with(|| self.start_fetch(id.clone()))
                .clone()
        };
        let result = fetch.clone().await;
        let mut state = self.lock();
        if state
            .fetching
            .get(id)
            .is_some_and(|current| current.ptr_eq(&fetch))
        {
            state.fetching.remove(id);
            match &result {
                Ok(Some(tenant)) => self.insert(&mut state, Arc::clone(tenant), now + self.ttl),
                Ok(None) => drop(state.cached.remove(id)),
                Err(_) => {}
            }
        }
        result
    }

    fn start_fetch(&self, id: TenantId) -> Fetch {
        let metadata = self.metadata.clone();
        async move { Ok(metadata.tenant(&id).await?.map(Arc::new)) }
            .boxed()
            .shared()
    }

    /// Has a tenant that changed fetched anew. A fetch under way may have read the old one and is not waited for either.
    pub(super) fn invalidate(&self, id: &TenantId) {
        let mut state = self.lock();
        state.fetching.remove(id);
        if let Some(cached) = state.cached.get_mut(id) {
            cached.fresh_until = Instant::default();
        }
    }

    /// Hits and misses since the start.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        let state = self.lock();
        (state.hits, state.misses)
    }

    fn insert(&self, state: &mut State, tenant: Arc<Tenant>, fresh_until: Instant) {
        if state.cached.len() >= self.entries_max && !state.cached.contains_key(&tenant.id) {
            let oldest = state
                .cached
                .iter()
                .min_by_key(|(_, cached)| cached.fresh_until)
                .map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                state.cached.remove(&oldest);
            }
        }
        state.cached.insert(
            tenant.id.clone(),
            Cached {
                tenant,
                fresh_until,
            },
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
