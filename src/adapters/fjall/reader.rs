//! A thread that reads.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use bytes::Bytes;
use fjall::{Readable, Slice};
use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;

use super::committer::KEY_LEN_MAX;
use super::engine::{Engine, Place};
use super::error;
use super::jobs::{AbandonOnPanic, Jobs};
use crate::ports::{Space, StorageError};

/// Values of at least this length are handed out as they lie in the engine's memory; smaller ones are copied, so that
/// they don't keep the block they lie in.
const SHARE_LEN_MIN: usize = 16 * 1024;

type Answer<T> = oneshot::Sender<Result<T, StorageError>>;
type Pairs = Vec<(Bytes, Bytes)>;

pub(super) enum Query {
    Read {
        space: Space,
        keys: Vec<Bytes>,
        answer: Answer<Vec<Option<Bytes>>>,
        _place: OwnedSemaphorePermit,
    },
    Scan {
        space: Space,
        from: Bytes,
        to: Option<Bytes>,
        limit: usize,
        answer: Answer<Pairs>,
        _place: OwnedSemaphorePermit,
    },
    Count {
        space: Space,
        answer: Answer<u64>,
        _place: OwnedSemaphorePermit,
    },
    /// What a bug in the engine would do.
    #[cfg(test)]
    Panic {
        _answer: Answer<()>,
        _place: OwnedSemaphorePermit,
    },
}

pub(super) struct Reader {
    place: Place,
}

impl Reader {
    pub(super) const fn new(place: Place) -> Self {
        Self { place }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(self, queries: &Jobs<Query>) {
        let _guard = AbandonOnPanic(queries);
        while let Some(query) = queries.take_one() {
            // Nothing of the engine is changed by reading, so nothing is left half done; the query's caller is told.
            if catch_unwind(AssertUnwindSafe(|| self.answer(query))).is_err() {
                tracing::error!("the storage engine panicked while it read");
            }
        }
    }

    /// Nobody waits for an answer that can't be sent.
    fn answer(&self, query: Query) {
        match query {
            Query::Read {
                space,
                keys,
                answer,
                ..
            } => drop(answer.send(self.ask(|engine| engine.read(space, &keys)))),
            Query::Scan {
                space,
                from,
                to,
                limit,
                answer,
                ..
            } => {
                drop(answer.send(self.ask(|engine| engine.scan(space, from, to, limit))));
            }
            Query::Count { space, answer, .. } => {
                drop(answer.send(self.ask(|engine| engine.count(space))))
            }
            #[cfg(test)]
            Query::Panic { .. } => panic!("on purpose"),
        }
    }

    fn ask<T>(&self, query: impl FnOnce(&Engine) -> fjall::Result<T>) -> Result<T, StorageError> {
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
        let engine = place
            .as_ref()
            .ok_or_else(|| StorageError::Failed("it could not be opened again yet".into()))?;
        query(engine).map_err(|error| error::failed(&error))
    }
}

impl Engine {
    /// From one snapshot, so that a commit is seen whole or not at all.
    fn read(&self, space: Space, keys: &[Bytes]) -> fjall::Result<Vec<Option<Bytes>>> {
        let keyspace = self.keyspace(space);
        let snapshot = self.database.snapshot();
        keys.iter()
            .map(|key| {
                if key.is_empty() || key.len() > KEY_LEN_MAX {
                    Ok(None) // there can be none
                } else {
                    Ok(snapshot.get(keyspace, key)?.map(bytes))
                }
            })
            .collect()
    }

    fn scan(
        &self,
        space: Space,
        from: Bytes,
        to: Option<Bytes>,
        limit: usize,
    ) -> fjall::Result<Pairs> {
        if to.as_ref().is_some_and(|to| *to <= from) {
            return Ok(Vec::new());
        }
        let from = bound(from, Bound::Included, Bound::Excluded);
        let to = to.map(|to| bound(to, Bound::Excluded, Bound::Included));
        let range = (from, to.unwrap_or(Bound::Unbounded));
        let pairs = self
            .database
            .snapshot()
            .range(self.keyspace(space), range)
            .take(limit);
        pairs
            .map(|pair| {
                let (key, value) = pair.into_inner()?;
                Ok((bytes(key), bytes(value)))
            })
            .collect()
    }

    fn count(&self, space: Space) -> fjall::Result<u64> {
        let keyspace = self.keyspace(space);
        if self.somewhere.is_empty(space, keyspace)? {
            Ok(0)
        } else {
            Ok((keyspace.approximate_len() as u64).max(1))
        }
    }
}

/// `as_is` this key; or, if it is longer than any key there is and more than the engine bears, `cut` at the longest key
/// that it begins with.
fn bound(
    key: Bytes,
    as_is: fn(Bytes) -> Bound<Bytes>,
    cut: fn(Bytes) -> Bound<Bytes>,
) -> Bound<Bytes> {
    match key.len() > KEY_LEN_MAX {
        true => cut(key.slice(..KEY_LEN_MAX)),
        false => as_is(key),
    }
}

fn bytes(slice: Slice) -> Bytes {
    if slice.len() < SHARE_LEN_MIN {
        Bytes::copy_from_slice(&slice)
    } else {
        Bytes::from_owner(slice)
    }
}
