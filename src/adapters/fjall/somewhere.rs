//! Whether a keyspace is empty, asked again and again.
//!
//! The engine's own answer walks over all that was removed in front of the first key that is left, until that is
//! compacted away: after the first partitions of a node were dropped, each answer took milliseconds. So the key that
//! was found last is looked up first, and if it is gone, the next one is searched from there.

use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use fjall::{Guard, Keyspace, Slice};

use crate::ports::Space;

/// A key of each space that was there when it was asked last.
#[derive(Default)]
pub(super) struct Somewhere([Mutex<Option<Slice>>; Space::ALL.len()]);

impl Somewhere {
    /// Whether `keyspace`, which holds `space`, has no key.
    pub(super) fn is_empty(&self, space: Space, keyspace: &Keyspace) -> fjall::Result<bool> {
        let place = &self.0[space as usize];
        let known = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = &known
            && keyspace.contains_key(known)?
        {
            return Ok(false);
        }
        let behind = known.and_then(|known| {
            let behind = (Bound::Excluded(known), Bound::Unbounded);
            keyspace.range::<Slice, _>(behind).next()
        });
        let some = behind.or_else(|| keyspace.first_key_value());
        let some = some.map(Guard::key).transpose()?;
        let is_empty = some.is_none();
        *place.lock().unwrap_or_else(PoisonError::into_inner) = some;
        Ok(is_empty)
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    #[test]
    fn a_keyspace_is_empty_when_it_holds_nothing_before_or_behind_the_key_that_was_known() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::builder(directory.path()).open().unwrap();
        let keyspace = database
            .keyspace("records", KeyspaceCreateOptions::default)
            .unwrap();
        let somewhere = Somewhere::default();
        let is_empty = || somewhere.is_empty(Space::Records, &keyspace).unwrap();
        assert!(is_empty());
        for key in ["b", "c"] {
            keyspace.insert(key, "").unwrap();
        }
        assert!(!is_empty(), "b is there");
        keyspace.remove("b").unwrap();
        assert!(!is_empty(), "c is behind it");
        keyspace.insert("a", "").unwrap();
        keyspace.remove("c").unwrap();
        assert!(!is_empty(), "a is before it");
        keyspace.remove("a").unwrap();
        assert!(is_empty());
        keyspace.insert("d", "").unwrap();
        assert!(!is_empty());
    }
}
