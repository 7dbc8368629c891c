//! A write's way through the owners: stamped by one, joined by the others, acknowledged by a quorum.
//!
//! 1. One owner is asked to *stamp*: it gives the write its dot, joins it and makes it durable in one step. When it
//!    does not answer in time, the next one is asked too, with the same write id and the same stamp.
//! 2. The resulting record goes to the other owners, in parallel, to *join*.
//! 3. Under `last_write_wins` an owner that joins tells the greatest rank it holds. If that is above the write's own, a
//!    write that completed before may hold it: the write is stamped once more, above it. Ranks are compared, not
//!    stamps: a completed write may hold the very same stamp.
//! 4. When enough owners have it durably the client is answered; the rest go on in the background, and an owner that
//!    missed the write is repaired.
//!
//! Why the coordinator proposes the stamp instead of the owner drawing it: an attempt whose answer was lost may still
//! take effect, at any time and at an owner the coordinator never hears of again. Were its stamp drawn there and then,
//! by a clock that runs ahead, it would win over later, acknowledged writes. With the stamp fixed beforehand every
//! attempt of a write has a stamp no greater than the acknowledged one, and a later write, whose quorum meets the
//! acknowledged stamp, is above them all. An owner that holds a greater rank answers so, without effect, and the
//! coordinator proposes a greater stamp.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;

use super::CoordinatorError;
use super::owners::{Answer, Calls, Owners};
use super::service::Coordinator;
use super::setback::{Missing, Setback};
use super::standings::Standings;
use super::validate::invalid;
use super::wait::next_answer;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::ports::{
    CallError, Clock, CoordinatorWorld, Instant, Judged, Operation, Overwrites, Random, RecordKey,
    Refusal, Reply, SiblingLimits, StampRequest, Standing,
};
use crate::quorum::{ConflictPolicy, Consistency, Tally, Verdict};
use crate::sabotage::{self, Sabotage};
use crate::version::{Content, Context, Dot, Rank, Record, Stamp, Version, WriteId};

/// How often a write goes back to the start because the topology changed under it.
const TOPOLOGY_RETRIES_MAX: usize = 4;
/// How often a greater stamp is proposed to owners that hold one above the last proposal.
const RAISES_MAX: usize = 16;
/// An owner that has to make something durable gets this many times its own 95th percentile before the next one is
/// asked as well.
const PATIENCE_P95S: u32 = 4;

/// A write that passed all checks.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: RecordKey,
    pub(super) write_id: WriteId,
    pub(super) stamp: ProposedStamp,
    pub(super) content: Content,
    pub(super) context: Context,
    pub(super) policy: ConflictPolicy,
    pub(super) siblings: SiblingLimits,
    pub(super) replication_factor: u8,
    pub(super) consistency: Consistency,
    pub(super) deadline: Instant,
}

/// The stamp to propose.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProposedStamp {
    /// May be raised as long as the write is not acknowledged.
    Free(Stamp),
    /// Fixed by an idempotency claim: if an owner holds a greater rank, the write is done and was overwritten by
    /// a write that ran at the same time or later.
    Fixed(Stamp),
}

impl ProposedStamp {
    pub(super) const fn get(self) -> Stamp {
        match self {
            Self::Free(stamp) | Self::Fixed(stamp) => stamp,
        }
    }
}

/// A write that was acknowledged.
#[derive(Debug)]
pub(super) struct Written {
    /// How many owners have it durably.
    pub(super) replicas: usize,
    /// Its dot; `None` when it was overwritten before it could be applied.
    pub(super) dot: Option<Dot>,
    /// The record after the write, at the owner that stamped it.
    pub(super) record: Record,
}

impl Written {
    /// Bytes of values that were written again with the write, since they are in its record.
    pub(super) fn rewritten_bytes(&self) -> usize {
        let siblings = self.record.siblings().iter();
        let others = siblings.filter(|sibling| Some(sibling.dot) != self.dot);
        others.filter_map(Version::value).map(Bytes::len).sum()
    }
}

impl Write {
    /// Its place among the writes of its key, as far as it is known.
    fn rank(&self) -> Rank {
        Rank {
            stamp: self.stamp.get(),
            write_id: self.write_id,
        }
    }

    /// Whether it may have been attempted by another request, under the same name.
    const fn is_claimed(&self) -> bool {
        matches!(self.stamp, ProposedStamp::Fixed(_))
    }

    /// Whether its stamp says for good which writes it wins over. With siblings a stamp decides nothing.
    fn is_fixed(&self) -> bool {
        let fixed = matches!(self.stamp, ProposedStamp::Fixed(_));
        fixed && self.policy == ConflictPolicy::LastWriteWins
    }
}

impl<W: CoordinatorWorld> Coordinator<W> {
    /// How long an owner may take to make something durable before another one is asked as well.
    pub(super) fn write_patience(&self, owners: &Owners<W>, position: usize) -> Duration {
        let p95 = owners.health(position).p95();
        (p95 * PATIENCE_P95S).max(self.settings().stamp_patience_min)
    }

    /// Carries out `write`.
    pub(super) async fn replicate(&self, mut write: Write) -> Result<Written, CoordinatorError> {
        let mut missing = Missing::default();
        let mut may_ask_again = true;
        for _ in 0..TOPOLOGY_RETRIES_MAX {
            let owners = self.owners(&write.key, write.replication_factor);
            let pass = Pass {
                coordinator: self,
                owners: &owners,
                write: &mut write,
                missing: &mut missing,
            };
            match pass.run().await {
                Ok(written) => {
                    self.look_at_siblings(&write.key, &written.record, write.siblings);
                    return Ok(written);
                }
                Err(Setback::Failed(error)) => {
                    let again = may_ask_again && self.clock().now() < write.deadline;
                    may_ask_again = false;
                    if !again || !self.is_over_doubt(owners.routing(), write.deadline).await {
                        return Err(error);
                    }
                }
                Err(Setback::StaleEpoch(_)) if sabotage::on(Sabotage::StaleEpochIsFinal) => break,
                Err(Setback::StaleEpoch(newer)) => {
                    self.refresh_topology(newer, write.deadline).await;
                    if self.clock().now() >= write.deadline {
                        break;
                    }
                }
            }
        }
        missing.because("the topology keeps changing");
        let owners = self.owners(&write.key, write.replication_factor);
        let timed_out = self.clock().now() >= write.deadline;
        Err(missing.error(&owners, write.consistency, None, timed_out))
    }
}

/// What the client is told of a write that an owner refused for what it says or for what it would leave.
fn refused(refusal: Refusal) -> CoordinatorError {
    match refusal {
        Refusal::Malformed(problem) => invalid("context", problem),
        Refusal::Crowded(problem) => CoordinatorError::Crowded(problem),
        refusal => invalid("context", refusal.to_string()),
    }
}

/// One pass over the owners of one topology.
struct Pass<'a, W: CoordinatorWorld> {
    coordinator: &'a Coordinator<W>,
    owners: &'a Owners<W>,
    write: &'a mut Write,
    missing: &'a mut Missing,
}

/// What the stamping owner made of the write.
struct Stamped {
    position: usize,
    dot: Option<Dot>,
    /// The record after it, as it is sent to the others.
    encoded: Bytes,
    record: Record,
}

/// What became of the joins at the other owners.
struct Joined {
    /// How many owners have the write.
    replicas: usize,
    /// The greatest rank held somewhere, if the write needs a greater stamp.
    outranked_by: Option<Rank>,
}

impl<W: CoordinatorWorld> Pass<'_, W> {
    async fn run(mut self) -> Result<Written, Setback> {
        let mut stamped = self.stamp(None).await?;
        self.maybe_pause(Site::PauseBeforeJoin).await;
        let mut joined = self.join(&stamped, self.judges_stamps()).await?;
        if let Some(greatest) = joined.outranked_by
            && !sabotage::on(Sabotage::NoRestamp)
            && self.is_raised_above(greatest.stamp)
        {
            marks::reached(Mark::Restamped);
            stamped = self.stamp(Some(stamped.position)).await?;
            // Whatever completed before this write began is below its new stamp.
            joined = self.join(&stamped, false).await?;
        }
        Ok(Written {
            replicas: joined.replicas,
            dot: stamped.dot,
            record: stamped.record,
        })
    }

    /// Whether owners are asked if the write's stamp is great enough.
    fn judges_stamps(&self) -> bool {
        self.write.policy == ConflictPolicy::LastWriteWins && !self.write.is_fixed()
    }

    async fn maybe_pause(&self, site: Site) {
        let clock = self.coordinator.clock();
        let deadline = self.write.deadline;
        buggify::pause(site, |pause| {
            clock.sleep_until(deadline.min(clock.now() + pause))
        })
        .await;
    }

    /// Proposes a stamp above `greatest`, which an owner was found to hold. Not for a stamp that a claim has fixed.
    fn is_raised_above(&mut self, greatest: Stamp) -> bool {
        if self.write.is_fixed() {
            return false;
        }
        match self.coordinator.stamp_above(greatest) {
            Some(stamp) => {
                self.write.stamp = ProposedStamp::Free(stamp);
                true
            }
            None => false,
        }
    }

    /// Has one owner stamp the write: the most promising one, `first` before it if given, and further ones as patience
    /// runs out or they fail.
    async fn stamp(&mut self, first: Option<usize>) -> Result<Stamped, Setback> {
        let deadline = self.write.deadline;
        let clock = self.coordinator.clock().clone();
        let mut order = self.owners.by_preference();
        if let Some(first) = first {
            order.again(first);
        }
        self.maybe_pause(Site::PauseBeforeStamp).await;
        let mut calls = Calls::new();
        let mut asked = None;
        let mut raises = 0;
        let mut ask_next = true;
        let mut latest = None;
        let mut timer = pin!(clock.sleep_until(deadline));
        loop {
            if ask_next {
                if let Some(position) = order.next() {
                    calls.push(self.owners.call(position, self.stamp_operation(), deadline));
                    latest = Some(position);
                    if *asked.get_or_insert(position) != position {
                        marks::reached(Mark::StampFailedOver);
                    }
                    let patience = match sabotage::on(Sabotage::PatienceEndless) {
                        true => deadline.since(clock.now()),
                        false if buggify::on(Site::StampImpatience) => Duration::ZERO,
                        false => self.coordinator.write_patience(self.owners, position),
                    };
                    timer.set(clock.sleep_until(deadline.min(clock.now() + patience)));
                } else if calls.is_empty() {
                    return Err(self.failed(None, false));
                } else {
                    timer.set(clock.sleep_until(deadline));
                }
            }
            ask_next = true;
            let Some(Answer { position, result }) = next_answer(&mut calls, timer.as_mut()).await
            else {
                if clock.now() >= deadline {
                    self.missing.may_have_happened |= !calls.is_empty();
                    return Err(self.failed(None, true));
                }
                if let Some(position) = latest.take() {
                    self.owners.health(position).failed(clock.now());
                    self.missing
                        .note(self.owners.name(position), "slow to stamp");
                }
                if sabotage::on(Sabotage::FailoverForgetsWriteId) {
                    self.write.write_id = WriteId(self.coordinator.random().next_u128());
                }
                continue;
            };
            match result {
                Ok(Reply::Stamped { dot, record }) => {
                    self.missing.may_have_happened = true;
                    if asked != Some(position) {
                        marks::reached(Mark::StampedElsewhere);
                    }
                    return stamped(position, Some(dot), record);
                }
                Ok(Reply::Superseded {
                    greatest,
                    may_be_over,
                    record,
                }) => {
                    // Another owner that was asked may have stamped it before it was overwritten.
                    self.missing.may_have_happened |= !calls.is_empty();
                    let siblings = self.write.policy == ConflictPolicy::Siblings;
                    // A delete overwrites what its context covers and nothing else, however often it is made.
                    let again_is_more = siblings && self.write.content != Content::Tombstone;
                    let attempted =
                        self.write.is_claimed() || again_is_more && self.missing.may_have_happened;
                    if may_be_over && attempted && !sabotage::on(Sabotage::OverwrittenWrittenAgain)
                    {
                        marks::reached(Mark::MayBeOver);
                        self.missing.may_have_happened = true;
                        self.missing.because(
                            "the key was overwritten or deleted since: this write may have been made before that",
                        );
                        return Err(self.failed(None, false));
                    }
                    if self.write.is_fixed() || sabotage::on(Sabotage::SupersededIsSuccess) {
                        marks::reached(Mark::SupersededFixed);
                        return stamped(position, None, record);
                    }
                    raises += 1;
                    if raises > RAISES_MAX || !self.is_raised_above(greatest.stamp) {
                        let cause = "other writes of the key keep coming first";
                        self.missing.note(self.owners.name(position), cause);
                        return Err(self.failed(None, false));
                    }
                    marks::reached(Mark::SupersededRaised);
                    // What is acknowledged must have the greatest stamp that was ever proposed: answers to smaller
                    // ones no longer count.
                    calls.clear();
                    order.again(position);
                }
                Ok(Reply::Behind) => {
                    self.missing.may_have_happened |= !calls.is_empty();
                    self.bring_up(position).await?;
                    order.again(position);
                }
                Ok(_) => self
                    .missing
                    .note(self.owners.name(position), "answered something else"),
                Err(CallError::Refused(Refusal::StaleEpoch { current })) => {
                    marks::reached(Mark::EpochRefused);
                    self.missing.may_have_happened |= !calls.is_empty();
                    return Err(Setback::StaleEpoch(current));
                }
                Err(CallError::Refused(
                    refusal @ (Refusal::Malformed(_) | Refusal::Crowded(_)),
                )) => {
                    self.missing.may_have_happened |= !calls.is_empty();
                    let problem = refusal.to_string();
                    if !self.missing.may_have_happened {
                        return Err(Setback::Failed(refused(refusal)));
                    }
                    self.missing.note(self.owners.name(position), problem);
                    return Err(self.failed(None, false));
                }
                Err(error) => {
                    self.missing.failed(self.owners.name(position), &error);
                    if sabotage::on(Sabotage::StampFailoverSkipped) {
                        self.missing.may_have_happened |= !calls.is_empty();
                        return Err(self.failed(None, false));
                    }
                }
            }
        }
    }

    fn stamp_operation(&self) -> Operation {
        let Write {
            key,
            write_id,
            stamp,
            content,
            context,
            policy,
            siblings,
            ..
        } = &*self.write;
        let context = context.clone();
        let overwrites = match policy {
            ConflictPolicy::LastWriteWins => Overwrites::All(context),
            ConflictPolicy::Siblings => Overwrites::Covered(context),
        };
        Operation::Stamp(Box::new(StampRequest {
            key: key.clone(),
            write_id: *write_id,
            stamp: stamp.get(),
            overwrites,
            content: content.clone(),
            siblings_max: siblings.max,
        }))
    }

    /// Joins into an owner what the write's context covers, which it has not seen yet.
    async fn bring_up(&mut self, position: usize) -> Result<(), Setback> {
        let Write {
            key,
            context,
            deadline,
            ..
        } = &*self.write;
        let gathering =
            self.coordinator
                .gather(self.owners, key, Consistency::One, context, *deadline);
        let gathered = match gathering.await {
            Ok(gathered) => gathered,
            Err(Setback::Failed(error)) if self.missing.may_have_happened => {
                self.missing
                    .because(format!("what the context covers is not reached: {error}"));
                return Err(self.failed(None, self.coordinator.clock().now() >= *deadline));
            }
            Err(setback) => return Err(setback),
        };
        let record = gathered.record.encode();
        let join = Operation::Join {
            key: key.clone(),
            record,
            judged: None,
            exchanged: false,
        };
        match self.owners.call(position, join, *deadline).await.result {
            // What was purged there was there.
            Ok(_) | Err(CallError::Refused(Refusal::Purged)) => {
                marks::reached(Mark::BroughtUp);
                Ok(())
            }
            Err(CallError::Refused(Refusal::StaleEpoch { current })) => {
                Err(Setback::StaleEpoch(current))
            }
            Err(error) => {
                self.missing.failed(self.owners.name(position), &error);
                Err(self.failed(None, false))
            }
        }
    }

    /// Sends the stamped record to the other owners and waits until enough have it. If it `judges` the write's stamp,
    /// it waits until it is certain that the stamp is great enough, or all owners are heard, or those that are left
    /// were given their time.
    async fn join(&mut self, stamped: &Stamped, judges: bool) -> Result<Joined, Setback> {
        let Write {
            key,
            consistency,
            deadline,
            replication_factor,
            ..
        } = &*self.write;
        let (key, deadline, replication_factor) = (key.clone(), *deadline, *replication_factor);
        let clock = self.coordinator.clock().clone();
        let mut tally = self.owners.tally(*consistency);
        tally.success(stamped.position);
        let rank = self.write.rank();
        // A quorum read shows what leads at a quorum, whatever the write waits for.
        let quorum = self.owners.required(Consistency::Quorum);
        let mut standings = Standings::new(tally.required().min(quorum));
        let mut greatest = stamped.record.greatest_rank();
        let judged = self.is_outranked_by(stamped);
        if judged.is_none() {
            standings.add(Standing::Leading, greatest, rank);
        }
        let mut calls = Calls::new();
        for position in 0..self.owners.len() {
            if position != stamped.position || judged.is_some() {
                let join = Operation::Join {
                    key: key.clone(),
                    record: stamped.encoded.clone(),
                    judged,
                    exchanged: false,
                };
                calls.push(self.owners.call(position, join, deadline));
            }
        }
        let (mut holders, mut missed) = (vec![stamped.position], Vec::new());
        let mut timer = pin!(clock.sleep_until(deadline));
        let mut waits_for_standing = false;
        loop {
            match tally.verdict() {
                Verdict::Reached
                    if !calls.is_empty() && sabotage::on(Sabotage::StragglersAwaited) => {}
                Verdict::Reached if !judges || standings.are_enough() || calls.is_empty() => break,
                Verdict::Reached if !waits_for_standing => {
                    marks::reached(Mark::RestampAwaited);
                    waits_for_standing = true;
                    let patience = self.patience_with_the_quickest();
                    timer.set(clock.sleep_until(deadline.min(clock.now() + patience)));
                }
                Verdict::Reached => {}
                Verdict::Impossible => {
                    marks::reached(Mark::WriteImpossible);
                    return Err(self.failed(Some(&tally), false));
                }
                Verdict::Pending => {}
            }
            let Some(Answer { position, result }) = next_answer(&mut calls, timer.as_mut()).await
            else {
                if waits_for_standing {
                    break;
                }
                return Err(self.failed(Some(&tally), true));
            };
            match result {
                Ok(Reply::Joined {
                    greatest: held,
                    standing,
                }) => {
                    greatest = greatest.max(held);
                    standings.add(standing, held, rank);
                    if position != stamped.position {
                        holders.push(position);
                        tally.success(position);
                    }
                }
                // It has the write, and only did not say how that stands.
                _ if position == stamped.position => {}
                Err(CallError::Refused(Refusal::StaleEpoch { current })) => {
                    return Err(Setback::StaleEpoch(current));
                }
                result => {
                    let error = result
                        .err()
                        .unwrap_or(CallError::NoAnswer("answered something else".into()));
                    self.missing.failed(self.owners.name(position), &error);
                    tally.failure(position);
                    // One that is being refilled has it; it only doesn't count.
                    if error != CallError::Refused(Refusal::Refilling) {
                        missed.push(position);
                    }
                }
            }
        }
        if !missed.is_empty() {
            marks::reached(Mark::JoinMissed);
        }
        let outranked = judges && !standings.are_enough();
        if judges && !outranked && greatest > rank {
            marks::reached(Mark::NotRestamped);
        }
        if outranked && holders.len() < self.owners.len() {
            marks::reached(Mark::RestampedUnheard);
        }
        self.coordinator
            .finish_joins(self.owners, calls, key, replication_factor, holders, missed);
        if greatest.stamp > Stamp::ZERO {
            self.coordinator.observe_stamp(greatest.stamp);
        }
        Ok(Joined {
            replicas: tally.answered(),
            outranked_by: outranked.then_some(greatest),
        })
    }

    /// How long the quickest owner may take: a slow one is not waited for at its own pace.
    fn patience_with_the_quickest(&self) -> Duration {
        let positions = 0..self.owners.len();
        let patience =
            positions.map(|position| self.coordinator.write_patience(self.owners, position));
        patience.min().unwrap_or_default()
    }

    /// The write, if an owner that knew it answered with a record where another one is greater: beside it, or having
    /// overwritten it. How that one stands at the owners says nothing of this one, so all of them are asked, this owner
    /// too.
    fn is_outranked_by(&self, stamped: &Stamped) -> Option<Judged> {
        let rank = self.write.rank();
        let attempts = stamped.record.siblings().iter();
        let attempts = attempts.filter(|sibling| sibling.write_id == self.write.write_id);
        let held = attempts
            .max_by_key(|sibling| sibling.stamp)
            .map(|held| held.dot);
        let dot = held.or(stamped.dot)?;
        (stamped.record.greatest_rank() > rank).then_some(Judged { dot, rank })
    }

    fn failed(&self, tally: Option<&Tally>, timed_out: bool) -> Setback {
        // Calls end at the deadline too: the last of them may be heard before the timer is.
        let timed_out = timed_out || self.coordinator.clock().now() >= self.write.deadline;
        if timed_out {
            marks::reached(match tally {
                None => Mark::StampDeadline,
                Some(_) => Mark::JoinDeadline,
            });
        }
        if self.missing.may_have_happened {
            marks::reached(Mark::Indeterminate);
        }
        Setback::Failed(
            self.missing
                .error(self.owners, self.write.consistency, tally, timed_out),
        )
    }
}

fn stamped(position: usize, dot: Option<Dot>, encoded: Bytes) -> Result<Stamped, Setback> {
    let record = Record::decode(encoded.clone()).map_err(|_| {
        let malformed = "a replica answered with a malformed record";
        Setback::Failed(CoordinatorError::Internal(malformed))
    })?;
    Ok(Stamped {
        position,
        dot,
        encoded,
        record,
    })
}
