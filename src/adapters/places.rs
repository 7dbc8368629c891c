//! The places of a listener's connections: how many there may be, of one peer too, and who gives way.
//!
//! A connection that says nothing costs its owner nothing. So when all places are taken, the one that has been quiet
//! the longest, whose client has no whole request at work, gives its place to the next that comes. Where everybody is
//! at work, a few
//! *spare* places are left: on those only probes are answered, and everybody else is told to come again. A probe is
//! never refused for what clients do.
//!
//! Invariants: there are never more connections than places, spare ones, and those that were just told to close; a
//! connection with a request at work never gives way to another.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::adapters::log_pace;

/// How long who had an answer on a spare place may read it.
const SPARE_IDLE: Duration = Duration::from_secs(1);

/// How many connections there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceBounds {
    /// In all.
    pub max: usize,
    /// Of one peer's address.
    pub of_peer_max: usize,
    /// Beside these, for probes.
    pub spare_max: usize,
}

/// How long a connection may do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// From its begin to the end of its first request's headers.
    pub first_request: Duration,
    /// Without a request at work.
    pub idle: Duration,
    /// For a client to take a whole reply.
    pub reply: Duration,
}

/// Why a connection ends that its client would have kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Another one got its place.
    GaveWay,
    /// It was made, and nothing was asked.
    Silent,
    /// Nothing was at work for long.
    Idle,
    /// Its client did not take a reply.
    ReplyNotTaken,
    /// It has had its one answer on a spare place.
    Answered,
}

impl Ending {
    /// A word for the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GaveWay => "gave_way",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::ReplyNotTaken => "reply_not_taken",
            Self::Answered => "answered",
        }
    }
}

/// The places of one listener. Copies are the same.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    listener: &'static str,
    bounds: PlaceBounds,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    taken: BTreeMap<u64, Arc<Conduct>>,
    spare: usize,
}

/// A connection's place, free again when dropped.
pub struct Place {
    places: Places,
    number: u64,
    conduct: Arc<Conduct>,
}

/// What a connection does. Copies are the same connection's.
pub struct Conduct {
    peer: Option<IpAddr>,
    is_spare: bool,
    gave_way: AtomicBool,
    told: Notify,
    /// Bytes of long messages that are coming in.
    long: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    quiet_since: Instant,
    requests: u64,
    at_work: usize,
    /// When replies began to leave that have not left.
    unsent: BTreeMap<u64, Instant>,
}

impl Places {
    /// Those of the listener called so, all of them free.
    #[must_use]
    pub fn new(listener: &'static str, bounds: PlaceBounds) -> Self {
        Self(Arc::new(Inner {
            listener,
            bounds,
            table: Mutex::default(),
        }))
    }

    /// For a test.
    #[cfg(test)]
    pub(crate) fn up_to(max: usize) -> Self {
        let bounds = PlaceBounds {
            max,
            of_peer_max: max,
            spare_max: 0,
        };
        Self::new("test", bounds)
    }

    /// A place for a connection of `peer`, if need be that of a quiet one. `None`: everybody is at work, and the spare
    /// places are taken too.
    #[must_use]
    pub fn take(&self, peer: Option<IpAddr>) -> Option<Place> {
        let bounds = &self.0.bounds;
        let mut table = self.table();
        let of_peer = |conduct: &Arc<Conduct>| peer.is_some() && conduct.peer == peer;
        let peers = table.taken.values().filter(|taken| of_peer(taken)).count();
        let free = if peers >= bounds.of_peer_max {
            table.dismiss(of_peer)
        } else {
            table.taken.len() < bounds.max || table.dismiss(|_| true)
        };
        if !free && table.spare >= bounds.spare_max {
            drop(table);
            self.refused();
            return None;
        }
        let conduct = Arc::new(Conduct::new(peer, !free));
        let number = table.next;
        table.next += 1;
        match free {
            true => drop(table.taken.insert(number, Arc::clone(&conduct))),
            false => table.spare += 1,
        }
        self.tell(&table);
        Some(Place {
            places: self.clone(),
            number,
            conduct,
        })
    }

    /// How many are taken, spare ones included.
    #[must_use]
    pub fn taken(&self) -> usize {
        let table = self.table();
        table.taken.len() + table.spare
    }

    fn tell(&self, table: &Table) {
        let listener = self.0.listener;
        let taken = table.taken.len() + table.spare;
        gauge!("listener_connections", "listener" => listener).set(taken as f64);
    }

    fn refused(&self) {
        let listener = self.0.listener;
        counter!("listener_connections_refused_total", "listener" => listener).increment(1);
        if let Some(left_out) = log_pace::PLACES.tell() {
            tracing::warn!(
                listener,
                left_out,
                "a connection was refused: all that there may be are at work"
            );
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.0.table)
    }
}

impl Table {
    /// Frees the place of the quietest among some, if one of them is quiet.
    fn dismiss(&mut self, among: impl Fn(&Arc<Conduct>) -> bool) -> bool {
        let quiet = self.taken.iter().filter(|(_, conduct)| among(conduct));
        let quiet = quiet.filter_map(|(number, conduct)| {
            let state = conduct.state();
            (state.at_work == 0).then_some((state.quiet_since, *number))
        });
        let Some((_, number)) = quiet.min() else {
            return false;
        };
        if let Some(conduct) = self.taken.remove(&number) {
            conduct.gave_way.store(true, Ordering::Relaxed);
            conduct.told.notify_waiters();
        }
        true
    }
}

impl Place {
    /// What is to be told of the connection.
    #[must_use]
    pub const fn conduct(&self) -> &Arc<Conduct> {
        &self.conduct
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        match self.conduct.is_spare {
            true => table.spare -= 1,
            false => drop(table.taken.remove(&self.number)), // not there when it gave way
        }
        self.places.tell(&table);
    }
}

impl Conduct {
    fn new(peer: Option<IpAddr>, is_spare: bool) -> Self {
        let now = Instant::now();
        Self {
            peer,
            is_spare,
            gave_way: AtomicBool::new(false),
            told: Notify::new(),
            long: AtomicUsize::new(0),
            state: Mutex::new(State {
                began: now,
                quiet_since: now,
                requests: 0,
                at_work: 0,
                unsent: BTreeMap::new(),
            }),
        }
    }

    /// Whether only probes are answered on it.
    #[must_use]
    pub const fn is_spare(&self) -> bool {
        self.is_spare
    }

    /// A request's headers have come. It is not at work yet: what it brings may never be whole. One that *streams* is
    /// not at work as such, however long it is open.
    pub(super) fn asked(self: &Arc<Self>, streams: bool) -> Asked {
        let mut state = self.state();
        let number = state.requests;
        state.requests += 1;
        state.quiet_since = Instant::now();
        drop(state);
        Asked {
            conduct: Arc::clone(self),
            number,
            streams,
            begun: AtomicBool::new(false),
        }
    }

    /// Something is at work for this connection until that is dropped.
    #[must_use]
    pub fn at_work(self: &Arc<Self>) -> AtWork {
        self.state().at_work += 1;
        AtWork(Arc::clone(self))
    }

    /// A long message of so many bytes comes in, until that is dropped; `None`: beside others of this connection it
    /// would be more than `max`.
    pub(super) fn long_arrives(self: &Arc<Self>, bytes: usize, max: usize) -> Option<LongArriving> {
        let fits = |before: usize| {
            let sum = before.saturating_add(bytes);
            (before == 0 || sum <= max).then_some(sum)
        };
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        self.long.fetch_update(set, read, fits).ok()?;
        Some(LongArriving(Arc::clone(self), bytes))
    }

    /// Completes when the connection is to end.
    pub async fn over(&self, patience: &Patience) -> Ending {
        loop {
            let told = self.told.notified();
            if self.gave_way.load(Ordering::Relaxed) {
                return Ending::GaveWay;
            }
            let at = match self.state().look(patience, self.is_spare) {
                Ok(at) => at,
                Err(ending) => return ending,
            };
            let _told_or_late = tokio::time::timeout_at(at, told).await;
        }
    }

    /// Completes when another one got its place.
    pub async fn gave_way(&self) {
        loop {
            let told = self.told.notified();
            if self.gave_way.load(Ordering::Relaxed) {
                return;
            }
            told.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// When to look again, or what ends it.
    fn look(&self, patience: &Patience, is_spare: bool) -> Result<Instant, Ending> {
        let now = Instant::now();
        let mut next = now + patience.idle.min(patience.reply);
        let mut ends = |ending, at: Instant| {
            next = next.min(at);
            if at <= now { Err(ending) } else { Ok(()) }
        };
        if let Some(began) = self.unsent.values().min() {
            ends(Ending::ReplyNotTaken, *began + patience.reply)?;
        } else if self.at_work == 0 {
            match self.requests {
                0 => ends(Ending::Silent, self.began + patience.first_request)?,
                _ if is_spare => ends(Ending::Answered, self.quiet_since + SPARE_IDLE)?,
                _ => ends(Ending::Idle, self.quiet_since + patience.idle)?,
            }
        }
        Ok(next)
    }
}

/// A long message that is coming in by a connection.
pub(super) struct LongArriving(Arc<Conduct>, usize);

impl Drop for LongArriving {
    fn drop(&mut self) {
        self.0.long.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Something is at work for a connection.
pub struct AtWork(Arc<Conduct>);

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_work -= 1;
        state.quiet_since = Instant::now();
    }
}

/// A request of a connection.
pub(super) struct Asked {
    conduct: Arc<Conduct>,
    number: u64,
    streams: bool,
    begun: AtomicBool,
}

impl Asked {
    /// All of it has come: from now on it is at work.
    pub(super) fn is_whole(&self) {
        if !self.streams && !self.begun.swap(true, Ordering::Relaxed) {
            self.conduct.state().at_work += 1;
        }
    }

    /// Its reply begins to leave.
    pub(super) fn replies(&self) {
        if !self.streams {
            let now = Instant::now();
            self.conduct.state().unsent.insert(self.number, now);
        }
    }

    /// The connection it came by.
    pub(super) const fn conduct(&self) -> &Arc<Conduct> {
        &self.conduct
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.conduct.state();
        state.unsent.remove(&self.number);
        state.quiet_since = Instant::now();
        if *self.begun.get_mut() {
            state.at_work -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const PATIENCE: Patience = Patience {
        first_request: Duration::from_secs(10),
        idle: Duration::from_secs(300),
        reply: Duration::from_secs(30),
    };

    fn peer(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    fn places(max: usize, of_peer_max: usize) -> Places {
        let bounds = PlaceBounds {
            max,
            of_peer_max,
            spare_max: 1,
        };
        Places::new("test", bounds)
    }

    fn gave_way(place: &Place) -> bool {
        place.conduct().gave_way().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_quietest_gives_way_and_who_is_at_work_does_not() {
        let places = places(2, 2);
        let busy = places.take(peer(1)).unwrap();
        let work = busy.conduct().at_work();
        tokio::time::advance(Duration::from_secs(1)).await;
        let silent = places.take(peer(1)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let next = places.take(peer(2)).unwrap();
        assert!(gave_way(&silent) && !gave_way(&busy) && !next.conduct().is_spare());
        let _next_work = next.conduct().at_work();
        let spare = places.take(peer(3)).unwrap();
        assert!(spare.conduct().is_spare());
        assert!(places.take(peer(3)).is_none());
        drop((spare, silent));
        assert!(places.take(peer(3)).unwrap().conduct().is_spare());
        drop(work);
        assert!(!places.take(peer(3)).unwrap().conduct().is_spare());
        assert!(gave_way(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn one_peer_has_only_so_many_and_takes_them_from_itself() {
        let places = places(10, 1);
        let other = places.take(peer(1)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let first = places.take(peer(2)).unwrap();
        let second = places.take(peer(2)).unwrap();
        assert!(gave_way(&first) && !gave_way(&other) && !gave_way(&second));
        assert_eq!(places.taken(), 2);
        drop((first, second, other));
        assert_eq!(places.taken(), 0);
    }

    async fn ending(place: &Place) -> (Ending, Duration) {
        let began = Instant::now();
        let ending = place.conduct().over(&PATIENCE).await;
        (ending, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_nothing_is_not_kept() {
        let places = places(10, 10);
        let silent = places.take(peer(1)).unwrap();
        assert_eq!(
            ending(&silent).await,
            (Ending::Silent, PATIENCE.first_request)
        );
        let idle = places.take(peer(1)).unwrap();
        let asked = idle.conduct().asked(false);
        asked.is_whole();
        let at_work =
            tokio::time::timeout(Duration::from_secs(3600), idle.conduct().over(&PATIENCE));
        assert!(at_work.await.is_err(), "it is at work");
        drop(asked);
        assert_eq!(ending(&idle).await, (Ending::Idle, PATIENCE.idle));
        let streaming = places.take(peer(1)).unwrap();
        let stream = streaming.conduct().asked(true);
        stream.is_whole();
        stream.replies();
        assert_eq!(ending(&streaming).await, (Ending::Idle, PATIENCE.idle));
    }

    #[test]
    fn one_connection_has_only_a_part_in_long_messages() {
        let conduct = Arc::new(Conduct::new(None, false));
        let first = conduct.long_arrives(10, 5).unwrap();
        assert!(conduct.long_arrives(1, 10).is_none());
        let second = conduct.long_arrives(1, 11).unwrap();
        drop((first, second));
        assert!(conduct.long_arrives(11, 11).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_has_its_time() {
        let places = places(10, 10);
        let place = places.take(peer(1)).unwrap();
        let asked = place.conduct().asked(false);
        asked.is_whole();
        asked.replies();
        assert_eq!(
            ending(&place).await,
            (Ending::ReplyNotTaken, PATIENCE.reply)
        );
    }
}
