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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::ask::ask;
use super::convergence::{Convergence, Progress};
use super::exchange::{Exchange, Tended};
use super::heal::{DamagedRecords, Healing};
use super::listing::{Found, Listings, Next};
use super::metadata::{Lease, Metadata};
use super::refill::Refills;
use super::routing::Routing;
use super::settings::CoordinatorSettings;
use super::tenants::TenantCache;
use super::topologies::Topologies;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::NodeId;
use crate::ports::{
    Clock, CoordinatorWorld, Fence, ListDamaged, NodeReport, Random, Refilled, Release, Stop,
    TreeName,
};
use crate::sizes::{self, Size};
use crate::version::Stamp;

/// What the lease is called.
const LEASE: &str = "anti-entropy";

/// See the [module](self).
pub(super) struct AntiEntropy<W: CoordinatorWorld> {
    world: W,
    settings: Arc<CoordinatorSettings>,
    metadata: Arc<Metadata<W>>,
    topologies: Arc<Topologies<W>>,
    tenants: Arc<TenantCache<W>>,
    healing: Healing<W>,
    exchange: Exchange<W>,
    progress: Arc<Progress>,
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

impl<W: CoordinatorWorld> AntiEntropy<W> {
    pub(super) fn new(
        world: W,
        settings: Arc<CoordinatorSettings>,
        metadata: Arc<Metadata<W>>,
        topologies: Arc<Topologies<W>>,
        tenants: Arc<TenantCache<W>>,
    ) -> Self {
        let progress = Arc::<Progress>::default();
        Self {
            healing: Healing {
                world: world.clone(),
                settings: Arc::clone(&settings),
                tenants: Arc::clone(&tenants),
                metadata: Arc::clone(&metadata),
            },
            exchange: Exchange {
                world: world.clone(),
                progress: Arc::clone(&progress),
            },
            world,
            settings,
            metadata,
            topologies,
            tenants,
            progress,
        }
    }

    /// How far the owners are from being equal, as far as this coordinator knows.
    pub(super) fn convergence(&self) -> Convergence {
        self.progress.lock().clone()
    }

    /// Compares owners, round after round, while this coordinator has the lease.
    pub(super) async fn keep_equal(&self, stop: &Stop) {
        let pause = self.settings.anti_entropy_pause;
        let lease = Lease {
            name: LEASE,
            holder: self.world.random().next_u64(),
            lasts: self.settings.anti_entropy_lease.max(pause * 2),
        };
        let mut wait = pause;
        let (mut refills, mut damaged_records) = (Refills::default(), DamagedRecords::default());
        loop {
            // Not all coordinators at once.
            let jitter = Duration::from_nanos(self.world.random().next_u64() % 250_000_000);
            let sleep = self.rest(wait + jitter.min(wait), pause);
            if stop.or(sleep).await.is_none() {
                break;
            }
            wait = pause;
            let leads = self.metadata.holds(lease).await;
            self.progress.lock().leads = leads;
            if !leads {
                continue;
            }
            let round = self.round(&mut refills, &mut damaged_records);
            let round = self.metadata.while_held(lease, round);
            let Some(round) = stop.or(round).await else {
                break;
            };
            self.progress.lock().leads = round.is_some();
            if let Some(Some(round)) = round
                && round.divergent + round.unknown == 0
            {
                wait = self.settings.anti_entropy_period.max(pause);
            }
        }
        if self.progress.lock().leads {
            self.metadata.let_go(lease).await;
        }
    }

    /// Rests for so long, less if a node lost its disk: it should count again soon.
    async fn rest(&self, all: Duration, pause: Duration) {
        let until = self.world.clock().now() + all;
        while self.world.clock().now() < until {
            self.world
                .clock()
                .sleep_until(until.min(self.world.clock().now() + pause))
                .await;
            let routing = self.topologies.routing();
            let lost = |report: Option<&NodeReport>| report.is_some_and(|r| r.refilling.is_some());
            if routing.nodes().any(|(_, health)| health.with_report(lost)) {
                return;
            }
        }
    }

    /// Sees to it that nodes that lost their disks, or have damaged records, are fenced: publishes an epoch, with the
    /// same nodes, if one of them is not. If that can't be done now, the round goes on without proving anything of
    /// them.
    async fn fence(&self, refills: &mut Refills, damaged_records: &mut DamagedRecords) {
        self.healing
            .look_for_damage(&self.topologies.routing(), damaged_records)
            .await;
        let unfenced = refills.look(&self.topologies.routing());
        if !unfenced && !damaged_records.need_fence() {
            return;
        }
        if mutant::on(Mutant::RefilledUnfenced) {
            damaged_records.fenced();
            return refills.fenced();
        }
        match self.topologies.next_epoch().await {
            Ok(Some(epoch)) => {
                marks::reached(Mark::RefillFenced);
                let epoch = epoch.0;
                tracing::info!(
                    epoch,
                    "a node lost what it had acknowledged, or a record of it: older epochs end"
                );
                refills.fenced();
                damaged_records.fenced();
            }
            Ok(None) => {} // somebody else published one meanwhile
            Err(error) => {
                tracing::debug!(%error, "can't publish an epoch for a node that lost its disk")
            }
        }
    }

    /// Has all nodes refuse epochs older than the one in use. Returns those that do.
    async fn fence_nodes(&self, routing: &Arc<Routing>) -> BTreeSet<NodeId> {
        let fence = |index: u16| async move {
            let fence = Fence {
                partitions: None,
                leaving: false,
                horizon: Stamp::ZERO,
            };
            let is_fenced = match self.world.speaks() {
                Release::Current => ask(&self.world, routing, index, fence).await.is_ok(),
                // Whoever answers this one by an epoch refuses older ones from then on.
                Release::BeforeChangesOfOwners => {
                    let asked = ask(&self.world, routing, index, ListDamaged).await;
                    asked.is_ok()
                }
            };
            is_fenced.then(|| routing.node(index).id.clone())
        };
        let nodes = 0..routing.topology().nodes.len() as u16; // there are at most 1024
        let fenced = futures::future::join_all(nodes.map(fence)).await;
        fenced.into_iter().flatten().collect()
    }

    /// Goes through all trees. `None`: not to the end.
    async fn round(
        &self,
        refills: &mut Refills,
        damaged_records: &mut DamagedRecords,
    ) -> Option<Round> {
        self.fence(refills, damaged_records).await;
        let routing = self.topologies.routing();
        let fenced = match refills.is_empty() && damaged_records.is_empty() {
            true => BTreeSet::new(),
            false => self.fence_nodes(&routing).await,
        };
        self.healing
            .heal_all(&routing, damaged_records, &fenced)
            .await;
        refills.begin(&routing);
        self.progress.lock().seen = 0;
        let mut listings = Listings::new(Arc::clone(&routing));
        let round = self.walk(&routing, &mut listings, refills).await?;
        // What a node lists that still answers older epochs says nothing of what it will have acknowledged by them.
        let heard = listings.heard().filter(|node| fenced.contains(*node));
        heard.for_each(|node| refills.listed(node));
        if !listings.has_silent() {
            refills.round_complete();
        }
        self.end_refills(&routing, refills).await;
        let mut state = self.progress.lock();
        state.rounds += 1;
        state.ended_ms = self.world.clock().wall_ms();
        state.equal = round.equal;
        state.divergent = round.divergent;
        state.unknown = round.unknown;
        marks::reached(match round.divergent + round.unknown {
            0 => Mark::RoundAllEqual,
            _ => Mark::RoundFoundDifferences,
        });
        Some(round)
    }

    /// Has the owners of all trees compared, a few trees at a time. `None`: not to the end.
    async fn walk(
        &self,
        routing: &Arc<Routing>,
        listings: &mut Listings,
        refills: &mut Refills,
    ) -> Option<Round> {
        let mut round = Round::default();
        let mut under_way = FuturesUnordered::new();
        loop {
            if let Err(newer) = listings.fill(&self.world).await {
                let deadline = self.metadata.deadline();
                self.topologies.refresh(newer, deadline).await;
                return None;
            }
            let next = listings.next::<W>(&self.tenants, self.metadata.deadline());
            let next = next.await;
            self.progress.lock().seen += u64::from(!matches!(next, Next::End));
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
                    under_way.push(self.exchange.tend(Arc::clone(routing), found));
                }
            }
            while under_way.len() >= sizes::of(Size::TreesAtOnce)
                && let Some(tended) = under_way.next().await
            {
                keep(&tended, refills);
            }
            if self.topologies.routing().epoch() != routing.epoch() {
                marks::reached(Mark::RoundCutShort);
                return None;
            }
        }
        while let Some(tended) = under_way.next().await {
            keep(&tended, refills);
        }
        Some(round)
    }

    /// Tells nodes that have everything back that they count again.
    async fn end_refills(&self, routing: &Arc<Routing>, refills: &Refills) {
        let proofs = match mutant::on(Mutant::RefilledUnproved) {
            true => refills.all(),
            false => refills.proofs(),
        };
        for (index, node) in (0..).zip(&routing.topology().nodes) {
            let proof = proofs.iter().find(|(proved, _)| *proved == node.id);
            if let Some((_, incarnation)) = proof.cloned() {
                tracing::info!(node = %node.id, %incarnation, "has got back what it lost");
                let refilled = Refilled { incarnation };
                let _ = ask(&self.world, routing, index, refilled).await; // if not, in the next round
            }
        }
    }
}

/// Notes what a tree proves that was made equal.
fn keep(tended: &Tended, refills: &mut Refills) {
    if tended.whole {
        refills.proved(&tended.tree, &tended.lacking);
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
