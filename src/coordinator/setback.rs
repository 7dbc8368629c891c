//! Why one pass over a record's owners did not succeed, and who was missing.

use super::owners::Owners;
use super::{CoordinatorError, QuorumNotReached};
use crate::placement::Epoch;
use crate::ports::{CallError, CoordinatorWorld};
use crate::quorum::{Consistency, Tally};

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
    cause: Option<String>,
}

impl Missing {
    /// What stands in the way that is no owner.
    pub(super) fn because(&mut self, cause: impl Into<String>) {
        self.cause = Some(cause.into());
    }

    pub(super) fn note(&mut self, node: String, reason: impl Into<String>) {
        self.reasons.retain(|(name, _)| *name != node);
        self.reasons.push((node, reason.into()));
    }

    pub(super) fn failed(&mut self, node: String, error: &CallError) {
        self.may_have_happened |= error.may_have_happened();
        self.note(node, in_words(error));
    }

    /// For an operation that changes nothing, so that it makes no difference whether it happened.
    pub(super) fn failed_to_read(&mut self, node: String, error: &CallError) {
        self.note(node, in_words(error));
    }

    /// The error that says how many answered, by `tally` (`None`: nobody), and who did not.
    pub(super) fn error<W: CoordinatorWorld>(
        &self,
        owners: &Owners<W>,
        consistency: Consistency,
        tally: Option<&Tally>,
        timed_out: bool,
    ) -> CoordinatorError {
        let mut missing = self.reasons.clone();
        let mut cause = self.cause.clone();
        if owners.len() == 0 {
            cause = Some("the cluster has no storage node".into());
        } else if timed_out {
            for position in 0..owners.len() {
                let name = owners.name(position);
                let answered = tally.is_some_and(|tally| tally.succeeded(position));
                if !answered && missing.iter().all(|(noted, _)| *noted != name) {
                    missing.push((name, "no answer yet".into()));
                }
            }
        }
        CoordinatorError::QuorumNotReached(Box::new(QuorumNotReached {
            consistency,
            required: owners.required(consistency),
            answered: tally.map_or(0, Tally::answered),
            missing,
            cause,
            timed_out,
            indeterminate: self.may_have_happened,
        }))
    }
}

/// Why a node did not do it, for who asked the coordinator: whether the node was asked at all, and what it said.
pub(super) fn in_words(error: &CallError) -> String {
    match error {
        CallError::NotSent(why) => format!("not reached: {why}"),
        CallError::NoAnswer(why) => format!("asked, but did not answer: {why}"),
        CallError::Refused(refusal) => refusal.to_string(),
    }
}
