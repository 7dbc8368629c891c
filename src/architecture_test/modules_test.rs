//! Which arrows are seen, and which circles they make.

use super::*;

/// The arrows of a crate of these files, as `from -> to`, without `src/` and `.rs`.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let arrows = read(files);
    let ends = arrows.iter().map(|arrow| [&arrow.from, &arrow.to]);
    let mut arrows: Vec<String> = ends
        .map(|ends| ends.map(|end| short(end)).join(" -> "))
        .collect();
    arrows.sort();
    arrows
}

fn short(file: &str) -> String {
    file.replace("src/", "").replace(".rs", "")
}

fn read(files: &[(&str, &str)]) -> Vec<Arrow> {
    let files = files.iter();
    let named: Vec<(String, &str)> = files
        .map(|(name, text)| (format!("src/{name}"), *text))
        .collect();
    let named = named.iter().map(|(name, text)| (name.as_str(), *text));
    Modules::read(&named.collect(), "src/lib.rs").arrows()
}

#[test]
fn an_arrow_leads_to_the_file_that_defines_what_is_named() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c { pub mod d; }"),
        ("a.rs", "use crate::b::{One, Two as Both}; fn f(x: Both) {}"),
        (
            "b/mod.rs",
            "mod one; mod two; pub use one::One; pub use self::two::*;",
        ),
        ("b/one.rs", "pub struct One;"),
        ("b/two.rs", "use super::One; pub enum Two { X }"),
        (
            "c/d.rs",
            "pub fn g() { super::super::a::f(); let one = 1; println!(\"{}\", crate::b::One); }",
        ),
    ];
    let seen = arrows(&files);
    let expected = [
        "a -> b/one",
        "a -> b/two",
        "b/two -> b/one",
        "c/d -> a",
        "c/d -> b/one",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn what_only_tests_see_and_what_is_others_is_no_arrow() {
    let files = [
        ("lib.rs", "mod a; mod bytes;"),
        (
            "a.rs",
            "use serde::Serialize; #[cfg(test)] mod tests { use crate::bytes::B; }",
        ),
        (
            "bytes.rs",
            "pub struct B; macro_rules! m { () => { super::a::A } }",
        ),
    ];
    assert_eq!(arrows(&files), [""; 0]);
    let variable = [
        ("lib.rs", "mod run; fn f(run: u8) -> u8 { run + 1 }"),
        ("run.rs", ""),
    ];
    assert_eq!(arrows(&variable), [""; 0], "a variable is no module");
}

#[test]
fn circles_of_files_and_of_neighbours_are_found() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a/mod.rs", "mod x; mod y;"),
        ("a/x.rs", "use crate::b::B; pub struct X;"),
        ("a/y.rs", "pub struct Y;"),
        ("b.rs", "use crate::a::y::Y; pub struct B;"),
        ("c.rs", "use crate::b::B;"),
    ];
    let members = |circles: Vec<Circle>| -> Vec<Vec<String>> {
        let members = circles.into_iter().map(|circle| circle.members);
        members
            .map(|members| members.iter().map(|member| short(member)).collect())
            .collect()
    };
    assert!(members(circles_of_files(&read(&files))).is_empty());
    assert_eq!(members(circles_of_neighbours(&read(&files))), [["a", "b"]]);
    let mut closed = files;
    closed[3] = ("a/y.rs", "use super::x::X; pub struct Y;");
    let circle = [["a/x", "a/y", "b"]];
    assert_eq!(members(circles_of_files(&read(&closed))), circle);
}
