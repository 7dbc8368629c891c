//! The floors of the simulation, and circles: who may name whom within a crate.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{Arrow, Circle};

/// The floors of `sim/`, from the ground up, and the modules on each. A module names those below it, and beside it.
/// What each is, `sim/src/lib.rs` says.
pub const FLOORS: &[(&str, &[&str])] = &[
    (
        "values",
        &[
            "endpoint", "op", "value", "hash", "rng", "pause", "describe",
        ],
    ),
    ("plan", &["world"]),
    (
        "notes",
        &[
            "history", "recorder", "weather", "story", "seen", "asked", "attempts", "tap",
        ],
    ),
    ("wire", &["faults", "network"]),
    ("ports", &["adapters"]),
    ("cluster", &["cluster"]),
    ("people", &["client", "nemesis"]),
    ("record", &["recorded", "evidence"]),
    ("judgement", &["invariants"]),
    ("calm", &["inspect", "unaided", "buried", "settle"]),
    ("run", &["outcome", "spell", "run"]),
    ("many", &["sweep", "mutants", "scenario", "shrink", "page"]),
    ("door", &["cli"]),
];

/// Circles of files that are known, and why they are still there. What is no circle any more has to go from here.
pub const KNOWN_CIRCLES: &[&[&str]] = &[
    // A coordinator's loops know the coordinator, which starts them and is told by them.
    &[
        "src/coordinator/anti_entropy.rs",
        "src/coordinator/heal.rs",
        "src/coordinator/repair.rs",
        "src/coordinator/service.rs",
        "src/coordinator/write.rs",
    ],
    // A replica's loops know what they share, and that knows what they are told.
    &[
        "src/replica/deliver.rs",
        "src/replica/heal.rs",
        "src/replica/mod.rs",
        "src/replica/mutations.rs",
        "src/replica/reads.rs",
        "src/replica/rebuild.rs",
        "src/replica/shared.rs",
    ],
    &["src/replica/graves.rs", "src/replica/slot.rs"],
];

/// The same for neighbours, where the circle is not that of their files.
pub const KNOWN_CIRCLES_OF_NEIGHBOURS: &[&[&str]] = &[
    &[
        "coordinator::anti_entropy",
        "coordinator::heal",
        "coordinator::repair",
        "coordinator::service",
        "coordinator::write",
    ],
    &["replica::graves", "replica::slot"],
    &[
        "replica::heal",
        "replica::mutations",
        "replica::reads",
        "replica::rebuild",
        "replica::shared",
    ],
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

/// The circles that are not known, each with the arrows that make it, and the known ones that are none any more.
pub fn news(circles: &[Circle], known: &[&[&str]]) -> Vec<String> {
    let known: Vec<BTreeSet<String>> = known
        .iter()
        .map(|circle| circle.iter().map(|name| (*name).to_owned()).collect())
        .collect();
    let mut news = Vec::new();
    for Circle { members, arrows } in circles {
        if !known.contains(members) {
            news.push(format!("a circle of {members:?}:"));
            news.extend(arrows.iter().map(|arrow| format!("    {arrow}")));
        }
    }
    for gone in &known {
        if !circles.iter().any(|circle| circle.members == *gone) {
            news.push(format!("no circle any more, or not all of it: {gone:?}"));
        }
    }
    news
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
    fn a_known_circle_is_known_exactly() {
        let circle = || Circle {
            members: ["a", "b"].map(str::to_owned).into(),
            arrows: vec!["a names b".to_owned()],
        };
        assert_eq!(news(&[circle()], &[&["a", "b"]]), [""; 0]);
        assert_eq!(news(&[circle()], &[]).len(), 2);
        assert_eq!(news(&[], &[&["a", "b"]]).len(), 1);
        assert_eq!(news(&[circle()], &[&["a", "b", "c"]]).len(), 3);
    }
}
