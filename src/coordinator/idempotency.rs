//! Writes with an idempotency key: one effect, one answer.
//!
//! The claim fixes the write's id and its stamp before the write has any effect, so a retry after a crash repeats the
//! same write: an owner that has it does not apply it again, and under `last_write_wins` it can't win over anything
//! that came after the claim. For the same reason the stamp must be above all that came before the claim; a read at the
//! write's own consistency finds out what that is.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::answer::Answering;
use super::held_claim::{ClaimEnds, HeldClaim, late};
use super::owners::{Answer, Calls};
use super::plan::{Claimed, Claiming, Look};
use super::read::Read;
use super::replication::Replication;
use super::settings::CoordinatorSettings;
use super::store_health::StoreHealth;
use super::validate;
use super::wait::before;
use super::write::{ProposedStamp, Write, Written};
use super::{ClockEntry, CoordinatorError, IdempotencyOutage, WriteOutcome};
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::Token;
use crate::ports::{
    Claim, Clock, Completion, CoordinatorWorld, Fingerprint, IdempotencyScope, IdempotencyStore,
    Instant, PurgedOf, Random, StoreError,
};
use crate::quorum::{ConflictPolicy, Consistency, Verdict};
use crate::version::{Content, Context, Record, Stamp, WriteId};

/// The answer as the store keeps it.
#[derive(Serialize, Deserialize)]
struct StoredAnswer {
    /// Names the write that is answered.
    write_id: String,
    replicas: usize,
    consistency: Consistency,
    clock: Vec<(String, u64)>,
    context: String,
}

/// The claims of one coordinator.
pub(super) struct Claims<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) replication: Arc<Replication<W>>,
    pub(super) ends: Arc<ClaimEnds<W>>,
    /// Whether the store answers.
    pub(super) store: StoreHealth,
}

impl<W: CoordinatorWorld> Claims<W> {
    /// Carries out `write` unless the key's answer is there already.
    pub(super) async fn write_once(
        &self,
        mut write: Write,
        token: Token,
        idempotency_key: String,
    ) -> Result<WriteOutcome, CoordinatorError> {
        validate::idempotency_key(&idempotency_key)?;
        if write.policy == ConflictPolicy::LastWriteWins {
            write.stamp = self.stamp_above_all_before(&write).await?;
        }
        let scope = IdempotencyScope {
            record: write.key.clone(),
            idempotency_key,
        };
        let claim = Claim {
            fingerprint: fingerprint(&write),
            write_id: write.write_id,
            stamp: write.stamp.get(),
            holder: self.world.random().next_u64(),
        };
        let mut held = HeldClaim::new(Arc::clone(&self.ends), scope.clone(), claim);
        match self.claim(&scope, claim, write.deadline).await {
            Ok(Claimed::First(claim)) => held.granted(claim, true),
            Ok(Claimed::TakenOver(claim)) => {
                marks::reached(Mark::ClaimTakenOver);
                held.granted(claim, false);
            }
            Ok(Claimed::Answered(answer)) => {
                marks::reached(Mark::AnswerReplayed);
                held.not_granted();
                return Ok(decode_answer(&answer, scope.idempotency_key)?.1);
            }
            // The store may have granted it all the same.
            Err(CoordinatorError::Store(error)) => {
                return self.write_unclaimed(write, token, scope, error).await;
            }
            Err(error) => {
                held.not_granted();
                return Err(error);
            }
        }
        self.write_claimed(write, token, scope.idempotency_key, held)
            .await
    }

    /// Makes the write that a claim is held for, and stores its answer.
    async fn write_claimed(
        &self,
        mut write: Write,
        token: Token,
        key: String,
        held: HeldClaim<W>,
    ) -> Result<WriteOutcome, CoordinatorError> {
        let (claim, deadline) = (held.claim(), write.deadline);
        self.replication
            .maybe_pause(Site::PauseAfterClaim, deadline)
            .await;
        write.write_id = claim.write_id;
        write.is_claimed = true;
        write.stamp = match mutant::on(Mutant::ClaimedStampRaised) {
            true => ProposedStamp::Free(claim.stamp),
            false => ProposedStamp::Fixed(claim.stamp),
        };
        let answering = Answering::to(&write, token, key);
        if mutant::on(Mutant::AnswerStoredFirst) {
            let nothing = Written {
                replicas: 0,
                dot: None,
                record: Record::default(),
            };
            let early = answering.clone().with(&nothing, &self.replication);
            let early = encode_answer(claim.write_id, &early);
            let _ = held.store_answer(early, deadline).await;
        }
        match self.replication.write(write).await {
            Ok(written) => {
                let outcome = answering.with(&written, &self.replication);
                self.complete(held, claim, outcome, deadline).await
            }
            Err(error) => {
                let had_no_effect =
                    !error.is_indeterminate() || mutant::on(Mutant::ClaimAlwaysReleased);
                held.failed(had_no_effect, deadline).await;
                Err(error)
            }
        }
    }

    /// What becomes of a write whose claim the store did not answer.
    async fn write_unclaimed(
        &self,
        write: Write,
        token: Token,
        scope: IdempotencyScope,
        error: StoreError,
    ) -> Result<WriteOutcome, CoordinatorError> {
        let is_away = !matches!(error, StoreError::Late { .. });
        if !is_away || self.settings.idempotency_outage != IdempotencyOutage::Degrade {
            marks::reached(Mark::RefusedWithoutClaim);
            return Err(CoordinatorError::Store(error));
        }
        marks::reached(Mark::DegradedWithoutClaim);
        let answering = Answering::to(&write, token, scope.idempotency_key);
        let write = Write {
            stamp: ProposedStamp::Free(write.stamp.get()),
            ..write
        };
        let written = self.replication.write(write).await?;
        Ok(WriteOutcome {
            without_idempotency: true,
            ..answering.with(&written, &self.replication)
        })
    }

    /// A stamp above every quorum write of the key that completed before now.
    async fn stamp_above_all_before(
        &self,
        write: &Write,
    ) -> Result<ProposedStamp, CoordinatorError> {
        if mutant::on(Mutant::ClaimStampFromClock) {
            return Ok(ProposedStamp::Fixed(write.stamp.get()));
        }
        let read = Read {
            key: &write.key,
            factor: write.factor,
            policy: write.policy,
            // A retry may ask for more than this attempt does, and keeps this stamp.
            consistency: match write.consistency {
                Consistency::One => Consistency::Quorum,
                more => more,
            },
            floor: &Context::default(),
            deadline: write.deadline,
        };
        let held = self.replication.read(&read).await?;
        let held = match held.siblings().is_empty() {
            true if mutant::on(Mutant::ClaimIgnoresPurge) => Stamp::ZERO,
            true => self.purged_stamp(write).await?,
            false => held.greatest_stamp(),
        };
        self.replication
            .stamp_above(held)
            .map(ProposedStamp::Fixed)
            .ok_or(CoordinatorError::Internal(
                "no stamp is left above the key's",
            ))
    }

    /// The greatest stamp that was purged of the key's tree: the write must be above it, too.
    async fn purged_stamp(&self, write: &Write) -> Result<Stamp, CoordinatorError> {
        let topologies = &self.replication.topologies;
        let mut factor = write.factor;
        let owners = topologies.owners(&write.key, &mut factor, write.deadline);
        let owners = owners.await?;
        let mut calls = Calls::new();
        for position in 0..owners.len() {
            let tree = write.key.tree();
            calls.push(owners.call(position, PurgedOf { tree }, write.deadline));
        }
        let mut answered = owners.read_tally(Consistency::Quorum);
        let mut greatest = Stamp::ZERO;
        while answered.verdict() != Verdict::Reached
            && let Some(Answer { position, result }) = calls.next().await
        {
            if let Ok(purged) = result {
                answered.success(position);
                greatest = greatest.max(purged.stamp);
            }
        }
        Ok(greatest)
    }

    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        deadline: Instant,
    ) -> Result<Claimed, CoordinatorError> {
        let (clock, settings) = (self.world.clock(), &self.settings);
        let mut plan = Claiming::new(claim);
        loop {
            // Nobody is to wait for an attempt that is over.
            let left = deadline.since(clock.now());
            let lease = match mutant::on(Mutant::ClaimLeftToItsLease) {
                true => settings.claim_lease,
                false => settings.claim_lease.min(left),
            };
            let store = self.world.idempotency();
            let attempt = store.claim(scope, claim, lease, settings.idempotency_retention);
            let outcome = before(clock, deadline, attempt)
                .await
                .unwrap_or_else(|| Err(late()));
            self.store.note(&outcome);
            let key = || scope.idempotency_key.clone();
            match plan.on_outcome(outcome?, deadline.since(clock.now())) {
                Look::Claimed(claimed) => return Ok(claimed),
                Look::Conflict => {
                    marks::reached(Mark::IdempotencyConflict);
                    return Err(CoordinatorError::IdempotencyKeyConflict {
                        key: key(),
                        cause: "it was used for a different request; use a new idempotency key"
                            .into(),
                    });
                }
                Look::InUse => return Err(CoordinatorError::IdempotencyKeyInUse { key: key() }),
                Look::Again(pause) => clock.sleep(pause).await,
            }
        }
    }

    async fn complete(
        &self,
        held: HeldClaim<W>,
        claim: Claim,
        outcome: WriteOutcome,
        deadline: Instant,
    ) -> Result<WriteOutcome, CoordinatorError> {
        self.replication
            .maybe_pause(Site::PauseBeforeComplete, deadline)
            .await;
        if buggify::on(Site::AnswerNotStored) {
            return self.without_kept_answer(outcome, late());
        }
        let answer = encode_answer(claim.write_id, &outcome);
        match held.answered(answer, deadline).await {
            Ok(Completion::Stored) => Ok(outcome),
            Ok(Completion::Already(answer)) => {
                let (answered, first) = decode_answer(&answer, outcome.idempotency_key.clone())?;
                if answered == claim.write_id.to_string() {
                    marks::reached(Mark::AnswerFoundStored);
                    return Ok(first);
                }
                let lost = StoreError::Unavailable {
                    store: "idempotency store",
                    cause: "the claim was lost meanwhile and the key used again".into(),
                };
                self.without_kept_answer(outcome, lost)
            }
            // The write is acknowledged by its owners; a retry repeats it under the same id and stamp.
            Err(error) => {
                marks::reached(Mark::AnswerNotStored);
                self.without_kept_answer(outcome, error)
            }
        }
    }

    /// What is answered when the write was made and its answer is not known to be kept.
    fn without_kept_answer(
        &self,
        outcome: WriteOutcome,
        error: StoreError,
    ) -> Result<WriteOutcome, CoordinatorError> {
        match self.settings.idempotency_outage {
            IdempotencyOutage::Refuse if !mutant::on(Mutant::ServedUnkept) => {
                Err(CoordinatorError::AnswerNotKept(error))
            }
            _ => Ok(WriteOutcome {
                without_idempotency: true,
                ..outcome
            }),
        }
    }
}

/// Everything that decides the effect, each part with its length so that no two requests agree by chance. The tenant
/// and key are in the scope.
fn fingerprint(write: &Write) -> Fingerprint {
    let (kind, value): (&[u8], &[u8]) = match &write.content {
        Content::Value(value) => (b"value", value),
        Content::Tombstone => (b"tombstone", b""),
    };
    let context = write.context.encode(0);
    let mut hash = Sha256::new();
    for part in [kind, value, &context] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn encode_answer(write_id: WriteId, outcome: &WriteOutcome) -> Bytes {
    let stored = StoredAnswer {
        write_id: write_id.to_string(),
        replicas: outcome.replicas,
        consistency: outcome.consistency,
        clock: outcome
            .clock
            .iter()
            .map(|entry| (entry.node.clone(), entry.counter))
            .collect(),
        context: BASE64.encode(&outcome.context),
    };
    serde_json::to_vec(&stored).unwrap_or_default().into()
}

/// The name of the write that was answered, and the answer.
fn decode_answer(
    answer: &[u8],
    idempotency_key: String,
) -> Result<(String, WriteOutcome), CoordinatorError> {
    let unreadable = |cause: String| StoreError::Unreadable {
        store: "idempotency store",
        cause,
    };
    let stored: StoredAnswer =
        serde_json::from_slice(answer).map_err(|error| unreadable(error.to_string()))?;
    let context = BASE64
        .decode(stored.context)
        .map_err(|error| unreadable(error.to_string()))?;
    let outcome = WriteOutcome {
        replicas: stored.replicas,
        consistency: stored.consistency,
        clock: stored
            .clock
            .into_iter()
            .map(|(node, counter)| ClockEntry { node, counter })
            .collect(),
        context: match mutant::on(Mutant::StoredAnswerDiffers) {
            true => Bytes::new(),
            false => context.into(),
        },
        idempotency_key,
        is_duplicate: true,
        without_idempotency: false,
        rewritten_bytes: 0,
    };
    Ok((stored.write_id, outcome))
}
