//! The idempotency store: one claim, then one answer, for each idempotency key.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::{RecordKey, StoreError};
use crate::mutant::{self, Mutant};
use crate::version::{Stamp, WriteId};

/// SHA-256 over all that decides a request's effect. Two requests with one key and two fingerprints conflict.
pub type Fingerprint = [u8; 32];

/// What an idempotency key is unique within: one record of one tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IdempotencyScope {
    /// The tenant and key (and so also the partition).
    pub record: RecordKey,
    /// The client's key, 1 to 255 bytes.
    pub idempotency_key: String,
}

/// Who is at work on a request, and under which name and stamp its effect appears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Of the request.
    pub fingerprint: Fingerprint,
    /// The write's name, the same for every attempt.
    pub write_id: WriteId,
    /// The write's stamp, the same for every attempt.
    pub stamp: Stamp,
    /// A random number that names this attempt; only its holder may give the claim back.
    pub holder: u64,
}

impl Claim {
    /// What this claim comes to where `held` is pending: the rule of every store.
    ///
    /// A holder that meets its own claim is told what it was told, or should have been, the first time: an adapter that
    /// lost the answer asks again, and must not be told to wait for itself.
    #[must_use]
    pub fn meets(self, held: Self, lease_is_over: bool) -> ClaimOutcome {
        let is_own = held.holder == self.holder && !mutant::on(Mutant::OwnClaimUnknown);
        if held.fingerprint != self.fingerprint || !is_own && !lease_is_over {
            return ClaimOutcome::Pending(held);
        }
        if held == self {
            return ClaimOutcome::Claimed;
        }
        ClaimOutcome::TakenOver(Self {
            holder: self.holder,
            ..held
        })
    }
}

/// What a claim met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClaimOutcome {
    /// Nobody was there, or this very claim: it stands.
    Claimed,
    /// A claim of the same fingerprint was there and its lease was over, or this holder has taken it over before. It is
    /// now held by the new holder, with the first claim's write id and stamp, which are in here.
    TakenOver(Claim),
    /// Somebody else holds it: same or another fingerprint, see there.
    Pending(Claim),
    /// The request was answered before.
    Answered {
        /// Of the request that was answered.
        fingerprint: Fingerprint,
        /// As given to [`IdempotencyStore::complete`].
        answer: Bytes,
    },
}

/// What became of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Completion {
    /// It is the answer from now on.
    Stored,
    /// Another attempt answered first; its answer stands.
    Already(Bytes),
}

/// Set-if-absent with a lease, then one final answer. All times run by the store's own clock.
pub trait IdempotencyStore: Clone + Send + Sync + 'static {
    /// Claims `scope` for `lease`; the entry is kept for `retention` from now. Asked again by the same holder, it says
    /// the same and the lease runs anew.
    fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        lease: Duration,
        retention: Duration,
    ) -> impl Future<Output = Result<ClaimOutcome, StoreError>> + Send;

    /// Stores the answer of the write `claim.write_id`, kept for `retention` from now; the first answer wins. Without
    /// an entry (it expired or was lost) the answer is stored.
    fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> impl Future<Output = Result<Completion, StoreError>> + Send;

    /// Removes a pending claim if `claim.holder` still holds it: for a request that was refused before it had any
    /// effect.
    fn release(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the lease of a pending claim if `claim.holder` still holds it, and keeps its write id and stamp, so that
    /// whoever claims next takes it over: for an attempt that is over and may have had its effect.
    fn abandon(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
