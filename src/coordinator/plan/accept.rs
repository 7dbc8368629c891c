//! One owner gives a write its dot.
//!
//! The most promising owner is asked; when it fails, or takes longer than it should, the next one is asked as well, for
//! the same write with the same stamp. The first that has it durably decides what the write has become.
//!
//! - An owner that holds a greater rank had no effect and says so. The write needs a greater stamp, then; unless a
//!   claim has fixed it, so that a write which is outranked was made and overwritten.
//! - An owner that can't tell the write from the repetition of one that was overwritten and forgotten leaves it
//!   indeterminate if it may have been attempted before. (A delete is made again: it overwrites the same.)
//! - An owner that has not seen what the context covers has to be brought up first.
//! - A refusal of the request itself is one of all owners, and is the client's to hear if nothing can have happened.

use std::time::Duration;

use super::{Candidates, Next, Notes, Plan, Positions, Wait};
use crate::buggify::{self, Site};
use crate::coordinator::order::OwnerOrder;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{AcceptAnswer, AcceptRequest, CallError, Overwrites, Refusal};
use crate::version::{Content, Dot, Rank, Stamp, WriteId};

use bytes::Bytes;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct Accept {
    request: AcceptRequest,
    /// Whether its stamp says for good which writes it wins over.
    is_fixed: bool,
    /// Whether it may have been attempted by another request, under the same name.
    is_claimed: bool,
    candidates: Candidates,
    /// Who was asked first, and who last.
    first: Option<usize>,
    latest: Option<usize>,
}

/// What the owner that answered made of the write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::coordinator) enum Accepted {
    /// It has it durably.
    Made {
        /// Who.
        position: usize,
        /// `None` when it was overwritten before it could be applied.
        dot: Option<Dot>,
        /// The encoded record after the write.
        record: Bytes,
    },
    /// It holds a greater rank, and the write may be given a greater stamp: see [`Accept::raised`].
    Outranked {
        /// Who.
        position: usize,
        /// By this.
        by: Rank,
    },
    /// It has not seen what the context covers; it can be asked again when it has: see [`Accept::brought_up`].
    Behind {
        /// Who.
        position: usize,
    },
    /// The request itself is refused, without effect.
    Refused(Refusal),
}

impl Accept {
    pub(in crate::coordinator) const fn new(
        request: AcceptRequest,
        is_fixed: bool,
        is_claimed: bool,
        order: OwnerOrder,
    ) -> Self {
        Self {
            request,
            is_fixed,
            is_claimed,
            candidates: Candidates::new(order),
            first: None,
            latest: None,
        }
    }

    /// Goes on with a greater stamp, from the owner that asked for it. Answers to smaller stamps no longer count: what
    /// is acknowledged must have the greatest that was ever proposed.
    pub(in crate::coordinator) fn raised(&mut self, stamp: Stamp, position: usize) {
        self.request.stamp = stamp;
        self.candidates.under_way = 0;
        self.candidates.order.again(position);
    }

    /// Goes on with an owner that has seen now what the context covers.
    pub(in crate::coordinator) fn brought_up(&mut self, position: usize) {
        self.candidates.order.again(position);
    }

    /// The write's name.
    pub(in crate::coordinator) const fn write_id(&self) -> WriteId {
        self.request.write_id
    }

    fn ask_next(&mut self) -> Next<Accepted> {
        let Some(position) = self.candidates.next() else {
            return match self.candidates.is_idle() {
                true => Next::fail(),
                false => Next::wait(Wait::UntilDeadline),
            };
        };
        self.latest = Some(position);
        if *self.first.get_or_insert(position) != position {
            marks::reached(Mark::StampFailedOver);
        }
        let wait = match mutant::on(Mutant::PatienceEndless) {
            true => Wait::UntilDeadline,
            false if buggify::on(Site::StampImpatience) => Wait::For(Duration::ZERO),
            false => Wait::ForSlowest(Positions::one(position)),
        };
        Next::wait(wait).asking(Some(position))
    }

    /// The owner at `position` holds a greater rank, `by`.
    fn superseded(
        &mut self,
        position: usize,
        (by, may_be_over, record): (Rank, bool, Bytes),
        notes: &mut Notes<'_>,
    ) -> Next<Accepted> {
        let siblings = matches!(self.request.overwrites, Overwrites::Covered(_));
        let again_is_more = siblings && self.request.content != Content::Tombstone;
        let attempted = self.is_claimed || again_is_more && notes.missing.may_have_happened;
        if may_be_over && attempted && !mutant::on(Mutant::OverwrittenWrittenAgain) {
            marks::reached(Mark::MayBeOver);
            notes.missing.may_have_happened = true;
            notes.missing.because(
                "the key was overwritten or deleted since: this write may have been made before that",
            );
            return Next::fail();
        }
        if self.is_fixed || mutant::on(Mutant::SupersededIsSuccess) {
            marks::reached(Mark::SupersededFixed);
            return Next::done(Accepted::Made {
                position,
                dot: None,
                record,
            });
        }
        Next::done(Accepted::Outranked { position, by })
    }
}

impl Plan for Accept {
    type Ask = AcceptRequest;
    type Output = Accepted;

    const MAY_HAPPEN_UNHEARD: bool = true;
    const LATE: Option<Mark> = Some(Mark::StampDeadline);

    fn question(&self) -> AcceptRequest {
        self.request.clone()
    }

    fn start(&mut self, _: &mut Notes<'_>) -> Next<Accepted> {
        self.ask_next()
    }

    fn on_answer(
        &mut self,
        position: usize,
        answer: Result<AcceptAnswer, CallError>,
        notes: &mut Notes<'_>,
    ) -> Next<Accepted> {
        self.candidates.answered();
        // Another owner that was asked may stamp it yet.
        let is_elsewhere = !self.candidates.is_idle();
        match answer {
            Ok(AcceptAnswer::Accepted { dot, record }) => {
                if self.first != Some(position) {
                    marks::reached(Mark::StampedElsewhere);
                }
                notes.missing.may_have_happened = true;
                Next::done(Accepted::Made {
                    position,
                    dot: Some(dot),
                    record,
                })
            }
            Ok(AcceptAnswer::Superseded {
                greatest,
                may_be_over,
                record,
            }) => {
                notes.missing.may_have_happened |= is_elsewhere;
                self.superseded(position, (greatest, may_be_over, record), notes)
            }
            Ok(AcceptAnswer::Behind) => {
                notes.missing.may_have_happened |= is_elsewhere;
                Next::done(Accepted::Behind { position })
            }
            Err(CallError::Refused(refusal @ (Refusal::Malformed(_) | Refusal::Crowded(_)))) => {
                notes.missing.may_have_happened |= is_elsewhere;
                if !notes.missing.may_have_happened {
                    return Next::done(Accepted::Refused(refusal));
                }
                notes.note(position, refusal.to_string());
                Next::fail()
            }
            Err(error) => {
                notes.failed(position, &error);
                match mutant::on(Mutant::StampFailoverSkipped) {
                    true => Next::fail(),
                    false => self.ask_next(),
                }
            }
        }
    }

    fn on_patience(&mut self, notes: &mut Notes<'_>) -> Next<Accepted> {
        if let Some(position) = self.latest.take() {
            notes.too_slow(position, "slow to accept it");
        }
        if mutant::on(Mutant::FailoverForgetsWriteId) {
            self.request.write_id.0 = self.request.write_id.0.wrapping_add(1);
        }
        self.ask_next()
    }
}

#[cfg(test)]
#[path = "accept_test.rs"]
mod tests;
