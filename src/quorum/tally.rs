//! The tally of an operation's answers: which owners succeeded, which failed, and whether that settles it.
//!
//! An owner is its position in the preference list. A value of a few bytes: copy it, compare it, print it.
//!
//! While a partition changes its owners there are two sets of them, the old one and the new one, which may overlap. A
//! tally then counts for both at once: it is reached when it is reached in each, and impossible when it is in one.

use crate::mutant::{self, Mutant};

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

/// A set of owners, and how many of them have to succeed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Quorum {
    required: usize,
    /// One bit a position.
    owners: u16,
}

impl Quorum {
    fn verdict(self, succeeded: u16, failed: u16) -> Verdict {
        let answered = (succeeded & self.owners).count_ones() as usize;
        let pending = (self.owners & !succeeded & !failed).count_ones() as usize;
        if answered >= self.required {
            Verdict::Reached
        } else if answered + pending < self.required {
            Verdict::Impossible
        } else {
            Verdict::Pending
        }
    }
}

/// The answers of an operation's owners. Each counts once, and a success outweighs a failure of the same owner.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    quorum: Quorum,
    /// The owners that there will be, if they are about to change.
    next: Option<Quorum>,
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
        let all = (0..owners).fold(0, |set, position| set | 1 << position);
        Self {
            quorum: Quorum {
                required,
                owners: all,
            },
            next: None,
            owners: owners as u8,
            succeeded: 0,
            failed: 0,
        }
    }

    /// A tally of nothing yet, of which as many have to succeed among the positions `old` as are required of those, and
    /// likewise among the positions `new`. A position may be in both.
    ///
    /// # Panics
    /// If a position is not below [`MAX_POSITIONS`].
    pub fn of_both(
        (required, old): (usize, &[usize]),
        (next_required, new): (usize, &[usize]),
    ) -> Self {
        let owners = old.iter().chain(new).max().map_or(0, |last| last + 1);
        let mut tally = Self::new(0, owners);
        let set = |of: &[usize]| of.iter().fold(0, |set, position| set | 1 << position);
        tally.quorum = Quorum {
            required,
            owners: set(old),
        };
        tally.next = Some(Quorum {
            required: next_required,
            owners: set(new),
        });
        tally
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
        if mutant::on(Mutant::FailureCountsAsSuccess) {
            return self.success(position);
        }
        self.failed |= self.bit(position) & !self.succeeded;
    }

    /// What the answers so far amount to.
    pub fn verdict(&self) -> Verdict {
        let of = |quorum: Quorum| quorum.verdict(self.succeeded, self.failed);
        match (of(self.quorum), self.next.map(of)) {
            (verdict, None | Some(Verdict::Reached)) => verdict,
            (Verdict::Reached, Some(next)) => next,
            (Verdict::Impossible, _) | (_, Some(Verdict::Impossible)) => Verdict::Impossible,
            (Verdict::Pending, Some(Verdict::Pending)) => Verdict::Pending,
        }
    }

    /// How many owners succeeded: what is reported beside [`Tally::required`].
    pub fn answered(&self) -> usize {
        self.succeeded.count_ones() as usize
    }

    /// How many have to succeed; of the owners that there are, if they are about to change.
    pub fn required(&self) -> usize {
        self.quorum.required
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
