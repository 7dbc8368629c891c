//! A dot names one write for ever, of one key, and what nodes send can be read (specification, section 2).

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["one dot, one version", "well-formed"]);
}
