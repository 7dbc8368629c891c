//! What an answer of the idempotency store means for a request that claims a key.
//!
//! - Granted: the request makes the write, by its own name and stamp, or by those of the attempt that it takes over.
//! - Answered: that is the answer.
//! - Held by another attempt: look again, the closer together the nearer the deadline is.
//! - Used for another request: a conflict, held or answered.

use std::time::Duration;

use bytes::Bytes;

use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{Claim, ClaimOutcome, Fingerprint};

/// First pause between looks at a claim somebody else holds; it doubles up to a quarter of a second.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A claim that is asked for.
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct Claiming {
    claim: Claim,
    pause: Duration,
}

/// A key that is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::coordinator) enum Claimed {
    /// By this request.
    First(Claim),
    /// By another attempt, whose write this request goes on with.
    TakenOver(Claim),
    /// Its answer is there.
    Answered(Bytes),
}

/// What to do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::coordinator) enum Look {
    /// It is settled.
    Claimed(Claimed),
    /// Another request uses the key.
    Conflict,
    /// Another attempt is at work, and there is no time left.
    InUse,
    /// Another attempt is at work: ask again after this pause.
    Again(Duration),
}

impl Claiming {
    pub(in crate::coordinator) const fn new(claim: Claim) -> Self {
        Self {
            claim,
            pause: PAUSE,
        }
    }

    /// The store answered, with so much time left.
    pub(in crate::coordinator) fn on_outcome(
        &mut self,
        outcome: ClaimOutcome,
        left: Duration,
    ) -> Look {
        let claim = self.claim;
        match outcome {
            ClaimOutcome::Claimed => Look::Claimed(Claimed::First(claim)),
            ClaimOutcome::Answered { .. } if mutant::on(Mutant::StoredAnswerIgnored) => {
                Look::Claimed(Claimed::First(claim))
            }
            ClaimOutcome::Pending(_) if mutant::on(Mutant::PendingClaimIgnored) => {
                Look::Claimed(Claimed::First(claim))
            }
            ClaimOutcome::TakenOver(_) if mutant::on(Mutant::TakeoverNewWrite) => {
                Look::Claimed(Claimed::TakenOver(claim))
            }
            ClaimOutcome::TakenOver(first) => Look::Claimed(Claimed::TakenOver(Claim {
                holder: claim.holder,
                ..first
            })),
            ClaimOutcome::Answered { fingerprint, .. } if self.differs(fingerprint) => {
                Look::Conflict
            }
            ClaimOutcome::Answered { answer, .. } => Look::Claimed(Claimed::Answered(answer)),
            ClaimOutcome::Pending(other) if self.differs(other.fingerprint) => Look::Conflict,
            ClaimOutcome::Pending(_) => self.pending(left),
        }
    }

    fn differs(&self, other: Fingerprint) -> bool {
        other != self.claim.fingerprint && !mutant::on(Mutant::FingerprintIgnored)
    }

    fn pending(&mut self, left: Duration) -> Look {
        marks::reached(Mark::ClaimPending);
        if left < PAUSE {
            marks::reached(Mark::ClaimStillPending);
            return Look::InUse;
        }
        let pause = self.pause.min(left / 2);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Look::Again(pause)
    }
}

#[cfg(test)]
#[path = "claim_test.rs"]
mod tests;
