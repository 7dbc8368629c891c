//! The promises, one file each: what has to hold of every run, whatever went wrong in it.

mod answers_in_time;
mod availability;
mod bounded_records;
mod claims_end;
mod convergence;
mod deletes_stay_deleted;
mod dropped_copies;
mod epochs;
mod exact_conflicts;
mod findings;
mod held_by_quorums;
mod idempotent_answer;
mod idempotent_request;
mod last_write_wins;
mod linearizability;
mod no_lost_write;
mod no_value_from_nowhere;
mod one_dot_one_version;
mod one_effect;
mod quorum_reads;
mod read_by_quorums;
mod replica_memory;
mod session_floor;
mod slow_owner;
mod steps_of_changes;
mod tenant_freshness;
mod tenant_isolation;
#[cfg(test)]
mod told;

pub use findings::{Findings, Violation};

use crate::evidence::Evidence;
use crate::excuse::Excuses;

/// What is broken when a run panics.
pub const NO_PANIC: &str = "no panic";

/// What is broken when a scenario does not go as its file says.
pub const EXPECTATION: &str = "expectation";

/// An invariant: its name, its promise, its check.
type Invariant = (&'static str, u8, fn(&Evidence, &mut Findings<'_>));

/// Every invariant.
const ALL: &[Invariant] = &[
    ("no lost write", 1, no_lost_write::check),
    ("no value from nowhere", 2, no_value_from_nowhere::check),
    ("exact conflicts", 3, exact_conflicts::check),
    ("quorum reads", 4, quorum_reads::check),
    ("held by quorums", 4, held_by_quorums::check),
    ("read by quorums", 4, read_by_quorums::check),
    ("last write wins", 5, last_write_wins::check),
    ("linearizability", 5, linearizability::check),
    ("session floor", 6, session_floor::check),
    ("convergence", 7, convergence::check),
    ("deletes stay deleted", 8, deletes_stay_deleted::check),
    ("one effect", 9, one_effect::check),
    ("idempotent answer", 9, idempotent_answer::check),
    ("idempotent request", 9, idempotent_request::check),
    ("claims end", 13, claims_end::check),
    ("one dot, one version", 0, one_dot_one_version::check),
    ("replica memory", 0, replica_memory::check),
    ("bounded records", 0, bounded_records::check),
    ("epochs", 10, epochs::check),
    ("dropped copies", 10, dropped_copies::check),
    ("steps of changes", 10, steps_of_changes::check),
    ("tenant isolation", 11, tenant_isolation::check),
    ("tenant freshness", 0, tenant_freshness::check),
    ("availability", 13, availability::check),
    ("slow owner", 13, slow_owner::check),
    ("answers in time", 13, answers_in_time::check),
];

/// The names of all invariants, and of what a run can be found guilty of without one.
pub fn names() -> impl Iterator<Item = &'static str> {
    let all = ALL.iter().map(|(name, ..)| *name);
    all.chain([NO_PANIC, EXPECTATION])
}

/// Everything that was broken, and how often each excuse was taken.
#[must_use]
pub fn check(evidence: &Evidence) -> (Vec<Violation>, Excuses) {
    let mut violations = Vec::new();
    let mut excuses = evidence.run.seen.excuses;
    for (invariant, promise, check) in ALL {
        let mut findings = Findings::of(evidence, invariant, *promise);
        check(evidence, &mut findings);
        let (mut found, excused) = findings.into_found();
        violations.append(&mut found);
        excuses.add(&excused);
    }
    (violations, excuses)
}
