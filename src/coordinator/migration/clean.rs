//! Who owns a partition no more gives up its copy, once it is shown that the owners have all of it.
//!
//! First the node is told that it leaves: from then on it refuses whatever was routed by an older epoch, so nobody
//! counts on its answers any more. Then it exchanges what it holds with the owners, to the end. That covers what it
//! noted that others missed, and what others noted that it missed. Only then, if none of the owners has lost its disk
//! meanwhile, is its copy removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::ask::ask;
use super::super::listing::Found;
use super::copy::found;
use super::lead::Leader;
use super::memory::Memory;
use super::steps::leavers;
use super::turn::{Turn, Waits, Work};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Move, MoveState, NodeId, PartitionId};
use crate::ports::{Clock, CoordinatorWorld, DropTree, Fence, ForgetHints, TreeName};
use crate::version::Stamp;

/// How often a node is asked to go on with the removal of one tree.
const CALLS_MAX: usize = 10_000;

/// Why an old copy is kept for now.
enum Kept {
    /// Its turn's time is over, or what was moved is to be paid for first.
    ForLater,
    /// This node can't be had.
    Needs(u16),
    /// In words.
    Because(String),
}

impl<W: CoordinatorWorld> Leader<W> {
    /// Removes old copies of partitions that have been moved. Returns those of which none is left.
    pub(super) async fn clean_all(
        &self,
        turn: &Turn<'_>,
        memory: &mut Memory,
        waits: &mut Waits,
    ) -> BTreeSet<PartitionId> {
        let moved = turn.change.moves.iter().filter(|moving| {
            moving.state == MoveState::Moved && !memory.cleaned.contains(&moving.partition)
        });
        let mut moved: Vec<&Move> = moved.collect();
        // As with copies: not always the same first.
        let next = moved.partition_point(|moving| Some(moving.partition) < memory.next_clean);
        moved.rotate_left(next);
        let order: Vec<PartitionId> = moved.iter().map(|moving| moving.partition).collect();
        let cleans: Vec<BoxFuture<'_, _>> = moved
            .into_iter()
            .map(|moving| async move { (moving.partition, self.clean(turn, moving).await) }.boxed())
            .collect();
        let mut cleaned = BTreeSet::new();
        let mut left: BTreeSet<PartitionId> = BTreeSet::new();
        let done = |(partition, clean)| match clean {
            Ok(()) => drop(cleaned.insert(partition)),
            Err(Kept::ForLater) => drop(left.insert(partition)),
            Err(Kept::Needs(node)) => waits.add(turn, node),
            Err(Kept::Because(why)) => waits.because(why),
        };
        turn.work(self.world.clock(), Work::Clean, cleans, done)
            .await;
        memory.next_clean = order.into_iter().find(|partition| left.contains(partition));
        cleaned
    }

    /// Removes the old copies of one partition: none is left then.
    async fn clean(&self, turn: &Turn<'_>, moving: &Move) -> Result<(), Kept> {
        let now = self.world.clock().now();
        if turn.is_over(now) || turn.owes(now) {
            return Err(Kept::ForLater);
        }
        let is_given_up = |node| turn.is_given_up(node);
        let leavers = leavers(moving, &turn.factors, turn.change, is_given_up);
        let new = turn.participants(moving).new;
        let mut needed = leavers.iter().chain(&new);
        if let Some(missing) = needed.find(|node| !turn.there.contains_key(node)) {
            return Err(Kept::Needs(*missing));
        }
        let given_up = self.give_up(turn, moving, &leavers, &new).await;
        given_up.map_err(Kept::Because)
    }

    /// Has `leavers` give up what they hold of the partition and own no more.
    async fn give_up(
        &self,
        turn: &Turn<'_>,
        moving: &Move,
        leavers: &[u16],
        new: &[u16],
    ) -> Result<(), String> {
        if mutant::on(Mutant::LeaversTogether) {
            return self.give_up_together(turn, moving, leavers, new).await;
        }
        let (stay, only_left): (Vec<u16>, Vec<u16>) =
            leavers.iter().partition(|leaver| new.contains(leaver));
        if !only_left.is_empty() {
            // Whoever stays may have been told that it leaves, in a turn that came to nothing.
            self.fence_all(turn, moving, &stay, false).await?;
            self.give_up_together(turn, moving, &only_left, new).await?;
        }
        // One at a time: who leaves takes no more of what owners exchange, and each is an owner, still, of trees that
        // the others give up.
        for leaver in stay {
            if !mutant::on(Mutant::LeaverFencedAlone) {
                // It takes hand-offs again soon, of other tenants' trees. So nobody else may note any more, by an older
                // epoch, that it misses something of those that it gives up.
                let others = new.iter().filter(|owner| **owner != leaver);
                let others: Vec<u16> = others.copied().collect();
                self.fence_all(turn, moving, &others, false).await?;
            }
            let given_up = self.give_up_together(turn, moving, &[leaver], new).await;
            // It takes again what it missed, whatever came of it.
            self.fence_all(turn, moving, &[leaver], false).await?;
            given_up?;
        }
        Ok(())
    }

    /// Has these leavers give up what they hold of the partition and own no more, at the same time.
    async fn give_up_together(
        &self,
        turn: &Turn<'_>,
        moving: &Move,
        leavers: &[u16],
        new: &[u16],
    ) -> Result<(), String> {
        self.fence_all(turn, moving, leavers, true).await?;
        let only_left = leavers.iter().filter(|leaver| !new.contains(leaver));
        let nodes: Vec<u16> = new.iter().chain(only_left).copied().collect();
        let held = self.held(turn, moving.partition, &nodes).await?;
        for (tree, digests) in held {
            if !leavers.iter().any(|leaver| digests.contains_key(leaver)) {
                continue;
            }
            if turn.is_late(self.world.clock().now()) {
                return Err("the rest of what is given up".into());
            }
            let Some((owners, policy, factor)) = self.owners(turn, &tree).await else {
                return Err(format!(
                    "tenant '{}', which can't be looked up",
                    tree.tenant()
                ));
            };
            let leaving = leavers
                .iter()
                .filter(|it| digests.contains_key(it) && !owners.contains(it));
            let leaving: Vec<u16> = leaving.copied().collect();
            if !leaving.is_empty() {
                let all = [owners, leaving.clone()].concat();
                let found = Found {
                    leaving,
                    ..found(tree, (policy, factor), all, &digests)
                };
                self.give_up_tree(turn, moving, found, new).await?;
            }
        }
        Ok(())
    }

    /// Has those that are `leaving` give up a tree.
    async fn give_up_tree(
        &self,
        turn: &Turn<'_>,
        moving: &Move,
        found: Found,
        new: &[u16],
    ) -> Result<(), String> {
        let (tree, leaving) = (found.tree.clone(), found.leaving.clone());
        if !mutant::on(Mutant::CopyDroppedUnproved) {
            let tended = self.exchange.tend(Arc::clone(&turn.routing), found).await;
            let now = self.world.clock().now();
            self.board.moved(tended.moved, now);
            turn.owe(tended.moved.1, now);
            // They take nothing any more, so they may lack what the others have.
            let is_other = |node: &NodeId| leaving.iter().all(|it| turn.name(*it) != node);
            if !tended.whole || tended.lacking.iter().any(is_other) {
                return Err(
                    "an exchange with who leaves that did not come to its end, and is tried again"
                        .into(),
                );
            }
        }
        let forgets = leaving.iter();
        let forgets: Vec<_> = forgets
            .map(|it| self.forget_hints(turn, moving, *it))
            .collect();
        futures::future::join_all(forgets).await;
        if !mutant::on(Mutant::ProofOutlivesDisk) && !self.are_who_they_were(turn, new).await {
            return Err("an owner that was started anew meanwhile".into());
        }
        let drops = leaving.into_iter();
        let drops: Vec<_> = drops
            .map(|it| self.drop_tree(turn, it, tree.clone()))
            .collect();
        futures::future::try_join_all(drops).await.map(drop)
    }

    async fn fence_all(
        &self,
        turn: &Turn<'_>,
        moving: &Move,
        nodes: &[u16],
        leaving: bool,
    ) -> Result<(), String> {
        let fences = nodes.iter();
        let fences: Vec<_> = fences
            .map(|node| self.fence_one(turn, moving, *node, leaving))
            .collect();
        futures::future::try_join_all(fences).await.map(drop)
    }

    async fn fence_one(
        &self,
        turn: &Turn<'_>,
        moving: &Move,
        node: u16,
        leaving: bool,
    ) -> Result<(), String> {
        let fence = Fence {
            partitions: Some(vec![moving.partition]),
            leaving,
            horizon: Stamp::ZERO,
        };
        let fenced = ask(&self.world, &turn.routing, node, fence).await;
        let what = match leaving {
            true => "that it leaves",
            false => "to refuse older epochs",
        };
        let not_taken = |_| format!("{}, which does not take on {what}", turn.name(node));
        fenced.map(drop).map_err(not_taken)
    }

    /// What others noted that a leaver missed is nobody's to deliver any more. One that is not reached finds out when
    /// it tries.
    async fn forget_hints(&self, turn: &Turn<'_>, moving: &Move, leaver: u16) {
        let forget = |node: u16| {
            let forget = ForgetHints {
                target: turn.name(leaver).clone(),
                partitions: vec![moving.partition],
            };
            ask(&self.world, &turn.routing, node, forget)
        };
        let participants = turn.participants(moving);
        let others = participants.all().filter(|node| *node != leaver);
        let forgets: Vec<_> = others.map(forget).collect();
        futures::future::join_all(forgets).await;
    }

    async fn drop_tree(&self, turn: &Turn<'_>, leaver: u16, tree: TreeName) -> Result<(), String> {
        for _ in 0..CALLS_MAX {
            if turn.is_late(self.world.clock().now()) {
                return Err(format!(
                    "{}, which still gives up its copy",
                    turn.name(leaver)
                ));
            }
            let drop_tree = DropTree { tree: tree.clone() };
            match ask(&self.world, &turn.routing, leaver, drop_tree).await {
                Ok(dropped) if dropped.complete => {
                    marks::reached(Mark::CopyDropped);
                    return Ok(());
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Err(format!(
            "{}, which does not give up its copy",
            turn.name(leaver)
        ))
    }
}
