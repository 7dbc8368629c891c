//! How often the log tells of requests that fail alike: while a store is down or a quorum is away, every request would add a line.
//! Metrics count them all.

use std::num::NonZeroU32;
use std::sync::LazyLock;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Lines a second, of a whole process.
const LINES: NonZeroU32 = NonZeroU32::new(5).unwrap();

static PACE: LazyLock<DefaultDirectRateLimiter> =
    LazyLock::new(|| RateLimiter::direct(Quota::per_second(LINES)));

/// Whether this one is to be told of.
pub(super) fn is_to_be_told() -> bool {
    PACE.check().is_ok()
}
