//! Promise 10: once a node has taken on to refuse what was routed by older epochs about a partition, it answers nothing
//! of that, also after it has restarted, unless its disk is lost (specification of the topology, sections 2 and 3); and
//! nobody routes by an epoch that was never published.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["epoch"]);
    let (newest, published) = (
        evidence.run.seen.asked.newest_epoch,
        evidence.run.published_epoch,
    );
    if newest > published {
        findings.broken_for_all(format!(
            "requests were routed by epoch {newest}, and {published} is the newest published"
        ));
    }
}

#[cfg(test)]
mod tests {
    use pairdb::placement::{Epoch, NodeId, PartitionId};
    use pairdb::ports::{Maintained, Maintenance, Operation, Reply, Request};
    use pairdb::version::{Record, Stamp};

    use super::super::told::{Told, node};

    #[test]
    fn requests_are_routed_by_what_was_published() {
        let mut told = Told::siblings();
        told.says(node(1), &Record::default().encode());
        told.keeps_all();
    }

    #[test]
    fn requests_may_not_be_routed_by_what_nobody_published() {
        let mut told = Told::siblings();
        told.says(node(1), &Record::default().encode());
        told.run.published_epoch = Epoch(0);
        let what = "requests were routed by epoch 1, and 0 is the newest published";
        told.breaks("epochs", &[what]);
    }

    /// A node takes on to refuse what is older than epoch 1, about one partition or about all.
    fn fenced(partitions: Option<Vec<PartitionId>>) -> Told {
        let mut told = Told::siblings();
        let fence = Maintenance::Fence {
            partitions,
            leaving: false,
            horizon: Stamp::ZERO,
        };
        let request = Request {
            node: NodeId::new("node-1").expect("a node's id"),
            epoch: Epoch(1),
            operation: Operation::Maintenance(Box::new(fence)),
        };
        let horizon = Stamp::ZERO;
        let reply = Reply::Maintained(Maintained::Fenced { horizon });
        told.run.seen.fences.answered(node(1), &request, &reply);
        told
    }

    fn answered_to_older(mut told: Told) -> Told {
        told.says_under(Epoch(0), node(1), &Record::default().encode());
        told
    }

    #[test]
    fn a_node_may_not_answer_below_what_it_took_on() {
        let what = "n1 took on to refuse epochs below 1 and answered to 0";
        for partitions in [None, Some(vec![PartitionId(0)])] {
            answered_to_older(fenced(partitions)).breaks("epochs", &[what]);
        }
    }

    #[test]
    fn a_step_of_one_partition_disturbs_no_other() {
        answered_to_older(fenced(Some(vec![PartitionId(1)]))).keeps_all();
    }

    #[test]
    fn what_was_taken_on_is_lost_with_the_disk_alone() {
        let mut told = fenced(None);
        told.run.seen.ended(node(1), 0);
        let what = "n1 took on to refuse epochs below 1 and answered to 0";
        answered_to_older(told).breaks("epochs", &[what]);
        let mut told = fenced(None);
        told.run.seen.fences.lost(node(1));
        answered_to_older(told).keeps_all();
    }

    #[test]
    fn an_older_epoch_may_be_answered_where_nobody_asked_to_refuse_it() {
        let mut told = Told::siblings();
        told.says(node(1), &Record::default().encode());
        answered_to_older(told).keeps_all();
    }
}
