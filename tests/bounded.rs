//! The kit's own promise: a test that hangs ends, with what its servers wrote, and leaves none of them behind.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and its child tells of its server"
)]

mod kit;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kit::{Program, Server, until, watch};
use rustix::process::Signal;
use tempfile::TempDir;

/// Set in the child: the folder of its data.
const DATA: &str = "BOUNDED_DATA";

#[test]
fn a_test_that_hangs_ends_and_tells_of_its_servers() {
    let directory = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "hang", "--ignored", "--nocapture"]);
    let done = Program::of(child).env(DATA, directory.path()).run();
    let done = done.exits(101).complains("this test program hangs");
    let done = done.complains("which is still there, wrote:");
    let started = done.stdout().lines().find_map(|line| {
        let (_, process) = line.split_once("the server is ")?;
        Some(format!("/proc/{process}"))
    });
    let started = started.unwrap_or_else(|| panic!("no server: {done}"));
    until("the server is gone, though it was stopped", || {
        (!Path::new(&started).exists()).then_some(())
    });
}

/// Any test program, under what `.ci/test` runs them by.
#[test]
fn a_test_that_hangs_is_ended_and_named() {
    let mut runner = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/bounded"));
    runner.arg(std::env::current_exe().unwrap());
    runner.args(["--exact", "waits_for_ever", "--ignored", "--test-threads=2"]);
    let runner = Program::of(runner).env("TESTS_PROGRAM_SECONDS_MAX", "3");
    let done = runner.env(DATA, "none").run().exits(124);
    // As much as a thread's name may be long.
    done.complains("hangs: 3 seconds are over")
        .complains("waits_for_ever");
}

#[test]
#[ignore = "the child process of the test above"]
fn waits_for_ever() {
    if std::env::var_os(DATA).is_some() {
        std::thread::sleep(Duration::from_secs(600));
    }
}

#[test]
#[ignore = "the child process of the first test"]
fn hang() {
    let Some(data) = std::env::var_os(DATA) else {
        return;
    };
    let server = Server::dev(Path::new(&data));
    println!("the server is {}", server.pid().as_raw_pid());
    server.signal(Signal::STOP);
    watch::may_not_take(Duration::from_millis(100));
    std::thread::sleep(Duration::from_secs(600));
}
