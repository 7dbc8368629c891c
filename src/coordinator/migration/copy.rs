//! Who takes part in a partition's move refuses older epochs, and then exchanges all that it holds.
//!
//! First the fence, then the copy: what is still acknowledged by older epochs after a node was asked what it holds
//! could be known to that node alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::ask::{ask, ask_at};
use super::super::listing::Found;
use super::lead::Leader;
use super::memory::Memory;
use super::turn::Turn;
use crate::buggify::{self, Site};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Move, MoveState, PartitionId, TopologyChange};
use crate::ports::{
    Clock, CoordinatorWorld, Digest, Fence, Instant, RootsOf, TenantId, TreeName, TreePage,
};
use crate::version::Stamp;

/// Pages of one partition's trees; a partition has as many trees as tenants.
const PAGES_MAX: usize = 10_000;

/// What copying one partition came to.
#[derive(Default)]
pub(super) struct Copied {
    /// Records and bytes that were exchanged.
    pub(super) moved: (u64, u64),
    /// Whether it did not come to its end, for want of time.
    pub(super) is_left: bool,
    /// Why it is not shown that each node has all that any had; `None`: it is.
    pub(super) unproved: Option<String>,
}

impl Copied {
    /// Time was over, with this much moved.
    fn left(moved: (u64, u64)) -> Self {
        Self {
            moved,
            is_left: true,
            unproved: Some("its turn".into()),
        }
    }

    pub(super) fn unproved(why: impl Into<String>) -> Self {
        Self {
            unproved: Some(why.into()),
            ..Self::default()
        }
    }
}

/// What became of what a node was asked to refuse.
struct FencesOf {
    node: u16,
    /// The partitions for which it refuses older epochs.
    fences: Vec<PartitionId>,
    /// Whether it has heard of the horizon.
    horizon: bool,
}

/// What each node holds of one partition, by the node's index.
pub(super) type Held = BTreeMap<TreeName, BTreeMap<u16, Digest>>;

impl<W: CoordinatorWorld> Leader<W> {
    /// Has all owners of partitions that are on their way refuse epochs before those of their last steps. Returns who
    /// does, of which partition.
    pub(super) async fn fence(
        &self,
        turn: &Turn<'_>,
        change: &TopologyChange,
        memory: &mut Memory,
    ) -> BTreeSet<(u16, PartitionId)> {
        let mut wanted: BTreeMap<(u16, Epoch), (Vec<PartitionId>, Vec<PartitionId>)> =
            BTreeMap::new();
        for moving in &change.moves {
            let is_handed_over = match moving.state {
                MoveState::Waiting | MoveState::Moved => continue,
                MoveState::Copying => false,
                MoveState::HandingOver => !memory.horizons.contains(&moving.partition),
            };
            let participants = turn.participants(moving);
            for node in participants
                .all()
                .filter(|node| turn.there.contains_key(node))
            {
                let of_node = wanted.entry((node, moving.since)).or_default();
                of_node.0.push(moving.partition);
                if is_handed_over && participants.new.contains(&node) {
                    of_node.1.push(moving.partition);
                }
            }
        }
        // New owners are to know how far back writes may be that they have never heard of.
        let told = |it: &&Move| {
            it.state == MoveState::HandingOver && !memory.horizons.contains(&it.partition)
        };
        let told: Vec<PartitionId> = change
            .moves
            .iter()
            .filter(told)
            .map(|it| it.partition)
            .collect();
        let horizon = match told.is_empty() {
            true => Stamp::ZERO,
            false => self.horizon(turn).await,
        };
        let fences = wanted
            .into_iter()
            .map(|((node, since), (all, handed_over))| {
                let horizon = match handed_over.is_empty() {
                    true => Stamp::ZERO,
                    false => horizon,
                };
                self.fence_node(turn, (node, since), all, horizon)
            });
        let fences: Vec<_> = fences.collect();
        let answers = futures::future::join_all(fences).await;
        let mut fenced: BTreeSet<(u16, PartitionId)> = BTreeSet::new();
        let mut heard: BTreeSet<(u16, PartitionId)> = BTreeSet::new();
        for FencesOf {
            node,
            fences,
            horizon,
        } in answers
        {
            let fences = fences.into_iter().map(|partition| (node, partition));
            fenced.extend(fences.clone());
            heard.extend(fences.filter(|_| horizon));
        }
        // Who did not hear of it is told again.
        let all_know = |partition: &PartitionId| {
            let moving = change.of(*partition);
            moving.is_some_and(|moving| {
                let new = turn.participants(moving).new;
                new.iter().all(|node| heard.contains(&(*node, *partition)))
            })
        };
        memory.horizons.extend(told.into_iter().filter(all_know));
        fenced
    }

    /// Has one node refuse epochs before `since` for these partitions, and tells it of a horizon.
    async fn fence_node(
        &self,
        turn: &Turn<'_>,
        (node, since): (u16, Epoch),
        partitions: Vec<PartitionId>,
        horizon: Stamp,
    ) -> FencesOf {
        let fence = |partitions: Vec<PartitionId>, horizon: Stamp| Fence {
            partitions: Some(partitions),
            leaving: false,
            horizon,
        };
        let (world, routing) = (&self.world, &turn.routing);
        let all = fence(partitions.clone(), horizon);
        let mut answer = FencesOf {
            node,
            fences: Vec::new(),
            horizon: true,
        };
        match ask_at(world, routing, (node, since), all).await {
            Ok(_) => {
                answer.fences = partitions;
                return answer;
            }
            Err(Some(current)) if current >= since => {}
            Err(_) => return answer,
        }
        // For some of them it refuses even newer ones, and then it took on none.
        for partition in partitions {
            let one = fence(vec![partition], Stamp::ZERO);
            match ask_at(world, routing, (node, since), one).await {
                Ok(_) => answer.fences.push(partition),
                Err(Some(current)) if current >= since => answer.fences.push(partition),
                Err(_) => {}
            }
        }
        if horizon > Stamp::ZERO {
            let told = ask(world, routing, node, fence(Vec::new(), horizon)).await;
            answer.horizon = told.is_ok();
        }
        answer
    }

    /// No write was accepted by any node with a greater stamp than this, and few will be from now on.
    async fn horizon(&self, turn: &Turn<'_>) -> Stamp {
        let ask_one = |node: u16| {
            let fence = Fence {
                partitions: Some(Vec::new()),
                leaving: false,
                horizon: Stamp::ZERO,
            };
            ask(&self.world, &turn.routing, node, fence)
        };
        let asked: Vec<_> = turn.there.keys().map(|node| ask_one(*node)).collect();
        let horizons = futures::future::join_all(asked).await;
        let heard: Vec<Stamp> = horizons.into_iter().filter_map(Result::ok).collect();
        let is_all = heard.len() == turn.routing.topology().nodes.len();
        highest(&heard, is_all, self.topologies.draw_stamp())
    }

    /// Has those of `nodes` that own a tree of the partition, now or then, exchange all they hold of it.
    pub(super) async fn copy(&self, turn: &Turn<'_>, moving: &Move, nodes: &[u16]) -> Copied {
        let clock = self.world.clock();
        if turn.is_over(clock.now()) || turn.owes(clock.now()) {
            return Copied::left((0, 0));
        }
        buggify::pause(Site::PauseBeforeCopy, |pause| clock.sleep(pause)).await;
        let held = match self.held(turn, moving.partition, nodes).await {
            Ok(held) => held,
            Err(why) => return Copied::unproved(why),
        };
        let mut copied = Copied::default();
        for (tree, digests) in held {
            // Trees that are equal by then take no time in its next turn.
            if turn.is_over(clock.now()) {
                return Copied::left(copied.moved);
            }
            let Some((owners, policy, factor)) = self.owners(turn, &tree).await else {
                return Copied {
                    unproved: Some(format!(
                        "tenant '{}', which can't be looked up",
                        tree.tenant()
                    )),
                    ..copied
                };
            };
            let owners: Vec<u16> = owners.into_iter().filter(|it| nodes.contains(it)).collect();
            let found = found(tree, (policy, factor), owners, &digests);
            if mutant::on(Mutant::MovedUnproved) && moving.state == MoveState::HandingOver {
                continue;
            }
            let tended = self.exchange.tend(Arc::clone(&turn.routing), found).await;
            copied.moved.0 += tended.moved.0;
            copied.moved.1 += tended.moved.1;
            self.board.moved(tended.moved, clock.now());
            turn.owe(tended.moved.1, clock.now());
            if mutant::on(Mutant::HandOverBeforeProof) {
                continue;
            }
            if !tended.whole {
                copied.unproved = Some(
                    "an exchange between owners that did not come to its end, and is tried again"
                        .into(),
                );
            } else if let Some(node) = tended.lacking.first() {
                copied.unproved =
                    Some(format!("damaged records of {node}, which are healed first"));
            }
        }
        copied
    }

    /// The owners of a tree, its tenant's policy, and its factor.
    pub(super) async fn owners(
        &self,
        turn: &Turn<'_>,
        tree: &TreeName,
    ) -> Option<(Vec<u16>, crate::quorum::ConflictPolicy, u8)> {
        let tenant = TenantId::new(tree.tenant()).ok()?;
        let deadline: Instant = self.metadata.deadline();
        let tenant = self
            .tenants
            .get(&tenant, &turn.routing, deadline)
            .await
            .ok()?;
        let factor = tenant.replication_factor;
        let owners = turn
            .routing
            .owners_of(tree.partition(), tree.tenant(), factor);
        Some((owners.nodes().to_vec(), tenant.conflict_policy, factor))
    }

    /// What these nodes hold of a partition. The error says who did not tell.
    pub(super) async fn held(
        &self,
        turn: &Turn<'_>,
        partition: PartitionId,
        nodes: &[u16],
    ) -> Result<Held, String> {
        let lists: Vec<BoxFuture<'_, _>> = nodes
            .iter()
            .map(|node| self.list(turn, partition, *node).boxed())
            .collect();
        let mut held = Held::new();
        for (node, list) in nodes.iter().zip(futures::future::join_all(lists).await) {
            let list = list.ok_or_else(|| {
                format!("{}, which does not tell what it holds", turn.name(*node))
            })?;
            for (tree, digest) in list {
                held.entry(tree).or_default().insert(*node, digest);
            }
        }
        Ok(held)
    }

    async fn list(
        &self,
        turn: &Turn<'_>,
        partition: PartitionId,
        node: u16,
    ) -> Option<Vec<(TreeName, Digest)>> {
        let mut all: Vec<(TreeName, Digest)> = Vec::new();
        for _ in 0..PAGES_MAX {
            if turn.is_late(self.world.clock().now()) {
                return None;
            }
            let after = all.last().map(|(tree, _)| tree.clone());
            let list = RootsOf { partition, after };
            let TreePage { roots, more } =
                ask(&self.world, &turn.routing, node, list).await.ok()?;
            let is_last = !more || roots.is_empty();
            all.extend(roots);
            if is_last {
                return Some(all);
            }
        }
        None
    }
}

/// The highest of the stamps up to which nodes may have accepted writes. Of a node that did not tell, the clock by
/// which writes are stamped says it: what that node alone knows of was stamped before now.
fn highest(heard: &[Stamp], is_all: bool, now: Stamp) -> Stamp {
    let unheard = (!is_all).then_some(&now);
    heard
        .iter()
        .chain(unheard)
        .max()
        .copied()
        .unwrap_or(Stamp::ZERO)
}

/// A tree, as these nodes hold it. Who led the exchange looks afterwards whether they are still who they were.
pub(super) fn found(
    tree: TreeName,
    (policy, factor): (crate::quorum::ConflictPolicy, u8),
    owners: Vec<u16>,
    held: &BTreeMap<u16, Digest>,
) -> Found {
    let digest = |node: &u16| Some(held.get(node).copied().unwrap_or_default());
    Found {
        digests: owners.iter().map(digest).collect(),
        owners,
        is_moving: true,
        leaving: Vec::new(),
        is_guarded: true,
        policy,
        factor,
        tree,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_tell_may_know_of_whatever_was_stamped_so_far() {
        let heard = [Stamp(3), Stamp(7), Stamp(5)];
        assert_eq!(highest(&heard, true, Stamp(9)), Stamp(7));
        assert_eq!(highest(&heard, false, Stamp(9)), Stamp(9));
        assert_eq!(highest(&heard, false, Stamp(2)), Stamp(7));
        assert_eq!(highest(&[], false, Stamp(2)), Stamp(2));
    }
}
