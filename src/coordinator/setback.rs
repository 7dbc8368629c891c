//! Why one pass over a record's owners did not succeed, and who was missing.

use super::owners::Owners;
use super::{CoordinatorError, QuorumNotReached};
use crate::placement::Epoch;
use crate::ports::{CallError, CoordinatorWorld};
use crate::quorum::Consistency;

/// What ended a pass.
#[derive(Debug)]
pub(super) enum Setback {
    /// A replica knows a newer topology: refresh and start over.
    StaleEpoch(Epoch),
    /// It can't be done.
    Failed(CoordinatorError),
}

/// What went wrong at which owner so far.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Whether a failed attempt may have had its effect.
    pub(super) may_have_happened: bool,
    reasons: Vec<(String, String)>,
}

impl Missing {
    pub(super) fn note(&mut self, node: String, reason: impl Into<String>) {
        self.reasons.retain(|(name, _)| *name != node);
        self.reasons.push((node, reason.into()));
    }

    pub(super) fn failed(&mut self, node: String, error: &CallError) {
        self.may_have_happened |= error.may_have_happened();
        self.note(node, error.to_string());
    }

    /// The error that says how many answered and who did not.
    pub(super) fn error<W: CoordinatorWorld>(
        &self,
        owners: &Owners<W>,
        consistency: Consistency,
        answered: usize,
        timed_out: bool,
    ) -> CoordinatorError {
        let mut missing = self.reasons.clone();
        if owners.len() == 0 {
            missing.push(("the cluster".into(), "has no storage node".into()));
        } else if timed_out {
            missing.push(("others".into(), "no answer yet".into()));
        }
        CoordinatorError::QuorumNotReached(Box::new(QuorumNotReached {
            consistency,
            required: owners.required(consistency),
            answered,
            missing,
            timed_out,
            indeterminate: self.may_have_happened,
        }))
    }
}
