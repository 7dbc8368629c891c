//! An outage of one storage node of five, with real processes: under writes the node is killed, or stopped, and comes back.
//!
//! The nodes must become equal without any client's read, and every acknowledged write must be at all of its owners. Both are
//! found out by asking every owner directly, with a placement computed here: no coordinator has a say in it.
//!
//! ```sh
//! cargo test --test outage -- --nocapture
//! OUTAGE_SECONDS=180 OUTAGE_RATE=5000 cargo test --profile sim --test outage -- --nocapture
//! ```
//!
//! `OUTAGE_SECONDS`, `_RATE` (writes in a second), `_KEYS`, `_WORKERS`, `_BEFORE` and `_AFTER` (seconds of writes before and
//! after), `_BOUND` (seconds until all must be equal) and `_FAULTS` (`kill`, `stop`) say how. The servers take their settings
//! from the environment, as always.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and tells what it measured"
)]

#[path = "outage_test/cluster.rs"]
mod cluster;
#[path = "outage_test/load.rs"]
mod load;
#[path = "outage_test/owners.rs"]
mod owners;

use std::time::{Duration, Instant};

use cluster::Cluster;
use load::{Load, Window};
use owners::Owners;

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
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}: '{text}' is not a number")),
        Err(_) => default,
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
    let mut cluster = Cluster::start();
    let owners = Owners::learn(&cluster.coordinators()).await;
    for (fault, name, node) in [(Fault::Kill, "kill", 2), (Fault::Stop, "stop", 1)] {
        if plan.faults.split(',').any(|asked| asked == name) {
            outage(&plan, &mut cluster, &owners, fault, node).await;
        }
    }
}

async fn outage(plan: &Plan, cluster: &mut Cluster, owners: &Owners, fault: Fault, node: usize) {
    let name = cluster.name_of(node);
    let load = Load::start(plan, format!("{fault:?}"), &cluster.coordinators());
    tokio::time::sleep(plan.before).await;
    load.measure(Window::Outage);
    match fault {
        Fault::Kill => cluster.kill(node),
        Fault::Stop => cluster.signal(node, "STOP"),
    }
    tokio::time::sleep(plan.outage).await;
    let (hinted, oldest) = owners.hints(&name).await;
    println!(
        "{fault:?}: {name} comes back after {:?}, and is owed {hinted} keys, the oldest for {oldest:?}",
        plan.outage
    );
    match fault {
        Fault::Kill => cluster.restart(node),
        Fault::Stop => cluster.signal(node, "CONT"),
    }
    load.measure(Window::Return);
    let back = Instant::now();
    let delivered = tokio::join!(
        tokio::time::sleep(plan.after),
        owners.hints_delivered(plan.after)
    )
    .1;
    let written = load.stop().await;
    written.print();

    let quiet = Instant::now();
    let found = owners.compare(&written.keys).await;
    println!(
        "  {:.1} s after the load stopped: of {} keys the owners of {} differ",
        quiet.elapsed().as_secs_f64(),
        written.keys.len(),
        found.len()
    );
    let mut differing = found;
    while !differing.is_empty() && quiet.elapsed() < plan.bound {
        tokio::time::sleep(Duration::from_millis(200)).await;
        differing = owners.compare(&differing).await;
    }
    let (equal, after_return) = (quiet.elapsed(), back.elapsed());
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
