//! So many bytes in a second, and no more: the pace of everything that nobody waits for.
//!
//! Whoever takes bytes pushes the time at which the next may take some; a burst of at most one take is let through at
//! once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::ports::{Clock, Instant};

pub(super) struct Throttle {
    bytes_per_second: u64,
    free_at: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::default(),
        }
    }

    /// Waits for its turn to move so many bytes.
    pub(super) async fn take(&self, clock: &impl Clock, bytes: u64) {
        let turn = self.turn(clock.now(), bytes);
        if turn > clock.now() {
            clock.sleep_until(turn).await;
        }
    }

    fn turn(&self, now: Instant, bytes: u64) -> Instant {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = now.max(*free_at);
        *free_at = turn + takes;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_and_rest_is_not_saved_up() {
        let throttle = Throttle::new(1_000);
        let at = |ms: u64| Instant::default() + Duration::from_millis(ms);
        assert_eq!(throttle.turn(at(0), 500), at(0));
        assert_eq!(throttle.turn(at(0), 500), at(500));
        assert_eq!(throttle.turn(at(600), 1), at(1_000));
        assert_eq!(throttle.turn(at(9_000), 500), at(9_000));
        assert_eq!(throttle.turn(at(9_000), 500), at(9_500));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_bytes_waits_for_its_turn() {
        let clock = crate::adapters::tokio::TokioClock::default();
        let throttle = Throttle::new(1_000);
        let began = clock.now();
        for seconds in 0..3 {
            throttle.take(&clock, 1_000).await;
            let waited = clock.now().since(began);
            assert_eq!(waited.as_secs(), seconds, "{waited:?}");
        }
    }
}
