//! Claims and answers: one script each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{FromRedisValue, RedisError, Script};
use tokio::time::timeout;

use super::RedisSettings;
use super::entry;
use super::link::Link;
use super::url::RedisUrl;
use crate::ports::{
    Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, StoreError,
};

const STORE: &str = "idempotency store";

/// Longer times are cut to this: about three centuries, which still adds up with the time of day.
const MILLIS_MAX: u64 = 10_000_000_000_000;

/// The idempotency store in Redis. Copies share its connection.
#[derive(Clone)]
pub struct RedisIdempotency {
    link: Link,
    settings: Arc<RedisSettings>,
    scripts: Arc<Scripts>,
}

struct Scripts {
    claim: Script,
    complete: Script,
    release: Script,
    abandon: Script,
}

impl RedisIdempotency {
    /// Doesn't wait for Redis: the first call connects. Must be called in a runtime.
    ///
    /// # Errors
    /// When the settings can't be used, as with certificates that are none.
    pub fn new(url: &RedisUrl, settings: RedisSettings) -> Result<Self, StoreError> {
        let scripts = Scripts {
            claim: Script::new(include_str!("claim.lua")),
            complete: Script::new(include_str!("complete.lua")),
            release: Script::new(include_str!("release.lua")),
            abandon: Script::new(include_str!("abandon.lua")),
        };
        Ok(Self {
            link: Link::new(url, &settings).map_err(|error| failed(&error))?,
            settings: Arc::new(settings),
            scripts: Arc::new(scripts),
        })
    }

    /// What about the server may cost claims or answers, for people. Empty: nothing that it tells of.
    ///
    /// # Errors
    /// When it can't be reached in time, or doesn't tell.
    pub async fn doubts(&self) -> Result<Vec<&'static str>, StoreError> {
        let told = async {
            let memory = self.link.info("memory").await?;
            Ok::<_, RedisError>((memory, self.link.info("persistence").await?))
        };
        let limit = self.settings.call_timeout;
        let (memory, persistence) = match timeout(limit, told).await {
            Ok(told) => told.map_err(|error| failed(&error))?,
            Err(_) => return Err(late(limit)),
        };
        let line = |text: &str, line: &str| text.lines().any(|other| other.trim() == line);
        let mut doubts = Vec::new();
        if !line(&memory, "maxmemory:0") && !line(&memory, "maxmemory_policy:noeviction") {
            doubts.push("it evicts when memory runs out: set maxmemory-policy noeviction");
        }
        if !line(&persistence, "aof_enabled:1") {
            doubts.push("it forgets when it restarts: set appendonly yes");
        }
        Ok(doubts)
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        scope: &IdempotencyScope,
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        let mut invocation = script.prepare_invoke();
        invocation.key(entry::key(&self.settings.namespace, scope));
        for argument in arguments {
            invocation.arg(*argument);
        }
        let limit = self.settings.call_timeout;
        match timeout(limit, self.link.run(&invocation)).await {
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(_) => Err(late(limit)),
        }
    }
}

impl IdempotencyStore for RedisIdempotency {
    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        lease: Duration,
        retention: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        let (lease, retention) = (millis(lease), millis(retention));
        let arguments: [&[u8]; 5] = [
            &claim.fingerprint,
            &entry::write(&claim),
            &claim.holder.to_be_bytes(),
            lease.as_bytes(),
            retention.as_bytes(),
        ];
        let met: Vec<Bytes> = self.run(&self.scripts.claim, scope, &arguments).await?;
        entry::outcome(met).map_err(|cause| StoreError::Unreadable {
            store: STORE,
            cause,
        })
    }

    async fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> Result<Completion, StoreError> {
        let retention = millis(retention);
        let arguments: [&[u8]; 3] = [&claim.fingerprint, &answer, retention.as_bytes()];
        let stands: Vec<Bytes> = self.run(&self.scripts.complete, scope, &arguments).await?;
        Ok(match stands.into_iter().next() {
            Some(answer) => Completion::Already(answer),
            None => Completion::Stored,
        })
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        let holder = claim.holder.to_be_bytes();
        let _: Vec<Bytes> = self.run(&self.scripts.release, scope, &[&holder]).await?;
        Ok(())
    }

    async fn abandon(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        let holder = claim.holder.to_be_bytes();
        let _: Vec<Bytes> = self.run(&self.scripts.abandon, scope, &[&holder]).await?;
        Ok(())
    }
}

fn late(limit: Duration) -> StoreError {
    StoreError::Unavailable {
        store: STORE,
        cause: format!("no answer within {limit:?}"),
    }
}

fn millis(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    millis.min(MILLIS_MAX).to_string()
}

/// Tells what can't be read from what can't be reached.
fn failed(error: &RedisError) -> StoreError {
    let (store, cause) = (STORE, error.to_string());
    let is_of_another_type = error.kind() == redis::ErrorKind::UnexpectedReturnType;
    match error.code() {
        Some("WRONGTYPE") => StoreError::Unreadable { store, cause },
        _ if is_of_another_type => StoreError::Unreadable { store, cause },
        _ => StoreError::Unavailable { store, cause },
    }
}

impl std::fmt::Debug for RedisIdempotency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisIdempotency").finish_non_exhaustive()
    }
}
