//! Looks on as partitions that move come one step further: whether what the step relies on is so.
//!
//! Before a partition is handed over each old and new owner has taken on to refuse older epochs, and each new one holds
//! what any old one held when the copying began. Before it is moved each new owner has taken that on, so many old ones
//! that no quorum of them could answer by an older epoch, and each new one holds what those old ones held when the
//! handing over began. A change that ends leaves every partition with the owners that it was to have; one that was
//! turned back, with those that it had.
//!
//! It looks on disks, in the moment the step is stored. A new owner that does not serve, or counts for no quorum, has
//! to get back what it lacks before it is relied on, so it need not hold anything; but a moment ago it did count.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pairdb::placement::{Move, MoveState, Node, PartitionId, TopologyChange};
use pairdb::ports::RecordKey;
use pairdb::version::Record;

use crate::endpoint::Endpoint;
use crate::excuse::Excuse;
use crate::op::Time;
use crate::reign::{Reign, endpoint};
use crate::seen::Seen;

/// The storage nodes as they are, whatever they say.
pub trait Nodes: Send + Sync {
    /// What is on a node's disk of records.
    fn records(&self, who: Endpoint) -> BTreeMap<Bytes, Bytes>;
    /// One of them.
    fn record(&self, who: Endpoint, key: &RecordKey) -> Option<Bytes>;
    /// Whether a node serves and counts for quorums; `None`: it does not serve.
    fn counts(&self, who: Endpoint) -> Option<bool>;
}

/// Looks at every topology that is stored.
#[derive(Default)]
pub struct Steps {
    /// What old owners held of each partition when its state began.
    held: BTreeMap<PartitionId, Vec<Held>>,
    /// The nodes that there were before the change that is under way.
    before: Vec<Node>,
}

/// What one node held of one record.
struct Held {
    by: Endpoint,
    key: RecordKey,
    record: Record,
}

/// Who may own records of a partition, whatever the tenant.
struct Participants {
    old: Vec<Endpoint>,
    new: Vec<Endpoint>,
    /// The old ones under each replication factor.
    by_factor: Vec<Vec<Endpoint>>,
}

impl Steps {
    /// `now` was stored and follows `before`. Notes in `seen` what can't be right.
    pub fn stored(&mut self, nodes: &dyn Nodes, (before, now): (&Reign, &Reign), seen: &mut Seen) {
        let changes = [before, now].map(|it| it.placement.topology().change.as_deref());
        let [old, new] = changes;
        match (old, new) {
            (None, Some(_)) => self.before.clone_from(&before.placement.topology().nodes),
            (Some(change), None) => self.ended(change, &now.placement.topology().nodes, seen),
            _ => {}
        }
        let turned_back = old.is_some_and(|it| !it.cancelled) && new.is_some_and(|it| it.cancelled);
        let given_up = changes.map(|change| change.map_or(0, |it| it.given_up.len()));
        let amended = old.is_some() && given_up[0] < given_up[1];
        for moving in new.into_iter().flat_map(|change| &change.moves) {
            let was = old.and_then(|change| change.of(moving.partition));
            if let Some(was) = was.filter(|was| was.since == moving.since) {
                stays(was, moving, seen);
                continue;
            }
            match was {
                Some(was) if turned_back => turns_back(was, moving, seen),
                Some(was) if amended => begins_anew((before, was), (now, moving), seen),
                Some(was) => {
                    let step = (was, moving.state, now.since);
                    self.steps(nodes, before, step, seen);
                }
                None => {}
            }
            let held = hold(nodes, now, moving);
            self.held.insert(moving.partition, held);
        }
    }

    /// Whether a change that has ended left the nodes that it was to leave.
    fn ended(&mut self, change: &TopologyChange, nodes: &[Node], seen: &mut Seen) {
        self.held.clear();
        let wanted = match change.cancelled && change.given_up.is_empty() {
            true => &self.before,
            false => &change.target,
        };
        let id = &change.id;
        if change.moves.iter().any(|it| it.state != MoveState::Moved) {
            let what = format!("{id} ended with partitions on their way");
            seen.contradiction("step", None, what);
        }
        if nodes != wanted {
            let what = format!("{id} ended with other nodes than it was to");
            seen.contradiction("step", None, what);
        }
    }

    /// Whether a partition may leave the state that it was in.
    fn steps(
        &self,
        nodes: &dyn Nodes,
        reign: &Reign,
        (was, to, at): (&Move, MoveState, Time),
        seen: &mut Seen,
    ) {
        let number = was.partition.0;
        if was.state.next() != Some(to) {
            let (was, to) = (was.state.as_str(), to.as_str());
            let what = format!("partition {number} was {was} and is {to}");
            seen.contradiction("step", None, what);
        }
        if to == MoveState::Copying {
            return;
        }
        let owners = Participants::of(reign, was);
        let lost = owners
            .new
            .iter()
            .filter(|who| nodes.counts(**who) == Some(false));
        for who in lost {
            let to = to.as_str();
            let ended = seen.ended_within(*who, at);
            let excuse = ended.then_some(Excuse::LostSinceLookedAt);
            let what = format!("partition {number} is {to}, and {who} has counted for nothing");
            seen.contradiction_unless(excuse, "step", None, what);
        }
        let refuses = |who: &Endpoint| seen.fences.ever(*who, was.partition) >= was.since;
        let unfenced: BTreeSet<Endpoint> = owners.all().filter(|who| !refuses(who)).collect();
        // No quorum of the old owners may be left to answer who has not heard that the partition is handed over.
        let is_moved = to == MoveState::Moved;
        let may_miss = |who: &&Endpoint| {
            is_moved && !owners.new.contains(who) && !owners.could_answer(&unfenced)
        };
        if let Some(who) = unfenced.iter().find(|who| !may_miss(who)) {
            let (to, since) = (to.as_str(), was.since);
            let what = format!(
                "partition {number} is {to}, and {who} had not said to refuse epochs below {since}"
            );
            seen.contradiction("step", None, what);
        }
        let held = self.held.get(&was.partition).into_iter().flatten();
        for held in held.filter(|held| !unfenced.contains(&held.by)) {
            let sets = reign.sets(&held.key.tree());
            let new = sets.get(1).map_or(&[][..], |new| &new.nodes);
            let lacking = new.iter().filter(|who| lacks(nodes, **who, held, seen));
            for who in lacking.copied().collect::<Vec<Endpoint>>() {
                let (to, by) = (to.as_str(), held.by);
                let damaged = is_damaged(nodes, who, &held.key);
                let excuse = damaged.then_some(Excuse::Damaged);
                let what = format!("partition {number} is {to}, and {who} lacks what {by} held");
                seen.contradiction_unless(excuse, "step", Some(&held.key), what);
            }
        }
    }
}

/// What owners hold of a partition that is copied or handed over, where its new owners are others.
fn hold(nodes: &dyn Nodes, reign: &Reign, moving: &Move) -> Vec<Held> {
    if !matches!(moving.state, MoveState::Copying | MoveState::HandingOver) {
        return Vec::new();
    }
    let mut held = Vec::new();
    for by in Participants::of(reign, moving).old {
        for (key, record) in nodes.records(by) {
            let (Ok(key), Ok(record)) = (RecordKey::from_bytes(key), Record::decode(record)) else {
                continue;
            };
            let sets = reign.sets(&key.tree());
            let moves = key.partition() == moving.partition && sets.len() > 1;
            if moves && sets[0].nodes.contains(&by) {
                held.push(Held { by, key, record });
            }
        }
    }
    held
}

/// Whether a node that counts lacks something that another one held, and still holds.
fn lacks(nodes: &dyn Nodes, who: Endpoint, held: &Held, seen: &Seen) -> bool {
    if nodes.counts(who) != Some(true) {
        return false;
    }
    let record = |who| Some(Record::decode(nodes.record(who, &held.key)?));
    let covers = |record: &Record| record.seen().descends(held.record.seen());
    let is_kept = matches!(record(held.by), Some(Ok(record)) if covers(&record));
    let has = match record(who) {
        Some(Ok(record)) => covers(&record),
        Some(Err(_)) | None => false,
    };
    let purged = seen.purged.get(&held.key);
    is_kept && !has && !purged.is_some_and(covers)
}

/// A partition that has made no step has the owners that it had.
fn stays(was: &Move, now: &Move, seen: &mut Seen) {
    let of = |moving: &Move| (moving.state, moving.from.clone(), moving.to.clone());
    if of(was) != of(now) {
        let what = format!(
            "partition {} has other owners without a step",
            was.partition.0
        );
        seen.contradiction("step", None, what);
    }
}

/// Whether what a node has of a record can't be read.
fn is_damaged(nodes: &dyn Nodes, who: Endpoint, key: &RecordKey) -> bool {
    let record = nodes.record(who, key).map(Record::decode);
    record.is_some_and(|record| record.is_err())
}

/// Whether a partition turns back as it should when a change is cancelled: what was moved is moved back.
fn turns_back(was: &Move, now: &Move, seen: &mut Seen) {
    let expected = match was.state {
        MoveState::Moved => MoveState::Waiting,
        _ => MoveState::Moved,
    };
    let is_same = (&now.from, &now.to) == (&was.to, &was.from);
    if now.state != expected || !is_same {
        let (number, was, now) = (was.partition.0, was.state.as_str(), now.state.as_str());
        let what =
            format!("partition {number} was {was} when its change was cancelled, and is {now}");
        seen.contradiction("step", None, what);
    }
}

/// Whether a partition begins anew as it should when a node is given up half way: from those who own it.
fn begins_anew((before, was): (&Reign, &Move), (after, now): (&Reign, &Move), seen: &mut Seen) {
    let owners = match was.state {
        MoveState::Moved => &was.to,
        _ => &was.from,
    };
    let names = |reign: &Reign, list: &[u16]| -> Vec<Endpoint> {
        let nodes = list
            .iter()
            .map(|index| endpoint(reign.placement.node(*index)));
        nodes.collect()
    };
    if now.state != MoveState::Waiting || names(before, owners) != names(after, &now.from) {
        let (number, now) = (was.partition.0, now.state.as_str());
        let what = format!("partition {number} is {now} when its change goes on without a node");
        seen.contradiction("step", None, what);
    }
}

impl Participants {
    fn of(reign: &Reign, moving: &Move) -> Self {
        let placement = &reign.placement;
        let change = placement.topology().change.as_deref();
        let changed = change.into_iter().flat_map(|change| &change.factors);
        let mut factors: BTreeSet<u8> = reign.factors.values().copied().collect();
        factors.extend(changed.flat_map(|it| [it.from, it.to]));
        let lost = reign.given_up();
        let first = |list: &[u16], factor: u8| {
            let first = list.iter().take(usize::from(factor));
            let nodes = first.map(|index| endpoint(placement.node(*index)));
            nodes.collect::<Vec<Endpoint>>()
        };
        let left = |factor: &u8| {
            let mut owners = first(&moving.from, *factor);
            owners.retain(|who| !lost.contains(who));
            owners
        };
        let most = factors.last().copied().unwrap_or(1);
        Self {
            old: left(&most),
            new: first(&moving.to, most),
            by_factor: factors.iter().map(left).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.old.iter().chain(&self.new).copied()
    }

    /// Whether these are a quorum of old owners.
    fn could_answer(&self, nodes: &BTreeSet<Endpoint>) -> bool {
        self.by_factor.iter().any(|owners| {
            let among = owners.iter().filter(|who| nodes.contains(who)).count();
            among > owners.len() / 2
        })
    }
}
