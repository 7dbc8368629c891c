//! A clock that stands still until it is told to go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::ports::{Clock, Instant};

/// Time for tests: goes only by [`ManualClock::advance`]. Copies share one time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    now: Instant,
    wall_ms: u64,
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next_sleeper: u64,
}

/// A sleep's place among the sleepers, given up when the sleep ends or is dropped.
struct Sleeper {
    state: Arc<Mutex<State>>,
    place: (Instant, u64),
}

impl ManualClock {
    /// Starts at the given wall time.
    #[must_use]
    pub fn at_wall_ms(wall_ms: u64) -> Self {
        let clock = Self::default();
        clock.set_wall_ms(wall_ms);
        clock
    }

    /// Lets both clocks go on by `duration`, and wakes those who slept until then, in the order of their times.
    pub fn advance(&self, duration: Duration) {
        let woken = {
            let mut state = lock(&self.state);
            state.now = state.now + duration;
            state.wall_ms = state
                .wall_ms
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
            let later = state
                .now
                .0
                .checked_add(1)
                .map(|next| state.sleepers.split_off(&(Instant(next), 0)));
            std::mem::replace(&mut state.sleepers, later.unwrap_or_default())
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Lets the wall clock jump; monotonic time stays.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        lock(&self.state).wall_ms = wall_ms;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        lock(&self.state).now
    }

    fn wall_ms(&self) -> u64 {
        lock(&self.state).wall_ms
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        let place = {
            let mut state = lock(&self.state);
            state.next_sleeper += 1;
            (at, state.next_sleeper)
        };
        let sleeper = Sleeper {
            state: Arc::clone(&self.state),
            place,
        };
        std::future::poll_fn(move |context| {
            let mut state = lock(&sleeper.state);
            if state.now >= sleeper.place.0 {
                return Poll::Ready(());
            }
            state
                .sleepers
                .insert(sleeper.place, context.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let waker = lock(&self.state).sleepers.remove(&self.place);
        drop(waker); // not under the lock: with it may go a task and that task's own sleeps
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn goes_only_when_told() {
        let clock = ManualClock::at_wall_ms(5);
        assert_eq!((clock.now(), clock.wall_ms()), (Instant(0), 5));
        clock.clone().advance(SECOND);
        assert_eq!(
            (clock.now(), clock.wall_ms()),
            (Instant(1_000_000_000), 1005)
        );
        clock.set_wall_ms(3);
        assert_eq!((clock.now(), clock.wall_ms()), (Instant(1_000_000_000), 3));
    }

    #[test]
    fn sleepers_wake_when_their_time_has_come() {
        let clock = ManualClock::default();
        let (mut short, mut long) = (
            Box::pin(clock.sleep(SECOND)),
            Box::pin(clock.sleep(2 * SECOND)),
        );
        assert_eq!(
            ((&mut short).now_or_never(), (&mut long).now_or_never()),
            (None, None)
        );
        clock.advance(SECOND - Duration::from_nanos(1));
        assert_eq!((&mut short).now_or_never(), None);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(
            ((&mut short).now_or_never(), (&mut long).now_or_never()),
            (Some(()), None)
        );
        drop(long);
        assert!(
            lock(&clock.state).sleepers.is_empty(),
            "who is gone is forgotten"
        );
    }

    #[tokio::test]
    async fn advancing_wakes_another_task() {
        let clock = ManualClock::default();
        let sleeping = tokio::spawn(clock.sleep(SECOND));
        tokio::task::yield_now().await;
        clock.advance(SECOND);
        sleeping.await.unwrap();
    }
}
