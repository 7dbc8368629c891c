//! One idempotency store or another, behind one type, so that the coordinator is compiled once.

use std::time::Duration;

use bytes::Bytes;

use crate::adapters::redis::RedisIdempotency;
use crate::adapters::sqlite::SqliteIdempotency;
use crate::ports::{
    Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, StoreError,
};

/// The idempotency store that the configuration chose. Copies share it.
#[derive(Clone, Debug)]
pub enum ChosenIdempotency {
    /// In the file of the metadata.
    Sqlite(SqliteIdempotency),
    /// For any number of machines.
    Redis(RedisIdempotency),
}

/// The same call of whichever it is. Boxed: their futures are kilobytes, which every write would carry along.
macro_rules! call {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            ChosenIdempotency::Sqlite(store) => Box::pin(store.$method($($argument),*)).await,
            ChosenIdempotency::Redis(store) => Box::pin(store.$method($($argument),*)).await,
        }
    };
}

impl IdempotencyStore for ChosenIdempotency {
    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        lease: Duration,
        retention: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        call!(self, claim(scope, claim, lease, retention))
    }

    async fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> Result<Completion, StoreError> {
        call!(self, complete(scope, claim, answer, retention))
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        call!(self, release(scope, claim))
    }

    async fn abandon(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        call!(self, abandon(scope, claim))
    }
}
