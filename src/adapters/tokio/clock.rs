//! The clocks of the process.
//!
//! Monotonic time counts from the first use in the process, so that all copies of the clock agree. A sleep may end
//! late, by the timer's millisecond and by whatever the machine is busy with, but never early.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ports::{Clock, Instant};

/// The operating system's clocks, slept on by tokio's timer.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    /// The clock of this process.
    #[must_use]
    pub fn new() -> Self {
        static START: OnceLock<tokio::time::Instant> = OnceLock::new();
        Self {
            start: *START.get_or_init(tokio::time::Instant::now),
        }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_ms(&self) -> u64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        let at = self.start.checked_add(Duration::from_nanos(at.0));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::conformance;

    #[tokio::test]
    async fn conforms() {
        conformance::clock(async || TokioClock::new()).await;
    }

    #[test]
    fn all_copies_agree() {
        let earlier = TokioClock::new().now();
        assert!(TokioClock::new().now() >= earlier);
    }

    #[tokio::test]
    async fn sleeping_for_ever_is_allowed() {
        let clock = TokioClock::new();
        let ever = clock.sleep_until(Instant::NEVER);
        let short = clock.sleep(Duration::from_millis(5));
        tokio::select! {
            () = ever => panic!("ended"),
            () = short => {}
        }
    }
}
