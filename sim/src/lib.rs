//! Deterministic simulation of PairDB: the production coordinator and storage node under
//! [madsim](https://docs.rs/madsim), in worlds that go wrong in every way the specification allows.
//!
//! ```text
//! seed ─► World::draw ─► run ─► History, Tap ─► Evidence ─► invariants ─► Outcome
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | everything that decides a run, drawn from a seed or read from a scenario file |
//! | [`adapters`] | the ports, carried out by simulated clocks, disks, stores and links |
//! | [`network`], [`faults`], [`nemesis`] | what is between processes, what is wrong now, what goes wrong step by step |
//! | [`cluster`] | machines, and the processes that live and die on them |
//! | [`client`] | those who use it, and write down what they saw |
//! | [`story`] | how far explicit steps and faults have come |
//! | [`page`] | a run as one page for a browser |
//! | [`history`], [`tap`], [`asked`], [`describe`] | what clients saw, what nodes said and were asked |
//! | [`unaided`], [`buried`] | what background repair has to do before anybody reads, and what a delete leaves in the end |
//! | [`weather`] | who could rely on whom, when |
//! | [`evidence`], [`invariants`] | the model, and the promises checked against it |
//! | [`scenario`], [`shrink`] | stories in files, and how a failing run becomes one |
//! | [`run`](mod@run), [`sweep`], [`mutants`], [`cli`] | one run, many runs, runs with bugs put back |
//!
//! What this is not: no product code is changed for it beyond [`pairdb::sabotage`],
//! [`pairdb::buggify`] and [`pairdb::marks`], and nothing here is compiled into the
//! product.
//!
//! Invariants: one seed, one history, to the byte, in every process. No map is hashed, no clock or randomness is the
//! operating system's, and no two runs share a thread.

#[cfg(not(madsim))]
compile_error!(
    "the simulation needs `--cfg madsim`: build inside the repository, whose .cargo/config.toml sets it, and don't \
     override RUSTFLAGS (or append `--cfg madsim` to it)"
);

pub mod adapters;
pub mod asked;
mod attempts;
pub mod buried;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it tells how long a run took in real time"
)]
pub mod cli;
pub mod client;
pub mod cluster;
pub mod describe;
pub mod endpoint;
pub mod evidence;
pub mod faults;
pub mod hash;
pub mod history;
pub mod invariants;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it tells how long a hunt took in real time"
)]
pub mod mutants;
pub mod nemesis;
pub mod network;
pub mod page;
pub mod rng;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "each run has a thread of its own"
)]
pub mod run;
pub mod scenario;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it has only so much real time"
)]
pub mod shrink;
pub mod story;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "runs go on all cores; nothing inside a run sees it"
)]
pub mod sweep;
pub mod tap;
pub mod unaided;
pub mod value;
pub mod weather;
pub mod world;
