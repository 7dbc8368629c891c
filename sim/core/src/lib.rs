//! The core of PairDB with its switches: what the simulation runs.
//!
//! It is the very source of the program's core, compiled once more with the feature `mutants`: the bugs that can be put
//! back ([`mutant`]), the rare behaviour that can be made common ([`buggify`]), the sizes that it draws ([`sizes`]) and
//! the branches that are counted ([`marks`]). The package of the program has no such feature. So whatever is built
//! together with the simulation, the program that is tested, measured and shipped has no switches.
//!
//! What this is not: code of its own. It has the core's folders, and of the adapters those in memory, which the
//! simulation's stores are made of.

// Its tests run in the package of the program, which has what they need.
#![cfg(not(test))]
#![allow(
    dead_code,
    reason = "what only the front doors and the adapters of the program call"
)]

pub mod adapters;
#[path = "../../../src/buggify.rs"]
pub mod buggify;
#[path = "../../../src/coordinator/mod.rs"]
pub mod coordinator;
#[path = "../../../src/marks.rs"]
pub mod marks;
#[path = "../../../src/mutant.rs"]
pub mod mutant;
#[path = "../../../src/placement/mod.rs"]
pub mod placement;
#[path = "../../../src/ports/mod.rs"]
pub mod ports;
#[path = "../../../src/quorum/mod.rs"]
pub mod quorum;
#[path = "../../../src/replica/mod.rs"]
pub mod replica;
#[path = "../../../src/sizes.rs"]
pub mod sizes;
#[path = "../../../src/version/mod.rs"]
pub mod version;
