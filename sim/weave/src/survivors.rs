//! The list of mutants that nobody finds and that may live, each with the reason: `sim/SURVIVORS.md`.
//!
//! People write it; this reads its tables, whose rows are `| file | change | code | why |`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::mutant::Name;

/// Those that may live, and why.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Survivors(BTreeMap<Name, String>);

impl Survivors {
    /// Reads the list; a file that is not there is an empty one.
    ///
    /// # Errors
    /// Says why it can't be read.
    pub fn read(path: &Path) -> Result<Self, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(row).collect())
    }

    /// Why this one may live, if somebody said so.
    #[must_use]
    pub fn why(&self, name: &Name) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Those of the list.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }
}

/// A row of the list, with its reason still to be written.
#[must_use]
pub fn row_of(name: &Name) -> String {
    let cell = |text: &str| match text.is_empty() {
        true => String::new(),
        false => format!("`{}`", text.replace('|', "\\|")),
    };
    let Name { file, change, code } = name;
    format!("| {} | {} | {} |  |", cell(file), cell(change), cell(code))
}

fn row(line: &str) -> Option<(Name, String)> {
    // A bar within a cell is written with a backslash before it.
    let line = line.replace("\\|", "\0");
    let cells: Vec<String> = line
        .strip_prefix('|')?
        .split('|')
        .map(|cell| cell.trim().replace('\0', "|"))
        .collect();
    let [file, change, code, why, _] = <[String; 5]>::try_from(cells).ok()?;
    let plain = |cell: &str| {
        let inner = cell
            .strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'));
        inner.map(str::to_owned)
    };
    let name = Name {
        file: plain(&file)?,
        change: plain(&change)?,
        code: plain(&code).unwrap_or_default(),
    };
    Some((name, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::Places;

    /// The function that a mutant is in: `replace F -> T with V`, or `CHANGE in F`.
    fn function_of(change: &str) -> &str {
        let whole = change
            .strip_prefix("replace ")
            .and_then(|rest| rest.split(" with ").next());
        let whole = whole.and_then(|rest| rest.split(" -> ").next());
        let function = change.rsplit_once(" in ").map(|(_, function)| function);
        let path = function.or(whole).unwrap_or(change);
        path.rsplit("::").next().unwrap_or(path)
    }

    /// Whether a function of that name has such a line.
    fn is_there(name: &Name, source: &str) -> bool {
        let places = Places::read(source).expect("the core is Rust");
        let mut begins = 0;
        source.split_inclusive('\n').any(|line| {
            let offset = begins + line.len() - line.trim_start().len();
            begins += line.len();
            let function = places.function_of(offset);
            let is_here = function.is_some_and(|it| it.name == function_of(&name.change));
            is_here && (name.code.is_empty() || line.trim() == name.code)
        })
    }

    #[test]
    fn every_row_is_about_code_that_is_there() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let survivors = Survivors::read(&root.join("sim/SURVIVORS.md")).expect("it is there");
        assert!(survivors.names().count() > 0);
        let is_gone = |name: &&Name| {
            let source = std::fs::read_to_string(root.join(&name.file));
            !source.is_ok_and(|source| is_there(name, &source))
        };
        let gone = survivors.names().filter(is_gone);
        let gone: Vec<String> = gone.map(ToString::to_string).collect();
        assert!(
            gone.is_empty(),
            "sim/SURVIVORS.md tells of what is not there:\n{}",
            gone.join("\n")
        );
    }

    fn name(code: &str) -> Name {
        Name {
            file: "src/a.rs".to_owned(),
            change: "replace || with && in f".to_owned(),
            code: code.to_owned(),
        }
    }

    #[test]
    fn a_row_is_read_as_it_is_written() {
        for name in [name("if a || b {"), name("")] {
            let row = row_of(&name);
            let row = row.strip_suffix("  |").expect("a reason is to be written");
            let written = format!("{row} it is the same |");
            let list = format!(
                "# Survivors\n\n| file | change | code | why |\n|---|---|---|---|\n{written}\n"
            );
            let survivors = Survivors::parse(&list);
            assert_eq!(survivors.why(&name), Some("it is the same"));
            assert_eq!(survivors.names().count(), 1);
        }
    }
}
