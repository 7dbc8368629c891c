//! Mutation testing of the core, with one build for all mutants.
//!
//! ```text
//! cargo mutants --list ─► weave ─► build tests, build worlds ─► reach ─► judge, one process each ─► report
//! ```
//!
//! Building the program anew for each of some four thousand mutants takes days. So all are woven into one copy of the
//! repository, each behind a switch that a variable of the environment turns on ([`weave`]).
//!
//! What this is not: the proof that every rule of the core is checked. That is what planted bugs are for
//! (`sim/MUTANTS.md`): they are made by hand, where a rule is, and may be larger than one operator.
//!
//! Invariant: what nobody finds is told, unless `sim/SURVIVORS.md` says why it may live.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command line, which runs and times other programs"
)]

mod judge;
mod mutant;
mod places;
mod process;
mod reach;
mod report;
mod survivors;
mod tree;
mod weave;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::judge::{Found, Judge, Verdict};
use crate::mutant::{Name, Position};
use crate::reach::Reach;
use crate::report::Report;
use crate::survivors::Survivors;
use crate::tree::{Listed, Tree};

/// Mutation testing of the core, with one build for all mutants.
///
/// `build`, then `judge`, as often as one likes: what is judged is kept, and not judged again. Needs `cargo-mutants`,
/// which makes the mutants. Everything is kept in `target/woven`.
#[derive(Parser)]
#[command(name = "cargo weave", bin_name = "cargo weave")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Weaves all mutants into a copy of the repository, and builds it.
    Build,
    /// Turns mutants on, one after the other, and looks who finds them.
    Judge(Asked),
    /// Says what all verdicts come to, and who survived and is not in sim/SURVIVORS.md.
    Report {
        /// Prints one line of JSON for each verdict instead.
        #[arg(long)]
        json: bool,
    },
}

/// Which mutants to judge, and how thoroughly.
#[derive(clap::Args)]
struct Asked {
    /// Only every Nth, beginning with the Kth, from 0 on: K/N.
    #[arg(long, value_parser = shard, default_value = "0/1")]
    shard: (usize, usize),
    /// Only those with this text in file, change or code.
    #[arg(long, default_value = "")]
    only: String,
    /// How many seeds, from 0 on, there are worlds of; told once after each build.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// How many worlds at most are run for each, those that end first before the others.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    worlds: usize,
    /// Judges again whoever survived and has no reason to.
    #[arg(long)]
    again: bool,
    /// Begins no other one after this time.
    #[arg(long)]
    minutes: Option<f64>,
    /// Prints one line of JSON for each.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Build => build(),
        Command::Judge(asked) => judge(&asked),
        Command::Report { json } => report(json),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn build() -> Result<bool, String> {
    let tree = Tree::here()?;
    let listed = tree.build()?;
    keep(&tree.kept.join(LISTED), &listed)?;
    let left_out = listed.iter().filter(|mutant| mutant.left_out.is_some());
    eprintln!("{} mutants, {} left out", listed.len(), left_out.count());
    let reach = tree.kept.join(REACH);
    if reach.exists() {
        fs::remove_file(&reach).map_err(|error| format!("{}: {error}", reach.display()))?;
    }
    Ok(true)
}

/// Returns whether everybody who was judged was found, or may live.
fn judge(asked: &Asked) -> Result<bool, String> {
    let begun = Instant::now();
    let limit = asked
        .minutes
        .map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let tree = Tree::here()?;
    let listed: Vec<Listed> = kept(&tree.kept.join(LISTED))?;
    let reach = reach(&tree, asked.seeds)?;
    let known = Survivors::read(&tree.repository.join(SURVIVORS))?;
    let verdicts = verdicts(&tree)?;
    let is_wanted = |number: usize, mutant: &Listed| {
        let (nth, of) = asked.shard;
        let before = verdicts.get(&(mutant.name.clone(), mutant.at));
        let is_open = match before {
            None => true,
            Some(before) => {
                asked.again && before.found.is_none() && known.why(&before.name).is_none()
            }
        };
        number % of == nth
            && mutant.left_out.is_none()
            && mutant.name.to_string().contains(&asked.only)
            && is_open
    };
    let wanted: Vec<(usize, &Listed)> = listed
        .iter()
        .enumerate()
        .filter(|(number, mutant)| is_wanted(*number, mutant))
        .collect();
    let judge = Judge {
        tree: &tree,
        reach: &reach,
        worlds_max: asked.worlds,
    };
    let mut is_clean = true;
    for (done, (number, mutant)) in wanted.iter().enumerate() {
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break;
        }
        let number = u32::try_from(*number).map_err(|error| error.to_string())?;
        let verdict = judge.judge(number, &mutant.name, mutant.at)?;
        append(&tree.kept.join(VERDICTS), &line_of(&verdict)?)?;
        match asked.json {
            true => println!("{}", line_of(&verdict)?),
            false => println!("{}/{} {}", done + 1, wanted.len(), told(&verdict)),
        }
        is_clean &= verdict.found.is_some() || known.why(&verdict.name).is_some();
    }
    Ok(is_clean)
}

/// Which tests and worlds reach which mutants: measured once after each build.
fn reach(tree: &Tree, seeds: u64) -> Result<Reach, String> {
    let path = tree.kept.join(REACH);
    if !path.exists() {
        keep(&path, &Reach::measure(tree, seeds)?)?;
    }
    kept(&path)
}

fn report(json: bool) -> Result<bool, String> {
    let tree = Tree::here()?;
    let listed: Vec<Listed> = kept(&tree.kept.join(LISTED))?;
    let known = Survivors::read(&tree.repository.join(SURVIVORS))?;
    let verdicts = verdicts(&tree)?;
    let report = Report::of(&listed, &verdicts, &known);
    match json {
        true => {
            for verdict in verdicts.values() {
                println!("{}", line_of(verdict)?);
            }
        }
        false => print!("{report}"),
    }
    let gone = known
        .names()
        .filter(|name| !listed.iter().any(|mutant| mutant.name == **name));
    for name in gone {
        eprintln!("{SURVIVORS} names what is no mutant any more: {name}");
    }
    Ok(report.is_clean())
}

/// The list of those that may live.
const SURVIVORS: &str = "sim/SURVIVORS.md";
/// What is kept from one command to the next: all mutants, who reaches them, and what became of them.
const LISTED: &str = "mutants.json";
const REACH: &str = "reach.json";
const VERDICTS: &str = "verdicts.jsonl";

/// The last verdict of each mutant that was judged.
fn verdicts(tree: &Tree) -> Result<BTreeMap<(Name, Position), Verdict>, String> {
    let text = fs::read_to_string(tree.kept.join(VERDICTS)).unwrap_or_default();
    let verdict = |line| serde_json::from_str::<Verdict>(line).map_err(|error| error.to_string());
    text.lines()
        .map(|line| verdict(line).map(|verdict| ((verdict.name.clone(), verdict.at), verdict)))
        .collect()
}

fn told(verdict: &Verdict) -> String {
    let Verdict {
        name,
        at,
        found,
        tests,
        worlds,
        seconds,
    } = verdict;
    let by = match found {
        Some(Found::Test { test }) => format!("test {test}"),
        Some(Found::World { world, invariant }) => format!("world {world}, {invariant}"),
        Some(Found::Hang { case }) => format!("hangs: {case}"),
        None => format!("NOBODY, of {tests} tests and {worlds} worlds"),
    };
    format!("{seconds:>6.1} s  {name} ({at}): {by}")
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let (nth, of) = text.split_once('/').ok_or("K/N")?;
    let number = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
    match (number(nth)?, number(of)?) {
        (nth, of) if nth < of => Ok((nth, of)),
        _ => Err("K is less than N".to_owned()),
    }
}

fn line_of(verdict: &Verdict) -> Result<String, String> {
    serde_json::to_string(verdict).map_err(|error| error.to_string())
}

fn keep(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn kept<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let problem =
        |error: String| format!("{}: {error}; `cargo weave build` makes it", path.display());
    let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| problem(error.to_string()))
}

fn append(path: &Path, line: &str) -> Result<(), String> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{line}"))
        .map_err(|error| format!("{}: {error}", path.display()))
}
