//! What was counted: latencies by operation, failures by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::mix::Operation;

/// Latencies are kept to three digits, up to an hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// Counts of one client, or of all.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Microseconds.
    pub writes: Histogram<u64>,
    /// Microseconds.
    pub reads: Histogram<u64>,
    /// By the failure's code.
    pub failures: BTreeMap<String, u64>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        let histogram =
            || Histogram::new_with_max(MICROS_MAX, 3).expect("these bounds are allowed");
        Self {
            writes: histogram(),
            reads: histogram(),
            failures: BTreeMap::new(),
        }
    }

    /// Counts an operation that succeeded.
    pub fn succeeded(&mut self, operation: Operation, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match operation {
            Operation::Write => self.writes.saturating_record(micros),
            Operation::Read => self.reads.saturating_record(micros),
        }
    }

    /// Counts one that did not.
    pub fn failed(&mut self, code: String) {
        *self.failures.entry(code).or_default() += 1;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.writes += &other.writes;
        self.reads += &other.reads;
        for (code, count) in &other.failures {
            *self.failures.entry(code.clone()).or_default() += count;
        }
    }
}
