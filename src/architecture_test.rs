//! The house rules, as a test: which folder may import which, and what the core may not name.
//!
//! Imports run one way: pure values <- ports <- coordinator, replica <- adapters <- api <- config, cli. The core (all
//! up to coordinator and replica) runs unchanged in simulation, so it names no runtime, no clock, no thread, no
//! randomness and no map whose order changes from run to run. Test code may do as it likes.
//!
//! Within a crate arrows lead one way, too: the simulation has floors, and no modules name each other in a circle,
//! neither files nor folders.
//!
//! `clippy.toml` says much the same of calls; this test says it of names, and says it of imports between folders.

#[path = "architecture_test/floors.rs"]
mod floors;
#[path = "architecture_test/modules.rs"]
mod modules;
#[path = "architecture_test/rules.rs"]
mod rules;
#[path = "architecture_test/source.rs"]
mod source;
#[path = "architecture_test/tasks.rs"]
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use modules::{Arrow, Modules, circles_of_files, circles_of_neighbours};
use rules::{Rules, headless};
use source::Source;

/// The files below `directory` with their text, and whether each is test code.
fn files(package: &Path, directory: &str) -> Vec<(String, String, bool)> {
    let mut texts = BTreeMap::new();
    collect(&package.join(directory), &mut texts);
    let mut tests = BTreeSet::new();
    for (path, text) in &texts {
        let source = Source::read(text);
        let children =
            if path.ends_with("mod.rs") || path.ends_with("lib.rs") || path.ends_with("main.rs") {
                path.parent().map(Path::to_owned).unwrap_or_default()
            } else {
                path.with_extension("")
            };
        tests.extend(
            source
                .module
                .test_modules
                .iter()
                .map(|module| children.join(module)),
        );
        if source.is_test {
            tests.insert(path.with_extension(""));
        }
    }
    let relative = |path: &Path| {
        path.strip_prefix(package)
            .unwrap_or(path)
            .to_string_lossy()
            .replace('\\', "/")
    };
    texts
        .into_iter()
        .map(|(path, text)| {
            let name = relative(&path);
            let is_test = name.ends_with("_test.rs")
                || name.ends_with("_bench.rs")
                || name.contains("_test/")
                || path
                    .ancestors()
                    .any(|part| tests.contains(&part.with_extension("")));
            (name, text, is_test)
        })
        .collect()
}

fn collect(directory: &Path, texts: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("a directory's entry").path();
        if path.is_dir() {
            collect(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            texts.insert(path, text);
        }
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The crates that `Cargo.toml` lets production code use, as code spells them.
fn dependencies() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(package().join("Cargo.toml")).expect("Cargo.toml");
    let section = manifest
        .split("\n[dependencies]\n")
        .nth(1)
        .expect("[dependencies]");
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

fn assert_none(breaches: &[String]) {
    assert!(
        breaches.is_empty(),
        "{} breaches of the house rules:\n{}",
        breaches.len(),
        breaches.join("\n")
    );
}

#[test]
fn every_file_keeps_the_house_rules() {
    let rules = Rules {
        dependencies: dependencies(),
    };
    let files = files(package(), "src");
    assert!(files.len() > 30, "the sources were not found");
    let product = files.iter().filter(|(_, _, is_test)| !is_test);
    let breaches: Vec<String> = product
        .flat_map(|(path, text, _)| rules.breaches(path, text))
        .collect();
    assert_none(&breaches);
}

#[test]
fn everything_that_runs_beside_requests_is_known() {
    let files = files(package(), "src");
    let product = files.iter().filter(|(_, _, is_test)| !is_test);
    let product = product.map(|(path, text, _)| (path.as_str(), text.as_str()));
    assert_none(&tasks::breaches(product));
}

#[test]
fn every_file_has_a_header() {
    let files = [files(package(), "src"), files(package(), "sim/src")].concat();
    let breaches: Vec<String> = files
        .iter()
        .filter_map(|(path, text, _)| headless(path, text))
        .collect();
    assert_none(&breaches);
}

#[test]
fn production_does_not_depend_on_the_simulator() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--edges",
            "normal,build",
            "--package",
            "pairdb",
            "--prefix",
            "none",
            "--locked",
        ])
        .current_dir(package())
        .output()
        .expect("cargo tree");
    let crates = String::from_utf8_lossy(&tree.stdout);
    assert!(
        tree.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&tree.stderr)
    );
    assert!(
        crates.lines().any(|line| line.starts_with("tokio v")),
        "cargo tree shows no dependencies:\n{crates}"
    );
    let simulators: Vec<&str> = crates
        .lines()
        .filter(|line| line.contains("madsim"))
        .collect();
    assert!(
        simulators.is_empty(),
        "production depends on {simulators:?}"
    );
}

/// The arrows between the files of a crate.
fn arrows(directory: &str) -> Vec<Arrow> {
    let files = files(package(), directory);
    let texts = files.iter();
    let texts: BTreeMap<&str, &str> = texts
        .map(|(path, text, _)| (path.as_str(), text.as_str()))
        .collect();
    Modules::read(&texts, &format!("{directory}/lib.rs")).arrows()
}

#[test]
fn the_simulation_keeps_to_its_floors() {
    let arrows = arrows("sim/src");
    assert!(arrows.len() > 100, "the sources were not found");
    assert_none(&floors::breaches(&arrows));
}

#[test]
fn no_modules_name_each_other_in_a_circle() {
    let (mut of_files, mut of_neighbours) = (Vec::new(), Vec::new());
    for directory in ["src", "sim/src"] {
        let arrows = arrows(directory);
        of_files.extend(circles_of_files(&arrows));
        of_neighbours.extend(circles_of_neighbours(&arrows));
    }
    assert_none(&[floors::told(&of_files), floors::told(&of_neighbours)].concat());
}
