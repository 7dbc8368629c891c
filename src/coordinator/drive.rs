//! The driver of plans: asks, waits, keeps the deadline, and gives way to a newer topology.
//!
//! What this is not: it decides nothing of an operation; see [`plan`](super::plan). What is the same for all operations
//! is here and nowhere else: answers win over the end of patience, the deadline ends what does not end by itself, an
//! owner that knows a newer topology ends the pass, and what kept an operation from succeeding becomes its error.
//!
//! Invariant: nothing is waited for beyond the deadline.

use std::pin::pin;
use std::time::Duration;

use super::owners::{Answer, Calls, Owners};
use super::pass_failure::{Missing, PassFailure};
use super::plan::{Notes, Plan, Then, Wait};
use super::wait::next_answer;
use crate::marks::{self, Mark};
use crate::ports::{Ask, CallError, Clock, CoordinatorWorld, Instant, Refusal};
use crate::quorum::{Consistency, Tally};

/// What a pass over a record's owners is by.
pub(super) struct Driver<'a, W> {
    pub(super) owners: &'a Owners<W>,
    /// What the operation asks for.
    pub(super) consistency: Consistency,
    pub(super) deadline: Instant,
}

impl<W: CoordinatorWorld> Driver<'_, W> {
    /// Runs `plan` to its end. Calls that are under way then stay in `calls`; those that are there already are answers
    /// to this plan, too.
    pub(super) async fn run<P: Plan>(
        &self,
        plan: &mut P,
        calls: &mut Calls<<P::Ask as Ask>::Answer>,
        missing: &mut Missing,
    ) -> Result<P::Output, PassFailure> {
        let (owners, deadline) = (self.owners, self.deadline);
        let clock = owners.clock();
        let name_of = |position| owners.name(position);
        let mut timer = pin!(clock.sleep_until(deadline));
        let mut next = plan.start(&mut Notes::new(missing, &name_of));
        loop {
            for position in next.ask.iter() {
                calls.push(owners.call(position, plan.question(), deadline));
            }
            match next.then {
                Then::Done(output) => return Ok(output),
                Then::Fail => return Err(self.fail(plan, calls.is_empty(), missing)),
                Then::Wait(wait) => {
                    if let Some(until) = self.until(&wait) {
                        timer.set(clock.sleep_until(until));
                    }
                }
            }
            let heard = next_answer(calls, timer.as_mut()).await;
            let mut notes = Notes::new(missing, &name_of);
            next = match heard {
                Some(Answer {
                    result: Err(CallError::Refused(Refusal::StaleEpoch { current })),
                    ..
                }) => {
                    marks::reached(Mark::EpochRefused);
                    missing.may_have_happened |= P::MAY_HAPPEN_UNHEARD && !calls.is_empty();
                    return Err(PassFailure::StaleEpoch(current));
                }
                Some(Answer { position, result }) => plan.on_answer(position, result, &mut notes),
                None if clock.now() >= deadline => match plan.at_deadline() {
                    Some(output) => return Ok(output),
                    None => return Err(self.fail(plan, calls.is_empty(), missing)),
                },
                None => {
                    // What was said before is over: to wait on is to wait until the deadline.
                    timer.set(clock.sleep_until(deadline));
                    plan.on_patience(&mut notes)
                }
            };
            if let Some(position) = notes.too_slow {
                owners.health(position).failed(clock.now());
            }
        }
    }

    /// Until when an answer is waited for; `None`: as before.
    fn until(&self, wait: &Wait) -> Option<Instant> {
        let patience = |position| self.owners.patience(position);
        let wait = match wait {
            Wait::On => return None,
            Wait::UntilDeadline => return Some(self.deadline),
            Wait::For(wait) => *wait,
            Wait::ForSlowest(owners) => owners.iter().map(patience).max().unwrap_or_default(),
            Wait::ForQuickest => self.patience_with_the_quickest(),
        };
        Some(self.deadline.min(self.owners.clock().now() + wait))
    }

    /// How long the quickest owner may take: a slow one is not waited for at its own pace.
    fn patience_with_the_quickest(&self) -> Duration {
        let patience = (0..self.owners.len()).map(|position| self.owners.patience(position));
        patience.min().unwrap_or_default()
    }

    fn fail<P: Plan>(&self, plan: &P, is_idle: bool, missing: &mut Missing) -> PassFailure {
        missing.may_have_happened |= P::MAY_HAPPEN_UNHEARD && !is_idle;
        self.failed(missing, plan.tally(), P::LATE)
    }

    /// What was noted so far as the pass's error; `late` is reached if it is one because its time is over.
    pub(super) fn failed(
        &self,
        missing: &Missing,
        tally: Option<&Tally>,
        late: Option<Mark>,
    ) -> PassFailure {
        // Calls end at the deadline too: the last of them may be heard before the timer is.
        let timed_out = self.owners.clock().now() >= self.deadline;
        if timed_out && let Some(late) = late {
            marks::reached(late);
        }
        if missing.may_have_happened {
            marks::reached(Mark::Indeterminate);
        }
        PassFailure::Failed(missing.error(self.owners, self.consistency, tally, timed_out))
    }
}

#[cfg(test)]
#[path = "drive_test.rs"]
mod tests;
