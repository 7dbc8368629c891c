//! The bytes that a process may have in messages: bodies that come in, requests at work, what waits to leave, replies.
//!
//! What it is: sums against one bound. What clients bring may take five sixteenths of it; the rest is for what follows
//! from that: a value that is written is stamped, answered and joined by each of its owners. So what was let in finds
//! room, and what is too much is refused before anything was done for it. Two of the five are for short requests, which
//! long ones never get in the way of. What it is not: a measure of the process's memory. It counts payload; the bound
//! is chosen so that all else has room beside it.
//!
//! A message that is still coming in can stay so for as long as its sender likes. When there is no room, a short one
//! that began first gives up what it has: honest ones are whole at once. Long ones take their time, and would keep each
//! other from ever being whole; so each takes room for all of it when it begins, the next ones are refused, and only
//! one that hardly comes gives way.
//!
//! Invariants: what was taken is given back when its [`Held`] is dropped, once; an evicted message holds nothing.
//!
//! Bytes know what they are charged to (see [`Held::over`]): a value is paid for until its last copy by reference is
//! gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What clients' requests may take: so many of [`SHARES`].
const LONG_SHARE: usize = 3;
const SHORT_SHARE: usize = 2;
/// And what waits to leave: whoever takes his replies slowly leaves room for what others bring.
const OUT_SHARE: usize = 10;
const SHARES: usize = 16;

/// A longer request is a long one.
pub(crate) const SHORT_BYTES: usize = 64 * 1024;

/// How long a long message has to itself what it took, however slowly it comes.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// What comes more slowly than that, in bytes a millisecond, hardly comes.
const SLOW: u128 = 128;

/// What a message costs beside its bytes: a task, a stream, a place in some queues.
pub(crate) const MESSAGE_BYTES: usize = 2 * 1024;

/// There is no room for it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the process holds as many bytes of messages as it may")]
pub struct NoRoom;

/// What the bytes are taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// What clients bring, as long as it is short.
    Short,
    /// What clients bring, where it is long.
    Long,
    /// What waits to leave.
    Out,
    /// All else that follows from it, and what other processes of the cluster bring.
    Inner,
}

/// The bytes of one process. Copies are the same budget.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    bytes_max: usize,
    used: AtomicUsize,
    short: AtomicUsize,
    long: AtomicUsize,
    out: AtomicUsize,
    queue: Mutex<Queue>,
    freed: Notify,
}

/// The messages that are coming in, in the order they began.
#[derive(Default)]
struct Queue {
    next: u64,
    under_way: BTreeMap<u64, Arc<Slot>>,
}

/// Changed under the queue's lock only.
struct Slot {
    taken: Mutex<Taken>,
    /// What has come of it.
    came: AtomicUsize,
    began: Instant,
    evicted: AtomicBool,
    told: Notify,
}

#[derive(Clone, Copy)]
struct Taken {
    share: Share,
    bytes: usize,
}

/// So many bytes of a budget, given back when dropped.
pub struct Held {
    budget: Budget,
    share: Share,
    bytes: usize,
}

/// A message that is coming in.
pub struct Arriving {
    budget: Budget,
    /// Its place in the queue, when it has one; changed under the queue's lock only.
    number: AtomicU64,
    slot: Arc<Slot>,
}

/// Not in the queue.
const NOWHERE: u64 = u64::MAX;

impl Budget {
    /// With room for so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            used: AtomicUsize::new(0),
            short: AtomicUsize::new(0),
            long: AtomicUsize::new(0),
            out: AtomicUsize::new(0),
            queue: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// With room for everything.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// How many bytes there is room for.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// How many are in use, and how many of those by what clients brought.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        let (short, long) = (&self.0.short, &self.0.long);
        let front = short.load(Ordering::Relaxed) + long.load(Ordering::Relaxed);
        (self.0.used.load(Ordering::Relaxed), front)
    }

    /// Takes bytes that there is room for.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn take(&self, share: Share, bytes: usize) -> Result<Held, NoRoom> {
        if !self.try_add(share, bytes) {
            counter!("message_bytes_refused_total").increment(1);
            return Err(NoRoom);
        }
        Ok(self.held(share, bytes))
    }

    /// Takes bytes that are there already, room or not.
    #[must_use]
    pub fn take_anyway(&self, share: Share, bytes: usize) -> Held {
        self.add(share, bytes);
        self.held(share, bytes)
    }

    /// Whether less than all is in use.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.used.load(Ordering::Relaxed) < self.0.bytes_max
    }

    /// Whether what waits to leave has room left, and all together has.
    #[must_use]
    pub fn has_room_to_leave(&self) -> bool {
        let out = self.0.out.load(Ordering::Relaxed);
        self.has_room() && out < self.0.bytes_max / SHARES * OUT_SHARE
    }

    /// Waits until less than all is in use. Whoever reads on only then takes at most one message more than there is
    /// room for.
    pub async fn room(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }

    /// How many bytes long requests may take.
    #[must_use]
    pub fn long_max(&self) -> usize {
        self.0.bytes_max / SHARES * LONG_SHARE
    }

    /// A message begins to come in. It has taken [`MESSAGE_BYTES`] already.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn arriving(&self, share: Share) -> Result<Arriving, NoRoom> {
        let arriving = Arriving {
            budget: self.clone(),
            number: AtomicU64::new(NOWHERE),
            slot: Arc::new(Slot {
                taken: Mutex::new(Taken { share, bytes: 0 }),
                came: AtomicUsize::new(0),
                began: Instant::now(),
                evicted: AtomicBool::new(false),
                told: Notify::new(),
            }),
        };
        arriving.grow(MESSAGE_BYTES)?;
        Ok(arriving)
    }

    /// Puts into the metrics what there is.
    pub fn sample(&self) {
        let (used, front) = self.used();
        gauge!("message_bytes_max").set(self.0.bytes_max as f64);
        gauge!("message_bytes", "share" => "front").set(front as f64);
        gauge!("message_bytes", "share" => "inner").set(used.saturating_sub(front) as f64);
    }

    fn held(&self, share: Share, bytes: usize) -> Held {
        Held {
            budget: self.clone(),
            share,
            bytes,
        }
    }

    fn try_add(&self, share: Share, bytes: usize) -> bool {
        let fits = |used: &AtomicUsize, max: usize| {
            used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= max)
            })
            .is_ok()
        };
        let own = self.part(share);
        if own.is_some_and(|(own, max)| !fits(own, max)) {
            return false;
        }
        let fits = fits(&self.0.used, self.0.bytes_max);
        if !fits && let Some((own, _)) = own {
            own.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// The sum of a share that has a bound of its own, and that.
    fn part(&self, share: Share) -> Option<(&AtomicUsize, usize)> {
        match share {
            Share::Short => Some((&self.0.short, self.0.bytes_max / SHARES * SHORT_SHARE)),
            Share::Long => Some((&self.0.long, self.long_max())),
            Share::Out => Some((&self.0.out, self.0.bytes_max / SHARES * OUT_SHARE)),
            Share::Inner => None,
        }
    }

    fn add(&self, share: Share, bytes: usize) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some((own, _)) = self.part(share) {
            own.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn give_back(&self, Taken { share, bytes }: Taken) {
        if let Some((own, _)) = self.part(share) {
            own.fetch_sub(bytes, Ordering::Relaxed);
        }
        let before = self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.0.bytes_max {
            self.0.freed.notify_waiters();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.0.queue)
    }
}

impl Held {
    /// How many they are.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same bytes, paid for by this until the last of them is gone.
    #[must_use]
    pub fn over(self, bytes: Bytes) -> Bytes {
        Charge::from(self).over(bytes)
    }
}

/// What a request took, shared by all that is left of it.
#[derive(Clone)]
pub struct Charge {
    _held: Arc<Held>,
}

impl From<Held> for Charge {
    fn from(held: Held) -> Self {
        Self {
            _held: Arc::new(held),
        }
    }
}

impl Charge {
    /// The same bytes, paid for by this until the last of them is gone.
    #[must_use]
    pub fn over(&self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        Bytes::from_owner(Charged {
            bytes,
            _charge: self.clone(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(Taken {
            share: self.share,
            bytes: self.bytes,
        });
    }
}

struct Charged {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Arriving {
    /// So many bytes of it have come. If there is no room, others may lose what they have; see the module.
    ///
    /// # Errors
    /// [`NoRoom`]: there is none, or it had to give way itself. Then it holds nothing.
    pub fn grow(&self, bytes: usize) -> Result<(), NoRoom> {
        let came = self.slot.came.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.take_all(came)
    }

    /// It will have so many bytes in all. A long one takes room for them now.
    ///
    /// # Errors
    /// As in [`Self::grow`].
    pub fn expect(&self, bytes: usize) -> Result<(), NoRoom> {
        match bytes > SHORT_BYTES {
            true => self.take_all(bytes.saturating_add(MESSAGE_BYTES)),
            false => Ok(()),
        }
    }

    /// Takes room for so many in all.
    fn take_all(&self, wanted: usize) -> Result<(), NoRoom> {
        let mut queue = self.budget.queue();
        if self.slot.evicted.load(Ordering::Relaxed) {
            return Err(NoRoom);
        }
        let number = self.enqueued(&mut queue);
        let mut taken = lock(&self.slot.taken);
        if taken.share == Share::Short && wanted > SHORT_BYTES + MESSAGE_BYTES {
            self.budget.give_back(*taken);
            *taken = Taken {
                share: Share::Long,
                bytes: 0,
            };
        }
        let share = taken.share;
        let more = wanted.saturating_sub(taken.bytes);
        if more == 0 {
            return Ok(()); // whatever others were given anyway
        }
        while !self.budget.try_add(share, more) {
            let first = queue.first(share, number);
            if first == number {
                queue.under_way.remove(&number);
                self.slot.evicted.store(true, Ordering::Relaxed);
                self.budget.give_back(*taken);
                taken.bytes = 0;
                counter!("message_bytes_refused_total").increment(1);
                return Err(NoRoom);
            }
            if let Some(slot) = queue.under_way.remove(&first) {
                evict(&self.budget, &slot);
            }
        }
        taken.bytes += more;
        Ok(())
    }

    /// Its place in the queue, from now on at the latest.
    fn enqueued(&self, queue: &mut Queue) -> u64 {
        let number = self.number.load(Ordering::Relaxed);
        if number != NOWHERE {
            return number;
        }
        let number = queue.next;
        queue.next += 1;
        queue.under_way.insert(number, Arc::clone(&self.slot));
        self.number.store(number, Ordering::Relaxed);
        number
    }

    /// Gives back all but what every message costs: what came was handed on. The next part begins when it comes, and
    /// until then nobody needs to give way.
    pub fn emptied(&self) {
        let mut queue = self.budget.queue();
        queue
            .under_way
            .remove(&self.number.swap(NOWHERE, Ordering::Relaxed));
        let mut taken = lock(&self.slot.taken);
        let rest = taken.bytes.min(MESSAGE_BYTES);
        let bytes = taken.bytes - rest;
        self.budget.give_back(Taken { bytes, ..*taken });
        taken.bytes = rest;
        self.slot.came.store(rest, Ordering::Relaxed);
    }

    /// Completes when it has lost what it had.
    pub async fn evicted(&self) {
        loop {
            let told = self.slot.told.notified();
            if self.slot.evicted.load(Ordering::Relaxed) {
                return;
            }
            told.await;
        }
    }

    /// It is whole: what it took stays taken until that is dropped.
    ///
    /// # Errors
    /// [`NoRoom`]: it was evicted.
    pub fn whole(self) -> Result<Held, NoRoom> {
        let mut queue = self.budget.queue();
        if self.slot.evicted.load(Ordering::Relaxed) {
            return Err(NoRoom);
        }
        queue.under_way.remove(&self.number.load(Ordering::Relaxed));
        let taken = std::mem::replace(&mut lock(&self.slot.taken).bytes, 0);
        let share = lock(&self.slot.taken).share;
        drop(queue);
        Ok(self.budget.held(share, taken))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut queue = self.budget.queue();
        queue.under_way.remove(&self.number.load(Ordering::Relaxed));
        let mut taken = lock(&self.slot.taken);
        self.budget.give_back(*taken);
        taken.bytes = 0;
    }
}

impl Queue {
    /// Who gives way to the message `number`: itself, if nobody else has to.
    fn first(&self, share: Share, number: u64) -> u64 {
        let mut same_share = self
            .under_way
            .iter()
            .filter(|(other, slot)| **other != number && lock(&slot.taken).share == share);
        let first = same_share.find(|(other, slot)| match share {
            Share::Long => slot.hardly_comes(),
            Share::Short | Share::Out | Share::Inner => **other < number,
        });
        first.map_or(number, |(first, _)| *first)
    }
}

impl Slot {
    fn hardly_comes(&self) -> bool {
        let took = self.began.elapsed();
        let came = self.came.load(Ordering::Relaxed) as u128;
        took >= UNDISTURBED && came < took.as_millis() * SLOW
    }
}

/// Under the lock of the queue.
fn evict(budget: &Budget, slot: &Slot) {
    counter!("message_bytes_refused_total").increment(1);
    slot.evicted.store(true, Ordering::Relaxed);
    let mut taken = lock(&slot.taken);
    budget.give_back(*taken);
    taken.bytes = 0;
    drop(taken);
    slot.told.notify_waiters();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn what_clients_bring_leaves_room_for_what_follows() {
        let budget = Budget::new(1600);
        let short = budget.take(Share::Short, 200).unwrap();
        assert!(budget.take(Share::Short, 1).is_err());
        let long = budget.take(Share::Long, 300).unwrap();
        assert!(budget.take(Share::Long, 1).is_err());
        let inner = budget.take(Share::Inner, 1100).unwrap();
        assert!(budget.take(Share::Inner, 1).is_err());
        assert_eq!(budget.used(), (1600, 500));
        drop(long);
        assert!(budget.take(Share::Short, 1).is_err());
        assert!(budget.take(Share::Long, 300).is_ok());
        drop((short, inner));
        assert_eq!(budget.used(), (0, 0));
        let anyway = budget.take_anyway(Share::Inner, 2000);
        assert!(budget.take(Share::Short, 1).is_err() && !budget.has_room());
        drop(anyway);
        assert_eq!(budget.used(), (0, 0));
    }

    #[test]
    fn bytes_are_paid_for_until_their_last_copy_is_gone() {
        let budget = Budget::new(1000);
        let held = budget.take(Share::Inner, 10).unwrap();
        let value = held.over(Bytes::from_static(b"0123456789"));
        let part = value.slice(3..5);
        drop(value);
        assert_eq!((budget.used().0, part.as_ref()), (10, b"34".as_ref()));
        drop(part);
        assert_eq!(budget.used().0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_short_message_that_began_first_gives_way() {
        let budget = Budget::new(16 * 32 * KIB);
        let stuck: Vec<_> = (0..3)
            .map(|_| {
                let arriving = budget.arriving(Share::Short).unwrap();
                arriving.grow(16 * KIB).unwrap();
                arriving
            })
            .collect();
        let honest = budget.arriving(Share::Short).unwrap();
        honest.grow(30 * KIB).unwrap();
        assert!(stuck[0].evicted().now_or_never().is_some());
        assert!(stuck[1].evicted().now_or_never().is_some());
        assert!(stuck[2].evicted().now_or_never().is_none());
        assert_eq!(stuck[0].grow(1), Err(NoRoom));
        let held = honest.whole().unwrap();
        assert_eq!(held.bytes(), 30 * KIB + MESSAGE_BYTES);
        drop(stuck);
        assert_eq!(budget.used().0, held.bytes());
        drop(held);
        assert_eq!(budget.used(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn long_messages_don_t_keep_each_other_from_being_whole() {
        let budget = Budget::new(16 * 400 * KIB);
        let long = || {
            let arriving = budget.arriving(Share::Short).unwrap();
            arriving.expect(500 * KIB).map(|()| arriving)
        };
        let first = long().unwrap();
        let stuck = long().unwrap();
        assert!(long().is_err(), "there is room for two");
        first.grow(500 * KIB).unwrap();
        let first = first.whole().unwrap();
        assert_eq!(first.bytes(), 500 * KIB + MESSAGE_BYTES);
        tokio::time::advance(UNDISTURBED).await;
        stuck.grow(300 * KIB).unwrap();
        assert!(long().is_err(), "it does come");
        tokio::time::advance(UNDISTURBED).await;
        let next = long().unwrap();
        assert!(stuck.evicted().now_or_never().is_some());
        // One that did not say so grows long, and has no room then.
        let unsaid = budget.arriving(Share::Short).unwrap();
        unsaid.grow(SHORT_BYTES).unwrap();
        assert_eq!(unsaid.grow(300 * KIB), Err(NoRoom));
        assert!(unsaid.whole().is_err());
        drop((first, stuck, next));
        assert_eq!(budget.used(), (0, 0));
    }

    #[test]
    fn a_stream_pays_for_the_part_that_is_coming_in() {
        let budget = Budget::new(1000 * KIB);
        let stream = budget.arriving(Share::Inner).unwrap();
        for _ in 0..3 {
            stream.grow(500 * KIB).unwrap();
            stream.emptied();
            assert_eq!(budget.used().0, MESSAGE_BYTES);
        }
        drop(stream);
        assert_eq!(budget.used().0, 0);
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken_when_there_is_some() {
        let budget = Budget::new(10);
        let held = budget.take_anyway(Share::Inner, 30);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_told_of_its_eviction() {
        let budget = Budget::new(8 * KIB);
        let stuck = Arc::new(budget.arriving(Share::Inner).unwrap());
        let told = tokio::spawn({
            let stuck = Arc::clone(&stuck);
            async move { stuck.evicted().await }
        });
        tokio::task::yield_now().await;
        let next = budget.arriving(Share::Inner).unwrap();
        next.grow(5 * KIB).unwrap();
        told.await.unwrap();
    }
}
