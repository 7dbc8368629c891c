//! What a turn does for the change under way: fences, copies, cleans, and publishes what may step.
//!
//! Invariant: no partition steps by what was shown before a node that took part lost its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::CoordinatorError;
use super::super::ask::ask;
use super::super::routing::Routing;
use super::copy::Copied;
use super::lead::Leader;
use super::memory::Memory;
use super::refused::refused;
use super::steps::{Factors, Readiness};
use super::stored::all_tenants;
use super::turn::{Outcome, TURN_MAX, Turn, Waits, Work, repaced};
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Move, MoveState, PartitionId, Topology, TopologyChange};
use crate::ports::{Clock, CoordinatorWorld, Migration, Probe};
use crate::version::Actor;

/// Partitions that are on their way at most, those left out that wait for a node. With fewer a change would take more
/// epochs; with more each would take longer, and writes to it need both sets of owners meanwhile.
const UNDER_WAY_MAX: usize = 256;

impl<W: CoordinatorWorld> Leader<W> {
    /// Does what the states of the partitions need, and publishes what may step.
    pub(super) async fn advance(
        &self,
        stored: &Topology,
        routing: &Arc<Routing>,
        change: &TopologyChange,
        migration: &Migration,
        memory: &mut Memory,
    ) -> Result<Outcome, CoordinatorError> {
        if migration.bytes_per_second == Some(0) {
            return Ok(Outcome {
                waits_for: Some("another pace than 0, at which it rests".into()),
                ..Outcome::default()
            });
        }
        let pace = migration.bytes_per_second;
        if pace != memory.pace {
            let (paces, now) = ((memory.pace, pace), self.world.clock().now());
            memory.paid_at = repaced(memory.paid_at, paces, now);
            memory.pace = pace;
        }
        let mut turn = Turn {
            routing: Arc::clone(routing),
            change,
            factors: match memory.factors.clone() {
                Some(known) => known,
                None => self.factors(change).await?,
            },
            there: self.incarnations(routing).await,
            until: self.world.clock().now() + TURN_MAX,
            pace,
            paid_at: Mutex::new(memory.paid_at),
            window: &self.window,
        };
        let mut waits = Waits::default();
        let fenced = self.fence(&turn, change, memory).await;
        // A tenant that is created from now on writes by the epochs that were just demanded. (Of one that needs more
        // owners than were known of before, those others are asked in the next turn.)
        let factors = self.factors(change).await?;
        if factors != turn.factors {
            memory.horizons.clear(); // there may be more new owners
            turn.factors = factors;
        }
        memory.factors = Some(turn.factors.clone());
        let (ready, mut under_way) = self.copy_all(&turn, &fenced, memory, &mut waits).await;
        // Copying may take all of its time, and leaves none to this.
        turn.until = self.world.clock().now() + TURN_MAX;
        let cleaned = self.clean_all(&turn, memory, &mut waits).await;
        memory.paid_at = turn.paid_at();
        self.note(change, cleaned, memory).await?;
        let mut step = self.still_there(&turn, ready).await;
        under_way -= step.len().min(under_way);
        let under_way_max = match buggify::on(Site::FewPartitionsMove) {
            true => 2,
            false => UNDER_WAY_MAX,
        };
        for moving in &change.moves {
            if under_way >= under_way_max {
                break;
            }
            if moving.state == MoveState::Waiting {
                match turn.missing(moving) {
                    None => {
                        step.insert(moving.partition);
                        under_way += 1;
                    }
                    Some(node) => waits.add(&turn, node),
                }
            }
        }
        if let Some(pace) = pace.filter(|_| turn.owes(self.world.clock().now())) {
            waits.at_least_because(format!(
                "its pace, at which {pace} bytes a second are moved: `pairdb migration pace` changes it"
            ));
        }
        let waits_for = waits.told();
        if step.is_empty() {
            if change.is_moved() && memory.cleaned.len() == change.moves.len() {
                return self.end(stored, change, migration).await;
            }
            let went_on = false;
            return Ok(Outcome { went_on, waits_for });
        }
        let next = stored.stepped(&step).map_err(refused)?;
        marks::reached(Mark::PartitionsStepped);
        let published = self.publish(stored, next).await?;
        Ok(Outcome {
            waits_for,
            ..published
        })
    }

    /// The replication factors in use.
    pub(super) async fn factors(
        &self,
        change: &TopologyChange,
    ) -> Result<Factors, CoordinatorError> {
        let tenants = all_tenants(&self.metadata).await?;
        let now = tenants.iter().map(|tenant| tenant.replication_factor);
        let changing = change.factors.iter().flat_map(|it| [it.from, it.to]);
        Ok(now.chain(changing).collect())
    }

    /// Who answers now and counts, by index.
    async fn incarnations(&self, routing: &Arc<Routing>) -> BTreeMap<u16, Actor> {
        let answering = (0..).zip(routing.nodes());
        let answering = answering.filter(|(_, (_, health))| health.answers());
        let probes: Vec<_> = answering
            .map(|(index, _)| self.incarnation(routing, index))
            .collect();
        let answers = futures::future::join_all(probes).await;
        answers.into_iter().flatten().collect()
    }

    async fn incarnation(&self, routing: &Arc<Routing>, index: u16) -> Option<(u16, Actor)> {
        let report = ask(&self.world, routing, index, Probe).await.ok()?;
        let incarnation = *report.incarnations.last()?;
        let counts = report.refilling.is_none() || mutant::on(Mutant::ProofOutlivesDisk);
        counts.then_some((index, incarnation))
    }

    /// Whether none of these nodes has lost its disk since the turn began.
    pub(super) async fn are_who_they_were(&self, turn: &Turn<'_>, nodes: &[u16]) -> bool {
        let probes: Vec<_> = nodes
            .iter()
            .map(|index| self.incarnation(&turn.routing, *index))
            .collect();
        let answers = futures::future::join_all(probes).await;
        let is_same = |(index, incarnation)| turn.there.get(&index) == Some(&incarnation);
        answers
            .into_iter()
            .all(|answer| answer.is_some_and(is_same))
    }

    /// Exchanges what all owners hold of partitions that are on their way. Returns those that may step, with who took
    /// part, and how many are on their way and wait for nobody.
    async fn copy_all(
        &self,
        turn: &Turn<'_>,
        fenced: &BTreeSet<(u16, PartitionId)>,
        memory: &mut Memory,
        waits: &mut Waits,
    ) -> (Vec<(PartitionId, Vec<u16>)>, usize) {
        let mut copies = Vec::new();
        let states = [MoveState::Copying, MoveState::HandingOver];
        let moves = turn.change.moves.iter();
        for moving in moves.filter(|moving| states.contains(&moving.state)) {
            let participants = turn.participants(moving);
            let is_there = |node| fenced.contains(&(node, moving.partition));
            match participants.readiness(moving, &turn.factors, is_there) {
                Readiness::Ready(nodes) => copies.push((moving, nodes)),
                Readiness::Needs(node) => waits.add(turn, node),
            }
        }
        let under_way = copies.len();
        // Not always the same first: some may take all the time that there is, and come to nothing.
        let next = copies.partition_point(|(moving, _)| Some(moving.partition) < memory.next);
        copies.rotate_left(next);
        let order: Vec<PartitionId> = copies.iter().map(|(moving, _)| moving.partition).collect();
        let copied: Vec<BoxFuture<'_, _>> = copies
            .into_iter()
            .map(|(moving, nodes)| {
                let copied = async move {
                    let copied = self.copy(turn, moving, &nodes).await;
                    (moving, nodes, copied)
                };
                copied.boxed()
            })
            .collect();
        let mut ready = Vec::new();
        let mut left: BTreeSet<PartitionId> = BTreeSet::new();
        let done = |(moving, nodes, copied): (&Move, _, Copied)| {
            let moved = memory.moved.entry(moving.partition).or_default();
            moved.0 += copied.moved.0;
            moved.1 += copied.moved.1;
            let is_heard = moving.state != MoveState::HandingOver
                || memory.horizons.contains(&moving.partition);
            match copied.unproved {
                None if is_heard => ready.push((moving.partition, nodes)),
                None => waits.because(
                    "new owners, which have not heard yet up to when writes may have been made"
                        .into(),
                ),
                Some(_) if copied.is_left => drop(left.insert(moving.partition)),
                Some(why) => waits.because(why),
            }
        };
        turn.work(self.world.clock(), Work::Copy, copied, done)
            .await;
        let next = order.into_iter().find(|partition| left.contains(partition));
        memory.next = next;
        (ready, under_way)
    }

    /// Those of these partitions of which all who took part are still who they were.
    async fn still_there(
        &self,
        turn: &Turn<'_>,
        ready: Vec<(PartitionId, Vec<u16>)>,
    ) -> BTreeSet<PartitionId> {
        if ready.is_empty() {
            return BTreeSet::new();
        }
        let now = self.incarnations(&turn.routing).await;
        let is_same = |node: &u16| now.get(node) == turn.there.get(node);
        let same = ready.into_iter().filter(|(_, nodes)| {
            nodes.iter().all(is_same) || mutant::on(Mutant::ProofOutlivesDisk)
        });
        same.map(|(partition, _)| partition).collect()
    }
}
