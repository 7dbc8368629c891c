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

#[test]
#[ignore = "the child process of the test above"]
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
