//! Promise 13, in part: a coordinator that runs answers within the deadline, success or not.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for late in &evidence.run.late_answers {
        findings.broken_for_all(late.clone());
    }
}
