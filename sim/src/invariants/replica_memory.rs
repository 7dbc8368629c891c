//! What a node has said to hold it goes on holding, restarts included, unless its disk lost it: under promises 1 and 4.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["memory"]);
}

#[cfg(test)]
mod tests {
    use pairdb::version::Record;

    use super::super::told::{Told, node};

    #[test]
    fn a_node_goes_on_holding_what_it_said_to_hold() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let record = told.record(&[write]).encode();
        told.says(node(1), &record);
        told.says(node(1), &record);
        told.owners_hold(&[write]).keeps_all();
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
