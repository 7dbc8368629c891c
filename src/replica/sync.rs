//! The exchange with a peer: leaves are compared, then the keys of leaves that differ, then only records that differ
//! are exchanged, both ways, by joining. When all of a tree was exchanged both have what was purged of it, too.
//!
//! What goes over the network is in proportion to the difference: 64 digests of a tree, key and hash of each record in
//! leaves that differ, and the records that differ. One call is bounded in records and time; asked again it finds less
//! to do. Nothing is remembered between calls, and whoever gives up the call ends it. A damaged record is left out and
//! told of.
//!
//! The peer is asked by the epoch by which the exchange was asked for: that its records come, and not what this node
//! has heard meanwhile, says whether the peer is relied on as an owner. So is what is joined, purged and taken over
//! here: an exchange may wait, and go on for seconds, while the node is told that it leaves the partition, and what it
//! gave up must not come back then. Least of all what was purged: beside records that were dropped it would have the
//! others purge theirs, should the node be relied on again.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::oneshot;

use super::fences::{About, Asked};
use super::handoff::PEER_PATIENCE;
use super::maintenance_change::MaintenanceChange;
use super::mutation::{Change, Mutation};
use super::queue::rejected;
use super::shared::{SYNC_LANES, Shared};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Node};
use crate::ports::{
    Ask, CallError, Clock, Digest, DropPurged, JoinRecord, JoinSource, KeepPurged, KeyHash,
    KeyPage, Keys, LEAVES, Leaves, Purge, Purged, PurgedOf, ReadRecord, RecordKey, Refusal,
    ReplicaWorld, Reply, Synced, TreeName,
};
use crate::sizes::{self, Size};
use crate::version::Record;

/// No new page is begun after this time.
const TIME_MAX: Duration = Duration::from_secs(3);

/// With whom records are exchanged, and by whom and which epoch that was asked for.
#[derive(Clone, Copy)]
struct Peer<'p> {
    node: &'p Node,
    asked: &'p Asked,
}

impl Peer<'_> {
    fn epoch(self) -> Epoch {
        self.asked.epoch
    }

    /// By which epoch something changes here.
    fn here(self) -> Option<Asked> {
        let outlives = mutant::on(Mutant::ExchangeOutlivesFence);
        (!outlives).then(|| self.asked.clone())
    }
}

/// A key that both sides may hold differently.
struct Difference {
    key: RecordKey,
    ours: Option<u128>,
    theirs: Option<u128>,
}

/// What became of one.
#[derive(Default)]
struct Exchanged {
    sent: bool,
    received: bool,
    damaged_here: bool,
    damaged_there: bool,
    handed_over: bool,
    dropped: bool,
    bytes: u64,
}

impl<W: ReplicaWorld> Shared<W> {
    /// Makes both sides equal, as far as one call goes: their records of `tree`, and then what they know to be purged
    /// of it.
    pub(super) async fn sync(
        &self,
        asked: &Asked,
        tree: &TreeName,
        peer: &Node,
    ) -> Result<Synced, Refusal> {
        let peer = Peer { node: peer, asked };
        let lane = usize::from(tree.partition().0) % SYNC_LANES;
        let _one_at_a_time = self.syncing[lane].lock().await;
        // As it is before records are compared: whoever has all that the other one had then may take it over.
        let ours = self.purged(tree).await?;
        let theirs = self.ask(peer, PurgedOf { tree: tree.clone() }).await?;
        if mutant::on(Mutant::FloorTakenEarly) && ours != theirs {
            let both = (ours.clone(), theirs.clone());
            self.hand_over(tree, peer, both, true).await?;
        }
        let mut synced = self.sync_records(tree, peer).await?;
        // Who lacks a record because it is damaged would refuse it afterwards. (Not while it is being refilled: it goes
        // by no floors then, and counts again when it has exchanged all with every other owner.)
        let damaged_there = synced.damaged_there > 0 && !self.is_refilling();
        let whole = synced.complete && synced.damaged_here == 0 && !damaged_there;
        if whole && ours != theirs && !mutant::on(Mutant::FloorsStayBehind) {
            let gives = synced.damaged_there == 0 && synced.handed_over == 0;
            synced.floors = self.hand_over(tree, peer, (ours, theirs), gives).await?;
        }
        Ok(synced)
    }

    /// Hands what was purged of a tree to who does not know of it; to the peer only if this one `gives`.
    async fn hand_over(
        &self,
        tree: &TreeName,
        peer: Peer<'_>,
        (ours, theirs): (Purged, Purged),
        gives: bool,
    ) -> Result<u64, Refusal> {
        let mut both = ours.clone();
        both.seen.merge(&theirs.seen);
        both.stamp = both.stamp.max(theirs.stamp);
        let mut learnt = 0;
        if both != ours {
            let (tree, purged) = (tree.clone(), both.clone());
            let keep = MaintenanceChange::KeepPurged { tree, purged };
            match self.maintain(peer.here(), keep).await {
                Ok(_) => learnt += 1,
                Err(Refusal::HandedOver) => {} // nor has this one, on its way out
                Err(refusal) => return Err(refusal),
            }
        }
        if gives && both != theirs {
            let (tree, purged) = (tree.clone(), both);
            let keep = KeepPurged { tree, purged };
            match self
                .call(peer.node, peer.epoch(), keep, PEER_PATIENCE)
                .await
            {
                Ok(()) => learnt += 1,
                Err(CallError::Refused(Refusal::HandedOver)) => {} // it has no use for it
                Err(error) => return Err(refusal(peer, error)),
            }
        }
        Ok(learnt)
    }

    async fn sync_records(&self, tree: &TreeName, peer: Peer<'_>) -> Result<Synced, Refusal> {
        let clock = self.world.clock();
        let until = clock.now() + TIME_MAX;
        let mut synced = Synced {
            complete: true,
            ..Synced::default()
        };
        let ours = self.leaves(tree).await?;
        let theirs = self.ask(peer, Leaves { tree: tree.clone() }).await?;
        synced.bytes += 25 * theirs.len() as u64;
        let theirs: std::collections::BTreeMap<u8, Digest> = theirs.into_iter().collect();
        let differing = (0..LEAVES).filter(|leaf| ours.get(leaf) != theirs.get(leaf));
        let wanted = differing.fold(0, |set, leaf| set | 1 << leaf);
        if wanted == 0 {
            return Ok(synced);
        }
        marks::reached(Mark::LeavesDiffered);
        let mut after: Option<RecordKey> = None;
        loop {
            let KeyPage { keys, more } = self.keys(tree, wanted, after.as_ref()).await?;
            let (ours, our_more) = (keys, more);
            let page = Keys {
                tree: tree.clone(),
                leaves: wanted,
                after: after.clone(),
            };
            let KeyPage { keys, more } = self.ask(peer, page).await?;
            let (theirs, their_more) = (keys, more);
            // Beyond the end of a page that has another one nothing can be said yet.
            let end = match (&our_more, &their_more) {
                (Some(ours), Some(theirs)) => Some(ours.min(theirs).clone()),
                (Some(end), None) | (None, Some(end)) => Some(end.clone()),
                (None, None) => None,
            };
            let listed: u64 = theirs
                .iter()
                .map(|e| e.key.as_bytes().len() as u64 + 16)
                .sum();
            synced.bytes += listed;
            self.throttle.take(clock, listed).await;
            self.exchange_all(peer, differences(ours, theirs, end.as_ref()), &mut synced)
                .await?;
            let Some(end) = end else {
                return Ok(synced);
            };
            if synced.sent + synced.received >= sizes::of(Size::SyncRecords) as u64
                || clock.now() >= until
            {
                synced.complete = false;
                return Ok(synced);
            }
            after = Some(end);
        }
    }

    async fn exchange_all(
        &self,
        peer: Peer<'_>,
        differences: Vec<Difference>,
        synced: &mut Synced,
    ) -> Result<(), Refusal> {
        let exchanges = differences
            .into_iter()
            .map(|difference| self.exchange(peer, difference));
        let at_once = (sizes::of(Size::ExchangesAtOnce) / SYNC_LANES).max(1);
        let mut exchanges = futures::stream::iter(exchanges).buffer_unordered(at_once);
        while let Some(exchanged) = exchanges.next().await {
            match exchanged {
                Ok(Exchanged {
                    sent,
                    received,
                    damaged_here,
                    damaged_there,
                    handed_over,
                    dropped,
                    bytes,
                }) => {
                    synced.handed_over += u64::from(handed_over);
                    synced.dropped += u64::from(dropped);
                    synced.damaged_here += u64::from(damaged_here);
                    synced.damaged_there += u64::from(damaged_there);
                    synced.sent += u64::from(sent);
                    synced.received += u64::from(received);
                    synced.bytes += bytes;
                }
                // One record that can't be exchanged must not keep the others from it.
                Err(Refusal::Overloaded | Refusal::Purged) => {
                    synced.complete = false;
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    /// Makes both sides' records of one key equal: what the peer holds is joined here, and then what is held here is
    /// joined there.
    async fn exchange(&self, peer: Peer<'_>, difference: Difference) -> Result<Exchanged, Refusal> {
        let mut exchanged = Exchanged::default();
        let key = &difference.key;
        let at_peer = match difference.theirs {
            Some(_) => self.held_by(peer, key).await,
            None => Ok(None),
        };
        let at_peer = match at_peer {
            Err(Refusal::Damaged) => {
                // Where it is damaged here as well, neither has anything to give. Where there is nothing here, this
                // side lacks what can't be read there; unless it is on its way out.
                let lacks_nothing = self.leaves_by(key.partition(), peer.epoch())
                    || mutant::on(Mutant::DamagedTakenForNothing);
                exchanged.damaged_there = match self.held(key).await {
                    Err(Refusal::Damaged) => false,
                    held => held?.is_some() || !lacks_nothing,
                };
                return Ok(exchanged);
            }
            at_peer => at_peer?,
        };
        if let Some(record) = &at_peer {
            let received = self.receive(peer, key, record, &mut exchanged).await?;
            if received.is_break() {
                return Ok(exchanged);
            }
        }
        if mutant::on(Mutant::SyncOneWay) {
            return Ok(exchanged);
        }
        let held = match self.held(key).await {
            Err(Refusal::Damaged) => {
                exchanged.damaged_here = true;
                return Ok(exchanged);
            }
            held => held?,
        };
        // What came may be older than what is held. It was not lacking then, and is no reason to stop: the peer may
        // have no use for what is newer, and every call would begin with the same records.
        let hash = held.as_ref().map(|held| Digest::hash(key, held));
        exchanged.received &= hash != difference.ours || mutant::on(Mutant::StaleCountsAsMoved);
        if let Some(held) = held.filter(|held| at_peer.as_ref() != Some(held)) {
            self.send(peer, difference, held, &mut exchanged).await?;
        }
        Ok(exchanged)
    }

    /// What the peer holds of `key`; [`Refusal::Damaged`] if it can't read it.
    async fn held_by(&self, peer: Peer<'_>, key: &RecordKey) -> Result<Option<Bytes>, Refusal> {
        let read = ReadRecord { key: key.clone() };
        match self
            .call(peer.node, peer.epoch(), read, PEER_PATIENCE)
            .await
        {
            Ok(record) => Ok(record),
            Err(error) => Err(refusal(peer, error)),
        }
    }

    /// Joins here what the peer holds. Breaks if that is all there is to do for this key.
    async fn receive(
        &self,
        peer: Peer<'_>,
        key: &RecordKey,
        record: &Bytes,
        exchanged: &mut Exchanged,
    ) -> Result<ControlFlow<()>, Refusal> {
        self.pay(key, record, exchanged).await;
        match self.join(peer, key, record.clone()).await {
            Ok(_) => {
                marks::reached(Mark::SyncReceived);
                exchanged.received = true;
                Ok(ControlFlow::Continue(()))
            }
            Err(Refusal::Damaged) => {
                exchanged.damaged_here = true;
                Ok(ControlFlow::Break(()))
            }
            // All owners held what was purged here: the peer may purge it, too, and an older value is over.
            Err(Refusal::Purged) => {
                let hash = Digest::hash(key, record);
                let key = key.clone();
                let keys = vec![KeyHash { key, hash }];
                self.peer_purges(peer, record, keys, exchanged).await?;
                Ok(ControlFlow::Break(()))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Has the peer join what is held here.
    async fn send(
        &self,
        peer: Peer<'_>,
        Difference { key, ours, .. }: Difference,
        held: Bytes,
        exchanged: &mut Exchanged,
    ) -> Result<(), Refusal> {
        self.pay(&key, &held, exchanged).await;
        let join = JoinRecord {
            source: JoinSource::Exchange,
            ..JoinRecord::new(key.clone(), held.clone())
        };
        match self
            .call(peer.node, peer.epoch(), join, PEER_PATIENCE)
            .await
        {
            Ok(_) => {
                marks::reached(Mark::SyncSent);
                exchanged.sent = true;
                Ok(())
            }
            Err(CallError::Refused(Refusal::Damaged)) => {
                exchanged.damaged_there = true;
                Ok(())
            }
            Err(CallError::Refused(Refusal::HandedOver)) => {
                exchanged.handed_over = true;
                Ok(())
            }
            Err(CallError::Refused(Refusal::Purged)) => {
                let hash = ours.unwrap_or_else(|| Digest::hash(&key, &held));
                let keys = vec![KeyHash { key, hash }];
                let task = match is_deleted(&held) {
                    true => MaintenanceChange::Purge { keys },
                    false => MaintenanceChange::DropPurged { keys },
                };
                may_drop(&held)?;
                self.maintain(peer.here(), task).await?;
                exchanged.dropped = !is_deleted(&held);
                exchanged.received = true;
                Ok(())
            }
            Err(error) => Err(refusal(peer, error)),
        }
    }

    /// Has the peer purge what was purged here.
    async fn peer_purges(
        &self,
        peer: Peer<'_>,
        record: &Bytes,
        keys: Vec<KeyHash>,
        exchanged: &mut Exchanged,
    ) -> Result<(), Refusal> {
        may_drop(record)?;
        match is_deleted(record) {
            true => self.ask(peer, Purge { keys }).await?,
            false => self.ask(peer, DropPurged { keys }).await?,
        }
        exchanged.dropped = !is_deleted(record);
        exchanged.sent = true;
        Ok(())
    }

    async fn pay(&self, key: &RecordKey, record: &Bytes, exchanged: &mut Exchanged) {
        let bytes = (key.as_bytes().len() + record.len()) as u64;
        exchanged.bytes += bytes;
        self.throttle.take(self.world.clock(), bytes).await;
    }

    /// Joins a record here, by the epoch by which the exchange was asked for.
    async fn join(&self, peer: Peer<'_>, key: &RecordKey, record: Bytes) -> Result<Reply, Refusal> {
        let (answer, answered) = oneshot::channel();
        let cost = key.as_bytes().len() + record.len();
        let about = About::Taken(key.partition());
        let mutation = Mutation {
            asked: peer.here().map(|asked| Asked { about, ..asked }),
            change: Change::Join {
                judged: None,
                source: JoinSource::Exchange,
                key: key.clone(),
                record,
                answer,
            },
        };
        self.mutations.push(mutation, cost).map_err(rejected)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Refusal::Unavailable("the node is stopping".into())))
    }

    async fn ask<A: Ask>(&self, peer: Peer<'_>, question: A) -> Result<A::Answer, Refusal> {
        let answer = self.call(peer.node, peer.epoch(), question, PEER_PATIENCE);
        answer.await.map_err(|error| refusal(peer, error))
    }
}

/// The keys up to `end` that two sorted lists have differently.
fn differences(
    ours: Vec<KeyHash>,
    theirs: Vec<KeyHash>,
    end: Option<&RecordKey>,
) -> Vec<Difference> {
    let mut both = std::collections::BTreeMap::new();
    for KeyHash { key, hash } in ours {
        both.insert(key, (Some(hash), None));
    }
    for KeyHash { key, hash } in theirs {
        both.entry(key).or_insert((None, None)).1 = Some(hash);
    }
    let inside = |key: &RecordKey| end.is_none_or(|end| key <= end);
    both.into_iter()
        .filter(|(key, (ours, theirs))| ours != theirs && inside(key))
        .map(|(key, (ours, theirs))| Difference { key, ours, theirs })
        .collect()
}

fn is_deleted(encoded: &Bytes) -> bool {
    Record::decode(encoded.clone()).is_ok_and(|record| record.is_deleted())
}

/// Nothing but the planted bug keeps what another owner has purged.
fn may_drop(record: &Bytes) -> Result<(), Refusal> {
    marks::reached(Mark::PurgeCaughtUp);
    match mutant::on(Mutant::PurgedValueKept) && !is_deleted(record) {
        true => Err(Refusal::Purged),
        false => Ok(()),
    }
}

/// What a peer's failure is to who asked for the exchange.
fn refusal(peer: Peer<'_>, error: CallError) -> Refusal {
    match error {
        CallError::Refused(
            refusal @ (Refusal::StaleEpoch { .. } | Refusal::Damaged | Refusal::Overloaded),
        ) => refusal,
        error => Refusal::Unavailable(format!("{}: {error}", peer.node.id)),
    }
}
