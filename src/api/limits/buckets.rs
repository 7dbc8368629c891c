//! One tenant's buckets.
//!
//! What a read will answer is known only afterwards, so bytes are owed, and paid by the next request before it is let
//! in. Requests that are at work together owe together: a tenant can be ahead by what it had at work, never for long.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tonic::metadata::MetadataMap;

use super::super::right::Right;
use super::settings::{Rates, UNIT};

/// A line for a tenant this often says enough.
const TOLD: Quota = Quota::per_minute(NonZeroU32::MIN);

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// How much of a limit is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// How many requests a second are allowed, and how many at once (`X-RateLimit-Limit`).
    pub limit: u32,
    /// How many could come now (`X-RateLimit-Remaining`).
    pub remaining: u32,
    /// When all of them could (`X-RateLimit-Reset`, in seconds).
    pub reset: Duration,
}

impl Standing {
    /// Tells the client, over HTTP as headers of the same names.
    pub(in crate::api) fn write(self, metadata: &mut MetadataMap) {
        let reset = self.reset.as_millis().div_ceil(1000);
        for (name, value) in [
            ("x-ratelimit-limit", self.limit),
            ("x-ratelimit-remaining", self.remaining),
            (
                "x-ratelimit-reset",
                u32::try_from(reset).unwrap_or(u32::MAX),
            ),
        ] {
            metadata.insert(name, value.into());
        }
    }
}

/// A tenant asked for more than it may.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the tenant's limit of {limit} {what} in a second is used up; retry after {} ms", retry_after.as_millis())]
pub struct Exceeded {
    /// What of: "reads", "writes" or "bytes".
    pub what: &'static str,
    /// So much is allowed.
    pub limit: u64,
    /// When to come again.
    pub retry_after: Duration,
    /// For headers.
    pub standing: Standing,
}

pub(super) struct Buckets {
    reads: Option<Limiter>,
    writes: Option<Limiter>,
    bytes: Option<Limiter>,
    bytes_per_second: u64,
    owed: AtomicU64,
    /// How often it may be logged that the tenant asks for more.
    told: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
}

impl Buckets {
    pub(super) fn new(rates: Rates) -> Self {
        let units = rates.bytes.div_ceil(UNIT).min(u64::from(u32::MAX));
        Self {
            reads: limiter(rates.reads),
            writes: limiter(rates.writes),
            bytes: limiter(u32::try_from(units).unwrap_or(u32::MAX)),
            bytes_per_second: rates.bytes,
            owed: AtomicU64::new(0),
            told: RateLimiter::direct(TOLD),
        }
    }

    /// Takes a request and its bytes out.
    pub(super) fn take(&self, right: Right, bytes: usize) -> Result<Option<Standing>, Exceeded> {
        let (requests, what) = match right {
            Right::Write => (&self.writes, "writes"),
            _ => (&self.reads, "reads"),
        };
        let standing = match requests {
            None => None,
            Some(limiter) => {
                let taken = limiter.check();
                Some(taken.map(|left| standing(&left)).map_err(|until| {
                    let limit = until.quota().burst_size().get().into();
                    exceeded(what, limit, &until)
                })?)
            }
        };
        if let Some(limiter) = &self.bytes {
            self.pay(limiter)?;
            self.owe(bytes);
        }
        Ok(standing)
    }

    /// Whether it is time to tell again that the tenant asks for more than it may.
    pub(super) fn is_to_be_told(&self) -> bool {
        self.told.check().is_ok()
    }

    /// Owes so many bytes more.
    pub(super) fn owe(&self, bytes: usize) {
        if self.bytes.is_some() {
            self.owed.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Pays all that is owed but a rest of less than a unit; who can't, has to come again.
    fn pay(&self, limiter: &Limiter) -> Result<(), Exceeded> {
        loop {
            let owed = self.owed.swap(0, Ordering::Relaxed);
            let Some(units) = NonZeroU32::new(u32::try_from(owed / UNIT).unwrap_or(u32::MAX))
            else {
                self.owed.fetch_add(owed, Ordering::Relaxed);
                return Ok(());
            };
            let mut now = units;
            let taken = loop {
                match limiter.check_n(now) {
                    Ok(taken) => break taken,
                    Err(too_many) => now = NonZeroU32::new(too_many.0).unwrap_or(NonZeroU32::MIN),
                }
            };
            match taken {
                Ok(_) => self
                    .owed
                    .fetch_add(owed - u64::from(now.get()) * UNIT, Ordering::Relaxed),
                Err(until) => {
                    self.owed.fetch_add(owed, Ordering::Relaxed);
                    return Err(exceeded("bytes", self.bytes_per_second, &until));
                }
            };
        }
    }
}

fn limiter(per_second: u32) -> Option<Limiter> {
    let quota = Quota::per_second(NonZeroU32::new(per_second)?);
    Some(RateLimiter::direct(quota).with_middleware())
}

type Until = governor::NotUntil<<DefaultClock as Clock>::Instant>;

fn exceeded(what: &'static str, limit: u64, until: &Until) -> Exceeded {
    let retry_after = until.wait_time_from(DefaultClock::default().now());
    Exceeded {
        what,
        limit,
        retry_after: retry_after.max(Duration::from_millis(1)),
        standing: Standing {
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            remaining: 0,
            reset: retry_after + Duration::from_secs(1),
        },
    }
}

fn standing(left: &governor::middleware::StateSnapshot) -> Standing {
    let (quota, remaining) = (left.quota(), left.remaining_burst_capacity());
    let limit = quota.burst_size().get();
    Standing {
        limit,
        remaining,
        reset: quota.replenish_interval() * limit.saturating_sub(remaining),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(reads: u32, bytes: u64) -> Buckets {
        Buckets::new(Rates {
            reads,
            writes: 0,
            bytes,
        })
    }

    #[test]
    fn what_is_left_is_told() {
        let buckets = buckets(10, 0);
        let first = buckets.take(Right::Read, 0).unwrap().unwrap();
        assert_eq!((first.limit, first.remaining), (10, 9));
        assert!(first.reset <= Duration::from_millis(100));
        for _ in 0..9 {
            buckets.take(Right::Read, 0).unwrap();
        }
        let exceeded = buckets.take(Right::Read, 0).unwrap_err();
        assert_eq!((exceeded.what, exceeded.limit), ("reads", 10));
        assert!(
            exceeded.retry_after <= Duration::from_millis(100),
            "{exceeded:?}"
        );
        assert_eq!(exceeded.standing.remaining, 0);
        assert_eq!(buckets.take(Right::Write, 0), Ok(None));
    }

    #[test]
    fn every_byte_is_paid_for_if_need_be_by_later_requests() {
        let buckets = buckets(0, 64_000);
        // Ten seconds' worth at once: let in, and then nobody for about nine.
        buckets.take(Right::Write, 640_000).unwrap();
        let exceeded = buckets.take(Right::Read, 0).unwrap_err();
        assert_eq!((exceeded.what, exceeded.limit), ("bytes", 64_000));
        let owed = buckets.owed.load(Ordering::Relaxed);
        assert!(
            (500_000..=576_000).contains(&owed),
            "one second's worth was paid: {owed}"
        );
        assert!(buckets.take(Right::Write, 0).is_err());
    }

    #[test]
    fn answers_are_owed_and_small_ones_add_up() {
        let buckets = buckets(0, 6_400);
        for _ in 0..1000 {
            if buckets.take(Right::Read, 0).is_err() {
                return;
            }
            buckets.owe(63);
        }
        panic!("63 000 bytes were read where 6 400 in a second are allowed");
    }
}
