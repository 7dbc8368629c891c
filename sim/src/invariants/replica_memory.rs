//! What a node has said to hold it goes on holding, restarts included, unless its disk lost it: under promises 1 and 4.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["memory"]);
}

#[cfg(test)]
mod tests {
    use pairdb::placement::{Epoch, NodeId};
    use pairdb::ports::{
        AcceptRequest, Maintained, Maintenance, Operation, Overwrites, Reply, Request,
    };
    use pairdb::version::{
        Actor, Content, Context, Record, Stamp, Version, VersionVector, WriteId,
    };

    use super::super::told::{Told, node, record_key};
    use crate::endpoint::Endpoint;
    use crate::excuse::Excuse;

    #[test]
    fn a_node_goes_on_holding_what_it_said_to_hold() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let record = told.record(&[write]).encode();
        told.says(node(1), &record);
        told.says(node(1), &record);
        told.owners_hold(&[write]).keeps_all();
    }

    /// A node that was told that it may have missed writes takes an old one for new.
    fn takes_an_old_write_for_new() -> (Told, Request, Reply) {
        let told = Told::siblings();
        let accept = AcceptRequest {
            key: record_key(),
            write_id: WriteId(1),
            stamp: Stamp::new(1, 0),
            overwrites: Overwrites::Covered(Context::default()),
            content: Content::Tombstone,
            siblings_max: 10,
        };
        let mut seen = VersionVector::default();
        let version = Version {
            dot: seen.increment(Actor(7 << 48)),
            write_id: accept.write_id,
            stamp: accept.stamp,
            content: Content::Tombstone,
        };
        let dot = version.dot;
        let record = Record::new(seen, vec![version]).expect("a record that can be");
        let record = record.encode();
        let operation = Operation::Accept(Box::new(accept));
        let request = asked(operation);
        (told, request, Reply::Accepted { dot, record })
    }

    fn asked(operation: Operation) -> Request {
        Request {
            node: NodeId::new(node(1).id()).expect("a node's id"),
            epoch: Epoch(1),
            operation,
        }
    }

    /// It does so, after a process of it has ended or not.
    fn took_it(ended: bool) -> Told {
        let (mut told, request, reply) = takes_an_old_write_for_new();
        let horizon = Stamp::new(2, 0);
        let fence = asked(Operation::Maintenance(Box::new(Maintenance::Fence {
            partitions: None,
            leaving: false,
            horizon,
        })));
        let fenced = Reply::Maintained(Maintained::Fenced { horizon });
        let (now, seen) = (told.now(), &mut told.run.seen);
        seen.fences.answered(node(1), &fence, &fenced);
        if ended {
            seen.ended(node(1), 0);
        }
        let said = seen.arrived(Endpoint::Coordinator(1), node(1), &request);
        seen.answered(node(1), &request, (&reply, true), said, now);
        told
    }

    #[test]
    fn a_node_takes_nothing_for_new_that_it_may_have_missed_unless_it_had_it_before() {
        took_it(true).needs(Excuse::EndedUnheard);
        let what = "n1 took for new what it may have missed";
        took_it(false).breaks("replica memory", &[what]);
    }

    #[test]
    fn a_node_may_not_forget_what_it_said_to_hold() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.says(node(1), &told.record(&[write]).encode());
        told.says(node(1), &Record::default().encode());
        let what = "n1 knew [0001:1] and now answers []";
        told.owners_hold(&[write]).breaks("replica memory", &[what]);
    }
}
