//! The other owners join a write that one owner has accepted.
//!
//! All are asked at once. It is done when as many have it durably as its consistency asks for and, where its stamp is
//! judged, when it is certain that the stamp is great enough (see [`Standings`]), or all owners are heard, or those
//! that are left were given the time that the quickest may take. What outranks it then is told: it is stamped once
//! more, above that.

use super::{Candidates, Next, Notes, Plan, Positions, Then, Wait};
use crate::coordinator::order::OwnerOrder;
use crate::coordinator::standings::Standings;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{CallError, JoinRecord, Joined, Refusal, Standing};
use crate::quorum::{Quorums, Tally, Verdict};
use crate::version::Rank;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct Join {
    question: JoinRecord,
    /// Who accepted it. It is asked, too, if another write is judged there.
    accepted_by: usize,
    owners: usize,
    /// The write's own rank.
    rank: Rank,
    /// Whether it matters if its stamp is great enough.
    judges: bool,
    tally: Tally,
    standings: Standings,
    candidates: Candidates,
    waits_for_standing: bool,
    /// The greatest rank that was met.
    pub(in crate::coordinator) greatest: Rank,
    /// Who has it.
    pub(in crate::coordinator) holders: Vec<usize>,
    /// Who may lack it.
    pub(in crate::coordinator) missed: Vec<usize>,
}

impl Join {
    /// `greatest` is the greatest rank of the record that is joined, where `rank` is the write's own; `tally` counts
    /// nobody yet, and `shown` is where it has to lead so that reads show it.
    pub(in crate::coordinator) fn new(
        question: JoinRecord,
        accepted_by: usize,
        (rank, greatest, judges): (Rank, Rank, bool),
        (mut tally, owners, shown): (Tally, usize, Quorums),
    ) -> Self {
        tally.success(accepted_by);
        let mut standings = Standings::new(shown);
        if question.judged.is_none() {
            standings.add(accepted_by, Standing::Leading, greatest, rank);
        }
        Self {
            question,
            accepted_by,
            owners,
            rank,
            judges,
            tally,
            standings,
            candidates: Candidates::new(OwnerOrder::default()),
            waits_for_standing: false,
            greatest,
            holders: vec![accepted_by],
            missed: Vec::new(),
        }
    }

    /// How many owners have it.
    pub(in crate::coordinator) fn replicas(&self) -> usize {
        self.tally.answered()
    }

    /// What it has to be stamped above, if it does.
    pub(in crate::coordinator) fn outranked_by(&self) -> Option<Rank> {
        (self.judges && !self.standings.are_enough()).then_some(self.greatest)
    }

    fn look(&mut self) -> Next<()> {
        let is_idle = self.candidates.is_idle();
        match self.tally.verdict() {
            Verdict::Reached if !is_idle && mutant::on(Mutant::StragglersAwaited) => {
                Next::wait(Wait::On)
            }
            Verdict::Reached if !self.judges || self.standings.are_enough() || is_idle => {
                Next::done(())
            }
            Verdict::Reached if !self.waits_for_standing => {
                marks::reached(Mark::RestampAwaited);
                self.waits_for_standing = true;
                Next::wait(Wait::ForQuickest)
            }
            Verdict::Reached | Verdict::Pending => Next::wait(Wait::On),
            Verdict::Impossible => {
                marks::reached(Mark::WriteImpossible);
                Next::fail()
            }
        }
    }
}

impl Plan for Join {
    type Ask = JoinRecord;
    type Output = ();

    const MAY_HAPPEN_UNHEARD: bool = false; // it has happened at the owner that accepted it
    const LATE: Option<Mark> = Some(Mark::JoinDeadline);

    fn question(&self) -> JoinRecord {
        self.question.clone()
    }

    fn start(&mut self, _: &mut Notes<'_>) -> Next<()> {
        let is_asked =
            |position: &usize| *position != self.accepted_by || self.question.judged.is_some();
        let ask: Positions = (0..self.owners).filter(is_asked).collect();
        self.candidates.also_asked(ask.iter().count());
        let mut next = self.look();
        if next.then == Then::Wait(Wait::On) {
            next.then = Then::Wait(Wait::UntilDeadline);
        }
        Next { ask, ..next }
    }

    fn on_answer(
        &mut self,
        position: usize,
        answer: Result<Joined, CallError>,
        notes: &mut Notes<'_>,
    ) -> Next<()> {
        self.candidates.answered();
        match answer {
            Ok(Joined { greatest, standing }) => {
                self.greatest = self.greatest.max(greatest);
                self.standings.add(position, standing, greatest, self.rank);
                if position != self.accepted_by {
                    self.holders.push(position);
                    self.tally.success(position);
                }
            }
            // It has the write, and only did not say how that stands. (A newer topology ends the pass all the same.)
            Err(_) if position == self.accepted_by => {}
            Err(error) => {
                notes.failed(position, &error);
                self.tally.failure(position);
                // One that is being refilled has it; it only doesn't count.
                if error != CallError::Refused(Refusal::Refilling) {
                    self.missed.push(position);
                }
            }
        }
        self.look()
    }

    fn on_patience(&mut self, _: &mut Notes<'_>) -> Next<()> {
        match self.waits_for_standing {
            true => Next::done(()),
            false => Next::wait(Wait::UntilDeadline),
        }
    }

    fn at_deadline(&mut self) -> Option<()> {
        self.waits_for_standing.then_some(())
    }

    fn tally(&self) -> Option<&Tally> {
        Some(&self.tally)
    }
}

#[cfg(test)]
#[path = "join_test.rs"]
mod tests;
