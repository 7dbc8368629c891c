//! What an invariant finds: promises that were broken, each with its key and its operations.

use std::fmt;

use crate::evidence::Evidence;
use crate::excuse::{Excuse, Excuses};
use crate::op::OpId;

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
    excuses: Excuses,
}

/// One violation of a kind tells as much as a hundred.
const FOUND_MAX: usize = 5;

impl<'a> Findings<'a> {
    /// Nothing is broken yet.
    #[must_use]
    pub const fn of(evidence: &'a Evidence, invariant: &'static str, promise: u8) -> Self {
        Self {
            evidence,
            invariant,
            promise,
            found: Vec::new(),
            excuses: Excuses::new(),
        }
    }

    /// What was broken, and what excused what was not.
    #[must_use]
    pub fn into_found(self) -> (Vec<Violation>, Excuses) {
        (self.found, self.excuses)
    }

    /// Something was not judged.
    pub const fn excused(&mut self, excuse: Excuse) {
        self.excuses.note(excuse);
    }

    /// A promise was broken for a key, unless that is excused.
    pub fn broken_unless(
        &mut self,
        excuse: Option<Excuse>,
        tenant: usize,
        key: &str,
        operations: &[OpId],
        what: String,
    ) {
        match excuse {
            Some(excuse) => self.excused(excuse),
            None => self.broken(tenant, key, operations, what),
        }
    }

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
    pub(super) fn contradictions(&mut self, evidence: &Evidence, rules: &[&str]) {
        let found = evidence.run.seen.contradictions.iter();
        for found in found.filter(|found| rules.contains(&found.rule)) {
            let mut violation =
                Violation::of_no_key(self.invariant, self.promise, found.what.clone());
            let key = found.key.as_ref();
            violation.key = key.map(|key| format!("{}/{}", key.tenant(), key.key()));
            self.push(violation);
        }
    }

    fn push(&mut self, violation: Violation) {
        if self.found.len() < FOUND_MAX {
            self.found.push(violation);
        }
    }
}
