//! Keys with many unresolved siblings, as their tenant's limits say: counted, and told of in the log now and then.
//!
//! Siblings pile up when a client writes without the context of what it read. Nothing is refused here: that is for the
//! owner that accepts the write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ports::{Instant, RecordKey, SiblingLimits};
use crate::version::Record;

/// The log tells of one key in this time.
const QUIET: Duration = Duration::from_secs(10);

/// How often such keys were met.
#[derive(Debug, Default)]
pub(super) struct Crowded {
    met: AtomicU64,
    /// Nanoseconds of [`Instant`].
    quiet_until: AtomicU64,
}

impl Crowded {
    /// Looks at a record that was read or written.
    pub(super) fn look_at(
        &self,
        key: &RecordKey,
        record: &Record,
        limits: SiblingLimits,
        now: Instant,
    ) {
        if record.siblings().len() < usize::from(limits.warn) {
            return;
        }
        let siblings = record.shown_writes();
        if siblings < usize::from(limits.warn) {
            return;
        }
        self.met.fetch_add(1, Ordering::Relaxed);
        let until = self.quiet_until.load(Ordering::Relaxed);
        let then = (now + QUIET).0;
        let is_told = now.0 >= until
            && self
                .quiet_until
                .compare_exchange(until, then, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_told {
            tracing::warn!(
                tenant = key.tenant(),
                key = key.key(),
                siblings,
                refused_from = limits.max,
                "a key has many unresolved siblings: who writes it should read it and write with its context"
            );
        }
    }

    /// How often a key with many was read or written.
    pub(super) fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::placement::PartitionId;
    use crate::ports::TenantId;
    use crate::version::{Actor, Content, Dot, Stamp, Version, VersionVector, WriteId};

    fn record(siblings: u64) -> Record {
        let sibling = |n| Version {
            dot: Dot {
                actor: Actor(n),
                counter: 1,
            },
            stamp: Stamp(n),
            write_id: WriteId(n.into()),
            content: Content::Value(Bytes::from_static(b"v")),
        };
        (1..=siblings).fold(Record::default(), |record, n| {
            let mut seen = VersionVector::default();
            seen.advance(sibling(n).dot);
            record.join(&Record::new(seen, vec![sibling(n)]).unwrap())
        })
    }

    #[test]
    fn only_as_many_as_the_limit_says_are_counted() {
        let crowded = Crowded::default();
        let key = RecordKey::new(PartitionId(3), &TenantId::new("t").unwrap(), "k");
        let limits = SiblingLimits::new(3, 8).unwrap();
        for (siblings, met) in [(0, 0), (2, 0), (3, 1), (9, 2)] {
            crowded.look_at(&key, &record(siblings), limits, Instant(0));
            assert_eq!(crowded.met(), met, "{siblings} siblings");
        }
    }
}
