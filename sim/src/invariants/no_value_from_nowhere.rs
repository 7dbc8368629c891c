//! Promise 2: every value read was written, before the read ended, and not by a write that was answered to have had no
//! effect. (That it was written to that key, by that tenant, is [`super::tenant_isolation`]'s.)

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::op::{Answered, Kind, OpId, Time};
use crate::value;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for (tenant, key) in evidence.keys() {
        for read in evidence.ops_of(tenant, key) {
            for answer in &read.answers {
                if let Answered::Found { values, .. } = &answer.result {
                    for (value, _) in values {
                        if let Some(problem) = problem(evidence, tenant, key, value, answer.at) {
                            findings.broken(
                                tenant,
                                key,
                                &[read.id],
                                format!("#{} read {problem}", read.id.0),
                            );
                        }
                    }
                }
            }
        }
        let last = evidence.final_record(tenant, key);
        for value in last.siblings().iter().filter_map(|version| version.value()) {
            if let Some(problem) = problem(evidence, tenant, key, value, Time::MAX) {
                findings.broken(tenant, key, &[], format!("the owners hold {problem}"));
            }
        }
    }
}

fn problem(
    evidence: &Evidence,
    tenant: usize,
    key: &str,
    value: &[u8],
    at: Time,
) -> Option<String> {
    let Some(OpId(number)) = evidence.writer(tenant, key, value) else {
        if value::origin(value).is_some() {
            return None;
        }
        let start = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        return Some(format!("{start:?}, which nobody wrote there"));
    };
    match evidence.run.ops.get(&OpId(number)) {
        Some(op) if op.kind == Kind::Write && op.tenant == tenant && op.key == key => {
            if op.invoked > at {
                return Some(format!("#{number} before it was written"));
            }
            let refused = !op.may_have_happened();
            refused.then(|| format!("#{number}, which was refused as having had no effect"))
        }
        _ => Some(format!("#{number}, which is no write of that key")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;

    #[test]
    fn a_read_shows_what_was_written() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.read().shows(&[write]);
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn a_value_that_nobody_wrote_comes_from_nowhere() {
        let mut told = Told::siblings();
        told.read().shows_bytes(b"stranger");
        let what = "#1 read \"stranger\", which nobody wrote there";
        told.breaks("no value from nowhere", &[what]);
    }
}
