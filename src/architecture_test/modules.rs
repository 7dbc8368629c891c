//! Who names whom: the modules of a crate, the arrows between them, and the circles that the arrows make.
//!
//! An arrow goes from a file that names something to the file that defines it, however many re-exports lie between: a
//! `mod.rs` that only hands on what its children define stands in nobody's way, and `pub use` is no arrow. Code of
//! tests has no arrows. What can't be seen: a method of another file that is called without its type being named, and
//! what a macro makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::source::{As, Child, Module, Source};

/// How many re-exports a name may pass through.
const HOPS_MAX: u8 = 16;

/// The modules of a crate; the first is its root.
pub struct Modules {
    nodes: Vec<Node>,
}

struct Node {
    /// Its path in the crate, without `crate`.
    name: Vec<String>,
    /// The file that it is in.
    file: String,
    parent: usize,
    children: BTreeMap<String, usize>,
    /// Its own; the children are in `children`.
    module: Module,
}

/// What a name stands for: a module, or something that this module defines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Module(usize),
    ItemOf(usize),
}

/// A file names what another one defines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Arrow {
    pub from: String,
    pub to: String,
    pub line: usize,
    pub written: String,
    /// The modules at both ends, by their paths in the crate.
    pub ends: (Vec<String>, Vec<String>),
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            line,
            written,
            ..
        } = self;
        write!(f, "{from}:{line} names {to}: `{written}`")
    }
}

impl Modules {
    /// The crate whose root is the file `root`, out of these files and their texts.
    pub fn read(files: &BTreeMap<&str, &str>, root: &str) -> Self {
        let mut modules = Self { nodes: Vec::new() };
        let directory = root.rsplit_once('/').map_or("", |(directory, _)| directory);
        let module = Source::read(files[root]).module;
        modules.add(files, (root, directory), Vec::new(), 0, module);
        modules
    }

    /// Adds a module and those in it; `directory` is where the files of its children are.
    fn add(
        &mut self,
        files: &BTreeMap<&str, &str>,
        (file, directory): (&str, &str),
        name: Vec<String>,
        parent: usize,
        mut module: Module,
    ) -> usize {
        let own = self.nodes.len();
        let children = std::mem::take(&mut module.children);
        self.nodes.push(Node {
            name: name.clone(),
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            module,
        });
        for (child, content) in children {
            let name = [&name[..], std::slice::from_ref(&child)].concat();
            let below = format!("{directory}/{child}");
            let index = match content {
                Child::Here(module) => self.add(files, (file, &below), name, own, module),
                Child::InFile => {
                    let places = [format!("{below}.rs"), format!("{below}/mod.rs")];
                    let Some(place) = places.iter().find(|place| files.contains_key(&***place))
                    else {
                        continue; // made by the build
                    };
                    let module = Source::read(files[place.as_str()]).module;
                    self.add(files, (place, &below), name, own, module)
                }
            };
            self.nodes[own].children.insert(child, index);
        }
        own
    }

    /// All arrows between different files: for each pair of them the first.
    pub fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let paths = node.module.paths.iter();
            for path in paths.filter(|path| matches!(path.named, As::Used | As::Imported)) {
                let alone = path.named == As::Used && path.segments.len() == 1;
                let to = match self.resolve(index, &path.segments, HOPS_MAX) {
                    Some(Named::ItemOf(to)) => to,
                    Some(Named::Module(to)) if !alone => to,
                    _ => continue,
                };
                let to = &self.nodes[to];
                if to.file != node.file {
                    let ends = (node.file.clone(), to.file.clone());
                    arrows.entry(ends).or_insert_with(|| Arrow {
                        from: node.file.clone(),
                        to: to.file.clone(),
                        line: path.line,
                        written: path.segments.join("::"),
                        ends: (node.name.clone(), to.name.clone()),
                    });
                }
            }
        }
        arrows.into_values().collect()
    }

    /// What a path in a module stands for; `None` if it is no name of this crate.
    fn resolve(&self, at: usize, segments: &[String], hops: u8) -> Option<Named> {
        let (first, mut rest) = segments.split_first()?;
        let mut named = match first.as_str() {
            "crate" => Named::Module(0),
            "self" => Named::Module(at),
            "super" => Named::Module(self.nodes[at].parent),
            name => self.find(at, name, hops)?,
        };
        while let Named::Module(module) = named
            && let Some((next, others)) = rest.split_first()
        {
            rest = others;
            named = match next.as_str() {
                "super" => Named::Module(self.nodes[module].parent),
                "self" => Named::Module(module),
                // Of what a macro makes, at least the place is known.
                name => self
                    .find(module, name, hops)
                    .unwrap_or(Named::ItemOf(module)),
            };
        }
        Some(named)
    }

    /// What a module calls so.
    fn find(&self, module: usize, name: &str, hops: u8) -> Option<Named> {
        let hops = hops.checked_sub(1)?;
        let node = &self.nodes[module];
        if let Some(child) = node.children.get(name) {
            return Some(Named::Module(*child));
        }
        if node.module.items.contains(name) {
            return Some(Named::ItemOf(module));
        }
        if let Some(import) = node.module.imports.get(name) {
            return self.resolve(module, import, hops);
        }
        node.module.globs.iter().find_map(|glob| {
            let Named::Module(other) = self.resolve(module, glob, hops)? else {
                return None;
            };
            (other != module)
                .then(|| self.find(other, name, hops))
                .flatten()
        })
    }
}

/// Modules of which everyone leads to everyone, as many as there are.
pub struct Circle {
    /// Files, or paths of modules.
    pub members: BTreeSet<String>,
    /// The arrows between them, in words.
    pub arrows: Vec<String>,
}

/// The circles of files.
pub fn circles_of_files(arrows: &[Arrow]) -> Vec<Circle> {
    circles(arrows, |arrow| Some([arrow.from.clone(), arrow.to.clone()]))
}

/// The circles of neighbours: modules of one parent that name each other, each with all that is below it.
pub fn circles_of_neighbours(arrows: &[Arrow]) -> Vec<Circle> {
    circles(arrows, |arrow| {
        let (from, to) = &arrow.ends;
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let end = |name: &[String]| Some(name.get(..=common)?.join("::"));
        Some([end(from)?, end(to)?])
    })
}

/// The circles of what `ends` says that arrows lead between.
fn circles(arrows: &[Arrow], ends: impl Fn(&Arrow) -> Option<[String; 2]>) -> Vec<Circle> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for [from, to] in arrows.iter().filter_map(&ends) {
        next.entry(from).or_default().insert(to);
    }
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        next.keys().map(|from| (from, reach(&next, from))).collect();
    let together = reached.iter().filter_map(|(from, to)| {
        let back = |other: &&&String| reached.get(**other).is_some_and(|to| to.contains(from));
        let members: BTreeSet<String> =
            to.iter().filter(back).map(|name| (*name).clone()).collect();
        (!members.is_empty()).then_some(members)
    });
    let together: BTreeSet<BTreeSet<String>> = together.collect();
    let circle = |members: BTreeSet<String>| {
        let within = |arrow: &&Arrow| {
            let ends = ends(arrow);
            ends.is_some_and(|ends| ends.iter().all(|end| members.contains(end)))
        };
        let arrows = arrows.iter().filter(within).map(ToString::to_string);
        Circle {
            arrows: arrows.collect(),
            members,
        }
    };
    together.into_iter().map(circle).collect()
}

/// Where the arrows lead from here.
fn reach<'a>(
    next: &'a BTreeMap<String, BTreeSet<String>>,
    from: &'a String,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut ahead = vec![from];
    while let Some(at) = ahead.pop() {
        for to in next.get(at).into_iter().flatten() {
            if reached.insert(to) {
                ahead.push(to);
            }
        }
    }
    reached
}

#[cfg(test)]
#[path = "modules_test.rs"]
mod tests;
