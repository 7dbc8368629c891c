//! Which dots were given out, and the epoch: a node's identity while it runs.
//!
//! A batch works on a copy, which becomes the node's own when the batch is durable. Counters and stamps are reserved
//! many at a time: most batches don't touch the stored identity.
//!
//! Invariants, which [`Ledger::validate`] and [`Ledger::follows`] check:
//! - the identity is sound, and no greater stamp was given than is reserved;
//! - what a batch gave out is reserved by what it stores, and no counter, reservation or stamp goes back while the
//!   incarnation lasts;
//! - what changes of the identity is stored with the batch;
//! - a node that counts does not cease to while it runs.

use super::identity::Identity;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::Epoch;
use crate::ports::{Put, Random, Refusal};
use crate::version::{Context, Dot, Stamp, VersionVector};

/// Stamps are reserved a second ahead of the greatest one.
const STAMP_RESERVATION_MS: u64 = 1_000;

#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) identity: Identity,
    last_given: u64,
    greatest_stamp: Stamp,
    reservation: u64,
    changed: bool,
    /// The identity was never stored as it was resumed.
    unsaved: bool,
}

impl Ledger {
    /// After a start every reserved counter counts as given out. An `unsaved` identity becomes part of the first batch.
    pub(super) fn new(identity: Identity, reservation: u64, unsaved: bool) -> Self {
        let reused = mutant::on(Mutant::CounterReusedAfterRestart);
        let last_given = if reused { 0 } else { identity.ceiling };
        Self {
            greatest_stamp: identity.stamp_ceiling,
            identity,
            last_given,
            reservation: reservation.max(1),
            changed: unsaved,
            unsaved,
        }
    }

    /// A new dot, greater than all before it.
    pub(super) fn give(&mut self) -> Result<Dot, Refusal> {
        let spent = || Refusal::Unavailable("the incarnation's counters are spent".into());
        let counter = self.last_given.checked_add(1).ok_or_else(spent)?;
        if counter > self.identity.ceiling {
            let reservation = match buggify::on(Site::CountersOneByOne) {
                true => 1,
                false => self.reservation,
            };
            marks::reached(Mark::CountersReserved);
            self.identity.ceiling = self.last_given.saturating_add(reservation);
            self.changed |= !mutant::on(Mutant::ReservationNotStored);
        }
        self.last_given = counter;
        Ok(Dot {
            actor: self.identity.incarnation(),
            counter,
        })
    }

    /// A write was accepted with this stamp.
    pub(super) fn accepted(&mut self, stamp: Stamp) {
        self.greatest_stamp = self.greatest_stamp.max(stamp);
        if stamp > self.identity.stamp_ceiling {
            let reserved = stamp.wall_ms() + STAMP_RESERVATION_MS;
            self.identity.stamp_ceiling = stamp.max(Stamp::new(reserved, 0));
            self.changed = true;
        }
    }

    /// Whether `seen` has dots of this incarnation that were never given out.
    pub(super) fn never_gave(&self, seen: &VersionVector) -> bool {
        seen.get(self.identity.incarnation()) > self.last_given
    }

    /// Whether `context` has such dots.
    pub(super) fn never_gave_of(&self, context: &Context) -> bool {
        let own =
            |dot: Dot| dot.actor == self.identity.incarnation() && dot.counter > self.last_given;
        self.never_gave(&context.shown) || context.written.is_some_and(own)
    }

    /// Ends the incarnation when a record that is held, or came from another node, has seen dots it never gave out.
    pub(super) fn notice(&mut self, seen: &VersionVector, random: &impl Random) {
        if self.never_gave(seen) {
            self.identity.renew(
                random,
                "a record has seen dots that it does not know of: its disk went back in time",
            );
            self.last_given = 0;
            self.changed = true;
        }
    }

    /// It is a node like any other from now on.
    pub(super) fn counts(&mut self) {
        self.changed |= self.identity.refilling;
        self.identity.refilling = false;
    }

    /// Every record is in a digest, and nothing else is.
    pub(super) fn has_digests(&mut self) {
        self.changed |= self.identity.digests_lost;
        self.identity.digests_lost = false;
    }

    /// Refuses older epochs, takes on newer ones.
    pub(super) fn admit(&mut self, epoch: Epoch) -> Result<(), Refusal> {
        let current = self.identity.epoch;
        if epoch < current && !mutant::on(Mutant::EpochNotChecked) {
            return Err(Refusal::StaleEpoch { current });
        }
        self.adopt(epoch);
        Ok(())
    }

    pub(super) fn adopt(&mut self, epoch: Epoch) {
        if epoch > self.identity.epoch {
            self.identity.epoch = epoch;
            self.changed |= !mutant::on(Mutant::EpochForgotten);
        }
    }

    /// Comes back from a later epoch.
    pub(super) fn come_back(&mut self, epoch: Epoch) {
        if self.identity.epoch > epoch {
            tracing::warn!(from = %self.identity.epoch, to = %epoch, "the node's epoch is set back");
            self.identity.epoch = epoch;
            self.changed = true;
        }
    }

    /// The mark of a clean stop; what was reserved and not used is given back.
    pub(super) fn stop(&mut self) {
        self.identity.ceiling = self.last_given;
        self.identity.stamp_ceiling = self.greatest_stamp;
        self.identity.clean = true;
        self.changed = true;
        debug_assert_eq!(self.validate(), Ok(()));
    }

    /// What has to be stored with the batch, if anything.
    pub(super) fn put(&self) -> Option<Put> {
        self.changed.then(|| self.identity.put())
    }

    /// What makes the identity the stored one, whether or not it has changed.
    pub(super) fn put_anyway(&mut self) -> Put {
        self.changed = true;
        self.identity.put()
    }

    /// Whether the change must be durable at once, even where commits are not.
    pub(super) fn must_sync(&self, before: &Self) -> bool {
        before.unsaved
            || self.identity.epoch != before.identity.epoch
            || self.identity.incarnations != before.identity.incarnations
            || self.identity.refilling != before.identity.refilling
    }

    /// Checks the invariants of one moment.
    ///
    /// # Errors
    /// Says which one is broken.
    pub(super) fn validate(&self) -> Result<(), &'static str> {
        self.identity.validate()?;
        match () {
            () if self.greatest_stamp > self.identity.stamp_ceiling => {
                Err("a stamp was given that is not reserved")
            }
            () if self.unsaved && !self.changed => {
                Err("an identity that was never stored is not about to be")
            }
            () => Ok(()),
        }
    }

    /// Checks what a batch made of `before`.
    ///
    /// # Errors
    /// Says which invariant is broken.
    pub(super) fn follows(&self, before: &Self) -> Result<(), &'static str> {
        let (now, then) = (&self.identity, &before.identity);
        let lasts = now.incarnation() == then.incarnation();
        let gave = !lasts || self.last_given > before.last_given;
        let stores = self.changed
            || mutant::on(Mutant::ReservationNotStored)
            || mutant::on(Mutant::EpochForgotten);
        match () {
            () if gave && self.last_given > now.ceiling => {
                Err("a counter was given that is not reserved")
            }
            () if lasts && self.last_given < before.last_given => {
                Err("counters that were given may be given again")
            }
            () if lasts && now.ceiling < then.ceiling => Err("a reservation of counters shrank"),
            () if now.stamp_ceiling < then.stamp_ceiling => Err("a reservation of stamps shrank"),
            () if now != then && !stores => Err("what changed of the identity is not stored"),
            () if now.refilling && !then.refilling => Err("a node that counted does not any more"),
            () => Ok(()),
        }
    }

    /// The batch that worked on `after` is durable.
    pub(super) fn commit(&mut self, after: Self) {
        debug_assert_eq!(after.validate(), Ok(()));
        debug_assert_eq!(after.follows(self), Ok(()));
        *self = Self {
            changed: false,
            unsaved: false,
            ..after
        };
    }

    /// The batch that worked on `after` had no effect. Its counters are skipped all the same.
    pub(super) fn abort(&mut self, after: &Self) {
        if after.identity.incarnation() == self.identity.incarnation() {
            self.last_given = after.last_given;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::NodeId;
    use crate::ports::Durability;
    use crate::version::Actor;

    /// What makes a sound one unsound.
    type Break = fn(&mut Ledger);

    #[derive(Clone)]
    struct Fixed;

    impl Random for Fixed {
        fn next_u64(&self) -> u64 {
            9
        }
    }

    fn ledger(ceiling: u64) -> Ledger {
        let identity = Identity {
            node: NodeId::new("n").unwrap(),
            incarnations: vec![Actor(1)],
            ceiling,
            stamp_ceiling: Stamp(50),
            epoch: Epoch(3),
            clean: false,
            durability: Durability::Always,
            refilling: false,
            digests_lost: false,
        };
        Ledger::new(identity, 10, false)
    }

    fn seen(actor: u64, counter: u64) -> VersionVector {
        [(Actor(actor), counter)].into_iter().collect()
    }

    #[test]
    fn counters_are_reserved_before_they_are_given() {
        let mut ledger = ledger(20);
        let mut stored = 20;
        for expected in 21..=60 {
            let mut after = ledger.clone();
            assert_eq!(
                after.give().unwrap(),
                Dot {
                    actor: Actor(1),
                    counter: expected
                }
            );
            assert_eq!(after.put().is_some(), expected % 10 == 1, "{expected}");
            stored = if after.put().is_some() {
                after.identity.ceiling
            } else {
                stored
            };
            assert!(stored >= expected);
            ledger.commit(after);
        }
    }

    #[test]
    fn stamps_are_reserved_before_they_are_given() {
        let mut ledger = ledger(20);
        ledger.accepted(Stamp(50));
        assert!(ledger.put().is_none());
        ledger.accepted(Stamp::new(7, 3));
        assert_eq!(ledger.identity.stamp_ceiling, Stamp::new(1_007, 0));
        assert!(ledger.put().is_some());
        let mut after = ledger.clone();
        after.changed = false;
        after.accepted(Stamp::new(1_007, 0));
        assert!(after.put().is_none());
        after.stop();
        assert_eq!(after.identity.stamp_ceiling, Stamp::new(1_007, 0));
        ledger.stop();
        assert_eq!(ledger.identity.stamp_ceiling, Stamp::new(7, 3));
    }

    #[test]
    fn an_aborted_batch_skips_its_counters_and_reserves_again() {
        let mut ledger = ledger(20);
        let mut after = ledger.clone();
        after.give().unwrap();
        ledger.abort(&after);
        assert_eq!(ledger.give().unwrap().counter, 22);
        assert!(ledger.put().is_some() && ledger.identity.ceiling >= 22);
    }

    #[test]
    fn an_identity_that_could_not_be_stored_is_part_of_the_first_batch_that_can() {
        let mut ledger = Ledger::new(ledger(20).identity, 10, true);
        let failed = ledger.clone();
        assert!(failed.put().is_some() && failed.must_sync(&ledger));
        ledger.abort(&failed);
        assert!(ledger.put().is_some() && ledger.unsaved);
        ledger.commit(ledger.clone());
        assert!(ledger.put().is_none() && !ledger.clone().must_sync(&ledger));
    }

    #[test]
    fn dots_from_nowhere_end_the_incarnation() {
        let mut ledger = ledger(20);
        for known in [seen(1, 20), seen(2, 99)] {
            ledger.notice(&known, &Fixed);
            assert_eq!(ledger.identity.incarnation(), Actor(1));
        }
        ledger.notice(&seen(1, 21), &Fixed);
        assert_eq!(ledger.identity.incarnations, [Actor(1), Actor(9)]);

        assert_eq!(
            ledger.give().unwrap(),
            Dot {
                actor: Actor(9),
                counter: 1
            }
        );
    }

    #[test]
    fn a_broken_ledger_is_told_from_a_sound_one() {
        let sound = ledger(20);
        assert_eq!(sound.validate(), Ok(()));
        let breaks: [(Break, &str); 3] = [
            (
                |it| it.identity.incarnations.clear(),
                "there is no current incarnation",
            ),
            (
                |it| it.greatest_stamp = Stamp(51),
                "a stamp was given that is not reserved",
            ),
            (
                |it| it.unsaved = true,
                "an identity that was never stored is not about to be",
            ),
        ];
        for (broken_by, why) in breaks {
            let mut broken = sound.clone();
            broken_by(&mut broken);
            assert_eq!(broken.validate(), Err(why));
        }
    }

    #[test]
    fn what_no_batch_may_do_to_a_ledger_is_told() {
        let before = ledger(20);
        let mut after = before.clone();
        after.give().unwrap();
        after.accepted(Stamp(99));
        after.adopt(Epoch(7));
        after.notice(&seen(1, 99), &Fixed);
        assert_eq!(after.follows(&before), Ok(()));
        let breaks: [(Break, &str); 7] = [
            (
                |it| it.last_given = 21,
                "a counter was given that is not reserved",
            ),
            (
                |it| {
                    it.identity.incarnations.push(Actor(2));
                    it.identity.ceiling = 0;
                    it.last_given = 1;
                },
                "a counter was given that is not reserved",
            ),
            (
                |it| it.last_given = 19,
                "counters that were given may be given again",
            ),
            (
                |it| it.identity.ceiling = 19,
                "a reservation of counters shrank",
            ),
            (
                |it| it.identity.stamp_ceiling = Stamp(49),
                "a reservation of stamps shrank",
            ),
            (
                |it| it.identity.epoch = Epoch(4),
                "what changed of the identity is not stored",
            ),
            (
                |it| {
                    it.identity.refilling = true;
                    it.changed = true;
                },
                "a node that counted does not any more",
            ),
        ];
        for (broken_by, why) in breaks {
            let mut broken = before.clone();
            broken_by(&mut broken);
            assert_eq!(broken.follows(&before), Err(why));
        }
    }

    #[test]
    fn spent_counters_are_an_error() {
        let mut ledger = ledger(u64::MAX);
        assert!(matches!(ledger.give(), Err(Refusal::Unavailable(_))));
    }

    #[test]
    fn epochs_only_grow() {
        let mut ledger = ledger(0);
        assert_eq!(
            ledger.admit(Epoch(2)),
            Err(Refusal::StaleEpoch { current: Epoch(3) })
        );
        assert_eq!(ledger.admit(Epoch(3)), Ok(()));
        assert!(ledger.put().is_none());
        assert_eq!(ledger.admit(Epoch(5)), Ok(()));
        assert!(ledger.put().is_some());
        assert_eq!(
            ledger.admit(Epoch(4)),
            Err(Refusal::StaleEpoch { current: Epoch(5) })
        );
    }
}
