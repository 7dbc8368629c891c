//! Enough owners say what they hold of a record.
//!
//! - As many are asked as have to answer, the most promising first. "Not there" is an answer and counts.
//! - One that fails is made good by another one, and one that is slower than usual is *hedged* by another one.
//! - A context is a floor: more owners are asked until what was answered covers it, or nobody is left.

use std::time::Duration;

use bytes::Bytes;

use super::{Candidates, Next, Notes, Plan, Positions, Then, Wait};
use crate::buggify::{self, Site};
use crate::coordinator::order::OwnerOrder;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{CallError, ReadRecord, RecordKey};
use crate::quorum::{Tally, Verdict};
use crate::version::{Context, DecodeError, Record};

/// See the [module](self).
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct Gather<'a> {
    key: &'a RecordKey,
    floor: &'a Context,
    tally: Tally,
    candidates: Candidates,
    hedge_after: Duration,
    /// Who was asked because another one was slow.
    hedge: Option<usize>,
    /// Who was asked, and whose answers do not count any more: a bit for each.
    asked: u32,
    given_up: u32,
    gathered: Gathered,
}

/// What owners hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(in crate::coordinator) struct Gathered {
    /// The join of all answers.
    pub(in crate::coordinator) record: Record,
    /// Its encoding; `None` when no owner has anything.
    pub(in crate::coordinator) encoded: Option<Bytes>,
    /// Each answer, by position.
    pub(in crate::coordinator) answers: Vec<(usize, Option<Bytes>)>,
}

/// How far it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::coordinator) enum Reached {
    /// Enough have answered, and they hold what the floor covers.
    Floor(Gathered),
    /// All that could be asked have answered, and they do not hold all that the floor covers.
    Everybody(Gathered),
}

impl<'a> Gather<'a> {
    /// `tally` counts nobody yet; `hedge_after` is how long the owners that are asked first usually take.
    pub(in crate::coordinator) fn new(
        key: &'a RecordKey,
        floor: &'a Context,
        tally: Tally,
        order: OwnerOrder,
        hedge_after: Duration,
    ) -> Self {
        Self {
            key,
            floor,
            tally,
            candidates: Candidates::new(order),
            hedge_after,
            hedge: None,
            asked: 0,
            given_up: 0,
            gathered: Gathered::default(),
        }
    }

    /// Where the answers leave it. One more owner may have been asked already.
    fn look(&mut self, asked: Option<usize>) -> Next<Reached> {
        let enough = match self.tally.verdict() {
            Verdict::Reached => true,
            Verdict::Pending => false,
            Verdict::Impossible => return Next::fail(),
        };
        let is_covered = || self.floor.is_covered_by(self.gathered.record.seen());
        if enough && (is_covered() || mutant::on(Mutant::FloorIgnored)) {
            let hedged = |(position, _): &(usize, _)| Some(*position) == self.hedge;
            if self.gathered.answers.iter().any(hedged) {
                marks::reached(Mark::HedgeWon);
            }
            return Next::done(Reached::Floor(std::mem::take(&mut self.gathered)));
        }
        if !self.candidates.is_idle() {
            return Next::wait(Wait::On).asking(asked);
        }
        match self.ask_next() {
            Some(position) => {
                if enough {
                    marks::reached(Mark::FloorAskedMore);
                }
                Next::wait(Wait::On).asking(Some(position))
            }
            None => Next::done(Reached::Everybody(std::mem::take(&mut self.gathered))),
        }
    }

    /// The next one to be asked, if there is one.
    fn ask_next(&mut self) -> Option<usize> {
        let position = self.candidates.next()?;
        self.asked |= 1 << position;
        Some(position)
    }

    const fn is_given_up(&self, position: usize) -> bool {
        self.given_up & 1 << position != 0
    }
}

impl Plan for Gather<'_> {
    type Ask = ReadRecord;
    type Output = Reached;

    const MAY_HAPPEN_UNHEARD: bool = false;
    const LATE: Option<Mark> = Some(Mark::ReadDeadline);

    fn question(&self) -> ReadRecord {
        ReadRecord {
            key: self.key.clone(),
        }
    }

    fn start(&mut self, _: &mut Notes<'_>) -> Next<Reached> {
        let quorums = self.tally.quorums();
        let ask: Positions = std::iter::from_fn(|| match quorums.are_among(self.asked) {
            true => None,
            false => self.ask_next(),
        })
        .collect();
        if mutant::on(Mutant::ReadAsksNoMore) {
            self.candidates.order = OwnerOrder::default();
        }
        if buggify::on(Site::HedgeAtOnce) {
            self.hedge_after = Duration::ZERO;
        }
        let mut next = self.look(None);
        if next.then == Then::Wait(Wait::On) {
            next.then = Then::Wait(Wait::For(self.hedge_after));
        }
        Next { ask, ..next }
    }

    fn on_answer(
        &mut self,
        position: usize,
        answer: Result<Option<Bytes>, CallError>,
        notes: &mut Notes<'_>,
    ) -> Next<Reached> {
        if self.is_given_up(position) {
            return Next::wait(Wait::On);
        }
        self.candidates.answered();
        match answer {
            Ok(None) if mutant::on(Mutant::NotFoundIsFailure) => self.tally.failure(position),
            Ok(record) => match self.gathered.take(position, record) {
                Ok(()) => self.tally.success(position),
                Err(error) => {
                    notes.note(position, format!("sent a malformed record: {error}"));
                    self.tally.failure(position);
                }
            },
            Err(error) => {
                notes.failed_to_read(position, &error);
                self.tally.failure(position);
                let instead = self.ask_next();
                if instead.is_some() {
                    marks::reached(Mark::ReadWentOn);
                }
                return self.look(instead);
            }
        }
        self.look(None)
    }

    fn on_patience(&mut self, _: &mut Notes<'_>) -> Next<Reached> {
        let before = self.asked;
        // Nobody is left to ask. (Without a least delay patience would end at once, again and again.)
        let Some(position) = self.ask_next() else {
            return Next::wait(Wait::UntilDeadline);
        };
        if mutant::on(Mutant::HedgeCancelsFirst) {
            self.candidates.under_way = 1;
            self.given_up = before;
        }
        marks::reached(Mark::Hedged);
        self.hedge = Some(position);
        Next::wait(Wait::For(self.hedge_after)).asking(Some(position))
    }

    fn tally(&self) -> Option<&Tally> {
        Some(&self.tally)
    }
}

impl Gathered {
    /// Adds an answer. Equal answers, by far the most, are recognised by their bytes: encodings are canonical.
    fn take(&mut self, position: usize, answer: Option<Bytes>) -> Result<(), DecodeError> {
        if let Some(bytes) = &answer {
            match &self.encoded {
                None => {
                    self.record = Record::decode(bytes.clone())?;
                    self.encoded = Some(bytes.clone());
                }
                Some(encoded) if encoded == bytes => {}
                Some(_) => {
                    self.record = self.record.join(&Record::decode(bytes.clone())?);
                    self.encoded = Some(self.record.encode());
                }
            }
        }
        self.answers.push((position, answer));
        Ok(())
    }
}

#[cfg(test)]
#[path = "gather_test.rs"]
mod tests;
