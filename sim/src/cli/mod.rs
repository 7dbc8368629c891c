//! The command line. The only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod counts;
mod mutants;
mod origin;
pub mod report;
mod shrink;
pub mod stories;
mod which;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use self::which::Which;
use crate::scenario::Scenario;
use crate::sweep::{cores, sweep};
use crate::world::World;

/// Deterministic simulation of PairDB.
#[derive(Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one world and says what was broken.
    Run {
        #[command(flatten)]
        which: Which,
        /// Prints the outcome as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the history of one run.
    Trace {
        #[command(flatten)]
        which: Which,
        /// Only lines with this text, for example a key.
        #[arg(long)]
        only: Option<String>,
        /// What storage nodes are asked and answer, too.
        #[arg(long)]
        messages: bool,
        /// Writes the run to this file instead, as a page for a browser: a lane for each process, every message and
        /// fault, the broken key's records at each step. It needs no network.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Runs one world again and shows all that happens, messages too.
    Replay {
        #[command(flatten)]
        which: Which,
        /// Where to write it; to standard output unless told otherwise.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Makes a short scenario of a run in which something breaks.
    Shrink(shrink::Shrink),
    /// Tells every story in scenarios/, and what it would bring to light.
    Scenarios(stories::Stories),
    /// Prints the world of a seed as a scenario file.
    World {
        /// The seed.
        #[arg(long)]
        seed: u64,
    },
    /// Runs many seeds on all cores.
    Sweep {
        /// How many.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        seeds: u64,
        /// The first one; 0 unless told otherwise, and one that nobody has run before if the sweep goes on for a time.
        #[arg(long)]
        from: Option<u64>,
        /// Goes on for this time.
        #[arg(long)]
        minutes: Option<f64>,
        /// How many at a time; all cores unless told otherwise.
        #[arg(long)]
        jobs: Option<usize>,
        /// Goes on after a failure.
        #[arg(long)]
        keep_going: bool,
        /// Prints one line of JSON for each run.
        #[arg(long)]
        json: bool,
    },
    /// Counts what came of the operations of fixed seeds, and compares it with what is kept in sim/COUNTS.md.
    Counts(counts::Count),
    /// Puts every known bug back, one after the other, and looks for a seed that finds it.
    Mutants(mutants::Mutants),
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { which, json } => which.run(false, false).map(|outcome| {
            match json {
                true => println!("{}", report::json(&outcome)),
                false => print!("{}", report::text(&outcome, &which.replay())),
            }
            outcome.violations.is_empty()
        }),
        Command::Trace {
            which,
            only,
            messages,
            html: None,
        } => which.run(messages, false).map(|outcome| {
            let lines = outcome.history.lines();
            for line in lines.filter(|line| only.as_ref().is_none_or(|only| line.contains(only))) {
                println!("{line}");
            }
            println!("fingerprint {:016x}", outcome.fingerprint);
            outcome.violations.is_empty()
        }),
        Command::Trace {
            which,
            html: Some(html),
            ..
        } => page(&which, &html),
        Command::Replay { which, out } => replay(&which, out.as_deref()),
        Command::Shrink(asked) => shrink::run(&asked),
        Command::Scenarios(asked) => stories::run(&asked),
        Command::World { seed } => {
            print!("{}", Scenario::of(World::draw(seed)).text());
            Ok(true)
        }
        Command::Sweep {
            seeds,
            from,
            minutes,
            jobs,
            keep_going,
            json,
        } => Ok(many(
            from.unwrap_or_else(|| first(minutes)),
            seeds,
            minutes,
            jobs,
            keep_going,
            json,
        )),
        Command::Counts(asked) => counts::run(&asked),
        Command::Mutants(mutants) => mutants.run(),
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

/// Writes the page of a run, and says in a line what it shows.
fn page(which: &Which, html: &Path) -> Result<bool, String> {
    let outcome = which.run(false, true)?;
    let replay = which.replay();
    let recording = outcome.recording.as_deref();
    let recording = recording.ok_or("the run ended before it began")?;
    let page = crate::page::render(&outcome, recording, &replay);
    let problem = |error| format!("{}: {error}", html.display());
    std::fs::write(html, &page).map_err(problem)?;
    print!("{}", report::text(&outcome, &replay));
    println!("open {} in a browser", html.display());
    Ok(outcome.violations.is_empty())
}

fn replay(which: &Which, out: Option<&Path>) -> Result<bool, String> {
    let outcome = which.run(true, false)?;
    let verdict = report::text(&outcome, &which.replay());
    let text = format!("{}{verdict}", outcome.history);
    match out {
        None => print!("{text}"),
        Some(path) => {
            shrink::write(path, &text)?;
            eprint!("{verdict}");
        }
    }
    Ok(outcome.violations.is_empty())
}

/// The first seed of a sweep: a sweep that goes on for a time is to see what was never seen, so it begins with what
/// the clock says.
fn first(minutes: Option<f64>) -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let fresh = since.map_or(0, |since| since.as_secs());
    minutes.map_or(0, |_| fresh)
}

fn many(
    from: u64,
    seeds: u64,
    minutes: Option<f64>,
    jobs: Option<usize>,
    keep_going: bool,
    json: bool,
) -> bool {
    let start = Instant::now();
    let limit = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let mut sum = report::Sum::default();
    eprintln!("seeds from {from} on");
    let mut told = start;
    sweep(
        from..from.saturating_add(seeds),
        jobs.unwrap_or_else(cores),
        None,
        |outcome| {
            sum.add(&outcome);
            if json {
                println!("{}", report::json(&outcome));
            } else if !outcome.violations.is_empty() {
                print!(
                    "{}",
                    report::text(
                        &outcome,
                        &format!("cargo sim replay --seed {}", outcome.seed)
                    )
                );
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                eprintln!("{}", sum.text(start.elapsed()));
            }
            let failed = !outcome.violations.is_empty() && !keep_going;
            !failed && limit.is_none_or(|limit| start.elapsed() < limit)
        },
    );
    if json {
        println!("{}", sum.json(start.elapsed()));
    }
    eprint!("{}", sum.missing_marks());
    eprint!("{}", sum.excused());
    eprintln!("{}", sum.text(start.elapsed()));
    sum.failed == 0 && !sum.lacks_marks()
}
