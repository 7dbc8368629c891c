//! What came of clients' operations, and what it cost in messages: counted, kept in `sim/COUNTS.md`, and compared.
//!
//! Worlds are deterministic, so what changes here was changed in the code. Nothing that is counted is a promise: a
//! share that goes down or a message that comes on top may be right. But nobody should find out a year later.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pairdb::quorum::Consistency;

use crate::op::{Answered, Kind, Op};

/// The seeds that are counted.
pub const SEEDS: std::ops::Range<u64> = 0..100;

/// A share that differs by more, in points of a hundred, has jumped.
const POINTS_MAX: f64 = 1.5;
/// Of few operations each is worth more: so many points more for each operation of a hundred.
const POINTS_OF_FEW: f64 = 100.0;
/// A number that differs by more than this part of it has jumped.
const PART_MAX: f64 = 0.05;
/// What is below this is too little to look at.
const LITTLE: f64 = 0.05;

/// What came of operations, and how many messages there were.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    operations: BTreeMap<String, Fates>,
    messages: BTreeMap<&'static str, u64>,
}

/// What came of operations of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Fates {
    succeeded: u64,
    refused: u64,
    /// Nobody was told whether it had its effect.
    undecided: u64,
}

impl Counts {
    /// Those of one run, in which coordinators sent storage nodes these messages.
    #[must_use]
    pub fn of<'a>(
        ops: impl IntoIterator<Item = &'a Op>,
        messages: BTreeMap<&'static str, u64>,
    ) -> Self {
        let mut operations: BTreeMap<String, Fates> = BTreeMap::new();
        for op in ops {
            let fates = operations.entry(name(op)).or_default();
            let undecided = |answer: &Answered| matches!(answer, Answered::Indeterminate);
            let mut answers = op.answers.iter();
            match () {
                () if op.success().is_some() => fates.succeeded += 1,
                () if op.unknown || answers.any(|it| undecided(&it.result)) => fates.undecided += 1,
                () => fates.refused += 1,
            }
        }
        Self {
            operations,
            messages,
        }
    }

    /// Those of another run, too.
    pub fn add(&mut self, others: &Self) {
        for (name, more) in &others.operations {
            let fates = self.operations.entry(name.clone()).or_default();
            fates.succeeded += more.succeeded;
            fates.refused += more.refused;
            fates.undecided += more.undecided;
        }
        for (name, more) in &others.messages {
            *self.messages.entry(name).or_default() += more;
        }
    }

    /// The page that is kept.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = format!("{HEAD}\n{OPERATIONS}");
        for (name, fates) in &self.operations {
            let all = fates.all();
            let share = |of: u64| 100.0 * of as f64 / all.max(1) as f64;
            let (succeeded, refused) = (share(fates.succeeded), share(fates.refused));
            let undecided = share(fates.undecided);
            let _ = writeln!(
                page,
                "| {name} | {all} | {succeeded:.1} % | {refused:.1} % | {undecided:.1} % |"
            );
        }
        let all: u64 = self.operations.values().map(Fates::all).sum();
        let _ = write!(page, "\n{MESSAGES}");
        for (name, messages) in &self.messages {
            let each = *messages as f64 / all.max(1) as f64;
            let _ = writeln!(page, "| {name} | {messages} | {each:.2} |");
        }
        page
    }

    /// What has jumped since that page was written.
    #[must_use]
    pub fn jumps_since(&self, page: &str) -> Vec<String> {
        let (now, before) = (self.page(), rows(page));
        let now = rows(&now);
        let names = now
            .keys()
            .chain(before.keys().filter(|it| !now.contains_key(*it)));
        let none = Vec::new();
        let jumps = names.filter_map(|name| {
            let before = before.get(name).unwrap_or(&none);
            let now = now.get(name).unwrap_or(&none);
            jumped(before, now)
                .then(|| format!("{name}: {} before, {} now", told(before), told(now)))
        });
        jumps.collect()
    }
}

impl Fates {
    const fn all(&self) -> u64 {
        self.succeeded + self.refused + self.undecided
    }
}

/// What an operation is called.
fn name(op: &Op) -> String {
    let kind = match op.kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Delete => "delete",
    };
    let consistency = match op.consistency {
        Consistency::One => "ONE",
        Consistency::Quorum => "QUORUM",
        Consistency::All => "ALL",
    };
    format!("{kind} at {consistency}")
}

/// A number of a page, and whether it is a share.
type Cell = (f64, bool);

/// The rows of a page's tables, by their first cell.
fn rows(page: &str) -> BTreeMap<&str, Vec<Cell>> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = lines.map(|line| {
        let mut cells = line.trim_end_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap_or_default();
        let number = |cell: &str| {
            let share = cell.strip_suffix(" %");
            Some((share.unwrap_or(cell).parse().ok()?, share.is_some()))
        };
        (name, cells.filter_map(number).collect::<Vec<Cell>>())
    });
    rows.filter(|(_, cells)| !cells.is_empty()).collect()
}

/// Whether some number of a row is another one. How many there are comes first.
fn jumped(before: &[Cell], now: &[Cell]) -> bool {
    let few = before.first().map_or(1.0, |(all, _)| all.max(1.0));
    let differs = |((before, is_share), (now, _)): (&Cell, &Cell)| match is_share {
        true => (before - now).abs() > POINTS_MAX + POINTS_OF_FEW / few,
        false => (before - now).abs() > LITTLE + PART_MAX * before,
    };
    before.len() != now.len() || before.iter().zip(now).any(differs)
}

fn told(row: &[Cell]) -> String {
    let cells = row.iter().map(|(number, is_share)| match is_share {
        true => format!("{number} %"),
        false => number.to_string(),
    });
    match cells.collect::<Vec<_>>() {
        cells if cells.is_empty() => "nothing".to_owned(),
        cells => cells.join(", "),
    }
}

const HEAD: &str = "\
# What came of operations

Made by `cargo sim counts --write sim/COUNTS.md`; don't edit. Counted are the worlds of the seeds 0 to 99. A test fails
when a number has jumped: if that is as it should be, make this page anew, and say in the commit why.
";

const OPERATIONS: &str = "\
Undecided is what failed and may have had its effect.

| operation | made | succeeded | refused | undecided |
|---|---|---|---|---|
";

const MESSAGES: &str = "\
What coordinators sent storage nodes, maintenance included.

| message | sent | for each operation |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(succeeded: u64, refused: u64, reads: u64) -> Counts {
        let fates = Fates {
            succeeded,
            refused,
            undecided: 0,
        };
        Counts {
            operations: BTreeMap::from([("read at ONE".to_owned(), fates)]),
            messages: BTreeMap::from([("read", reads)]),
        }
    }

    #[test]
    fn what_is_much_the_same_has_not_jumped() {
        let page = counts(900, 100, 2_000).page();
        assert!(page.contains("| read at ONE | 1000 | 90.0 % | 10.0 % | 0.0 % |\n"));
        assert!(page.contains("| read | 2000 | 2.00 |\n"));
        assert_eq!(counts(905, 100, 2_040).jumps_since(&page), [""; 0]);
    }

    #[test]
    fn a_jump_is_told() {
        let page = counts(900, 100, 2_000).page();
        let what = "read at ONE: 1000, 90 %, 10 %, 0 % before, 1000, 87 %, 13 %, 0 % now";
        assert_eq!(counts(870, 130, 2_000).jumps_since(&page), [what]);
        let what = "read: 2000, 2 before, 2200, 2.2 now";
        assert_eq!(counts(900, 100, 2_200).jumps_since(&page), [what]);
        let what = "read: nothing before, 2000, 2 now";
        let page = page.replace("| read | 2000 | 2.00 |\n", "");
        assert_eq!(counts(900, 100, 2_000).jumps_since(&page), [what]);
    }
}
