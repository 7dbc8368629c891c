//! How often the log tells of requests that fail alike: while a store is down or a quorum is away, every request would
//! add a line. Metrics count them all.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Lines a second for each cause, of a whole process.
const LINES: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// A store that a request needed was down.
pub(crate) static STORE: Pace = Pace::new();
/// Too few owners answered.
pub(crate) static QUORUM: Pace = Pace::new();
/// A request was not answered in its client's time.
pub(crate) static LATE: Pace = Pace::new();
/// A tenant asked for more than it may.
pub(crate) static LIMIT: Pace = Pace::new();
/// A request met a fault of ours.
pub(crate) static FAULT: Pace = Pace::new();
/// A connection could not be accepted.
pub(crate) static ACCEPT: Pace = Pace::new();
/// A connection to a storage node was lost.
pub(crate) static LINK: Pace = Pace::new();
/// There was no place for a connection.
pub(crate) static PLACES: Pace = Pace::new();

/// The pace of one cause.
pub(crate) struct Pace {
    limiter: LazyLock<DefaultDirectRateLimiter>,
    left_out: AtomicU64,
}

impl Pace {
    const fn new() -> Self {
        Self {
            limiter: LazyLock::new(|| RateLimiter::direct(Quota::per_second(LINES))),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether this one is to be told of, and how many were not since the last that was.
    pub(crate) fn tell(&self) -> Option<u64> {
        match self.limiter.check() {
            Ok(()) => Some(self.left_out.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let pace = Pace::new();
        let told: Vec<_> = (0..1000).filter_map(|_| pace.tell()).collect();
        assert!((5..1000).contains(&told.len()), "{}", told.len());
        let left_out = pace.left_out.load(Ordering::Relaxed);
        let counted: u64 = told.iter().sum();
        assert_eq!(told.len() as u64 + counted + left_out, 1000);
    }
}
