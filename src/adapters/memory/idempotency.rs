//! Claims and answers in memory.
//!
//! Leases and retention run by the clock the store is given. What has expired is as good as gone, and is removed a few
//! entries at a time by later calls, so no call pays for all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::ports::{
    Claim, ClaimOutcome, Clock, Completion, Fingerprint, IdempotencyScope, IdempotencyStore,
    Instant, StoreError,
};

/// The most entries held. Beyond it new claims fail as if the store were down.
const ENTRIES_MAX: usize = 1_000_000;

/// How many expired entries one call removes at most.
const REMOVALS_MAX: usize = 16;

/// An idempotency store in memory. Copies share one store.
#[derive(Clone, Debug)]
pub struct MemoryIdempotency<C> {
    entries: Arc<Mutex<Entries>>,
    clock: C,
}

#[derive(Debug, Default)]
struct Entries {
    by_scope: BTreeMap<IdempotencyScope, Entry>,
    /// The same entries by when they end.
    by_end: BTreeSet<(Instant, IdempotencyScope)>,
}

#[derive(Clone, Debug)]
struct Entry {
    ends: Instant,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Pending {
        claim: Claim,
        lease_ends: Instant,
    },
    Answered {
        fingerprint: Fingerprint,
        answer: Bytes,
    },
}

impl Entries {
    /// The entry, unless it has expired.
    fn get(&self, scope: &IdempotencyScope, now: Instant) -> Option<&Entry> {
        self.by_scope.get(scope).filter(|entry| now < entry.ends)
    }

    fn put(&mut self, scope: &IdempotencyScope, entry: Entry) -> Result<(), StoreError> {
        self.remove(scope);
        if self.by_scope.len() >= ENTRIES_MAX {
            let cause = format!("it is full with {ENTRIES_MAX} entries");
            return Err(StoreError::Unavailable {
                store: "idempotency store",
                cause,
            });
        }
        self.by_end.insert((entry.ends, scope.clone()));
        self.by_scope.insert(scope.clone(), entry);
        Ok(())
    }

    fn remove(&mut self, scope: &IdempotencyScope) {
        if let Some(entry) = self.by_scope.remove(scope) {
            self.by_end.remove(&(entry.ends, scope.clone()));
        }
    }

    fn remove_expired(&mut self, now: Instant) {
        for _ in 0..REMOVALS_MAX {
            match self.by_end.first() {
                Some((ends, scope)) if *ends <= now => {
                    self.by_scope.remove(scope);
                    self.by_end.pop_first();
                }
                _ => return,
            }
        }
    }
}

impl<C: Clock> MemoryIdempotency<C> {
    /// An empty store that lives by `clock`.
    #[must_use]
    pub fn new(clock: C) -> Self {
        Self {
            entries: Arc::default(),
            clock,
        }
    }

    fn entries(&self, now: Instant) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.remove_expired(now);
        entries
    }
}

impl<C: Clock> IdempotencyStore for MemoryIdempotency<C> {
    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        lease: Duration,
        retention: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        let now = self.clock.now();
        let mut entries = self.entries(now);
        let (claim, outcome) = match entries.get(scope, now).map(|entry| &entry.state) {
            None => (claim, ClaimOutcome::Claimed),
            Some(State::Answered {
                fingerprint,
                answer,
            }) => {
                return Ok(ClaimOutcome::Answered {
                    fingerprint: *fingerprint,
                    answer: answer.clone(),
                });
            }
            Some(State::Pending {
                claim: held,
                lease_ends,
            }) => match claim.meets(*held, *lease_ends <= now) {
                ClaimOutcome::TakenOver(taken) => (taken, ClaimOutcome::TakenOver(taken)),
                ClaimOutcome::Claimed => (claim, ClaimOutcome::Claimed),
                other => return Ok(other),
            },
        };
        let state = State::Pending {
            claim,
            lease_ends: now + lease,
        };
        entries.put(
            scope,
            Entry {
                ends: now + retention,
                state,
            },
        )?;
        Ok(outcome)
    }

    async fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> Result<Completion, StoreError> {
        let now = self.clock.now();
        let mut entries = self.entries(now);
        if let Some(Entry {
            state: State::Answered { answer, .. },
            ..
        }) = entries.get(scope, now)
        {
            return Ok(Completion::Already(answer.clone()));
        }
        let state = State::Answered {
            fingerprint: claim.fingerprint,
            answer,
        };
        entries.put(
            scope,
            Entry {
                ends: now + retention,
                state,
            },
        )?;
        Ok(Completion::Stored)
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut entries = self.entries(now);
        if let Some(Entry {
            state: State::Pending { claim: held, .. },
            ..
        }) = entries.get(scope, now)
            && held.holder == claim.holder
        {
            entries.remove(scope);
        }
        Ok(())
    }

    async fn abandon(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut entries = self.entries(now);
        if let Some(Entry {
            state:
                State::Pending {
                    claim: held,
                    lease_ends,
                },
            ..
        }) = entries.by_scope.get_mut(scope)
            && held.holder == claim.holder
        {
            *lease_ends = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::ManualClock;
    use crate::placement::PartitionId;
    use crate::ports::{RecordKey, TenantId, conformance};
    use crate::version::{Stamp, WriteId};

    #[tokio::test]
    async fn conforms() {
        let clock = ManualClock::default();
        let pass = async |duration| clock.advance(duration);
        conformance::idempotency_store(async || MemoryIdempotency::new(clock.clone()), pass).await;
    }

    #[tokio::test]
    async fn what_has_expired_is_removed() {
        let clock = ManualClock::default();
        let store = MemoryIdempotency::new(clock.clone());
        let minute = Duration::from_secs(60);
        let claim = Claim {
            fingerprint: [0; 32],
            write_id: WriteId(1),
            stamp: Stamp(1),
            holder: 1,
        };
        let claim_key = async |n: usize| {
            let record = RecordKey::new(PartitionId(0), &TenantId::new("t").unwrap(), "k");
            let scope = IdempotencyScope {
                record,
                idempotency_key: n.to_string(),
            };
            store.claim(&scope, claim, minute, minute).await.unwrap();
        };
        for n in 0..100 {
            claim_key(n).await;
        }
        clock.advance(minute);
        for n in 100..110 {
            claim_key(n).await;
        }
        let entries = store.entries.lock().unwrap();
        assert_eq!(entries.by_scope.len(), 10);
        assert_eq!(entries.by_end.len(), 10);
    }
}
