//! A run as one page for a browser, which opens without a network: [`render`].
//!
//! ```text
//! Recorder ─► Log ─► data (arrays and a table of strings) ─┐
//!                            template.html (markup, style, script) ─┴─► one file
//! ```
//!
//! What it is not: a judge. It shows what was recorded and what the invariants found.
//!
//! Invariants: one run, one page, to the byte. The file refers to nothing outside of itself, and no text of the run is
//! ever read as markup.

mod data;

use crate::outcome::{Outcome, Recording};

/// Markup, style and script. The data takes the place of one word.
const TEMPLATE: &str = include_str!("template.html");

/// Where the data goes.
const PLACE: &str = "@@DATA@@";

/// The page of a run that was recorded; `replay` is the command that runs it again.
#[must_use]
pub fn render(outcome: &Outcome, recording: &Recording, replay: &str) -> String {
    let data = data::of(outcome, recording, replay).to_string();
    // In a script element only `<` can end it, and JSON has another spelling for that.
    TEMPLATE.replacen(PLACE, &data.replace('<', "\\u003c"), 1)
}

#[cfg(test)]
#[path = "page_test.rs"]
mod tests;
