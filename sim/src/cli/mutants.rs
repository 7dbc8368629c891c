//! `cargo sim mutants`: the catalogue of planted bugs, hunted one after the other, and the score.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pairdb::sabotage::Sabotage;

use crate::mutants::{Score, Verdict, hunt};
use crate::scenario::sabotage;
use crate::sweep::cores;

/// Which bugs to hunt, for how long, and where to put the result.
#[derive(Args)]
pub struct Mutants {
    /// Only these, by their names; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// The first seed to try.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds to try for each.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// How many seconds to try for each.
    #[arg(long, default_value_t = 180.0)]
    seconds: f64,
    /// How many runs at a time; all cores unless told otherwise.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints one line of JSON for each.
    #[arg(long)]
    json: bool,
    /// Writes the table to this file, as Markdown.
    #[arg(long)]
    write: Option<PathBuf>,
}

impl Mutants {
    /// Hunts them all. Returns whether all were caught.
    ///
    /// # Errors
    /// Says which mutant does not exist, or why the file can't be written.
    pub fn run(&self) -> Result<bool, String> {
        let wanted = match self.only.is_empty() {
            true => Sabotage::ALL.to_vec(),
            false => self
                .only
                .iter()
                .map(|name| sabotage(name))
                .collect::<Result<_, _>>()?,
        };
        let jobs = self.jobs.unwrap_or_else(cores);
        let limit = Duration::from_secs_f64(self.seconds.max(0.0));
        if !self.json {
            println!(
                "{:<32} {:>6} {:>8}  caught by",
                "mutant", "seeds", "seconds"
            );
        }
        let mut verdicts = Vec::new();
        for sabotage in wanted {
            let verdict = hunt(sabotage, self.from, self.seeds, limit, jobs);
            println!(
                "{}",
                if self.json {
                    json(&verdict)
                } else {
                    line(&verdict)
                }
            );
            verdicts.push(verdict);
        }
        let score = Score::of(&verdicts);
        if !self.json {
            println!("{score}");
        }
        if let Some(file) = &self.write {
            let table = markdown(&verdicts, &score, jobs);
            std::fs::write(file, table).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(score.caught == score.all)
    }
}

fn json(verdict: &Verdict) -> String {
    serde_json::to_string(verdict).unwrap_or_default()
}

fn line(verdict: &Verdict) -> String {
    let by = match verdict.seed {
        Some(seed) => format!("{} (seed {seed})", verdict.caught_by.join(", ")),
        None => format!("NOBODY: {}", verdict.what),
    };
    format!(
        "{:<32} {:>6} {:>8.2}  {by}",
        verdict.name, verdict.seeds, verdict.seconds
    )
}

fn markdown(verdicts: &[Verdict], score: &Score, jobs: usize) -> String {
    let mut text = format!(
        "# Planted bugs\n\n\
         Made by `cargo sim mutants --write sim/MUTANTS.md`; don't edit. Each bug is one place in the core, switched on \
         for the harness only (`src/sabotage.rs`), and hunted by the general sweep from seed 0 on, {jobs} runs at a time \
         on a machine with {} cores. Seeds and seconds are those until the first run that broke a promise.\n\n\
         **{score}**\n\n\
         | bug | what it does | seeds | seconds | caught by |\n|---|---|---:|---:|---|\n",
        cores()
    );
    for verdict in verdicts {
        let Verdict {
            name,
            what,
            seeds,
            seconds,
            ..
        } = verdict;
        let by = match verdict.caught {
            true => verdict.caught_by.join(", "),
            false => "**nobody**".to_owned(),
        };
        let _ = writeln!(
            text,
            "| `{name}` | {what} | {seeds} | {seconds:.1} | {by} |"
        );
    }
    text
}
