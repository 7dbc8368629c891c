//! What a client is told of an acknowledged write.

use super::replication::Replication;
use super::request::WriteOutcome;
use super::write::{Write, Written};
use crate::mutant::{self, Mutant};
use crate::placement::Token;
use crate::ports::CoordinatorWorld;
use crate::quorum::Consistency;
use crate::version::Context;

/// What is known of the answer before the write is made.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    consistency: Consistency,
    /// What the client brought along.
    context: Context,
    token: Token,
    idempotency_key: String,
}

impl Answering {
    pub(super) fn to(write: &Write, token: Token, idempotency_key: String) -> Self {
        Self {
            consistency: write.consistency,
            context: write.context.clone(),
            token,
            idempotency_key,
        }
    }

    /// The answer.
    pub(super) fn with<W: CoordinatorWorld>(
        self,
        written: &Written,
        replication: &Replication<W>,
    ) -> WriteOutcome {
        WriteOutcome {
            replicas: written.replicas,
            consistency: self.consistency,
            clock: replication.readable_clock(written.record.seen()),
            context: context_after(written, self.context).encode(self.token.0),
            idempotency_key: self.idempotency_key,
            is_duplicate: false,
            without_idempotency: false,
            rewritten_bytes: written.rewritten_bytes(),
        }
    }
}

/// What a client knows that has made a write, of what it knew `before`.
///
/// Alone in its record, the write has overwritten all that was seen there. Beside siblings, or overwritten itself by
/// the time of a repeated answer, the client knows what it brought along and its own write, and a later write of it
/// must not overwrite the others.
fn context_after(written: &Written, before: Context) -> Context {
    let seen = written.record.seen();
    match written.record.siblings() {
        _ if mutant::on(Mutant::WriteContextTooWide) => Context {
            shown: seen.clone(),
            written: None,
        },
        [only] if written.dot == Some(only.dot) => {
            let mut shown = before.shown;
            shown.merge(seen);
            Context {
                shown,
                written: None,
            }
        }
        _ => Context {
            shown: before.shown,
            written: written
                .dot
                .filter(|_| !mutant::on(Mutant::OwnWriteNotInContext)),
        },
    }
}
