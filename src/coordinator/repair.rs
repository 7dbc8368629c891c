//! Background repair: bring all owners of a key to the join of what they hold.
//!
//! The queue holds keys, not records: a key that is found stale a thousand times waits once. It is bounded, those that
//! wait for another try included; what does not fit is counted and dropped, and found again by a later read. A key is
//! not touched while one of its owners does not answer anyway, and tried a bounded number of times.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::task::AtomicWaker;
use std::future::poll_fn;
use std::task::Poll;

use super::hints::Hints;
use super::owners::{Answer, Calls, Owners};
use super::settings::CoordinatorSettings;
use super::tenants::Factor;
use super::topologies::Topologies;
use super::wait::before;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::ports::{
    CallError, Clock, CoordinatorWorld, Instant, JoinRecord, Joined, ReadRecord, RecordKey,
    Refusal, Spawn, Stop,
};
use crate::sizes::{self, Size};
use crate::version::Record;

/// Pause before the second try; it doubles from try to try.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Keys that wait for repair.
#[derive(Debug)]
pub(super) struct RepairQueue {
    keys_max: usize,
    waker: AtomicWaker,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Every key that is queued, worked on, or waits for another try.
    jobs: BTreeMap<RecordKey, Job>,
    /// Those that are queued, the oldest first.
    order: VecDeque<RecordKey>,
    dropped: u64,
    repaired: u64,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    factor: Factor,
    attempts: u32,
    /// Found stale again after work on it began.
    again: bool,
}

/// What becomes of a job after a try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// It is over, or queued again.
    Nothing,
    /// To be queued again after this pause.
    RetryAfter(Duration),
}

impl RepairQueue {
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            keys_max,
            waker: AtomicWaker::new(),
            state: Mutex::default(),
        }
    }

    /// Adds a key unless it is here already.
    fn push(&self, key: &RecordKey, factor: Factor) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if let Some(job) = state.jobs.get_mut(key) {
            job.again = true;
            return;
        }
        if state.jobs.len() >= self.keys_max || buggify::on(Site::RepairQueueFull) {
            marks::reached(Mark::RepairDropped);
            state.dropped += 1;
            return;
        }
        let job = Job {
            factor,
            attempts: 0,
            again: false,
        };
        state.jobs.insert(key.clone(), job);
        state.order.push_back(key.clone());
        drop(state);
        self.waker.wake();
    }

    /// The key that waits longest, and its replication factor; `None` once the queue is closed. One task at a time may
    /// wait here.
    async fn pop(&self) -> Option<(RecordKey, Factor)> {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let mut state = self.lock();
            if state.closed {
                return Poll::Ready(None);
            }
            let Some(key) = state.order.pop_front() else {
                return Poll::Pending;
            };
            let Some(job) = state.jobs.get_mut(&key) else {
                return Poll::Pending;
            };
            job.again = false;
            let factor = job.factor;
            Poll::Ready(Some((key, factor)))
        })
        .await
    }

    /// A try is over.
    fn tried(&self, key: &RecordKey, repaired: bool) -> Next {
        let mut state = self.lock();
        let Some(job) = state.jobs.get_mut(key) else {
            return Next::Nothing;
        };
        if repaired && job.again {
            job.attempts = 0;
            state.order.push_back(key.clone());
            drop(state);
            self.waker.wake();
            return Next::Nothing;
        }
        job.attempts += 1;
        let attempts = job.attempts;
        if repaired || attempts as usize >= sizes::of(Size::RepairAttempts) {
            marks::reached(match repaired {
                true => Mark::RepairDone,
                false => Mark::RepairGivenUp,
            });
            state.jobs.remove(key);
            state.dropped += u64::from(!repaired);
            state.repaired += u64::from(repaired);
            return Next::Nothing;
        }
        if buggify::on(Site::RepairRetriedAtOnce) {
            return Next::RetryAfter(Duration::ZERO);
        }
        Next::RetryAfter(RETRY_PAUSE * (1 << (attempts - 1)))
    }

    /// The pause of a key is over.
    fn retry(&self, key: RecordKey) {
        marks::reached(Mark::RepairRetried);
        self.lock().order.push_back(key);
        self.waker.wake();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.waker.wake();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn repaired(&self) -> u64 {
        self.lock().repaired
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repairs of one coordinator.
pub(super) struct Repairs<W: CoordinatorWorld> {
    world: W,
    settings: Arc<CoordinatorSettings>,
    topologies: Arc<Topologies<W>>,
    hints: Hints<W>,
    queue: RepairQueue,
}

/// Joins of a write or a read that are under way when its client is answered.
pub(super) struct Stragglers<W: CoordinatorWorld> {
    pub(super) owners: Owners<W>,
    pub(super) key: RecordKey,
    pub(super) factor: Factor,
    pub(super) calls: Calls<Joined>,
    /// Who has it.
    pub(super) holders: Vec<usize>,
    /// Who may lack it.
    pub(super) missed: Vec<usize>,
}

impl<W: CoordinatorWorld> Repairs<W> {
    pub(super) fn new(
        world: W,
        settings: Arc<CoordinatorSettings>,
        topologies: Arc<Topologies<W>>,
        hints: Hints<W>,
    ) -> Self {
        Self {
            queue: RepairQueue::new(settings.repair_queue_max),
            world,
            settings,
            topologies,
            hints,
        }
    }

    /// Has a key's owners brought together in the background.
    pub(super) fn push(&self, key: &RecordKey, factor: Factor) {
        self.queue.push(key, factor);
    }

    /// Ends the work on them.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many keys were repaired, since the start.
    pub(super) fn done(&self) -> u64 {
        self.queue.repaired()
    }

    /// How many did not fit into the queue or were given up, since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Sees joins to their end after the client has been answered; that an owner missed one is noted by one that has
    /// it.
    pub(super) fn finish(self: &Arc<Self>, stragglers: Stragglers<W>) {
        if stragglers.calls.is_empty() && stragglers.missed.is_empty() {
            return;
        }
        let repairs = Arc::clone(self);
        let spawner = self.world.spawner();
        spawner.spawn("joins after the answer", async move {
            repairs.see_to_the_end(stragglers).await;
        });
    }

    async fn see_to_the_end(&self, stragglers: Stragglers<W>) {
        let Stragglers {
            owners,
            key,
            factor,
            mut calls,
            holders,
            mut missed,
        } = stragglers;
        while let Some(Answer { position, result }) = calls.next().await {
            marks::reached(Mark::JoinedLate);
            if !matches!(result, Ok(_) | Err(CallError::Refused(Refusal::Refilling))) {
                missed.push(position);
            }
        }
        if !self.hints.leave(&owners, &key, &holders, &missed).await {
            marks::reached(Mark::HintNotTaken);
            self.push(&key, factor);
        }
    }

    /// Works through the queue, several keys at a time, until it is closed.
    pub(super) async fn work(self: &Arc<Self>, stop: &Arc<Stop>) {
        let jobs =
            futures::stream::unfold((), |()| async move { Some((self.queue.pop().await?, ())) });
        jobs.for_each_concurrent(sizes::of(Size::RepairWorkers), |(key, factor)| async move {
            let deadline = self.world.clock().now() + self.settings.read_timeout;
            let repaired = self.repair(&key, factor, deadline).await;
            if let Next::RetryAfter(pause) = self.queue.tried(&key, repaired) {
                let (retrying, stop) = (Arc::clone(self), Arc::clone(stop));
                let spawner = self.world.spawner();
                spawner.spawn("repair retry", async move {
                    let pause = retrying.world.clock().sleep(pause);
                    if stop.or(pause).await.is_some() {
                        retrying.queue.retry(key);
                    }
                });
            }
        })
        .await;
    }

    /// Reads all owners that answer and joins into each what it lacks. Returns whether all owners are equal now.
    async fn repair(&self, key: &RecordKey, mut factor: Factor, deadline: Instant) -> bool {
        let owners = self.topologies.owners(key, &mut factor, deadline).await;
        let Ok(owners) = owners else {
            return false;
        };
        if !(0..owners.len()).all(|position| owners.health(position).is_healthy()) {
            marks::reached(Mark::RepairWaited);
            return false;
        }
        let held = self.read_all(&owners, key, deadline).await;
        let all_read = held.len() == owners.len();
        let decoded = held.iter().filter_map(|(_, _, record)| record.as_ref());
        let record = decoded.fold(Record::default(), |all, record| all.join(record));
        if record.is_empty() {
            return all_read;
        }
        let clock = self.world.clock();
        buggify::pause(Site::PauseBeforeRepair, |pause| clock.sleep(pause)).await;
        let joined = record.encode();
        let mut joins = Calls::new();
        for (position, encoded, _) in &held {
            if encoded.as_ref() != Some(&joined) {
                let join = JoinRecord::new(key.clone(), joined.clone());
                joins.push(owners.call(*position, join, deadline));
            }
        }
        let mut all_joined = true;
        while let Some(Answer { result, .. }) = joins.next().await {
            all_joined &= matches!(
                result,
                Ok(_) | Err(CallError::Refused(Refusal::Purged | Refusal::Refilling))
            );
        }
        all_read && all_joined
    }

    /// What the owners that answer hold, encoded and decoded; those whose record can't be read are left out.
    async fn read_all(
        &self,
        owners: &Owners<W>,
        key: &RecordKey,
        deadline: Instant,
    ) -> Vec<(usize, Option<Bytes>, Option<Record>)> {
        let mut reads = Calls::new();
        for position in 0..owners.len() {
            let read = ReadRecord { key: key.clone() };
            reads.push(owners.call(position, read, deadline));
        }
        let mut held = Vec::with_capacity(owners.len());
        while let Some(Some(Answer { position, result })) =
            before(self.world.clock(), deadline, reads.next()).await
        {
            let Ok(encoded) = result else {
                continue;
            };
            if let Ok(decoded) = encoded.clone().map(Record::decode).transpose() {
                held.push((position, encoded, decoded));
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Epoch, PartitionId};
    use crate::ports::TenantId;
    use futures::FutureExt;

    const FACTOR: Factor = Factor {
        replicas: 3,
        known_at: Epoch(1),
        met_at: Epoch(1),
    };

    fn key(name: &str) -> RecordKey {
        RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), name)
    }

    #[test]
    fn a_key_waits_once_and_the_rest_is_counted() {
        let queue = RepairQueue::new(2);
        for name in ["a", "a", "b", "c", "a"] {
            queue.push(&key(name), FACTOR);
        }
        assert_eq!((queue.len(), queue.dropped()), (2, 1));
        assert_eq!(queue.pop().now_or_never(), Some(Some((key("a"), FACTOR))));
        assert_eq!(queue.pop().now_or_never(), Some(Some((key("b"), FACTOR))));
        assert_eq!(queue.pop().now_or_never(), None);
        queue.close();
        assert_eq!(queue.pop().now_or_never(), Some(None));
    }

    #[test]
    fn a_key_found_stale_while_it_is_repaired_is_repaired_again() {
        let queue = RepairQueue::new(2);
        queue.push(&key("a"), FACTOR);
        queue.pop().now_or_never().unwrap();
        queue.push(&key("a"), FACTOR);
        assert_eq!(queue.tried(&key("a"), true), Next::Nothing);
        assert_eq!(queue.pop().now_or_never(), Some(Some((key("a"), FACTOR))));
        assert_eq!(queue.tried(&key("a"), true), Next::Nothing);
        assert_eq!((queue.len(), queue.dropped()), (0, 0));
    }

    #[test]
    fn a_key_that_can_not_be_repaired_keeps_its_place_and_is_given_up_in_the_end() {
        let queue = RepairQueue::new(1);
        queue.push(&key("a"), FACTOR);
        let mut pauses = Vec::new();
        loop {
            queue.pop().now_or_never().unwrap();
            queue.push(&key("b"), FACTOR);
            match queue.tried(&key("a"), false) {
                Next::RetryAfter(pause) => pauses.push(pause),
                Next::Nothing => break,
            }
            queue.retry(key("a"));
        }
        assert_eq!(pauses.len(), sizes::of(Size::RepairAttempts) - 1);
        assert!(pauses.is_sorted() && pauses[0] == RETRY_PAUSE);
        assert_eq!(queue.len(), 0);
        assert_eq!(queue.dropped(), sizes::of(Size::RepairAttempts) as u64 + 1);
    }
}
