//! What every [`Clock`] does: go forward, and wake nobody early.

use std::time::Duration;

use futures::future::join_all;

use super::within;
use crate::ports::{Clock, Instant};

/// Panics unless the clocks made by `fresh` keep to [`Clock`].
pub async fn clock<C: Clock>(fresh: impl AsyncFn() -> C) {
    never_goes_back(&fresh().await);
    sleeps_are_not_short(&fresh().await).await;
    what_has_passed_is_not_waited_for(&fresh().await).await;
    copies_agree(&fresh().await).await;
}

fn never_goes_back(clock: &impl Clock) {
    let mut before = clock.now();
    for _ in 0..1000 {
        let now = clock.now();
        assert!(
            now >= before,
            "monotonic time went from {before:?} to {now:?}"
        );
        before = now;
    }
}

async fn sleeps_are_not_short(clock: &impl Clock) {
    let sleeps = [0, 1, 3, 10, 7]
        .map(Duration::from_millis)
        .map(async |duration| {
            let until = clock.now() + duration;
            clock.sleep_until(until).await;
            assert!(clock.now() >= until, "a sleep of {duration:?} ended early");
        });
    within(clock, "sleeps of up to 10 ms", join_all(sleeps)).await;

    let start = clock.now();
    within(
        clock,
        "a sleep of 2 ms",
        clock.sleep(Duration::from_millis(2)),
    )
    .await;
    assert!(
        clock.now().since(start) >= Duration::from_millis(2),
        "sleep(2 ms) ended early"
    );
}

async fn what_has_passed_is_not_waited_for(clock: &impl Clock) {
    within(
        clock,
        "a sleep until the start of time",
        clock.sleep_until(Instant(0)),
    )
    .await;
    within(clock, "a sleep until now", clock.sleep_until(clock.now())).await;
}

async fn copies_agree(clock: &impl Clock) {
    let copy = clock.clone();
    let at = clock.now() + Duration::from_millis(2);
    within(clock, "a copy's sleep", copy.sleep_until(at)).await;
    assert!(clock.now() >= at, "a copy of the clock is ahead of it");
}
