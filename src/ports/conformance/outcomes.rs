//! What metadata stores answer, as suites expect it.

use std::fmt::Debug;

use crate::ports::{Change, StoreError};

/// Of changes made at the same time one was made, to what is stored, and the others were told so.
pub(super) fn exactly_one_made<T: PartialEq + Clone + Debug>(outcomes: &[Change<T>], stored: &T) {
    let made = outcomes
        .iter()
        .filter(|outcome| **outcome == Change::Made(stored.clone()))
        .count();
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == Change::Conflict(Some(stored.clone())))
        .count();
    assert_eq!((made, refused), (1, outcomes.len() - 1), "{outcomes:?}");
}

/// What a store answered that did not fail.
pub(super) fn ok<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error}"),
    }
}
