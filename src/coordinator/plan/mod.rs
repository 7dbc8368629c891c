//! Plans: what an operation on a record's owners does next, as values without I/O.
//!
//! A plan is told what happened (an owner answered, patience is over) and says what to do next: whom to ask, how long
//! to wait, or that it is done. One driver ([`super::drive`]) runs any of them: it alone asks, waits, keeps the
//! deadline and gives way to a newer topology. So a plan is tested by comparing values, and reads like the rule that it
//! carries.
//!
//! What this is not: a plan does not know nodes, clocks or transports. An owner is its *position* in the preference
//! list.
//!
//! Invariants:
//! - a plan asks each owner that it is given at most once, unless it says otherwise;
//! - it ends: each answer and each end of patience either asks another owner, or leaves fewer to wait for;
//! - what it asks for is the same for all owners that are asked at one time ([`Plan::question`]).

mod accept;
mod claim;
mod gather;
mod join;
mod settle;

pub(super) use accept::{Accept, Accepted};
pub(super) use claim::{Claimed, Claiming, Look};
pub(super) use gather::{Gather, Gathered, Reached};
pub(super) use join::Join;
pub(super) use settle::{Settle, Settled};

use std::time::Duration;

use super::order::OwnerOrder;
use super::pass_failure::Missing;
use crate::marks::Mark;
use crate::ports::{Ask, CallError};
use crate::quorum::{MAX_POSITIONS, Tally};

/// One operation on the owners of a record.
pub(super) trait Plan {
    /// What owners are asked.
    type Ask: Ask;
    /// What it comes to when it does not fail.
    type Output;

    /// Whether what was asked may take effect at owners whose answers are not waited for any more.
    const MAY_HAPPEN_UNHEARD: bool;
    /// What is reached when it fails at its deadline, if that is a mark of its own.
    const LATE: Option<Mark>;

    /// What is asked now.
    fn question(&self) -> Self::Ask;

    /// What to do first.
    fn start(&mut self, notes: &mut Notes<'_>) -> Next<Self::Output>;

    /// The owner at `position` answered. (Not called for a stale epoch: that ends any plan.)
    fn on_answer(
        &mut self,
        position: usize,
        answer: Result<<Self::Ask as Ask>::Answer, CallError>,
        notes: &mut Notes<'_>,
    ) -> Next<Self::Output>;

    /// It has waited as long as it said, and the deadline has not passed.
    fn on_patience(&mut self, notes: &mut Notes<'_>) -> Next<Self::Output>;

    /// The deadline has passed: what it comes to all the same, if anything.
    fn at_deadline(&mut self) -> Option<Self::Output> {
        None
    }

    /// The answers so far, if they are counted.
    fn tally(&self) -> Option<&Tally> {
        None
    }
}

/// What a plan does next: asks owners, and then waits or ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Next<T> {
    /// Who is asked, in this order.
    pub(super) ask: Positions,
    /// And then.
    pub(super) then: Then<T>,
}

/// What follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Then<T> {
    /// Wait for an answer, so long.
    Wait(Wait),
    /// It is done.
    Done(T),
    /// It can't be done; why was noted.
    Fail,
}

/// How long an answer is waited for; never beyond the deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// As was said before.
    On,
    /// Until the deadline.
    UntilDeadline,
    /// So long, from now.
    For(Duration),
    /// As long as the slowest of these owners may take to make something durable.
    ForSlowest(Positions),
    /// As long as the quickest owner may take for that.
    ForQuickest,
}

impl<T> Next<T> {
    /// Asks nobody else.
    pub(super) const fn wait(wait: Wait) -> Self {
        Self {
            ask: Positions::NONE,
            then: Then::Wait(wait),
        }
    }

    pub(super) const fn done(output: T) -> Self {
        Self {
            ask: Positions::NONE,
            then: Then::Done(output),
        }
    }

    pub(super) const fn fail() -> Self {
        Self {
            ask: Positions::NONE,
            then: Then::Fail,
        }
    }

    /// The same, after asking one more owner if there is one.
    pub(super) fn asking(mut self, more: Option<usize>) -> Self {
        more.into_iter()
            .for_each(|position| self.ask.push(position));
        self
    }
}

/// A few owners, in order.
#[derive(Clone, Copy, Default)]
pub(super) struct Positions {
    positions: [u8; MAX_POSITIONS],
    len: u8,
}

impl Positions {
    pub(super) const NONE: Self = Self {
        positions: [0; MAX_POSITIONS],
        len: 0,
    };

    /// One.
    pub(super) fn one(position: usize) -> Self {
        Self::from_iter([position])
    }

    /// Adds one at the end. More than an operation can have owners are left out.
    pub(super) fn push(&mut self, position: usize) {
        if let Some(place) = self.positions.get_mut(usize::from(self.len)) {
            *place = position as u8; // below MAX_POSITIONS
            self.len += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let positions = &self.positions[..usize::from(self.len)];
        positions.iter().map(|position| usize::from(*position))
    }
}

impl FromIterator<usize> for Positions {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut all = Self::NONE;
        positions
            .into_iter()
            .for_each(|position| all.push(position));
        all
    }
}

impl PartialEq for Positions {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Positions {}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What a plan notes of owners, for the error if it fails and for their health.
pub(super) struct Notes<'a> {
    missing: &'a mut Missing,
    name_of: &'a dyn Fn(usize) -> String,
    /// An owner that took longer than it may.
    pub(super) too_slow: Option<usize>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(missing: &'a mut Missing, name_of: &'a dyn Fn(usize) -> String) -> Self {
        Self {
            missing,
            name_of,
            too_slow: None,
        }
    }

    /// What keeps an owner from doing it.
    fn note(&mut self, position: usize, reason: impl Into<String>) {
        self.missing.note((self.name_of)(position), reason);
    }

    /// A call to an owner failed that would have changed something.
    fn failed(&mut self, position: usize, error: &CallError) {
        self.missing.failed((self.name_of)(position), error);
    }

    /// A call to an owner failed that makes no difference if it happened all the same.
    fn failed_to_read(&mut self, position: usize, error: &CallError) {
        self.missing.failed_to_read((self.name_of)(position), error);
    }

    /// An owner took longer than it may.
    fn too_slow(&mut self, position: usize, reason: &str) {
        self.too_slow = Some(position);
        self.note(position, reason);
    }
}

/// Whom a plan may ask, best first, and how many of those that it asked have not answered.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    order: OwnerOrder,
    under_way: usize,
}

impl Candidates {
    pub(super) const fn new(order: OwnerOrder) -> Self {
        Self {
            order,
            under_way: 0,
        }
    }

    /// The next one to be asked; it is under way then.
    fn next(&mut self) -> Option<usize> {
        let next = self.order.next();
        self.under_way += usize::from(next.is_some());
        next
    }

    /// Owners that are asked without being candidates.
    fn also_asked(&mut self, owners: usize) {
        self.under_way += owners;
    }

    /// One that was under way has answered.
    const fn answered(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether nobody is waited for.
    const fn is_idle(&self) -> bool {
        self.under_way == 0
    }
}

/// Owners n0, n1, … of plans under test, and what was noted of them.
#[cfg(test)]
pub(super) mod test {
    use super::*;

    pub(in crate::coordinator) fn name(position: usize) -> String {
        format!("n{position}")
    }

    /// A plan, and what it noted.
    pub(super) struct Trial<P> {
        pub(super) plan: P,
        pub(super) missing: Missing,
        pub(super) too_slow: Option<usize>,
    }

    impl<P: Plan> Trial<P> {
        pub(super) fn of(plan: P) -> Self {
            Self {
                plan,
                missing: Missing::default(),
                too_slow: None,
            }
        }

        fn step<T>(&mut self, step: impl FnOnce(&mut P, &mut Notes<'_>) -> T) -> T {
            let mut notes = Notes::new(&mut self.missing, &name);
            let next = step(&mut self.plan, &mut notes);
            self.too_slow = notes.too_slow;
            next
        }

        pub(super) fn start(&mut self) -> Next<P::Output> {
            self.step(P::start)
        }

        pub(super) fn answers(
            &mut self,
            position: usize,
            answer: Result<<P::Ask as Ask>::Answer, CallError>,
        ) -> Next<P::Output> {
            self.step(|plan, notes| plan.on_answer(position, answer, notes))
        }

        pub(super) fn loses_patience(&mut self) -> Next<P::Output> {
            self.step(P::on_patience)
        }
    }

    /// Asks these, then waits so.
    pub(super) fn asks<T>(positions: impl IntoIterator<Item = usize>, wait: Wait) -> Next<T> {
        Next {
            ask: positions.into_iter().collect(),
            then: Then::Wait(wait),
        }
    }

    pub(super) fn waits<T>(wait: Wait) -> Next<T> {
        asks([], wait)
    }

    pub(super) fn no_answer() -> CallError {
        CallError::NoAnswer("the connection broke".into())
    }

    /// Draws what happens until the plan ends, and checks that it asks nobody twice, and ends.
    pub(super) fn walk<P: Plan>(
        plan: P,
        seed: u64,
        answer: impl Fn(u64) -> Result<<P::Ask as Ask>::Answer, CallError>,
    ) {
        let mut draws = seed;
        let mut draw = |below: u64| {
            // A linear congruential generator (Knuth's MMIX) is chance enough.
            draws = draws
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (draws >> 33) % below
        };
        let mut trial = Trial::of(plan);
        let (mut asked, mut under_way) = (Vec::new(), Vec::new());
        let mut next = trial.start();
        for _ in 0..64 {
            for position in next.ask.iter() {
                assert!(!asked.contains(&position), "asked twice: {position}");
                asked.push(position);
                under_way.push(position);
            }
            if !matches!(next.then, Then::Wait(_)) {
                return;
            }
            next = match under_way.is_empty() || draw(4) == 0 {
                true => trial.loses_patience(),
                false => {
                    let position = under_way.swap_remove(draw(under_way.len() as u64) as usize);
                    trial.answers(position, answer(draw(4)))
                }
            };
        }
        panic!("it goes on and on");
    }

    pub(super) fn not_sent() -> CallError {
        CallError::NotSent("no connection".into())
    }
}
