//! What a coordinator's answer means to a client, and how it reads.

use pairdb::coordinator::{CoordinatorError, ReadOutcome, WriteOutcome};

use crate::hash::Fnv;
use crate::op::Answered;
use crate::value;
use crate::world::Expect;

/// An answer as a client takes it.
pub(super) struct Answer {
    /// For the history.
    pub(super) answered: Answered,
    /// For people.
    pub(super) text: String,
    /// For those who expect something; values are left out.
    pub(super) kind: Expect,
}

impl Answer {
    /// There was nobody.
    pub(super) fn nobody() -> Self {
        Self {
            answered: Answered::Refused,
            text: "refused: nobody there".to_owned(),
            kind: Expect::Refused,
        }
    }
}

pub(super) fn written(outcome: WriteOutcome) -> Answered {
    Answered::Written {
        context: outcome.context,
        is_duplicate: outcome.is_duplicate,
        without_idempotency: outcome.without_idempotency,
    }
}

pub(super) fn found(outcome: ReadOutcome) -> Answered {
    let values = outcome.values.into_iter();
    Answered::Found {
        values: values.map(|found| (found.value, found.stamp)).collect(),
        context: outcome.context,
    }
}

/// What an answer means to a client, and how it reads.
pub(super) fn interpret(
    result: Result<Answered, CoordinatorError>,
    tenant: &str,
    key: &str,
) -> Answer {
    match result {
        Ok(answered) => {
            let text = success(&answered, tenant, key);
            let kind = match &answered {
                Answered::Written {
                    without_idempotency: true,
                    ..
                } => Expect::WithoutIdempotency,
                Answered::Written {
                    is_duplicate: true, ..
                } => Expect::Duplicate,
                Answered::Found { .. } => Expect::Shows(Vec::new()),
                _ => Expect::Ok,
            };
            Answer {
                answered,
                text,
                kind,
            }
        }
        Err(CoordinatorError::KeyNotFound { context, .. }) => {
            let text = format!("found nothing context {:016x}", Fnv::of(&context));
            Answer {
                answered: Answered::NotFound { context },
                text,
                kind: Expect::NotFound,
            }
        }
        Err(error) => {
            let (kind, unsure) = failure(&error);
            let answered = if unsure {
                Answered::Indeterminate
            } else {
                Answered::Refused
            };
            Answer {
                answered,
                text: format!("failed: {error}"),
                kind,
            }
        }
    }
}

fn success(answered: &Answered, tenant: &str, key: &str) -> String {
    match answered {
        Answered::Written {
            context,
            is_duplicate,
            without_idempotency,
        } => {
            let duplicate = if *is_duplicate { " duplicate" } else { "" };
            let without = if *without_idempotency {
                " without idempotency"
            } else {
                ""
            };
            format!("ok{duplicate}{without} context {:016x}", Fnv::of(context))
        }
        Answered::Found { values, context } => {
            let shown: Vec<String> = values
                .iter()
                .map(|(bytes, stamp)| match value::parse(tenant, key, bytes) {
                    Some(op) => format!("#{}@{stamp}", op.0),
                    None => format!("{:?}@{stamp}", String::from_utf8_lossy(bytes)),
                })
                .collect();
            let context = Fnv::of(context);
            format!("found {} context {context:016x}", shown.join(" "))
        }
        _ => "ok".to_owned(),
    }
}

/// What kind of failure it is, and whether there may have been an effect.
fn failure(error: &CoordinatorError) -> (Expect, bool) {
    match error {
        CoordinatorError::QuorumNotReached(missing) if missing.indeterminate => {
            (Expect::Indeterminate, true)
        }
        CoordinatorError::QuorumNotReached(_) => (Expect::QuorumNotReached, false),
        CoordinatorError::IdempotencyKeyConflict { .. } => (Expect::Conflict, false),
        CoordinatorError::IdempotencyKeyInUse { .. } => (Expect::KeyInUse, false),
        CoordinatorError::AnswerNotKept(_) => (Expect::Indeterminate, true),
        CoordinatorError::Store(_) => (Expect::Unavailable, true),
        CoordinatorError::Overloaded(_) | CoordinatorError::Stopping => (Expect::Overloaded, false),
        CoordinatorError::InvalidRequest { .. } => (Expect::Invalid, false),
        CoordinatorError::Crowded(_) => (Expect::Crowded, false),
        CoordinatorError::Internal(_) => (Expect::Fails, true),
        _ => (Expect::Fails, false),
    }
}
