//! A read's way: ask the owners that answer fastest, join what they return, and bring a quorum up to it before
//! answering.
//!
//! - "Not there" is an answer and counts.
//! - When enough answers differ, the joined record is written to as many owners as were asked for *before* the client
//!   sees it (monotonic quorum reads). Other stale owners are repaired in the background.
//! - A context is a floor: more owners are asked until the answer covers it, or the read fails.
//! - An owner slower than its own 95th percentile is hedged by one more.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::owners::{Answer, Calls, OwnerOrder, Owners};
use super::service::Coordinator;
use super::setback::{Missing, Setback};
use super::wait::next_answer;
use super::{CoordinatorError, ReadOutcome, ReadRequest, ReadValue};
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::placement::Token;
use crate::ports::{
    CallError, Clock, CoordinatorWorld, Instant, Operation, RecordKey, Refusal, Reply, Standing,
    Upkeep, Upkept,
};
use crate::quorum::{ConflictPolicy, Consistency, Verdict, resolve};
use crate::sabotage::{self, Sabotage};
use crate::version::{Context, Record};

/// How often a read goes back to the start because the topology changed under it.
const TOPOLOGY_RETRIES_MAX: usize = 4;

/// What enough owners hold.
pub(super) struct Gathered {
    /// The join of all answers.
    pub(super) record: Record,
    /// Its encoding; `None` when no owner has anything.
    encoded: Option<Bytes>,
    /// Each answer, by position.
    answers: Vec<(usize, Option<Bytes>)>,
}

/// What becomes of what enough owners hold.
enum Settled {
    /// Enough owners hold this now.
    As(Record),
    /// One of them holds a greater write by now.
    Overtaken,
}

impl<W: CoordinatorWorld> Coordinator<W> {
    /// Reads a key.
    ///
    /// # Errors
    /// [`CoordinatorError::KeyNotFound`] when it has no value; otherwise what kept it from being read.
    pub async fn read(&self, request: ReadRequest) -> Result<ReadOutcome, CoordinatorError> {
        let _place = self.admit()?;
        let deadline = self.deadline(request.timeout, self.settings().read_timeout);
        let record_of = self.locate(&request.tenant, &request.key, deadline).await?;
        let floor = super::validate::context(&request.context, record_of.token.0)?;
        let consistency = self.consistency(request.consistency, &record_of.tenant);
        let factor = record_of.tenant.replication_factor;
        let record = self
            .read_record(
                &record_of.key,
                (factor, record_of.tenant.conflict_policy),
                consistency,
                &floor,
                deadline,
            )
            .await?;
        self.look_at_siblings(&record_of.key, &record, record_of.tenant.siblings);
        self.answer_read(
            request.key,
            &record,
            record_of.token,
            record_of.tenant.conflict_policy,
        )
    }

    fn answer_read(
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
        let not_found_context = match sabotage::on(Sabotage::NotFoundWithoutContext) {
            true => Bytes::new(),
            false => context.clone(),
        };
        let clock = self.readable_clock(record.seen());
        let shown = resolve(record, policy);
        let values: Vec<ReadValue> = shown
            .siblings
            .iter()
            .filter_map(|version| {
                Some(ReadValue {
                    value: version.value()?.clone(),
                    stamp: version.stamp,
                })
            })
            .collect();
        if values.len() > 1 {
            marks::reached(Mark::SiblingsShown);
        }
        if !values.is_empty() && record.siblings().iter().any(|v| v.is_tombstone()) {
            marks::reached(Mark::DeletedBesideValue);
        }
        if values.is_empty() {
            Err(CoordinatorError::KeyNotFound {
                key,
                context: not_found_context,
                clock,
            })
        } else {
            Ok(ReadOutcome {
                values,
                clock,
                context,
            })
        }
    }

    /// Reads a record at `consistency`.
    pub(super) async fn read_record(
        &self,
        key: &RecordKey,
        (replication_factor, policy): (u8, ConflictPolicy),
        consistency: Consistency,
        floor: &Context,
        deadline: Instant,
    ) -> Result<Record, CoordinatorError> {
        let mut may_ask_again = true;
        let mut topologies = 0;
        while topologies < TOPOLOGY_RETRIES_MAX {
            let owners = self.owners(key, replication_factor);
            let pass = async {
                let gathered = self
                    .gather(&owners, key, consistency, floor, deadline)
                    .await?;
                buggify::pause(Site::PauseBeforeSettle, |pause| {
                    self.clock()
                        .sleep_until(deadline.min(self.clock().now() + pause))
                })
                .await;
                self.settle(
                    &owners,
                    key,
                    consistency,
                    gathered,
                    (replication_factor, policy),
                    deadline,
                )
                .await
            };
            match pass.await {
                Ok(Settled::As(record)) => return Ok(record),
                // Each time another write has come in between, so this ends with the writes, or at the deadline.
                Ok(Settled::Overtaken) => marks::reached(Mark::ReadOvertaken),
                Err(Setback::Failed(error)) => {
                    topologies += 1;
                    let again = may_ask_again && self.clock().now() < deadline;
                    may_ask_again = false;
                    if !again || !self.is_over_doubt(owners.routing(), deadline).await {
                        return Err(error);
                    }
                }
                Err(Setback::StaleEpoch(newer)) => {
                    topologies += 1;
                    self.refresh_topology(newer, deadline).await;
                }
            }
        }
        let mut missing = Missing::default();
        missing.because("the topology keeps changing");
        let owners = self.owners(key, replication_factor);
        let timed_out = self.clock().now() >= deadline;
        Err(missing.error(&owners, consistency, None, timed_out))
    }

    /// Asks owners until enough have answered and their join covers `floor`.
    pub(super) async fn gather(
        &self,
        owners: &Owners<W>,
        key: &RecordKey,
        consistency: Consistency,
        floor: &Context,
        deadline: Instant,
    ) -> Result<Gathered, Setback> {
        let clock = self.clock();
        let mut missing = Missing::default();
        let mut tally = owners.tally(consistency);
        let mut order = owners.by_preference();
        let mut calls = Calls::new();
        let mut gathered = Gathered {
            record: Record::default(),
            encoded: None,
            answers: Vec::new(),
        };
        let mut hedge_after = self.settings().hedge_delay_min;
        for position in order.by_ref().take(owners.required(consistency)) {
            hedge_after = hedge_after.max(owners.health(position).p95());
            calls.push(owners.call(position, Operation::Read { key: key.clone() }, deadline));
        }
        if sabotage::on(Sabotage::ReadAsksNoMore) {
            order = OwnerOrder::default();
        }
        if buggify::on(Site::HedgeAtOnce) {
            hedge_after = Duration::ZERO;
        }
        let mut hedge = None;
        let mut timer = pin!(clock.sleep_until(deadline.min(clock.now() + hedge_after)));
        loop {
            let enough = match tally.verdict() {
                Verdict::Reached => true,
                Verdict::Pending => false,
                Verdict::Impossible => {
                    let timed_out = self.clock().now() >= deadline;
                    if timed_out {
                        marks::reached(Mark::ReadDeadline);
                    }
                    return Err(Setback::Failed(missing.error(
                        owners,
                        consistency,
                        Some(&tally),
                        timed_out,
                    )));
                }
            };
            if enough
                && (floor.is_covered_by(gathered.record.seen())
                    || sabotage::on(Sabotage::FloorIgnored))
            {
                let by = |(position, _): &(usize, _)| Some(*position) == hedge;
                if gathered.answers.iter().any(by) {
                    marks::reached(Mark::HedgeWon);
                }
                return Ok(gathered);
            }
            if calls.is_empty() {
                match order.next() {
                    Some(position) => {
                        if enough {
                            marks::reached(Mark::FloorAskedMore);
                        }
                        calls.push(owners.call(
                            position,
                            Operation::Read { key: key.clone() },
                            deadline,
                        ));
                    }
                    None if self
                        .was_purged(owners, key, &gathered, floor, deadline)
                        .await =>
                    {
                        marks::reached(Mark::FloorPurged);
                        gathered.record.has_seen(floor);
                        return Ok(gathered);
                    }
                    None => {
                        marks::reached(Mark::FloorFailed);
                        missing.because("the context covers a write that no reachable owner has");
                        return Err(Setback::Failed(missing.error(
                            owners,
                            consistency,
                            Some(&tally),
                            self.clock().now() >= deadline,
                        )));
                    }
                }
            }
            let Some(Answer { position, result }) = next_answer(&mut calls, timer.as_mut()).await
            else {
                if clock.now() >= deadline {
                    marks::reached(Mark::ReadDeadline);
                    return Err(Setback::Failed(missing.error(
                        owners,
                        consistency,
                        Some(&tally),
                        true,
                    )));
                }
                if let Some(position) = order.next() {
                    if sabotage::on(Sabotage::HedgeCancelsFirst) {
                        calls.clear();
                    }
                    marks::reached(Mark::Hedged);
                    hedge = Some(position);
                    calls.push(owners.call(
                        position,
                        Operation::Read { key: key.clone() },
                        deadline,
                    ));
                    timer.set(clock.sleep_until(deadline.min(clock.now() + hedge_after)));
                } else {
                    // Nobody is left to ask. (Without a least delay the timer would go off at once, again and again.)
                    timer.set(clock.sleep_until(deadline));
                }
                continue;
            };
            match result {
                Ok(Reply::Found { record: None }) if sabotage::on(Sabotage::NotFoundIsFailure) => {
                    tally.failure(position);
                }
                Ok(Reply::Found { record }) => match gathered.take(position, record) {
                    Ok(()) => tally.success(position),
                    Err(error) => {
                        missing.note(
                            owners.name(position),
                            format!("sent a malformed record: {error}"),
                        );
                        tally.failure(position);
                    }
                },
                Err(CallError::Refused(Refusal::StaleEpoch { current })) => {
                    marks::reached(Mark::EpochRefused);
                    return Err(Setback::StaleEpoch(current));
                }
                result => {
                    let error = result
                        .err()
                        .unwrap_or(CallError::NoAnswer("answered something else".into()));
                    missing.failed_to_read(owners.name(position), &error);
                    tally.failure(position);
                    if let Some(position) = order.next() {
                        marks::reached(Mark::ReadWentOn);
                        calls.push(owners.call(
                            position,
                            Operation::Read { key: key.clone() },
                            deadline,
                        ));
                    }
                }
            }
        }
    }

    /// Whether what the context covers, and the answer does not, was purged: it was deleted everywhere.
    async fn was_purged(
        &self,
        owners: &Owners<W>,
        key: &RecordKey,
        gathered: &Gathered,
        floor: &Context,
        deadline: Instant,
    ) -> bool {
        let mut calls = Calls::new();
        for (position, _) in &gathered.answers {
            let upkeep = Upkeep::Purged { tree: key.tree() };
            let operation = Operation::Upkeep(Box::new(upkeep));
            calls.push(owners.call(*position, operation, deadline));
        }
        let mut seen = gathered.record.seen().clone();
        while let Some(Answer { result, .. }) = calls.next().await {
            if let Ok(Reply::Upkept(Upkept::Purged(purged))) = result {
                seen.merge(&purged.seen);
            }
        }
        floor.is_covered_by(&seen)
    }

    /// Makes sure that as many owners hold the joined record as were asked for, then gives it out.
    ///
    /// Under `last_write_wins` an owner counts only if what is given out *leads* there, or did (see
    /// [`super::standings`]): only then will enough owners say so to its coordinator, and a write that was shown is
    /// never stamped again. (Where it led in between, what overwrote it came after the answers, and so was not complete
    /// when this read began.)
    async fn settle(
        &self,
        owners: &Owners<W>,
        key: &RecordKey,
        consistency: Consistency,
        gathered: Gathered,
        (replication_factor, policy): (u8, ConflictPolicy),
        deadline: Instant,
    ) -> Result<Settled, Setback> {
        let Gathered {
            record,
            encoded,
            answers,
        } = gathered;
        let Some(encoded) = encoded else {
            return Ok(Settled::As(record));
        };
        let mut tally = owners.tally(consistency);
        let (mut holders, mut stale) = (Vec::new(), Vec::new());
        for (position, answer) in &answers {
            let absent = answer.is_none() && sabotage::on(Sabotage::AbsentIsEqual);
            if answer.as_ref() == Some(&encoded) || absent {
                holders.push(*position);
                tally.success(*position)
            } else {
                stale.push(*position)
            }
        }
        if stale.is_empty() {
            return Ok(Settled::As(record));
        }
        if tally.verdict() == Verdict::Reached || sabotage::on(Sabotage::ReadRepairSkipped) {
            marks::reached(Mark::RepairedBehindAnswer);
            self.queue_repair(key, replication_factor);
            return Ok(Settled::As(record));
        }
        let mut missing = Missing::default();
        let mut calls = Calls::new();
        let older = answers.iter().find_map(|(_, answer)| answer.clone());
        let repair = match older {
            Some(older) if sabotage::on(Sabotage::RepairWritesOlder) => older,
            _ => encoded,
        };
        let mut others = owners
            .by_preference()
            .filter(|p| answers.iter().all(|(answered, _)| answered != p));
        let clock = self.clock();
        let join = |position| {
            let join = Operation::Join {
                key: key.clone(),
                record: repair.clone(),
                judged: None,
                exchanged: false,
            };
            owners.call(position, join, deadline)
        };
        let mut patience = Duration::ZERO;
        for position in stale {
            patience = patience.max(self.write_patience(owners, position));
            calls.push(join(position));
        }
        let mut timer = pin!(clock.sleep_until(deadline.min(clock.now() + patience)));
        loop {
            match tally.verdict() {
                Verdict::Reached => break,
                Verdict::Impossible => {
                    return Err(Setback::Failed(missing.error(
                        owners,
                        consistency,
                        Some(&tally),
                        self.clock().now() >= deadline,
                    )));
                }
                Verdict::Pending => {}
            }
            if calls.is_empty() {
                return Err(Setback::Failed(missing.error(
                    owners,
                    consistency,
                    Some(&tally),
                    self.clock().now() >= deadline,
                )));
            }
            let Some(Answer { position, result }) = next_answer(&mut calls, timer.as_mut()).await
            else {
                if clock.now() >= deadline {
                    return Err(Setback::Failed(missing.error(
                        owners,
                        consistency,
                        Some(&tally),
                        true,
                    )));
                }
                // One that is silent must not keep a majority that is well from answering.
                let next = match sabotage::on(Sabotage::SilentRepairAwaited) {
                    true => None,
                    false => others.next(),
                };
                let wait = next.map(|position| self.write_patience(owners, position));
                if let Some(position) = next {
                    marks::reached(Mark::RepairedElsewhere);
                    calls.push(join(position));
                }
                timer.set(
                    clock.sleep_until(
                        wait.map_or(deadline, |wait| deadline.min(clock.now() + wait)),
                    ),
                );
                continue;
            };
            match result {
                Ok(Reply::Joined { standing, .. })
                    if policy == ConflictPolicy::LastWriteWins
                        && standing != Standing::Leading
                        && !sabotage::on(Sabotage::OvertakenReadAnswered) =>
                {
                    return Ok(Settled::Overtaken);
                }
                // All owners held what overwrote it: no owner but one that lost that shows it.
                Err(CallError::Refused(Refusal::Purged)) if !record.is_deleted() => {
                    self.queue_repair(key, replication_factor);
                    let nothing = Record::new(record.seen().clone(), Vec::new());
                    return Ok(Settled::As(nothing.unwrap_or_default()));
                }
                // What was purged there was there.
                Ok(Reply::Joined { .. }) | Err(CallError::Refused(Refusal::Purged)) => {
                    holders.push(position);
                    tally.success(position);
                }
                Err(CallError::Refused(Refusal::StaleEpoch { current })) => {
                    return Err(Setback::StaleEpoch(current));
                }
                result => {
                    let error = result
                        .err()
                        .unwrap_or(CallError::NoAnswer("answered something else".into()));
                    missing.failed_to_read(owners.name(position), &error);
                    tally.failure(position);
                    if let Some(position) = others.next() {
                        marks::reached(Mark::RepairedElsewhere);
                        calls.push(join(position));
                    }
                }
            }
        }
        self.finish_joins(
            owners,
            calls,
            key.clone(),
            replication_factor,
            holders,
            Vec::new(),
        );
        marks::reached(Mark::RepairedBeforeAnswer);
        self.repaired_before_answer();
        Ok(Settled::As(record))
    }
}

impl Gathered {
    /// Adds an answer. Equal answers, by far the most, are recognised by their bytes: encodings are canonical.
    fn take(
        &mut self,
        position: usize,
        answer: Option<Bytes>,
    ) -> Result<(), crate::version::DecodeError> {
        if let Some(bytes) = &answer {
            match &self.encoded {
                None => {
                    self.record = Record::decode(bytes.clone())?;
                    self.encoded = Some(bytes.clone());
                }
                Some(encoded) if encoded == bytes => {}
                Some(_) => {
                    self.record = self.record.join(&Record::decode(bytes.clone())?);
                    self.encoded = Some(self.record.encode());
                }
            }
        }
        self.answers.push((position, answer));
        Ok(())
    }
}
