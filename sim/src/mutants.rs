//! The proof that the harness works: every known bug is put back, and has to be found.

use std::time::{Duration, Instant};

use pairdb::sabotage::Sabotage;
use serde::Serialize;

use crate::sweep::sweep;

/// What became of one sabotage.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The sabotage's name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// The first seed that found it; `None` if it survived.
    pub seed: Option<u64>,
    /// How many seeds were run until then.
    pub seeds: u64,
    /// How long that took.
    pub seconds: f64,
    /// The invariants that caught it.
    pub caught_by: Vec<&'static str>,
}

/// Puts one bug back and looks for a seed that finds it, up to `seeds_max`.
#[must_use]
pub fn hunt(sabotage: Sabotage, from: u64, seeds_max: u64, jobs: usize) -> Verdict {
    let start = Instant::now();
    let mut verdict = Verdict {
        name: sabotage.name(),
        what: sabotage.what(),
        seed: None,
        seeds: 0,
        seconds: 0.0,
        caught_by: Vec::new(),
    };
    sweep(from..from + seeds_max, jobs, Some(sabotage), |outcome| {
        if verdict.seed.is_some() {
            return false;
        }
        verdict.seeds += 1;
        if outcome.violations.is_empty() {
            return true;
        }
        verdict.seed = Some(outcome.seed);
        verdict.caught_by = outcome.violations.iter().map(|v| v.invariant).collect();
        verdict.caught_by.dedup();
        false
    });
    verdict.seconds = seconds(start.elapsed());
    verdict
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}
