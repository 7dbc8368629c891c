//! The promises, one file each: what has to hold of every run, whatever went wrong in it.

mod answers_in_time;
mod availability;
mod bounded_records;
mod claims_end;
mod convergence;
mod deletes_stay_deleted;
mod epochs;
mod exact_conflicts;
mod idempotent_answer;
mod last_write_wins;
mod linearizability;
mod no_lost_write;
mod no_value_from_nowhere;
mod one_dot_one_version;
mod one_effect;
mod quorum_reads;
mod replica_memory;
mod session_floor;
mod slow_owner;
mod tenant_freshness;
mod tenant_isolation;

use std::fmt;

use crate::evidence::Evidence;
use crate::history::OpId;

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// The promise's number in the specification; 0 for what goes without saying.
    pub promise: u8,
    /// `tenant/key`, if it is about one.
    pub key: Option<String>,
    /// The operations involved, by their numbers in the history.
    pub operations: Vec<u32>,
    /// What happened.
    pub what: String,
}

impl Violation {
    /// About the cluster as a whole.
    #[must_use]
    pub fn of_no_key(invariant: &'static str, promise: u8, what: String) -> Self {
        Self {
            invariant,
            promise,
            key: None,
            operations: Vec::new(),
            what,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (promise {})", self.invariant, self.promise)?;
        if let Some(key) = &self.key {
            write!(f, ", {key}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Where a check puts what it finds.
pub struct Findings<'a> {
    evidence: &'a Evidence,
    invariant: &'static str,
    promise: u8,
    found: Vec<Violation>,
}

/// One violation of a kind tells as much as a hundred.
const FOUND_MAX: usize = 5;

impl Findings<'_> {
    /// A promise was broken for a key.
    pub fn broken(&mut self, tenant: usize, key: &str, operations: &[OpId], what: String) {
        let mut violation = Violation::of_no_key(self.invariant, self.promise, what);
        violation.key = Some(self.evidence.name(tenant, key));
        violation.operations = operations.iter().map(|op| op.0).collect();
        self.push(violation);
    }

    /// A promise was broken.
    pub fn broken_for_all(&mut self, what: String) {
        self.push(Violation::of_no_key(self.invariant, self.promise, what));
    }

    /// What the tap found on the spot under one of these rules.
    fn contradictions(&mut self, evidence: &Evidence, rules: &[&str]) {
        let found = evidence.seen.contradictions.iter();
        for found in found.filter(|found| rules.contains(&found.rule)) {
            let mut violation =
                Violation::of_no_key(self.invariant, self.promise, found.what.clone());
            violation.key = Some(format!("{}/{}", found.key.tenant(), found.key.key()));
            self.push(violation);
        }
    }

    fn push(&mut self, violation: Violation) {
        if self.found.len() < FOUND_MAX {
            self.found.push(violation);
        }
    }
}

/// An invariant: its name, its promise, its check.
type Invariant = (&'static str, u8, fn(&Evidence, &mut Findings<'_>));

/// Every invariant.
const ALL: &[Invariant] = &[
    ("no lost write", 1, no_lost_write::check),
    ("no value from nowhere", 2, no_value_from_nowhere::check),
    ("exact conflicts", 3, exact_conflicts::check),
    ("quorum reads", 4, quorum_reads::check),
    ("last write wins", 5, last_write_wins::check),
    ("linearizability", 5, linearizability::check),
    ("session floor", 6, session_floor::check),
    ("convergence", 7, convergence::check),
    ("deletes stay deleted", 8, deletes_stay_deleted::check),
    ("one effect", 9, one_effect::check),
    ("idempotent answer", 9, idempotent_answer::check),
    ("claims end", 13, claims_end::check),
    ("one dot, one version", 0, one_dot_one_version::check),
    ("replica memory", 0, replica_memory::check),
    ("bounded records", 0, bounded_records::check),
    ("epochs", 10, epochs::check),
    ("tenant isolation", 11, tenant_isolation::check),
    ("tenant freshness", 0, tenant_freshness::check),
    ("availability", 13, availability::check),
    ("slow owner", 13, slow_owner::check),
    ("answers in time", 13, answers_in_time::check),
];

/// The names of all invariants, and of what a run can be found guilty of without one.
pub fn names() -> impl Iterator<Item = &'static str> {
    let all = ALL.iter().map(|(name, ..)| *name);
    all.chain(["no panic"])
}

/// Everything that was broken.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (invariant, promise, check) in ALL {
        let mut findings = Findings {
            evidence,
            invariant,
            promise: *promise,
            found: Vec::new(),
        };
        check(evidence, &mut findings);
        violations.append(&mut findings.found);
    }
    violations
}
