//! What all verdicts come to: a count for each folder, and those that nobody found and nobody explained.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::judge::{Found, Verdict};
use crate::mutant::{Name, Position};
use crate::survivors::{Survivors, row_of};
use crate::tree::Listed;

/// How many of a folder's mutants had which end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Count {
    all: usize,
    left_out: usize,
    by_tests: usize,
    by_worlds: usize,
    hang: usize,
    explained: usize,
    survived: usize,
}

/// All counts, and the survivors.
#[derive(Clone, Default, Debug)]
pub struct Report<'a> {
    folders: BTreeMap<&'a str, Count>,
    survivors: Vec<(&'a Name, Position)>,
}

impl<'a> Report<'a> {
    /// The report of these. A mutant that is judged twice counts by its last verdict.
    #[must_use]
    pub fn of(
        listed: &'a [Listed],
        verdicts: &BTreeMap<(Name, Position), Verdict>,
        known: &Survivors,
    ) -> Self {
        let mut report = Self::default();
        for mutant in listed {
            let folder = mutant
                .name
                .file
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            let count = report.folders.entry(folder).or_default();
            count.all += 1;
            if mutant.left_out.is_some() {
                count.left_out += 1;
            }
        }
        for verdict in verdicts.values() {
            let folder = verdict
                .name
                .file
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            let Some(count) = report.folders.get_mut(folder) else {
                continue;
            };
            match &verdict.found {
                Some(Found::Test { .. }) => count.by_tests += 1,
                Some(Found::World { .. }) => count.by_worlds += 1,
                Some(Found::Hang { .. }) => count.hang += 1,
                None if known.why(&verdict.name).is_some() => count.explained += 1,
                None => count.survived += 1,
            }
        }
        report.survivors = listed
            .iter()
            .filter(|mutant| {
                let verdict = verdicts.get(&(mutant.name.clone(), mutant.at));
                verdict.is_some_and(|verdict| verdict.found.is_none())
                    && known.why(&mutant.name).is_none()
            })
            .map(|mutant| (&mutant.name, mutant.at))
            .collect();
        report
    }

    /// Whether everything that nobody found is explained.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.survivors.is_empty()
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = "folder                        mutants  left out  judged  tests  worlds  hang  explained  survived";
        writeln!(f, "{columns}")?;
        let mut sum = Count::default();
        for (folder, count) in &self.folders {
            row(f, folder, count)?;
            sum.all += count.all;
            sum.left_out += count.left_out;
            sum.by_tests += count.by_tests;
            sum.by_worlds += count.by_worlds;
            sum.hang += count.hang;
            sum.explained += count.explained;
            sum.survived += count.survived;
        }
        row(f, "all", &sum)?;
        let mut rows = String::new();
        for (name, at) in &self.survivors {
            let _ = writeln!(rows, "{}  <- {at}", row_of(name));
        }
        f.write_str(&rows)
    }
}

fn row(f: &mut fmt::Formatter<'_>, folder: &str, count: &Count) -> fmt::Result {
    let Count {
        all,
        left_out,
        by_tests,
        by_worlds,
        hang,
        explained,
        survived,
    } = count;
    let judged = by_tests + by_worlds + hang + explained + survived;
    writeln!(
        f,
        "{folder:<28} {all:>8} {left_out:>9} {judged:>7} {by_tests:>6} {by_worlds:>7} {hang:>5} {explained:>10} \
         {survived:>9}"
    )
}
