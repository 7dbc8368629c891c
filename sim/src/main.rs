//! `cargo sim`: runs, sweeps, traces, and the proof that the simulation finds bugs.

use std::process::ExitCode;

fn main() -> ExitCode {
    pairdb_sim::cli::main()
}
