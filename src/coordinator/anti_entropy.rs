//! Anti-entropy: owners are compared tree by tree, in rounds, and what differs is exchanged.
//!
//! One coordinator at a time leads, by a lease in the metadata store; any other takes over when it is gone. A lease
//! keeps nothing safe, and need not: two that lead at once do the same work twice, and all of it is joins and purges
//! that their owners agree to.
//!
//! In a round all nodes list their trees, in the same order, page by page, and the digests of each tree's owners are
//! compared here, where tenants' replication factors are known. A tree whose owners differ is exchanged between one of
//! them and each of the others until nothing moves; one whose owners are equal has its tombstones purged. A round ends
//! early when the topology changes. Memory is bounded by a page for each node.
//!
//! A node that lost its disk counts for no quorum before it has got back what it may have acknowledged: see
//! [`refill`](super::refill). Before the first round that looks for that, a new epoch is published with the same nodes,
//! so that nothing that counts on what the node said before its loss is completed any more. A tree is exchanged to the
//! end when that was done twice: after the first time one of its owners has what any has, after the second they all do.
//!
//! What this is not: records never come through here; storage nodes exchange them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::heal::Wounds;
use super::owners::Owners;
use super::refill::Refills;
use super::routing::Routing;
use super::service::Coordinator;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::placement::{Epoch, NodeId, Topology};
use crate::ports::{
    Change, Clock, CoordinatorWorld, Digest, Instant, LeaseOutcome, MetadataStore, NodeReport,
    Operation, Random, Reply, StoreError, TenantId, TreeName, Upkeep, Upkept,
};
use crate::quorum::ConflictPolicy;
use crate::sabotage::{self, Sabotage};
use std::sync::Arc;

/// What the lease is called.
const LEASE: &str = "anti-entropy";
/// Trees exchanged at the same time.
const TREES_AT_ONCE: usize = 4;
/// How often an exchange goes around a tree's owners. What still differs then is left to the next round.
const PASSES_MAX: usize = 4;
/// In the first the pivot gets what any owner has, in the second all others get it.
const PASSES_PROVING: usize = 2;
/// How often a peer is asked to go on with one exchange that is not complete.
const CALLS_MAX: usize = 64;
/// One call of upkeep. An exchange takes up to three seconds and what it has begun.
const PATIENCE: Duration = Duration::from_secs(15);

/// How far the owners are from being equal, as the last round of comparing found it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Convergence {
    /// Whether this coordinator leads the comparing.
    pub leads: bool,
    /// Rounds that went through all trees, since this coordinator started.
    pub rounds: u64,
    /// When the last of them ended, Unix milliseconds by this coordinator's clock; 0: none has.
    pub ended_ms: u64,
    /// Of the last complete round: trees whose owners were equal.
    pub equal: u64,
    /// Trees whose owners differed; they were made equal, or not yet.
    pub divergent: u64,
    /// Trees of which an owner did not answer.
    pub unknown: u64,
    /// Trees seen so far in the round under way.
    pub seen: u64,
    /// Records that were exchanged, since this coordinator started.
    pub exchanged: u64,
    /// Bytes of keys, hashes and records that this took.
    pub bytes: u64,
    /// Tombstones that were purged.
    pub purged: u64,
}

/// What the comparing keeps.
#[derive(Debug, Default)]
pub(super) struct AntiEntropy {
    state: Mutex<Convergence>,
}

impl AntiEntropy {
    pub(super) fn lock(&self) -> MutexGuard<'_, Convergence> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trees of one node, as far as they were listed.
struct Listing {
    index: u16,
    page: VecDeque<(TreeName, Digest)>,
    last: Option<TreeName>,
    more: bool,
    /// It did not answer: what it has is unknown from here on.
    silent: bool,
}

/// What comes next in a round.
enum Next {
    /// Nothing.
    End,
    /// A tree that no tenant can have: nothing in it was ever acknowledged to anybody.
    Nobodys(TreeName),
    /// A tree whose owners can't be told now.
    Unknown(TreeName),
    /// A tree.
    Tree(Found),
}

/// One tree and what its owners say of it.
struct Found {
    tree: TreeName,
    /// Its tenant's.
    policy: ConflictPolicy,
    owners: Vec<u16>,
    /// `None`: the owner did not answer.
    digests: Vec<Option<Digest>>,
}

/// A tree whose owners were compared, and exchanged what differed.
struct Tended {
    tree: TreeName,
    /// Whether each of them has now what any of them had.
    whole: bool,
    /// But for these.
    lacking: BTreeSet<NodeId>,
}

/// What an exchange between the owners of a tree came to.
#[derive(Default)]
struct Proof {
    /// Whether each of them has now what any of them had.
    whole: bool,
    /// But for these: what is damaged there is not there, and says nothing of the others.
    lacking: BTreeSet<u16>,
}

/// What a round came to.
#[derive(Clone, Copy, Default)]
struct Round {
    equal: u64,
    divergent: u64,
    unknown: u64,
    /// Those of the unknown that no tenant can have.
    nobodys: u64,
}

impl<W: CoordinatorWorld> Coordinator<W> {
    /// How far the owners are from being equal, as far as this coordinator knows.
    #[must_use]
    pub fn convergence(&self) -> Convergence {
        self.anti_entropy().lock().clone()
    }

    /// Compares owners, round after round, while this coordinator has the lease.
    pub(super) async fn keep_equal(self) {
        let holder = self.random().next_u64();
        let pause = self.settings().anti_entropy_pause;
        let mut wait = pause;
        let (mut refills, mut wounds) = (Refills::default(), Wounds::default());
        loop {
            // Not all coordinators at once.
            let jitter = Duration::from_nanos(self.random().next_u64() % 250_000_000);
            let sleep = self.rest(wait + jitter.min(wait), pause);
            if self.unless_stopped(sleep).await.is_none() {
                break;
            }
            wait = pause;
            if !self.leads(holder).await {
                continue;
            }
            let round = self.round(holder, &mut refills, &mut wounds);
            let Some(round) = self.unless_stopped(round).await else {
                break;
            };
            if let Some(round) = round
                && round.divergent + round.unknown == 0
            {
                wait = self.settings().anti_entropy_period.max(pause);
            }
        }
        if self.anti_entropy().lock().leads {
            let deadline = self.admin_deadline();
            let release = self.world().metadata().release_lease(LEASE, holder);
            let _ = self.in_time(deadline, release).await; // it ends by itself
        }
    }

    /// Rests for so long, less if a node lost its disk: it should count again soon.
    async fn rest(&self, all: Duration, pause: Duration) {
        let until = self.clock().now() + all;
        while self.clock().now() < until {
            self.clock()
                .sleep_until(until.min(self.clock().now() + pause))
                .await;
            let routing = self.routing();
            let lost = |report: Option<&NodeReport>| report.is_some_and(|r| r.refilling.is_some());
            if routing.nodes().any(|(_, health)| health.with_report(lost)) {
                return;
            }
        }
    }

    /// Sees to it that nodes that lost their disks, or have damaged records, are fenced: publishes an epoch, with the
    /// same nodes, if one of them is not. If that can't be done now, the round goes on without proving anything of
    /// them.
    async fn fence(&self, refills: &mut Refills, wounds: &mut Wounds) {
        self.look_for_wounds(&self.routing(), wounds).await;
        let unfenced = refills.look(&self.routing());
        if !unfenced && !wounds.need_fence() {
            return;
        }
        if sabotage::on(Sabotage::RefilledUnfenced) {
            wounds.fenced();
            return refills.fenced();
        }
        match self.next_epoch().await {
            Ok(Some(epoch)) => {
                marks::reached(Mark::RefillFenced);
                let epoch = epoch.0;
                tracing::info!(
                    epoch,
                    "a node lost what it had acknowledged, or a record of it: older epochs end"
                );
                refills.fenced();
                wounds.fenced();
            }
            Ok(None) => {} // somebody else published one meanwhile
            Err(error) => {
                tracing::debug!(%error, "can't publish an epoch for a node that lost its disk")
            }
        }
    }

    /// Publishes an epoch that is above all in use here, with the nodes that are stored, and takes it into use. `None`:
    /// the topology was changed by somebody else.
    async fn next_epoch(&self) -> Result<Option<Epoch>, StoreError> {
        let in_use = self.routing();
        let mut stored = in_use.topology().clone();
        loop {
            let expected = stored.epoch;
            let Some(epoch) = in_use.epoch().max(expected).next() else {
                return Ok(None);
            };
            let next = Topology { epoch, ..stored };
            let replaced = self.world().metadata().replace_topology(expected, next);
            match self.in_time(self.admin_deadline(), replaced).await? {
                Change::Made(topology) => {
                    self.advance_topology(topology);
                    return Ok(Some(epoch));
                }
                // A store that failed over to a copy knows less than what is in use.
                Change::Conflict(Some(older)) if older.epoch < expected => stored = older,
                Change::Conflict(Some(newer)) => {
                    self.advance_topology(newer);
                    return Ok(None);
                }
                Change::Conflict(None) => return Ok(None),
            }
        }
    }

    /// Takes or renews the lease.
    async fn leads(&self, holder: u64) -> bool {
        let pause = self.settings().anti_entropy_pause;
        let lease = self.settings().anti_entropy_lease.max(pause * 2);
        let acquire = self.world().metadata().acquire_lease(LEASE, holder, lease);
        let outcome = self.in_time(self.admin_deadline(), acquire).await;
        self.note_metadata_change(&outcome);
        let leads = match outcome {
            Ok(LeaseOutcome::Held) => true,
            Ok(LeaseOutcome::HeldByOther { .. }) => false,
            Err(error) => {
                tracing::debug!(%error, "can't ask for the lease of anti-entropy");
                false
            }
        };
        self.anti_entropy().lock().leads = leads;
        leads
    }

    /// Goes through all trees. `None`: not to the end.
    async fn round(
        &self,
        holder: u64,
        refills: &mut Refills,
        wounds: &mut Wounds,
    ) -> Option<Round> {
        self.fence(refills, wounds).await;
        let routing = self.routing();
        self.heal_all(&routing, wounds).await;
        let mut renew_at = self.clock().now() + self.settings().anti_entropy_lease / 3;
        let mut round = Round::default();
        let mut listings: Vec<Listing> = (0..routing.topology().nodes.len() as u16)
            .map(Listing::new)
            .collect();
        refills.begin(&routing);
        let mut under_way = FuturesUnordered::new();
        self.anti_entropy().lock().seen = 0;
        loop {
            for listing in &mut listings {
                self.fill(&routing, listing).await?;
            }
            let next = self.next_tree(&routing, &mut listings).await;
            self.anti_entropy().lock().seen += u64::from(!matches!(next, Next::End));
            match next {
                Next::End => break,
                Next::Nobodys(tree) => round.nobodys(&tree),
                Next::Unknown(tree) => {
                    round.unknown += 1;
                    refills.found(&tree, None);
                }
                Next::Tree(found) => {
                    round.count(&found);
                    let owners = found.owners.iter().map(|index| &routing.node(*index).id);
                    refills.found(&found.tree, Some(&owners.collect::<Vec<_>>()));
                    under_way.push(self.tend(Arc::clone(&routing), found));
                }
            }
            while under_way.len() >= TREES_AT_ONCE
                && let Some(tended) = under_way.next().await
            {
                tended.keep(refills);
            }
            if self.routing().epoch() != routing.epoch() {
                marks::reached(Mark::RoundCutShort);
                return None;
            }
            if self.clock().now() >= renew_at {
                if !self.leads(holder).await {
                    return None;
                }
                renew_at = self.clock().now() + self.settings().anti_entropy_lease / 3;
            }
        }
        while let Some(tended) = under_way.next().await {
            tended.keep(refills);
        }
        let heard = listings.iter().filter(|listing| !listing.silent);
        heard.for_each(|listing| refills.listed(&routing.node(listing.index).id));
        if !listings.iter().any(|listing| listing.silent) {
            refills.round_complete();
        }
        self.end_refills(&routing, refills).await;
        let mut state = self.anti_entropy().lock();
        state.rounds += 1;
        state.ended_ms = self.clock().wall_ms();
        state.equal = round.equal;
        state.divergent = round.divergent;
        state.unknown = round.unknown;
        marks::reached(match round.divergent + round.unknown {
            0 => Mark::RoundAllEqual,
            _ => Mark::RoundFoundDifferences,
        });
        Some(round)
    }

    /// Tells nodes that have everything back that they count again.
    async fn end_refills(&self, routing: &Arc<Routing>, refills: &Refills) {
        let proofs = match sabotage::on(Sabotage::RefilledUnproved) {
            true => refills.all(),
            false => refills.proofs(),
        };
        for (index, node) in (0..).zip(&routing.topology().nodes) {
            let proof = proofs.iter().find(|(proved, _)| *proved == node.id);
            if let Some((_, incarnation)) = proof.cloned() {
                tracing::info!(node = %node.id, %incarnation, "has got back what it lost");
                let refilled = Upkeep::Refilled { incarnation };
                let _ = self.ask(routing, index, refilled).await; // if not, in the next round
            }
        }
    }

    /// Gets the next page if there is none. `None`: the topology has changed.
    async fn fill(&self, routing: &Arc<Routing>, listing: &mut Listing) -> Option<()> {
        while listing.page.is_empty() && listing.more && !listing.silent {
            let after = listing.last.clone();
            match self
                .ask(routing, listing.index, Upkeep::Roots { after })
                .await
            {
                Ok(Upkept::Roots { roots, more }) => {
                    listing.last = roots.last().map(|(tree, _)| tree.clone());
                    listing.more = more && listing.last.is_some();
                    listing.page = roots.into();
                }
                Ok(_) => listing.silent = true,
                Err(Some(newer)) => {
                    self.refresh_topology(newer, self.admin_deadline()).await;
                    return None;
                }
                Err(None) => listing.silent = true,
            }
        }
        Some(())
    }

    /// The least tree of all that are listed.
    async fn next_tree(&self, routing: &Routing, listings: &mut [Listing]) -> Next {
        let fronts = listings.iter().filter_map(|listing| listing.page.front());
        let Some(tree) = fronts.map(|(tree, _)| tree).min().cloned() else {
            return Next::End;
        };
        let mut digests = Vec::with_capacity(listings.len());
        for listing in listings.iter_mut() {
            let digest = match listing.page.front() {
                Some((front, digest)) if *front == tree => Some(*digest),
                // A page that was listed says that the tree is not there, up to where it ends.
                _ if listing.silent && listing.page.is_empty() => None,
                _ => Some(Digest::default()),
            };
            if listing
                .page
                .front()
                .is_some_and(|(front, _)| *front == tree)
            {
                listing.page.pop_front();
            }
            digests.push(digest);
        }
        let tenant = match TenantId::new(tree.tenant()) {
            Ok(tenant) => tenant,
            Err(_) => return Next::Nobodys(tree),
        };
        let Ok(tenant) = self.cached_tenant(&tenant, self.admin_deadline()).await else {
            return Next::Unknown(tree);
        };
        let owners = routing.owners(tree.partition(), tenant.replication_factor);
        let of_owner = |index: &u16| digests.get(usize::from(*index)).copied().flatten();
        Next::Tree(Found {
            digests: owners.iter().map(of_owner).collect(),
            owners: owners.to_vec(),
            policy: tenant.conflict_policy,
            tree,
        })
    }

    /// Exchanges what differs; purges where nothing does.
    async fn tend(&self, routing: Arc<Routing>, found: Found) -> Tended {
        let mut proof = Proof::default();
        if found.is_equal() {
            proof.whole = !found.has_silent();
            if !found.has_silent() || sabotage::on(Sabotage::PurgeWithOwnerMissing) {
                self.purge(&routing, &found).await;
            }
        } else {
            marks::reached(Mark::TreeDiffered);
            if sabotage::on(Sabotage::PurgeUnproved) {
                self.purge(&routing, &found).await;
            }
            proof = self.exchange(&routing, &found).await;
            proof.whole &= !found.has_silent();
        }
        let lacking = proof.lacking.into_iter();
        Tended {
            tree: found.tree,
            whole: proof.whole,
            lacking: lacking
                .map(|index| routing.node(index).id.clone())
                .collect(),
        }
    }

    /// Has one owner, the pivot, exchange with each other one until nothing moves. A pivot that has damaged records
    /// can't pass them on from one to the other: then it is the next one's turn.
    async fn exchange(&self, routing: &Arc<Routing>, found: &Found) -> Proof {
        // Best one that knows what was purged: those that are being refilled take from each other what it would have
        // refused.
        let (lost, others): (Vec<u16>, Vec<u16>) = found.answering().partition(|index| {
            self.is_refilling(routing, *index) && !sabotage::on(Sabotage::DamageBlocksRefill)
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

    fn is_refilling(&self, routing: &Routing, index: u16) -> bool {
        let refilling = |report: Option<&NodeReport>| report.is_some_and(|r| r.refilling.is_some());
        routing.health(index).with_report(refilling)
    }

    /// `None`: the pivot has damaged records.
    async fn exchange_from(
        &self,
        routing: &Arc<Routing>,
        found: &Found,
        pivot: u16,
        peers: &[u16],
    ) -> Option<Proof> {
        let mut passes = 0;
        let mut lacking = BTreeSet::new();
        for _ in 0..PASSES_MAX {
            let (mut moved, mut floors) = (0, 0);
            let mut complete = true;
            for peer in peers {
                let (mut exchanged, mut dropped) = (false, 0);
                for _ in 0..CALLS_MAX {
                    let sync = Upkeep::Sync {
                        tree: found.tree.clone(),
                        peer: routing.node(*peer).clone(),
                    };
                    let Ok(Upkept::Synced(synced)) = self.ask(routing, pivot, sync).await else {
                        break;
                    };
                    let records = synced.sent + synced.received;
                    moved += records + synced.floors;
                    floors += synced.floors;
                    let mut state = self.anti_entropy().lock();
                    state.exchanged += records;
                    state.bytes += synced.bytes;
                    drop(state);
                    if synced.damaged_here > 0 && !sabotage::on(Sabotage::DamageBlocksRefill) {
                        return None;
                    }
                    if synced.damaged_there > 0 {
                        lacking.insert(*peer);
                    }
                    dropped += synced.dropped;
                    exchanged = synced.complete;
                    if synced.complete || records == 0 {
                        break;
                    }
                }
                // What one owner let go may have gone to another one before.
                complete &= exchanged && dropped == 0;
            }
            passes += usize::from(complete);
            if moved == 0 || peers.len() < 2 && floors == 0 {
                // Going around once more would change nothing. (Before it had a floor it may have taken a late copy.)
                passes = if complete { PASSES_PROVING } else { 0 };
                break;
            }
        }
        Some(Proof {
            whole: passes >= PASSES_PROVING,
            lacking,
        })
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
            let list = Upkeep::Tombstones {
                tree: found.tree.clone(),
                after: after.take(),
                last_write_wins: found.policy == ConflictPolicy::LastWriteWins,
            };
            let Ok(Upkept::Keys { mut keys, more }) = self.ask(routing, *first, list).await else {
                return;
            };
            for other in others {
                if keys.is_empty() {
                    break;
                }
                let asked = Upkeep::AreTombstones { keys: keys.clone() };
                match self.ask(routing, *other, asked).await {
                    Ok(Upkept::Keys { keys: same, .. }) => keys = same,
                    _ if sabotage::on(Sabotage::PurgeWithOwnerMissing) => {}
                    _ => return,
                }
            }
            if !keys.is_empty() && self.are_equal(routing, found).await {
                buggify::pause(Site::PauseBeforePurge, |pause| self.clock().sleep(pause)).await;
                self.anti_entropy().lock().purged += keys.len() as u64;
                let purge = |owner: &u16| {
                    let purge = Upkeep::Purge { keys: keys.clone() };
                    self.ask(routing, *owner, purge)
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
            self.ask(routing, *owner, Upkeep::Leaves { tree })
        };
        let leaves = futures::future::join_all(found.owners.iter().map(leaves)).await;
        if sabotage::on(Sabotage::PurgeUnproved) {
            return true;
        }
        let heeded = |leaves: &&Result<Upkept, _>| {
            leaves.is_ok() || !sabotage::on(Sabotage::PurgeWithOwnerMissing)
        };
        let leaves: Vec<_> = leaves.iter().filter(heeded).collect();
        let first = leaves.first();
        leaves
            .iter()
            .all(|leaves| leaves.is_ok() && Some(leaves) == first)
    }

    /// Asks one node. The error is the newer epoch that it knows, if that is why.
    pub(super) async fn ask(
        &self,
        routing: &Arc<Routing>,
        index: u16,
        upkeep: Upkeep,
    ) -> Result<Upkept, Option<Epoch>> {
        use crate::ports::{CallError, Refusal};
        let deadline = self.clock().now() + PATIENCE;
        let owners = Owners::of_node(self.world().clone(), Arc::clone(routing), index);
        let operation = Operation::Upkeep(Box::new(upkeep));
        match owners.call_quietly(0, operation, deadline).await {
            Ok(Reply::Upkept(upkept)) => Ok(upkept),
            Ok(_) => Err(None),
            Err(CallError::Refused(Refusal::StaleEpoch { current })) => Err(Some(current)),
            Err(error) => {
                tracing::debug!(node = %routing.node(index).id, %error, "upkeep failed");
                Err(None)
            }
        }
    }

    /// Tells who owes something to nodes that are back, and who owes something to nodes that are none any more.
    pub(super) async fn mind_hints(&self, deadline: Instant) {
        let routing = self.routing();
        let back: Vec<NodeId> = routing
            .nodes()
            .filter(|(_, health)| health.take_back())
            .map(|(node, _)| node.id.clone())
            .collect();
        let mut calls = FuturesUnordered::new();
        for (index, (_, health)) in (0..).zip(routing.nodes()) {
            let owed = health.with_report(|report| match report {
                Some(report) => report.hints.iter().map(|h| h.target.clone()).collect(),
                None => Vec::new(),
            });
            for target in owed {
                let node = routing.topology().node(&target);
                let upkeep = match node {
                    Some(target) if back.contains(&target.id) => Upkeep::DeliverHints {
                        target: target.clone(),
                    },
                    Some(_) => continue,
                    None => Upkeep::ForgetHints { target },
                };
                let owners = Owners::of_node(self.world().clone(), Arc::clone(&routing), index);
                let operation = Operation::Upkeep(Box::new(upkeep));
                calls.push(async move { owners.call_quietly(0, operation, deadline).await });
            }
        }
        while calls.next().await.is_some() {}
    }
}

impl Tended {
    /// Notes what it proves.
    fn keep(&self, refills: &mut Refills) {
        if self.whole {
            refills.proved(&self.tree, &self.lacking);
        }
    }
}

impl Round {
    fn nobodys(&mut self, tree: &TreeName) {
        self.unknown += 1;
        self.nobodys += 1;
        if self.nobodys == 1 {
            let partition = tree.partition().0;
            tracing::warn!(
                partition,
                "a node holds records under a name that no tenant can have; they are left out"
            );
        }
    }

    fn count(&mut self, found: &Found) {
        match (found.has_silent(), found.is_equal()) {
            (true, _) => self.unknown += 1,
            (false, true) => self.equal += 1,
            (false, false) => self.divergent += 1,
        }
    }
}

impl Listing {
    const fn new(index: u16) -> Self {
        Self {
            index,
            page: VecDeque::new(),
            last: None,
            more: true,
            silent: false,
        }
    }
}

impl Found {
    fn has_silent(&self) -> bool {
        self.digests.iter().any(Option::is_none)
    }

    /// Whether all owners that answered have the same.
    fn is_equal(&self) -> bool {
        let mut known = self.digests.iter().flatten();
        let first = known.next();
        known.all(|digest| Some(digest) == first)
    }

    fn answering(&self) -> impl Iterator<Item = u16> {
        let both = self.owners.iter().zip(&self.digests);
        both.filter(|(_, digest)| digest.is_some())
            .map(|(index, _)| *index)
    }
}
