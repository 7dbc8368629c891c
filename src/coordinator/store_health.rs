//! Whether a store does what it is asked for, as far as is known; told in the log when that changes.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::ports::StoreError;

/// One store's. Well until it refuses.
#[derive(Debug, Default)]
pub(super) struct StoreHealth {
    refuses: AtomicBool,
}

impl StoreHealth {
    /// It was asked something. That a request's deadline passed says nothing of the store.
    pub(super) fn note<T>(&self, outcome: &Result<T, StoreError>) {
        if matches!(outcome, Err(StoreError::Late { .. })) {
            return;
        }
        let refused = self.refuses.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !refused => tracing::warn!(%error, "a store takes no changes"),
            Ok(_) if refused => tracing::info!("a store takes changes again"),
            _ => {}
        }
    }

    /// Whether it did what it was asked for last.
    pub(super) fn is_well(&self) -> bool {
        !self.refuses.load(Ordering::Relaxed)
    }
}
