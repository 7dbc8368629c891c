//! `cargo sim counts`: what came of the operations of fixed seeds, and whether that has changed.

use std::path::PathBuf;

use clap::Args;

use super::shrink;
use crate::counts::{Counts, SEEDS};
use crate::sweep::{cores, sweep};

#[derive(Args)]
pub(super) struct Count {
    /// Writes the page to this file; compares with sim/COUNTS.md unless told otherwise.
    #[arg(long)]
    write: Option<PathBuf>,
    /// How many at a time; all cores unless told otherwise.
    #[arg(long)]
    jobs: Option<usize>,
}

/// Returns whether nothing has jumped.
pub(super) fn run(asked: &Count) -> Result<bool, String> {
    let mut counts = Counts::default();
    sweep(SEEDS, asked.jobs.unwrap_or_else(cores), None, |outcome| {
        counts.add(&outcome.counts);
        true
    });
    if let Some(path) = &asked.write {
        shrink::write(path, &counts.page())?;
        return Ok(true);
    }
    let kept = "sim/COUNTS.md";
    let page = std::fs::read_to_string(kept).map_err(|error| format!("{kept}: {error}"))?;
    let jumps = counts.jumps_since(&page);
    jumps.iter().for_each(|jump| println!("{jump}"));
    Ok(jumps.is_empty())
}
