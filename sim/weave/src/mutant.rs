//! A mutant: one mistake at one place of the core, as `cargo mutants` lists it.
//!
//! What this is not: a planted bug (`src/mutant.rs` of the core). Those are made by hand, and each breaks a rule.
//!
//! Invariant: a mutant's [`Name`] has no line number in it, so it outlives changes elsewhere in its file. Two mutants
//! may have the same name, if the same is changed twice in one line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of mistakes that `cargo mutants` makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Genre {
    /// A function returns at once.
    FnValue,
    /// One operator instead of another.
    BinaryOperator,
    /// An operator is missing.
    UnaryOperator,
    /// An arm of a `match` is missing.
    MatchArm,
    /// The condition of an arm always holds, or never does.
    MatchArmGuard,
    /// A field has the value that a default gives it.
    StructField,
}

/// A place in a source file, both numbers from one on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Position {
    line: usize,
    column: usize,
}

/// Where a mutant's text begins. Where it ends is told from the syntax.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    start: Position,
}

/// One line of `cargo mutants --list --json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mutant {
    /// The file, from the root of the repository.
    pub file: String,
    /// Which kind of mistake.
    pub genre: Genre,
    /// What is changed, with its position in front.
    name: String,
    /// What stands there instead.
    pub replacement: String,
    span: Span,
}

/// What a mutant is called in lists that people keep.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Name {
    /// The file.
    pub file: String,
    /// What is changed, and in which function.
    pub change: String,
    /// The line of code that is changed; empty if it is a whole function.
    pub code: String,
}

impl Mutant {
    /// Where its text begins in `source`, in bytes; `None` if the source has no such place.
    #[must_use]
    pub fn offset(&self, source: &str) -> Option<usize> {
        let Position { line, column } = self.span.start;
        let before: usize = source
            .split_inclusive('\n')
            .take(line.checked_sub(1)?)
            .map(str::len)
            .sum();
        let text = source.get(before..)?;
        let (within, _) = text.char_indices().nth(column.checked_sub(1)?)?;
        Some(before + within)
    }

    /// What it is called.
    #[must_use]
    pub fn called(&self, source: &str) -> Name {
        let line = source.lines().nth(self.span.start.line.saturating_sub(1));
        let change = self
            .name
            .split_once(": ")
            .map_or(self.name.as_str(), |(_, change)| change);
        Name {
            file: self.file.clone(),
            change: change.to_owned(),
            code: match self.genre {
                Genre::FnValue => String::new(),
                _ => line.unwrap_or_default().trim().to_owned(),
            },
        }
    }

    /// Where it is.
    #[must_use]
    pub fn at(&self) -> Position {
        self.span.start
    }

    /// A mutant of a test.
    #[cfg(test)]
    pub(crate) fn made(line: usize, column: usize, genre: Genre, replacement: &str) -> Self {
        Self {
            file: "a.rs".to_owned(),
            genre,
            name: format!("a.rs:{line}:{column}: a change"),
            replacement: replacement.to_owned(),
            span: Span {
                start: Position { line, column },
            },
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column } = self;
        write!(f, "{line}:{column}")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.change)?;
        if !self.code.is_empty() {
            write!(f, ", at `{}`", self.code)?;
        }
        Ok(())
    }
}
