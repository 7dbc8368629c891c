//! `cargo sim mutants`: the catalogue of planted bugs, hunted one after the other, and the score.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use pairdb::mutant::Mutant;

use super::stories::files;
use crate::mutants::{Score, Verdict, hunt};
use crate::scenario::{Scenario, mutant_named};
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
            true => Mutant::ALL.to_vec(),
            false => self
                .only
                .iter()
                .map(|name| mutant_named(name))
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
        for mutant in wanted {
            let verdict = hunt(mutant, self.from, self.seeds, limit, jobs);
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
            let table = markdown(&verdicts, &told_by_stories(Path::new("scenarios"))?);
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

/// Which story brings a bug to light, by the bug's name: the story, and the invariant that says so.
type Stories = BTreeMap<String, (String, String)>;

fn told_by_stories(directory: &Path) -> Result<Stories, String> {
    let mut told = Stories::new();
    for file in files(directory)? {
        let story = file.file_stem().unwrap_or_default().to_string_lossy();
        for (bug, invariant) in Scenario::read(&file)?.head.catches {
            let found = (story.clone().into_owned(), invariant);
            told.entry(bug).or_insert(found);
        }
    }
    Ok(told)
}

/// What comes before the count.
const HEAD: &str = "\
# Planted bugs

Made by `cargo sim mutants --write sim/MUTANTS.md`; don't edit. Each bug is one place in the core, switched on for the
harness only (`src/mutant.rs`). A row says what finds it, and which promises break: the first general seed that does,
or else a story in `scenarios/`. What only unit tests find is found by nobody here.
";

const COLUMNS: &str = "\
| bug | what it does | found by | what breaks |
|---|---|---|---|
";

/// The table, sorted by name. It has no times in it, so it changes only when a finding does.
fn markdown(verdicts: &[Verdict], stories: &Stories) -> String {
    let mut rows = BTreeMap::new();
    let (mut by_seeds, mut by_stories) = (0, 0);
    for verdict in verdicts {
        let Verdict { name, what, .. } = verdict;
        let (found_by, broken) = match (verdict.seed, stories.get(*name)) {
            (Some(seed), _) => {
                by_seeds += 1;
                (format!("seed {seed}"), verdict.caught_by.join(", "))
            }
            (None, Some((story, invariant))) => {
                by_stories += 1;
                (format!("story `{story}`"), invariant.clone())
            }
            (None, None) => ("**nobody**".to_owned(), String::new()),
        };
        rows.insert(
            *name,
            format!("| `{name}` | {what} | {found_by} | {broken} |"),
        );
    }
    let count = count(verdicts.len(), by_seeds, by_stories);
    let mut text = format!("{HEAD}\n**{count}**\n\n{COLUMNS}");
    for row in rows.values() {
        let _ = writeln!(text, "{row}");
    }
    text
}

fn count(all: usize, by_seeds: usize, by_stories: usize) -> String {
    let by_nobody = all - by_seeds - by_stories;
    format!(
        "{all} bugs: {by_seeds} found by seeds, {by_stories} by stories alone, {by_nobody} by nobody here"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("../../MUTANTS.md");

    /// The cells of each row.
    fn rows() -> Vec<Vec<&'static str>> {
        let rows = TABLE.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
            .collect()
    }

    #[test]
    fn the_table_tells_of_every_bug_that_there_is_and_of_no_other() {
        let told: Vec<(String, &str)> = rows()
            .iter()
            .map(|row| (row[0].trim_matches('`').to_owned(), row[1]))
            .collect();
        let all = Mutant::ALL.iter();
        let mut all: Vec<(String, &str)> =
            all.map(|bug| (bug.name().to_owned(), bug.what())).collect();
        all.sort();
        assert_eq!(told, all);
    }

    #[test]
    fn the_table_counts_what_it_has() {
        let found_by = |what: &str| {
            let rows = rows();
            rows.iter().filter(|row| row[2].starts_with(what)).count()
        };
        let count = count(rows().len(), found_by("seed "), found_by("story "));
        assert!(TABLE.contains(&format!("**{count}**")), "{count}");
    }

    #[test]
    fn the_table_names_stories_that_there_are() {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let stories = told_by_stories(&scenarios).expect("the stories");
        for row in rows().iter().filter(|row| row[2].starts_with("story ")) {
            let (story, invariant) = &stories[row[0].trim_matches('`')];
            assert_eq!(
                (row[2], row[3]),
                (&*format!("story `{story}`"), invariant.as_str())
            );
        }
    }

    #[test]
    fn a_bug_is_told_by_a_seed_or_else_by_a_story() {
        let verdict = |name, seed: Option<u64>| Verdict {
            name,
            caught: seed.is_some(),
            seeds: 9,
            seconds: 1.5,
            what: "does harm",
            seed,
            caught_by: vec!["epochs"; seed.iter().count()],
        };
        let found = ("a-story".to_owned(), "convergence".to_owned());
        let stories = Stories::from([("b".to_owned(), found)]);
        let verdicts = [
            verdict("c", None),
            verdict("b", None),
            verdict("a", Some(7)),
        ];
        let table = markdown(&verdicts, &stories);
        let rows = "| `a` | does harm | seed 7 | epochs |\n\
                    | `b` | does harm | story `a-story` | convergence |\n\
                    | `c` | does harm | **nobody** |  |\n";
        assert!(table.ends_with(rows), "{table}");
        assert!(
            table.contains("**3 bugs: 1 found by seeds, 1 by stories alone, 1 by nobody here**")
        );
    }
}
