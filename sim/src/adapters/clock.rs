//! Clocks: a monotonic one that starts anywhere in each life of a process, and a wall clock as wrong as the world says.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use madsim::time::TimeHandle;
use pairdb::ports::{Clock, Instant};

use crate::pause::Timer;

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

/// The clocks of one life of a process.
#[derive(Clone)]
pub struct SimClock {
    time: TimeHandle,
    wall: WallClock,
    /// What the monotonic clock shows when simulated time is zero.
    base: u64,
}

impl SimClock {
    /// The clocks of a process on a machine with this wall clock.
    #[must_use]
    pub fn new(wall: WallClock, base: u64) -> Self {
        let time = TimeHandle::current();
        Self { time, wall, base }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant(self.base + self.time.elapsed().as_nanos() as u64)
    }

    fn wall_ms(&self) -> u64 {
        self.wall.at(self.time.elapsed())
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        Timer::new(&self.time, at.since(self.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
