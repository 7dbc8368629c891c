//! What clients want of a cluster: operations, their numbers, and what they were answered.
//!
//! Values only. Who writes them down, and when, is [`crate::history`]'s.

use bytes::Bytes;
use pairdb::quorum::Consistency;
use pairdb::version::Stamp;

use crate::endpoint::Endpoint;

/// Simulated time since the start of the run, in nanoseconds.
pub type Time = u64;

/// The number of a client's operation, unique in a run, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(pub u32);

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A value, named after its operation.
    Write,
    /// A tombstone.
    Delete,
    /// To know.
    Read,
}

impl Kind {
    /// In one word.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Read => "read",
        }
    }
}

/// A client's operation, with what it knows at its start.
#[derive(Clone, Debug)]
pub struct Op {
    /// Its number.
    pub id: OpId,
    /// Who wants it.
    pub client: u8,
    /// An index into the world's tenants.
    pub tenant: usize,
    /// The key.
    pub key: String,
    /// What is wanted.
    pub kind: Kind,
    /// The consistency asked for.
    pub consistency: Consistency,
    /// The operation whose answer's context was given along.
    pub given: Option<OpId>,
    /// The context itself; empty for none.
    pub context: Bytes,
    /// Whether it carries an idempotency key.
    pub idempotent: bool,
    /// When the first attempt left the client.
    pub invoked: Time,
    /// Every answer, in the order of their arrival; several only for operations that are retried.
    pub answers: Vec<Answer>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The attempts that arrived at a coordinator.
    pub arrived: Vec<Arrived>,
    /// Whom the last attempt went to.
    pub last_to: Option<Endpoint>,
    /// Whether some attempt's fate is unknown to the client.
    pub unknown: bool,
    /// Whether the idempotency store forgot its claim, if it had one.
    pub claim_forgotten: bool,
    /// The operation whose idempotency key it brings, if that is another one of the same key.
    pub key_of: Option<OpId>,
    /// Whether it was told that its idempotency key was used for something else.
    pub told_conflict: bool,
}

/// What a client asks for, as often as it asks for it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The operation.
    pub op: OpId,
    /// The step it belongs to.
    pub name: Option<String>,
    /// An index into the world's tenants.
    pub tenant: usize,
    /// The key.
    pub key: String,
    /// What is wanted.
    pub kind: Kind,
    /// The consistency asked for.
    pub consistency: Consistency,
    /// The context that is given along; empty for none.
    pub context: Bytes,
    /// The idempotency key.
    pub idempotency_key: Option<String>,
    /// How many bytes the value has beyond its name.
    pub padding: u64,
    /// The value to be written.
    pub value: Bytes,
}

/// An attempt at a coordinator.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// When it arrived there.
    pub at: Time,
    /// When the client was told that another one with its idempotency key is at work, if it was.
    pub told_in_use: Option<Time>,
}

/// What a client was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it arrived.
    pub at: Time,
    /// What it says.
    pub result: Answered,
}

/// The content of an answer.
#[derive(Clone, Debug)]
pub enum Answered {
    /// A write or delete was acknowledged.
    Written {
        /// The context for later.
        context: Bytes,
        /// Whether it is an earlier attempt's answer.
        is_duplicate: bool,
        /// Whether no claim was made.
        without_idempotency: bool,
    },
    /// A read found values.
    Found {
        /// Each with its stamp, in the order of the answer.
        values: Vec<(Bytes, Stamp)>,
        /// The context for later.
        context: Bytes,
    },
    /// A read found nothing.
    NotFound {
        /// The context for later.
        context: Bytes,
    },
    /// It failed and had no effect.
    Refused,
    /// It failed and may have had its effect.
    Indeterminate,
}

impl Op {
    /// The first answer that acknowledges the operation.
    #[must_use]
    pub fn success(&self) -> Option<&Answer> {
        self.answers
            .iter()
            .find(|answer| answer.result.is_success())
    }

    /// When it was acknowledged.
    #[must_use]
    pub fn completed(&self) -> Option<Time> {
        self.success().map(|answer| answer.at)
    }

    /// Whether an attempt may have been made that no claim held back, because the idempotency store was down. Such a
    /// one is a write of its own, which may take effect at any later time.
    #[must_use]
    pub fn may_be_unclaimed(&self) -> bool {
        let unclaimed = |answer: &Answer| {
            matches!(
                answer.result,
                Answered::Written {
                    without_idempotency: true,
                    ..
                } | Answered::Indeterminate
            )
        };
        let unclaimed = self.answers.iter().any(unclaimed);
        self.attempts > 1 && (self.unknown || unclaimed)
    }

    /// Whether one operation may have become several writes: an attempt was repeated that no claim held back any more.
    /// `degrades`: coordinators go without a claim when they can't make one.
    #[must_use]
    pub fn may_be_remade(&self, degrades: bool) -> bool {
        self.attempts > 1 && self.claim_forgotten || degrades && self.may_be_unclaimed()
    }

    /// Whether a write or delete may have had an effect.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.unknown
            || self.answers.iter().any(|answer| {
                answer.result.is_success() || matches!(answer.result, Answered::Indeterminate)
            })
    }
}

impl Answered {
    /// Whether the operation did what it should.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(
            self,
            Self::Written { .. } | Self::Found { .. } | Self::NotFound { .. }
        )
    }

    /// The context, if there is one.
    #[must_use]
    pub const fn context(&self) -> Option<&Bytes> {
        match self {
            Self::Written { context, .. }
            | Self::Found { context, .. }
            | Self::NotFound { context } => Some(context),
            Self::Refused | Self::Indeterminate => None,
        }
    }
}
