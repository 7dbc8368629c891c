//! The proof that the harness works: every known bug is put back, and has to be found.

use std::fmt;
use std::time::{Duration, Instant};

use pairdb::mutant::Mutant;
use serde::Serialize;

use crate::sweep::sweep;

/// What became of one mutant.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The mutant's name.
    pub name: &'static str,
    /// Whether it was found.
    pub caught: bool,
    /// How many seeds were run.
    pub seeds: u64,
    /// How long that took.
    pub seconds: f64,
    /// What it does.
    pub what: &'static str,
    /// The first seed that finds it, however many are run at a time; `None` if it survived.
    pub seed: Option<u64>,
    /// The invariants that caught it.
    pub caught_by: Vec<&'static str>,
}

/// What all verdicts come to.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// How many were caught.
    pub caught: usize,
    /// Of how many.
    pub all: usize,
    /// The median of the seconds until then; one that survived counts with all that it was given.
    pub median_seconds: f64,
    /// The most seconds that one took.
    pub worst_seconds: f64,
}

/// Puts one bug back and looks for a seed that finds it, up to `seeds_max` and for as long as `limit`.
#[must_use]
pub fn hunt(mutant: Mutant, from: u64, seeds_max: u64, limit: Duration, jobs: usize) -> Verdict {
    let start = Instant::now();
    let mut verdict = Verdict {
        name: mutant.name(),
        caught: false,
        seeds: 0,
        seconds: 0.0,
        what: mutant.what(),
        seed: None,
        caught_by: Vec::new(),
    };
    sweep(
        from..from.saturating_add(seeds_max),
        jobs,
        Some(mutant),
        |outcome| {
            verdict.seeds += 1;
            if outcome.violations.is_empty() {
                return start.elapsed() < limit;
            }
            // Runs end in no order. Those of smaller seeds have begun before, and are told here all the same.
            if verdict.seed.is_none_or(|seed| outcome.seed < seed) {
                verdict.caught = true;
                verdict.seed = Some(outcome.seed);
                verdict.caught_by = outcome.violations.iter().map(|v| v.invariant).collect();
                verdict.caught_by.dedup();
            }
            false
        },
    );
    verdict.seconds = (start.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    verdict
}

impl Score {
    /// The score of these.
    #[must_use]
    pub fn of(verdicts: &[Verdict]) -> Self {
        let mut seconds: Vec<f64> = verdicts.iter().map(|verdict| verdict.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        Self {
            caught: verdicts.iter().filter(|verdict| verdict.caught).count(),
            all: verdicts.len(),
            median_seconds: seconds.get(seconds.len() / 2).copied().unwrap_or_default(),
            worst_seconds: seconds.last().copied().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            caught,
            all,
            median_seconds,
            worst_seconds,
        } = self;
        write!(
            f,
            "{caught} of {all} caught; median {median_seconds:.1} s, worst {worst_seconds:.1} s"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(caught: bool, seconds: f64) -> Verdict {
        let caught_by = Vec::new();
        let (seeds, seed) = (1, caught.then_some(0));
        Verdict {
            name: "n",
            caught,
            seeds,
            seconds,
            what: "w",
            seed,
            caught_by,
        }
    }

    #[test]
    fn survivors_count_in_the_score() {
        let score = Score::of(&[
            verdict(true, 3.0),
            verdict(false, 180.0),
            verdict(true, 1.0),
        ]);
        assert_eq!(
            score.to_string(),
            "2 of 3 caught; median 3.0 s, worst 180.0 s"
        );
    }
}
