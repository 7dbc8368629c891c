//! A read's way: ask the owners that answer fastest, join what they return, and bring a quorum up to it before
//! answering.
//!
//! - When enough answers differ, the joined record is written to as many owners as were asked for *before* the client
//!   sees it (monotonic quorum reads). Other stale owners are repaired in the background.
//! - A context is a floor: the read fails unless the answer covers it, or what it lacks was deleted and purged.
//!
//! Whom to ask, and when it is enough, is decided by the plans [`Gather`] and [`Settle`].

use bytes::Bytes;
use futures::StreamExt;

use super::drive::Driver;
use super::owners::{Answer, Calls};
use super::pass_failure::{Missing, PassFailure};
use super::plan::{Gather, Gathered, Plan, Reached, Settle, Settled};
use super::repair::Stragglers;
use super::replication::{Replication, TOPOLOGY_RETRIES_MAX};
use super::tenants::Factor;
use super::{CoordinatorError, ReadOutcome, ReadValue};
use crate::buggify::Site;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::Token;
use crate::ports::{Clock, CoordinatorWorld, Instant, PurgedOf, RecordKey};
use crate::quorum::{ConflictPolicy, Consistency, Verdict, resolve};
use crate::version::{Context, Record, Version};

/// A read that passed all checks.
#[derive(Clone, Debug)]
pub(super) struct Read<'a> {
    pub(super) key: &'a RecordKey,
    pub(super) factor: Factor,
    pub(super) policy: ConflictPolicy,
    pub(super) consistency: Consistency,
    /// What the answer has to cover.
    pub(super) floor: &'a Context,
    pub(super) deadline: Instant,
}

impl<W: CoordinatorWorld> Replication<W> {
    /// What the client is told of a record that was read.
    pub(super) fn answer_read(
        &self,
        key: String,
        record: &Record,
        token: Token,
        policy: ConflictPolicy,
    ) -> Result<ReadOutcome, CoordinatorError> {
        let context = Context {
            shown: record.seen().clone(),
            written: None,
        }
        .encode(token.0);
        let clock = self.readable_clock(record.seen());
        let shown = resolve(record, policy);
        let shown_value = |version: &&Version| {
            let stamp = version.stamp;
            let value = version.value()?.clone();
            Some(ReadValue { value, stamp })
        };
        let values: Vec<ReadValue> = shown.siblings.iter().filter_map(shown_value).collect();
        if values.len() > 1 {
            marks::reached(Mark::SiblingsShown);
        }
        if values.is_empty() {
            return Err(CoordinatorError::KeyNotFound {
                key,
                context: match mutant::on(Mutant::NotFoundWithoutContext) {
                    true => Bytes::new(),
                    false => context,
                },
                clock,
            });
        }
        if record.siblings().iter().any(|v| v.is_tombstone()) {
            marks::reached(Mark::DeletedBesideValue);
        }
        Ok(ReadOutcome {
            values,
            clock,
            context,
        })
    }

    /// Reads a record.
    pub(super) async fn read(&self, read: &Read<'_>) -> Result<Record, CoordinatorError> {
        let deadline = read.deadline;
        let mut may_ask_again = true;
        let mut topologies = 0;
        let mut factor = read.factor;
        while topologies < TOPOLOGY_RETRIES_MAX {
            let owners = self
                .topologies
                .owners(read.key, &mut factor, deadline)
                .await?;
            let driver = Driver {
                owners: &owners,
                consistency: read.consistency,
                deadline,
            };
            match self.read_once(&driver, read).await {
                Ok(Some(record)) => return Ok(record),
                // Each time another write has come in between, so this ends with the writes, or at the deadline.
                Ok(None) => marks::reached(Mark::ReadOvertaken),
                Err(PassFailure::Failed(error)) => {
                    topologies += 1;
                    let again = may_ask_again && self.clock().now() < deadline;
                    may_ask_again = false;
                    if !again
                        || !self
                            .topologies
                            .is_over_doubt(owners.routing(), deadline)
                            .await
                    {
                        return Err(error);
                    }
                }
                Err(PassFailure::StaleEpoch(newer)) => {
                    topologies += 1;
                    self.topologies.refresh(newer, deadline).await;
                }
            }
        }
        let mut missing = Missing::default();
        missing.because("the topology keeps changing");
        let owners =
            self.topologies
                .owners_by(self.topologies.routing(), read.key, factor.replicas);
        let timed_out = self.clock().now() >= deadline;
        Err(missing.error(&owners, read.consistency, None, timed_out))
    }

    /// One pass over the owners of one topology. `None`: an owner holds a greater write by now.
    async fn read_once(
        &self,
        driver: &Driver<'_, W>,
        read: &Read<'_>,
    ) -> Result<Option<Record>, PassFailure> {
        let gathered = self.gather(driver, read.key, read.floor).await?;
        self.maybe_pause(Site::PauseBeforeSettle, read.deadline)
            .await;
        self.settle(driver, read, gathered).await
    }

    /// Asks owners until enough have answered and their join covers `floor`.
    pub(super) async fn gather(
        &self,
        driver: &Driver<'_, W>,
        key: &RecordKey,
        floor: &Context,
    ) -> Result<Gathered, PassFailure> {
        let owners = driver.owners;
        let mut missing = Missing::default();
        let tally = owners.read_tally(driver.consistency);
        let order = owners.readers_by_preference();
        let first = order.clone().take(tally.required());
        let usual = first.map(|position| owners.health(position).p95());
        let hedge_after = usual.fold(self.settings.hedge_delay_min, Ord::max);
        let mut plan = Gather::new(key, floor, tally, order, hedge_after);
        let mut calls = Calls::new();
        let reached = driver.run(&mut plan, &mut calls, &mut missing).await?;
        let mut gathered = match reached {
            Reached::Floor(gathered) => return Ok(gathered),
            Reached::Everybody(gathered) => gathered,
        };
        if self.was_purged(driver, key, &gathered, floor).await {
            marks::reached(Mark::FloorPurged);
            gathered.record.has_seen(floor);
            return Ok(gathered);
        }
        marks::reached(Mark::FloorFailed);
        missing.because("the context covers a write that no reachable owner has");
        Err(driver.failed(&missing, plan.tally(), None))
    }

    /// Whether what the context covers, and the answer does not, was purged: it was deleted everywhere.
    async fn was_purged(
        &self,
        driver: &Driver<'_, W>,
        key: &RecordKey,
        gathered: &Gathered,
        floor: &Context,
    ) -> bool {
        let mut calls = Calls::new();
        for (position, _) in &gathered.answers {
            let purged = PurgedOf { tree: key.tree() };
            calls.push(driver.owners.call(*position, purged, driver.deadline));
        }
        let mut seen = gathered.record.seen().clone();
        while let Some(Answer { result, .. }) = calls.next().await {
            if let Ok(purged) = result {
                seen.merge(&purged.seen);
            }
        }
        floor.is_covered_by(&seen)
    }

    /// Makes sure that as many owners hold the joined record as were asked for, then gives it out. `None`: one of them
    /// holds a greater write by now.
    async fn settle(
        &self,
        driver: &Driver<'_, W>,
        read: &Read<'_>,
        gathered: Gathered,
    ) -> Result<Option<Record>, PassFailure> {
        let Gathered {
            record,
            encoded,
            answers,
        } = gathered;
        let Some(encoded) = encoded else {
            return Ok(Some(record));
        };
        let owners = driver.owners;
        let (holders, stale) = divide(&answers, &encoded);
        if stale.is_empty() {
            return Ok(Some(record));
        }
        let mut tally = match mutant::on(Mutant::RepairIntoOldOnly) {
            true => owners.old_tally(read.consistency),
            false => owners.write_tally(read.consistency),
        };
        holders.iter().for_each(|position| tally.success(*position));
        if tally.verdict() == Verdict::Reached || mutant::on(Mutant::ReadRepairSkipped) {
            marks::reached(Mark::RepairedBehindAnswer);
            self.repairs.push(read.key, read.factor);
            return Ok(Some(record));
        }
        let older = answers.iter().find_map(|(_, answer)| answer.clone());
        let repair = match older {
            Some(older) if mutant::on(Mutant::RepairWritesOlder) => older,
            _ => encoded,
        };
        let is_new = |position| answers.iter().all(|(answered, _)| *answered != position);
        let others = owners.by_preference().only(is_new);
        let mut plan = Settle::new(
            read.key,
            (repair, record.is_deleted(), read.policy),
            (holders, stale.into_iter().collect(), others),
            tally,
        );
        let mut calls = Calls::new();
        let mut missing = Missing::default();
        match driver.run(&mut plan, &mut calls, &mut missing).await? {
            Settled::Overtaken => Ok(None),
            Settled::WasPurged => {
                self.repairs.push(read.key, read.factor);
                let nothing = Record::new(record.seen().clone(), Vec::new());
                Ok(Some(nothing.unwrap_or_default()))
            }
            Settled::Held => {
                self.repairs.finish(Stragglers {
                    owners: owners.clone(),
                    key: read.key.clone(),
                    factor: read.factor,
                    calls,
                    holders: plan.holders,
                    missed: Vec::new(),
                });
                marks::reached(Mark::RepairedBeforeAnswer);
                self.repaired_before_answer();
                Ok(Some(record))
            }
        }
    }
}

/// The owners that answered with this, and those that answered with something else.
fn divide(answers: &[(usize, Option<Bytes>)], encoded: &Bytes) -> (Vec<usize>, Vec<usize>) {
    let holds = |answer: &Option<Bytes>| {
        let absent = answer.is_none() && mutant::on(Mutant::AbsentIsEqual);
        answer.as_ref() == Some(encoded) || absent
    };
    let (mut holders, mut stale) = (Vec::new(), Vec::new());
    for (position, answer) in answers {
        match holds(answer) {
            true => holders.push(*position),
            false => stale.push(*position),
        }
    }
    (holders, stale)
}
