//! Writes with an idempotency key: one effect, one answer.
//!
//! The claim fixes the write's id and its stamp before the write has any effect, so a retry after a crash repeats the
//! same write: an owner that has it does not apply it again, and under `last_write_wins` it can't win over anything
//! that came after the claim. For the same reason the stamp must be above all that came before the claim; a read at the
//! write's own consistency finds out what that is.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::held_claim::{HeldClaim, late};
use super::owners::{Answer, Calls};
use super::service::Coordinator;
use super::validate;
use super::wait::before;
use super::write::{ProposedStamp, Write, Written};
use super::{ClockEntry, CoordinatorError, IdempotencyOutage, WriteOutcome};
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::placement::Token;
use crate::ports::{
    Claim, ClaimOutcome, Clock, Completion, CoordinatorWorld, Fingerprint, IdempotencyScope,
    IdempotencyStore, Instant, Operation, Random, RecordKey, Reply, StoreError, Upkeep, Upkept,
};
use crate::quorum::{ConflictPolicy, Consistency};
use crate::sabotage::{self, Sabotage};
use crate::version::{Content, Context, Record, Stamp, WriteId};

/// First pause between looks at a claim somebody else holds; it doubles up to a quarter of a second.
const POLL_PAUSE: Duration = Duration::from_millis(5);
const POLL_PAUSE_MAX: Duration = Duration::from_millis(250);

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

impl<W: CoordinatorWorld> Coordinator<W> {
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
        let fingerprint = fingerprint(&write);
        let claim = Claim {
            fingerprint,
            write_id: write.write_id,
            stamp: write.stamp.get(),
            holder: self.random().next_u64(),
        };
        let mut held = HeldClaim::new(self.clone(), scope.clone(), claim);
        let claim = match self.claim(&scope, claim, write.deadline).await {
            Ok(Claimed::First(claim)) => {
                held.granted(claim, true);
                claim
            }
            Ok(Claimed::TakenOver(claim)) => {
                marks::reached(Mark::ClaimTakenOver);
                held.granted(claim, false);
                claim
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
        };
        self.maybe_pause(Site::PauseAfterClaim, write.deadline)
            .await;
        write.write_id = claim.write_id;
        write.stamp = ProposedStamp::Fixed(claim.stamp);
        if sabotage::on(Sabotage::ClaimedStampRaised) {
            write.stamp = ProposedStamp::Free(claim.stamp);
        }
        let (consistency, context, deadline) =
            (write.consistency, write.context.clone(), write.deadline);
        if sabotage::on(Sabotage::AnswerStoredFirst) {
            let nothing = Written {
                replicas: 0,
                dot: None,
                record: Record::default(),
            };
            let key = scope.idempotency_key.clone();
            let early = self.answer_write(&nothing, consistency, context.clone(), token, key);
            let early = encode_answer(claim.write_id, &early);
            let _ = held.store_answer(early, deadline).await;
        }
        match self.replicate(write).await {
            Ok(written) => {
                let key = scope.idempotency_key;
                let outcome = self.answer_write(&written, consistency, context, token, key);
                self.complete(held, claim, outcome, deadline).await
            }
            Err(error) => {
                let had_no_effect =
                    !error.is_indeterminate() || sabotage::on(Sabotage::ClaimAlwaysReleased);
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
        match self.settings().idempotency_outage {
            IdempotencyOutage::Degrade if is_away => {
                marks::reached(Mark::DegradedWithoutClaim);
                self.write_without_claim(write, token, scope.idempotency_key)
                    .await
            }
            _ => {
                marks::reached(Mark::RefusedWithoutClaim);
                Err(CoordinatorError::Store(error))
            }
        }
    }

    async fn maybe_pause(&self, site: Site, deadline: Instant) {
        let clock = self.clock();
        buggify::pause(site, |pause| {
            clock.sleep_until(deadline.min(clock.now() + pause))
        })
        .await;
    }

    /// A stamp above every quorum write of the key that completed before now.
    async fn stamp_above_all_before(
        &self,
        write: &Write,
    ) -> Result<ProposedStamp, CoordinatorError> {
        let Write {
            key,
            replication_factor,
            policy,
            consistency,
            deadline,
            ..
        } = write;
        if sabotage::on(Sabotage::ClaimStampFromClock) {
            return Ok(ProposedStamp::Fixed(write.stamp.get()));
        }
        // A retry may ask for more than this attempt does, and keeps this stamp.
        let consistency = match consistency {
            Consistency::One => Consistency::Quorum,
            more => *more,
        };
        let held = self
            .read_record(
                key,
                (*replication_factor, *policy),
                consistency,
                &Context::default(),
                *deadline,
            )
            .await?;
        let held = match held.siblings().is_empty() {
            true if sabotage::on(Sabotage::ClaimIgnoresPurge) => Stamp::ZERO,
            true => self.purged_stamp(key, *replication_factor, *deadline).await,
            false => held.greatest_stamp(),
        };
        self.stamp_above(held)
            .map(ProposedStamp::Fixed)
            .ok_or(CoordinatorError::Internal(
                "no stamp is left above the key's",
            ))
    }

    /// The greatest stamp that was purged of the key's tree: the write must be above it, too.
    async fn purged_stamp(
        &self,
        key: &RecordKey,
        replication_factor: u8,
        deadline: Instant,
    ) -> Stamp {
        let owners = self.owners(key, replication_factor);
        let mut calls = Calls::new();
        for position in 0..owners.len() {
            let upkeep = Upkeep::Purged { tree: key.tree() };
            let operation = Operation::Upkeep(Box::new(upkeep));
            calls.push(owners.call(position, operation, deadline));
        }
        let mut answered = 0;
        let mut greatest = Stamp::ZERO;
        while answered < owners.required(Consistency::Quorum)
            && let Some(Answer { result, .. }) = calls.next().await
        {
            if let Ok(Reply::Upkept(Upkept::Purged(purged))) = result {
                answered += 1;
                greatest = greatest.max(purged.stamp);
            }
        }
        greatest
    }

    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        deadline: Instant,
    ) -> Result<Claimed, CoordinatorError> {
        let settings = self.settings();
        let mut pause = POLL_PAUSE;
        loop {
            // Nobody is to wait for an attempt that is over.
            let left = deadline.since(self.clock().now());
            let lease = match sabotage::on(Sabotage::ClaimLeftToItsLease) {
                true => settings.claim_lease,
                false => settings.claim_lease.min(left),
            };
            let retention = settings.idempotency_retention;
            let attempt = self
                .world()
                .idempotency()
                .claim(scope, claim, lease, retention);
            let outcome = before(self.clock(), deadline, attempt)
                .await
                .unwrap_or_else(|| Err(late()));
            self.note_idempotency(&outcome);
            let outcome = outcome?;
            let conflict = || {
                marks::reached(Mark::IdempotencyConflict);
                CoordinatorError::IdempotencyKeyConflict {
                    key: scope.idempotency_key.clone(),
                    cause: "it was used for a different request; use a new idempotency key".into(),
                }
            };
            let differs = |other: Fingerprint| {
                other != claim.fingerprint && !sabotage::on(Sabotage::FingerprintIgnored)
            };
            match outcome {
                ClaimOutcome::Claimed => return Ok(Claimed::First(claim)),
                ClaimOutcome::Answered { .. } if sabotage::on(Sabotage::StoredAnswerIgnored) => {
                    return Ok(Claimed::First(claim));
                }
                ClaimOutcome::Pending(_) if sabotage::on(Sabotage::PendingClaimIgnored) => {
                    return Ok(Claimed::First(claim));
                }
                ClaimOutcome::TakenOver(_) if sabotage::on(Sabotage::TakeoverNewWrite) => {
                    return Ok(Claimed::TakenOver(claim));
                }
                ClaimOutcome::TakenOver(first) => {
                    return Ok(Claimed::TakenOver(Claim {
                        holder: claim.holder,
                        ..first
                    }));
                }
                ClaimOutcome::Answered { fingerprint, .. } if differs(fingerprint) => {
                    return Err(conflict());
                }
                ClaimOutcome::Answered { answer, .. } => return Ok(Claimed::Answered(answer)),
                ClaimOutcome::Pending(other) if differs(other.fingerprint) => {
                    return Err(conflict());
                }
                ClaimOutcome::Pending(_) => {
                    marks::reached(Mark::ClaimPending);
                    let left = deadline.since(self.clock().now());
                    if left < POLL_PAUSE {
                        marks::reached(Mark::ClaimStillPending);
                        return Err(CoordinatorError::IdempotencyKeyInUse {
                            key: scope.idempotency_key.clone(),
                        });
                    }
                    // The last looks come the closer together the nearer the deadline is.
                    self.clock().sleep(pause.min(left / 2)).await;
                    pause = (pause * 2).min(POLL_PAUSE_MAX);
                }
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
        self.maybe_pause(Site::PauseBeforeComplete, deadline).await;
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
        match self.settings().idempotency_outage {
            IdempotencyOutage::Refuse if !sabotage::on(Sabotage::ServedUnkept) => {
                Err(CoordinatorError::AnswerNotKept(error))
            }
            _ => Ok(WriteOutcome {
                without_idempotency: true,
                ..outcome
            }),
        }
    }

    async fn write_without_claim(
        &self,
        write: Write,
        token: Token,
        idempotency_key: String,
    ) -> Result<WriteOutcome, CoordinatorError> {
        let (consistency, context) = (write.consistency, write.context.clone());
        let write = Write {
            stamp: ProposedStamp::Free(write.stamp.get()),
            ..write
        };
        let written = self.replicate(write).await?;
        let outcome = self.answer_write(&written, consistency, context, token, idempotency_key);
        Ok(WriteOutcome {
            without_idempotency: true,
            ..outcome
        })
    }
}

enum Claimed {
    First(Claim),
    TakenOver(Claim),
    Answered(Bytes),
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
        context: match sabotage::on(Sabotage::StoredAnswerDiffers) {
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
