//! Who owns a partition no more gives up its copy, once it is shown that the owners have all of it.
//!
//! First the node is told that it leaves: from then on it refuses whatever was routed by an older epoch, so nobody
//! counts on its answers any more. Then it exchanges what it holds with the owners, to the end. That covers what it
//! noted that others missed, and what others noted that it missed. Only then, if none of the owners has lost its disk
//! meanwhile, is its copy removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ask::ask;
use super::copy::found;
use super::lead::Leader;
use super::memory::Memory;
use super::steps::leavers;
use super::turn::{Turn, Waits};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Move, MoveState, NodeId, PartitionId};
use crate::ports::{Clock, CoordinatorWorld, DropTree, Fence, ForgetHints, TreeName};
use crate::version::Stamp;

/// How often a node is asked to go on with the removal of one tree.
const CALLS_MAX: usize = 10_000;

impl<W: CoordinatorWorld> Leader<W> {
    /// Removes old copies of partitions that have been moved. Returns those of which none is left.
    pub(super) async fn clean_all(
        &self,
        turn: &Turn<'_>,
        memory: &Memory,
        waits: &mut Waits,
    ) -> BTreeSet<PartitionId> {
        let moved = turn.change.moves.iter().filter(|moving| {
            moving.state == MoveState::Moved && !memory.cleaned.contains(&moving.partition)
        });
        let mut cleaned = BTreeSet::new();
        for moving in moved {
            let now = self.world.clock().now();
            if turn.is_over(now) || turn.owes(now) {
                break;
            }
            match self.clean(turn, moving, waits).await {
                Ok(true) => drop(cleaned.insert(moving.partition)),
                Ok(false) => {}
                Err(why) => waits.because(why),
            }
        }
        cleaned
    }

    /// Removes the old copies of one partition. Returns whether none is left; the error says what is in the way.
    async fn clean(
        &self,
        turn: &Turn<'_>,
        moving: &Move,
        waits: &mut Waits,
    ) -> Result<bool, String> {
        let is_given_up = |node| turn.is_given_up(node);
        let leavers = leavers(moving, &turn.factors, turn.change, is_given_up);
        let new = turn.participants(moving).new;
        let mut needed = leavers.iter().chain(&new);
        if let Some(missing) = needed.find(|node| !turn.there.contains_key(node)) {
            waits.add(turn, *missing);
            return Ok(false);
        }
        for leaver in leavers {
            self.clean_leaver(turn, moving, leaver, &new).await?;
        }
        Ok(true)
    }

    async fn clean_leaver(
        &self,
        turn: &Turn<'_>,
        moving: &Move,
        leaver: u16,
        new: &[u16],
    ) -> Result<(), String> {
        let name = turn.name(leaver);
        if new.contains(&leaver) {
            // It takes hand-offs again soon, of other tenants' trees. So nobody may note any more, by an older epoch,
            // that it misses something of those that it gives up.
            for owner in new.iter().filter(|owner| **owner != leaver) {
                self.fence_one(turn, moving, *owner, false).await?;
            }
        }
        self.fence_one(turn, moving, leaver, true).await?;
        let mut nodes = new.to_vec();
        nodes.extend((!new.contains(&leaver)).then_some(leaver));
        let held = self.held(turn, moving.partition, &nodes).await?;
        for (tree, digests) in held {
            if !digests.contains_key(&leaver) {
                continue;
            }
            if turn.is_late(self.world.clock().now()) {
                return Err(format!("the rest of what {name} is to give up"));
            }
            let Some((mut owners, policy, factor)) = self.owners(turn, &tree).await else {
                return Err(format!(
                    "tenant '{}', which can't be looked up",
                    tree.tenant()
                ));
            };
            if owners.contains(&leaver) {
                continue;
            }
            owners.push(leaver);
            let found = found(tree.clone(), (policy, factor), owners, &digests);
            if !mutant::on(Mutant::CopyDroppedUnproved) {
                let tended = self.exchange.tend(Arc::clone(&turn.routing), found).await;
                let now = self.world.clock().now();
                self.board.moved(tended.moved, now);
                turn.owe(tended.moved.1, now);
                // It takes nothing any more, so it may lack what the others have.
                let is_other = |node: &NodeId| node != name;
                if !tended.whole || tended.lacking.iter().any(is_other) {
                    return Err(format!(
                        "an exchange with {name} that did not come to its end, and is tried again"
                    ));
                }
            }
            self.forget_hints(turn, moving, leaver).await;
            if !mutant::on(Mutant::ProofOutlivesDisk) && !self.are_who_they_were(turn, new).await {
                return Err("an owner that was started anew meanwhile".into());
            }
            self.drop_tree(turn, leaver, tree).await?;
        }
        if new.contains(&leaver) {
            // It is an owner still, of other tenants' trees, and takes what it missed of them.
            self.fence_one(turn, moving, leaver, false).await?;
        }
        Ok(())
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
