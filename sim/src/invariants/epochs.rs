//! A node that has answered to an epoch refuses every older one (specification, section 3; under promise 10).

use super::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["epoch"]);
}
