//! One turn of who leads: what it goes by, what it waits for, and what it came to.
//!
//! Invariant: what is begun after a turn's time is over, or before what was moved is paid for, is nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::super::routing::Routing;
use super::steps::{Factors, Participants};
use super::window::{PARTITIONS_AT_ONCE_MAX, Window};
use crate::marks::{self, Mark};
use crate::placement::{Move, NodeId, TopologyChange};
use crate::ports::{Clock, Instant};
use crate::version::Actor;

/// No more is begun in a turn after this time.
pub(super) const TURN_MAX: Duration = Duration::from_secs(5);

/// Cleaning a partition is a dozen calls one after the other, which move next to nothing: so many of them are no more
/// in anybody's way than one that is copied.
const CLEANS_FOR_A_COPY: usize = 4;

/// What is done with partitions.
#[derive(Clone, Copy)]
pub(super) enum Work {
    Copy,
    Clean,
}

/// One turn: what it goes by.
pub(super) struct Turn<'a> {
    pub(super) routing: Arc<Routing>,
    pub(super) change: &'a TopologyChange,
    pub(super) factors: Factors,
    /// The incarnation of each node that answers and counts, by index.
    pub(super) there: BTreeMap<u16, Actor>,
    /// No more partitions are begun after this.
    pub(super) until: Instant,
    /// How many bytes may be moved in a second.
    pub(super) pace: Option<u64>,
    /// When all that was moved is paid for at this pace: until then no partition is begun.
    pub(super) paid_at: Mutex<Instant>,
    /// How many partitions are worked on at the same time.
    pub(super) window: &'a Mutex<Window>,
}

impl Turn<'_> {
    pub(super) fn is_given_up(&self, node: u16) -> bool {
        self.change.given_up.contains(&self.routing.node(node).id)
    }

    pub(super) fn name(&self, node: u16) -> &NodeId {
        &self.routing.node(node).id
    }

    /// Works on all partitions, so many at the same time as may be of this work.
    pub(super) async fn work<T>(
        &self,
        clock: &impl Clock,
        work: Work,
        partitions: Vec<BoxFuture<'_, T>>,
        mut done: impl FnMut(T),
    ) {
        let mut waiting = partitions.into_iter();
        let mut under_way = FuturesUnordered::new();
        loop {
            let room = self
                .at_once(work, clock.now())
                .saturating_sub(under_way.len());
            under_way.extend(waiting.by_ref().take(room));
            match under_way.next().await {
                Some(partition) => done(partition),
                None => return,
            }
        }
    }

    /// How many partitions may be worked on at the same time now.
    fn at_once(&self, work: Work, now: Instant) -> usize {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let at_once = window.at_once(self.routing.answers_of_nodes(), now);
        let at_once = match work {
            Work::Copy => at_once,
            Work::Clean => (at_once * CLEANS_FOR_A_COPY).min(PARTITIONS_AT_ONCE_MAX),
        };
        // What is begun together is owed for together.
        self.pace.map_or(at_once, |_| 1)
    }

    /// So many bytes were moved.
    pub(super) fn owe(&self, bytes: u64, now: Instant) {
        if let Some(pace) = self.pace {
            let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_at = (*paid_at).max(now) + takes(bytes, pace);
        }
    }

    /// Whether it has to wait, to keep to the pace.
    pub(super) fn owes(&self, now: Instant) -> bool {
        self.pace.is_some() && self.paid_at() > now
    }

    /// When all that was moved is paid for.
    pub(super) fn paid_at(&self) -> Instant {
        *self.paid_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its time has been over for as long as it had: what was begun in it stops, and is begun once more.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        now >= self.until + TURN_MAX
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    pub(super) fn participants(&self, moving: &Move) -> Participants {
        Participants::of(moving, &self.factors, |node| self.is_given_up(node))
    }

    /// A node that a partition needs and that can't be had.
    pub(super) fn missing(&self, moving: &Move) -> Option<u16> {
        let participants = self.participants(moving);
        participants
            .all()
            .find(|node| !self.there.contains_key(node))
    }
}

/// When what was moved at one pace is paid for at another one, of which `None` is none at all.
pub(super) fn repaced(
    paid_at: Instant,
    (before, pace): (Option<u64>, Option<u64>),
    now: Instant,
) -> Instant {
    let (Some(before), Some(pace)) = (before, pace) else {
        return now;
    };
    let owed = paid_at.since(now).as_nanos() * u128::from(before) / 1_000_000_000;
    now + takes(u64::try_from(owed).unwrap_or(u64::MAX), pace)
}

/// How long so many bytes take at a pace of so many in a second; a day at most.
fn takes(bytes: u64, pace: u64) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(pace.max(1));
    u64::try_from(nanos)
        .map_or(DAY, Duration::from_nanos)
        .min(DAY)
}

/// What a turn came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// Something has changed: there is no need to rest.
    pub(super) went_on: bool,
    /// What it waits for, and what would help.
    pub(super) waits_for: Option<String>,
}

/// What partitions wait for.
#[derive(Default)]
pub(super) struct Waits {
    /// So many for each node.
    nodes: BTreeMap<NodeId, usize>,
    other: Option<String>,
}

impl Waits {
    /// A partition needs this node.
    pub(super) fn add(&mut self, turn: &Turn<'_>, node: u16) {
        marks::reached(Mark::PartitionBlocked);
        *self.nodes.entry(turn.name(node).clone()).or_default() += 1;
    }

    /// A partition waits for something else.
    pub(super) fn because(&mut self, why: String) {
        self.other = Some(why);
    }

    /// Where nothing else is waited for, this is.
    pub(super) fn at_least_because(&mut self, why: String) {
        self.other.get_or_insert(why);
    }

    /// In words, and what would help.
    pub(super) fn told(self) -> Option<String> {
        let nodes = self.nodes.iter().map(|(node, partitions)| {
            format!(
                "{node}, which does not answer or is being refilled, for {partitions} partitions"
            )
        });
        let nodes: Vec<String> = nodes.collect();
        match nodes.is_empty() {
            true => self.other,
            false => Some(format!(
                "{}; start it, on an empty directory under its name if its disk is lost; if it never comes back, remove or \
                 replace it by force: this goes on without it then",
                nodes.join("; ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_paid_at_the_pace_there_is_now() {
        let second = Duration::from_secs(1);
        let now = Instant::default() + 100 * second;
        let after = |seconds, paces| repaced(now + seconds * second, paces, now).since(now);
        assert_eq!(after(60, (Some(1_000), Some(10_000))), 6 * second);
        assert_eq!(after(6, (Some(10_000), Some(1_000))), 60 * second);
        assert_eq!(after(60, (Some(1_000), Some(1_000))), 60 * second);
        assert_eq!(after(60, (Some(1_000), None)), Duration::ZERO);
        assert_eq!(repaced(Instant::default(), (Some(7), Some(9)), now), now);
    }
}
