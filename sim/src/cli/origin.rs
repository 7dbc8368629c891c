//! What a run was made of: the commit, as far as it is known, and the compiler.

use std::process::Command;

/// For the report of a failure.
#[must_use]
pub fn text() -> String {
    // At run time: known at build time it would make every build stale.
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let commit = commit.ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match commit {
        Some(commit) => format!("commit {commit}, {}", env!("PAIRDB_SIM_RUSTC")),
        None => env!("PAIRDB_SIM_RUSTC").to_owned(),
    }
}
