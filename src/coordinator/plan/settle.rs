//! Read repair: as many owners as were asked for hold what a read gives out, before it is given out.
//!
//! Under `last_write_wins` an owner counts only if what is given out *leads* there, or did (see
//! [`standings`](crate::coordinator::standings)): only then will enough owners say so to its coordinator, and a write
//! that was shown is never stamped again. Where it led in between, what overwrote it came after the answers, and so was
//! not complete when this read began.
//!
//! One that is silent must not keep a majority that is well from answering: owners that were not asked before are
//! brought up in its place.

use bytes::Bytes;

use super::{Candidates, Next, Notes, Plan, Positions, Then, Wait};
use crate::coordinator::order::OwnerOrder;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{CallError, JoinRecord, Joined, RecordKey, Refusal, Standing};
use crate::quorum::{ConflictPolicy, Tally, Verdict};

/// See the [module](self).
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct Settle<'a> {
    key: &'a RecordKey,
    record: Bytes,
    is_deleted: bool,
    policy: ConflictPolicy,
    tally: Tally,
    stale: Positions,
    candidates: Candidates,
    /// Who holds it.
    pub(in crate::coordinator) holders: Vec<usize>,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::coordinator) enum Settled {
    /// Enough owners hold it.
    Held,
    /// One of them holds a greater write by now: read again.
    Overtaken,
    /// All owners held what overwrote it, and purged that: only one that had lost that shows it.
    WasPurged,
}

impl<'a> Settle<'a> {
    /// `record` is what is given out, which `is_deleted` if it shows nothing; `holders` answered with it, `stale`
    /// owners with something else, `others` were not asked. `tally` counts the holders.
    pub(in crate::coordinator) fn new(
        key: &'a RecordKey,
        (record, is_deleted, policy): (Bytes, bool, ConflictPolicy),
        (holders, stale, others): (Vec<usize>, Positions, OwnerOrder),
        tally: Tally,
    ) -> Self {
        Self {
            key,
            record,
            is_deleted,
            policy,
            tally,
            stale,
            candidates: Candidates::new(others),
            holders,
        }
    }

    fn look(&self) -> Next<Settled> {
        match self.tally.verdict() {
            Verdict::Reached => Next::done(Settled::Held),
            Verdict::Pending if !self.candidates.is_idle() => Next::wait(Wait::On),
            Verdict::Pending | Verdict::Impossible => Next::fail(),
        }
    }

    fn ask_another(&mut self) -> Option<usize> {
        let another = self.candidates.next();
        if another.is_some() {
            marks::reached(Mark::RepairedElsewhere);
        }
        another
    }
}

impl Plan for Settle<'_> {
    type Ask = JoinRecord;
    type Output = Settled;

    const MAY_HAPPEN_UNHEARD: bool = false; // nothing that was not written before
    const LATE: Option<Mark> = None;

    fn question(&self) -> JoinRecord {
        JoinRecord::new(self.key.clone(), self.record.clone())
    }

    fn start(&mut self, _: &mut Notes<'_>) -> Next<Settled> {
        self.candidates.also_asked(self.stale.iter().count());
        let mut ask = self.stale;
        // While owners change there are two quorums, and those that were read may be one of them.
        while !self.tally.would_be_reached_with(ask.iter())
            && let Some(position) = self.candidates.next()
        {
            ask.push(position);
        }
        let mut next = self.look();
        if next.then == Then::Wait(Wait::On) {
            next.then = Then::Wait(Wait::ForSlowest(ask));
        }
        Next { ask, ..next }
    }

    fn on_answer(
        &mut self,
        position: usize,
        answer: Result<Joined, CallError>,
        notes: &mut Notes<'_>,
    ) -> Next<Settled> {
        self.candidates.answered();
        match answer {
            Ok(Joined { standing, .. })
                if self.policy == ConflictPolicy::LastWriteWins
                    && standing != Standing::Leading
                    && !mutant::on(Mutant::OvertakenReadAnswered) =>
            {
                Next::done(Settled::Overtaken)
            }
            Err(CallError::Refused(Refusal::Purged)) if !self.is_deleted => {
                Next::done(Settled::WasPurged)
            }
            // What was purged there was there.
            Ok(_) | Err(CallError::Refused(Refusal::Purged)) => {
                self.holders.push(position);
                self.tally.success(position);
                self.look()
            }
            Err(error) => {
                notes.failed_to_read(position, &error);
                self.tally.failure(position);
                let another = self.ask_another();
                self.look().asking(another)
            }
        }
    }

    fn on_patience(&mut self, _: &mut Notes<'_>) -> Next<Settled> {
        let next = match mutant::on(Mutant::SilentRepairAwaited) {
            true => None,
            false => self.ask_another(),
        };
        match next {
            Some(position) => {
                Next::wait(Wait::ForSlowest(Positions::one(position))).asking(Some(position))
            }
            None => Next::wait(Wait::UntilDeadline),
        }
    }

    fn tally(&self) -> Option<&Tally> {
        Some(&self.tally)
    }
}

#[cfg(test)]
#[path = "settle_test.rs"]
mod tests;
