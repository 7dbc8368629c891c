//! Which processes are of the release before, and so know nothing of changes of owners: no change begins while there
//! are any.
//!
//! A storage node says with each probe which release it speaks, and which older ones asked it for something a moment
//! ago. Coordinators ask every node how it is every second, so one that runs and reaches any node is named. What is
//! missing here is safe all the same: a node that is asked to fence a partition serves no older caller from then on,
//! and one that can't be fenced holds up the partitions that it owns. Who is named is spared that.
//!
//! What this is not: who is silent is not waited for. It may be down for good, and be what the change is about.

use std::collections::BTreeSet;
use std::time::Duration;

use super::CoordinatorError;
use super::health::NodeHealth;
use super::routing::Routing;
use super::wait::before;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Node, TopologyChange};
use crate::ports::{
    Ask, Clock, CoordinatorWorld, Instant, NodeReport, Probe, Release, ReplicaTransport, Request,
    answer_to,
};

/// What a node said longer ago is of no use: it may have been upgraded since. Much longer than between two probes.
const RECENT: Duration = Duration::from_secs(5);
/// So many are named; of more it is told how many more there are.
const NAMED_MAX: usize = 8;

/// Looks at what all nodes last said, and asks those that would join by `change`, who is of an older release; those
/// taken for lost are left out. The error names them, for people.
pub(super) async fn refuse_older<W: CoordinatorWorld>(
    world: &W,
    routing: &Routing,
    change: Option<&TopologyChange>,
    deadline: Instant,
) -> Result<(), CoordinatorError> {
    if world.speaks() < Release::Current {
        let words = "this coordinator runs a version that knows nothing of changes of owners";
        return Err(CoordinatorError::OlderVersion(words.to_owned()));
    }
    let stored = routing.topology();
    let joining = change.map_or(&[][..], |change| &change.target);
    let joining = joining
        .iter()
        .filter(|node| stored.node(&node.id).is_none());
    let joining = joining.map(|node| report(world, stored.epoch, node, deadline));
    let joining = futures::future::join_all(joining).await;
    let now = world.clock().now();
    let is_lost = |node: &Node| change.is_some_and(|change| change.given_up.contains(&node.id));
    let members = routing.nodes().filter(|(node, _)| !is_lost(node));
    let members = members.filter_map(|(_, health)| recent(health, now));
    let older = older(members.chain(joining.into_iter().flatten()));
    match older.is_empty() || mutant::on(Mutant::ChangeBesideOlder) {
        true => Ok(()),
        false => {
            marks::reached(Mark::UpgradeAwaited);
            Err(CoordinatorError::OlderVersion(in_words(&older)))
        }
    }
}

/// What a node said of itself a moment ago.
fn recent(health: &NodeHealth, now: Instant) -> Option<NodeReport> {
    let is_recent = now.since(health.asked_at()) < RECENT;
    health.report().filter(|_| is_recent)
}

/// What a node that is no member yet says of itself; `None`: nothing, in time.
async fn report<W: CoordinatorWorld>(
    world: &W,
    epoch: Epoch,
    node: &Node,
    deadline: Instant,
) -> Option<NodeReport> {
    let request = Request {
        node: node.id.clone(),
        epoch,
        operation: Probe.into_operation(),
    };
    let answer = world.transport().call(node, request, deadline);
    let in_time = before(world.clock(), deadline, answer).await?;
    answer_to::<Probe>(in_time).ok()
}

/// Who of those that reported, and of those that asked them for something, is of an older release.
fn older(reports: impl Iterator<Item = NodeReport>) -> BTreeSet<String> {
    let mut older = BTreeSet::new();
    for report in reports {
        if report.release < Release::Current {
            older.insert(format!("storage node {}", report.node));
        }
        let callers = report.older_callers.iter();
        older.extend(callers.map(|name| format!("a process at {name}")));
    }
    older
}

fn in_words(older: &BTreeSet<String>) -> String {
    let named = older.iter().take(NAMED_MAX).map(String::as_str);
    let mut named = named.collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = older.len().checked_sub(NAMED_MAX) {
        named = format!("{named} and {more} more");
    }
    format!(
        "owners can't change while processes run a version that knows nothing of it: {named}; upgrade them (one that is \
         gone is named for five seconds more)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_some_are_named() {
        let names = |count: usize| (1..=count).map(|n| format!("n{n}")).collect();
        assert!(in_words(&names(1)).contains("of it: n1; upgrade"));
        let eight = "of it: n1, n2, n3, n4, n5, n6, n7, n8; upgrade";
        assert!(in_words(&names(8)).contains(eight));
        assert!(in_words(&names(9)).contains("n8 and 1 more; upgrade"));
    }
}
