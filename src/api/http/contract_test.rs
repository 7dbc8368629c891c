//! The OpenAPI document by those who read it: schemathesis draws requests from it, right ones and wrong ones, and holds each
//! answer to it; and a client is generated from it and used. Both are Python programs, which `.ci/servers` installs.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of processes waits for them"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Each operation is asked so often in each phase; the seed makes every run the same.
const EXAMPLES: &str = "25";
const SEED: &str = "7";

/// A whole cluster. Killed when dropped.
struct Server {
    child: Child,
    http: String,
}

impl Server {
    fn start() -> Self {
        let arguments = "dev --ephemeral --grpc-port 0 --http-port 0 --metrics-port 0 --json";
        let mut child = Command::new(env!("CARGO_BIN_EXE_pairdb"))
            .args(arguments.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .env("RUST_LOG", "error")
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let http = format!("http://{}", ready["http"].as_str().unwrap());
        Self { child, http }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
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
        .stdin(Stdio::null())
        .env("PATH", std::env::join_paths(paths).unwrap());
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

fn file(name: &str) -> PathBuf {
    root().join("src/api/http/contract_test").join(name)
}

#[test]
fn what_schemathesis_draws_is_answered_as_the_document_says() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let mut schemathesis = tool("schemathesis", folder.path());
    schemathesis
        .arg("--config-file")
        .arg(file("schemathesis.toml"))
        .args(["run", "--no-color"])
        .args(["--seed", SEED, "--max-examples", EXAMPLES])
        .args(["--request-timeout", "60", "--suppress-health-check", "all"])
        .args(["--continue-on-failure", "--no-shrink"])
        .arg(format!("{}/openapi.json", server.http))
        .env("SCHEMATHESIS_HOOKS", file("hooks.py"));
    run(&mut schemathesis);
}

#[test]
fn a_client_that_is_generated_from_the_document_works() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let mut generator = tool("openapi-python-client", folder.path());
    generator
        .args(["generate", "--meta", "none", "--fail-on-warning"])
        .args(["--output-path", "pairdb_client", "--url"])
        .arg(format!("{}/openapi.json", server.http));
    run(&mut generator);
    let mut client = tool("python", folder.path());
    client
        .arg(file("client.py"))
        .arg(folder.path())
        .arg(&server.http)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut client);
}
