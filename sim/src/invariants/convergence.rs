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
    for last in &evidence.run.hidden {
        let name = evidence.name(last.tenant, &last.key);
        findings.broken_for_all(format!(
            "older values of {name} hide beneath a delete for ever"
        ));
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

#[cfg(test)]
mod tests {
    use super::super::told::Told;

    #[test]
    fn owners_that_hold_the_same_have_converged() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn owners_may_not_differ_in_the_end() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let what = "owners differ: n1 has {0001:1} of [0001:1]; n2 has {0001:1} of [0001:1]; n3 has {} of [0001:1]";
        told.in_the_end([&[write], &[write], &[]])
            .breaks("convergence", &[what]);
    }

    #[test]
    fn older_values_may_not_hide_beneath_a_delete_for_ever() {
        let mut told = Told::last_write_wins();
        let delete = told.delete().acknowledged();
        let mut told = told.owners_hold(&[delete]);
        told.run.hidden = told.run.finals.clone();
        let what = "older values of t/k hide beneath a delete for ever";
        told.breaks("convergence", &[what]);
    }

    #[test]
    fn repair_may_not_wait_for_somebody_to_read() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let differing = told.in_the_end([&[write], &[], &[]]).run.finals;
        let mut told = Told::siblings();
        told.run.unrepaired = differing;
        let what = "not repaired before somebody read: n1 has {0001:1} of [0001:1]; \
                    n2 has {} of [0001:1]; n3 has {} of [0001:1]";
        told.breaks("convergence", &[what]);
    }

    #[test]
    fn what_does_not_come_about_in_the_calm_is_told() {
        let mut told = Told::siblings();
        told.run.complaints.push("messages never stop".to_owned());
        told.breaks("convergence", &["messages never stop"]);
    }
}
