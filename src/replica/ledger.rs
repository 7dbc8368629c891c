//! Which dots were given out, and which epochs are refused: a node's identity and its fences while it runs.
//!
//! A batch works on a copy, which becomes the node's own when the batch is durable. Counters and stamps are reserved
//! many at a time: most batches don't touch what is stored of it.
//!
//! Invariants, which [`Ledger::validate`] and [`Ledger::follows`] check:
//! - the identity and the fences are sound, and no greater stamp was given than is reserved;
//! - what a batch gave out is reserved by what it stores, and no counter, reservation or stamp goes back while the
//!   incarnation lasts;
//! - what changes of the identity and of the fences is stored with the batch;
//! - a node that counts does not cease to while it runs.

use std::collections::BTreeSet;

use super::fences::{Asked, Fence, Fences};
use super::identity::Identity;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, PartitionId};
use crate::ports::{Put, Random, Refusal};
use crate::version::{Context, Dot, Stamp, VersionVector};

/// Stamps are reserved a second ahead of the greatest one.
const STAMP_RESERVATION_MS: u64 = 1_000;

#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) identity: Identity,
    pub(super) fences: Fences,
    /// The partitions whose fences have changed.
    refenced: BTreeSet<PartitionId>,
    last_given: u64,
    greatest_stamp: Stamp,
    reservation: u64,
    changed: bool,
    /// The identity was never stored as it was resumed.
    unsaved: bool,
}

impl Ledger {
    /// After a start every reserved counter counts as given out. An `unsaved` identity becomes part of the first batch.
    pub(super) fn new(identity: Identity, fences: Fences, reservation: u64, unsaved: bool) -> Self {
        let reused = mutant::on(Mutant::CounterReusedAfterRestart);
        let last_given = if reused { 0 } else { identity.ceiling };
        Self {
            greatest_stamp: identity.stamp_ceiling,
            identity,
            fences,
            refenced: BTreeSet::new(),
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
        if self.never_gave(seen) && !mutant::on(Mutant::GoneBackUnnoticed) {
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

    /// Refuses what was asked for by an older epoch than the node's fences let pass. What nobody asked for passes.
    pub(super) fn admit(&self, asked: Option<&Asked>) -> Result<(), Refusal> {
        let Some(asked) = asked else { return Ok(()) };
        asked.of_who_knows(self.identity.owners_change)?;
        self.fences.admit(self.identity.epoch, asked)
    }

    /// Refuses older epochs from now on, for all partitions.
    pub(super) fn fence(&mut self, epoch: Epoch) {
        if epoch > self.identity.epoch {
            self.identity.epoch = epoch;
            self.changed |= !mutant::on(Mutant::EpochForgotten);
            self.refenced.extend(self.fences.without_older(epoch));
        }
    }

    /// Refuses older epochs from now on, for one partition; and whoever knows nothing of changes of owners, for all.
    pub(super) fn fence_partition(&mut self, partition: PartitionId, fence: Fence) {
        self.changed |= !self.identity.owners_change;
        self.identity.owners_change = true;
        if self.fences.raise(self.identity.epoch, partition, fence) {
            self.refenced.insert(partition);
        }
    }

    /// Somebody relies on the node for this partition.
    pub(super) fn own_again(&mut self, asked: Option<&Asked>, partition: PartitionId) {
        let node = self.identity.epoch;
        if let Some(Asked { epoch, .. }) = asked
            && self.fences.own_again(node, partition, *epoch)
        {
            self.refenced.insert(partition);
        }
    }

    /// The node is new: no fence of its former life counts, since it refuses all epochs of that time.
    pub(super) fn forget_fences(&mut self) {
        self.refenced.extend(self.fences.without_any());
    }

    /// Comes back from later epochs.
    pub(super) fn come_back(&mut self, epoch: Epoch) {
        let from = self.fences.newest(self.identity.epoch);
        if from <= epoch {
            return;
        }
        tracing::warn!(%from, to = %epoch, "the node's epoch is set back");
        self.changed |= self.identity.epoch > epoch;
        self.identity.epoch = self.identity.epoch.min(epoch);
        let back = self.fences.come_back(self.identity.epoch, epoch);
        self.refenced.extend(back);
    }

    /// Nothing is remembered of writes up to this stamp: as if all of them had been accepted here.
    pub(super) fn remembers_from(&mut self, horizon: Stamp) {
        self.greatest_stamp = self.greatest_stamp.max(horizon);
        if horizon > self.identity.stamp_ceiling {
            self.identity.stamp_ceiling = horizon;
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

    /// Whether anything has to be stored with the batch.
    pub(super) fn is_changed(&self) -> bool {
        self.changed || !self.refenced.is_empty()
    }

    /// What has to be stored with the batch, if anything.
    pub(super) fn puts(&self) -> impl Iterator<Item = Put> {
        let identity = self.changed.then(|| self.identity.put());
        let fences = self.refenced.iter();
        let fences = fences.map(|partition| self.fences.put(*partition));
        identity.into_iter().chain(fences)
    }

    /// What makes the identity the stored one, whether or not it has changed.
    pub(super) fn put_anyway(&mut self) -> Put {
        self.changed = true;
        self.identity.put()
    }

    /// Whether the change must be durable at once, even where commits are not.
    pub(super) fn must_sync(&self, before: &Self) -> bool {
        before.unsaved
            || !self.refenced.is_empty()
            || self.identity.epoch != before.identity.epoch
            || self.identity.incarnations != before.identity.incarnations
            || self.identity.refilling != before.identity.refilling
            || self.identity.owners_change != before.identity.owners_change
    }

    /// Checks the invariants of one moment.
    ///
    /// # Errors
    /// Says which one is broken.
    pub(super) fn validate(&self) -> Result<(), &'static str> {
        self.identity.validate()?;
        if !self.refenced.is_empty() {
            self.fences.validate(self.identity.epoch)?;
        }
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
            () if self.refenced.is_empty() && !self.fences.are(&before.fences) => {
                Err("what changed of the fences is not stored")
            }
            () if then.owners_change && !now.owners_change => {
                Err("a node that was asked to fence a partition forgets it")
            }
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
            refenced: BTreeSet::new(),
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
    use super::super::fences::About;
    use super::*;
    use crate::placement::NodeId;
    use crate::ports::{Durability, Release};
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
            owners_change: false,
        };
        Ledger::new(identity, Fences::default(), 10, false)
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
            assert_eq!(after.is_changed(), expected % 10 == 1, "{expected}");
            stored = if after.is_changed() {
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
        assert!(!ledger.is_changed());
        ledger.accepted(Stamp::new(7, 3));
        assert_eq!(ledger.identity.stamp_ceiling, Stamp::new(1_007, 0));
        assert!(ledger.is_changed());
        let mut after = ledger.clone();
        after.changed = false;
        after.accepted(Stamp::new(1_007, 0));
        assert!(!after.is_changed());
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
        assert!(ledger.is_changed() && ledger.identity.ceiling >= 22);
    }

    #[test]
    fn an_identity_that_could_not_be_stored_is_part_of_the_first_batch_that_can() {
        let mut ledger = Ledger::new(ledger(20).identity, Fences::default(), 10, true);
        let failed = ledger.clone();
        assert!(failed.puts().count() == 1 && failed.must_sync(&ledger));
        ledger.abort(&failed);
        assert!(ledger.is_changed() && ledger.unsaved);
        ledger.commit(ledger.clone());
        assert!(!ledger.is_changed() && !ledger.clone().must_sync(&ledger));
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
        after.fence(Epoch(7));
        after.fence_partition(PartitionId(1), fence(9, true));
        after.notice(&seen(1, 99), &Fixed);
        assert_eq!(after.follows(&before), Ok(()));
        let breaks: [(Break, &str); 8] = [
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
                    it.fence_partition(PartitionId(1), fence(9, true));
                    it.refenced.clear();
                },
                "what changed of the fences is not stored",
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

    fn fence(epoch: u64, leaving: bool) -> Fence {
        let epoch = Epoch(epoch);
        Fence { epoch, leaving }
    }

    #[test]
    fn fences_are_raised_by_who_asks_for_it_alone() {
        let mut ledger = ledger(0);
        let partition = PartitionId(1);
        let admit = |ledger: &Ledger, epoch| {
            ledger.admit(Some(&Asked {
                caller: Release::Current,
                epoch: Epoch(epoch),
                about: About::Partition(partition),
            }))
        };
        let stale = |current| {
            let current = Epoch(current);
            Err(Refusal::StaleEpoch { current })
        };
        assert_eq!(admit(&ledger, 2), stale(3));
        assert_eq!(ledger.admit(None), Ok(()), "nobody asked for it");
        assert_eq!(admit(&ledger, 9), Ok(()));
        assert!(!ledger.is_changed() && admit(&ledger, 3).is_ok());
        let before = ledger.clone();
        ledger.fence_partition(partition, fence(5, false));
        assert!(ledger.is_changed() && ledger.must_sync(&before));
        assert_eq!(admit(&ledger, 4), stale(5));
        ledger.commit(ledger.clone());
        assert!(!ledger.is_changed());
        ledger.fence(Epoch(7));
        assert_eq!(ledger.fences, Fences::default(), "it says as much");
        assert_eq!(
            ledger.puts().count(),
            2,
            "and nothing is stored of the other"
        );
        assert_eq!(admit(&ledger, 6), stale(7));
        ledger.fence_partition(partition, fence(9, true));
        ledger.come_back(Epoch(8));
        assert_eq!(admit(&ledger, 7), stale(8));
        assert_eq!(ledger.identity.epoch, Epoch(7));
        ledger.come_back(Epoch(4));
        assert_eq!(
            (ledger.identity.epoch, admit(&ledger, 4)),
            (Epoch(4), Ok(()))
        );
    }

    #[test]
    fn a_horizon_that_is_told_of_is_kept_over_a_clean_stop() {
        let mut ledger = ledger(0);
        ledger.remembers_from(Stamp(49));
        assert!(!ledger.is_changed());
        ledger.remembers_from(Stamp(70));
        assert!(ledger.is_changed());
        ledger.stop();
        assert_eq!(ledger.identity.stamp_ceiling, Stamp(70));
    }
}
