//! The idempotency store at the other end of a network that fails, and failing itself when the world says so.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pairdb::adapters::memory::MemoryIdempotency;
use pairdb::ports::{
    Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, StoreError,
};

use super::clock::SimClock;
use super::transport::StoreLink;
use crate::describe::{self, Said};

type Store = MemoryIdempotency<SimClock>;

/// The idempotency store as one coordinator reaches it.
#[derive(Clone)]
pub struct SimIdempotency {
    store: Store,
    link: StoreLink,
}

impl SimIdempotency {
    /// `store` at the end of `link`.
    #[must_use]
    pub fn new(store: Store, link: StoreLink) -> Self {
        Self { store, link }
    }

    async fn ask<A: Debug + Send + 'static>(
        &self,
        verb: &'static str,
        scope: &IdempotencyScope,
        mut question: impl FnMut(&Store, &IdempotencyScope) -> Option<Result<A, StoreError>>
        + Send
        + 'static,
    ) -> Result<A, StoreError> {
        let store = self.store.clone();
        let said = || Said {
            key: Some(describe::place(&scope.record)),
            ..Said::new(verb, scope.idempotency_key.clone())
        };
        self.link
            .ask(said, {
                let scope = scope.clone();
                move || question(&store, &scope)
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
        self.ask("claim", scope, move |store, scope| {
            store.claim(scope, claim, lease, retention).now_or_never()
        })
        .await
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
}
