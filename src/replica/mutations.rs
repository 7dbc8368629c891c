//! The mutation loop: everything that changes the node, one batch after the other.
//!
//! When a commit fails, and as long as the disk is full, the loop tries again after a pause, whether anybody writes or
//! not. An engine that failed is opened again, and what the node knows of it is read again: what became of the commit,
//! and with it which counters and stamps were given out, which epochs are refused, and which hints are held, is told by
//! the engine only.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};

use super::batch::{Applied, Batch, Loaded};
use super::digested;
use super::fences::Asked;
use super::identity::Resumed;
use super::known::Known;
use super::leading::LeadingWrites;
use super::leaves::Leaves;
use super::ledger::Ledger;
use super::maintenance_change::MaintenanceChange;
use super::mutation::{Answer, Change, DroppedPage, Mutation};
use super::queue::EndsWithLoop;
use super::recent::RecentWrites;
use super::shared::Shared;
use super::slot::Slot;
use super::tombstones;
use super::{OpenError, ReplicaSettings};
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, NodeId};
use crate::ports::{
    Clock, Durability, Instant, JoinSource, KeyHash, Put, Random, RecordKey, Refusal, ReplicaWorld,
    Reply, Space, Spawn, StorageEngine, StorageError, TreeName,
};

pub(super) struct Loop<W> {
    pub(super) shared: Arc<Shared<W>>,
    settings: ReplicaSettings,
    pub(super) ledger: Ledger,
    pub(super) recent: RecentWrites,
    leading: LeadingWrites,
    /// Partitions from this one on have no digests.
    pub(super) digested: u32,
    /// Whether anything was ever purged.
    pub(super) purged: bool,
    /// Why nothing can be written at the moment.
    trouble: Option<Trouble>,
}

/// The first pause before it is tried again to write; it doubles each time.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// The disk is full, or the engine failed.
struct Trouble {
    why: StorageError,
    /// When to try again.
    again_at: Instant,
    pause: Duration,
}

/// Runs until the queue is closed and empty.
pub(super) async fn run<W: ReplicaWorld>(
    shared: Arc<Shared<W>>,
    settings: ReplicaSettings,
    resumed: Resumed,
    digested: u32,
    purged: bool,
) {
    let horizon = resumed.identity.stamp_ceiling;
    let is_unsaved = resumed.unsaved.is_some();
    let mut mutations = Loop {
        ledger: Ledger::new(
            resumed.identity,
            resumed.fences,
            settings.counter_reservation,
            is_unsaved,
        ),
        recent: RecentWrites::new(settings.recent_writes_max, horizon),
        shared: Arc::clone(&shared),
        settings,
        leading: LeadingWrites::new(),
        digested,
        purged,
        trouble: None,
    };
    let _ends = EndsWithLoop(&shared.mutations);
    if let Some(error) = resumed.unsaved {
        tracing::warn!(%error, "the node can't write; it serves what it has");
        mutations.meet(error);
    }
    let mut waiting = Vec::new();
    // What one batch had no room for comes first in the next one.
    while !waiting.is_empty() || mutations.take(&mut waiting).await {
        mutations.work(&mut waiting).await;
    }
}

impl<W: ReplicaWorld> Loop<W> {
    /// Waits for what there is to do, and tries meanwhile to get out of trouble. False: there will be no more.
    async fn take(&mut self, waiting: &mut Vec<Mutation>) -> bool {
        let batch_max = match buggify::on(Site::BatchOfOne) {
            true => 1,
            false => self.settings.batch_max,
        };
        let shared = Arc::clone(&self.shared);
        loop {
            let bytes_max = self.settings.batch_bytes_max;
            let Some(trouble) = &self.trouble else {
                return shared.mutations.take(waiting, batch_max, bytes_max).await;
            };
            let clock = shared.world.clock();
            if clock.now() < trouble.again_at {
                let take = pin!(shared.mutations.take(waiting, batch_max, bytes_max));
                let again = pin!(clock.sleep_until(trouble.again_at));
                if let Either::Left((is_open, _)) = select(take, again).await {
                    return is_open;
                }
            }
            self.try_again().await;
        }
    }

    /// Notes why nothing can be written.
    fn meet(&mut self, why: StorageError) {
        self.shared.status().refuses_writes = Some(why.to_string());
        let (again_at, pause) = match &self.trouble {
            Some(trouble) => (trouble.again_at, trouble.pause),
            None => (self.shared.world.clock().now() + AGAIN_MIN, AGAIN_MIN),
        };
        self.trouble = Some(Trouble {
            why,
            again_at,
            pause,
        });
    }

    fn is_well(&mut self) {
        self.trouble = None;
        self.shared.status().refuses_writes = None;
    }

    /// Tries to write again: the identity, which says nothing new.
    async fn try_again(&mut self) {
        let Some(trouble) = &mut self.trouble else {
            return;
        };
        trouble.pause = (trouble.pause * 2).min(AGAIN_MAX);
        trouble.again_at = self.shared.world.clock().now() + trouble.pause;
        let back = match trouble.why {
            StorageError::Full(_) => self.store_identity().await,
            StorageError::Failed(_) => self.open_again().await,
        };
        if let Err(error) = back {
            tracing::warn!(%error, "the node can't write yet");
            return;
        }
        self.is_well();
        marks::reached(Mark::StorageBack);
        tracing::info!(node = %self.shared.node, "the node takes writes again");
    }

    /// Stores the identity again, which says nothing new, to see whether that is possible.
    async fn store_identity(&mut self) -> Result<(), OpenError> {
        let mut ledger = self.ledger.clone();
        let identity = ledger.put_anyway();
        self.store(vec![identity], true).await?;
        self.ledger.commit(ledger);
        Ok(())
    }

    /// Opens the engine again, and reads again what is known of it.
    async fn open_again(&mut self) -> Result<(), OpenError> {
        let shared = Arc::clone(&self.shared);
        shared.close_view();
        if let Err(error) = shared.world.storage().reopen().await {
            shared.open_view(); // it is what it was
            self.meet(error.clone());
            return Err(error.into());
        }
        if mutant::on(Mutant::ViewKeptAfterFailure) {
            shared.open_view();
            return Ok(());
        }
        let known = Known::load(&shared.world, &shared.node).await?;
        if let Some(error) = known.resumed.unsaved {
            return Err(error.into());
        }
        let Resumed {
            identity, fences, ..
        } = known.resumed;
        let horizon = identity.stamp_ceiling;
        shared.publish(&identity, &fences);
        shared.status().refilling_since_ms = known.refilling_since_ms;
        let reservation = self.settings.counter_reservation;
        self.ledger = Ledger::new(identity, fences, reservation, false);
        self.recent = RecentWrites::new(self.settings.recent_writes_max, horizon);
        shared.hints.replace(known.hints);
        self.purged = known.purged;
        self.digested = known.digested;
        let has_digests = known.digested == digested::ALL;
        if shared.digested.swap(has_digests, Ordering::AcqRel) && !has_digests {
            let weak = Arc::downgrade(&shared);
            shared
                .world
                .spawner()
                .keep("replica digests", digested::run(weak));
        }
        shared.open_view();
        Ok(())
    }

    /// Applies `waiting`, makes it durable, answers. What there is no room for is left in `waiting`.
    async fn work(&mut self, waiting: &mut Vec<Mutation>) {
        if waiting.len() > 1 {
            marks::reached(Mark::BatchShared);
        }
        let loaded = match self.load(waiting).await {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(waiting, &error).await,
        };
        let shared = Arc::clone(&self.shared);
        let mut replies = Replies::default();
        let mut batch = Batch::new(
            self.ledger.clone(),
            loaded,
            shared.world.clock().wall_ms(),
            &self.recent,
            &self.leading,
            shared.world.random(),
            &self.settings,
        );
        let mut changes = waiting.drain(..);
        while !batch.is_full()
            && let Some(Mutation { asked, change }) = changes.next()
        {
            replies.apply(asked.as_ref(), change, &mut batch);
        }
        let left: Vec<Mutation> = changes.collect();
        waiting.extend(left);
        let applied = batch.finish();
        self.conclude(applied, replies).await;
    }

    /// Makes a batch durable, answers, and then does what is part of no batch.
    async fn conclude(&mut self, applied: Applied, replies: Replies) {
        let Replies {
            mut answers,
            afterwards,
            rebuild,
            stop,
        } = replies;
        if mutant::on(Mutant::AckBeforeSync) {
            answer_all(std::mem::take(&mut answers), None);
        }
        let refusal = self
            .commit(applied)
            .await
            .err()
            .filter(|error| {
                !matches!(error, StorageError::Full(_)) || !mutant::on(Mutant::FullDiskAnswered)
            })
            .map(|error| refusal_of(&error));
        answer_all(answers, refusal.as_ref());
        for later in afterwards {
            self.do_alone(later, refusal.as_ref()).await;
        }
        if let Some(answer) = rebuild {
            let rebuilt = self.rebuild_next().await;
            let _ = answer.send(rebuilt.map_err(|error| refusal_of(&error)));
        }
        if let Some(answer) = stop {
            self.stop(answer).await;
        }
    }

    /// Does what is part of no batch; `failed`: nothing is done after the batch before it.
    async fn do_alone(&mut self, later: Alone, failed: Option<&Refusal>) {
        let go_on = failed.map_or(Ok(()), |refusal| Err(refusal.clone()));
        // Where nobody is there any more the caller gave up.
        match later {
            Alone::Heal(damaged, record, answer) => {
                let _ = answer.send(match go_on {
                    Ok(()) => self.heal(damaged, record).await,
                    Err(refusal) => Err(refusal),
                });
            }
            Alone::Adopt(epoch, is_new, answer) => {
                let _ = answer.send(match go_on {
                    Ok(()) => self.adopt_if_empty(epoch, is_new).await,
                    Err(refusal) => Err(refusal),
                });
            }
            Alone::DropTree(tree, epoch, answer) => {
                let _ = answer.send(match go_on {
                    Ok(()) => self.drop_page(&tree, epoch).await,
                    Err(refusal) => Err(refusal),
                });
            }
        }
    }

    /// Reads what `waiting` works on.
    async fn load(&self, waiting: &[Mutation]) -> Result<Loaded, StorageError> {
        if let Some(Trouble {
            why: failed @ StorageError::Failed(_),
            ..
        }) = &self.trouble
        {
            return Err(failed.clone());
        }
        let mut leaves = Leaves::new(self.digested);
        let targets = self.shared.hints.targets();
        let wanted = Wanted::of(waiting, &leaves, self.purged, &targets);
        let purged: Vec<Bytes> = wanted.trees.iter().map(tombstones::purged_key).collect();
        let records = wanted.keys.iter().map(|key| key.as_bytes().clone());
        let (stored, digests, purged, found) = futures::try_join!(
            self.read(Space::Records, records.collect()),
            self.read(Space::Digests, wanted.leaves.clone()),
            self.read(Space::Meta, purged),
            self.read(Space::Hints, wanted.hints.clone()),
        )?;
        let slots = wanted.keys.into_iter().zip(stored).map(|(key, bytes)| {
            let slot = Slot::load(key, bytes);
            if slot.is_damaged() {
                self.shared.met_damage(key);
            }
            (key.clone(), slot)
        });
        let slots = slots.collect();
        for (name, digest) in wanted.leaves.into_iter().zip(digests) {
            leaves.load(name, digest.as_ref());
        }
        let purged = wanted.trees.into_iter().zip(purged);
        let purged = purged.filter_map(|(tree, stored)| Some((tree, tombstones::purged(stored?))));
        let found = wanted.hints.into_iter().zip(found);
        let found = found.filter_map(|(hint, stored)| stored.map(|_| hint));
        Ok(Loaded {
            slots,
            leaves,
            purged: purged.collect(),
            hints: found.collect::<BTreeSet<_>>(),
        })
    }

    pub(super) async fn read(
        &self,
        space: Space,
        keys: Vec<Bytes>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        match keys.is_empty() {
            true => Ok(Vec::new()),
            false => self.shared.world.storage().read(space, keys).await,
        }
    }

    /// Makes a batch durable, and only then part of what the node knows.
    pub(super) async fn commit(
        &mut self,
        Applied {
            ledger,
            accepted,
            led,
            puts,
            hint_changes,
            purged,
            horizon,
            leads_forgotten,
        }: Applied,
    ) -> Result<(), StorageError> {
        match self.store(puts, ledger.must_sync(&self.ledger)).await {
            Ok(()) => {
                if ledger.is_changed() {
                    self.shared.publish(&ledger.identity, &ledger.fences);
                }
                self.ledger.commit(ledger);
                self.purged |= purged;
                self.recent.raise_horizon(horizon);
                self.shared.account(hint_changes);
                for (name, known) in accepted {
                    self.recent.insert(name, known);
                }
                if leads_forgotten {
                    self.leading = LeadingWrites::new();
                }
                for write in led {
                    self.leading.insert(write);
                }
                Ok(())
            }
            Err(error) => {
                marks::reached(Mark::BatchAborted);
                self.ledger.abort(&ledger);
                Err(error)
            }
        }
    }

    pub(super) async fn store(
        &mut self,
        puts: Vec<Put>,
        must_sync: bool,
    ) -> Result<(), StorageError> {
        if puts.is_empty() {
            return Ok(());
        }
        buggify::pause(Site::PauseBeforeCommit, |pause| {
            self.shared.world.clock().sleep(pause)
        })
        .await;
        let storage = self.shared.world.storage();
        let mut stored = storage.commit(puts).await;
        if stored.is_ok() && must_sync && storage.durability() == Durability::Interval {
            stored = storage
                .sync()
                .await
                .map_err(|error| StorageError::Failed(error.to_string()));
        }
        match &stored {
            Err(StorageError::Full(_)) => marks::reached(Mark::DiskFull),
            Err(StorageError::Failed(_)) => marks::reached(Mark::StorageFailed),
            Ok(()) => {}
        }
        match &stored {
            Ok(()) => self.is_well(),
            Err(error) => {
                if let StorageError::Failed(_) = error {
                    tracing::error!(%error, "a commit failed; the node takes no writes until its engine was opened again");
                }
                self.meet(error.clone());
            }
        }
        stored
    }

    /// Nothing of `waiting` was tried.
    async fn refuse(&mut self, waiting: &mut Vec<Mutation>, error: &StorageError) {
        for Mutation { change, .. } in waiting.drain(..) {
            match change {
                Change::Accept { answer, .. }
                | Change::Join { answer, .. }
                | Change::AdoptIfEmpty { answer, .. }
                | Change::Maintenance { answer, .. }
                | Change::Reset { answer, .. } => {
                    drop(answer.send(Err(Refusal::Unavailable(error.to_string()))))
                }
                Change::DropTree { answer, .. } => {
                    drop(answer.send(Err(Refusal::Unavailable(error.to_string()))))
                }
                Change::Stop { answer } => self.stop(answer).await,
            }
        }
    }

    /// First everything is made durable, then the mark that says so.
    async fn stop(&mut self, answer: oneshot::Sender<Result<(), StorageError>>) {
        if self.trouble.is_some() {
            self.try_again().await; // the last chance to stop cleanly
        }
        let stopped = match &self.trouble {
            Some(trouble) => Err(trouble.why.clone()),
            None => self.mark_clean().await,
        };
        let mut status = self.shared.status();
        status.refuses_writes = Some("the node is stopped".into());
        status.stopped = Some(stopped.clone());
        drop(status);
        let _ = answer.send(stopped); // nobody there: the caller gave up
    }

    async fn mark_clean(&mut self) -> Result<(), StorageError> {
        let storage = self.shared.world.storage();
        storage.sync().await?;
        self.ledger.stop();
        storage.commit(self.ledger.puts().collect()).await?;
        marks::reached(Mark::StoppedCleanly);
        storage.sync().await
    }
}

/// What a batch has to read before it begins.
struct Wanted<'m> {
    /// Every record that it may read or change, each once.
    keys: Vec<&'m RecordKey>,
    /// Their leaves, by their names in the engine.
    leaves: Vec<Bytes>,
    /// Trees of which it has to know what was purged.
    trees: Vec<TreeName>,
    /// Pointers that it may change or heeds.
    hints: Vec<Bytes>,
}

impl<'m> Wanted<'m> {
    /// `purged` says whether anything was ever purged; `targets` is who has hints here.
    fn of(waiting: &'m [Mutation], leaves: &Leaves, purged: bool, targets: &[NodeId]) -> Self {
        let mut keys: Vec<&RecordKey> = Vec::with_capacity(waiting.len());
        let mut trees = Vec::new();
        let mut hints = Vec::new();
        for Mutation { change, .. } in waiting {
            change.keys(&mut keys);
            match change {
                Change::Maintenance { task, .. } => {
                    trees.extend(task.tree().cloned());
                    task.hints(targets, &mut hints);
                }
                Change::Accept { .. }
                | Change::Join { .. }
                | Change::AdoptIfEmpty { .. }
                | Change::DropTree { .. }
                | Change::Reset { .. }
                | Change::Stop { .. } => {}
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if purged {
            trees.extend(keys.iter().map(|key| key.tree()));
        }
        trees.sort_unstable();
        trees.dedup();
        let mut leaves: Vec<Bytes> = keys.iter().filter_map(|key| leaves.name_of(key)).collect();
        leaves.sort_unstable();
        leaves.dedup();
        Self {
            keys,
            leaves,
            trees,
            hints,
        }
    }
}

/// A change that is part of no batch, and who waits for its answer.
enum Alone {
    /// Replace this damaged record.
    Heal(KeyHash, Option<Bytes>, Answer),
    /// Refuse epochs before this one, if nothing is held; and whether the node is new.
    Adopt(Epoch, bool, Answer),
    /// Drop a page of this tree, by this epoch.
    DropTree(
        TreeName,
        Epoch,
        oneshot::Sender<Result<DroppedPage, Refusal>>,
    ),
}

/// What becomes of the changes of a batch, to be told when it is durable.
#[derive(Default)]
struct Replies {
    answers: Vec<(Answer, Result<Reply, Refusal>)>,
    /// What is done after the batch.
    afterwards: Vec<Alone>,
    /// Who waits for the digests of another partition, made after the batch.
    rebuild: Option<Answer>,
    /// Who waits for the end.
    stop: Option<oneshot::Sender<Result<(), StorageError>>>,
}

impl Replies {
    /// Does one change in memory.
    fn apply<R: Random>(
        &mut self,
        asked: Option<&Asked>,
        change: Change,
        batch: &mut Batch<'_, R>,
    ) {
        let (answer, reply) = match change {
            Change::Accept { request, answer } => {
                let partition = request.key.partition();
                let taken = batch.take_on(asked, partition, JoinSource::Client);
                (answer, taken.and_then(|()| batch.accept(*request)))
            }
            Change::Join {
                key,
                record,
                judged,
                source,
                answer,
            } => {
                let taken = batch.take_on(asked, key.partition(), source);
                let join = |()| batch.join(&key, record, judged, source);
                (answer, taken.and_then(join))
            }
            Change::AdoptIfEmpty {
                epoch,
                is_new,
                answer,
            } => {
                return self.afterwards.push(Alone::Adopt(epoch, is_new, answer));
            }
            Change::DropTree {
                tree,
                epoch,
                answer,
            } => {
                return self.afterwards.push(Alone::DropTree(tree, epoch, answer));
            }
            Change::Maintenance {
                task: MaintenanceChange::Rebuild,
                answer,
            } => {
                self.rebuild = Some(answer);
                return;
            }
            Change::Maintenance {
                task: MaintenanceChange::Heal { damaged, record },
                answer,
            } => match batch.ledger.admit(asked) {
                Ok(()) => {
                    self.afterwards.push(Alone::Heal(damaged, record, answer));
                    return;
                }
                Err(refusal) => (answer, Err(refusal)),
            },
            Change::Maintenance { task, answer } => {
                let admitted = batch.ledger.admit(asked);
                // A floor that comes when the copy is gone would refuse the records, should they ever come again.
                let admitted = admitted.and_then(|()| match &task {
                    MaintenanceChange::KeepPurged { tree, .. } => {
                        batch.left(asked, tree.partition())
                    }
                    _ => Ok(()),
                });
                (answer, admitted.and_then(|()| task.apply(batch)))
            }
            Change::Reset { to, answer } => {
                batch.ledger.come_back(to);
                (answer, Ok(Reply::Adopted { adopted: true }))
            }
            Change::Stop { answer } => {
                self.stop = Some(answer);
                return;
            }
        };
        self.answers.push((answer, reply));
    }
}

/// Tells everybody what became of their operation; `failed` is told to all whose effect the batch should have had.
fn answer_all(mut answers: Vec<(Answer, Result<Reply, Refusal>)>, failed: Option<&Refusal>) {
    if mutant::on(Mutant::BatchSwapsAnswers)
        && let [(_, first), (_, second), ..] = answers.as_mut_slice()
    {
        std::mem::swap(first, second);
    }
    for (answer, reply) in answers {
        let reply = match failed {
            Some(refusal) => reply.and(Err(refusal.clone())),
            None => reply,
        };
        let _ = answer.send(reply); // nobody there: the caller gave up
    }
}

pub(super) fn refusal_of(error: &StorageError) -> Refusal {
    match error {
        StorageError::Full(_) => Refusal::Unavailable(error.to_string()),
        StorageError::Failed(_) => Refusal::StorageFailed(error.to_string()),
    }
}
