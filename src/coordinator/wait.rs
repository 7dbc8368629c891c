//! Waiting for the next answer or a point in time, whichever comes first.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::ports::{Clock, Instant};

/// The next answer out of `in_flight`, or `None` once `timer` has completed. An answer wins over the timer; with
/// nothing in flight only the timer counts.
pub(super) async fn next_answer<F: Future>(
    in_flight: &mut FuturesUnordered<F>,
    mut timer: Pin<&mut impl Future<Output = ()>>,
) -> Option<F::Output> {
    poll_fn(|cx| {
        if let Poll::Ready(Some(answer)) = in_flight.poll_next_unpin(cx) {
            return Poll::Ready(Some(answer));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// What `future` gives, or `None` at `deadline`.
pub(super) async fn before<T>(
    clock: &impl Clock,
    deadline: Instant,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = pin!(clock.sleep_until(deadline));
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}
