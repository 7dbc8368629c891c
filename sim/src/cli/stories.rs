//! `cargo sim scenarios`: tells every story, and what it would bring to light.

use std::path::{Path, PathBuf};

use clap::Args;
use pairdb::mutant::Mutant;

use super::report;
use crate::scenario::{Scenario, mutant_named};

#[derive(Args)]
pub(super) struct Stories {
    /// Files; all in `scenarios/` unless told otherwise.
    files: Vec<PathBuf>,
    /// Tells each story with every known bug put back, not only with those that its file names.
    #[arg(long)]
    all_mutants: bool,
    /// Puts no bug back.
    #[arg(long, conflicts_with = "all_mutants")]
    without_bugs: bool,
    /// Prints the list for scenarios/README.md.
    #[arg(long)]
    list: bool,
}

pub(super) fn run(asked: &Stories) -> Result<bool, String> {
    let files = match asked.files.is_empty() {
        true => files(Path::new("scenarios"))?,
        false => asked.files.clone(),
    };
    let mut all_well = true;
    for file in files {
        let scenario = Scenario::read(&file)?;
        if asked.list {
            println!("{}", line(&file, &scenario));
            continue;
        }
        let mut broken = scenario
            .outcomes(None)
            .filter(|outcome| !outcome.violations.is_empty());
        let name = file.display();
        match broken.next() {
            None => println!("ok      {name}"),
            Some(outcome) => {
                all_well = false;
                println!("BROKEN  {name}");
                let replay = format!("cargo sim replay {name} --seed {}", outcome.seed);
                print!("{}", report::text(&outcome, &replay));
            }
        }
        if !asked.without_bugs {
            all_well &= catches(&scenario, asked.all_mutants)?;
        }
    }
    Ok(all_well)
}

fn catches(scenario: &Scenario, all_mutants: bool) -> Result<bool, String> {
    let mut all_well = true;
    let named = &scenario.head.catches;
    let mutants: Vec<Mutant> = match all_mutants {
        true => Mutant::ALL.to_vec(),
        false => {
            let named = named.keys().map(|name| mutant_named(name));
            named.collect::<Result<_, _>>()?
        }
    };
    for mutant in mutants {
        let mut caught: Vec<(&str, u32)> = Vec::new();
        for outcome in scenario.outcomes(Some(mutant)) {
            let mut broken: Vec<&str> = outcome.violations.iter().map(|v| v.invariant).collect();
            broken.dedup();
            for invariant in broken {
                match caught.iter_mut().find(|(name, _)| *name == invariant) {
                    Some((_, times)) => *times += 1,
                    None => caught.push((invariant, 1)),
                }
            }
        }
        let named = named.get(mutant.name());
        let missed = named.filter(|named| !caught.iter().any(|(name, _)| name == named));
        let by: Vec<String> = caught
            .iter()
            .map(|(name, times)| format!("{name} ({times} of {} seeds)", scenario.head.seeds))
            .collect();
        if let Some(named) = missed {
            all_well = false;
            println!("        {} does NOT break '{named}'", mutant.name());
        }
        if !by.is_empty() {
            let known = if named.is_some() { "" } else { "+ " };
            println!("        {known}{}: {}", mutant.name(), by.join(", "));
        }
    }
    Ok(all_well)
}

/// A scenario's line in the list of all.
#[must_use]
pub fn line(file: &Path, scenario: &Scenario) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let head = &scenario.head;
    let promise = match head.promise {
        0 => "–".to_owned(),
        promise => promise.to_string(),
    };
    let caught: Vec<String> = head
        .catches
        .keys()
        .map(|mutant| format!("`{mutant}`"))
        .collect();
    format!(
        "| [{name}]({name}) | {promise} | {} | {} |",
        head.title,
        caught.join(", ")
    )
}

/// The scenario files of a folder, by name.
///
/// # Errors
/// When it can't be listed.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let problem = |error: std::io::Error| format!("{}: {error}", folder.display());
    let listed = std::fs::read_dir(folder).map_err(problem)?;
    let paths: Result<Vec<PathBuf>, _> = listed.map(|file| file.map(|file| file.path())).collect();
    let mut files = paths.map_err(problem)?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    Ok(files)
}
