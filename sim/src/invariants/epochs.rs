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
