//! Clocks: a monotonic one that starts anywhere in each life of a process, and a wall clock as wrong as the world says.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use madsim::time::TimeHandle;
use pairdb::ports::{Clock, Instant};

use crate::pause::Timer;
use crate::rng::Rng;

/// Simulated time starts here by a right wall clock: 2026-01-01, in Unix milliseconds.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// A machine's wall clock. It outlives the processes on the machine. Copies share it.
#[derive(Clone, Debug)]
pub struct WallClock(Arc<Mutex<Wall>>);

/// A straight line, until the clock is changed.
#[derive(Debug)]
struct Wall {
    /// The simulated time from which it runs as it does.
    since_ms: i64,
    /// What it shows then, from [`EPOCH_MS`] on.
    shown_ms: i64,
    drift_ppm: i64,
}

impl WallClock {
    /// A clock that is this wrong.
    #[must_use]
    pub fn new(offset_ms: i64, drift_ppm: i64) -> Self {
        Self(Arc::new(Mutex::new(Wall {
            since_ms: 0,
            shown_ms: offset_ms,
            drift_ppm,
        })))
    }

    /// Jumps.
    pub fn jump(&self, by_ms: i64) {
        self.wall().shown_ms += by_ms;
    }

    /// Goes faster from `now` on, by so many millionths.
    pub fn drift(&self, now: Duration, by_ppm: i64) {
        let mut wall = self.wall();
        wall.shown_ms = wall.at(now);
        wall.since_ms = now.as_millis() as i64;
        wall.drift_ppm += by_ppm;
    }

    fn at(&self, elapsed: Duration) -> u64 {
        u64::try_from(EPOCH_MS + self.wall().at(elapsed)).unwrap_or(0)
    }

    fn wall(&self) -> MutexGuard<'_, Wall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wall {
    fn at(&self, elapsed: Duration) -> i64 {
        let passed_ms = elapsed.as_millis() as i64 - self.since_ms;
        self.shown_ms + passed_ms + passed_ms * self.drift_ppm / 1_000_000
    }
}

/// What makes a machine's monotonic clock differ from simulated time: how long it stood still. It outlives the
/// processes on the machine. Copies share it.
#[derive(Clone, Debug)]
pub struct SteadyClock(Arc<Steady>);

#[derive(Debug)]
struct Steady {
    /// By how much it is behind, in nanoseconds.
    behind: AtomicU64,
    /// What it shows while it stands still; [`GOES`] while it does not.
    shows: AtomicU64,
}

/// A clock that does not stand still.
const GOES: u64 = u64::MAX;

/// How often it is looked whether a clock that stands still goes on.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Default for SteadyClock {
    fn default() -> Self {
        let (behind, shows) = (AtomicU64::new(0), AtomicU64::new(GOES));
        Self(Arc::new(Steady { behind, shows }))
    }
}

impl SteadyClock {
    /// Stands still from `now` on, if it does not already.
    pub fn stop(&self, now: u64) {
        let shown = self.at(now);
        self.0.shows.store(shown, Ordering::Relaxed);
    }

    /// Goes on: from what it would show now if it had not stood still if it `jumps`, else from where it stands.
    pub fn go_on(&self, now: u64, jumps: bool) {
        let shown = self.0.shows.swap(GOES, Ordering::Relaxed);
        if shown != GOES && !jumps {
            self.0.behind.store(now - shown, Ordering::Relaxed);
        }
    }

    /// Whether it stands still.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        self.0.shows.load(Ordering::Relaxed) != GOES
    }

    /// What it shows, in nanoseconds since the start of the run.
    fn at(&self, elapsed: u64) -> u64 {
        match self.0.shows.load(Ordering::Relaxed) {
            GOES => elapsed - self.0.behind.load(Ordering::Relaxed),
            shown => shown,
        }
    }
}

/// How late timers are: by how many microseconds at most, and by what.
type Late = Arc<(u64, Mutex<Rng>)>;

/// The clocks of one life of a process.
#[derive(Clone)]
pub struct SimClock {
    time: TimeHandle,
    wall: WallClock,
    steady: SteadyClock,
    late: Option<Late>,
    /// What the monotonic clock shows when simulated time is zero.
    base: u64,
}

impl SimClock {
    /// The clocks of a process on a machine with this wall clock.
    #[must_use]
    pub fn new(wall: WallClock, base: u64) -> Self {
        let time = TimeHandle::current();
        Self {
            time,
            wall,
            steady: SteadyClock::default(),
            late: None,
            base,
        }
    }

    /// The same on a machine whose monotonic clock is `steady`, with timers that are late by up to `late_us_max`
    /// microseconds.
    #[must_use]
    pub fn with(self, steady: SteadyClock, late_us_max: u64, rng: Rng) -> Self {
        let late = (late_us_max > 0).then(|| Arc::new((late_us_max, Mutex::new(rng))));
        Self {
            steady,
            late,
            ..self
        }
    }

    /// By how much the next timer is late.
    fn late(&self) -> Duration {
        let Some(late) = &self.late else {
            return Duration::ZERO;
        };
        let (us_max, rng) = &**late;
        let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(rng.between(0, *us_max))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant(self.base + self.steady.at(self.time.elapsed().as_nanos() as u64))
    }

    fn wall_ms(&self) -> u64 {
        self.wall.at(self.time.elapsed())
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        let left = at.since(self.now());
        let first = Timer::new(&self.time, left + self.late());
        async move {
            first.await;
            loop {
                let left = at.since(clock.now());
                if left.is_zero() {
                    return;
                }
                // It stood still meanwhile, or does.
                Timer::new(&clock.time, left.max(LOOK_AGAIN)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_clock_stands_still_and_goes_on() {
        let clock = SteadyClock::default();
        assert_eq!((clock.at(5), clock.at(7)), (5, 7));
        clock.stop(10);
        clock.stop(12);
        assert_eq!((clock.at(15), clock.at(20)), (10, 10));
        clock.go_on(20, false);
        assert_eq!((clock.at(20), clock.at(25)), (10, 15));
        clock.stop(25);
        clock.go_on(40, true);
        assert_eq!((clock.at(40), clock.at(41)), (30, 31));
        clock.go_on(50, false);
        assert_eq!(clock.at(50), 40, "it goes already");
    }

    #[test]
    fn a_wall_clock_keeps_what_it_drifted_by() {
        let seconds = Duration::from_secs;
        let wall = WallClock::new(-5, 0);
        let off = |at| wall.at(seconds(at)) as i64 - EPOCH_MS - at as i64 * 1_000;
        assert_eq!(off(10), -5);
        wall.drift(seconds(10), 100_000);
        assert_eq!((off(10), off(20)), (-5, 995));
        wall.drift(seconds(20), -100_000);
        wall.jump(-1_000);
        assert_eq!((off(20), off(90)), (-5, -5));
    }
}
