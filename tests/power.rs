//! What is left of a whole cluster when the power fails: `cargo test --test power`.
//!
//! `pairdb dev` with one storage node runs as ever, and everything that it asks of the system about files is recorded.
//! At each of some moments what had been synced by then is written to another directory, and a second `pairdb dev`
//! starts on that. It has all that clients had been answered by that moment: values, tenants, answers of requests with
//! an idempotency key.
//!
//! What this is not: the engine at work, with files that it makes, merges and removes; that is in `kill`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of processes waits for them, and notes by the machine's clock when they answer"
)]

mod kit;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kit::{Disk, Event, Names, Recording, Server, number};
use tempfile::TempDir;

/// How often the power fails while it starts for the first time, and afterwards.
const MOMENTS: &str = "PAIRDB_POWER_MOMENTS";
const WRITES: usize = 24;

/// What a client was answered.
struct Answered {
    /// Since 1970, when it had the answer.
    at: Duration,
    what: Vec<String>,
}

impl Answered {
    fn ask(server: &Server, what: &[&str]) -> Self {
        server.ok(what);
        Self {
            at: now(),
            what: what.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    fn is_there(&self, server: &Server) {
        let what: Vec<&str> = self.what.iter().map(String::as_str).collect();
        match what[..] {
            ["put", key, value] => {
                let found = server.ok(&["get", key]);
                assert_eq!(found["value_utf8"], value, "{what:?}: {found}");
            }
            ["put", .., "--idempotency-key", _] => {
                let again = server.ok(&what);
                assert_eq!(again["is_duplicate"], true, "{what:?}: {again}");
            }
            ["tenant", "create", tenant] => drop(server.ok(&["tenant", "get", tenant])),
            _ => panic!("{what:?}"),
        }
    }
}

#[test]
fn what_was_answered_is_there_after_a_loss_of_power() {
    let Some(recording) = Recording::new() else {
        return;
    };
    let moments = number(MOMENTS, 6);
    kit::watch::may_take(Duration::from_secs(20) * u32::try_from(moments).unwrap());
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("new/data");
    let dev = ["dev", "--nodes", "1", "--data", data.to_str().unwrap()];
    let program = recording.program(&dev).with(&Server::FREE_PORTS);
    let mut server = Server::start(program);
    let ready = now();
    let mut answered = Vec::new();
    for n in 0..WRITES {
        let name = format!("n-{n}");
        answered.push(match n % 3 {
            0 => Answered::ask(&server, &["put", &name, "a value"]),
            1 => Answered::ask(&server, &["put", "k", &name, "--idempotency-key", &name]),
            _ => Answered::ask(&server, &["tenant", "create", &name]),
        });
    }
    server.dies();
    let events = recording.ended();

    let syncs = events.iter().filter(|event| {
        event.at < ready && event.returned == Some(0) && event.call.name.ends_with("sync")
    });
    let syncs: Vec<Duration> = syncs.map(|event| event.at).collect();
    for moment in 0..moments {
        let at = syncs[syncs.len() * moment / moments];
        starts_with(directory.path(), &events, at, &[]);
    }
    for moment in 1..=moments {
        let answered = &answered[..WRITES * moment / moments];
        let at = answered.last().unwrap().at;
        starts_with(directory.path(), &events, at, answered);
    }
}

/// On what was synced by then.
fn starts_with(root: &Path, events: &[Event], at: Duration, answered: &[Answered]) {
    let until_then = events.iter().take_while(|event| event.at <= at);
    let disk = Disk::after(root, until_then);
    for names in [Names::Synced, Names::All] {
        let left = TempDir::new().unwrap();
        disk.write_what_is_left(names, left.path());
        let data = left.path().join("new/data");
        let dev = ["dev", "--nodes", "1", "--data", data.to_str().unwrap()];
        let server = Server::start(kit::Program::new(&dev).with(&Server::FREE_PORTS));
        answered.iter().for_each(|one| one.is_there(&server));
        server.ok(&["put", "after", "the loss"]);
    }
}

fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970")
}
