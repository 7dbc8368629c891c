//! Deterministic simulation of PairDB: the production coordinator and storage node under
//! [madsim](https://docs.rs/madsim), in worlds that go wrong in every way the specification allows.
//!
//! ```text
//! seed ─► World::draw ─► run ─► Recorded ─► Evidence ─► invariants ─► Outcome
//! ```
//!
//! Modules stand on floors, and each names only what is below it, or beside it without a circle; the architecture test
//! of the product holds them to it. From the ground up:
//!
//! | floor | module | what it is |
//! |---|---|---|
//! | values | [`endpoint`], [`op`], [`value`] | who takes part, what clients want, the values that they write |
//! | | [`hash`], [`rng`], [`pause`], [`describe`] | hashing, chance, waiting, and records in words |
//! | | [`excuse`] | what excuses a finding |
//! | plan | [`world`] | everything that decides a run, drawn from a seed or read from a scenario file |
//! | notes | [`history`], [`recorder`], [`reign`] | what happened, for who judges and for a page |
//! | | [`weather`], [`story`] | who could rely on whom, when; how far explicit steps have come |
//! | | [`seen`], [`asked`], [`attempts`], [`readings`], [`fences`], [`tap`] | what nodes said and were asked, and who listens |
//! | | [`reign`], [`steps`] | who owned what when, and whether a step that changes it was safe |
//! | wire | [`faults`], [`network`] | what is wrong now, and what is between processes |
//! | ports | [`adapters`] | the ports, carried out by simulated clocks, disks, stores and links |
//! | cluster | [`cluster`] | machines, and the processes that live and die on them |
//! | people | [`client`], [`nemesis`], [`operator`] | those who use it and tell what they saw; what goes wrong, step by step |
//! | record | [`recorded`], [`evidence`] | a run as plain values, and what follows from it |
//! | judgement | [`invariants`] | the promises, checked against that |
//! | calm | [`inspect`], [`settle`] | what nodes hold, and what is waited for in the end |
//! | | [`unaided`], [`buried`] | what repair does before anybody reads, and what a delete leaves |
//! | | [`away`] | what comes about while a node is still away |
//! | | [`verified`] | what an operator is told who has owners compared |
//! | | [`books`] | what nodes keep beside their records, made anew from them |
//! | run | [`run`](mod@run), [`outcome`], [`spell`] | one run, what comes of it, and the same as explicit steps |
//! | | [`counts`] | what came of operations, and what it cost in messages |
//! | many | [`sweep`], [`mutants`] | many runs, and runs with bugs put back |
//! | | [`scenario`], [`shrink`], [`page`] | stories in files, how a failing run becomes one, a run as a page |
//! | door | [`cli`] | the command line |
//!
//! What this is not: no product code is changed for it beyond [`pairdb::mutant`],
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
pub mod attempts;
pub mod away;
pub mod books;
pub mod buried;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it tells how long a run took in real time"
)]
pub mod cli;
pub mod client;
pub mod cluster;
pub mod counts;
pub mod describe;
pub mod endpoint;
pub mod evidence;
pub mod excuse;
pub mod faults;
pub mod fences;
pub mod hash;
pub mod history;
pub mod inspect;
pub mod invariants;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it tells how long a hunt took in real time"
)]
pub mod mutants;
pub mod nemesis;
pub mod network;
pub mod op;
pub mod operator;
pub mod outcome;
pub mod page;
pub mod pause;
pub mod readings;
pub mod recorded;
pub mod recorder;
pub mod reign;
pub mod rng;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "each run has a thread of its own"
)]
pub mod run;
pub mod scenario;
pub mod seen;
pub mod settle;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it has only so much real time"
)]
pub mod shrink;
pub mod spell;
pub mod steps;
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
pub mod verified;
pub mod weather;
pub mod world;
