//! A claim on an idempotency key, for as long as one attempt is at work on it.
//!
//! What it is: the end of every claim. An attempt ends with an answer or a failure; or nobody runs its next line,
//! because its client has gone away. In none of these is the claim left to its lease, which would keep retries waiting
//! for an attempt that is over. What it is not: needed for any promise. A claim that nobody could be told the end of,
//! because the coordinator died or the store is away, is taken over when its lease is over.
//!
//! Invariants: a claim whose write may have had an effect keeps its write id and stamp; what is told to the store is
//! told by a task of its own, which outlives the request, and there are as many of them as there may be requests.

use std::sync::Arc;

use futures::channel::oneshot;

use super::CoordinatorSettings;
use super::admission::Admission;
use super::wait::before;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{
    Claim, Clock, Completion, CoordinatorWorld, IdempotencyScope, IdempotencyStore, Instant, Spawn,
    StoreError,
};

/// The way of the ends of claims to the idempotency store.
pub(super) struct ClaimEnds<W: CoordinatorWorld> {
    world: W,
    settings: Arc<CoordinatorSettings>,
    /// How many may be on their way.
    places: Admission,
}

/// A claim that this attempt holds, or may hold: the store was asked and has not answered yet.
pub(super) struct HeldClaim<W: CoordinatorWorld> {
    ends: Arc<ClaimEnds<W>>,
    scope: IdempotencyScope,
    claim: Claim,
    /// Whether the attempt made the claim and did not find it.
    is_first: bool,
    /// Whether there is nothing left to tell.
    is_over: bool,
}

impl<W: CoordinatorWorld> HeldClaim<W> {
    /// Before the store is asked for `claim`.
    pub(super) const fn new(
        ends: Arc<ClaimEnds<W>>,
        scope: IdempotencyScope,
        claim: Claim,
    ) -> Self {
        Self {
            ends,
            scope,
            claim,
            is_first: false,
            is_over: false,
        }
    }

    /// The store has granted it: as `claim`, which is this attempt's own if it `is_first`.
    pub(super) fn granted(&mut self, claim: Claim, is_first: bool) {
        self.claim = claim;
        self.is_first = is_first;
    }

    /// The claim that is held.
    pub(super) const fn claim(&self) -> Claim {
        self.claim
    }

    /// The store has not granted it.
    pub(super) fn not_granted(mut self) {
        self.is_over = true;
    }

    /// Stores the answer, whether or not this is waited for; it is, until `deadline`.
    pub(super) async fn answered(
        mut self,
        answer: bytes::Bytes,
        deadline: Instant,
    ) -> Result<Completion, StoreError> {
        self.is_over = true;
        self.store_answer(answer, deadline).await
    }

    /// The same with a claim that is held on.
    pub(super) async fn store_answer(
        &self,
        answer: bytes::Bytes,
        deadline: Instant,
    ) -> Result<Completion, StoreError> {
        let Ok(place) = self.ends.places.enter() else {
            return Err(StoreError::Unavailable {
                store: "idempotency store",
                cause: "too many answers wait for it".into(),
            });
        };
        let (ends, scope, claim) = (Arc::clone(&self.ends), self.scope.clone(), self.claim);
        let retention = ends.settings.idempotency_retention;
        let (done, stored) = oneshot::channel();
        let task = async move {
            let (_place, store) = (place, ends.world.idempotency());
            let completion = store.complete(&scope, claim, answer, retention);
            let completion = before(ends.world.clock(), ends.heard_by(), completion)
                .await
                .unwrap_or_else(|| Err(late()));
            let failed = completion.is_err();
            let _ = done.send(completion);
            if failed {
                ends.abandon(&scope, claim).await;
            }
        };
        let spawner = self.ends.world.spawner();
        spawner.spawn("answer of a claim", task);
        match before(self.ends.world.clock(), deadline, stored).await {
            Some(Ok(completion)) => completion,
            Some(Err(oneshot::Canceled)) | None => Err(late()),
        }
    }

    /// The attempt has failed. The claim is gone by the time that this is over, or by `deadline` is about to be.
    pub(super) async fn failed(mut self, had_no_effect: bool, deadline: Instant) {
        self.is_over = true;
        // Whoever held a claim before us may have had its effect: only a claim of our own is given back.
        let ended = self.tell(self.is_first && had_no_effect);
        before(self.ends.world.clock(), deadline, ended).await;
    }

    /// Gives the claim back, or else abandons it; whether or not that is waited for.
    fn tell(&self, is_given_back: bool) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        if mutant::on(Mutant::ClaimLeftToItsLease) {
            return told;
        }
        let Ok(place) = self.ends.places.enter() else {
            return told; // the lease ends it
        };
        let (ends, scope, claim) = (Arc::clone(&self.ends), self.scope.clone(), self.claim);
        let task = async move {
            let _place = place;
            match is_given_back {
                true => ends.release(&scope, claim).await,
                false => ends.abandon(&scope, claim).await,
            }
            let _ = done.send(());
        };
        let spawner = self.ends.world.spawner();
        spawner.spawn("end of a claim", task);
        told
    }
}

impl<W: CoordinatorWorld> Drop for HeldClaim<W> {
    fn drop(&mut self) {
        if !self.is_over {
            drop(self.tell(false));
        }
    }
}

impl<W: CoordinatorWorld> ClaimEnds<W> {
    pub(super) fn new(world: W, settings: Arc<CoordinatorSettings>) -> Self {
        Self {
            places: Admission::new(settings.in_flight_max),
            settings,
            world,
        }
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) {
        let released = self.world.idempotency().release(scope, claim);
        let released = before(self.world.clock(), self.heard_by(), released).await;
        if let Some(Ok(())) = released {
            marks::reached(Mark::ClaimReleased);
        }
    }

    async fn abandon(&self, scope: &IdempotencyScope, claim: Claim) {
        let abandoned = self.world.idempotency().abandon(scope, claim);
        let abandoned = before(self.world.clock(), self.heard_by(), abandoned).await;
        if let Some(Ok(())) = abandoned {
            marks::reached(Mark::ClaimAbandoned);
        }
    }

    /// How long the store is given to hear of the end of a claim: as long as a request may take.
    fn heard_by(&self) -> Instant {
        self.world.clock().now() + self.settings.write_timeout
    }
}

/// The request's time was over before the store had answered.
pub(super) fn late() -> StoreError {
    StoreError::Late {
        store: "idempotency store",
    }
}
