//! What a coordinator answers when it can't do what was asked: one enum, one stable code each.

use bytes::Bytes;

use super::request::ClockEntry;
use crate::ports::StoreError;
use crate::quorum::Consistency;

/// A request failed. The message is meant for the client and holds no internals.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A field is wrong.
    #[error("{field}: {problem}")]
    InvalidRequest {
        /// The field's name on the wire.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The replication factor is not one the cluster can hold.
    #[error("replication_factor: {0}")]
    InvalidReplicationFactor(String),
    /// There is no such tenant.
    #[error("tenant '{0}' not found; create it first")]
    TenantNotFound(String),
    /// There is such a tenant already.
    #[error("tenant '{0}' already exists")]
    TenantExists(String),
    /// The key has no value.
    #[error("key '{key}' not found")]
    KeyNotFound {
        /// The key.
        key: String,
        /// What this answer covers: a later read can be held to it, a later write can overwrite the tombstone.
        context: Bytes,
        /// The readable clock.
        clock: Vec<ClockEntry>,
    },
    /// There is no such migration.
    #[error("migration '{0}' not found")]
    MigrationNotFound(String),
    /// Too few owners answered.
    #[error(transparent)]
    QuorumNotReached(Box<QuorumNotReached>),
    /// The idempotency key was used for another request.
    #[error("idempotency key '{key}' conflict: {cause}")]
    IdempotencyKeyConflict {
        /// The client's key.
        key: String,
        /// What to do.
        cause: String,
    },
    /// The key has as many unresolved siblings, or as many bytes of them, as it may; nothing was written.
    #[error("{0}")]
    Crowded(String),
    /// Another attempt with the idempotency key is at work, and was so until the deadline.
    #[error(
        "a request with the idempotency key '{key}' is still running; repeat it after a moment, with the same key"
    )]
    IdempotencyKeyInUse {
        /// The client's key.
        key: String,
    },
    /// The write is done, and its answer could not be kept for its idempotency key, as `idempotency_outage = refuse`
    /// asks for.
    #[error(
        "the write was made, but not its answer kept for the idempotency key: {0}; repeat it with the same key"
    )]
    AnswerNotKept(StoreError),
    /// The cluster's state forbids the change.
    #[error("{0}")]
    NodeInUse(String),
    /// Somebody runs a version of the program that knows nothing of what is asked for.
    #[error("{0}")]
    OlderVersion(String),
    /// More work than the coordinator takes on.
    #[error("overloaded: {0}; retry after a moment")]
    Overloaded(String),
    /// The coordinator does not begin anything any more.
    #[error("the coordinator is stopping; ask another one")]
    Stopping,
    /// A store this request needs is down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug of ours.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl CoordinatorError {
    /// Whether the write may have an effect, or may have one later, although it failed.
    #[must_use]
    pub const fn is_indeterminate(&self) -> bool {
        match self {
            Self::QuorumNotReached(shortfall) => shortfall.indeterminate,
            Self::AnswerNotKept(_) | Self::Internal(_) => true,
            _ => false,
        }
    }

    /// Whether time ran out, so that a later deadline might have helped.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        match self {
            Self::QuorumNotReached(shortfall) => shortfall.timed_out,
            Self::AnswerNotKept(error) | Self::Store(error) => {
                matches!(error, StoreError::Late { .. })
            }
            _ => false,
        }
    }
}

/// Who was missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumNotReached {
    /// What was asked for.
    pub consistency: Consistency,
    /// How many owners had to answer.
    pub required: usize,
    /// How many did.
    pub answered: usize,
    /// The owners that did not, by name, with the reason as far as it is known.
    pub missing: Vec<(String, String)>,
    /// What else stands in the way, if it is not, or not only, owners.
    pub cause: Option<String>,
    /// Whether the deadline ended it; else it was known to be hopeless before.
    pub timed_out: bool,
    /// For writes: whether some replica may have it all the same.
    pub indeterminate: bool,
}

impl std::fmt::Display for QuorumNotReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            consistency,
            required,
            answered,
            missing,
            cause,
            timed_out,
            indeterminate,
        } = self;
        let when = if *timed_out {
            "before the deadline"
        } else {
            "and no more can"
        };
        write!(
            f,
            "{answered} of {required} replicas needed for {} answered {when}",
            consistency.as_str()
        )?;
        for (index, (node, reason)) in missing.iter().enumerate() {
            let before = if index == 0 { "; missing:" } else { "," };
            write!(f, "{before} {node} ({reason})")?;
        }
        if let Some(cause) = cause {
            write!(f, "; {cause}")?;
        }
        if *indeterminate {
            f.write_str("; the write is indeterminate: it may take effect later")?;
        }
        Ok(())
    }
}

impl std::error::Error for QuorumNotReached {}
