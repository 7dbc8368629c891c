//! Time: a monotonic clock to wait by, and a wall clock that may be wrong.

use std::future::Future;
use std::ops::Add;
use std::time::Duration;

/// A point on a process's own monotonic clock, in nanoseconds since an arbitrary start. Means nothing elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// Later than every other instant.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// The clocks of one process.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Monotonic time: never goes back, is not related to any other process's.
    fn now(&self) -> Instant;

    /// Wall clock in milliseconds since the Unix epoch. May jump, drift, or be hours off: nothing may depend on it
    /// for safety.
    fn wall_ms(&self) -> u64;

    /// Completes once [`Clock::now`] has reached `at`.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.sleep_until(self.now() + duration)
    }
}
