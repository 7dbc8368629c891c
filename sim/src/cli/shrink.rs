//! `cargo sim shrink`: a failing run in, a short scenario out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::which::Which;
use crate::shrink::shrink;

#[derive(Args)]
pub(super) struct Shrink {
    #[command(flatten)]
    which: Which,
    /// The invariant that has to go on breaking; the first that breaks unless told otherwise.
    #[arg(long)]
    invariant: Option<String>,
    /// Stops after this time.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Where to write the scenario; to standard output unless told otherwise.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run(asked: &Shrink) -> Result<bool, String> {
    let limit = Duration::from_secs_f64(asked.minutes * 60.0);
    let start = Instant::now();
    let mut tell = |what: String| eprintln!("{:>6.1} s  {what}", start.elapsed().as_secs_f64());
    let shrunk = shrink(
        &asked.which.world()?,
        asked.which.mutant_named()?,
        asked.invariant.as_deref(),
        limit,
        &mut tell,
    )?;
    eprintln!("before  {}", shrunk.before);
    eprintln!("after   {}", shrunk.after);
    eprintln!(
        "{} runs in {:.1} s{}{}",
        shrunk.runs,
        start.elapsed().as_secs_f64(),
        if shrunk.complete {
            ", and nothing more can be taken away"
        } else {
            "; time ran out, more might go"
        },
        if shrunk.by_habits {
            "; clients go by their habits, because with explicit steps nothing broke"
        } else {
            ""
        },
    );
    let text = shrunk.scenario.text();
    match &asked.out {
        None => print!("{text}"),
        Some(path) => {
            write(path, &text)?;
            eprintln!("again: cargo sim run {}", path.display());
        }
    }
    Ok(true)
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
