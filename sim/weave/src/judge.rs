//! Turns one mutant on, and looks who finds it: the unit tests that reach it, then the worlds that do.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mutant::{Name, Position};
use crate::process::{self, Ended};
use crate::reach::{Case, Reach, arguments_of};
use crate::tree::Tree;

/// Tests are run in groups that take about this long, each four times as long as the one before: most mutants are found
/// by the first.
const GROUP_MILLIS: u64 = 300;
/// What takes so many times as long as without a mutant, and [`GRACE`] beside, hangs.
const PATIENCE: u32 = 3;
const GRACE: Duration = Duration::from_secs(10);

/// What became of a mutant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Its name.
    pub name: Name,
    /// Where it is.
    pub at: Position,
    /// Who found it; `None` if nobody did.
    pub found: Option<Found>,
    /// How many tests reach it.
    pub tests: usize,
    /// How many worlds were run that reach it; at most, if it was found.
    pub worlds: usize,
    /// How long it took.
    pub seconds: f64,
}

/// Who found a mutant, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Found {
    /// A unit test fails.
    Test {
        /// The test.
        test: String,
    },
    /// A promise is broken in a world.
    World {
        /// The seed, or the scenario's file.
        world: String,
        /// The invariant.
        invariant: String,
    },
    /// Something does not end.
    Hang {
        /// The test, the seed or the scenario's file.
        case: String,
    },
}

/// Judges mutants of a tree.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// Who reaches what.
    pub reach: &'a Reach,
    /// How many worlds at most are run for a mutant.
    pub worlds_max: usize,
}

impl Judge<'_> {
    /// Judges the mutant with this number.
    ///
    /// # Errors
    /// Says what can't be run.
    pub fn judge(&self, number: u32, name: &Name, at: Position) -> Result<Verdict, String> {
        let begun = Instant::now();
        let reaching = |cases: &'_ [Case]| -> Vec<Case> {
            let reaching = cases.iter().filter(|case| case.reached.contains(&number));
            reaching.cloned().collect()
        };
        let (tests, worlds) = (reaching(&self.reach.tests), reaching(&self.reach.worlds));
        let worlds = &worlds[..worlds.len().min(self.worlds_max)];
        let mut found = self.tested(number, &tests)?;
        for world in worlds {
            if found.is_none() {
                found = self.lived(number, world)?;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Verdict {
            name: name.clone(),
            at,
            found,
            tests: tests.len(),
            worlds: worlds.len(),
            seconds: (seconds * 10.0).round() / 10.0,
        })
    }

    fn tested(&self, number: u32, tests: &[Case]) -> Result<Option<Found>, String> {
        let mut budget = GROUP_MILLIS;
        let mut rest = tests;
        while !rest.is_empty() {
            let mut millis = 0;
            let fit = rest
                .iter()
                .take_while(|case| {
                    millis += case.millis;
                    millis <= budget
                })
                .count();
            let (group, after) = rest.split_at(fit.max(1));
            let found = self.group_tested(number, group)?;
            if found.is_some() {
                return Ok(found);
            }
            rest = after;
            budget *= 4;
        }
        Ok(None)
    }

    fn group_tested(&self, number: u32, group: &[Case]) -> Result<Option<Found>, String> {
        let mut arguments = vec!["--exact", "--test-threads", "1"];
        arguments.extend(group.iter().map(|case| case.name.as_str()));
        let millis = group.iter().map(|case| case.millis).sum();
        let ended = self.run("tests", number, &arguments, millis)?;
        if ended.is_well() {
            return Ok(None);
        }
        let failed = |line: &str| {
            let line = line.strip_prefix("test ")?;
            Some(line.strip_suffix(" ... FAILED")?.to_owned())
        };
        let begun = || {
            let last = ended
                .output
                .lines()
                .rfind(|line| line.starts_with("test "))?;
            last.split(' ').nth(1).map(str::to_owned)
        };
        let test = ended.output.lines().find_map(failed);
        let test = test.or_else(begun).unwrap_or_default();
        Ok(Some(match ended.status {
            None => Found::Hang { case: test },
            Some(_) => Found::Test { test },
        }))
    }

    fn lived(&self, number: u32, world: &Case) -> Result<Option<Found>, String> {
        let ended = self.run("worlds", number, &arguments_of(&world.name), world.millis)?;
        let world = world.name.clone();
        Ok(match ended.status {
            Some(status) if status.success() => None,
            None => Some(Found::Hang { case: world }),
            Some(status) => {
                let outcome: Value = serde_json::from_str(&ended.output).unwrap_or_default();
                let invariant = outcome["violations"][0]["invariant"].as_str();
                Some(Found::World {
                    world,
                    invariant: invariant.map_or_else(|| status.to_string(), str::to_owned),
                })
            }
        })
    }

    fn run(
        &self,
        program: &str,
        number: u32,
        arguments: &[&str],
        millis: u64,
    ) -> Result<Ended, String> {
        let limit = Duration::from_millis(millis) * PATIENCE + GRACE;
        // Several shards may be judged at the same time.
        let printed: PathBuf = self
            .tree
            .kept
            .join(format!("printed-{}", std::process::id()));
        let once = || {
            process::run(
                &self.tree.program(program),
                arguments,
                &[("PAIRDB_WOVEN", number.to_string().as_str())],
                &self.tree.copy,
                &printed,
                limit,
            )
        };
        // The machine may have had no time for it: what hangs does so twice.
        match once()? {
            Ended { status: None, .. } => once(),
            ended => Ok(ended),
        }
    }
}
