//! Promise 7: after faults end all owners of every key hold equal records, and everything is in service again.
//!
//! They get there without any client: nothing is read before they are equal, or the time for it is over.

use pairdb::version::Record;

use super::findings::Findings;
use crate::describe;
use crate::evidence::Evidence;
use crate::recorded::FinalRecord;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for complaint in &evidence.run.complaints {
        findings.broken_for_all(complaint.clone());
    }
    for last in &evidence.run.unrepaired {
        let what = format!("not repaired before somebody read: {}", held(last));
        findings.broken(last.tenant, &last.key, &[], what);
    }
    for last in &evidence.run.finals {
        if last.is_equal() {
            continue;
        }
        let what = format!("owners differ: {}", held(last));
        findings.broken(last.tenant, &last.key, &[], what);
    }
}

/// Who holds what, in words.
fn held(last: &FinalRecord) -> String {
    let held = last.records.iter().map(|(who, record)| {
        let record = record.as_ref().map(|bytes| Record::decode(bytes.clone()));
        match record {
            Ok(Ok(record)) => {
                let dots = record.siblings().iter().map(|v| describe::dot(v.dot));
                let dots: Vec<String> = dots.collect();
                format!(
                    "{who} has {{{}}} of {}",
                    dots.join(" "),
                    describe::seen(record.seen())
                )
            }
            Ok(Err(error)) => format!("{who} has something else: {error}"),
            Err(error) => format!("{who}: {error}"),
        }
    });
    let held: Vec<String> = held.collect();
    held.join("; ")
}
