//! Promise 10: a partition whose owners change comes one step further only when that is safe, and a change that ends
//! leaves what it was to leave.
//!
//! Looked at by [`crate::steps`] in the moment the step is stored. Here, too: coordinators ask those for a record who
//! own it by the epoch that they route by, and to accept a write those alone that reads use.

use std::collections::BTreeSet;

use pairdb::placement::Epoch;
use pairdb::ports::TreeName;

use super::findings::Findings;
use crate::endpoint::Endpoint;
use crate::evidence::Evidence;
use crate::reign::Reign;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["step"]);
    for (record, asked) in &evidence.run.seen.asked.records {
        let Some(tenant) = evidence.tenant(record.tenant()) else {
            continue; // and told elsewhere
        };
        let mut strange = |routed: &BTreeSet<(Epoch, Endpoint)>, may: OwnersBy, what: &str| {
            let stranger = routed.iter().find(|(epoch, who)| {
                let reigns = evidence.reigns_of(*epoch);
                let may: Vec<bool> = reigns
                    .map(|reign| may(reign, &record.tree()).contains(who))
                    .collect();
                !may.is_empty() && !may.contains(&true)
            });
            if let Some((epoch, who)) = stranger {
                let what = format!("{who} was asked by epoch {epoch}, by which it {what}");
                findings.broken(tenant, record.key(), &[], what);
            }
        };
        strange(&asked.routed, Reign::owners, "is no owner");
        strange(&asked.accepting, Reign::readers, "accepts no writes");
    }
}

/// Owners of a tree by one topology.
type OwnersBy = fn(&Reign, &TreeName) -> Vec<Endpoint>;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pairdb::placement::Epoch;
    use pairdb::version::Record;

    use super::super::told::{Told, node};
    use crate::endpoint::Endpoint;
    use crate::reign;
    use crate::reign::tests::{begun, founded, stepped, world};

    /// The first node is replaced by the fourth: the partition is copied by epoch 3.
    fn replacing() -> Told {
        let (world, mut told) = (world(), Told::siblings());
        let plan = reign::tests::replacing(node(1), node(4), false);
        let first = founded(&world);
        let waiting = begun(&world, &first, &plan, 10);
        let copying = stepped(&waiting, 20);
        told.run.reigns = [first, waiting, copying].map(Arc::new).into();
        told.run.published_epoch = Epoch(3);
        told
    }

    fn asked(epoch: u64, who: Endpoint) -> Told {
        let mut told = replacing();
        told.says_under(Epoch(epoch), who, &Record::default().encode());
        told
    }

    #[test]
    fn owners_are_asked_by_the_epoch_by_which_they_own_it() {
        for (epoch, who) in [(1, 1), (2, 3), (3, 1), (3, 4)] {
            let found = asked(epoch, node(who)).found("steps of changes");
            assert_eq!(found, [""; 0], "{epoch} {who}");
        }
    }

    #[test]
    fn who_will_own_it_is_not_asked_before() {
        let what = "n4 was asked by epoch 2, by which it is no owner";
        asked(2, node(4)).breaks("steps of changes", &[what]);
    }

    #[test]
    fn who_is_copied_to_accepts_no_writes() {
        let mut told = replacing();
        told.is_asked_to_accept(Epoch(3), node(1));
        told.is_asked_to_accept(Epoch(3), node(4));
        let what = "n4 was asked by epoch 3, by which it accepts no writes";
        told.breaks("steps of changes", &[what]);
    }
}
