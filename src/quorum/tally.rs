//! The tally of an operation's answers: which owners succeeded, which failed, and whether that settles it.
//!
//! An owner is its position in the preference list. A value of a few bytes: copy it, compare it, print it.

use crate::sabotage::{self, Sabotage};

/// The most owners a tally can count.
pub const MAX_POSITIONS: usize = 16;

/// What the answers so far amount to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It depends on owners that haven't answered.
    Pending,
    /// Enough succeeded.
    Reached,
    /// Too many failed. A late success of one that failed (a time-out, say) may still turn this to reached.
    Impossible,
}

/// The answers of an operation's owners. Each counts once, and a success outweighs a failure of the same owner.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    required: usize,
    owners: u8,
    /// One bit a position.
    succeeded: u16,
    /// One bit a position; none that is in `succeeded` too.
    failed: u16,
}

impl Tally {
    /// A tally of nothing yet. More may be required than there are owners; that is impossible from the start.
    ///
    /// # Panics
    /// If there are more than [`MAX_POSITIONS`] owners; no preference list is that long.
    pub fn new(required: usize, owners: usize) -> Self {
        assert!(owners <= MAX_POSITIONS);
        Self {
            required,
            owners: owners as u8,
            succeeded: 0,
            failed: 0,
        }
    }

    /// The owner at `position` did what was asked.
    ///
    /// # Panics
    /// If there is no such owner.
    pub fn success(&mut self, position: usize) {
        let bit = self.bit(position);
        self.succeeded |= bit;
        self.failed &= !bit;
    }

    /// The owner at `position` refused, broke, or did not answer in time.
    ///
    /// # Panics
    /// If there is no such owner.
    pub fn failure(&mut self, position: usize) {
        if sabotage::on(Sabotage::FailureCountsAsSuccess) {
            return self.success(position);
        }
        self.failed |= self.bit(position) & !self.succeeded;
    }

    /// What the answers so far amount to.
    pub fn verdict(&self) -> Verdict {
        if self.answered() >= self.required {
            Verdict::Reached
        } else if self.answered() + self.pending() < self.required {
            Verdict::Impossible
        } else {
            Verdict::Pending
        }
    }

    /// How many owners succeeded: what is reported beside [`Tally::required`].
    pub fn answered(&self) -> usize {
        self.succeeded.count_ones() as usize
    }

    /// How many have to succeed.
    pub fn required(&self) -> usize {
        self.required
    }

    /// How many have neither succeeded nor failed.
    pub fn pending(&self) -> usize {
        usize::from(self.owners) - (self.succeeded | self.failed).count_ones() as usize
    }

    /// Whether the owner at `position` succeeded.
    pub fn succeeded(&self, position: usize) -> bool {
        self.succeeded & self.bit(position) != 0
    }

    /// Whether the owner at `position` failed, and has not succeeded.
    pub fn failed(&self, position: usize) -> bool {
        self.failed & self.bit(position) != 0
    }

    /// The positions without a success, in order of preference.
    pub fn missing(&self) -> impl Iterator<Item = usize> + use<> {
        let tally = *self;
        (0..usize::from(tally.owners)).filter(move |&position| !tally.succeeded(position))
    }

    fn bit(&self, position: usize) -> u16 {
        assert!(position < usize::from(self.owners));
        1 << position
    }
}

#[cfg(test)]
#[path = "tally_test.rs"]
mod tests;
