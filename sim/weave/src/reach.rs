//! Which unit tests and which worlds reach which mutants, and how long each takes.
//!
//! A mutant that a test does not reach changes nothing in it, so only those that reach it are run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process;
use crate::tree::Tree;

/// The folders whose unit tests are run. Those of other folders test doors and stores, and take long.
const FOLDERS: [&str; 6] = [
    "version::",
    "quorum::",
    "placement::",
    "replica::",
    "coordinator::",
    "api::",
];
/// A test or a world that takes longer than this is not run again and again.
const TOOK_MAX: Duration = Duration::from_secs(20);

/// A test or a world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// A test's name, a seed, or a scenario's file.
    pub name: String,
    /// How long it takes.
    pub millis: u64,
    /// The numbers of the mutants that it reaches.
    pub reached: BTreeSet<u32>,
}

/// All of them, the quickest first.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Reach {
    /// Unit tests.
    pub tests: Vec<Case>,
    /// Worlds: scenarios, and seeds from 0 on.
    pub worlds: Vec<Case>,
}

impl Reach {
    /// Runs every test, every scenario and so many seeds, with no mutant on.
    ///
    /// # Errors
    /// Says what can't be run.
    pub fn measure(tree: &Tree, seeds: u64) -> Result<Self, String> {
        let mut reach = Self {
            tests: tests(tree)?,
            worlds: worlds(tree, seeds)?,
        };
        reach.tests.sort_by_key(|case| case.millis);
        reach.worlds.sort_by_key(|case| case.millis);
        Ok(reach)
    }
}

/// The arguments that run a world.
#[must_use]
pub fn arguments_of(world: &str) -> Vec<&str> {
    match world.parse::<u64>() {
        Ok(_) => vec!["run", "--json", "--seed", world],
        Err(_) => vec!["run", "--json", world],
    }
}

fn tests(tree: &Tree) -> Result<Vec<Case>, String> {
    let program = tree.program("tests");
    let printed = tree.kept.join("printed");
    let listing = ["--list", "--format", "terse"];
    let listed = process::run(&program, &listing, &[], &tree.copy, &printed, TOOK_MAX)?;
    let names = listed
        .output
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<&str> = names
        .filter(|name| FOLDERS.iter().any(|folder| name.starts_with(folder)))
        .collect();
    let cases = names.iter().copied().map(|name| {
        let arguments = ["--exact", name, "--test-threads", "1"];
        measure(tree, &program, name, &arguments)
    });
    told(cases, names.len(), "tests")
}

fn worlds(tree: &Tree, seeds: u64) -> Result<Vec<Case>, String> {
    let problem = |error: std::io::Error| format!("scenarios: {error}");
    let mut names: Vec<String> = (0..seeds).map(|seed| seed.to_string()).collect();
    for entry in fs::read_dir(tree.copy.join("scenarios")).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            names.push(format!("scenarios/{file}"));
        }
    }
    let program = tree.program("worlds");
    let cases = names
        .iter()
        .map(|name| measure(tree, &program, name, &arguments_of(name)));
    told(cases, names.len(), "worlds")
}

/// The cases, without those that fail or take too long; says how many there are.
fn told(
    cases: impl Iterator<Item = Result<Option<Case>, String>>,
    all: usize,
    what: &str,
) -> Result<Vec<Case>, String> {
    let cases: Vec<Case> = cases
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    let millis: u64 = cases.iter().map(|case| case.millis).sum();
    eprintln!("{} of {all} {what} can judge; {millis} ms", cases.len());
    Ok(cases)
}

fn measure(
    tree: &Tree,
    program: &Path,
    name: &str,
    arguments: &[&str],
) -> Result<Option<Case>, String> {
    let (printed, reached) = (tree.kept.join("printed"), tree.kept.join("reached"));
    fs::write(&reached, "").map_err(|error| format!("{}: {error}", reached.display()))?;
    let file = reached.to_string_lossy();
    let variables = [
        ("PAIRDB_WOVEN", "reach"),
        ("PAIRDB_WOVEN_REACHED", file.as_ref()),
    ];
    let ended = process::run(
        program, arguments, &variables, &tree.copy, &printed, TOOK_MAX,
    )?;
    if !ended.is_well() {
        eprintln!("{name}: fails, or takes too long, with no mutant on");
        return Ok(None);
    }
    let numbers = fs::read_to_string(&reached).unwrap_or_default();
    Ok(Some(Case {
        name: name.to_owned(),
        millis: ended.took.as_millis() as u64,
        reached: numbers
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect(),
    }))
}
