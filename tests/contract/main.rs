//! The OpenAPI document by those who read it: schemathesis draws requests from it, right ones and wrong ones, and holds
//! each answer to it; and a client is generated from it and used. Both are Python programs, which `.ci/servers`
//! installs.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of processes waits for them"
)]

#[path = "../kit/mod.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kit::{Program, Server};

/// Each operation is asked so often in each phase; the seed makes every run the same.
const EXAMPLES: &str = "25";
const SEED: &str = "7";
/// What each of the tools may take.
const LONG: Duration = Duration::from_secs(7 * 60);

/// A whole cluster.
fn server() -> Server {
    Server::start(Program::new(&["dev", "--ephemeral"]).with(&Server::FREE_PORTS))
}

fn http(server: &Server) -> String {
    format!("http://{}", server.address("http"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of the contract tools. It runs in `folder`, and its own programs are found.
fn tool(name: &str, folder: &Path) -> Command {
    let programs = root().join(".venv/bin");
    let program = programs.join(name);
    assert!(
        program.exists(),
        "{} is missing: run .ci/servers, which installs it",
        program.display()
    );
    let others = std::env::var_os("PATH").unwrap_or_default();
    let paths = [programs].into_iter().chain(std::env::split_paths(&others));
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("PATH", std::env::join_paths(paths).unwrap());
    command
}

fn run(command: Command) {
    Program::of(command).patience(LONG).run().exits(0);
}

fn file(name: &str) -> PathBuf {
    root().join("tests/contract").join(name)
}

#[test]
fn what_schemathesis_draws_is_answered_as_the_document_says() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let mut schemathesis = tool("schemathesis", folder.path());
    schemathesis
        .arg("--config-file")
        .arg(file("schemathesis.toml"))
        .args(["run", "--no-color"])
        .args(["--seed", SEED, "--max-examples", EXAMPLES])
        .args(["--request-timeout", "60", "--suppress-health-check", "all"])
        .args(["--continue-on-failure", "--no-shrink"])
        .arg(format!("{}/openapi.json", http(&server)))
        .env("SCHEMATHESIS_HOOKS", file("hooks.py"));
    run(schemathesis);
}

#[test]
fn a_client_that_is_generated_from_the_document_works() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let mut generator = tool("openapi-python-client", folder.path());
    generator
        .args(["generate", "--meta", "none", "--fail-on-warning"])
        .args(["--output-path", "pairdb_client", "--url"])
        .arg(format!("{}/openapi.json", http(&server)));
    run(generator);
    let mut client = tool("python", folder.path());
    client
        .arg(file("client.py"))
        .arg(folder.path())
        .arg(http(&server))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(client);
}
