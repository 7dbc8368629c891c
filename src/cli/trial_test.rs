//! What clients see of trouble, with real processes: PostgreSQL and Redis stopped, a storage node stopped, killed, its
//! disk filled, and the coordinators restarted one by one, all under reads and writes through three coordinators.
//!
//! Every phase says which errors it allows; any other fails the test, and so does a read that shows less than what was
//! acknowledged, then or at the end.
//!
//! ```sh
//! cargo test --test trial -- --nocapture
//! TRIAL_SECONDS=60 TRIAL_RATE=2000 cargo test --profile sim --test trial -- --nocapture
//! ```
//!
//! `TRIAL_SECONDS` (of each phase), `TRIAL_RATE` (requests in a second) and `TRIAL_CLIENTS` say how.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and tells what it measured"
)]

#[path = "trial_test/cluster.rs"]
mod cluster;
#[path = "trial_test/load.rs"]
mod load;
#[path = "trial_test/table.rs"]
mod table;
#[allow(dead_code, unused_imports, reason = "other tests use more of it")]
#[path = "../test_servers/mod.rs"]
mod test_servers;

use std::time::Duration;

use cluster::Cluster;
use load::Load;
use rustix::process::Signal;
use test_servers::{Postgres, Redis};

/// How much, and how long.
pub struct Plan {
    phase: Duration,
    rate: u32,
    clients: u32,
}

impl Plan {
    fn from_environment() -> Self {
        Self {
            phase: Duration::from_secs(number("TRIAL_SECONDS", 2).into()),
            rate: number("TRIAL_RATE", 200),
            clients: number("TRIAL_CLIENTS", 48),
        }
    }
}

fn number(name: &str, default: u32) -> u32 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}: '{text}' is not a number")),
        Err(_) => default,
    }
}

/// Writes with an idempotency key, while nobody can tell whether the key was used.
const CLAIMS_REFUSED: &[&str] = &["STORE_UNAVAILABLE"];
const NONE: &[&str] = &[];

/// The longest pause of a coordinator between two attempts to connect to Redis, and some.
const RECONNECT_MAX: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hardly_notice_trouble() {
    let plan = Plan::from_environment();
    let (mut postgres, mut redis) = (Postgres::own(), Redis::own());
    let mut cluster = Cluster::start(postgres.fresh(), redis.url());
    let load = Load::start(&plan, &cluster.coordinators());
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
    cluster.signal(1, Signal::STOP);
    phase("node-2 SIGSTOPped", NONE).await;
    cluster.signal(1, Signal::CONT);
    phase("node-2 goes on", NONE).await;
    cluster.kill(2);
    phase("node-3 killed", NONE).await;
    cluster.restart_node(2);
    phase("node-3 back", NONE).await;
    if let Some(disk) = cluster.disk() {
        disk.fill();
        phase("node-4's disk full", NONE).await;
        cluster.until_reported("node-4", "refuses writes").await;
        disk.free();
        phase("node-4's disk free", NONE).await;
        cluster.until_reported("node-4", "active    up").await;
    } else {
        println!("no disk can be filled here: neither mounts nor user namespaces are allowed");
    }
    load.begin("coordinators restarted", NONE);
    for coordinator in 0..cluster::COORDINATORS {
        tokio::time::sleep(plan.phase / 3).await;
        cluster.restart_coordinator(coordinator);
    }
    phase("nothing wrong again", NONE).await;

    let outcome = load.stop().await;
    outcome.print();
    for report in cluster.reports() {
        println!("{report}");
    }
    println!("{}", cluster.status());
    let lost = outcome.lost(&cluster.coordinators()).await;
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    outcome.check();
}
