//! Promise 10, as far as epochs change today: a node that has answered to an epoch refuses every older one
//! (specification, section 3), and nobody routes by an epoch that was never published.

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
    use pairdb::placement::Epoch;
    use pairdb::version::Record;

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

    #[test]
    fn a_node_may_not_go_back_to_an_older_epoch() {
        let mut told = Told::siblings();
        told.says(node(1), &Record::default().encode());
        told.says_under(Epoch(0), node(1), &Record::default().encode());
        told.breaks("epochs", &["n1 answered to epoch 1 and then to 0"]);
    }
}
