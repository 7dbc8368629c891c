//! The woven copy of the repository: made, woven, and built twice, for unit tests and for worlds.
//!
//! A mutant that the compiler refuses is left out, and the copy is built again, until both builds are through.
//!
//! Invariant: nothing outside of the target directory is written. The copy's packages have a version of their own, so
//! that no build of the repository takes what was built of the copy for its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mutant::{Mutant, Name, Position};
use crate::places::Places;
use crate::weave::Woven;

/// The switch that is woven into both builds.
const SWITCH: &str = include_str!("switch.rs");

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The repository.
    pub repository: PathBuf,
    /// Where cargo builds.
    target: PathBuf,
    /// What is kept from one command to the next.
    pub kept: PathBuf,
    /// The woven copy.
    pub copy: PathBuf,
}

/// A mutant in the copy. Its number is its place in the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// What it is called.
    pub name: Name,
    /// Where it is.
    pub at: Position,
    /// Why it has no switch, if it has none.
    pub left_out: Option<String>,
}

impl Tree {
    /// The tree of the repository that this was started in.
    ///
    /// # Errors
    /// Says that it was started in none.
    pub fn here() -> Result<Self, String> {
        let top = printed_by(Command::new("git").args(["rev-parse", "--show-toplevel"]))?;
        let repository = PathBuf::from(top.trim_end());
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let target = repository.join(target);
        let kept = target.join("woven");
        Ok(Self {
            copy: kept.join("tree"),
            repository,
            target,
            kept,
        })
    }

    /// Makes the copy, weaves all mutants into it that `cargo mutants` lists, and builds it.
    ///
    /// # Errors
    /// Says what can't be built, and why.
    pub fn build(&self) -> Result<Vec<Listed>, String> {
        self.make_copy()?;
        let mut weaving = Weaving::of(&self.repository, self.mutants()?)?;
        loop {
            weaving.write(&self.copy)?;
            let tests = ["test", "--lib", "--package", "pairdb", "--no-run"];
            let worlds = [
                "build",
                "--package",
                "pairdb-sim",
                "--bin",
                "pairdb-sim",
                "--profile",
                "sim",
            ];
            let is_through = self.compile(&tests, "tests", &mut weaving)?
                && self.compile(&worlds, "worlds", &mut weaving)?;
            if is_through {
                return Ok(weaving.listed());
            }
        }
    }

    /// A program of the copy: `tests` or `worlds`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.kept.join(name)
    }

    fn mutants(&self) -> Result<Vec<Mutant>, String> {
        let printed = printed_by(
            cargo()
                .args(["mutants", "--list", "--json", "--package", "pairdb"])
                .current_dir(&self.repository),
        )?;
        serde_json::from_str(&printed).map_err(|error| error.to_string())
    }

    fn make_copy(&self) -> Result<(), String> {
        let listed = printed_by(
            Command::new("git")
                .args([
                    "ls-files",
                    "-z",
                    "--cached",
                    "--others",
                    "--exclude-standard",
                ])
                .current_dir(&self.repository),
        )?;
        // The copy lies within the repository, whose .cargo/config.toml counts for it already.
        let files = listed.split_terminator('\0');
        for file in files.filter(|file| *file != ".cargo/config.toml") {
            let Ok(mut content) = fs::read(self.repository.join(file)) else {
                continue;
            };
            let more: &[u8] = match file {
                "src/lib.rs" => b"pub mod woven;\n",
                "sim/core/src/lib.rs" => b"#[path = \"../../../src/woven.rs\"]\npub mod woven;\n",
                _ => b"",
            };
            content.extend_from_slice(more);
            if file == "Cargo.toml" {
                let text = String::from_utf8_lossy(&content).replacen(
                    "\nversion = \"0.",
                    "\nversion = \"99.",
                    1,
                );
                content = text.into_bytes();
            }
            write(&self.copy.join(file), &content)?;
        }
        write(&self.copy.join("src/woven.rs"), SWITCH.as_bytes())
    }

    /// Builds one of the two, and keeps its program. Returns false if mutants had to be left out.
    fn compile(
        &self,
        arguments: &[&str],
        name: &str,
        weaving: &mut Weaving,
    ) -> Result<bool, String> {
        let output = cargo()
            .args(arguments)
            .args(["--offline", "--message-format", "json", "--target-dir"])
            .arg(&self.target)
            .current_dir(&self.copy)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let messages = || {
            let lines = printed.lines();
            lines.filter_map(|line| serde_json::from_str::<Value>(line).ok())
        };
        if output.status.success() {
            let built = messages()
                .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
                .next_back();
            let built = built.ok_or("cargo named no program")?;
            let problem = |error: std::io::Error| format!("{}: {error}", built.display());
            fs::copy(&built, self.program(name)).map_err(problem)?;
            return Ok(true);
        }
        let errors: Vec<Value> = messages()
            .map(|mut message| message["message"].take())
            .filter(|message| message["level"] == "error")
            .collect();
        let left_out: usize = errors.iter().map(|error| weaving.refuse(error)).sum();
        eprintln!(
            "{name}: {} complaints, {left_out} mutants left out",
            errors.len()
        );
        match left_out {
            0 => Err(errors
                .iter()
                .filter_map(|error| error["rendered"].as_str())
                .take(5)
                .collect()),
            _ => Ok(false),
        }
    }
}

/// All mutants, and what became of them so far.
#[derive(Debug)]
struct Weaving {
    sources: BTreeMap<String, (String, Places)>,
    mutants: Vec<Mutant>,
    left_out: BTreeMap<u32, String>,
    woven: BTreeMap<String, Woven>,
}

impl Weaving {
    fn of(repository: &Path, mutants: Vec<Mutant>) -> Result<Self, String> {
        let files: BTreeSet<&String> = mutants.iter().map(|mutant| &mutant.file).collect();
        let mut sources = BTreeMap::new();
        for file in files {
            let problem = |error| format!("{file}: {error}");
            let text = fs::read_to_string(repository.join(file))
                .map_err(|error| problem(error.to_string()))?;
            let places = Places::read(&text).map_err(problem)?;
            sources.insert(file.clone(), (text, places));
        }
        Ok(Self {
            sources,
            mutants,
            left_out: BTreeMap::new(),
            woven: BTreeMap::new(),
        })
    }

    fn write(&mut self, copy: &Path) -> Result<(), String> {
        for (file, (text, places)) in &self.sources {
            let mutants: Vec<(u32, &Mutant)> = (0..)
                .zip(&self.mutants)
                .filter(|(number, mutant)| {
                    mutant.file == *file && !self.left_out.contains_key(number)
                })
                .collect();
            let mut left_out = Vec::new();
            let woven = Woven::new(text, places, &mutants, &mut left_out);
            write(&copy.join(file), woven.text.as_bytes())?;
            self.left_out.extend(left_out);
            self.woven.insert(file.clone(), woven);
        }
        Ok(())
    }

    /// Leaves out the mutants that an error of the compiler is about. Returns how many.
    fn refuse(&mut self, error: &Value) -> usize {
        let before = self.left_out.len();
        let message = error["message"].as_str().unwrap_or_default();
        if message.starts_with("cannot call non-const") && !message.contains("woven::on") {
            self.refuse_constant(message);
        } else {
            let reason = format!("doesn't compile: {message}");
            for number in self.accused(error) {
                self.left_out.insert(number, reason.clone());
            }
        }
        self.left_out.len() - before
    }

    /// The mutants behind the first of an error's spans that has some behind it, those that matter most first.
    fn accused(&self, error: &Value) -> Vec<u32> {
        let mut spans: Vec<&Value> = error["spans"].as_array().into_iter().flatten().collect();
        spans.sort_by_key(|span| span["is_primary"] != true);
        spans
            .into_iter()
            .find_map(|span| {
                let path = span["file_name"].as_str()?;
                let woven = self.woven.get(&path[path.rfind("src/")?..])?;
                let byte = |key: &str| Some(span[key].as_u64()? as usize);
                let behind = woven.behind(&(byte("byte_start")?..byte("byte_end")?));
                (!behind.is_empty()).then(|| behind.to_vec())
            })
            .unwrap_or_default()
    }

    /// Leaves out all mutants of the `const fn` that a message says is needed where a constant is made.
    fn refuse_constant(&mut self, message: &str) {
        let path = message.split('`').nth(1).unwrap_or_default();
        let name = path.rsplit("::").find(|part| !part.ends_with('>'));
        for (number, mutant) in (0..).zip(&self.mutants) {
            let Some((text, places)) = self.sources.get(&mutant.file) else {
                continue;
            };
            let offset = mutant.offset(text).unwrap_or_default();
            let function = places.function_of(offset);
            if function.is_some_and(|f| f.constant.is_some() && Some(f.name.as_str()) == name) {
                self.left_out.insert(
                    number,
                    "its `const fn` makes a constant somewhere".to_owned(),
                );
            }
        }
    }

    fn listed(&self) -> Vec<Listed> {
        (0..)
            .zip(&self.mutants)
            .map(|(number, mutant)| Listed {
                name: mutant.called(&self.sources[&mutant.file].0),
                at: mutant.at(),
                left_out: self.left_out.get(&number).cloned(),
            })
            .collect()
    }
}

/// The cargo that this was started by.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn printed_by(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", output.status)),
    }
}

/// Writes a file, unless it says that already: what is older than its build is not built again.
fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let problem = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(problem)?;
    }
    fs::write(path, content).map_err(problem)
}
