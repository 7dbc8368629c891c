//! A write's way through the owners: accepted by one, joined by the others, acknowledged by a quorum.
//!
//! 1. One owner is asked to *stamp*: it gives the write its dot, joins it and makes it durable in one step. When it
//!    does not answer in time, the next one is asked too, with the same write id and the same stamp.
//! 2. The resulting record goes to the other owners, in parallel, to *join*.
//! 3. Under `last_write_wins` an owner that joins tells the greatest rank it holds. If that is above the write's own, a
//!    write that completed before may hold it: the write is accepted once more, above it. Ranks are compared, not
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

use bytes::Bytes;

use super::CoordinatorError;
use super::drive::Driver;
use super::owners::Calls;
use super::pass_failure::{Missing, PassFailure};
use super::plan::{Accept, Accepted, Join};
use super::repair::Stragglers;
use super::replication::{Replication, TOPOLOGY_RETRIES_MAX};
use super::tenants::Factor;
use super::validate::invalid;
use crate::buggify::Site;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{
    AcceptRequest, CallError, Clock, CoordinatorWorld, Instant, JoinRecord, Judged, Overwrites,
    RecordKey, Refusal, SiblingLimits,
};
use crate::quorum::{ConflictPolicy, Consistency};
use crate::version::{Content, Context, Dot, Rank, Record, Stamp, Version, WriteId};

/// How often a greater stamp is proposed to owners that hold one above the last proposal.
const RAISES_MAX: usize = 16;

/// A write that passed all checks.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: RecordKey,
    pub(super) write_id: WriteId,
    pub(super) stamp: ProposedStamp,
    /// Whether it may have been attempted by another request, under the same name: an idempotency claim names it. So it
    /// stays, whatever stamp it is given.
    pub(super) is_claimed: bool,
    pub(super) content: Content,
    pub(super) context: Context,
    pub(super) policy: ConflictPolicy,
    pub(super) siblings: SiblingLimits,
    pub(super) factor: Factor,
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
    /// The record after the write, at the owner that accepted it.
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

    /// What an owner is asked to accept.
    fn request(&self) -> AcceptRequest {
        let context = self.context.clone();
        AcceptRequest {
            key: self.key.clone(),
            write_id: self.write_id,
            stamp: self.stamp.get(),
            overwrites: match self.policy {
                ConflictPolicy::LastWriteWins => Overwrites::All(context),
                ConflictPolicy::Siblings => Overwrites::Covered(context),
            },
            content: self.content.clone(),
            siblings_max: self.siblings.max,
        }
    }

    /// Whether its stamp says for good which writes it wins over. With siblings a stamp decides nothing.
    fn is_fixed(&self) -> bool {
        let fixed = matches!(self.stamp, ProposedStamp::Fixed(_));
        fixed && self.policy == ConflictPolicy::LastWriteWins
    }
}

impl<W: CoordinatorWorld> Replication<W> {
    /// Carries out `write`.
    pub(super) async fn write(&self, mut write: Write) -> Result<Written, CoordinatorError> {
        let mut missing = Missing::default();
        let mut may_ask_again = true;
        for _ in 0..TOPOLOGY_RETRIES_MAX {
            let owners = self
                .topologies
                .owners(&write.key, &mut write.factor, write.deadline);
            let owners = owners
                .await
                .map_err(|error| missing.or_indeterminate(error))?;
            let pass = Pass {
                replication: self,
                driver: Driver {
                    owners: &owners,
                    consistency: write.consistency,
                    deadline: write.deadline,
                },
                write: &mut write,
                missing: &mut missing,
            };
            match pass.run().await {
                Ok(written) => {
                    self.look_at_siblings(&write.key, &written.record, write.siblings);
                    return Ok(written);
                }
                Err(PassFailure::Failed(error)) => {
                    let again = may_ask_again && self.clock().now() < write.deadline;
                    may_ask_again = false;
                    let routing = owners.routing();
                    if !again || !self.topologies.is_over_doubt(routing, write.deadline).await {
                        return Err(error);
                    }
                }
                Err(PassFailure::StaleEpoch(_)) if mutant::on(Mutant::StaleEpochIsFinal) => break,
                Err(PassFailure::StaleEpoch(newer)) => {
                    self.topologies.refresh(newer, write.deadline).await;
                    if self.clock().now() >= write.deadline {
                        break;
                    }
                }
            }
        }
        missing.because("the topology keeps changing");
        let routing = self.topologies.routing();
        let owners = self
            .topologies
            .owners_by(routing, &write.key, write.factor.replicas);
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
    replication: &'a Replication<W>,
    driver: Driver<'a, W>,
    write: &'a mut Write,
    missing: &'a mut Missing,
}

/// The write as the owner that accepted it has it.
struct AcceptedWrite {
    position: usize,
    dot: Option<Dot>,
    /// The record after it, as it is sent to the others.
    encoded: Bytes,
    record: Record,
}

impl<W: CoordinatorWorld> Pass<'_, W> {
    async fn run(mut self) -> Result<Written, PassFailure> {
        let mut accepted = self.accept(None).await?;
        let deadline = self.write.deadline;
        self.replication
            .maybe_pause(Site::PauseBeforeJoin, deadline)
            .await;
        let (mut replicas, outranked_by) = self.join(&accepted, self.judges_stamps()).await?;
        if let Some(greatest) = outranked_by
            && !mutant::on(Mutant::NoRestamp)
            && self.is_raised_above(greatest.stamp)
        {
            marks::reached(Mark::Restamped);
            accepted = self.accept(Some(accepted.position)).await?;
            // Whatever completed before this write began is below its new stamp.
            (replicas, _) = self.join(&accepted, false).await?;
        }
        Ok(Written {
            replicas,
            dot: accepted.dot,
            record: accepted.record,
        })
    }

    /// Whether owners are asked if the write's stamp is great enough.
    fn judges_stamps(&self) -> bool {
        self.write.policy == ConflictPolicy::LastWriteWins && !self.write.is_fixed()
    }

    /// Proposes a stamp above `greatest`, which an owner was found to hold. Not for a stamp that a claim has fixed.
    fn is_raised_above(&mut self, greatest: Stamp) -> bool {
        if self.write.is_fixed() {
            return false;
        }
        match self.replication.stamp_above(greatest) {
            Some(stamp) => {
                self.write.stamp = ProposedStamp::Free(stamp);
                true
            }
            None => false,
        }
    }

    /// Has one owner accept the write: the most promising one, `first` before it if given, and further ones as patience
    /// runs out or they fail.
    async fn accept(&mut self, first: Option<usize>) -> Result<AcceptedWrite, PassFailure> {
        let mut order = self.driver.owners.readers_by_preference();
        if let Some(first) = first {
            order.again(first);
        }
        let deadline = self.write.deadline;
        self.replication
            .maybe_pause(Site::PauseBeforeStamp, deadline)
            .await;
        let (is_fixed, is_claimed) = (self.write.is_fixed(), self.write.is_claimed);
        let mut plan = Accept::new(self.write.request(), is_fixed, is_claimed, order);
        let mut calls = Calls::new();
        let mut raises = 0;
        loop {
            let accepted = self.driver.run(&mut plan, &mut calls, self.missing).await;
            self.write.write_id = plan.write_id();
            match accepted? {
                Accepted::Made {
                    position,
                    dot,
                    record,
                } => return decoded(position, dot, record),
                Accepted::Outranked { position, by } => {
                    raises += 1;
                    if raises > RAISES_MAX || !self.is_raised_above(by.stamp) {
                        let name = self.driver.owners.name(position);
                        let cause = "other writes of the key keep coming first";
                        self.missing.note(name, cause);
                        return Err(self.failed());
                    }
                    marks::reached(Mark::SupersededRaised);
                    calls.clear();
                    plan.raised(self.write.stamp.get(), position);
                }
                Accepted::Behind { position } => {
                    if self.bring_up(position).await? {
                        plan.brought_up(position);
                    }
                }
                Accepted::Refused(refusal) => return Err(PassFailure::Failed(refused(refusal))),
            }
        }
    }

    /// Joins into an owner what the write's context covers, which it has not seen yet. Returns whether it takes it: its
    /// disk may be full, or its engine hang, while it answers all the same that it is behind.
    async fn bring_up(&mut self, position: usize) -> Result<bool, PassFailure> {
        let driver = Driver {
            consistency: Consistency::One,
            ..self.driver
        };
        let gathering = self
            .replication
            .gather(&driver, &self.write.key, &self.write.context);
        let gathered = match gathering.await {
            Ok(gathered) => gathered,
            Err(PassFailure::Failed(error)) if self.missing.may_have_happened => {
                self.missing
                    .because(format!("what the context covers is not reached: {error}"));
                return Err(self.failed());
            }
            Err(failure) => return Err(failure),
        };
        let join = JoinRecord::new(self.write.key.clone(), gathered.record.encode());
        let owners = self.driver.owners;
        let patience = self.replication.clock().now() + owners.patience(position);
        let until = patience.min(self.write.deadline);
        match owners.call(position, join, until).await.result {
            // What was purged there was there.
            Ok(_) | Err(CallError::Refused(Refusal::Purged)) => {
                marks::reached(Mark::BroughtUp);
                Ok(true)
            }
            Err(CallError::Refused(Refusal::StaleEpoch { current })) => {
                Err(PassFailure::StaleEpoch(current))
            }
            Err(error) => {
                // What was sent there is no part of the write.
                self.missing.failed_to_read(owners.name(position), &error);
                match mutant::on(Mutant::BehindIsFatal) {
                    true => Err(self.failed()),
                    false => Ok(false),
                }
            }
        }
    }

    /// Sends the accepted record to the other owners and waits until enough have it. Returns how many that are, and
    /// what the write has to be accepted above if it `judges` that and it does.
    async fn join(
        &mut self,
        accepted: &AcceptedWrite,
        judges: bool,
    ) -> Result<(usize, Option<Rank>), PassFailure> {
        let owners = self.driver.owners;
        let rank = self.write.rank();
        let question = JoinRecord {
            judged: self.is_outranked_by(accepted),
            ..JoinRecord::new(self.write.key.clone(), accepted.encoded.clone())
        };
        let mut plan = Join::new(
            question,
            accepted.position,
            (rank, accepted.record.greatest_rank(), judges),
            (
                owners.write_tally(self.write.consistency),
                owners.len(),
                // A quorum read shows what leads at a quorum, whatever the write waits for.
                owners.shown(self.write.consistency.min(Consistency::Quorum)),
            ),
        );
        let mut calls = Calls::new();
        self.driver.run(&mut plan, &mut calls, self.missing).await?;
        if !plan.missed.is_empty() {
            marks::reached(Mark::JoinMissed);
        }
        let (replicas, outranked_by, greatest) =
            (plan.replicas(), plan.outranked_by(), plan.greatest);
        if judges && outranked_by.is_none() && greatest > rank {
            marks::reached(Mark::NotRestamped);
        }
        if outranked_by.is_some() && plan.holders.len() < owners.len() {
            marks::reached(Mark::RestampedUnheard);
        }
        self.replication.repairs.finish(Stragglers {
            owners: owners.clone(),
            key: self.write.key.clone(),
            factor: self.write.factor,
            calls,
            holders: plan.holders,
            missed: plan.missed,
        });
        if greatest.stamp > Stamp::ZERO {
            let wall_ms = self.replication.clock().wall_ms();
            self.replication.stamps.observe(greatest.stamp, wall_ms);
        }
        Ok((replicas, outranked_by))
    }

    /// The write, if an owner that knew it answered with a record where another one is greater: beside it, or having
    /// overwritten it. How that one stands at the owners says nothing of this one, so all of them are asked, this owner
    /// too.
    fn is_outranked_by(&self, accepted: &AcceptedWrite) -> Option<Judged> {
        let rank = self.write.rank();
        let attempts = accepted.record.siblings().iter();
        let attempts = attempts.filter(|sibling| sibling.write_id == self.write.write_id);
        let held = attempts
            .max_by_key(|sibling| sibling.stamp)
            .map(|held| held.dot);
        let dot = held.or(accepted.dot)?;
        (accepted.record.greatest_rank() > rank).then_some(Judged { dot, rank })
    }

    fn failed(&self) -> PassFailure {
        self.driver
            .failed(self.missing, None, Some(Mark::StampDeadline))
    }
}

fn decoded(
    position: usize,
    dot: Option<Dot>,
    encoded: Bytes,
) -> Result<AcceptedWrite, PassFailure> {
    let record = Record::decode(encoded.clone()).map_err(|_| {
        let malformed = "a replica answered with a malformed record";
        PassFailure::Failed(CoordinatorError::Internal(malformed))
    })?;
    Ok(AcceptedWrite {
        position,
        dot,
        encoded,
        record,
    })
}
