//! An epoch that storage nodes know and the metadata store does not, and since when.
//!
//! Whoever changes the topology has nodes promise an epoch before it is published, so for a moment that is as it should
//! be. Only one that stands for longer was left behind by somebody who died, or was lost by the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::placement::Epoch;
use crate::ports::Instant;

/// The one seen last.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Option<(Epoch, Instant)>>);

impl Ahead {
    /// It is seen now: whether it has been for `long`.
    pub(super) fn has_stood(&self, epoch: Epoch, now: Instant, long: Duration) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((known, since)) if known == epoch => now.since(since) >= long,
            _ => {
                *seen = Some((epoch, now));
                false
            }
        }
    }

    /// There is none.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_stands_from_when_it_was_first_seen() {
        let second = Duration::from_secs(1);
        let at = |seconds: u32| Instant(0) + second * seconds;
        let ahead = Ahead::default();
        assert!(!ahead.has_stood(Epoch(2), at(0), second * 2));
        assert!(!ahead.has_stood(Epoch(2), at(1), second * 2));
        assert!(ahead.has_stood(Epoch(2), at(2), second * 2));
        assert!(!ahead.has_stood(Epoch(3), at(2), second * 2), "another one");
        ahead.forget();
        assert!(!ahead.has_stood(Epoch(3), at(9), second * 2), "anew");
    }
}
