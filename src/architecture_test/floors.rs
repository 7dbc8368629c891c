//! The floors of the simulation, and circles: who may name whom within a crate.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{Arrow, Circle};

/// The floors of `sim/`, from the ground up, and the modules on each. A module names those below it, and beside it.
/// What each is, `sim/src/lib.rs` says.
pub const FLOORS: &[(&str, &[&str])] = &[
    (
        "values",
        &[
            "endpoint", "op", "value", "hash", "rng", "pause", "describe", "excuse",
        ],
    ),
    ("plan", &["world"]),
    (
        "notes",
        &[
            "history", "recorder", "weather", "story", "seen", "asked", "attempts", "readings",
            "fences", "tap", "reign", "steps",
        ],
    ),
    ("wire", &["faults", "network"]),
    ("ports", &["adapters"]),
    ("cluster", &["cluster"]),
    ("people", &["client", "nemesis", "operator"]),
    ("record", &["recorded", "evidence"]),
    ("judgement", &["invariants"]),
    (
        "calm",
        &[
            "inspect", "unaided", "buried", "books", "settle", "away", "verified",
        ],
    ),
    ("run", &["counts", "outcome", "spell", "run"]),
    ("many", &["sweep", "mutants", "scenario", "shrink", "page"]),
    ("door", &["cli"]),
];

/// The arrows that lead up, and modules that stand nowhere.
pub fn breaches(arrows: &[Arrow]) -> Vec<String> {
    let floors: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, (_, modules))| modules.iter().map(move |module| (*module, floor)))
        .collect();
    let mut breaches = BTreeSet::new();
    for arrow in arrows {
        let (from, to) = &arrow.ends;
        let (Some(from), Some(to)) = (from.first(), to.first()) else {
            continue; // the crate's root only lists them
        };
        let Arrow {
            from: file,
            line,
            written,
            ..
        } = arrow;
        let breach = match (floors.get(from.as_str()), floors.get(to.as_str())) {
            (None, _) => format!("`{from}` is on no floor; say in FLOORS on which"),
            (_, None) => format!("`{to}` is on no floor; say in FLOORS on which"),
            (Some(own), Some(other)) if other > own => {
                let (own, other) = (FLOORS[*own].0, FLOORS[*other].0);
                format!("{from} ({own}) is below {to} ({other}); turn the arrow round")
            }
            _ => continue,
        };
        breaches.insert(format!("{file}:{line}: `{written}`: {breach}"));
    }
    breaches.into_iter().collect()
}

/// What to say of circles: who is in each, and the arrows that make it.
pub fn told(circles: &[Circle]) -> Vec<String> {
    let mut told = Vec::new();
    for Circle { members, arrows } in circles {
        told.push(format!("a circle of {members:?}:"));
        told.extend(arrows.iter().map(|arrow| format!("    {arrow}")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrow(from: &str, to: &str) -> Arrow {
        Arrow {
            from: format!("sim/src/{from}.rs"),
            to: format!("sim/src/{to}.rs"),
            line: 1,
            written: format!("crate::{to}"),
            ends: (vec![from.to_owned()], vec![to.to_owned()]),
        }
    }

    #[test]
    fn arrows_lead_down_or_along() {
        assert_eq!(
            breaches(&[arrow("run", "world"), arrow("tap", "seen")]),
            [""; 0]
        );
        let up = "sim/src/world.rs:1: `crate::run`: world (plan) is below run (run); turn the arrow round";
        assert_eq!(breaches(&[arrow("world", "run")]), [up]);
        assert_eq!(breaches(&[arrow("new", "run")]).len(), 1);
        assert_eq!(breaches(&[arrow("run", "new")]).len(), 1);
    }

    #[test]
    fn a_circle_is_told_with_its_arrows() {
        let circle = Circle {
            members: ["a", "b"].map(str::to_owned).into(),
            arrows: vec!["a names b".to_owned()],
        };
        let words = [r#"a circle of {"a", "b"}:"#, "    a names b"];
        assert_eq!(told(&[circle]), words);
        assert_eq!(told(&[]), [""; 0]);
    }
}
