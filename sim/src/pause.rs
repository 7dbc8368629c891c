//! Waiting in simulated time, to the nanosecond.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::time::{Sleep, TimeHandle};

/// A sleep this long is one that never ends.
const SLEEP_MAX: Duration = Duration::from_secs(1_000_000);

/// A sleep that is exact where madsim's own rounds up to a millisecond, and that sets one timer however often it is
/// polled.
pub struct Timer {
    sleep: Sleep,
    waker: Option<Waker>,
}

impl Timer {
    /// Completes after `duration`.
    #[must_use]
    pub fn new(time: &TimeHandle, duration: Duration) -> Self {
        let mut sleep = time.sleep(duration);
        Pin::new(&mut sleep).reset(time.now_instant() + duration.min(SLEEP_MAX));
        let waker = None;
        Self { sleep, waker }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.is_elapsed() {
            return Poll::Ready(());
        }
        if self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        Pin::new(&mut self.sleep).poll(cx)
    }
}

/// Completes after `duration` of simulated time.
pub async fn pause(duration: Duration) {
    Timer::new(&TimeHandle::current(), duration).await;
}
