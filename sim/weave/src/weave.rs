//! Weaves mutants into a source file, each behind a switch: mutant schemata (Untch, Offutt and Harrold, 1993).
//!
//! ```text
//! a < b    becomes    (if crate::woven::on(7) { (a) == (b) } else if crate::woven::on(8) { (a) > (b) } else { a < b })
//! ```
//!
//! In the last branch stands the text as it was, with other mutants woven into it; in the others, the text as it was
//! and one mistake. A function that returns at once does so in its first statement, a missing arm of a `match` gets a
//! condition, and `const fn` loses its `const`, because no switch can be read where a constant is made.
//!
//! Invariant: with no switch on, the woven file does what the file does.

use std::ops::Range;

use crate::mutant::{Genre, Mutant};
use crate::places::{Bytes, Place, Places};

/// A file with mutants in it.
#[derive(Debug)]
pub struct Woven {
    /// Its text.
    pub text: String,
    /// Which mutants are behind which part of the text, so that a compiler's complaint leads to them.
    parts: Vec<(Bytes, Vec<u32>)>,
}

/// A change to a file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Edit {
    range: Bytes,
    change: Change,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    /// Text that is put in before the range, which is empty.
    Insert { mutant: u32, text: String },
    /// What stands in the range is left out.
    Remove,
    /// What stands in the range, or instead of it one of these texts.
    Choose(Vec<(u32, String)>),
}

impl Woven {
    /// Weaves these into `source`, each with its number. Those whose place is not found, or has no switch, are put into
    /// `left_out`, with the reason.
    #[must_use]
    pub fn new(
        source: &str,
        places: &Places,
        mutants: &[(u32, &Mutant)],
        left_out: &mut Vec<(u32, String)>,
    ) -> Self {
        let mut edits: Vec<Edit> = Vec::new();
        for (number, mutant) in mutants {
            match edits_of(source, places, *number, mutant) {
                Ok(more) => more.into_iter().for_each(|edit| add(&mut edits, edit)),
                Err(reason) => left_out.push((*number, reason)),
            }
        }
        // The outer before the inner, and what is put in before a range before the range.
        edits.sort_by_key(|edit| {
            let is_range = !edit.range.is_empty();
            (
                edit.range.start,
                is_range,
                std::cmp::Reverse(edit.range.end),
            )
        });
        let mut woven = Self {
            text: String::with_capacity(source.len() * 4),
            parts: Vec::new(),
        };
        woven.write(source, 0..source.len(), &edits);
        woven
    }

    /// The mutants behind the smallest part that has all of `range` in it.
    #[must_use]
    pub fn behind(&self, range: &Bytes) -> &[u32] {
        self.parts
            .iter()
            .filter(|(part, _)| part.start <= range.start && range.end <= part.end)
            .min_by_key(|(part, _)| part.len())
            .map_or(&[], |(_, mutants)| mutants)
    }

    fn write(&mut self, source: &str, range: Bytes, edits: &[Edit]) {
        let mut done = range.start;
        let mut rest = edits;
        while let Some((edit, after)) = rest.split_first() {
            self.text.push_str(&source[done..edit.range.start]);
            done = edit.range.end;
            rest = after;
            match &edit.change {
                Change::Remove => {}
                Change::Insert { mutant, text } => self.part(vec![*mutant], text),
                Change::Choose(choices) => {
                    let inner = after.partition_point(|inner| inner.range.start < edit.range.end);
                    let (inner, after) = after.split_at(inner);
                    self.choice(source, edit.range.clone(), choices, inner);
                    rest = after;
                }
            }
        }
        self.text.push_str(&source[done..range.end]);
    }

    fn choice(&mut self, source: &str, range: Bytes, choices: &[(u32, String)], inner: &[Edit]) {
        let start = self.text.len();
        self.text.push('(');
        for (mutant, text) in choices {
            self.text
                .push_str(&format!("if crate::woven::on({mutant}) {{ "));
            self.part(vec![*mutant], text);
            self.text.push_str(" } else ");
        }
        self.text.push_str("{ ");
        self.write(source, range, inner);
        self.text.push_str(" })");
        let all = choices.iter().map(|(mutant, _)| *mutant).collect();
        self.parts.push((start..self.text.len(), all));
    }

    fn part(&mut self, mutants: Vec<u32>, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.parts.push((start..self.text.len(), mutants));
    }
}

/// Adds an edit; choices for one range become one.
fn add(edits: &mut Vec<Edit>, edit: Edit) {
    for there in edits.iter_mut().filter(|there| there.range == edit.range) {
        match (&mut there.change, &edit.change) {
            (Change::Choose(choices), Change::Choose(more)) => {
                choices.extend(more.iter().cloned());
                return;
            }
            (Change::Remove, Change::Remove) => return,
            _ => {}
        }
    }
    edits.push(edit);
}

/// What one mutant changes.
fn edits_of(
    source: &str,
    places: &Places,
    number: u32,
    mutant: &Mutant,
) -> Result<Vec<Edit>, String> {
    let offset = mutant
        .offset(source)
        .ok_or("the file has no such position")?;
    let place = places
        .at(offset)
        .find(|place| is_of(place, mutant.genre))
        .ok_or("nothing like that begins there")?;
    if places.is_planted(offset) {
        return Err("it is in a planted bug".to_owned());
    }
    let text = |range: &Range<usize>| &source[range.clone()];
    let choose = |whole: &Range<usize>, text: String| Edit {
        range: whole.clone(),
        change: Change::Choose(vec![(number, text)]),
    };
    let insert = |at: usize, text: String| Edit {
        range: at..at,
        change: Change::Insert {
            mutant: number,
            text,
        },
    };
    let replacement = &mutant.replacement;
    let edit = match place {
        Place::Binary {
            joins_lets: true, ..
        } => return Err("it joins conditions of which one is a `let`".to_owned()),
        Place::Binary {
            whole, left, right, ..
        } => {
            // What is assigned to stands in no parentheses, so that it stays a place.
            let left = match replacement.ends_with('=') && !is_comparison(replacement) {
                true => text(left).to_owned(),
                false => format!("({})", text(left)),
            };
            choose(whole, format!("{left} {replacement} ({})", text(right)))
        }
        Place::Unary { whole, operand } => choose(whole, text(operand).to_owned()),
        Place::Guard(guard) => choose(guard, replacement.clone()),
        Place::Field { whole, without } => choose(whole, without.iter().map(text).collect()),
        Place::Arm {
            is_needed: true, ..
        } => return Err("no other arm takes what it leaves".to_owned()),
        Place::Arm { pattern_end, .. } => {
            insert(*pattern_end, format!(" if !crate::woven::on({number})"))
        }
        Place::Body(function) if function.is_opaque => {
            return Err("its function returns `impl Trait`, which is one type".to_owned());
        }
        Place::Body(function) => insert(
            function.body.start,
            format!("if crate::woven::on({number}) {{ return {replacement}; }} "),
        ),
    };
    let function = places.function_of(offset);
    let function = function.ok_or("it is in no function, but in a constant")?;
    let constant = function.constant.clone().map(|range| Edit {
        range,
        change: Change::Remove,
    });
    Ok(constant.into_iter().chain([edit]).collect())
}

fn is_comparison(operator: &str) -> bool {
    matches!(operator, "==" | "!=" | "<=" | ">=")
}

fn is_of(place: &Place, genre: Genre) -> bool {
    match place {
        Place::Binary { .. } => genre == Genre::BinaryOperator,
        Place::Unary { .. } => genre == Genre::UnaryOperator,
        Place::Arm { .. } => genre == Genre::MatchArm,
        Place::Guard(_) => genre == Genre::MatchArmGuard,
        Place::Field { .. } => genre == Genre::StructField,
        Place::Body(_) => genre == Genre::FnValue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woven(source: &str, mutants: &[Mutant]) -> (Woven, Vec<(u32, String)>) {
        let places = Places::read(source).expect("Rust");
        let numbered: Vec<(u32, &Mutant)> = (0..).zip(mutants).collect();
        let mut left_out = Vec::new();
        let woven = Woven::new(source, &places, &numbered, &mut left_out);
        assert!(
            syn::parse_file(&woven.text).is_ok(),
            "no Rust: {}",
            woven.text
        );
        (woven, left_out)
    }

    fn text(source: &str, mutants: &[Mutant]) -> String {
        let (woven, left_out) = woven(source, mutants);
        assert!(left_out.is_empty(), "{left_out:?}");
        woven.text
    }

    #[test]
    fn operators_are_behind_switches_and_inner_ones_within_outer_ones() {
        let source = "fn f() -> bool { a < b && !c }";
        let mutants = [
            Mutant::made(1, 20, Genre::BinaryOperator, "=="),
            Mutant::made(1, 20, Genre::BinaryOperator, "<="),
            Mutant::made(1, 24, Genre::BinaryOperator, "||"),
            Mutant::made(1, 27, Genre::UnaryOperator, ""),
        ];
        assert_eq!(
            text(source, &mutants),
            "fn f() -> bool { (if crate::woven::on(2) { (a < b) || (!c) } else { \
             (if crate::woven::on(0) { (a) == (b) } else if crate::woven::on(1) { (a) <= (b) } else { a < b }) && \
             (if crate::woven::on(3) { c } else { !c }) }) }"
        );
    }

    #[test]
    fn what_is_assigned_to_stays_a_place() {
        let mutants = [Mutant::made(1, 12, Genre::BinaryOperator, "-=")];
        assert_eq!(
            text("fn f() { n += 1; }", &mutants),
            "fn f() { (if crate::woven::on(0) { n -= (1) } else { n += 1 }); }"
        );
    }

    #[test]
    fn a_function_returns_at_once_and_is_constant_no_more() {
        let source = "const fn f() -> bool { a == b }";
        let mutants = [
            Mutant::made(1, 24, Genre::FnValue, "true"),
            Mutant::made(1, 26, Genre::BinaryOperator, "!="),
        ];
        assert_eq!(
            text(source, &mutants),
            " fn f() -> bool { if crate::woven::on(0) { return true; } \
             (if crate::woven::on(1) { (a) != (b) } else { a == b }) }"
        );
    }

    #[test]
    fn arms_go_by_a_condition_and_conditions_by_a_choice() {
        let source = "fn f() { match n { 0 => a, m if m > 1 => b, _ => c } }";
        let mutants = [
            Mutant::made(1, 20, Genre::MatchArm, ""),
            Mutant::made(1, 33, Genre::MatchArmGuard, "true"),
            Mutant::made(1, 35, Genre::BinaryOperator, "<"),
        ];
        assert_eq!(
            text(source, &mutants),
            "fn f() { match n { 0 if !crate::woven::on(0) => a, \
             m if (if crate::woven::on(1) { true } else if crate::woven::on(2) { (m) < (1) } else { m > 1 }) => b, \
             _ => c } }"
        );
    }

    #[test]
    fn a_field_is_left_to_its_default() {
        let mutants = [Mutant::made(1, 19, Genre::StructField, "")];
        assert_eq!(
            text("fn f() -> S { S { a: 1, ..d() } }", &mutants),
            "fn f() -> S { (if crate::woven::on(0) { S {  ..d() } } else { S { a: 1, ..d() } }) }"
        );
    }

    #[test]
    fn what_has_no_switch_is_left_out_and_says_why() {
        let source = "fn f() -> impl Iterator<Item = u8> { g() }\nfn h() { if let Some(a) = b && a {} }\nconst A: u8 = 1 + 1;";
        let mutants = [
            Mutant::made(1, 38, Genre::FnValue, "::std::iter::empty()"),
            Mutant::made(2, 29, Genre::BinaryOperator, "||"),
            Mutant::made(2, 1, Genre::BinaryOperator, "||"),
            Mutant::made(9, 1, Genre::BinaryOperator, "||"),
            Mutant::made(3, 17, Genre::BinaryOperator, "-"),
        ];
        let (woven, left_out) = woven(source, &mutants);
        assert_eq!(woven.text, source);
        assert_eq!(left_out.len(), 5);
    }

    #[test]
    fn a_complaint_leads_to_the_mutant_that_it_is_about() {
        let source = "fn f() { a < b; }";
        let mutants = [
            Mutant::made(1, 12, Genre::BinaryOperator, "=="),
            Mutant::made(1, 12, Genre::BinaryOperator, ">"),
        ];
        let (woven, _) = woven(source, &mutants);
        let at = |text: &str| {
            let start = woven.text.find(text).expect("it is there");
            woven.behind(&(start..start + text.len())).to_vec()
        };
        assert_eq!(at("(a) == (b)"), [0]);
        assert_eq!(at("(a) > (b)"), [1]);
        assert_eq!(at("a < b"), [0, 1]);
        assert!(at("fn f").is_empty());
    }
}
