//! A storage engine in memory, for tests and for nodes that need not outlive their process.
//!
//! Hooks make it fail, fill up, wait, and lose what was not synced, so that everything above can be tested for what a
//! disk does.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::channel::oneshot;

use crate::ports::{Batch, Durability, Proof, Space, StorageEngine, StorageError};

/// Maps behind a lock. Copies share them.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    durability: Durability,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    visible: Spaces,
    /// What a crash leaves; kept up only under [`Durability::Interval`].
    synced: Spaces,
    refusal: Option<StorageError>,
    /// Failed, and not opened again since.
    failed: Option<StorageError>,
    doubts: Option<String>,
    answers_lost: bool,
    /// Took effect, and will be seen when it is opened again.
    unseen: Vec<Batch>,
    held: Option<Vec<oneshot::Sender<()>>>,
    commits: u64,
    syncs: u64,
}

type Spaces = [BTreeMap<Bytes, Bytes>; Space::ALL.len()];

impl MemoryStorage {
    /// An empty engine.
    #[must_use]
    pub fn new(durability: Durability) -> Self {
        Self {
            durability,
            state: Arc::default(),
        }
    }

    /// The same data under another durability, as after a restart with other settings.
    #[must_use]
    pub fn reopened(&self, durability: Durability) -> Self {
        let state = {
            let state = self.state();
            State {
                visible: state.visible.clone(),
                synced: state.visible.clone(),
                ..State::default()
            }
        };
        Self {
            durability,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What is left after the loss of power: without what was never synced.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let kept = match self.durability {
            Durability::Always => self.state().visible.clone(),
            Durability::Interval => self.state().synced.clone(),
        };
        let state = State {
            visible: kept.clone(),
            synced: kept,
            ..State::default()
        };
        Self {
            durability: self.durability,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// From now on commits fail like this, without effect; `None`: they work again.
    pub fn refuse_commits(&self, refusal: Option<StorageError>) {
        self.state().refusal = refusal;
    }

    /// From now on commits fail after they took effect, until it is opened again after this has ended; what they
    /// changed is seen only then.
    pub fn lose_answers(&self, lost: bool) {
        self.state().answers_lost = lost;
    }

    /// From now on it can't be said that all is there that was acknowledged.
    pub fn raise_doubts(&self, why: &str) {
        self.state().doubts = Some(why.into());
    }

    /// From now on commits wait until [`MemoryStorage::release_commits`].
    pub fn hold_commits(&self) {
        self.state().held.get_or_insert_default();
    }

    /// Ends [`MemoryStorage::hold_commits`].
    pub fn release_commits(&self) {
        let waiting = self.state().held.take();
        for commit in waiting.into_iter().flatten() {
            let _ = commit.send(()); // nobody there: the commit was given up
        }
    }

    /// How many commits took effect.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    /// How many syncs were asked for.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        let waiting = state.held.as_mut()?;
        let (release, released) = oneshot::channel();
        waiting.push(release);
        Some(released)
    }
}

impl StorageEngine for MemoryStorage {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn read(
        &self,
        space: Space,
        keys: Vec<Bytes>,
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, StorageError>> + Send {
        let state = self.state();
        let map = &state.visible[index(space)];
        let values = keys.iter().map(|key| map.get(key).cloned()).collect();
        drop(state);
        async move { Ok(values) }
    }

    fn scan(
        &self,
        space: Space,
        from: Bytes,
        to: Option<Bytes>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Bytes, Bytes)>, StorageError>> + Send {
        let pairs = match to {
            Some(to) if to <= from => Vec::new(),
            to => {
                let to = to.map_or(Bound::Unbounded, Bound::Excluded);
                let state = self.state();
                let range = state.visible[index(space)].range((Bound::Included(from), to));
                range
                    .take(limit)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            }
        };
        async move { Ok(pairs) }
    }

    async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        if let Some(released) = self.held() {
            let _ = released.await; // the engine went away while it was held: commit all the same
        }
        let mut state = self.state();
        state.check()?;
        state.commits += 1;
        if state.answers_lost {
            let failed = StorageError::Failed("its answer was lost".into());
            state.failed = Some(failed.clone());
            state.unseen.push(batch);
            return Err(failed);
        }
        if self.durability == Durability::Always {
            state.doubts = None;
        }
        state.apply(batch);
        Ok(())
    }

    async fn sync(&self) -> Result<(), StorageError> {
        let mut state = self.state();
        state.check()?;
        state.syncs += 1;
        state.doubts = None;
        if self.durability == Durability::Interval {
            state.synced = state.visible.clone();
        }
        Ok(())
    }

    fn proof(&self) -> Proof {
        match &self.state().doubts {
            Some(why) => Proof::Lacking(why.clone()),
            None => Proof::Synced,
        }
    }

    async fn reopen(&self) -> Result<(), StorageError> {
        let mut state = self.state();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        if state.answers_lost {
            return Err(StorageError::Failed("its answers are lost".into()));
        }
        state.failed = None;
        for batch in std::mem::take(&mut state.unseen) {
            state.apply(batch);
        }
        Ok(())
    }

    fn approximate_count(
        &self,
        space: Space,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send {
        let count = self.state().visible[index(space)].len() as u64;
        async move { Ok(count) }
    }
}

impl State {
    fn apply(&mut self, batch: Batch) {
        for put in batch {
            let map = &mut self.visible[index(put.space)];
            match put.value {
                Some(value) => map.insert(put.key, value),
                None => map.remove(&put.key),
            };
        }
    }

    /// An engine that failed once goes on failing until it is opened again.
    fn check(&mut self) -> Result<(), StorageError> {
        if let Some(failed @ StorageError::Failed(_)) = &self.refusal {
            self.failed = Some(failed.clone());
        }
        match self.failed.as_ref().or(self.refusal.as_ref()) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

const fn index(space: Space) -> usize {
    space as usize
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::ports::{Put, conformance};

    fn put(name: &'static str) -> Batch {
        vec![Put {
            space: Space::Records,
            key: name.into(),
            value: Some(name.into()),
        }]
    }

    #[tokio::test]
    async fn conforms() {
        for durability in [Durability::Always, Durability::Interval] {
            conformance::storage_engine(async || MemoryStorage::new(durability)).await;
            conformance::storage_engine_reopened(
                async || MemoryStorage::new(durability),
                async |engine: MemoryStorage| engine.after_crash(),
            )
            .await;
        }
    }

    #[tokio::test]
    async fn a_crash_loses_what_was_not_synced() {
        let engine = MemoryStorage::new(Durability::Interval);
        engine.commit(put("synced")).await.unwrap();
        engine.sync().await.unwrap();
        engine.commit(put("lost")).await.unwrap();
        let names = vec!["synced".into(), "lost".into()];
        let left = engine
            .after_crash()
            .read(Space::Records, names)
            .await
            .unwrap();
        assert_eq!(left, [Some("synced".into()), None]);
    }

    #[tokio::test]
    async fn refuses_and_holds_on_demand() {
        let engine = MemoryStorage::new(Durability::Always);
        let full = StorageError::Full("on purpose".into());
        engine.refuse_commits(Some(full.clone()));
        assert_eq!(engine.commit(put("a")).await, Err(full));
        engine.refuse_commits(None);

        engine.hold_commits();
        let mut commit = Box::pin(engine.commit(put("a")));
        assert!(commit.as_mut().now_or_never().is_none());
        assert_eq!(engine.approximate_count(Space::Records).await, Ok(0));
        engine.release_commits();
        commit.await.unwrap();
        assert_eq!(engine.approximate_count(Space::Records).await, Ok(1));
    }
}
