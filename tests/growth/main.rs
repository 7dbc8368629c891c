//! A cluster that grows from three nodes to six, shrinks to three again, and has a dead node replaced, with real
//! processes and under a steady load. Meanwhile the coordinator that leads the change is killed, and a node.
//!
//! At the end of each change every acknowledged write must be at all owners, and at nobody else: all nodes are asked
//! directly, by the topology as it is stored. And no request may fail but for what a client is told to try again.
//!
//! ```sh
//! cargo test --test growth -- --nocapture
//! GROWTH_KEYS=300000 GROWTH_RATE=2000 cargo test --release --test growth -- --nocapture
//! ```
//!
//! `GROWTH_KEYS`, `_RATE` (writes in a second), `_WORKERS`, `_BEFORE` and `_AFTER` (seconds of writes before and
//! after), and `_BOUND` (seconds that one change may take) say how.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and tells what it measured"
)]

mod census;
mod fill;
#[path = "../kit/mod.rs"]
mod kit;
#[path = "../outage/load.rs"]
mod load;

use std::time::{Duration, Instant};

use census::Census;
use kit::{Cluster, Server, number, watch};
use load::{Load, Tally, Window, Written};
use serde_json::Value;

const TENANT: &str = "growth";
const PREFIX: &str = "key";
const COORDINATORS: usize = 2;

/// How much, and how long.
struct Plan {
    rate: u64,
    keys: usize,
    workers: usize,
    before: Duration,
    after: Duration,
    bound: Duration,
}

impl Plan {
    fn from_environment() -> Self {
        let seconds = |name, default| Duration::from_secs(number(name, default));
        Self {
            rate: number("GROWTH_RATE", 60),
            keys: number("GROWTH_KEYS", 640) as usize,
            workers: number("GROWTH_WORKERS", 16) as usize,
            before: seconds("GROWTH_BEFORE", 2),
            after: seconds("GROWTH_AFTER", 1),
            bound: seconds("GROWTH_BOUND", 300),
        }
    }
}

/// What goes wrong while owners change.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Trouble {
    None,
    /// Each coordinator is killed once, and with it who leads, when partitions are in all states.
    Coordinators,
    /// This node is killed while data is copied, and comes back.
    Node(usize),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_leave_and_are_replaced_under_load_and_nothing_is_lost() {
    let plan = Plan::from_environment();
    watch::may_take(3 * (plan.before + plan.after + plan.bound));
    let settings = [("PAIRDB_COORDINATOR__ANTI_ENTROPY_LEASE", "2s")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut cluster = Cluster::on_sqlite(settings.into()).started(COORDINATORS, 3);
    let create = ["tenant", "create", TENANT, "--replication-factor", "3"];
    cluster.front().ok(&create);
    let filled = fill::fill(&plan, PREFIX, &cluster.urls()).await;
    println!("{} keys written", filled.len());

    let mut joining = vec!["node".to_owned(), "add".to_owned()];
    for number in 4..=6 {
        let node = cluster.node(number, "127.0.0.1:0", &[]);
        joining.push(format!("node-{number}={}", node.address("grpc")));
        cluster.nodes.push(node);
    }
    change(
        &plan,
        &mut cluster,
        &filled,
        &joining,
        Trouble::Coordinators,
    )
    .await;

    let leaving = ["node", "remove", "node-1", "node-3", "node-5"].map(str::to_owned);
    change(&plan, &mut cluster, &filled, &leaving, Trouble::Node(4)).await;

    cluster.kill_node(2);
    let node = cluster.node(7, "127.0.0.1:0", &[]);
    let with = format!("node-7={}", node.address("grpc"));
    cluster.nodes.push(node);
    let replaced = ["node", "replace", "node-2", &with, "--force"].map(str::to_owned);
    change(&plan, &mut cluster, &filled, &replaced, Trouble::None).await;
}

/// Asks for a change under load, waits until it is done, and counts what is where.
async fn change(
    plan: &Plan,
    cluster: &mut Cluster,
    filled: &[Written],
    asked: &[String],
    trouble: Trouble,
) {
    let load = Load::start(plan, PREFIX.to_owned(), &cluster.urls());
    tokio::time::sleep(plan.before).await;
    load.measure(Window::During);
    let began = Instant::now();
    let words: Vec<&str> = asked.iter().map(String::as_str).collect();
    let dry_run = cluster.front().ok(&[&words[..], &["--dry-run"]].concat());
    let answer = cluster.front().ok(&words);
    let id = answer["migration_id"].as_str().expect("a migration");
    println!("{}: {id}", words.join(" "));
    until_done(plan, cluster, id, trouble).await;
    let took = began.elapsed();
    load.measure(Window::After);
    tokio::time::sleep(plan.after).await;
    let written = load.stop().await;
    written.print();
    let shown = cluster.front().ok(&["migration", "show", id]);
    println!("  done after {:.1} s", took.as_secs_f64());
    println!("  foretold: {}", dry_run);
    println!("  happened: {}", shown);
    let failures = unexpected(&written, trouble);
    assert!(failures.is_empty(), "{failures:?}");
    let census = Census::take(cluster).await;
    let missing = census.missing(&written.keys) + census.missing(filled);
    let strangers = census.strangers();
    println!(
        "  {} records at owners, {strangers} at others; {missing} acknowledged writes are missing",
        census.records()
    );
    assert_eq!(missing, 0, "acknowledged writes are missing");
    assert_eq!(strangers, 0, "copies are left where nobody owns them");
}

/// Failures that no client has to expect. A coordinator that is killed takes the requests with it that it was at.
fn unexpected(written: &Tally, trouble: Trouble) -> Vec<&String> {
    let is_expected = |failure: &&String| {
        trouble == Trouble::Coordinators
            && (failure.starts_with("Unavailable") || failure.starts_with("Unknown"))
            && !failure.contains("replicas needed")
    };
    let failures = written.failures.keys();
    failures.filter(|failure| !is_expected(failure)).collect()
}

async fn until_done(plan: &Plan, cluster: &mut Cluster, id: &str, trouble: Trouble) {
    let began = Instant::now();
    let mut troubled = 0;
    let mut told = String::new();
    loop {
        let shown = status(&cluster.coordinators, id);
        let (state, line) = (
            shown["status"].as_str().unwrap_or_default(),
            shown.to_string(),
        );
        if line != told {
            println!(
                "  {:5.1} s: {}",
                began.elapsed().as_secs_f64(),
                shown["progress"]
            );
            told = line;
        }
        match state {
            "completed" => return,
            "pending" | "in_progress" => {}
            _ => panic!("{shown}"),
        }
        assert!(began.elapsed() < plan.bound, "it does not end: {shown}");
        if state == "in_progress" {
            match trouble {
                Trouble::Coordinators if troubled < COORDINATORS => {
                    tokio::time::sleep(Duration::from_millis(700)).await;
                    cluster.kill_coordinator(troubled);
                    troubled += 1;
                }
                Trouble::Node(number) if troubled == 0 => {
                    cluster.kill_node(number);
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    cluster.restart_node(number);
                    troubled += 1;
                }
                _ => {}
            }
        }
        // Asking starts a program, which takes from what is measured.
        let pause = (plan.bound / 600).clamp(Duration::from_millis(200), Duration::from_secs(1));
        tokio::time::sleep(pause).await;
    }
}

/// How far a migration has come.
fn status(coordinators: &[Server], id: &str) -> Value {
    coordinators[0].ok(&["migration", "show", id])
}
