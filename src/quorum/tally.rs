//! The tally of an operation's answers: which owners succeeded, which failed, and whether that settles it.
//!
//! An owner is its position in the preference list. A value of a few bytes: copy it, compare it, print it.
//!
//! While a partition changes its owners there are two sets of them, the old one and the new one, which may overlap. A
//! tally then counts for both at once: it is reached when it is reached in each, and impossible when it is in one.

use crate::mutant::{self, Mutant};

/// The most owners a tally can count: ten old ones and ten new ones.
pub const MAX_POSITIONS: usize = 20;

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
pub struct Quorum {
    /// How many.
    pub required: usize,
    /// Of these positions, a bit for each.
    pub owners: u32,
}

impl Quorum {
    /// So many of the first `owners` positions.
    ///
    /// # Panics
    /// If there are more than [`MAX_POSITIONS`] owners; no preference list is that long.
    #[must_use]
    pub fn of_first(required: usize, owners: usize) -> Self {
        assert!(owners <= MAX_POSITIONS);
        let owners = (0..owners).fold(0, |set, position| set | 1 << position);
        Self { required, owners }
    }

    /// Whether so many of its owners are among these.
    #[must_use]
    pub const fn is_among(self, positions: u32) -> bool {
        (positions & self.owners).count_ones() as usize >= self.required
    }

    fn verdict(self, succeeded: u32, failed: u32) -> Verdict {
        if self.is_among(succeeded) {
            Verdict::Reached
        } else if self.is_among(self.owners & !failed | succeeded) {
            Verdict::Pending
        } else {
            Verdict::Impossible
        }
    }
}

/// What an operation needs: a quorum, or one of each of two sets.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Quorums {
    /// Of the owners that there are.
    pub first: Quorum,
    /// And of those that there will be, if they are about to change.
    pub second: Option<Quorum>,
}

impl Quorums {
    /// One.
    #[must_use]
    pub const fn one(quorum: Quorum) -> Self {
        Self {
            first: quorum,
            second: None,
        }
    }

    /// Whether each is among these positions.
    #[must_use]
    pub fn are_among(self, positions: u32) -> bool {
        self.first.is_among(positions) && self.second.is_none_or(|next| next.is_among(positions))
    }
}

/// The answers of an operation's owners. Each counts once, and a success outweighs a failure of the same owner.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    quorums: Quorums,
    owners: u8,
    /// One bit a position.
    succeeded: u32,
    /// One bit a position; none that is in `succeeded` too.
    failed: u32,
}

impl Tally {
    /// A tally of nothing yet. More may be required than there are owners; that is impossible from the start.
    ///
    /// # Panics
    /// If there are more than [`MAX_POSITIONS`] owners; no preference list is that long.
    #[must_use]
    pub fn new(required: usize, owners: usize) -> Self {
        Self::of(Quorums::one(Quorum::of_first(required, owners)), owners)
    }

    /// A tally of nothing yet, of so many owners. A position may count for both quorums, or for none.
    ///
    /// # Panics
    /// If there are more than [`MAX_POSITIONS`] owners; no preference list is that long.
    #[must_use]
    pub fn of(quorums: Quorums, owners: usize) -> Self {
        assert!(owners <= MAX_POSITIONS);
        Self {
            quorums,
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
        if mutant::on(Mutant::FailureCountsAsSuccess) {
            return self.success(position);
        }
        self.failed |= self.bit(position) & !self.succeeded;
    }

    /// What the answers so far amount to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let of = |quorum: Quorum| quorum.verdict(self.succeeded, self.failed);
        match (of(self.quorums.first), self.quorums.second.map(of)) {
            (verdict, None | Some(Verdict::Reached)) => verdict,
            (Verdict::Reached, Some(next)) => next,
            (Verdict::Impossible, _) | (_, Some(Verdict::Impossible)) => Verdict::Impossible,
            (Verdict::Pending, Some(Verdict::Pending)) => Verdict::Pending,
        }
    }

    /// How many owners succeeded: what is reported beside [`Tally::required`].
    #[must_use]
    pub fn answered(&self) -> usize {
        self.succeeded.count_ones() as usize
    }

    /// How many have to succeed; of the owners that there are, if they are about to change.
    #[must_use]
    pub fn required(&self) -> usize {
        self.quorums.first.required
    }

    /// What has to be reached.
    #[must_use]
    pub const fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// Whether it would be reached if these succeeded, too.
    pub fn would_be_reached_with(&self, positions: impl IntoIterator<Item = usize>) -> bool {
        let more = positions.into_iter().map(|position| self.bit(position));
        let all = more.fold(self.succeeded, |all, bit| all | bit);
        self.quorums.are_among(all)
    }

    /// How many have neither succeeded nor failed.
    #[must_use]
    pub fn pending(&self) -> usize {
        usize::from(self.owners) - (self.succeeded | self.failed).count_ones() as usize
    }

    /// Whether the owner at `position` succeeded.
    #[must_use]
    pub fn succeeded(&self, position: usize) -> bool {
        self.succeeded & self.bit(position) != 0
    }

    /// Whether the owner at `position` failed, and has not succeeded.
    #[must_use]
    pub fn failed(&self, position: usize) -> bool {
        self.failed & self.bit(position) != 0
    }

    /// The positions without a success, in order of preference.
    pub fn missing(&self) -> impl Iterator<Item = usize> + use<> {
        let tally = *self;
        (0..usize::from(tally.owners)).filter(move |&position| !tally.succeeded(position))
    }

    fn bit(&self, position: usize) -> u32 {
        assert!(position < usize::from(self.owners));
        1 << position
    }
}

#[cfg(test)]
#[path = "tally_test.rs"]
mod tests;
