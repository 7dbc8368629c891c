//! A process in which something has died that it needs ends by itself, soon and with a code that says so, whatever else
//! is well in it; so does nothing of it go on while its probes say that all is well.
//!
//! Each part dies in a child: this test program again, which runs `pairdb dev` and, once that serves, has one part of
//! it panic.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::adapters::vitals::doom::doom;
use crate::cli::Cli;
use crate::cli::exit::Failure;
use crate::config::Config;

/// Set in the child: what dies.
const DIES: &str = "DIES";
/// What is none of the parts.
const MAIN: &str = "main task";
const PATIENCE: Duration = Duration::from_secs(60);

/// All that a coordinator and a storage node run beside requests, on SQLite, without authentication and TLS. A task
/// that is added to one of them is added here.
const PARTS: [&str; 16] = [
    "SQLite commits",
    "anti-entropy",
    "connection to a storage node",
    "maintenance of metrics",
    "metadata watch",
    "migrations",
    "pairdb-commit",
    "probes",
    "repairs",
    "replica hints",
    "replica mutations",
    "replica reads",
    "sweep of overdue calls",
    "topology refresh",
    "watch for epochs",
    "watch of the SQLite file",
];

/// What listens.
const FRONTS: [&str; 4] = ["grpc", "http", "metrics", "storage"];

#[test]
fn a_process_ends_when_a_part_that_it_needs_has_died() {
    for part in PARTS {
        let (code, message) = dies(part);
        assert_eq!(code, "DIED", "{part}: {message}");
        assert!(message.contains(&format!("{part} panicked")), "{message}");
    }
}

#[test]
fn a_process_ends_when_one_of_its_fronts_has_died() {
    for front in FRONTS {
        let (code, message) = dies(front);
        assert_eq!(code, "FAILED", "{front}: {message}");
        assert!(message.contains("server failed"), "{message}");
    }
}

/// Though it reads its input, which whoever started it holds: to wait for that would be to wait for ever.
#[test]
fn a_process_ends_when_its_main_task_panics() {
    let mut child = started(MAIN);
    let input = child.stdin.take();
    let (code, message) = ended(MAIN, child, || ());
    assert_eq!(code, "DIED", "{message}");
    drop(input);
}

/// Returns what the process says that was wrong: a code and a message.
fn dies(part: &str) -> (String, String) {
    let mut child = started(part);
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = said.find_map(|line| serde_json::from_str::<Value>(&line.ok()?).ok());
    let ready = ready.unwrap_or_else(|| panic!("{part}: it never serves"));
    drop(child.stdin.take()); // now
    // Some need a request to notice.
    ended(part, child, || drop(write(ready["http"].as_str().unwrap())))
}

fn started(part: &str) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "cli::serve::runtime::tests::child",
            "--ignored",
            "--nocapture",
        ])
        .env(DIES, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.unwrap()
}

/// Tries something until it ends, which is soon.
fn ended(part: &str, mut child: Child, attempt: impl Fn()) -> (String, String) {
    let mut stderr = child.stderr.take().unwrap();
    let wrote = std::thread::spawn(move || {
        let mut wrote = String::new();
        stderr.read_to_string(&mut wrote).map(|_| wrote)
    });
    let died = Instant::now();
    let code = loop {
        attempt();
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if died.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{part} died, and the process goes on");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let wrote = wrote.join().unwrap().unwrap();
    assert_eq!(code, Some(1), "{part}: {wrote}");
    let error = wrote.lines().find_map(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        let text = |of: &str| Some(said["error"][of].as_str()?.to_owned());
        Some((text("code")?, text("message")?))
    });
    error.unwrap_or_else(|| panic!("{part}: it does not say why it ended: {wrote}"))
}

/// A write, which may well fail.
fn write(address: &str) -> std::io::Result<()> {
    let body = r#"{"tenant_id":"default","key":"k","value":"a value"}"#;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "POST /v1/key-value HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
#[ignore = "the child process of the test above"]
fn child() {
    let Ok(part) = std::env::var(DIES) else {
        return;
    };
    if part == MAIN {
        let failure = super::run("pairdb", "test", &Config::default(), panics()).unwrap_err();
        crate::cli::output::failure(&failure, true);
        std::process::exit(1);
    }
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        doom(part.leak());
    });
    let dev = ["pairdb", "dev", "--json", "--ephemeral", "--nodes", "1"];
    let ports = [
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--metrics-port",
        "0",
    ];
    let cli = Cli::parse_from(dev.iter().chain(&ports));
    let failure = cli.command.run(None).unwrap_err();
    crate::cli::output::failure(&failure, true);
    std::process::exit(1);
}

async fn panics() -> Result<(), Failure> {
    tokio::spawn(async { tokio::io::stdin().read(&mut [0]).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    panic!("on purpose")
}
