//! The rules: which part may import which, what the core may not name, and what to use instead.

use std::collections::BTreeSet;

use super::source::Source;

/// What each part of the crate may import of the others.
const LAYERS: &[(&str, &[&str])] = &[
    // Switches for bugs and rare behaviour on purpose, marks, sizes, and generated messages: they know nobody.
    ("mutant", &[]),
    ("buggify", &[]),
    ("marks", &[]),
    ("sizes", &[]),
    ("proto", &[]),
    // Pure values and decisions.
    ("version", &["mutant"]),
    ("placement", &["mutant"]),
    ("quorum", &["mutant", "version"]),
    // The outside world, as traits.
    ("ports", &["mutant", "version", "placement", "quorum"]),
    // What the product is; the two don't know each other.
    (
        "coordinator",
        &[
            "mutant",
            "buggify",
            "marks",
            "sizes",
            "version",
            "placement",
            "quorum",
            "ports",
        ],
    ),
    (
        "replica",
        &[
            "mutant",
            "buggify",
            "marks",
            "sizes",
            "version",
            "placement",
            "quorum",
            "ports",
        ],
    ),
    // The outside world, as it is.
    (
        "adapters",
        &["mutant", "version", "placement", "quorum", "ports", "proto"],
    ),
    (
        "api",
        &[
            "mutant",
            "version",
            "placement",
            "quorum",
            "ports",
            "proto",
            "coordinator",
            "adapters",
        ],
    ),
    // What puts it together.
    (
        "config",
        &[
            "version",
            "placement",
            "quorum",
            "ports",
            "coordinator",
            "replica",
            "adapters",
            "api",
        ],
    ),
    ("cli", ANY),
    ("main", ANY),
    ("lib", ANY),
];

const ANY: &[&str] = &["*"];

/// The parts that run in simulation as they are.
const CORE: &[&str] = &[
    "version",
    "placement",
    "quorum",
    "ports",
    "coordinator",
    "replica",
];

/// The other crates that the core may use: values, futures and logging, nothing that acts by itself.
const CORE_CRATES: &[&str] = &[
    "arc_swap",
    "async_stream",
    "base64",
    "bytes",
    "crc32c",
    "futures",
    "hdrhistogram",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "tracing",
];

/// What the core may not name, what it may name all the same, and what to use instead.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "std::time::Instant",
        &[],
        "use ports::Instant and Clock::now",
    ),
    ("std::time::SystemTime", &[], "use Clock::wall_ms"),
    ("std::time::UNIX_EPOCH", &[], "use Clock::wall_ms"),
    ("SystemTime", &[], "use Clock::wall_ms"),
    ("std::thread", &[], "use ports::Spawn and Clock::sleep"),
    (
        "std::net",
        &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"],
        "use a port; addresses as values are fine",
    ),
    ("std::fs", &[], "use ports::StorageEngine"),
    ("std::env", &[], "take it as a setting"),
    ("std::process", &[], "return an error"),
    (
        "std::collections::HashMap",
        &[],
        "use BTreeMap: its order is the same in every run",
    ),
    (
        "std::collections::HashSet",
        &[],
        "use BTreeSet: its order is the same in every run",
    ),
    (
        "std::collections::hash_map",
        &[],
        "use BTreeMap: its order is the same in every run",
    ),
    (
        "std::collections::hash_set",
        &[],
        "use BTreeSet: its order is the same in every run",
    ),
    (
        "HashMap",
        &[],
        "use BTreeMap: its order is the same in every run",
    ),
    (
        "HashSet",
        &[],
        "use BTreeSet: its order is the same in every run",
    ),
    (
        "std::hash::RandomState",
        &[],
        "use BTreeMap: its order is the same in every run",
    ),
    (
        "std::hash::DefaultHasher",
        &[],
        "use SHA-256 or a BTreeMap: this hash is nobody's promise",
    ),
    (
        "futures::select",
        &[],
        "use futures::select_biased, whose order is the same in every run",
    ),
    ("futures::executor", &[], "use ports::Spawn"),
];

/// The rules, ready to check files, whose paths are relative to the package.
pub struct Rules {
    /// The crates that production code may use, as code spells them.
    pub dependencies: BTreeSet<String>,
}

impl Rules {
    pub fn breaches(&self, path: &str, text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        let module: Vec<&str> = module_of(path);
        let layer = module[0];
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            breaches.push(format!(
                "{path}:1: `{layer}` is not in LAYERS; say there what it may import"
            ));
            return breaches;
        };
        for name in Source::read(text).paths() {
            let segments = absolute(&module, &name.segments);
            let written = segments.join("::");
            let breach = if segments[0] == "crate" {
                imports(layer, allowed, &segments)
            } else if segments.iter().any(|segment| segment.contains("madsim")) {
                Some("only the harness in sim/ may know the simulator".to_owned())
            } else if CORE.contains(&layer) {
                self.impure(&segments)
            } else {
                None
            };
            breaches.extend(
                breach.map(|why| format!("{path}:{}: `{written}` in {layer}: {why}", name.line)),
            );
        }
        breaches
    }

    fn impure(&self, segments: &[String]) -> Option<String> {
        let first = &segments[0];
        if segments.len() > 1
            && self.dependencies.contains(first)
            && !CORE_CRATES.contains(&first.as_str())
        {
            return Some(format!(
                "the core does not use the crate {first}; put a port or an adapter in between"
            ));
        }
        FORBIDDEN.iter().find_map(|(name, exceptions, instead)| {
            let name: Vec<&str> = name.split("::").collect();
            let named =
                segments.len() >= name.len() && segments.iter().zip(&name).all(|(a, b)| a == b);
            let excepted = segments
                .get(name.len())
                .is_some_and(|next| exceptions.contains(&next.as_str()));
            (named && !excepted).then(|| (*instead).to_owned())
        })
    }
}

pub fn headless(path: &str, text: &str) -> Option<String> {
    let advice = "begin with `//!`: what it is, and what it is not";
    (!text.starts_with("//!")).then(|| format!("{path}:1: has no header; {advice}"))
}

fn imports(layer: &str, allowed: &[&str], segments: &[String]) -> Option<String> {
    let other = segments.get(1)?.as_str();
    let known = LAYERS.iter().any(|(name, _)| *name == other);
    if !known || other == layer || allowed == ANY || allowed.contains(&other) {
        return None;
    }
    let may = if allowed.is_empty() {
        "nothing of this crate".to_owned()
    } else {
        allowed.join(", ")
    };
    Some(format!(
        "{layer} may import {may}; turn the dependency round, or go through a port"
    ))
}

/// `src/a/b.rs` is `[a, b]`, and so is `src/a/b/mod.rs`.
fn module_of(path: &str) -> Vec<&str> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.trim_end_matches("/mod").split('/').collect()
}

/// Resolves a chain of `super` that reaches the crate's root.
fn absolute(module: &[&str], segments: &[String]) -> Vec<String> {
    let ups = segments
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    if ups > 0 && ups >= module.len() {
        return std::iter::once("crate".to_owned())
            .chain(segments.iter().skip(ups).cloned())
            .collect();
    }
    segments.to_vec()
}

#[cfg(test)]
#[path = "rules_test.rs"]
mod tests;
