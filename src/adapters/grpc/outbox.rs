//! What waits to leave on one direction of a stream, and how it is cut into messages.
//!
//! Whoever has something to send pushes it under a short lock; the connection's own task takes it out in batches. It
//! yields once before it takes anything, which is what lets batches grow beyond one or two.
//!
//! Short entries leave in order, up to [`BATCH_BYTES`] a batch. Long ones leave in order too, one fragment a batch, and
//! each is finished before the next begins.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::task::AtomicWaker;
use prost::Message;

use super::lock;
use super::settings::BATCH_BYTES;
use crate::adapters::front::{Budget, Held, Share};
use crate::ports::Instant;
use crate::proto::v1::{Fragment, ReplicaReply, ReplicaRequest};

/// So short an entry is taken whether or not the process has room.
const SHORT_BYTES: usize = 1024;

/// A message with an id.
pub(super) trait Entry: Message {
    /// The id.
    fn id(&self) -> u64;
}

impl Entry for ReplicaRequest {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Entry for ReplicaReply {
    fn id(&self) -> u64 {
        self.id
    }
}

/// Why an entry was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotQueued {
    /// Nothing leaves any more.
    Closed,
    /// It is longer than a message may be.
    TooLong,
    /// Too much waits already.
    Full,
    /// The process has no room for it.
    NoRoom,
}

/// The bounds of an outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Entries that wait.
    pub(super) entries: usize,
    /// Bytes that wait.
    pub(super) bytes: usize,
    /// Bytes of one entry.
    pub(super) entry_bytes: usize,
}

/// What leaves in one message.
#[derive(PartialEq, Debug)]
pub(super) struct Departure<M> {
    /// Whole entries.
    pub(super) whole: Vec<M>,
    /// A part of a long one.
    pub(super) fragment: Option<Fragment>,
}

/// Entries on their way out.
pub(super) struct Outbox<M> {
    bounds: Bounds,
    budget: Budget,
    /// What entries are paid for from.
    share: Share,
    waiting: Mutex<Waiting<M>>,
    sender: AtomicWaker,
    /// Who waits for something to leave.
    held_back: AtomicWaker,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Open,
    /// Takes nothing more; what waits still leaves.
    Finishing,
    Closed,
}

struct Waiting<M> {
    phase: Phase,
    short: VecDeque<Short<M>>,
    long: VecDeque<Long>,
    bytes: usize,
    /// When something last left, or began to wait where nothing did.
    moved: tokio::time::Instant,
}

struct Short<M> {
    entry: M,
    bytes: usize,
    expires: Instant,
    _paid: Held,
}

struct Long {
    id: u64,
    rest: Bytes,
    begun: bool,
    expires: Instant,
}

impl<M: Entry> Outbox<M> {
    /// An empty one.
    pub(super) fn new(bounds: Bounds, budget: Budget, share: Share) -> Self {
        let waiting = Waiting {
            phase: Phase::Open,
            short: VecDeque::new(),
            long: VecDeque::new(),
            bytes: 0,
            moved: tokio::time::Instant::now(),
        };
        Self {
            bounds,
            budget,
            share,
            waiting: Mutex::new(waiting),
            sender: AtomicWaker::new(),
            held_back: AtomicWaker::new(),
        }
    }

    /// Queues `entry`.
    pub(super) fn push(&self, entry: M, expires: Instant) -> Result<(), NotQueued> {
        let bytes = entry.encoded_len();
        if bytes > self.bounds.entry_bytes {
            return Err(NotQueued::TooLong);
        }
        let paid = match self.budget.take(self.share, bytes) {
            Ok(paid) => paid,
            // What is short leaves soon, and tells others that there is no room.
            Err(_) if bytes <= SHORT_BYTES => self.budget.take_anyway(self.share, bytes),
            Err(_) => return Err(NotQueued::NoRoom),
        };
        let mut entry = Some(entry);
        let mut paid = Some(paid);
        let long = match entry.take_if(|_| bytes > BATCH_BYTES) {
            Some(entry) => paid.take().map(|paid| Long {
                id: entry.id(),
                rest: paid.over(entry.encode_to_vec().into()),
                begun: false,
                expires,
            }),
            None => None,
        };
        {
            let mut waiting = lock(&self.waiting);
            if waiting.phase != Phase::Open {
                return Err(NotQueued::Closed);
            }
            // The first is always taken: a bound smaller than one entry must not stop everything.
            let entries = waiting.short.len() + waiting.long.len();
            if entries > 0
                && (entries >= self.bounds.entries || waiting.bytes + bytes > self.bounds.bytes)
            {
                return Err(NotQueued::Full);
            }
            if entries == 0 {
                waiting.moved = tokio::time::Instant::now();
            }
            waiting.bytes += bytes;
            waiting.long.extend(long);
            let short = entry.zip(paid).map(|(entry, paid)| Short {
                entry,
                bytes,
                expires,
                _paid: paid,
            });
            waiting.short.extend(short);
        }
        self.sender.wake();
        Ok(())
    }

    /// How many entries and bytes wait.
    pub(super) fn len(&self) -> (usize, usize) {
        let waiting = lock(&self.waiting);
        (waiting.short.len() + waiting.long.len(), waiting.bytes)
    }

    /// Since when nothing has left although something waits.
    pub(super) fn stuck_since(&self) -> Option<tokio::time::Instant> {
        let waiting = lock(&self.waiting);
        (!waiting.is_empty()).then_some(waiting.moved)
    }

    /// Waits until fewer entries and bytes than these wait, or nothing leaves any more. There must be one such wait at
    /// a time.
    pub(super) async fn room(&self, entries: usize, bytes: usize) {
        poll_fn(|context| {
            self.held_back.register(context.waker());
            let waiting = lock(&self.waiting);
            let room = waiting.short.len() + waiting.long.len() < entries && waiting.bytes < bytes;
            if room || waiting.phase == Phase::Closed {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Takes out what expired before any of it left; returns the ids.
    pub(super) fn expire(&self, now: Instant) -> Vec<u64> {
        let mut gone = Vec::new();
        let mut waiting = lock(&self.waiting);
        let Waiting {
            short, long, bytes, ..
        } = &mut *waiting;
        short.retain(|short| {
            let keep = short.expires > now;
            if !keep {
                *bytes -= short.bytes;
                gone.push(short.entry.id());
            }
            keep
        });
        long.retain(|long| {
            let keep = long.begun || long.expires > now;
            if !keep {
                *bytes -= long.rest.len();
                gone.push(long.id);
            }
            keep
        });
        gone
    }

    /// Takes nothing more, lets leave what waits, then ends the stream.
    pub(super) fn finish(&self) {
        let mut waiting = lock(&self.waiting);
        if waiting.phase == Phase::Open {
            waiting.phase = Phase::Finishing;
        }
        drop(waiting);
        self.sender.wake();
    }

    /// Ends the stream at once; returns the ids of what has not left, or not wholly.
    pub(super) fn close(&self) -> Vec<u64> {
        let mut waiting = lock(&self.waiting);
        waiting.phase = Phase::Closed;
        waiting.bytes = 0;
        let short: Vec<_> = waiting
            .short
            .drain(..)
            .map(|short| short.entry.id())
            .collect();
        let ids = short
            .into_iter()
            .chain(waiting.long.drain(..).map(|long| long.id))
            .collect();
        drop(waiting);
        self.sender.wake();
        self.held_back.wake();
        ids
    }

    /// What leaves, message by message. There must be one stream only.
    pub(super) fn departures(self: &Arc<Self>) -> Departures<M> {
        Departures {
            outbox: Arc::clone(self),
            yielded: false,
        }
    }
}

impl<M> Waiting<M> {
    fn is_empty(&self) -> bool {
        self.short.is_empty() && self.long.is_empty()
    }

    fn depart(&mut self) -> Departure<M> {
        let mut taken = 0;
        let mut count = 0;
        for short in &self.short {
            if count > 0 && taken + short.bytes > BATCH_BYTES {
                break;
            }
            taken += short.bytes;
            count += 1;
        }
        let whole = self.short.drain(..count).map(|short| short.entry).collect();
        let fragment = self.long.front_mut().map(|long| {
            let data = long.rest.split_to(long.rest.len().min(BATCH_BYTES));
            long.begun = true;
            taken += data.len();
            Fragment {
                id: long.id,
                data,
                last: long.rest.is_empty(),
            }
        });
        if fragment.as_ref().is_some_and(|fragment| fragment.last) {
            self.long.pop_front();
        }
        self.bytes -= taken;
        self.moved = tokio::time::Instant::now();
        Departure { whole, fragment }
    }
}

/// The stream of what leaves.
pub(super) struct Departures<M> {
    outbox: Arc<Outbox<M>>,
    yielded: bool,
}

impl<M> Stream for Departures<M> {
    type Item = Departure<M>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Departure<M>>> {
        let this = &mut *self;
        this.outbox.sender.register(context.waker());
        let mut waiting = lock(&this.outbox.waiting);
        if waiting.is_empty() {
            this.yielded = false;
            return if waiting.phase == Phase::Open {
                Poll::Pending
            } else {
                Poll::Ready(None)
            };
        }
        if !this.yielded {
            this.yielded = true;
            drop(waiting);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let departure = waiting.depart();
        this.yielded = !waiting.is_empty();
        drop(waiting);
        this.outbox.held_back.wake();
        Poll::Ready(Some(departure))
    }
}

/// Closes an outbox when dropped: whoever sent is gone, and nothing will ever leave.
pub(super) struct CloseOnDrop<M: Entry>(pub(super) Arc<Outbox<M>>);

impl<M: Entry> Drop for CloseOnDrop<M> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::StreamExt;

    use super::super::assembler::Added;
    use super::*;
    use crate::proto::v1::{Found, replica_reply::Outcome};

    const BOUNDS: Bounds = Bounds {
        entries: 100,
        bytes: 10_000_000,
        entry_bytes: 1_000_000,
    };

    fn reply(id: u64, bytes: usize) -> ReplicaReply {
        let found = Found {
            record: Some(vec![id as u8; bytes].into()),
        };
        ReplicaReply {
            id,
            outcome: Some(Outcome::Found(found)),
            refilling: false,
        }
    }

    fn outbox(bounds: Bounds) -> Arc<Outbox<ReplicaReply>> {
        Arc::new(Outbox::new(bounds, Budget::unlimited(), Share::Out))
    }

    fn ids(departure: &Departure<ReplicaReply>) -> Vec<u64> {
        departure.whole.iter().map(|reply| reply.id).collect()
    }

    #[tokio::test]
    async fn what_waits_leaves_together_and_in_order() {
        let outbox = outbox(BOUNDS);
        for id in 0..10 {
            outbox.push(reply(id, 100), Instant::NEVER).unwrap();
        }
        let departure = outbox.departures().next().await.unwrap();
        assert_eq!(ids(&departure), (0..10).collect::<Vec<_>>());
        assert_eq!(departure.fragment, None);
        assert_eq!(outbox.len(), (0, 0));
    }

    #[test]
    fn it_yields_once_before_it_takes_anything() {
        let outbox = outbox(BOUNDS);
        let mut departures = outbox.departures();
        outbox.push(reply(1, 1), Instant::NEVER).unwrap();
        assert_eq!(departures.next().now_or_never(), None);
        outbox.push(reply(2, 1), Instant::NEVER).unwrap();
        let departure = departures.next().now_or_never().unwrap().unwrap();
        assert_eq!(ids(&departure), [1, 2]);
        assert_eq!(departures.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_bytes() {
        let outbox = outbox(BOUNDS);
        for id in 0..3 {
            outbox.push(reply(id, 40_000), Instant::NEVER).unwrap();
        }
        let batches: Vec<_> = outbox
            .departures()
            .take(3)
            .map(|departure| ids(&departure))
            .collect()
            .await;
        assert_eq!(batches, [[0], [1], [2]]);
    }

    #[tokio::test]
    async fn the_short_overtake_the_long() {
        let outbox = outbox(BOUNDS);
        outbox.push(reply(1, 200_000), Instant::NEVER).unwrap();
        outbox.push(reply(2, 100_000), Instant::NEVER).unwrap();
        outbox.push(reply(3, 10), Instant::NEVER).unwrap();
        outbox.finish();
        assert_eq!(
            outbox.push(reply(4, 10), Instant::NEVER),
            Err(NotQueued::Closed)
        );

        let departures: Vec<_> = outbox.departures().collect().await;
        assert_eq!(ids(&departures[0]), [3]);
        let mut assembler = super::super::assembler::Assembler::new(1_000_000, Budget::unlimited());
        let mut arrived = Vec::new();
        for departure in &departures {
            let fragment = departure.fragment.as_ref().unwrap();
            assert!(fragment.data.len() <= BATCH_BYTES);
            if let Added::Whole(id, bytes) = assembler.add(fragment).unwrap() {
                arrived.push((id, bytes));
            }
        }
        assert_eq!(arrived.len(), 2);
        for (expected, (id, bytes)) in [reply(1, 200_000), reply(2, 100_000)]
            .into_iter()
            .zip(arrived)
        {
            assert_eq!(expected.id, id);
            assert_eq!(ReplicaReply::decode(bytes).unwrap(), expected);
        }
        assert_eq!(outbox.len(), (0, 0));
    }

    #[test]
    fn it_is_bounded() {
        let bounds = Bounds {
            entries: 2,
            bytes: 1000,
            entry_bytes: 2000,
        };
        let few = outbox(bounds);
        assert_eq!(
            few.push(reply(0, 3000), Instant::NEVER),
            Err(NotQueued::TooLong)
        );
        few.push(reply(1, 1), Instant::NEVER).unwrap();
        few.push(reply(2, 1), Instant::NEVER).unwrap();
        assert_eq!(few.push(reply(3, 1), Instant::NEVER), Err(NotQueued::Full));

        let short = outbox(bounds);
        short.push(reply(1, 1500), Instant::NEVER).unwrap();
        assert_eq!(
            short.push(reply(2, 1), Instant::NEVER),
            Err(NotQueued::Full)
        );
    }

    #[tokio::test]
    async fn what_expires_before_it_left_does_not_leave() {
        let outbox = outbox(BOUNDS);
        outbox.push(reply(1, 200_000), Instant(5)).unwrap();
        outbox.push(reply(2, 1), Instant(5)).unwrap();
        outbox.push(reply(3, 1), Instant(9)).unwrap();
        assert_eq!(outbox.expire(Instant(5)), [2, 1]);
        outbox.push(reply(4, 200_000), Instant(9)).unwrap();
        let mut departures = outbox.departures();
        assert_eq!(ids(&departures.next().await.unwrap()), [3]);
        assert_eq!(outbox.expire(Instant(99)), Vec::<u64>::new(), "begun");
        assert_eq!(outbox.close(), [4], "not wholly");
        assert_eq!(departures.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_paid_for_until_it_has_left() {
        let budget = Budget::new(480_000);
        let outbox = Arc::new(Outbox::new(BOUNDS, budget.clone(), Share::Out));
        outbox.push(reply(1, 200_000), Instant::NEVER).unwrap();
        let full = outbox.push(reply(2, 150_000), Instant::NEVER);
        assert_eq!(full, Err(NotQueued::NoRoom));
        let full = outbox.push(reply(3, 99_990), Instant::NEVER);
        assert_eq!(full, Err(NotQueued::NoRoom));
        outbox.push(reply(4, 50_000), Instant::NEVER).unwrap();
        outbox.push(reply(5, 100), Instant::NEVER).unwrap();
        let since = outbox.stuck_since().unwrap();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let mut departures = outbox.departures();
        let first = departures.next().await.unwrap();
        assert!(outbox.stuck_since().unwrap() > since);
        outbox.finish();
        let rest: Vec<_> = departures.collect().await;
        assert!(budget.used().0 > 190_000, "fragments are slices of it");
        drop((first, rest));
        assert_eq!((budget.used().0, outbox.stuck_since()), (0, None));
    }
}
