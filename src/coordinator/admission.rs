//! Admission: how many requests may be at work at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::CoordinatorError;
use crate::marks::{self, Mark};

/// Counts the requests at work, up to a bound.
#[derive(Debug)]
pub(super) struct Admission {
    in_flight: Arc<AtomicUsize>,
    in_flight_max: usize,
}

/// A request's place, free again when dropped.
#[derive(Debug)]
pub(super) struct Admitted(Arc<AtomicUsize>);

impl Admission {
    pub(super) fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight: Arc::default(),
            in_flight_max,
        }
    }

    /// Takes a place, or refuses at once: a request that waits for one is a request that is late.
    pub(super) fn enter(&self) -> Result<Admitted, CoordinatorError> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Admitted(Arc::clone(&self.in_flight));
        if before < self.in_flight_max {
            Ok(place)
        } else {
            marks::reached(Mark::AdmissionRefused);
            Err(CoordinatorError::Overloaded(format!(
                "{before} requests are at work already"
            )))
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_places_come_back() {
        let admission = Admission::new(2);
        let first = admission.enter().unwrap();
        let _second = admission.enter().unwrap();
        assert!(matches!(
            admission.enter(),
            Err(CoordinatorError::Overloaded(_))
        ));
        drop(first);
        assert!(admission.enter().is_ok());
        assert_eq!(admission.in_flight(), 1);
    }
}
