//! What clients see of trouble, with real processes: PostgreSQL and Redis stopped, a storage node stopped, killed, its
//! disk filled, and the coordinators restarted one by one, all under reads and writes through three coordinators.
//!
//! Every phase says which errors it allows; any other fails the test, and so does a read that shows less than what was
//! acknowledged, then or at the end.
//!
//! ```sh
//! cargo test --test trial -- --nocapture
//! TRIAL_SECONDS=60 TRIAL_RATE=2000 cargo test --release --test trial -- --nocapture
//! ```
//!
//! `TRIAL_SECONDS` (of each phase), `TRIAL_RATE` (requests in a second) and `TRIAL_CLIENTS` say how.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and tells what it measured"
)]

#[path = "../kit/mod.rs"]
mod kit;
mod load;
mod table;
#[allow(dead_code, unused_imports, reason = "other tests use more of it")]
#[path = "../../src/test_servers/mod.rs"]
mod test_servers;

use std::time::{Duration, Instant};

use kit::{Cluster, PATIENCE, Server, SmallDisk, http_get, number, on_stores, watch};
use load::Load;
use rustix::process::Signal;
use test_servers::{Postgres, Redis};

const COORDINATORS: usize = 3;
const NODES: usize = 5;
const TENANT: &str = "trial";
/// The node with the small disk, and its size: what a node keeps in reserve, and some.
const SMALL: usize = 4;
const DISK_MIB: u64 = 512;
const MIB: usize = 1024 * 1024;

/// How much, and how long.
pub struct Plan {
    phase: Duration,
    rate: u32,
    clients: u32,
}

impl Plan {
    fn from_environment() -> Self {
        Self {
            phase: Duration::from_secs(number("TRIAL_SECONDS", 2)),
            rate: number("TRIAL_RATE", 200),
            clients: number("TRIAL_CLIENTS", 48),
        }
    }
}

/// Writes with an idempotency key, while nobody can tell whether the key was used.
const CLAIMS_REFUSED: &[&str] = &["STORE_UNAVAILABLE"];
const NONE: &[&str] = &[];

/// Phases, at most.
const PHASES: u32 = 16;

/// The longest pause of a coordinator between two attempts to connect to Redis, and some.
const RECONNECT_MAX: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hardly_notice_trouble() {
    let plan = Plan::from_environment();
    watch::may_take(plan.phase * PHASES);
    let (mut postgres, mut redis) = (Postgres::own(), Redis::own());
    let mut cluster = cluster_on(&postgres, &redis);
    let load = Load::start(&plan, &cluster.urls());
    let phase = async |name, allowed| load.phase(name, allowed, plan.phase).await;

    phase("nothing wrong", NONE).await;
    postgres.stop();
    phase("PostgreSQL stopped", NONE).await;
    postgres.start_again();
    phase("PostgreSQL back", NONE).await;
    load.begin("Redis stopped", CLAIMS_REFUSED);
    redis.stop();
    tokio::time::sleep(plan.phase).await;
    load.begin("Redis back", CLAIMS_REFUSED);
    redis.start_again();
    tokio::time::sleep(plan.phase.max(RECONNECT_MAX)).await;
    cluster.signal_node(2, Signal::STOP);
    phase("node-2 SIGSTOPped", NONE).await;
    cluster.signal_node(2, Signal::CONT);
    phase("node-2 goes on", NONE).await;
    cluster.kill_node(3);
    phase("node-3 killed", NONE).await;
    cluster.restart_node(3);
    phase("node-3 back", NONE).await;
    if let Some(disk) = cluster.disk() {
        disk.fill(&[MIB]);
        phase("node-4's disk full", NONE).await;
        until_reported(&cluster, "node-4", "refuses writes").await;
        disk.free();
        phase("node-4's disk free", NONE).await;
        until_reported(&cluster, "node-4", "active    up").await;
    }
    load.begin("coordinators restarted", NONE);
    for coordinator in 0..COORDINATORS {
        tokio::time::sleep(plan.phase / 3).await;
        cluster.restart_coordinator(coordinator);
    }
    phase("nothing wrong again", NONE).await;

    let outcome = load.stop().await;
    outcome.print();
    for coordinator in &cluster.coordinators {
        println!("{}", report(coordinator));
    }
    println!("{}", cluster.front().text(&["status"]));
    let lost = outcome.lost(&cluster.urls()).await;
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    outcome.check();
}

fn cluster_on(postgres: &Postgres, redis: &Redis) -> Cluster {
    let cluster = Cluster::new(on_stores(&postgres.fresh(), &redis.url()));
    let cluster = cluster.with_small_disk(SMALL, SmallDisk::new(DISK_MIB));
    let cluster = cluster.started(COORDINATORS, NODES);
    let create = ["tenant", "create", TENANT, "--replication-factor", "3"];
    cluster.front().ok(&create);
    cluster
}

/// Waits until `pairdb status` says so of a node.
async fn until_reported(cluster: &Cluster, node: &str, what: &str) {
    let asked = Instant::now();
    loop {
        let status = cluster.front().text(&["status"]);
        let mut lines = status.lines().filter(|line| line.starts_with(node));
        if lines.any(|line| line.contains(what)) {
            return;
        }
        assert!(asked.elapsed() < PATIENCE, "not '{what}': {status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What a coordinator says of itself.
fn report(coordinator: &Server) -> String {
    let ready = http_get(coordinator.address("http"), "/ready");
    let (_, ready) = ready.split_once("\r\n\r\n").unwrap();
    let metrics = coordinator.metrics();
    let sum = |name: &str| -> u64 {
        let series = metrics.lines().filter(|line| line.starts_with(name));
        let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum()
    };
    format!(
        "{} has answered {} requests since it started, {} of them with an error; {ready}",
        coordinator.address("grpc"),
        sum("coordinator_requests_total{"),
        sum("coordinator_request_errors_total{"),
    )
}
