//! What a node has said to hold it goes on holding, restarts included, unless its disk lost it: under promises 1 and 4.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["memory"]);
}
