//! The idempotency store at the other end of a network that fails, and failing itself when the world says so.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pairdb::adapters::memory::MemoryIdempotency;
use pairdb::ports::{
    Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, StoreError,
};

use super::clock::SimClock;
use super::link::StoreLink;
use crate::describe::{self, Said};

type Store = MemoryIdempotency<SimClock>;

/// The idempotency store itself. Copies share it.
#[derive(Clone)]
pub struct ClaimsHome {
    store: Arc<Mutex<Store>>,
    clock: SimClock,
}

impl ClaimsHome {
    /// An empty store that lives by `clock`.
    #[must_use]
    pub fn new(clock: SimClock) -> Self {
        let store = Arc::new(Mutex::new(Store::new(clock.clone())));
        Self { store, clock }
    }

    /// It loses all it holds.
    pub fn forget(&self) {
        *self.lock() = Store::new(self.clock.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idempotency store as one coordinator reaches it.
#[derive(Clone)]
pub struct SimIdempotency {
    home: ClaimsHome,
    link: StoreLink,
}

impl SimIdempotency {
    /// `home` at the end of `link`.
    #[must_use]
    pub fn new(home: ClaimsHome, link: StoreLink) -> Self {
        Self { home, link }
    }

    async fn ask<A: Debug + Send + 'static>(
        &self,
        verb: &'static str,
        scope: &IdempotencyScope,
        mut question: impl FnMut(&Store, &IdempotencyScope) -> Option<Result<A, StoreError>>
        + Send
        + 'static,
    ) -> Result<A, StoreError> {
        let home = self.home.clone();
        let said = || Said {
            key: Some(describe::place(&scope.record)),
            ..Said::new(verb, scope.idempotency_key.clone())
        };
        self.link
            .ask(said, {
                let scope = scope.clone();
                // Whatever the store holds when the question arrives.
                move || question(&home.lock(), &scope)
            })
            .await?
    }
}

impl IdempotencyStore for SimIdempotency {
    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        lease: Duration,
        retention: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        let ask = || {
            self.ask("claim", scope, move |store, scope| {
                store.claim(scope, claim, lease, retention).now_or_never()
            })
        };
        match ask().await {
            // As clients of a cluster do when a connection breaks: the first one may have been done.
            Err(_) if self.link.asks_again() => ask().await,
            answer => answer,
        }
    }

    async fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> Result<Completion, StoreError> {
        self.ask("complete", scope, move |store, scope| {
            store
                .complete(scope, claim, answer.clone(), retention)
                .now_or_never()
        })
        .await
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        self.ask("release", scope, move |store, scope| {
            store.release(scope, claim).now_or_never()
        })
        .await
    }

    async fn abandon(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        self.ask("abandon", scope, move |store, scope| {
            store.abandon(scope, claim).now_or_never()
        })
        .await
    }
}
