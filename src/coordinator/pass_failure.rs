//! Why one pass over a record's owners did not succeed, and who was missing.

use std::collections::BTreeSet;

use super::owners::Owners;
use super::{CoordinatorError, QuorumNotReached};
use crate::placement::Epoch;
use crate::ports::{CallError, CoordinatorWorld, Refusal};
use crate::quorum::{Consistency, Tally};

/// What ended a pass.
#[derive(Debug)]
pub(super) enum PassFailure {
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
    /// The owners that did not do it for want of room only, here or there.
    crowded: BTreeSet<String>,
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
        self.failed_to_read(node, error);
    }

    /// For an operation that changes nothing, so that it makes no difference whether it happened.
    pub(super) fn failed_to_read(&mut self, node: String, error: &CallError) {
        match is_want_of_room(error) {
            true => drop(self.crowded.insert(node.clone())),
            false => drop(self.crowded.remove(&node)),
        }
        self.note(node, in_words(error));
    }

    /// Whether it would have been done, had there been room; and it was not.
    fn is_overload(&self, required: usize, answered: usize) -> bool {
        !self.may_have_happened
            && !self.crowded.is_empty()
            && answered + self.crowded.len() >= required
    }

    /// The error, if nothing can have happened; else that it may have.
    pub(super) fn or_indeterminate(&self, error: CoordinatorError) -> CoordinatorError {
        match self.may_have_happened {
            false => error,
            true => CoordinatorError::QuorumNotReached(Box::new(QuorumNotReached {
                consistency: Consistency::One,
                required: 1,
                answered: 0,
                missing: self.reasons.clone(),
                cause: Some(error.to_string()),
                timed_out: error.timed_out(),
                indeterminate: true,
            })),
        }
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
        if owners.are_moving() && cause.is_none() {
            cause = Some(
                "the key changes its owners, so that as many of the new ones are needed".into(),
            );
        }
        let required = owners.required(consistency);
        let answered = tally.map_or(0, Tally::answered);
        if self.is_overload(required, answered) && !timed_out {
            let crowded = self.crowded.len();
            return CoordinatorError::Overloaded(format!(
                "{crowded} of the key's replicas, or what leads to them, have more to do than they take on"
            ));
        }
        CoordinatorError::QuorumNotReached(Box::new(QuorumNotReached {
            consistency,
            required,
            answered,
            missing,
            cause,
            timed_out,
            indeterminate: self.may_have_happened,
        }))
    }
}

fn is_want_of_room(error: &CallError) -> bool {
    matches!(
        error,
        CallError::NoRoom { .. } | CallError::Refused(Refusal::Overloaded)
    )
}

/// Why a node did not do it, for who asked the coordinator: whether the node was asked at all, and what it said.
pub(super) fn in_words(error: &CallError) -> String {
    match error {
        CallError::NotSent(why) => format!("not reached: {why}"),
        CallError::NoAnswer(why) => format!("asked, but did not answer: {why}"),
        CallError::NoRoom { sent: false } => "not asked: too much waits to leave".into(),
        CallError::NoRoom { sent: true } => "asked, but there was no room for its answer".into(),
        CallError::Refused(refusal) => refusal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_room_is_overload_only_where_nothing_else_is_in_the_way() {
        let room = || CallError::Refused(Refusal::Overloaded);
        let mut missing = Missing::default();
        missing.failed("n1".into(), &CallError::NoRoom { sent: false });
        assert!(!missing.is_overload(2, 0), "one of them is not enough");
        missing.failed("n2".into(), &room());
        assert!(missing.is_overload(2, 0) && missing.is_overload(3, 1));
        // What became of the last attempt counts.
        missing.failed("n2".into(), &CallError::NotSent("no connection".into()));
        assert!(!missing.is_overload(2, 0));
        missing.failed_to_read("n2".into(), &room());
        assert!(missing.is_overload(2, 0));
        missing.failed("n3".into(), &CallError::NoRoom { sent: true });
        assert!(!missing.is_overload(2, 0), "it may have happened");
    }
}
