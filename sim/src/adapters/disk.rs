//! A disk that loses, when the power fails, what it was not made to keep.
//!
//! Commits become durable in the order in which they were made. A crash keeps a prefix of those that were on their way
//! and loses the rest: the engine's journal has a checksum for each batch, so of a batch that was torn by the crash
//! nothing survives, nor of any after it. The disk outlives the process and is handed to its next life.
//!
//! A disk may also lose the last of what was durable, as when a journal is damaged and is cut off there: then it is in
//! doubt, until something durable is on top of what is left. And it may fail: then it takes nothing more until it is
//! opened again, and only then it shows what became of the commits that failed.
//!
//! What this is not: a model of bytes and sectors. That the engine keeps what its journal promises is tested on the
//! engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use madsim::runtime::NodeHandle;
use pairdb::ports::{Batch, Durability, Proof, Put, RecordKey, Space, StorageEngine, StorageError};
use pairdb::version::{Record, VersionVector};

use crate::endpoint::Endpoint;
use crate::faults::Faults;
use crate::pause::pause;
use crate::recorder::Recorder;
use crate::rng::Rng;
use crate::world::DiskPlan;

/// The disk of one machine. Copies are the same disk.
#[derive(Clone)]
pub struct Disk {
    who: Endpoint,
    plan: Arc<DiskPlan>,
    faults: Faults,
    recorder: Recorder,
    watch: Arc<OnceLock<PurgeWatch>>,
    state: Arc<Mutex<State>>,
}

/// Who looks on when a record is removed: the key, what was there, and what else is known of it.
pub type PurgeWatch = Box<dyn Fn(&Bytes, &Bytes, Removal) + Send + Sync>;

/// How a record was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// It is not there any more, or a new one is in its place. `owed`: a hint about it is there.
    Seen {
        /// Whether somebody is owed the record.
        owed: bool,
    },
    /// Perhaps: the commit purged something of its tree that covers it, and by the end of the commit others have
    /// brought the record all that it had seen again.
    Perhaps,
}

/// So many of the last durable commits can be lost.
const UNDO_MAX: usize = 64;

/// A disk that is stuck looks again after this time.
const STUCK_PAUSE: Duration = Duration::from_millis(20);

type Maps = BTreeMap<Space, BTreeMap<Bytes, Bytes>>;

struct State {
    rng: Rng,
    /// What survives.
    durable: Maps,
    /// What is read.
    visible: Maps,
    /// Visible, not durable.
    unsynced: VecDeque<Batch>,
    /// Not even visible, numbered in the order of their commits.
    pending: VecDeque<(u64, Batch)>,
    commits: u64,
    /// What takes back the last durable commits, the last one last.
    undo: VecDeque<Batch>,
    /// Something durable was lost, and nothing was committed since.
    in_doubt: bool,
    /// The power failed, and nothing was committed since.
    had_no_power: bool,
    /// A commit failed, and it was not opened again since.
    failed: bool,
    /// A snapshot of what was durable, if one was taken.
    copy: Maps,
}

/// What a crash took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Commits that had completed.
    pub completed: usize,
    /// Commits that had not.
    pub under_way: usize,
    /// Commits under way that survived all the same.
    pub kept: usize,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(
        who: Endpoint,
        plan: DiskPlan,
        faults: Faults,
        rng: Rng,
        recorder: Recorder,
    ) -> Self {
        let state = State {
            rng,
            durable: Maps::new(),
            visible: Maps::new(),
            unsynced: VecDeque::new(),
            pending: VecDeque::new(),
            commits: 0,
            undo: VecDeque::new(),
            in_doubt: false,
            had_no_power: false,
            failed: false,
            copy: Maps::new(),
        };
        Self {
            who,
            plan: Arc::new(plan),
            faults,
            recorder,
            watch: Arc::default(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// From now on `watch` is told of every record that is removed. It must not look at this disk.
    pub fn watch(&self, watch: PurgeWatch) {
        let _ = self.watch.set(watch); // the first one stays
    }

    /// Every key and value of a space, as they are read now.
    #[must_use]
    pub fn contents(&self, space: Space) -> BTreeMap<Bytes, Bytes> {
        let state = self.state();
        state.visible.get(&space).cloned().unwrap_or_default()
    }

    /// The value of one key, as it is read now.
    #[must_use]
    pub fn get(&self, space: Space, key: &Bytes) -> Option<Bytes> {
        self.state().visible.get(&space)?.get(key).cloned()
    }

    /// All digests are lost, as if there never were any.
    pub fn lose_digests(&self) {
        let mut state = self.state();
        let state = &mut *state;
        for maps in [&mut state.visible, &mut state.durable] {
            maps.remove(&Space::Digests);
            if let Some(meta) = maps.get_mut(&Space::Meta) {
                meta.remove(&Bytes::from_static(b"digested"));
            }
        }
    }

    /// The disk as a process sees it that lives on `node`.
    #[must_use]
    pub fn mount(&self, node: &NodeHandle) -> SimDisk {
        if let Some(interval_ms) = self.plan.sync_interval_ms {
            let disk = self.clone();
            drop(node.spawn(async move {
                loop {
                    pause(Duration::from_millis(interval_ms)).await;
                    disk.state().make_durable();
                }
            }));
        }
        SimDisk {
            disk: self.clone(),
            node: node.clone(),
        }
    }

    /// The power fails: a prefix of what was not durable survives.
    pub fn crash(&self) -> Loss {
        let mut state = self.state();
        let completed = state.unsynced.len();
        let total = completed + state.pending.len();
        let keep = state.rng.between(0, total as u64) as usize;
        self.keep(&mut state, keep);
        state.failed = false;
        state.had_no_power = true;
        state.visible = state.durable.clone();
        self.recorder
            .shows(self.who, state.visible.get(&Space::Records));
        Loss {
            completed: completed.saturating_sub(keep),
            under_way: total - keep.max(completed),
            kept: keep.saturating_sub(completed),
        }
    }

    /// Of what is not durable the first `keep` commits become so, and the others never were.
    fn keep(&self, state: &mut State, keep: usize) {
        let completed = state.unsynced.len();
        let pending = std::mem::take(&mut state.pending);
        state
            .unsynced
            .extend(pending.into_iter().map(|(_, batch)| batch));
        state.unsynced.truncate(keep);
        // What was on its way and survives becomes visible now, one after the other.
        let kept: Vec<Batch> = state.unsynced.iter().skip(completed).cloned().collect();
        let purged: Vec<Purged> = kept.iter().flatten().filter_map(Purged::read).collect();
        for put in kept.into_iter().flatten() {
            self.look_on(state, &put, &purged);
            apply(&mut state.visible, vec![put]);
        }
        state.make_durable();
    }

    /// The power failed, and then the last durable commits are gone, `most` of them. Returns how many.
    pub fn lose_durable(&self, most: u32) -> usize {
        let mut state = self.state();
        let lost = state.undo.len().min(most as usize);
        for _ in 0..lost {
            let batch = state.undo.pop_back().unwrap_or_default();
            apply(&mut state.durable, batch);
        }
        state.in_doubt |= lost > 0;
        state.visible = state.durable.clone();
        self.recorder
            .shows(self.who, state.visible.get(&Space::Records));
        lost
    }

    /// The process ends, the machine doesn't: only what was not even visible can get lost.
    pub fn process_ended(&self) -> Loss {
        self.state().make_durable();
        let loss = self.crash();
        self.state().had_no_power = false;
        loss
    }

    /// Flips a bit of one of the stored records whose keys `may_be` says, if there is one. Returns which.
    pub fn corrupt(&self, may_be: impl Fn(&Bytes) -> bool) -> Option<Bytes> {
        let mut state = self.state();
        let state = &mut *state;
        let records = state.visible.get(&Space::Records)?;
        let records: Vec<(Bytes, Bytes)> = records
            .iter()
            .filter(|(key, _)| may_be(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let at = state.rng.below(records.len() as u64) as usize;
        let (key, value) = records.into_iter().nth(at)?;
        let bit = state.rng.below(8 * value.len() as u64) as usize;
        let mut bytes = value.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let put = |value: Bytes| Put {
            space: Space::Records,
            key: key.clone(),
            value: Some(value),
        };
        apply(&mut state.visible, vec![put(bytes.clone().into())]);
        // What is not durable yet will be as it was; it is the platter that is bad.
        let is_durable = state
            .durable
            .get(&Space::Records)
            .is_some_and(|records| records.contains_key(&key));
        if is_durable {
            apply(&mut state.durable, vec![put(bytes.into())]);
        }
        Some(key)
    }

    /// An empty disk takes the place of this one.
    pub fn replace(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.unsynced.clear();
        state.durable.clear();
        state.visible.clear();
        state.undo.clear();
        state.in_doubt = false;
        state.failed = false;
        self.recorder.shows(self.who, None);
    }

    /// A snapshot is taken of what is durable.
    pub fn copy(&self) {
        let mut state = self.state();
        state.copy = state.durable.clone();
    }

    /// The snapshot takes the place of what is there. It is whole, so it looks as it did then.
    pub fn go_back(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.unsynced.clear();
        state.undo.clear();
        state.durable = state.copy.clone();
        state.visible = state.copy.clone();
        state.in_doubt = false;
        state.had_no_power = true;
        state.failed = false;
        self.recorder
            .shows(self.who, state.visible.get(&Space::Records));
    }

    /// Every commit up to this number becomes visible, and durable if `sync`.
    fn complete(&self, number: u64, sync: bool) {
        let mut state = self.state();
        let purged: Vec<Purged> = state.completes(number).filter_map(Purged::read).collect();
        for put in state.completes(number) {
            self.look_on(&state, put, &purged);
            if put.space == Space::Records {
                self.recorder.stored(self.who, &put.key, put.value.as_ref());
            }
        }
        state.complete(number, sync);
    }

    /// Tells of a record that is about to be removed, be it that the same commit has a new one in its place.
    fn look_on(&self, state: &State, put: &Put, purged: &[Purged]) {
        let records = state.visible.get(&Space::Records);
        if put.space == Space::Records
            && let Some(watch) = self.watch.get()
            && let Some(old) = records.and_then(|records| records.get(&put.key))
        {
            if goes_on(old, put.value.as_ref()) {
                if purged.iter().any(|purged| purged.may_be(&put.key, old)) {
                    watch(&put.key, old, Removal::Perhaps);
                }
                return;
            }
            let hints = state.visible.get(&Space::Hints);
            let owed = |hint: &Bytes| hint.ends_with(&put.key);
            let owed = hints.is_some_and(|hints| hints.keys().any(owed));
            watch(&put.key, old, Removal::Seen { owed });
        }
    }

    fn delay(&self, us_min: u64, us_max: u64) -> Duration {
        let late_ms_max = self.faults.disk_late_ms_max(self.who);
        let mut state = self.state();
        let us = state.rng.between(us_min, us_max) + state.rng.between(0, late_ms_max * 1_000);
        Duration::from_micros(us)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a commit notes as purged of a tree.
struct Purged {
    tree: Bytes,
    seen: VersionVector,
}

impl Purged {
    fn read(put: &Put) -> Option<Self> {
        let tree = put.key.strip_prefix(b"purged ")?;
        let value = put.value.as_ref()?;
        let record = Record::decode(value.slice(8.min(value.len())..)).ok()?;
        (put.space == Space::Meta).then(|| Self {
            tree: Bytes::copy_from_slice(tree),
            seen: record.seen().clone(),
        })
    }

    /// Whether this record of a deleted key may be among it.
    fn may_be(&self, key: &Bytes, old: &Bytes) -> bool {
        let old = Record::decode(old.clone()).unwrap_or_default();
        let name = RecordKey::from_bytes(key.clone());
        name.is_ok_and(|name| name.tree().as_bytes() == &self.tree)
            && old.is_deleted()
            && self.seen.descends(old.seen())
    }
}

/// Whether a record goes on in the next one. What is not deleted can't be purged: there is no need to look.
fn goes_on(old: &Bytes, new: Option<&Bytes>) -> bool {
    let Some(new) = new else {
        return false;
    };
    let record = |bytes: &Bytes| Record::decode(bytes.clone()).unwrap_or_default();
    let old = record(old);
    !old.is_deleted() || record(new).seen().descends(old.seen())
}

impl State {
    fn make_durable(&mut self) {
        for batch in std::mem::take(&mut self.unsynced) {
            let before = |put: &Put| Put {
                space: put.space,
                key: put.key.clone(),
                value: self
                    .durable
                    .get(&put.space)
                    .and_then(|map| map.get(&put.key))
                    .cloned(),
            };
            let mut undo: Batch = batch.iter().map(before).collect();
            undo.reverse();
            self.undo.push_back(undo);
            if self.undo.len() > UNDO_MAX {
                self.undo.pop_front();
            }
            self.in_doubt = false;
            self.had_no_power = false;
            apply(&mut self.durable, batch);
        }
    }

    /// What the commits up to this number change, in order.
    fn completes(&self, number: u64) -> impl Iterator<Item = &Put> {
        let commits = self.pending.iter().take_while(move |(n, _)| *n <= number);
        commits.flat_map(|(_, batch)| batch)
    }

    /// They become visible, and durable if `sync`.
    fn complete(&mut self, number: u64, sync: bool) {
        while self.pending.front().is_some_and(|(n, _)| *n <= number) {
            let Some((_, batch)) = self.pending.pop_front() else {
                break;
            };
            apply(&mut self.visible, batch.clone());
            self.unsynced.push_back(batch);
        }
        if sync {
            self.make_durable();
        }
    }
}

fn apply(maps: &mut Maps, batch: Batch) {
    for put in batch {
        let map = maps.entry(put.space).or_default();
        match put.value {
            Some(value) => map.insert(put.key, value),
            None => map.remove(&put.key),
        };
    }
}

/// A disk in the hands of one life of a process.
#[derive(Clone)]
pub struct SimDisk {
    disk: Disk,
    node: NodeHandle,
}

impl StorageEngine for SimDisk {
    fn durability(&self) -> Durability {
        match self.disk.plan.sync_interval_ms {
            Some(_) => Durability::Interval,
            None => Durability::Always,
        }
    }

    async fn read(
        &self,
        space: Space,
        keys: Vec<Bytes>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        pause(self.disk.delay(0, self.disk.plan.read_us_max)).await;
        let state = self.disk.state();
        let map = state.visible.get(&space);
        let value = |key: &Bytes| map.and_then(|map| map.get(key)).cloned();
        Ok(keys.iter().map(value).collect())
    }

    async fn scan(
        &self,
        space: Space,
        from: Bytes,
        to: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        pause(self.disk.delay(0, self.disk.plan.read_us_max)).await;
        let state = self.disk.state();
        let Some(map) = state.visible.get(&space) else {
            return Ok(Vec::new());
        };
        let before_end = |key: &Bytes| to.as_ref().is_none_or(|to| key < to);
        let pairs = map
            .range(from..)
            .take_while(|(key, _)| before_end(key))
            .take(limit);
        Ok(pairs.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        if self.disk.state().failed {
            return Err(StorageError::Failed("simulated".into()));
        }
        if self.disk.faults.disk_full(self.disk.who) {
            pause(self.disk.delay(0, self.disk.plan.read_us_max)).await;
            return Err(StorageError::Full("simulated".into()));
        }
        if self.disk.faults.disk_failing(self.disk.who) {
            // It may be there once it was opened again, or not.
            let mut state = self.disk.state();
            state.failed = true;
            state.commits += 1;
            let number = state.commits;
            state.pending.push_back((number, batch));
            return Err(StorageError::Failed("simulated".into()));
        }
        let plan = &self.disk.plan;
        let delay = match plan.sync_interval_ms {
            Some(_) => self.disk.delay(1, 100),
            None => self.disk.delay(plan.commit_us_min, plan.commit_us_max),
        };
        let number = {
            let mut state = self.disk.state();
            state.commits += 1;
            let number = state.commits;
            state.pending.push_back((number, batch));
            number
        };
        // The engine's own thread: a caller that goes away does not take the commit back.
        let (done, is_done) = oneshot::channel();
        let disk = self.disk.clone();
        drop(self.node.spawn(async move {
            pause(delay).await;
            while disk.faults.disk_stuck(disk.who) {
                pause(STUCK_PAUSE).await;
            }
            let sync = disk.plan.sync_interval_ms.is_none();
            disk.complete(number, sync);
            let _ = done.send(());
        }));
        is_done
            .await
            .map_err(|_| StorageError::Failed("the engine is gone".into()))
    }

    async fn sync(&self) -> Result<(), StorageError> {
        if self.disk.state().failed {
            return Err(StorageError::Failed("simulated".into()));
        }
        let plan = &self.disk.plan;
        let number = self.disk.state().commits;
        pause(self.disk.delay(plan.commit_us_min, plan.commit_us_max)).await;
        self.disk.complete(number, true);
        Ok(())
    }

    fn proof(&self) -> Proof {
        let state = self.disk.state();
        match (state.in_doubt, state.had_no_power) {
            (true, _) => Proof::Lacking("simulated".into()),
            (false, true) => Proof::Synced,
            (false, false) => Proof::Whole,
        }
    }

    async fn reopen(&self) -> Result<(), StorageError> {
        pause(self.disk.delay(0, self.disk.plan.read_us_max)).await;
        let who = self.disk.who;
        if self.disk.faults.disk_full(who) || self.disk.faults.disk_failing(who) {
            return Err(StorageError::Failed("simulated".into()));
        }
        let mut state = self.disk.state();
        if state.failed {
            let completed = state.unsynced.len();
            let under_way = state.pending.len() as u64;
            let kept = state.rng.between(0, under_way) as usize;
            self.disk.keep(&mut state, completed + kept);
            state.failed = false;
            let records = state.visible.get(&Space::Records);
            self.disk.recorder.shows(who, records);
        }
        Ok(())
    }

    async fn approximate_count(&self, space: Space) -> Result<u64, StorageError> {
        pause(self.disk.delay(0, self.disk.plan.read_us_max)).await;
        let state = self.disk.state();
        Ok(state.visible.get(&space).map_or(0, BTreeMap::len) as u64)
    }
}
