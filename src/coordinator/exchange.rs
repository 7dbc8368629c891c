//! The owners of one tree are made equal, and its tombstones purged where they are.
//!
//! One owner, the pivot, first gathers what any other one may have that it lacks, and then gives each of them what it
//! lacks. Where all hold the same, tombstones that all of them have held long enough are removed everywhere.
//!
//! What this is not: records never come through here; storage nodes exchange them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ask::ask;
use super::convergence::Progress;
use super::listing::Found;
use super::routing::Routing;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::NodeId;
use crate::ports::{
    AreTombstones, Clock, CoordinatorWorld, Digest, KeyPage, Leaves, NodeReport, Purge, SyncTree,
    Tombstones, TreeName,
};
use crate::quorum::ConflictPolicy;
use crate::sizes::{self, Size};

/// How often the pivot goes around a tree's owners. What still differs then is left to the next round.
const ROUNDS_MAX: usize = 2;

/// Makes trees' owners equal.
pub(super) struct Exchange<W> {
    pub(super) world: W,
    pub(super) progress: Arc<Progress>,
}

/// A tree whose owners were compared, and exchanged what differed.
pub(super) struct Tended {
    pub(super) tree: TreeName,
    /// Whether each of them has now what any of them had.
    pub(super) whole: bool,
    /// But for these.
    pub(super) lacking: BTreeSet<NodeId>,
    /// Records and bytes that were exchanged.
    pub(super) moved: (u64, u64),
}

/// What an exchange between the owners of a tree came to.
#[derive(Default)]
struct Proof {
    /// Whether each of them has now what any of them had.
    whole: bool,
    /// But for these: what is damaged there is not there, and says nothing of the others.
    lacking: BTreeSet<u16>,
    /// Records and bytes that were exchanged.
    moved: (u64, u64),
}

/// One time around the owners.
#[derive(Default)]
struct Round {
    /// Records and floors that were moved.
    moved: u64,
    /// Floors that were.
    floors: u64,
    /// Whether some exchange did not come to its end, or let something go that may have been passed on before.
    incomplete: bool,
    /// Peers that have damaged records, or do not take any more.
    lacking: BTreeSet<u16>,
    /// Records and bytes that were exchanged.
    exchanged: (u64, u64),
}

/// With whom a pivot exchanges, in this order, so that in the end each has what any of them had.
#[derive(PartialEq, Eq, Debug)]
struct Way {
    /// Who may have what the pivot lacks.
    gathers: Vec<u16>,
    /// Who may lack what the pivot has then. The last one that it gathered from has got it already.
    gives: Vec<u16>,
}

impl Way {
    fn of(found: &Found, pivot: u16, peers: &[u16]) -> Self {
        let equal = |peer: &u16| found.is_guarded && found.said_of(*peer) == found.said_of(pivot);
        let empty =
            |peer: &u16| found.is_guarded && found.said_of(*peer) == Some(Digest::default());
        let gathers = peers.iter().filter(|peer| !equal(peer) && !empty(peer));
        let gathers: Vec<u16> = gathers.copied().collect();
        let gives = peers.iter().filter(|peer| match gathers.last() {
            Some(last) => *peer != last,
            None => !equal(peer),
        });
        let forgets = !gathers.is_empty() && mutant::on(Mutant::GatheredNotGiven);
        let gives = gives.filter(|peer| !found.leaving.contains(peer) && !forgets);
        Self {
            gives: gives.copied().collect(),
            gathers,
        }
    }
}

impl<W: CoordinatorWorld> Exchange<W> {
    /// Exchanges what differs; purges where nothing does.
    pub(super) async fn tend(&self, routing: Arc<Routing>, found: Found) -> Tended {
        let mut proof = Proof::default();
        if found.is_equal() {
            proof.whole = !found.has_silent();
            // Who is to own it next may lack what a tombstone overwrote.
            let rests = !found.is_moving || mutant::on(Mutant::PurgeWhileMoving);
            if rests && (!found.has_silent() || mutant::on(Mutant::PurgeWithOwnerMissing)) {
                self.purge(&routing, &found).await;
            }
        } else {
            marks::reached(Mark::TreeDiffered);
            if mutant::on(Mutant::PurgeUnproved) {
                self.purge(&routing, &found).await;
            }
            if !(found.has_silent() && mutant::on(Mutant::AwayStopsExchange)) {
                proof = self.exchange(&routing, &found).await;
            }
            proof.whole &= !found.has_silent();
        }
        let lacking = proof.lacking.into_iter();
        Tended {
            moved: proof.moved,
            tree: found.tree,
            whole: proof.whole,
            lacking: lacking
                .map(|index| routing.node(index).id.clone())
                .collect(),
        }
    }

    /// Has one owner, the pivot, exchange with the other ones. A pivot that has damaged records can't pass them on from
    /// one to the other: then it is the next one's turn.
    async fn exchange(&self, routing: &Arc<Routing>, found: &Found) -> Proof {
        // Best one that knows what was purged: those that are being refilled take from each other what it would have
        // refused.
        let (lost, others): (Vec<u16>, Vec<u16>) = found.answering().partition(|index| {
            is_refilling(routing, *index) && !mutant::on(Mutant::DamageBlocksRefill)
        });
        let answering = [others, lost].concat();
        for pivot in &answering {
            let peers = answering.iter().copied().filter(|peer| peer != pivot);
            let peers: Vec<u16> = peers.collect();
            if let Some(proof) = self.exchange_from(routing, found, *pivot, &peers).await {
                return proof;
            }
            marks::reached(Mark::PivotDamaged);
        }
        Proof::default()
    }

    /// `None`: the pivot has damaged records.
    async fn exchange_from(
        &self,
        routing: &Arc<Routing>,
        found: &Found,
        pivot: u16,
        peers: &[u16],
    ) -> Option<Proof> {
        let way = Way::of(found, pivot, peers);
        let mut proof = Proof::default();
        for _ in 0..ROUNDS_MAX {
            let mut round = Round::default();
            for peer in way.gathers.iter().chain(&way.gives) {
                self.exchange_with(routing, found, (pivot, *peer), &mut round)
                    .await?;
            }
            proof.lacking.append(&mut round.lacking);
            proof.moved.0 += round.exchanged.0;
            proof.moved.1 += round.exchanged.1;
            proof.whole = !round.incomplete;
            // (Who was given a floor may have taken a late copy before it had it.)
            if round.floors == 0 && (proof.whole || round.moved == 0) {
                break;
            }
        }
        Some(proof)
    }

    /// Has the pivot exchange with one peer until nothing moves. `None`: the pivot has damaged records.
    async fn exchange_with(
        &self,
        routing: &Arc<Routing>,
        found: &Found,
        (pivot, peer): (u16, u16),
        round: &mut Round,
    ) -> Option<()> {
        let (mut exchanged, mut dropped) = (false, 0);
        for _ in 0..sizes::of(Size::SyncCalls) {
            let sync = SyncTree {
                tree: found.tree.clone(),
                peer: routing.node(peer).clone(),
            };
            let Ok(synced) = ask(&self.world, routing, pivot, sync).await else {
                break;
            };
            let records = synced.sent + synced.received;
            round.moved += records + synced.floors;
            round.floors += synced.floors;
            round.exchanged.0 += records;
            round.exchanged.1 += synced.bytes;
            let mut state = self.progress.lock();
            state.exchanged += records;
            state.bytes += synced.bytes;
            drop(state);
            if synced.damaged_here > 0 && !mutant::on(Mutant::DamageBlocksRefill) {
                return None;
            }
            if synced.damaged_there + synced.handed_over > 0 {
                round.lacking.insert(peer);
            }
            dropped += synced.dropped;
            exchanged = synced.complete;
            if synced.complete || records == 0 {
                break;
            }
        }
        // What one owner let go may have gone to another one before.
        round.incomplete |= !exchanged || dropped > 0;
        Some(())
    }

    /// Removes the tombstones that all owners hold alike and have held long enough.
    async fn purge(&self, routing: &Arc<Routing>, found: &Found) {
        let waiting = |index: &u16| {
            let health = routing.health(*index);
            health.with_report(|report| report.is_none_or(|report| report.tombstones > 0))
        };
        let Some((first, others)) = found.owners.split_first() else {
            return;
        };
        if !waiting(first) {
            return;
        }
        let mut after = None;
        loop {
            let list = Tombstones {
                tree: found.tree.clone(),
                after: after.take(),
                last_write_wins: found.policy == ConflictPolicy::LastWriteWins,
            };
            let Ok(KeyPage { mut keys, more }) = ask(&self.world, routing, *first, list).await
            else {
                return;
            };
            for other in others {
                if keys.is_empty() {
                    break;
                }
                let asked = AreTombstones { keys: keys.clone() };
                match ask(&self.world, routing, *other, asked).await {
                    Ok(same) => keys = same.keys,
                    _ if mutant::on(Mutant::PurgeWithOwnerMissing) => {}
                    _ => return,
                }
            }
            if !keys.is_empty() && self.are_equal(routing, found).await {
                buggify::pause(Site::PauseBeforePurge, |pause| {
                    self.world.clock().sleep(pause)
                })
                .await;
                self.progress.lock().purged += keys.len() as u64;
                let purge = |owner: &u16| {
                    let purge = Purge { keys: keys.clone() };
                    ask(&self.world, routing, *owner, purge)
                };
                // An owner that is not reached learns of it when it is compared.
                futures::future::join_all(found.owners.iter().map(purge)).await;
            }
            match more {
                Some(more) => after = Some(more),
                None => return,
            }
        }
    }

    /// Whether all owners of a tree are equal now. All dots that were given before are then known to all of them, those
    /// of other keys, too: what was purged can tell them from new ones.
    async fn are_equal(&self, routing: &Arc<Routing>, found: &Found) -> bool {
        let leaves = |owner: &u16| {
            let tree = found.tree.clone();
            ask(&self.world, routing, *owner, Leaves { tree })
        };
        let leaves = futures::future::join_all(found.owners.iter().map(leaves)).await;
        if mutant::on(Mutant::PurgeUnproved) {
            return true;
        }
        let heeded = |leaves: &&Result<Vec<(u8, Digest)>, _>| {
            leaves.is_ok() || !mutant::on(Mutant::PurgeWithOwnerMissing)
        };
        let leaves: Vec<_> = leaves.iter().filter(heeded).collect();
        let first = leaves.first();
        leaves
            .iter()
            .all(|leaves| leaves.is_ok() && Some(leaves) == first)
    }
}

fn is_refilling(routing: &Routing, index: u16) -> bool {
    let refilling = |report: Option<&NodeReport>| report.is_some_and(|r| r.refilling.is_some());
    routing.health(index).with_report(refilling)
}

#[cfg(test)]
#[path = "exchange_test.rs"]
mod tests;
