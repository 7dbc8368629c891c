//! An outage of one storage node of five, with real processes: under writes the node is killed, or stopped, and comes
//! back.
//!
//! The nodes must become equal without any client's read, and every acknowledged write must be at all of its owners.
//! Both are found out by asking every owner directly, with a placement computed here: no coordinator has a say in it.
//!
//! ```sh
//! cargo test --test outage -- --nocapture
//! OUTAGE_SECONDS=180 OUTAGE_RATE=5000 cargo test --release --test outage -- --nocapture
//! ```
//!
//! `OUTAGE_SECONDS`, `_RATE` (writes in a second), `_KEYS`, `_WORKERS`, `_BEFORE` and `_AFTER` (seconds of writes
//! before and after), `_BOUND` (seconds until all must be equal) and `_FAULTS` (`kill`, `stop`) say how. The servers
//! take their settings from the environment, as always.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and tells what it measured"
)]

#[path = "../kit/mod.rs"]
mod kit;
mod load;
mod owners;

use std::time::{Duration, Instant};

use kit::{Cluster, number, watch};
use load::{Load, Window, Written};
use owners::Owners;
use rustix::process::Signal;

const NODES: usize = 5;
const COORDINATORS: usize = 2;
const TENANT: &str = "outage";

/// What the servers are set to unless the environment says otherwise: everything soon, so that the test is short.
const SETTINGS: [(&str, &str); 4] = [
    ("PAIRDB_COORDINATOR__ANTI_ENTROPY_PERIOD", "2s"),
    ("PAIRDB_COORDINATOR__ANTI_ENTROPY_PAUSE", "500ms"),
    ("PAIRDB_REPLICA__HINT_PAUSE_MIN", "500ms"),
    ("PAIRDB_REPLICA__HINT_PAUSE_MAX", "5s"),
];

/// Those, and what the environment says of the settings, all of which are of a section.
fn settings() -> Vec<(String, String)> {
    let short = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let said = std::env::vars();
    let said = said.filter(|(name, _)| name.starts_with("PAIRDB_") && name.contains("__"));
    short.into_iter().chain(said).collect()
}

/// How much, and how long.
pub struct Plan {
    rate: u64,
    keys: usize,
    workers: usize,
    before: Duration,
    outage: Duration,
    after: Duration,
    bound: Duration,
    faults: String,
}

impl Plan {
    fn from_environment() -> Self {
        let seconds = |name, default| Duration::from_secs(number(name, default));
        Self {
            rate: number("OUTAGE_RATE", 200),
            keys: number("OUTAGE_KEYS", 4_000) as usize,
            workers: number("OUTAGE_WORKERS", 32) as usize,
            before: seconds("OUTAGE_BEFORE", 1),
            outage: seconds("OUTAGE_SECONDS", 4),
            after: seconds("OUTAGE_AFTER", 1),
            bound: seconds("OUTAGE_BOUND", 60),
            faults: std::env::var("OUTAGE_FAULTS").unwrap_or_else(|_| "kill,stop".into()),
        }
    }

    /// All of it, both faults.
    fn time(&self) -> Duration {
        2 * (self.before + self.outage + self.after + self.bound)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// kill -9, and a new process.
    Kill,
    /// SIGSTOP and SIGCONT: it keeps its connections, and answers nobody.
    Stop,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_becomes_equal_without_any_client() {
    let plan = Plan::from_environment();
    watch::may_take(plan.time());
    let mut cluster = Cluster::on_sqlite(settings()).started(COORDINATORS, NODES);
    let create = ["tenant", "create", TENANT, "--replication-factor", "3"];
    cluster.front().ok(&create);
    let owners = Owners::learn(&cluster.urls()).await;
    for (fault, name, node) in [(Fault::Kill, "kill", 3), (Fault::Stop, "stop", 2)] {
        if plan.faults.split(',').any(|asked| asked == name) {
            outage(&plan, &mut cluster, &owners, fault, node).await;
        }
    }
}

async fn outage(plan: &Plan, cluster: &mut Cluster, owners: &Owners, fault: Fault, node: usize) {
    let name = format!("node-{node}");
    let load = Load::start(plan, format!("{fault:?}"), &cluster.urls());
    tokio::time::sleep(plan.before).await;
    load.measure(Window::During);
    match fault {
        Fault::Kill => cluster.kill_node(node),
        Fault::Stop => cluster.signal_node(node, Signal::STOP),
    }
    tokio::time::sleep(plan.outage).await;
    let (hinted, oldest) = owners.hints(&name).await;
    println!(
        "{fault:?}: {name} comes back after {:?}, and is owed {hinted} keys, the oldest for {oldest:?}",
        plan.outage
    );
    match fault {
        Fault::Kill => cluster.restart_node(node),
        Fault::Stop => cluster.signal_node(node, Signal::CONT),
    }
    load.measure(Window::After);
    let back = Instant::now();
    let delivered = tokio::join!(
        tokio::time::sleep(plan.after),
        owners.hints_delivered(plan.after)
    )
    .1;
    let written = load.stop().await;
    written.print();

    let (equal, after_return) = until_equal(plan, owners, &written.keys, back).await;
    let delivered = match delivered {
        Some(delivered) => format!("{:.1} s after it was back", delivered.as_secs_f64()),
        None => "after the load".into(),
    };
    println!(
        "  hints delivered {delivered}; equal {:.1} s after the load stopped, {:.1} s after it was back",
        equal.as_secs_f64(),
        after_return.as_secs_f64()
    );
    // Once more all of them: what was equal has to stay so.
    let left = owners.compare(&written.keys).await;
    let missing = owners.missing(&written.keys).await;
    println!(
        "  {} keys differ, {missing} acknowledged writes are missing",
        left.len()
    );
    assert!(
        written.acknowledged > 0,
        "nothing was written: {:?}",
        written.failures
    );
    let some: Vec<&str> = left.iter().take(3).map(|key| key.name.as_str()).collect();
    assert!(
        left.is_empty(),
        "the owners of {} keys differ after {equal:?}, of {some:?} and others",
        left.len()
    );
    assert_eq!(missing, 0, "acknowledged writes are missing");
}

/// Compares until all owners are equal, or the time for that is over: how long it took from now on, and since `back`.
async fn until_equal(
    plan: &Plan,
    owners: &Owners,
    keys: &[Written],
    back: Instant,
) -> (Duration, Duration) {
    let quiet = Instant::now();
    let mut differing = owners.compare(keys).await;
    println!(
        "  {:.1} s after the load stopped: of {} keys the owners of {} differ",
        quiet.elapsed().as_secs_f64(),
        keys.len(),
        differing.len()
    );
    while !differing.is_empty() && quiet.elapsed() < plan.bound {
        tokio::time::sleep(Duration::from_millis(200)).await;
        differing = owners.compare(&differing).await;
    }
    (quiet.elapsed(), back.elapsed())
}
